package fermata

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fermata-go/fermata/internal/codec"
	"github.com/fermata-go/fermata/internal/engine"
)

// Task is a function whose call is recorded: once the result of a call is on
// disk, the function is not called again for it, whatever happens. Between the
// function's effect and the record a crash may make it run again, so an effect is made at least once.
//
// A Task is a definition: it knows no database, and is best a package-level variable
// or a field of a struct that holds what the function needs.
type Task[I, O any] struct {
	name   string
	fn     func(context.Context, I) (O, error)
	policy *engine.Policy
	err    error
}

// NewTask defines a task. The name identifies its calls in the record: don't
// change it while runs wait. Within one engine a name belongs to one task.
//
// I and O must survive being stored: channels, functions, and structs with
// only unexported fields don't. The function gets a copy of its input, and the
// caller a copy of the result, both as they come back from storage.
//
// An ill-defined task (no name, no function, such a type) returns an error
// that matches [ErrDefinition] from each call.
func NewTask[I, O any](name string, fn func(context.Context, I) (O, error), options ...TaskOption) *Task[I, O] {
	t := &Task[I, O]{name: name, fn: fn}
	t.err = checkDefinition("task", name, fn == nil, reflect.TypeFor[I](), reflect.TypeFor[O]())
	if len(options) > 0 {
		o := taskOptions{input: reflect.TypeFor[I]()}
		for _, option := range options {
			if err := option.applyTask(&o); err != nil && t.err == nil {
				t.err = definitionError("task", name, err)
			}
		}
		t.policy = &o.policy
	}
	return t
}

// Name returns the name given to NewTask.
func (t *Task[I, O]) Name() string { return t.name }

// Call calls the task and waits for its result, which is durable when Call returns.
// Errors: *[TaskError] if the task failed; *[ValueError] if the input can't be stored; else
// an error that stops the run, as [ErrPaused]: pass it up.
func (t *Task[I, O]) Call(ctx context.Context, in I, options ...CallOption) (O, error) {
	return t.Go(ctx, in, options...).Result(ctx)
}

// Go starts a call and returns at once; calls started this way run in
// parallel. Errors of the start come from the future.
func (t *Task[I, O]) Go(ctx context.Context, in I, options ...CallOption) *Future[O] {
	f, err := t.start(ctx, in, options)
	if err != nil {
		return &Future[O]{err: public(err)}
	}
	return &Future[O]{call: f}
}

func (t *Task[I, O]) start(ctx context.Context, in I, options []CallOption) (*engine.Future, error) {
	s, err := engine.From(ctx)
	if err != nil {
		return nil, err
	}
	if t.err != nil {
		return nil, t.err
	}
	v := valuesOf(s)
	var seen I
	data, err := v.transfer(in, &seen)
	if err != nil {
		return nil, fmt.Errorf("input of task %q: %w", t.name, err)
	}
	call := engine.Call{
		Def: t, Name: t.name, Input: data, Value: seen, Policy: t.policy,
		Check: func(result []byte) error { return v.decode(result, new(O)) },
		Do: func(ctx context.Context) ([]byte, error) {
			own := seen
			if t.policy != nil || engine.Attempt(ctx) > 1 {
				// A failed attempt may have changed what its copy points to.
				var again I
				if err := v.decode(data, &again); err != nil {
					return nil, err
				}
				own = again
			}
			out, err := t.fn(ctx, own)
			if err != nil {
				return nil, err
			}
			return v.encode(out)
		},
	}
	for _, option := range options {
		option.applyCall(&call)
	}
	return engine.Go(ctx, call)
}

// TaskOption is an option of a task's definition.
type TaskOption interface{ applyTask(*taskOptions) error }

// taskOptions is what the options of a definition add up to.
type taskOptions struct {
	policy engine.Policy
	input  reflect.Type
}

// CallOption is an option of one call.
type CallOption interface{ applyCall(*engine.Call) }

// Key names a call, instead of its position: calls with keys may be added,
// moved and removed by a deploy while runs wait. A key is unique in its function.
func Key(key string) KeyOption { return KeyOption(key) }

// KeyOption is what [Key] returns; it fits calls of tasks and questions.
type KeyOption string

func (k KeyOption) applyCall(c *engine.Call) { c.Key = string(k) }

func (k KeyOption) applyAsk(a *asking) error {
	a.Key = string(k)
	return nil
}
func (k KeyOption) applyApprove(a *asking) error { return k.applyAsk(a) }

func checkDefinition(what, name string, noFunc bool, types ...reflect.Type) error {
	switch {
	case name == "":
		return definitionError(what, name, fmt.Errorf("it has no name"))
	case len(name) > maxName:
		return definitionError(what, name[:40]+"…", fmt.Errorf("its name is longer than %d bytes", maxName))
	case !utf8.ValidString(name):
		return definitionError(what, name, fmt.Errorf("its name is not UTF-8"))
	case strings.ContainsFunc(name, unicode.IsControl):
		return definitionError(what, name, fmt.Errorf("its name has control characters"))
	case noFunc:
		return definitionError(what, name, fmt.Errorf("it has no function"))
	}
	for _, t := range types {
		if err := codec.Check(codec.JSON(), t); err != nil {
			return definitionError(what, name, public(err))
		}
	}
	return nil
}

// maxName bounds the names of tasks, entrypoints and questions, in bytes: they are stored with each call.
const maxName = 128

var errNilDefinition = errors.New("it is nil: make it with NewEntrypoint before the engine")

func definitionError(what, name string, err error) error {
	return &Error{Op: "define", Reason: ErrDefinition, Err: fmt.Errorf("%s %q: %w", what, name, err)}
}
