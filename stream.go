package fermata

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/storage"
)

// Mode selects what [Run.Stream] yields. The modes and their payloads are LangGraph's.
type Mode string

// The modes of a stream.
const (
	// StreamUpdates: {name: result} per finished task, {"__interrupt__": [{"value", "id"}]} per pause, {entrypoint: result} at the end.
	StreamUpdates Mode = "updates"
	// StreamValues: the thread's value before a resumed run goes on, or a fork begins, and the result
	// at its end, or {"__interrupt__": […]} at a pause. Of a run that had finished already: its result.
	StreamValues Mode = "values"
	// StreamCustom: what the code gives to [Emit], verbatim.
	StreamCustom Mode = "custom"
	// StreamMessages: what the code gives to [EmitMessage], as [chunk, metadata].
	StreamMessages Mode = "messages"
	// StreamTasks: {"id", "name", "input", "triggers"} when the entrypoint or a task starts, {"id", "name", "error",
	// "result", "interrupts"} when it ends. A task's input of more than 64 bytes is not recorded, and none is where values
	// are sealed: it is null then, and the start has "input_omitted": true. What is replayed or cached has no end.
	StreamTasks Mode = "tasks"
	// StreamCheckpoints: the state of the thread where the run begins, and where it has finished; only that, if it had already.
	StreamCheckpoints Mode = "checkpoints"
	// StreamDebug: the events of StreamCheckpoints and StreamTasks as {"step", "timestamp", "type", "payload"}.
	StreamDebug Mode = "debug"
)

// StreamOptions configure [Run.Stream].
type StreamOptions struct {
	_ [0]func()
	// Nested adds the events of nested entrypoints, under their namespaces. Default: off.
	Nested bool
	// After is the [Part].Position of the last part that was seen, by any reader in any process with any modes: only
	// what comes after it is yielded. Default: from where the handle begins.
	After string
}

// Part is one element of a stream. Its JSON form is {"type", "ns", "data"}, LangGraph's version 2.
type Part struct {
	Mode Mode `json:"type"`
	// Namespace is empty but for what happens in a nested entrypoint: then it has a segment "name:id"
	// for each function around that, followed by "1" for the second nested entrypoint that the function called, and so on.
	Namespace []string        `json:"ns"`
	Data      json.RawMessage `json:"data"`
	// Seq is the record that the part is derived from; custom and message parts have that of the
	// last record that was made before them, and a number of their own. Every reader sees the same.
	Seq   int64 `json:"-"`
	Index int64 `json:"-"`
	// Position is the place of the part in the stream of its run, for [StreamOptions].After.
	Position string `json:"-"`
	// Lost is not 0 in a part that stands for as many custom and message parts
	// that this reader was too slow for, or at most as many if it began in the middle; it has no Mode and no Data.
	Lost int64 `json:"-"`
}

// Stream yields what happens in the run, in the given modes (none: [StreamUpdates]), from where this handle
// begins until the run rests. A nil options means all defaults.
//
// All readers see the parts in one order: that of the run's records, with custom and message
// parts between them where they came. Those are kept, bounded, in the process that executes the run; a reader elsewhere doesn't
// get them. Errors and their place are those of [Run.Events]; an unknown mode is [ErrInvalid].
func (r *Run[O]) Stream(ctx context.Context, options *StreamOptions, modes ...Mode) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		s := &stream{engine: r.engine, modes: modes, yield: yield}
		if options != nil {
			s.options = *options
		}
		if s.options.After != "" {
			var err error
			if s.after, err = parsePosition(s.options.After); err != nil {
				yield(Part{}, &Error{Op: "stream", Thread: r.Thread(), Run: r.ID(), Reason: ErrInvalid, Err: err, Hint: "pass the Position of a part"})
				return
			}
		}
		if len(modes) == 0 {
			s.modes = []Mode{StreamUpdates}
		}
		for _, mode := range modes {
			if !slices.Contains([]Mode{StreamUpdates, StreamValues, StreamCustom, StreamMessages, StreamTasks, StreamCheckpoints, StreamDebug}, mode) {
				yield(Part{}, &Error{Op: "stream", Thread: r.Thread(), Run: r.ID(), Reason: ErrInvalid, Hint: "unknown mode " + string(mode)})
				return
			}
		}
		for e, err := range r.handle.Events(ctx) {
			if err == nil && e.Kind == engine.Rested {
				r.see(engine.Revision{Run: e.Run.ID, Seq: e.Run.LastSeq})
				err = r.engine.ending(e.Run)
			}
			if s.event(e); err != nil && !s.stopped {
				yield(Part{}, public(err))
			}
			if err != nil || s.stopped {
				return
			}
		}
	}
}

// ending is the error that a run which has come to rest ends a stream with; nil after a result or a pause.
func (e *Engine) ending(run storage.Run) error {
	if run.Status == Finished || run.Status == Interrupted {
		return nil
	}
	_, err := e.outcome(run, nil)
	return err
}

// stream turns events into parts.
type stream struct {
	engine  *Engine
	options StreamOptions
	modes   []Mode
	after   position
	at      position // of the part before
	yield   func(Part, error) bool
	stopped bool
	muted   bool // the event is of a nested entrypoint, and these are not wanted
	began   engine.Event
	result  json.RawMessage
}

type object = map[string]any

// send yields a part if its mode is wanted. Its position is the same whatever is wanted.
func (s *stream) send(mode Mode, e engine.Event, data any) {
	s.at.part++
	if s.stopped || s.muted || s.at.compare(s.after) <= 0 || !slices.Contains(s.modes, mode) {
		return
	}
	encoded, err := json.Marshal(data)
	part := Part{Mode: mode, Namespace: e.Namespace, Data: encoded, Seq: e.Seq, Index: e.Index, Position: s.at.String()}
	if part.Namespace == nil {
		part.Namespace = []string{}
	}
	if err != nil { // a stored value that is none
		err = &Error{Op: "stream", Thread: s.began.Run.Thread, Run: s.began.Run.ID, Reason: ErrStorage, Err: fmt.Errorf("record %d: %w", e.Seq, err)}
		part = Part{}
	}
	s.stopped = !s.yield(part, err) || err != nil
}

// task sends a part of the tasks mode, and its like for debug.
func (s *stream) task(e engine.Event, kind string, payload object) {
	s.send(StreamTasks, e, payload)
	s.send(StreamDebug, e, object{"step": s.began.Run.Step + 1, "timestamp": timestamp(e.At), "type": kind, "payload": payload})
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000-07:00") }

func (s *stream) json(data []byte) json.RawMessage {
	if data == nil {
		return json.RawMessage("null")
	}
	out, err := s.engine.values.json(data)
	if err != nil {
		out, _ = json.Marshal(err.Error())
	}
	return out
}

func (s *stream) interrupts(questions []storage.Question) []object {
	list := make([]object, len(questions))
	for i := range questions {
		list[i] = object{"value": s.json(questions[i].Payload), "id": questions[i].ID}
	}
	return list
}

func (s *stream) event(e engine.Event) {
	s.muted = len(e.Namespace) > 0 && !s.options.Nested
	s.at = s.at.next(e)
	switch e.Kind {
	case engine.Began:
		if s.began = e; e.Over {
			break
		}
		s.checkpoint(e, false)
		s.task(e, "task", object{"id": e.Task, "name": e.Name, "input": s.json(e.Run.Input), "triggers": []string{"__start__"}})
		if e.Seq > 0 || e.Run.Source == storage.Fork { // it goes on, or is a fork at its beginning
			s.send(StreamValues, e, s.json(e.Data))
		}
	case engine.TaskStarted:
		start := object{"id": e.Task, "name": e.Name, "input": nil, "triggers": []string{"__pregel_push"}}
		if e.Nested {
			start["triggers"] = []string{"__start__"}
		}
		switch {
		case e.Data == nil: // the record holds it whole only if it is small
			start["input_omitted"] = true
		case e.Nested:
			start["input"] = s.json(e.Data)
		default:
			start["input"] = []any{[]any{s.json(e.Data)}, object{}}
		}
		s.task(e, "task", start)
	case engine.TaskFinished:
		update := object{e.Name: s.json(e.Data)}
		if e.Cached {
			update["__metadata__"] = object{"cached": true}
		}
		s.send(StreamUpdates, e, update)
		if !e.Cached { // as for what is replayed: nothing ran
			result := object{"__return__": s.json(e.Data)}
			if e.Nested {
				result = object{"__end__": s.json(e.Data)}
			}
			s.ended(e, nil, result, nil)
		}
	case engine.TaskFailed:
		s.ended(e, e.Failure.Message, object{}, nil)
	case engine.Paused:
		interrupts := object{"__interrupt__": s.interrupts(e.Questions)}
		s.send(StreamUpdates, e, interrupts)
		s.send(StreamValues, e, interrupts)
		s.ended(e, nil, object{}, e.Questions)
	case engine.Returned:
		s.result = s.json(e.Data)
		s.send(StreamUpdates, e, object{e.Name: s.result})
	case engine.Rested:
		s.rested(e)
	case engine.Custom:
		s.send(StreamCustom, e, s.json(e.Data))
	case engine.Message:
		s.send(StreamMessages, e, s.json(e.Data))
	case engine.Gap:
		s.gap(e)
	}
}

// gap tells of lost parts, but for those that come before what the reader wants.
func (s *stream) gap(e engine.Event) {
	if s.at.compare(s.after) <= 0 {
		return
	}
	lost := e.Lost
	if s.after.token == e.Token && e.Token > 0 {
		lost = min(lost, e.Index-s.after.index)
	}
	s.stopped = !s.yield(Part{Seq: e.Seq, Index: e.Index, Lost: lost, Position: s.at.String()}, nil)
}

// ended sends the end of a task or the entrypoint.
func (s *stream) ended(e engine.Event, failure any, result object, open []storage.Question) {
	s.task(e, "task_result", object{"id": e.Task, "name": e.Name, "error": failure, "result": result, "interrupts": s.interrupts(open)})
}

// rested sends what is known when the run has ended.
func (s *stream) rested(e engine.Event) {
	own := s.began
	own.Seq, own.At, own.Run = e.Seq, e.At, e.Run
	switch e.Run.Status {
	case Finished:
		if s.result == nil { // it finished before, or was announced before a pause
			s.result = s.json(e.Run.Result)
		}
		if !s.began.Over {
			s.ended(own, nil, object{"__end__": s.result}, nil)
		}
		s.send(StreamValues, own, s.result)
		s.checkpoint(own, true)
	case Failed:
		if f, err := s.engine.core.Failure(e.Run.Error); err == nil {
			s.ended(own, f.Message, object{}, nil)
		}
	}
}

// checkpoint sends the state of the thread before or after the run.
func (s *stream) checkpoint(e engine.Event, end bool) {
	run := &e.Run
	at := storage.Checkpoint{Run: run.ID, End: end}
	step := stepOf(run, at)
	payload := object{
		"config": checkpointConfig(run.Thread, at), "parent_config": nil, "values": s.json(e.Data),
		"metadata": object{"source": sourceOf(run, at), "step": step, "parents": object{}},
		"next":     []string{run.Entrypoint},
		"tasks":    []object{{"id": e.Task, "name": e.Name, "interrupts": s.interrupts(e.Questions), "state": nil}},
	}
	if end {
		payload["values"], payload["next"], payload["tasks"] = s.result, []string{}, []object{}
	}
	switch {
	case end && run.Input != nil:
		payload["parent_config"] = checkpointConfig(run.Thread, storage.Checkpoint{Run: run.ID})
	case !run.Parent.Run.IsZero():
		payload["parent_config"] = checkpointConfig(run.Thread, run.Parent)
	}
	s.send(StreamCheckpoints, e, payload)
	s.send(StreamDebug, e, object{"step": step, "timestamp": timestamp(e.At), "type": "checkpoint", "payload": payload})
}

func checkpointConfig(thread string, at storage.Checkpoint) object {
	return object{"configurable": object{"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": CheckpointID(at)}}
}

// CheckpointID names a point of a thread's history: the id of a run for the
// point before it, with ".end" for the point after it.
func CheckpointID(at storage.Checkpoint) string {
	if at.End {
		return at.Run.String() + ".end"
	}
	return at.Run.String()
}

// Emit sends a value to the readers of the run's stream ([StreamCustom]) in this process. It is not
// recorded: what the code emits again on a replay is suppressed, and a reader that comes too late misses it.
// Unlike a durable call it may be made on any goroutine, with the context of the function that started that; the value
// stands where that function is. Errors: [ErrOutsideRun]; *[ValueError].
func Emit(ctx context.Context, value any) error { return emit(ctx, engine.Custom, value) }

// EmitMessage sends a piece of a message – a token of a language model, say –
// to the readers of the run's stream ([StreamMessages]). The metadata gets what the run was started with ([Metadata]),
// where it has no such entry of its own, and the entries langgraph_node, the task's name, and langgraph_step, which are always
// these. In all else it is [Emit].
func EmitMessage(ctx context.Context, chunk any, metadata map[string]any) error {
	s, err := engine.From(ctx)
	if err != nil {
		return public(err)
	}
	full := object{}
	for key, value := range s.Run().Metadata {
		full[key] = value
	}
	maps.Copy(full, metadata)
	full["langgraph_node"], full["langgraph_step"] = s.Name(), s.Run().Step+1
	return emit(ctx, engine.Message, []any{chunk, full})
}

func emit(ctx context.Context, kind engine.EventKind, value any) error {
	s, err := engine.From(ctx)
	if err != nil {
		return public(err)
	}
	data, err := valuesOf(s).encode(value)
	if err != nil {
		return err
	}
	return public(engine.Emit(ctx, kind, data))
}
