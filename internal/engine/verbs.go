package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fermata-go/fermata/storage"
)

// maxThreadID bounds the length of a thread's id, in bytes.
const maxThreadID = 256

// StartRequest asks for a new run.
type StartRequest struct {
	Op         string // the verb, for errors; "" is "start"
	Entrypoint string
	Def        any // its identity; nil: whatever has that name
	Tenant     string
	Thread     string
	Run        storage.ID // zero: a fresh one
	Input      []byte
	Config     []byte
	// ConfigValue is for who encodes Config; the engine doesn't look at it.
	ConfigValue any
	Metadata    map[string]string
	Supersede   bool
	// Enqueue leaves the run to whoever is free.
	Enqueue bool
	// From, if not nil, is the checkpoint to descend from, and the first ForkSeq
	// records of its run are shared.
	From    *storage.Checkpoint
	ForkSeq int64
	Source  storage.Source
	// Checkpoint is for who finds From; the engine doesn't look at it.
	Checkpoint string
	// Finished makes a run that is born finished, with Result and Saved.
	Finished      bool
	Result, Saved []byte
	// Starter, if not nil, makes the run instead of the backend, as in the user's own transaction. It implies Enqueue.
	Starter Starter
}

// Starter makes runs.
type Starter interface {
	Start(ctx context.Context, s storage.Start) (storage.Started, error)
}

// Start makes a run and begins it here, or enqueues it. It is durable when Start returns.
func (e *Engine) Start(ctx context.Context, r StartRequest) (*Handle, error) {
	op := cmp.Or(r.Op, "start")
	entry, err := e.entry(op, r.Entrypoint)
	if err != nil {
		return nil, err
	}
	if r.Def != nil && r.Def != entry.Def {
		return nil, &Error{
			Op: op, Thread: r.Thread, Reason: ErrUnknownEntry, Err: fmt.Errorf("the engine has another one of the name %q", r.Entrypoint),
			Hint: "start the entrypoint that was passed to New",
		}
	}
	if err := checkThread(op, r.Thread); err != nil {
		return nil, err
	}
	member, err := e.enter(op)
	if err != nil {
		return nil, err
	}
	defer e.leave()
	run := storage.Run{
		ID: r.Run, Tenant: r.Tenant, Thread: r.Thread, Entrypoint: entry.Name,
		Input: r.Input, Config: r.Config, Metadata: r.Metadata, Source: r.Source,
	}
	if run.ID.IsZero() {
		run.ID = storage.NewID(e.now())
	}
	switch {
	case r.Finished:
		run.Status, run.Result, run.Saved = storage.Finished, r.Result, r.Saved
	case !r.Enqueue && r.Starter == nil:
		run.Owner = member
	}
	var starter Starter = e.backend
	if r.Starter != nil {
		starter = r.Starter
	}
	started, err := starter.Start(ctx, storage.Start{Run: run, From: r.From, ForkSeq: r.ForkSeq, Supersede: r.Supersede})
	if err != nil {
		if !run.Owner.IsZero() {
			e.unsure(r.Tenant, run.ID, err)
		}
		return nil, e.refused(ctx, op, r.Tenant, r.Thread, err)
	}
	h := &Handle{engine: e, tenant: r.Tenant, Run: started.Run, after: started.Run.ForkSeq}
	switch {
	case started.Existing:
		h.execution = e.running(started.Run.ID)
	case !run.Owner.IsZero():
		loaded := recording{Loaded: storage.Loaded{Run: started.Run, Previous: started.Previous}, origin: started.Run.Created}
		if r.ForkSeq > 0 {
			if loaded, err = e.load(ctx, r.Tenant, run.ID); err != nil {
				e.unsure(r.Tenant, run.ID, err)
				return nil, storageError(op, r.Thread, run.ID, err)
			}
		}
		h.after = loaded.Run.LastSeq
		h.execution = e.launch(entry, member, loaded, false)
	}
	return h, nil
}

func checkThread(op, id string) error {
	problem := ""
	switch {
	case id == "":
		problem = "it is empty"
	case len(id) > maxThreadID:
		problem = fmt.Sprintf("it is longer than %d bytes", maxThreadID)
	case !utf8.ValidString(id):
		problem = "it is not UTF-8"
	case strings.ContainsFunc(id, unicode.IsControl):
		problem = "it has control characters"
	}
	if problem == "" {
		return nil
	}
	return &Error{Op: op, Thread: id, Reason: ErrInvalid, Err: fmt.Errorf("bad thread id: %s", problem), Hint: "use a short printable id, such as your order's number"}
}

// Refused explains why a verb could not have the thread.
func (e *Engine) Refused(ctx context.Context, op, tenant, thread string, err error) error {
	return e.refused(ctx, op, tenant, thread, err)
}

// refused explains why a verb could not have the thread.
func (e *Engine) refused(ctx context.Context, op, tenant, thread string, err error) error {
	refusal := &Error{Op: op, Thread: thread}
	var busy *storage.BusyError
	switch {
	case errors.As(err, &busy):
		refusal.Run = busy.Run.ID
		switch busy.Run.Status {
		case storage.Interrupted:
			refusal.Reason, refusal.Hint = ErrQuestionOpen, "answer it, cancel the run, or start with Supersede"
			if head, err := e.backend.Head(ctx, tenant, thread); err == nil {
				refusal.Questions = e.inCallOrder(ctx, head)
			}
			if busy.Open == 0 && len(refusal.Questions) == 0 {
				refusal.Reason, refusal.Hint = ErrThreadBusy, "its run sleeps until a set time; wait, cancel it, or start with Supersede"
			}
		case storage.Parked:
			refusal.Reason, refusal.Hint = ErrParked, "mend the cause and continue the run, cancel it, or start with Supersede"
		case storage.Finished, storage.Superseded, storage.Failed, storage.Cancelled:
			refusal.Reason, refusal.Err = ErrRunEnded, fmt.Errorf("it is %s", busy.Run.Status)
		default:
			refusal.Reason, refusal.Err, refusal.Hint = ErrThreadBusy, fmt.Errorf("it is %s", busy.Run.Status), "wait for it, or cancel it"
		}
	case errors.Is(err, storage.ErrConflict):
		refusal.Reason, refusal.Hint = ErrRunConflict, "give each run its own id; a repeated start needs the same thread, entrypoint and input"
	case errors.Is(err, storage.ErrNotFound):
		refusal.Reason, refusal.Hint = ErrUnknownThread, "start a run on it first"
	default:
		return storageError(op, thread, storage.ID{}, err)
	}
	return refusal
}

// Head reads the present of a thread.
func (e *Engine) Head(ctx context.Context, op, tenant, thread string) (storage.Head, error) {
	if err := checkThread(op, thread); err != nil {
		return storage.Head{}, err
	}
	head, err := e.backend.Head(ctx, tenant, thread)
	return head, storageError(op, thread, storage.ID{}, err)
}

// ContinueRequest asks for a run to go on without an answer.
type ContinueRequest struct {
	Tenant string
	Thread string
	// Enqueue leaves the run to whoever is free.
	Enqueue bool
}

// Continue goes on with the latest run of a thread: it enters an interrupted
// or parked one again, opens a new attempt of a failed or cancelled one, and takes over one whose
// process died. On a finished run nothing happens.
func (e *Engine) Continue(ctx context.Context, r ContinueRequest) (*Handle, error) {
	const op = "continue"
	head, err := e.Head(ctx, op, r.Tenant, r.Thread)
	if err != nil {
		return nil, err
	}
	if head.Run == nil {
		return nil, &Error{Op: op, Thread: r.Thread, Reason: ErrUnknownThread, Hint: "start a run on it first"}
	}
	run := *head.Run
	h := &Handle{engine: e, tenant: r.Tenant, Run: run, after: run.LastSeq}
	switch run.Status {
	case storage.Finished, storage.Superseded:
		return h, nil
	case storage.Running, storage.Queued:
		if run.Status == storage.Queued || head.Alive {
			return nil, e.refused(ctx, op, r.Tenant, r.Thread, &storage.BusyError{Run: run})
		}
	}
	entry, err := e.entry(op, run.Entrypoint)
	if err != nil {
		return nil, err
	}
	member, err := e.enter(op)
	if err != nil {
		return nil, err
	}
	defer e.leave()
	failure := (*Failure)(nil)
	if run.Status == storage.Failed {
		if failure, err = e.decodeFailure(run.Error, 0); err != nil {
			return nil, storageError(op, r.Thread, run.ID, fmt.Errorf("%w: error of the run: %w", storage.ErrCorrupt, err))
		}
		if failure.Hidden {
			return nil, &Error{
				Op: op, Thread: r.Thread, Run: run.ID, Reason: ErrNothingToRetry,
				Err:  fmt.Errorf("the run's error (%s) wraps none of the failures that it was handed", failure.Message),
				Hint: "wrap a task's error with %w, so that a new attempt knows what to repeat; or start anew",
			}
		}
	}
	taken, err := e.backend.Acquire(ctx, storage.Acquire{Tenant: r.Tenant, Run: run.ID, Member: member, From: []storage.Status{run.Status}})
	if err != nil {
		e.unsure(r.Tenant, run.ID, err)
		return nil, e.refused(ctx, op, r.Tenant, r.Thread, err)
	}
	x, mine := e.hold(ctx, entry, member, taken, false)
	h.Run, h.execution = taken, x
	if !mine {
		return h, nil // an answer that came at the same time goes on with it
	}
	loaded, err := e.load(ctx, r.Tenant, run.ID)
	if err == nil && failure != nil {
		err = e.reattempt(&loaded, failure)
	}
	if err != nil {
		e.drop(x, taken, err)
		return nil, storageError(op, r.Thread, run.ID, err)
	}
	h.Run = loaded.Run
	e.begin(x, loaded)
	return h, nil
}

// reattempt records a new attempt of a failed run: of its body, and of each
// failed call in the error down to where it came from.
func (e *Engine) reattempt(loaded *recording, failure *Failure) error {
	h, err := readHistory(loaded)
	if err != nil {
		return err
	}
	attempt := 1
	if body := h.scopes[0]; body != nil {
		attempt = max(attempt, body.attempt)
	}
	opened, err := h.reopen(e, 0, attempt+1, attempt, failure)
	if err != nil {
		return err
	}
	records := make([][]byte, len(opened))
	for i := range opened {
		records[i] = opened[i].encode(&h.sites)
	}
	return e.extend(loaded, storage.Unit{Records: records})
}

// extend appends a unit to a loaded run that this engine owns and does not execute yet.
func (e *Engine) extend(loaded *recording, unit storage.Unit) error {
	run := &loaded.Run
	unit.Tenant, unit.Run, unit.Token, unit.First = run.Tenant, run.ID, run.Token, run.LastSeq+1
	committed, err := e.backend.Append(context.Background(), []storage.Unit{unit})
	if err == nil && !errors.Is(committed[0].Err, storage.ErrDuplicate) {
		err = committed[0].Err
	}
	if err != nil {
		return err
	}
	for i, data := range unit.Records {
		loaded.Records = append(loaded.Records, storage.Record{Seq: unit.First + int64(i), At: committed[0].At, Data: data})
	}
	run.LastSeq += int64(len(unit.Records))
	return nil
}

// Cancel ends the latest run of a thread. What it has recorded is kept; Continue goes on with it.
func (e *Engine) Cancel(ctx context.Context, tenant, thread, reason string) (*Handle, error) {
	const op = "cancel"
	head, err := e.Head(ctx, op, tenant, thread)
	if err != nil {
		return nil, err
	}
	if head.Run == nil {
		return nil, &Error{Op: op, Thread: thread, Reason: ErrUnknownThread, Hint: "start a run on it first"}
	}
	run, err := e.backend.Cancel(ctx, tenant, head.Run.ID, reason)
	if err != nil {
		return nil, e.refused(ctx, op, tenant, thread, err)
	}
	h := &Handle{engine: e, tenant: tenant, Run: run, after: run.LastSeq}
	if x := e.running(run.ID); x != nil && run.CancelRequested {
		x.cancel(reason)
		h.execution = x
	}
	return h, nil
}

func underWay(s storage.Status) bool {
	return slices.Contains([]storage.Status{storage.Queued, storage.Running}, s)
}
