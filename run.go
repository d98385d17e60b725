package fermata

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/storage"
)

// Run is a handle of a run that a verb has started, resumed or found.
type Run[O any] struct {
	handle *engine.Handle
	engine *Engine
	see    func(engine.Revision)
}

// ID returns the run's id.
func (r *Run[O]) ID() ID { return r.handle.Run.ID }

// Thread returns the id of the run's thread.
func (r *Run[O]) Thread() string { return r.handle.Run.Thread }

// Result waits until the run rests, wherever it executes, and returns what its
// entrypoint returned. Errors: *[PausedError] while a person is asked; *[RunError] if it failed; an [Error] that
// matches [ErrParked], [ErrCancelled], [ErrSuperseded], or [ErrUnknownRun] if its thread was deleted; *[ValueError] if the result isn't an O; [ErrStorage]; that of ctx,
// which doesn't stop the run.
func (r *Run[O]) Result(ctx context.Context) (O, error) {
	var out O
	data, err := r.engine.rest(ctx, r.handle, r.see)
	if err != nil {
		return out, err
	}
	if err := r.engine.values.decode(data, &out); err != nil {
		var zero O
		return zero, &Error{Op: "result", Thread: r.Thread(), Run: r.ID(), Reason: ErrMismatch, Err: err}
	}
	return out, nil
}

// EventKind says what an [Event] is.
type EventKind uint8

// The kinds of events.
const (
	// TaskFinished: the result of a task is on disk. Name and Value are set.
	TaskFinished EventKind = iota + 1
	// Paused: the run waits for a person. Questions is set.
	Paused
	// Returned: the entrypoint's result. Name and Value are set.
	Returned
)

// Event is something that became durable in a run. Its JSON form is that of LangGraph's
// "updates": {"task": result}, {"__interrupt__": [{"value": …, "id": …}]}, {"entrypoint": result}.
type Event struct {
	// Seq orders the events of a run; the same event has the same Seq for every reader.
	Seq  int64
	At   time.Time
	Kind EventKind
	// Name of the task or the entrypoint; Path adds the functions around it, as "graph/outer/inner".
	Name      string
	Path      string
	Value     json.RawMessage
	Cached    bool
	Questions []Question
}

// MarshalJSON returns the event as LangGraph's "updates" mode has it.
func (e Event) MarshalJSON() ([]byte, error) {
	if e.Kind == Paused {
		type interrupt struct {
			Value json.RawMessage `json:"value"`
			ID    ID              `json:"id"`
		}
		interrupts := make([]interrupt, len(e.Questions))
		for i, q := range e.Questions {
			interrupts[i] = interrupt{q.Payload, q.ID}
		}
		return json.Marshal(map[string]any{"__interrupt__": interrupts})
	}
	update := map[string]any{e.Name: e.Value}
	if e.Cached {
		update["__metadata__"] = map[string]bool{"cached": true}
	}
	return json.Marshal(update)
}

// Events yields what becomes durable in the run since the verb that returned this
// handle, as it happens, and ends when the run rests. Every reader, in any process, gets the same events in the same order.
// It only watches: breaking out of the loop leaves the run alone, a slow reader doesn't slow it.
//
// A pause is an event and then the end. A run that failed, is parked or was
// cancelled ends the sequence with the error that [Run.Result] returns. Tasks that failed have no event of
// their own, nor have calls that were replayed.
func (r *Run[O]) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for e, err := range r.handle.Events(ctx) {
			if err != nil {
				yield(Event{}, public(err))
				return
			}
			event := Event{Seq: e.Seq, At: e.At, Name: e.Name, Path: e.Path, Cached: e.Cached}
			switch {
			case e.Kind == engine.TaskFinished && !e.Nested && len(e.Namespace) == 0:
				event.Kind = TaskFinished
			case e.Kind == engine.Paused:
				event.Kind = Paused
				for i := range e.Questions {
					event.Questions = append(event.Questions, r.engine.question(&e.Questions[i]))
				}
			case e.Kind == engine.Returned:
				event.Kind = Returned
			case e.Kind == engine.Rested:
				r.see(engine.Revision{Run: e.Run.ID, Seq: e.Run.LastSeq})
				if err := r.engine.ending(e.Run); err != nil {
					yield(Event{}, err)
				}
				return
			default:
				continue
			}
			if event.Value, err = r.engine.values.json(e.Data); err != nil {
				yield(Event{}, err)
				return
			}
			if !yield(event, nil) {
				return
			}
		}
	}
}

func (e *Engine) runError(run storage.Run) error {
	f, err := e.core.Failure(run.Error)
	if err != nil {
		return &Error{Thread: run.Thread, Run: run.ID, Reason: ErrStorage, Err: fmt.Errorf("stored error of the run: %w", err)}
	}
	return &RunError{
		Thread: run.Thread, Run: run.ID, Entrypoint: run.Entrypoint,
		Message: f.Message, Panic: f.Panic, Stack: f.Stack, failure: f,
	}
}

func cancelledError(run storage.Run) error {
	var c engine.Cancellation
	e := &Error{Thread: run.Thread, Run: run.ID, Reason: ErrCancelled, Hint: "Continue goes on with it"}
	if err := json.Unmarshal(run.Error, &c); err == nil && c.Reason != "" {
		e.Err = fmt.Errorf("%s", c.Reason)
	} else if run.CancelReason != "" {
		e.Err = fmt.Errorf("%s", run.CancelReason)
	}
	return e
}
