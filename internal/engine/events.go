package engine

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// EventKind says what happened.
type EventKind uint8

// The kinds of events.
const (
	// TaskFinished: a task's result was recorded.
	TaskFinished EventKind = iota + 1
	// TaskFailed: a task's failure was recorded.
	TaskFailed
	// Paused: the run rests; Questions are the open ones, in call order.
	Paused
	// Returned: the entrypoint's result.
	Returned
	// Rested is the last event of a stream: the run ended, or waits.
	Rested
)

// Event is something that became durable in a run.
type Event struct {
	// Seq is the record that the event is derived from: the same event has the same Seq for every reader.
	Seq     int64
	At      time.Time
	Kind    EventKind
	Name    string // of the task or the entrypoint
	Path    string // of the call
	Data    []byte // the result
	Cached  bool
	Failure *Failure
	// Questions of Paused; some may be settled by the time of the reading.
	Questions []storage.Question
	// Run of Rested.
	Run storage.Run
}

// eventPage is how many records a reader of events takes at once.
const eventPage = 1000

// Events yields what becomes durable in the run from where the handle begins,
// as it does, and ends when the run rests, after a [Rested] event. Every reader sees
// the same events in the same order, also in another process; breaking out of the loop only stops the watching.
func (h *Handle) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		news, unsubscribe := h.engine.hub.subscribe(h.Run.ID)
		defer unsubscribe()
		d := deriver{engine: h.engine, tenant: h.tenant, run: h.Run.ID, claims: map[int64]described{}}
		for read := int64(0); ; {
			run, records, err := h.engine.backend.Log(ctx, h.tenant, h.Run.ID, read, eventPage)
			if err != nil {
				yield(Event{}, storageError("events", h.Run.Thread, h.Run.ID, err))
				return
			}
			for _, stored := range records {
				read = stored.Seq
				event, err := d.derive(ctx, run, stored)
				if err != nil {
					yield(Event{}, err)
					return
				}
				if stored.Seq <= h.after {
					continue
				}
				if event.Kind != 0 && event.Kind != Rested && !yield(event, nil) {
					return
				}
				if event.Kind == Paused || event.Kind == Rested || event.Kind == Returned && !event.Run.ID.IsZero() {
					yield(Event{Seq: event.Seq, At: event.At, Kind: Rested, Run: run}, nil)
					return
				}
			}
			if len(records) == eventPage {
				continue
			}
			if !underWay(run.Status) {
				yield(Event{Seq: read, At: run.Updated, Kind: Rested, Run: run}, nil)
				return
			}
			select {
			case _, open := <-news:
				if !open {
					yield(Event{}, &Error{Op: "events", Thread: run.Thread, Run: run.ID, Reason: ErrClosed})
					return
				}
			case <-ctx.Done():
				yield(Event{}, ctx.Err())
				return
			}
		}
	}
}

// deriver turns records into events.
type deriver struct {
	engine   *Engine
	tenant   string
	run      storage.ID
	sites    sites
	claims   map[int64]described
	returned bool
}

// described is what later records need to know of a claim.
type described struct {
	kind Kind
	name string
	path string
}

// derive returns the event of a record; one without a Kind is none.
func (d *deriver) derive(ctx context.Context, run storage.Run, stored storage.Record) (Event, error) {
	r, err := decodeRecord(stored.Data, &d.sites)
	if err != nil {
		return Event{}, storageError("events", run.Thread, run.ID, err)
	}
	e := Event{Seq: stored.Seq, At: stored.At}
	switch r.kind {
	case recordClaim:
		path := run.Entrypoint
		if r.scope != 0 {
			path = d.claims[r.scope].path
		}
		d.claims[stored.Seq] = described{kind: r.call, name: r.name, path: path + "/" + r.name}
	case recordOutcome:
		c := d.claims[r.claim]
		if c.kind != KindTask {
			break
		}
		e.Kind, e.Name, e.Path, e.Data, e.Cached = TaskFinished, c.name, c.path, r.data, r.cached
		if r.failed {
			e.Kind, e.Data = TaskFailed, nil
			if e.Failure, err = d.engine.decodeFailure(r.data, r.claim); err != nil {
				return Event{}, storageError("events", run.Thread, run.ID, errors.Join(storage.ErrCorrupt, err))
			}
		}
	case recordPause:
		e.Kind, e.Name, e.Path = Paused, run.Entrypoint, run.Entrypoint
		questions, err := d.engine.questionsOf(ctx, d.tenant, d.run)
		if err != nil {
			return Event{}, err
		}
		e.Questions = slices.DeleteFunc(questions, func(q storage.Question) bool { return !slices.Contains(r.open, q.Seq) })
		sortBySeq(e.Questions, r.open)
	case recordReturn:
		d.returned = true
		e.Kind, e.Name, e.Path, e.Data = Returned, run.Entrypoint, run.Entrypoint, r.data
	case recordAttempt:
		if r.claim == 0 {
			d.returned = false
		}
	case recordEnd:
		switch {
		case r.status == storage.Queued:
		case r.status == storage.Finished && !d.returned:
			e.Kind, e.Name, e.Path, e.Data, e.Run = Returned, run.Entrypoint, run.Entrypoint, run.Result, run
		default:
			e.Kind = Rested
		}
	}
	return e, nil
}
