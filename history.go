package fermata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/storage"
)

// Snapshot is the state of a thread at a checkpoint: before a run, or after
// one that finished. It is LangGraph's StateSnapshot.
type Snapshot[O any] struct {
	// Checkpoint names the point, Parent the one that it descends from ("" for the first).
	Checkpoint string
	Parent     string
	Run        ID
	// Source is "input" before a run, "loop" after it, "update" for a state that was set, "fork" before a
	// run that was started from an earlier point.
	Source string
	// Step is -1 for a thread's first checkpoint, and one more than the parent's for every other.
	Step int64
	// Value is the result of the last run that had finished by then; OK is false if there was none.
	Value O
	OK    bool
	// Next has the entrypoint's name if a run begins here, also when that has finished since.
	Next []string
	// Questions are those of the run that begins here that are open now.
	Questions []Question
	Metadata  map[string]string
	Created   time.Time
}

// HistoryOptions select checkpoints. Zero fields don't restrict.
type HistoryOptions struct {
	_ [0]func()
	// Source and Step must be equal, and all entries of Metadata, which is the runs'.
	Source   string
	Step     *int64
	Metadata map[string]string
	// Before is a checkpoint: only older ones are wanted.
	Before string
	// Limit is the highest number of snapshots; 0 is all.
	Limit int
}

// History yields the checkpoints of the thread, newest first, across all branches. A nil options means all.
// Errors: [ErrInvalid] for a bad thread or checkpoint; [ErrStorage]; *[ValueError] for a value that isn't an O.
func (t *Thread[I, O]) History(ctx context.Context, options *HistoryOptions) iter.Seq2[*Snapshot[O], error] {
	return func(yield func(*Snapshot[O], error) bool) {
		if err := t.history(ctx, options, yield); err != nil {
			yield(nil, public(err))
		}
	}
}

// historyPage is how many runs a history reads at once.
const historyPage = 100

func (t *Thread[I, O]) history(ctx context.Context, options *HistoryOptions, yield func(*Snapshot[O], error) bool) error {
	e, err := t.check("history")
	if err != nil {
		return err
	}
	var o HistoryOptions
	if options != nil {
		o = *options
	}
	var before storage.Checkpoint
	var number int64
	if o.Before != "" {
		run, err := t.runOf(ctx, "history", o.Before, &before)
		if err != nil {
			return err
		}
		number = run.Number + 1
	}
	for found := 0; ; {
		runs, err := e.core.Lineage(ctx, e.tenant, t.id, number, historyPage)
		if err != nil {
			return err
		}
		for i := range runs {
			run := &runs[i]
			for _, at := range pointsOf(run) {
				if at.Run == before.Run && (at.End || !before.End) || !o.wants(run, at) {
					continue
				}
				snapshot, err := t.snapshot(ctx, run, at)
				if err != nil {
					return err
				}
				if !yield(snapshot, nil) {
					return nil
				}
				if found++; found == o.Limit {
					return nil
				}
			}
			number = run.Number
		}
		if len(runs) < historyPage {
			return nil
		}
	}
}

// pointsOf lists the checkpoints of a run, newest first.
func pointsOf(run *storage.Run) []storage.Checkpoint {
	switch {
	case run.Status != Finished:
		return []storage.Checkpoint{{Run: run.ID}}
	case run.Input == nil: // its state was set
		return []storage.Checkpoint{{Run: run.ID, End: true}}
	}
	return []storage.Checkpoint{{Run: run.ID, End: true}, {Run: run.ID}}
}

func sourceOf(run *storage.Run, at storage.Checkpoint) string {
	if at.End && run.Input != nil {
		return "loop"
	}
	return run.Source.String()
}

func stepOf(run *storage.Run, at storage.Checkpoint) int64 {
	if at.End {
		return run.Step + 1
	}
	return run.Step
}

func (o *HistoryOptions) wants(run *storage.Run, at storage.Checkpoint) bool {
	if o.Source != "" && o.Source != sourceOf(run, at) || o.Step != nil && *o.Step != stepOf(run, at) {
		return false
	}
	for key, value := range o.Metadata {
		if got, ok := run.Metadata[key]; !ok || got != value {
			return false
		}
	}
	return true
}

func (t *Thread[I, O]) snapshot(ctx context.Context, run *storage.Run, at storage.Checkpoint) (*Snapshot[O], error) {
	e := t.bound.engine
	s := &Snapshot[O]{
		Checkpoint: CheckpointID(at), Run: run.ID, Source: sourceOf(run, at), Step: stepOf(run, at),
		Metadata: maps.Clone(run.Metadata), Created: run.Created,
	}
	if parent := run.Parent; !parent.Run.IsZero() {
		s.Parent = CheckpointID(parent)
	}
	result := run.Result
	if at.End {
		s.Created = run.Updated
		if run.Input != nil {
			s.Parent = CheckpointID(storage.Checkpoint{Run: run.ID})
		}
	} else {
		s.Next = []string{run.Entrypoint}
		result = nil
		if !run.Previous.IsZero() {
			previous, err := e.core.RunOf(ctx, "history", e.tenant, t.id, run.Previous)
			if err != nil {
				return nil, err
			}
			result = previous.Result
		}
		open, err := e.core.OpenQuestions(ctx, e.tenant, run.ID)
		if err != nil {
			return nil, err
		}
		for i := range open {
			s.Questions = append(s.Questions, e.question(&open[i]))
		}
	}
	if result != nil {
		if err := e.values.decode(result, &s.Value); err != nil {
			return nil, &Error{Op: "history", Thread: t.id, Run: run.ID, Reason: ErrMismatch, Err: err}
		}
		s.OK = true
	}
	return s, nil
}

// StateAt reads the thread at a checkpoint. Errors: [ErrInvalid] for what is no
// checkpoint; [ErrUnknownRun] for one that isn't of this thread.
func (t *Thread[I, O]) StateAt(ctx context.Context, checkpoint string) (*Snapshot[O], error) {
	var at storage.Checkpoint
	run, err := t.runOf(ctx, "state", checkpoint, &at)
	if err != nil {
		return nil, public(err)
	}
	s, err := t.snapshot(ctx, &run, at)
	return s, public(err)
}

// runOf reads the run that a checkpoint is of.
func (t *Thread[I, O]) runOf(ctx context.Context, op, checkpoint string, at *storage.Checkpoint) (storage.Run, error) {
	e, err := t.check(op)
	if err != nil {
		return storage.Run{}, err
	}
	id, end := strings.CutSuffix(checkpoint, ".end")
	run, err := storage.ParseID(id)
	if err != nil {
		return storage.Run{}, &Error{Op: op, Thread: t.id, Reason: ErrInvalid, Err: fmt.Errorf("checkpoint: %w", err)}
	}
	*at = storage.Checkpoint{Run: run, End: end}
	stored, err := e.core.RunOf(ctx, op, e.tenant, t.id, run)
	if errors.Is(err, ErrUnknownThread) {
		return stored, &Error{Op: op, Thread: t.id, Run: run, Reason: ErrUnknownRun, Hint: "take checkpoints from the history of the thread"}
	}
	if err == nil && end && stored.Status != Finished {
		err = &Error{Op: op, Thread: t.id, Run: run, Reason: ErrInvalid, Err: fmt.Errorf("the run is %s: it has no checkpoint at its end", stored.Status)}
	}
	return stored, err
}

// From makes the run descend from an earlier checkpoint of the thread: [Previous] is what was saved there.
// What has come since is kept as another branch; the thread's present is the branch that was begun last.
func From(checkpoint string) StartOption {
	return startOption(func(r *engine.StartRequest) { r.Checkpoint = checkpoint })
}

// ForkPoint is where a fork leaves a recorded run; see [Thread.Fork].
type ForkPoint struct {
	checkpoint string
	question   ID
	answered   bool
}

// AtCheckpoint is the point before a run, or after one that finished.
func AtCheckpoint(checkpoint string) ForkPoint { return ForkPoint{checkpoint: checkpoint} }

// BeforeQuestion is the point in a run before this question was asked: what was
// recorded until then is shared, answers that the code had been handed among it, and the question is asked anew.
func BeforeQuestion(question ID) ForkPoint { return ForkPoint{question: question} }

// AfterQuestion is the point in a run at which the code was handed what became of this question: what was recorded
// until then is shared, the answer among it, and only what came after it is done again.
func AfterQuestion(question ID) ForkPoint { return ForkPoint{question: question, answered: true} }

// Fork runs from an earlier point again, as a new run on the thread; the old one stays as it is. It is
// LangGraph's invoke(null) with a checkpoint.
//
//   - before a run: all its tasks run again with its input, and its questions are asked anew;
//   - after a run: nothing runs, and the thread's value is again what it was there;
//   - before a question: the run's results and answers until then are kept;
//   - after a question: its answer is kept, too.
//
// Its input is the old run's, and so are configuration and metadata, unless [WithConfig] and [Metadata] give others.
//
// Errors: those of [Thread.Start]; [ErrInvalid] and [ErrUnknownRun] for a checkpoint; [ErrUnknownQuestion];
// [ErrInvalid] for the option [From], and for the point after a question whose answer the code has not been handed.
func (t *Thread[I, O]) Fork(ctx context.Context, point ForkPoint, options ...StartOption) (*Run[O], error) {
	const op = "fork"
	e, err := t.check(op)
	if err != nil {
		return nil, err
	}
	r := engine.StartRequest{Op: op, Tenant: e.tenant, Thread: t.id, Source: storage.Fork}
	var run storage.Run
	var at storage.Checkpoint
	if !point.question.IsZero() {
		q, err := e.core.Backend().Question(ctx, e.tenant, point.question)
		if errors.Is(err, storage.ErrNotFound) || err == nil && q.Thread != t.id {
			return nil, &Error{Op: op, Thread: t.id, Reason: ErrUnknownQuestion, Err: errors.New(point.question.String())}
		}
		if err != nil {
			return nil, &Error{Op: op, Thread: t.id, Reason: ErrStorage, Err: err}
		}
		point.checkpoint, r.ForkSeq = q.Run.String(), q.Seq-1
		if point.answered {
			if r.ForkSeq, err = e.core.Taken(ctx, op, q); err != nil {
				return nil, public(err)
			}
		}
	}
	if run, err = t.runOf(ctx, op, point.checkpoint, &at); err != nil {
		return nil, public(err)
	}
	r.Entrypoint, r.Input, r.Config, r.Metadata, r.From = run.Entrypoint, run.Input, run.Config, run.Metadata, &at
	if at.End {
		r.Finished, r.Input, r.Result, r.Saved = true, nil, run.Result, run.Saved
	}
	for _, option := range options {
		option.applyStart(&r)
	}
	if r.Checkpoint != "" {
		return nil, &Error{Op: op, Thread: t.id, Reason: ErrInvalid, Err: errors.New("a fork has From"), Hint: "the ForkPoint says what it descends from; From is for Start"}
	}
	if err := configure(op, e.values, &r); err != nil {
		return nil, err
	}
	return t.run(e.core.Start(ctx, r))
}

// Update sets the thread's value as if a run had returned it, and what the next run gets from [Previous]. A run
// that is interrupted is given up with its questions, as in LangGraph's update_state. It returns the new checkpoint.
// Errors: those of [Thread.Start].
func (t *Thread[I, O]) Update(ctx context.Context, value O, options ...UpdateOption) (string, error) {
	e, err := t.check("update")
	if err != nil {
		return "", err
	}
	r := engine.StartRequest{
		Op: "update", Entrypoint: t.bound.entrypoint.name, Def: t.bound.entrypoint, Tenant: e.tenant, Thread: t.id,
		Source: storage.Update, Finished: true, Supersede: true,
	}
	if r.Result, err = e.values.encode(value); err != nil {
		return "", &Error{Op: "update", Thread: t.id, Reason: ErrInvalid, Err: err}
	}
	for _, option := range options {
		if r.Saved, err = e.values.encode(option.saved); err != nil {
			return "", &Error{Op: "update", Thread: t.id, Reason: ErrInvalid, Err: err}
		}
	}
	h, err := e.core.Start(ctx, r)
	if err != nil {
		return "", public(err)
	}
	return CheckpointID(storage.Checkpoint{Run: h.Run.ID, End: true}), nil
}

// UpdateOption is an option of [Thread.Update].
type UpdateOption struct{ saved any }

// AndSave sets another value for [Previous] than the thread's value.
func AndSave(value any) UpdateOption { return UpdateOption{value} }

// ThreadInfo is a thread as [Engine.Threads] lists it.
type ThreadInfo struct {
	ID       string
	Metadata map[string]string
	Created  time.Time
	Updated  time.Time
}

// ThreadFilter selects threads. Zero fields don't restrict.
type ThreadFilter struct {
	_ [0]func()
	// Entrypoint and Statuses are of the thread's latest run.
	Entrypoint string
	Statuses   []Status
	Metadata   map[string]string // of the thread; all must be equal
}

// Threads yields threads in the order of their ids. A nil filter means all.
func (e *Engine) Threads(ctx context.Context, filter *ThreadFilter) iter.Seq2[ThreadInfo, error] {
	return func(yield func(ThreadInfo, error) bool) {
		f := storage.ThreadFilter{Tenant: e.tenant, Limit: historyPage}
		if filter != nil {
			f.Entrypoint, f.Statuses, f.Metadata = filter.Entrypoint, filter.Statuses, filter.Metadata
		}
		for {
			page, err := e.core.Backend().ListThreads(ctx, f)
			if err != nil {
				yield(ThreadInfo{}, &Error{Op: "threads", Reason: ErrStorage, Err: err})
				return
			}
			for _, thread := range page {
				if !yield(ThreadInfo{thread.ID, thread.Metadata, thread.Created, thread.Updated}, nil) {
					return
				}
				f.After = thread.ID
			}
			if len(page) < f.Limit {
				return
			}
		}
	}
}

// RunFilter selects runs. Zero fields don't restrict.
type RunFilter struct {
	_          [0]func()
	Thread     string
	Entrypoint string
	Statuses   []Status
	Metadata   map[string]string // all must be equal
}

// RunState is a run as [Engine.Runs] lists it.
type RunState struct {
	RunInfo
	Status  Status
	Created time.Time
	Updated time.Time
	// Value is the result, as JSON, of a run that has finished.
	Value json.RawMessage
	// Err is why it failed, is parked, or was cancelled; else nil.
	Err error
}

// Runs yields runs, newest first. A nil filter means all.
func (e *Engine) Runs(ctx context.Context, filter *RunFilter) iter.Seq2[RunState, error] {
	return func(yield func(RunState, error) bool) {
		f := storage.RunFilter{Tenant: e.tenant, Limit: historyPage}
		if filter != nil {
			f.Thread, f.Entrypoint, f.Statuses, f.Metadata = filter.Thread, filter.Entrypoint, filter.Statuses, filter.Metadata
		}
		for {
			page, err := e.core.Backend().ListRuns(ctx, f)
			if err != nil {
				yield(RunState{}, &Error{Op: "runs", Reason: ErrStorage, Err: err})
				return
			}
			for i := range page {
				run := page[i]
				state := RunState{RunInfo: newRunInfo(&run), Status: run.Status, Created: run.Created, Updated: run.Updated}
				switch run.Status {
				case Finished:
					state.Value, err = e.values.json(run.Result)
				case Failed, Parked, Cancelled:
					_, state.Err = e.outcome(run, nil)
				}
				if !yield(state, err) || err != nil {
					return
				}
				f.Before = run.Number
			}
			if len(page) < f.Limit {
				return
			}
		}
	}
}

// DeleteThread removes a thread with all its runs and questions. Error: [ErrThreadBusy] if it has a run that executes; an unknown thread is no error.
func (e *Engine) DeleteThread(ctx context.Context, thread string) error {
	return e.manage(ctx, "delete", thread, e.core.Backend().DeleteThread(ctx, e.tenant, thread))
}

// CopyThread copies a thread to a new one, under new ids. A run that isn't over is cancelled in the copy.
// Errors: [ErrUnknownThread]; [ErrThreadBusy] if the target has a run.
func (e *Engine) CopyThread(ctx context.Context, from, to string) error {
	return e.manage(ctx, "copy", from, e.core.Backend().CopyThread(ctx, e.tenant, from, to))
}

// PruneThread removes the runs that the thread's present doesn't need: all but the latest, the one whose value
// is the thread's, and those that a fork shares records with. It returns how many it removed.
func (e *Engine) PruneThread(ctx context.Context, thread string) (int, error) {
	n, err := e.core.Backend().PruneThread(ctx, e.tenant, thread)
	return n, e.manage(ctx, "prune", thread, err)
}

// DescribeThread sets the metadata of a thread, which it makes if need be.
func (e *Engine) DescribeThread(ctx context.Context, thread string, metadata map[string]string) error {
	err := e.core.Backend().PutThread(ctx, storage.Thread{Tenant: e.tenant, ID: thread, Metadata: metadata})
	return e.manage(ctx, "describe", thread, err)
}

func (e *Engine) manage(ctx context.Context, op, thread string, err error) error {
	if err == nil {
		return nil
	}
	return public(e.core.Refused(ctx, op, e.tenant, thread, err))
}
