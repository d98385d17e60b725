package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/fermata-go/fermata/internal/witness"
	"github.com/fermata-go/fermata/storage"
)

// EventKind says what happened.
type EventKind uint8

// The kinds of events. Custom, Message and Gap are transient, all others are
// derived from the run's records and its row.
const (
	// Began is the first event: the run as the verb found it. Data is the thread's
	// value before the run, nil if there is none; Questions are those of the last pause before.
	Began EventKind = iota + 1
	// TaskStarted: a call of a task or a nested entrypoint was recorded. After a resume: or
	// is called again, to be replayed or to go on. Data is the input, if the record holds it whole.
	TaskStarted
	// TaskFinished: its result was recorded.
	TaskFinished
	// TaskFailed: its failure was recorded.
	TaskFailed
	// Paused: the run rests; Questions are the open ones, in call order.
	Paused
	// Returned: the entrypoint's result.
	Returned
	// Rested is the last event: the run ended, or waits. Run is its state then.
	Rested
	// Custom and Message: what the code emitted.
	Custom
	Message
	// Gap: Lost transient events are gone, because the reader was slow.
	Gap
)

// Event is something that happened in a run.
type Event struct {
	// Seq is the record that the event is derived from, or for a transient one
	// the last one that was made before it; Index tells transient ones of one owner of the run apart, Token the owners.
	Seq     int64
	Index   int64
	Token   int64
	At      time.Time
	Kind    EventKind
	Name    string     // of the task or the entrypoint
	Path    string     // of the call
	Task    storage.ID // identity of the call
	Nested  bool       // a nested entrypoint, not a task
	Attempt int
	// Namespace is empty but for what happens in a nested entrypoint.
	Namespace []string
	Data      []byte
	Cached    bool
	Failure   *Failure
	// Questions of Paused; some may be settled by the time of the reading.
	Questions []storage.Question
	Run       storage.Run // of Began and Rested
	Over      bool        // of Began: the run has finished already, and only Rested comes
	Lost      int64       // of Gap, which has the place of the last one that is lost
}

// eventPage is how many records a reader of events takes at once.
const eventPage = 1000

// Events yields what happens in the run from where the handle begins, as it
// happens, and ends with a [Rested] event. Every reader sees the same events in the same order; one in another process
// misses only the transient ones. Breaking out of the loop only stops the watching.
func (h *Handle) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		r := &eventReader{Handle: h, yield: yield, after: h.after, at: h.Run.Created, source: h.execution, heard: h.index}
		r.claims, r.nested = map[int64]described{}, map[int64]int{}
		if err := r.read(ctx); err != nil {
			yield(Event{}, err)
		}
	}
}

// eventReader is one reader of a run's events.
type eventReader struct {
	*Handle
	deriver
	yield func(Event, error) bool
	after int64     // what comes up to this record was before
	seen  int64     // the last record
	at    time.Time // of the last record up to after
	began bool

	source *execution // of transient events; nil: none that the reader knows
	heard  int64      // Index of its last transient event
	left   *execution // the source before, which has nothing more
}

var errStopped = errors.New("reader stopped")

// read yields events until the run rests, or the consumer has had enough (nil), or an error.
func (r *eventReader) read(ctx context.Context) error {
	news, unsubscribe := r.engine.hub.subscribe(r.Run.ID)
	defer unsubscribe()
	for {
		known := r.find()
		limit, transient, lost, over := int64(keepAll), []Event(nil), int64(0), false
		if known {
			limit, transient, lost, over = r.source.transient(r.heard)
		}
		run, records, err := r.engine.backend.Log(ctx, r.tenant, r.Run.ID, r.seen, eventPage)
		if err != nil {
			return runError("events", r.Run.Thread, r.Run.ID, err)
		}
		if !known && r.find() {
			continue // it began meanwhile: what it emits stands between its records
		}
		full := len(records) == eventPage
		for len(records) > 0 && records[len(records)-1].Seq > limit {
			records = records[:len(records)-1]
		}
		if lost > 0 { // it stands right before what is kept
			next := transient[0]
			transient = slices.Insert(transient, 0, Event{
				Seq: next.Seq, Token: next.Token, Index: next.Index - 1, At: next.At, Kind: Gap, Lost: lost,
			})
		}
		rested, err := r.merge(ctx, run, records, transient, full)
		if errors.Is(err, errStopped) || rested {
			return nil
		}
		if err != nil {
			return err
		}
		if full {
			continue
		}
		if over { // the next records may be of another execution here, and what that emits between them
			r.left, r.source = r.source, nil
			continue
		}
		if !underWay(run.Status) && r.seen == run.LastSeq {
			if r.all && run.Status != storage.Finished { // it ended as it rested, as by a cancellation
				run.Updated = r.at
			} else if err := r.begin(ctx, run); err != nil {
				return ignoreStopped(err)
			}
			r.yield(Event{Seq: r.seen, At: run.Updated, Kind: Rested, Run: run}, nil)
			return nil
		}
		select {
		case _, open := <-news:
			if !open {
				return &Error{Op: "events", Thread: run.Thread, Run: run.ID, Reason: ErrClosed}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// find looks for the execution of the run in this process, unless the reader has one. It reports whether there is one
// that has come so far that it may emit.
func (r *eventReader) find() bool {
	if r.source == nil {
		if x := r.engine.running(r.Run.ID); x != nil && x != r.left {
			r.source, r.heard = x, 0
		}
	}
	return r.source != nil && r.source.begun()
}

func ignoreStopped(err error) error {
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}

// merge yields records' events and transient ones in their common order.
// With more records to come (full), transient ones that belong after them are left for the next time.
func (r *eventReader) merge(ctx context.Context, run storage.Run, records []storage.Record, transient []Event, full bool) (rested bool, err error) {
	last := r.seen
	if len(records) > 0 {
		last = records[len(records)-1].Seq
	}
	for _, stored := range records {
		if transient, err = r.yieldBefore(ctx, run, stored.Seq, transient); err != nil {
			return false, err
		}
		r.seen = stored.Seq
		event, err := r.derive(ctx, run, stored)
		if err != nil {
			return false, err
		}
		if stored.Seq <= r.after {
			r.at = stored.At
			continue
		}
		if err := r.begin(ctx, run); err != nil {
			return false, err
		}
		if event.Kind != 0 && event.Kind != Rested && !r.yield(event, nil) {
			return false, errStopped
		}
		if event.Kind == Paused || event.Kind == Rested || event.Kind == Returned && !event.Run.ID.IsZero() {
			ended := event.Run.Status != 0 && event.Run.Status != run.Status // without a record, as by a cancellation
			if r.all && (stored.Seq < run.LastSeq || underWay(run.Status) || ended) {
				r.after, r.at, r.began = stored.Seq, stored.At, false // it has gone on since
				continue
			}
			r.yield(Event{Seq: event.Seq, At: event.At, Kind: Rested, Run: event.Run}, nil)
			return true, nil
		}
	}
	if !full {
		_, err = r.yieldBefore(ctx, run, last+1, transient)
	}
	return false, err
}

// yieldBefore yields the transient events that belong before record seq, and returns the others.
func (r *eventReader) yieldBefore(ctx context.Context, run storage.Run, seq int64, transient []Event) ([]Event, error) {
	for len(transient) > 0 && transient[0].Seq < seq {
		if err := r.begin(ctx, run); err != nil {
			return nil, err
		}
		if !r.yield(transient[0], nil) {
			return nil, errStopped
		}
		r.heard = transient[0].Index
		transient = transient[1:]
	}
	return transient, nil
}

// begin yields the first event, once, and the calls that a resumed run makes again.
func (r *eventReader) begin(ctx context.Context, run storage.Run) error {
	if r.began {
		return nil
	}
	r.began = true
	e := Event{Seq: r.after, At: r.at, Kind: Began, Name: run.Entrypoint, Path: run.Entrypoint, Task: taskID(run.ID, 0), Run: run}
	e.Over = run.Status == storage.Finished && run.LastSeq == r.after
	if !run.Previous.IsZero() {
		previous, err := r.engine.backend.Run(ctx, r.tenant, run.Previous)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return storageError("events", run.Thread, run.ID, err)
		}
		e.Data = previous.Result
	}
	if len(r.open) > 0 {
		var err error
		if e.Questions, err = r.questions(ctx, r.open); err != nil {
			return err
		}
	}
	if !r.yield(e, nil) {
		return errStopped
	}
	for _, again := range r.calledAgain() {
		if !r.yield(again, nil) {
			return errStopped
		}
	}
	return nil
}

// deriver turns records into events.
type deriver struct {
	sites    sites
	claims   map[int64]described
	order    []int64       // of claims
	nested   map[int64]int // entrypoints called in the running attempt, by scope
	open     []int64       // of the last pause
	returned bool
}

// described is what later records need to know of a claim.
type described struct {
	scope int64
	start Event
	kind  Kind
	nth   int // of a nested entrypoint: how many its scope called before
	done  bool
}

// calledAgain lists the starts of the calls that a pass over the records so far makes again: all but
// those within a task that has ended, which isn't entered.
func (r *eventReader) calledAgain() []Event {
	var again []Event
	for _, seq := range r.order {
		c := r.claims[seq]
		entered := seq <= r.after && c.start.Kind != 0
		for at := c.scope; at != 0; at = r.claims[at].scope {
			entered = entered && !r.claims[at].done
		}
		if entered {
			c.start.Seq = r.after
			again = append(again, c.start)
		}
	}
	return again
}

// derive returns the event of a record; one without a Kind is none.
func (r *eventReader) derive(ctx context.Context, run storage.Run, stored storage.Record) (Event, error) {
	rec, err := decodeRecord(stored.Data, &r.sites)
	if err != nil {
		return Event{}, storageError("events", run.Thread, run.ID, err)
	}
	e := Event{Seq: stored.Seq, At: stored.At, Name: run.Entrypoint, Path: run.Entrypoint, Task: taskID(run.ID, 0)}
	switch rec.kind {
	case recordClaim:
		if _, known := r.claims[rec.scope]; !known && rec.scope != 0 {
			return Event{}, r.corrupt(run, stored.Seq, rec.scope)
		}
		return r.claimed(run, rec, e), nil
	case recordOutcome:
		c, known := r.claims[rec.claim]
		if !known {
			return Event{}, r.corrupt(run, stored.Seq, rec.claim)
		}
		c.done = true
		r.claims[rec.claim] = c
		if c.start.Kind == 0 {
			return Event{}, nil
		}
		e = c.start
		e.Seq, e.At, e.Kind, e.Data, e.Cached = stored.Seq, stored.At, TaskFinished, rec.data, rec.cached
		if rec.failed {
			e.Kind, e.Data = TaskFailed, nil
			if e.Failure, err = r.engine.decodeFailure(rec.data, rec.claim); err != nil {
				return Event{}, storageError("events", run.Thread, run.ID, errors.Join(storage.ErrCorrupt, err))
			}
		}
	case recordPause:
		r.open = rec.open
		if stored.Seq <= r.after {
			break
		}
		e.Kind, e.Run = Paused, run
		e.Run.Status, e.Run.LastSeq = storage.Interrupted, stored.Seq
		if e.Questions, err = r.questions(ctx, rec.open); err != nil {
			return Event{}, err
		}
	case recordReturn:
		r.returned = true
		e.Kind, e.Data = Returned, rec.data
	case recordAttempt:
		r.superseded(rec)
	case recordEnd:
		if rec.status == storage.Queued {
			break
		}
		e.Kind, e.Run = Rested, run
		e.Run.Status, e.Run.LastSeq = rec.status, stored.Seq
		if rec.status == storage.Finished && !r.returned {
			e.Kind, e.Data = Returned, run.Result
		}
	}
	return e, nil
}

func (r *eventReader) corrupt(run storage.Run, seq, claim int64) error {
	return storageError("events", run.Thread, run.ID, fmt.Errorf("%w: record %d is of the unknown claim %d", storage.ErrCorrupt, seq, claim))
}

// claimed describes a claim, and is the event of one that readers see.
func (r *eventReader) claimed(run storage.Run, rec record, e Event) Event {
	outer := r.claims[rec.scope].start
	if rec.scope == 0 {
		outer = e
	}
	e.Kind, e.Name, e.Path, e.Task = 0, rec.name, outer.Path+"/"+rec.name, taskID(run.ID, e.Seq)
	e.Namespace = outer.Namespace // a nested entrypoint's start has that of its inside
	e.Nested = rec.call == KindEntrypoint
	nth := 0
	if e.Nested {
		nth = r.nested[rec.scope]
		r.nested[rec.scope]++
		e.Namespace = r.around(run, rec.scope, nth)
	}
	if rec.call == KindTask || e.Nested {
		e.Kind = TaskStarted
		e.Data, _ = witness.Whole(rec.witness)
	}
	r.claims[e.Seq] = described{scope: rec.scope, start: e, kind: rec.call, nth: nth}
	r.order = append(r.order, e.Seq)
	return e
}

// around is the namespace of an entrypoint that is called in a scope, before which that called nth others; see [Scope.around].
func (r *eventReader) around(run storage.Run, scope int64, nth int) []string {
	if scope == 0 {
		return numbered([]string{segment(run.Entrypoint, run.ID, 0)}, nth)
	}
	c := r.claims[scope]
	return numbered(append(r.around(run, c.scope, c.nth), segment(c.start.Name, run.ID, scope)), nth)
}

// superseded forgets what a new attempt makes again.
func (r *eventReader) superseded(rec record) {
	if rec.claim == 0 {
		r.returned = false
	}
	for _, seq := range rec.retry {
		if c, ok := r.claims[seq]; ok {
			c.done = false
			r.claims[seq] = c
		}
	}
	r.order = slices.DeleteFunc(r.order, func(seq int64) bool {
		return r.claims[seq].scope == rec.claim && seq > rec.cut
	})
	r.nested[rec.claim] = 0
	for _, seq := range r.order {
		if c := r.claims[seq]; c.scope == rec.claim && c.kind == KindEntrypoint {
			r.nested[rec.claim]++
		}
	}
}

// questions reads the questions with these Seq, in this order.
func (r *eventReader) questions(ctx context.Context, seqs []int64) ([]storage.Question, error) {
	all, err := r.engine.questionsOf(ctx, r.tenant, r.Run.ID)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(q storage.Question) bool { return !slices.Contains(seqs, q.Seq) })
	sortBySeq(all, seqs)
	return all, nil
}
