package fermata

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/storage"
)

// Bound is an entrypoint on an engine.
type Bound[I, O any] struct {
	entrypoint *Entrypoint[I, O]
	engine     *Engine
}

// On binds the entrypoint to an engine, which must have been made with it.
func (e *Entrypoint[I, O]) On(engine *Engine) Bound[I, O] {
	return Bound[I, O]{entrypoint: e, engine: engine}
}

// Thread returns a handle of the thread with this id: 1 to 256 bytes of UTF-8
// without control characters. Nothing is read or made; verbs check the id ([ErrInvalid]).
// Ids are the tenant's, not the entrypoint's: where several entrypoints use one id they share the thread, its
// open run and its value, as in LangGraph graphs that share a checkpointer do. Give each kind of thread a prefix of its own.
func (b Bound[I, O]) Thread(id string) *Thread[I, O] { return &Thread[I, O]{bound: b, id: id} }

// Thread is a handle of a line of runs. It remembers what was last read of the
// thread through it, for [Thread.Resume].
type Thread[I, O any] struct {
	bound Bound[I, O]
	id    string

	mu   sync.Mutex
	seen engine.Revision
}

// ID returns the thread's id.
func (t *Thread[I, O]) ID() string { return t.id }

func (t *Thread[I, O]) see(r engine.Revision) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = r
}

func (t *Thread[I, O]) check(op string) (*Engine, error) {
	if t.bound.engine == nil {
		return nil, &Error{Op: op, Thread: t.id, Reason: ErrInvalid, Hint: "bind the entrypoint to an engine with On"}
	}
	return t.bound.engine, nil
}

// Start begins a run with a new input. It is durable when Start returns, and
// executes in the background, here; ctx bounds the call of Start only.
//
// Errors: [ErrThreadBusy], [ErrQuestionOpen] and [ErrParked] if the thread has
// a run that isn't over – see [Supersede]; [ErrRunConflict]; [ErrUnknownEntrypoint]; [ErrClosed];
// [ErrInvalid] for a bad thread id; *[ValueError] for an input that can't be stored; [ErrStorage].
func (t *Thread[I, O]) Start(ctx context.Context, in I, options ...StartOption) (*Run[O], error) {
	e, err := t.check("start")
	if err != nil {
		return nil, err
	}
	data, err := e.values.encode(in)
	if err != nil {
		return nil, &Error{Op: "start", Thread: t.id, Reason: ErrInvalid, Err: err}
	}
	r := engine.StartRequest{Entrypoint: t.bound.entrypoint.name, Def: t.bound.entrypoint, Tenant: e.tenant, Thread: t.id, Input: data}
	for _, option := range options {
		option.applyStart(&r)
	}
	if r.Checkpoint != "" {
		r.From = &storage.Checkpoint{}
		if _, err := t.runOf(ctx, "start", r.Checkpoint, r.From); err != nil {
			return nil, public(err)
		}
	}
	if err := configure("start", e.values, &r); err != nil {
		return nil, err
	}
	return t.run(e.core.Start(ctx, r))
}

// configure encodes what [WithConfig] gave, if anything.
func configure(op string, v *values, r *engine.StartRequest) error {
	if r.ConfigValue == nil {
		return nil
	}
	var err error
	if r.Config, err = v.encode(r.ConfigValue); err != nil {
		return &Error{Op: op, Thread: r.Thread, Reason: ErrInvalid, Err: fmt.Errorf("configuration: %w", err)}
	}
	return nil
}

// Invoke is [Thread.Start] and [Run.Result] in one.
func (t *Thread[I, O]) Invoke(ctx context.Context, in I, options ...StartOption) (O, error) {
	run, err := t.Start(ctx, in, options...)
	if err != nil {
		var zero O
		return zero, err
	}
	return run.Result(ctx)
}

// Resume answers the one open question of the thread, as it was last read
// through this handle – by [Thread.State], by [Run.Result], or by the end of [Run.Events] – or as [AtRevision] says. So a
// late or a second click can't answer a question that its sender never saw. In
// all else it is [Engine.Answer], and has its errors.
//
// Further errors: [ErrUnknownThread]; [ErrNoQuestion]; [ErrAmbiguous], with the
// open questions; [ErrStaleRevision]; [ErrThreadBusy]; [ErrParked]; [ErrIDRequired], if the engine's options say so.
func (t *Thread[I, O]) Resume(ctx context.Context, answer any, options ...AnswerOption) (*Run[O], error) {
	e, err := t.check("resume")
	if err != nil {
		return nil, err
	}
	a, err := e.answer("resume", answer, options)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	seen := t.seen
	t.mu.Unlock()
	if a.Revision != nil {
		seen = *a.Revision
	}
	h, err := e.core.Resume(ctx, e.tenant, t.id, seen, a)
	if err != nil {
		return nil, e.public(err)
	}
	return t.run(h, nil)
}

// Attach returns a handle of a run of the thread, in whatever process it executes; the zero ID is the thread's
// latest run. Its events and parts are all that the run has, over its pauses, up to where it rests when they are
// read. Nothing begins to execute.
//
// Errors: [ErrUnknownThread]; [ErrUnknownRun]; [ErrInvalid] for a bad thread id; [ErrStorage].
func (t *Thread[I, O]) Attach(ctx context.Context, run ID) (*Run[O], error) {
	e, err := t.check("attach")
	if err != nil {
		return nil, err
	}
	if run.IsZero() {
		head, err := e.core.Head(ctx, "attach", e.tenant, t.id)
		if err != nil {
			return nil, public(err)
		}
		if head.Run == nil {
			return nil, &Error{Op: "attach", Thread: t.id, Reason: ErrUnknownThread, Hint: "start a run on it first"}
		}
		run = head.Run.ID
	}
	return t.run(e.core.Follow(ctx, e.tenant, t.id, run))
}

// Continue goes on with the latest run of the thread without an answer: LangGraph's invoke(null).
//
//   - interrupted: the code runs again up to the open questions, which stay the same;
//   - failed: a new attempt. The failures found in the run's error are repeated, and
//     what was called after the first of them was known; all other results are kept;
//   - cancelled: what has no recorded result runs; questions are asked anew;
//   - parked: the code, mended by now, replays the record;
//   - running, but its process is dead: it is taken over at once;
//   - finished: nothing runs; the result is as before.
//
// Errors: [ErrUnknownThread]; [ErrThreadBusy] if it runs, or is queued; [ErrNothingToRetry]; [ErrUnknownEntrypoint]; [ErrClosed].
func (t *Thread[I, O]) Continue(ctx context.Context) (*Run[O], error) {
	e, err := t.check("continue")
	if err != nil {
		return nil, err
	}
	return t.run(e.core.Continue(ctx, engine.ContinueRequest{Tenant: e.tenant, Thread: t.id}))
}

// Cancel ends the latest run of the thread. The contexts of its tasks end; open questions are
// withdrawn; what has been recorded is kept, and [Thread.Continue] goes on with it. A run that
// executes in another process ends as soon as that learns of it: wait with [Run.Result], which
// returns an error that matches [ErrCancelled].
//
// Errors: [ErrUnknownThread]; [ErrRunEnded] if it is over already.
func (t *Thread[I, O]) Cancel(ctx context.Context, reason string) (*Run[O], error) {
	e, err := t.check("cancel")
	if err != nil {
		return nil, err
	}
	return t.run(e.core.Cancel(ctx, e.tenant, t.id, reason))
}

// Repair says how a parked run goes on; see [Thread.Repair].
type Repair string

const (
	// AcceptRecorded lets the record of the diverging call stand, whatever the code calls there.
	AcceptRecorded Repair = "accept"
	// RunAgain forgets the diverging call, and all that its function called
	// after it, and runs them anew. Their open questions are superseded.
	RunAgain Repair = "again"
)

// Repair goes on with a run that a divergence has parked. What was decided, by whom and why is recorded in
// the run's log. To give the run up instead, [Thread.Cancel] it; if new code makes the recorded calls again, [Thread.Continue].
//
// Errors: [ErrInvalid] if the run is not parked, or by something else; else those of [Thread.Continue].
func (t *Thread[I, O]) Repair(ctx context.Context, repair Repair, by Principal, reason string) (*Run[O], error) {
	e, err := t.check("repair")
	if err != nil {
		return nil, err
	}
	return t.run(e.core.Repair(ctx, e.tenant, t.id, engine.Repair{Verb: string(repair), By: by, Reason: reason}))
}

func (t *Thread[I, O]) run(h *engine.Handle, err error) (*Run[O], error) {
	if err != nil {
		return nil, public(err)
	}
	return &Run[O]{handle: h, engine: t.bound.engine, see: t.see}, nil
}

// Status of a run.
type Status = storage.Status

// The states of a run.
const (
	Queued      = storage.Queued
	Running     = storage.Running
	Interrupted = storage.Interrupted
	Parked      = storage.Parked
	Finished    = storage.Finished
	Failed      = storage.Failed
	Cancelled   = storage.Cancelled
	Superseded  = storage.Superseded
)

// State is the present of a thread.
type State[O any] struct {
	Thread string
	// Run is the latest run; the zero ID if the thread never had one, and then all else is zero.
	Run        ID
	Entrypoint string
	Status     Status
	// Value is the result of the last run that finished; OK is false if none did.
	Value O
	OK    bool
	// Questions are the open ones, in the order in which the code asked them.
	Questions []Question
	// Err is why the run failed, is parked or was cancelled; else nil.
	Err     error
	Created time.Time // of the run
	Updated time.Time
	// Revision is for [AtRevision].
	Revision string
}

// State reads the present of the thread. An unknown thread is no error: its state is zero.
// A value that isn't an O: *[ValueError].
func (t *Thread[I, O]) State(ctx context.Context) (*State[O], error) {
	e, err := t.check("state")
	if err != nil {
		return nil, err
	}
	head, err := e.core.Head(ctx, "state", e.tenant, t.id)
	if err != nil {
		return nil, public(err)
	}
	state := &State[O]{Thread: t.id}
	if head.Run == nil {
		return state, nil
	}
	run := *head.Run
	state.Run, state.Entrypoint, state.Status, state.Created, state.Updated = run.ID, run.Entrypoint, run.Status, run.Created, run.Updated
	if head.Last != nil {
		if err := e.values.decode(head.Last.Result, &state.Value); err != nil {
			return nil, &Error{Op: "state", Thread: t.id, Run: head.Last.ID, Reason: ErrMismatch, Err: err}
		}
		state.OK = true
	}
	if len(head.Open) > 1 {
		if head.Open, err = e.core.OpenQuestions(ctx, e.tenant, run.ID); err != nil {
			return nil, public(err)
		}
	}
	for i := range head.Open {
		state.Questions = append(state.Questions, e.question(&head.Open[i]))
	}
	if run.Status == Failed || run.Status == Parked || run.Status == Cancelled {
		_, state.Err = e.outcome(run, nil)
	}
	revision := engine.Revision{Run: run.ID, Seq: run.LastSeq}
	state.Revision = revision.String()
	t.see(revision)
	return state, nil
}

// AtRevision says which state of the thread an answer without an id is for, in
// a program that keeps no handle between reading and answering: the State.Revision that was shown with the question.
func AtRevision(revision string) AnswerOption {
	return answerOption(func(a *engine.Answer) {
		r, err := engine.ParseRevision(revision)
		if err != nil {
			r = engine.Revision{Seq: -1} // matches nothing
		}
		a.Revision = &r
	})
}

// StartOption is an option of one start.
type StartOption interface{ applyStart(*engine.StartRequest) }

type startOption func(*engine.StartRequest)

func (o startOption) applyStart(r *engine.StartRequest) { o(r) }

// WithRunID gives the run its id. A start that is repeated with the same id, thread,
// entrypoint and input makes one run, and returns it.
func WithRunID(id ID) StartOption {
	return startOption(func(r *engine.StartRequest) { r.Run = id })
}

// Supersede gives up a run of the thread that is interrupted, parked or queued,
// with its open questions, instead of refusing the new input. It is what LangGraph does.
func Supersede() StartOption {
	return startOption(func(r *engine.StartRequest) { r.Supersede = true })
}

// Enqueue leaves the run to whichever process is free, instead of executing it
// here. It fits a start and an answer.
func Enqueue() EnqueueOption { return EnqueueOption{} }

// EnqueueOption is what [Enqueue] returns.
type EnqueueOption struct{}

func (EnqueueOption) applyStart(r *engine.StartRequest) { r.Enqueue = true }
func (EnqueueOption) applyAnswer(a *engine.Answer)      { a.Enqueue = true }

// WithConfig gives the run configuration that is stored with it, for [Config].
// A value that can't be stored makes the start fail with a *[ValueError].
func WithConfig(config any) StartOption {
	return startOption(func(r *engine.StartRequest) { r.ConfigValue = config })
}

// Metadata is stored with the run, for finding it again.
func Metadata(metadata map[string]string) StartOption {
	return startOption(func(r *engine.StartRequest) { r.Metadata = metadata })
}

// Via makes the run through s: a backend in the user's own transaction, so that
// the run exists if and only if that commits. The run is enqueued. Until the commit, and after a
// rollback, there is no such run: [Run.Result] and [Run.Events] say [ErrUnknownRun].
func Via(s interface {
	Start(ctx context.Context, s storage.Start) (storage.Started, error)
}) StartOption {
	return startOption(func(r *engine.StartRequest) { r.Starter = s })
}
