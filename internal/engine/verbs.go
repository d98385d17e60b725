package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fermata-go/fermata/internal/schema"
	"github.com/fermata-go/fermata/storage"
)

// maxThreadID bounds the length of a thread's id, in bytes.
const maxThreadID = 256

// StartRequest asks for a new run.
type StartRequest struct {
	Entrypoint string
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
	// From, if not nil, is the checkpoint to descend from.
	From *storage.Checkpoint
	// Starter, if not nil, makes the run instead of the backend, as in the user's own transaction. It implies Enqueue.
	Starter Starter
}

// Starter makes runs.
type Starter interface {
	Start(ctx context.Context, s storage.Start) (storage.Started, error)
}

// Start makes a run and begins it here, or enqueues it. It is durable when Start returns.
func (e *Engine) Start(ctx context.Context, r StartRequest) (*Handle, error) {
	const op = "start"
	entry, err := e.entry(op, r.Entrypoint)
	if err != nil {
		return nil, err
	}
	if err := checkThread(op, r.Thread); err != nil {
		return nil, err
	}
	member, err := e.member(op)
	if err != nil {
		return nil, err
	}
	run := storage.Run{
		ID: r.Run, Tenant: r.Tenant, Thread: r.Thread, Entrypoint: entry.Name,
		Input: r.Input, Config: r.Config, Metadata: r.Metadata,
	}
	if run.ID.IsZero() {
		run.ID = storage.NewID(e.now())
	}
	if !r.Enqueue && r.Starter == nil {
		run.Owner = member
	}
	var starter Starter = e.backend
	if r.Starter != nil {
		starter = r.Starter
	}
	started, err := starter.Start(ctx, storage.Start{Run: run, From: r.From, Supersede: r.Supersede})
	if err != nil {
		return nil, e.refused(ctx, op, r.Tenant, r.Thread, err)
	}
	h := &Handle{engine: e, tenant: r.Tenant, Run: started.Run}
	switch {
	case started.Existing:
		h.execution = e.running(started.Run.ID)
	case !run.Owner.IsZero():
		h.execution = e.launch(entry, member, storage.Loaded{Run: started.Run, Previous: started.Previous}, false)
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
				refusal.Questions = head.Open
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

// Revision is what a caller has read of a thread. The zero Revision: nothing yet.
type Revision struct {
	Run storage.ID
	Seq int64
}

// String is "" for the zero Revision; else the run's id, a dot and a number.
func (r Revision) String() string {
	if r.Run.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s.%d", r.Run, r.Seq)
}

// ParseRevision reads what [Revision.String] returns.
func ParseRevision(s string) (Revision, error) {
	id, seq, _ := strings.Cut(s, ".")
	run, err := storage.ParseID(id)
	r := Revision{Run: run}
	if err == nil {
		_, err = fmt.Sscanf(seq, "%d", &r.Seq)
	}
	if err != nil || r.String() != s {
		return Revision{}, &Error{Reason: ErrInvalid, Err: fmt.Errorf("%.80q is no revision", s), Hint: "take it from the state of the thread"}
	}
	return r, nil
}

// Resume answers the one open question of a thread, as the caller read it at revision seen.
func (e *Engine) Resume(ctx context.Context, tenant, thread string, seen Revision, a Answer) (*Handle, error) {
	const op = "resume"
	head, err := e.Head(ctx, op, tenant, thread)
	if err != nil {
		return nil, err
	}
	if head.Run == nil {
		return nil, &Error{Op: op, Thread: thread, Reason: ErrUnknownThread, Hint: "start a run on it first"}
	}
	refuse := func(reason error, hint string) (*Handle, error) {
		return nil, &Error{Op: op, Thread: thread, Run: head.Run.ID, Reason: reason, Hint: hint, Questions: head.Open}
	}
	switch head.Run.Status {
	case storage.Interrupted:
	case storage.Running, storage.Queued:
		return refuse(ErrThreadBusy, "wait until it pauses, or answer by the question's id")
	case storage.Parked:
		return refuse(ErrParked, "mend the cause and continue the run; answers by the question's id are kept meanwhile")
	default:
		return refuse(ErrNoQuestion, fmt.Sprintf("the run is %s", head.Run.Status))
	}
	switch {
	case seen == Revision{}:
		return refuse(ErrStaleRevision, "this thread was not read yet: read its state and resume what was seen, or answer by the question's id")
	case seen != Revision{head.Run.ID, head.Run.LastSeq}:
		return refuse(ErrStaleRevision, "read its state again: the question may be another one, or answered")
	case len(head.Open) == 0:
		return refuse(ErrNoQuestion, "the run sleeps until a set time")
	case len(head.Open) > 1:
		return refuse(ErrAmbiguous, "answer by id: "+listIDs(head.Open))
	}
	a.Tenant, a.Question = tenant, head.Open[0].ID
	return e.Answer(ctx, a)
}

func listIDs(questions []storage.Question) string {
	ids := make([]string, len(questions))
	for i, q := range questions {
		ids[i] = q.ID.String()
	}
	return strings.Join(ids, ", ")
}

// Answer is an answer to a question.
type Answer struct {
	Tenant   string
	Question storage.ID
	Value    []byte
	By       storage.Principal
	Key      string // makes the answer repeatable
	// Check, if not nil, is called with the question before anything moves.
	Check func(q *storage.Question) error
	// Enqueue leaves the run to whoever is free.
	Enqueue bool
	// Revision is for who calls [Engine.Resume]; the engine doesn't look at it.
	Revision *Revision
}

// Answer settles a question. The run goes on here if this engine knows its
// entrypoint; else it is left to a process that does.
func (e *Engine) Answer(ctx context.Context, a Answer) (*Handle, error) {
	const op = "answer"
	member, err := e.member(op)
	if err != nil {
		return nil, err
	}
	q, err := e.backend.Question(ctx, a.Tenant, a.Question)
	if err != nil {
		return nil, questionError(op, a.Question, err)
	}
	if q.State == storage.Open {
		if err := e.checkAnswer(op, &q, a); err != nil {
			return nil, err
		}
	}
	s := storage.Settlement{Tenant: a.Tenant, Question: a.Question, State: storage.Answered, Answer: a.Value, By: a.By, Key: a.Key}
	entry := e.entries[q.Entrypoint]
	if entry != nil && !a.Enqueue {
		s.Member = member
	}
	settled, err := e.settle(ctx, s)
	if err != nil {
		return nil, questionError(op, a.Question, err)
	}
	return e.follow(ctx, entry, member, settled)
}

// settle sends one settlement, again if the row was locked.
func (e *Engine) settle(ctx context.Context, s storage.Settlement) (storage.Settled, error) {
	for {
		settled, err := e.backend.Settle(ctx, []storage.Settlement{s})
		if err == nil {
			err = settled[0].Err
		}
		if !errors.Is(err, storage.ErrLocked) {
			if err != nil {
				return storage.Settled{}, err
			}
			return settled[0], nil
		}
		if err := ctx.Err(); err != nil {
			return storage.Settled{}, err
		}
	}
}

// follow goes on with a run that a settlement gave to this engine.
func (e *Engine) follow(ctx context.Context, entry *Entry, member storage.ID, settled storage.Settled) (*Handle, error) {
	h := &Handle{engine: e, tenant: settled.Run.Tenant, Run: settled.Run, after: settled.Run.LastSeq, Repeated: settled.Repeated}
	if !settled.Acquired {
		h.execution = e.running(settled.Run.ID)
		return h, nil
	}
	loaded, err := e.backend.Load(ctx, settled.Run.Tenant, settled.Run.ID)
	if err != nil {
		// The answer is kept; the run is taken up again like any that this process could not write to.
		e.retryLater(settled.Run)
		e.poke()
		return h, nil
	}
	h.execution = e.launch(entry, member, loaded, true)
	return h, nil
}

// checkAnswer refuses an answer that doesn't fit an open question.
func (e *Engine) checkAnswer(op string, q *storage.Question, a Answer) error {
	refusal := &Error{Op: op, Thread: q.Thread, Run: q.Run, Path: q.Path, Questions: []storage.Question{*q}}
	if err := checkAudience(q, a.By); err != nil {
		refusal.Reason, refusal.Err, refusal.Hint = ErrNotAllowed, err, "the question stays open"
		return refusal
	}
	err := error(nil)
	if len(q.Schema) > 0 {
		err = schema.Validate(q.Schema, a.Value)
	}
	if err == nil && a.Check != nil {
		err = a.Check(q)
	}
	if err != nil {
		refusal.Reason, refusal.Err, refusal.Hint = ErrInvalidAnswer, err, "the question stays open: answer again"
		return refusal
	}
	return nil
}

// questionError explains why a question could not be settled.
func questionError(op string, id storage.ID, err error) error {
	var settled *storage.SettledError
	switch {
	case errors.As(err, &settled):
		q := settled.Question
		refusal := &Error{Op: op, Thread: q.Thread, Run: q.Run, Path: q.Path, Questions: []storage.Question{q}}
		switch q.State {
		case storage.Answered:
			refusal.Reason = ErrAlreadyAnswered
			refusal.Hint = fmt.Sprintf("question %s was answered at %s", id, q.Settled.UTC().Format("2006-01-02 15:04:05 MST"))
			if q.By.Subject != "" {
				refusal.Hint += " by " + q.By.Subject
			}
		case storage.Expired:
			refusal.Reason, refusal.Hint = ErrExpired, fmt.Sprintf("the deadline of question %s was %s", id, q.Deadline.UTC().Format("2006-01-02 15:04:05 MST"))
		case storage.SupersededQuestion:
			refusal.Reason = ErrSuperseded
		default:
			refusal.Reason = ErrWithdrawn
		}
		return refusal
	case errors.Is(err, storage.ErrNotFound):
		return &Error{Op: op, Reason: ErrUnknownQuestion, Err: fmt.Errorf("%s", id), Hint: "list the open questions"}
	}
	return storageError(op, "", storage.ID{}, err)
}

// Withdraw ends an open question without an answer; the code that asked gets [ErrWithdrawn].
func (e *Engine) Withdraw(ctx context.Context, tenant string, question storage.ID, by storage.Principal) (*Handle, error) {
	const op = "withdraw"
	if by.Kind == "" {
		by.Kind = "person"
	}
	member, err := e.member(op)
	if err != nil {
		return nil, err
	}
	q, err := e.backend.Question(ctx, tenant, question)
	if err != nil {
		return nil, questionError(op, question, err)
	}
	s := storage.Settlement{Tenant: tenant, Question: question, State: storage.Withdrawn, By: by}
	entry := e.entries[q.Entrypoint]
	if entry != nil {
		s.Member = member
	}
	settled, err := e.settle(ctx, s)
	if err != nil {
		return nil, questionError(op, question, err)
	}
	return e.follow(ctx, entry, member, settled)
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
	member, err := e.member(op)
	if err != nil {
		return nil, err
	}
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
		return nil, e.refused(ctx, op, r.Tenant, r.Thread, err)
	}
	loaded, err := e.backend.Load(ctx, r.Tenant, run.ID)
	if err == nil && failure != nil {
		err = e.reattempt(&loaded, failure)
	}
	if err != nil {
		e.retryLater(taken)
		e.poke()
		return nil, storageError(op, r.Thread, run.ID, err)
	}
	h.Run = loaded.Run
	h.execution = e.launch(entry, member, loaded, false)
	return h, nil
}

// reattempt records a new attempt of a failed run: of its body, and of each
// failed call in the error down to where it came from.
func (e *Engine) reattempt(loaded *storage.Loaded, failure *Failure) error {
	h, err := readHistory(loaded)
	if err != nil {
		return err
	}
	var records [][]byte
	var open func(scope int64, f *Failure) error
	open = func(scope int64, f *Failure) error {
		number := 1
		if s := h.scopes[scope]; s != nil {
			number = max(number, s.attempt)
		}
		r := record{kind: recordAttempt, claim: scope, attempt: number + 1, retry: f.Retry, cut: f.cut()}
		records = append(records, r.encode(&h.sites))
		for _, branch := range f.Branches {
			if err := open(branch.Branch, branch); err != nil {
				return err
			}
		}
		for _, seq := range f.Retry {
			c := h.claims[seq]
			if c == nil || !c.failed {
				continue
			}
			inner, err := e.decodeFailure(c.data, seq)
			if err != nil {
				return fmt.Errorf("%w: outcome of record %d: %w", storage.ErrCorrupt, seq, err)
			}
			if h.scopes[seq] == nil {
				continue // a task without durable calls: nothing of its own to supersede
			}
			if err := open(seq, inner); err != nil {
				return err
			}
		}
		return nil
	}
	if err := open(0, failure); err != nil {
		return err
	}
	return e.extend(loaded, storage.Unit{Records: records})
}

// extend appends a unit to a loaded run that this engine owns and does not execute yet.
func (e *Engine) extend(loaded *storage.Loaded, unit storage.Unit) error {
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
