package fermata

import (
	"context"
	"fmt"
	"reflect"

	"github.com/fermata-go/fermata/internal/engine"
)

// Entrypoint is a workflow: a function that runs from its first line at every
// start and every resume of a run, and gets the recorded results of the calls it made before.
//
// It must make the same durable calls in the same order whenever it runs with
// the same input and the same results; the engine checks that.
type Entrypoint[I, O any] struct {
	name  string
	fn    func(context.Context, I) (O, error)
	entry engine.Entry
	err   error
}

// NewEntrypoint defines an entrypoint. The name identifies its runs in the
// database: don't change it while runs wait.
//
// I and O must survive being stored, as the input and result of a [Task]. An ill-defined
// entrypoint makes [New] return an error that matches [ErrDefinition].
func NewEntrypoint[I, O any](name string, fn func(context.Context, I) (O, error), options ...EntrypointOption) *Entrypoint[I, O] {
	e := &Entrypoint[I, O]{name: name, fn: fn}
	e.err = checkDefinition("entrypoint", name, fn == nil, reflect.TypeFor[I](), reflect.TypeFor[O]())
	for _, option := range options {
		if err := option.applyEntrypoint(&e.entry); err != nil && e.err == nil {
			e.err = definitionError("entrypoint", name, err)
		}
	}
	return e
}

// Name returns the name given to NewEntrypoint.
func (e *Entrypoint[I, O]) Name() string { return e.name }

// Definition is an entrypoint of any types, as [New] takes it.
type Definition interface {
	Name() string
	define(*values) (*engine.Entry, error)
}

func (e *Entrypoint[I, O]) define(v *values) (*engine.Entry, error) {
	if e == nil {
		return nil, definitionError("entrypoint", "", errNilDefinition)
	}
	if e.err != nil {
		return nil, e.err
	}
	entry := e.entry
	entry.Name, entry.Def = e.name, e
	entry.Do = func(ctx context.Context, in engine.Input) (engine.Output, error) {
		var input I
		if err := v.decode(in.Data, &input); err != nil {
			s, outside := engine.From(ctx)
			if outside != nil {
				return engine.Output{}, outside
			}
			return engine.Output{}, s.Reject(fmt.Errorf("input of the run: %w", err))
		}
		save := &saved{}
		out, err := e.fn(context.WithValue(ctx, savedKey{}, save), input)
		if err != nil {
			return engine.Output{}, err
		}
		result, err := v.encode(out)
		if err != nil {
			return engine.Output{}, fmt.Errorf("result of entrypoint %q: %w", e.name, err)
		}
		return engine.Output{Result: result, Saved: save.data}, nil
	}
	return &entry, nil
}

// Call runs the entrypoint within another entrypoint, or a task, as a part of
// the caller's run: its finished tasks are not run again at any depth, its questions are the run's. It
// has no [Previous], and what it saves with [Save] is dropped. Its policies ([Retry], [Timeout]) apply to its body and
// go before the caller's for its tasks, and whether its replay is [Lenient] is its own affair; [MaxConcurrency] and
// [WithDurability] are those of the run. Errors are those of [Task.Call].
// For a lineage of its own start it on a thread of its own, in a task.
func (e *Entrypoint[I, O]) Call(ctx context.Context, in I, options ...CallOption) (O, error) {
	return e.Go(ctx, in, options...).Result(ctx)
}

// Go starts a call and returns at once, as [Task.Go].
func (e *Entrypoint[I, O]) Go(ctx context.Context, in I, options ...CallOption) *Future[O] {
	f, err := e.start(ctx, in, options)
	if err != nil {
		return &Future[O]{err: public(err)}
	}
	return &Future[O]{call: f}
}

func (e *Entrypoint[I, O]) start(ctx context.Context, in I, options []CallOption) (*engine.Future, error) {
	s, err := engine.From(ctx)
	if err != nil {
		return nil, err
	}
	if e.err != nil {
		return nil, e.err
	}
	v := valuesOf(s)
	var seen I
	data, err := v.transfer(in, &seen)
	if err != nil {
		return nil, fmt.Errorf("input of entrypoint %q: %w", e.name, err)
	}
	call := engine.Call{
		Def: e, Kind: engine.KindEntrypoint, Name: e.name, Input: data, Entry: &e.entry,
		Do: func(ctx context.Context) ([]byte, error) {
			own := seen
			if engine.Attempt(ctx) > 1 { // the one before may have changed what its copy points to
				var again I
				if err := v.decode(data, &again); err != nil {
					return nil, err
				}
				own = again
			}
			out, err := e.fn(context.WithValue(ctx, savedKey{}, &saved{nested: true}), own)
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

// EntrypointOption is an option of an entrypoint's definition.
type EntrypointOption interface{ applyEntrypoint(*engine.Entry) error }

// MaxConcurrency bounds how many tasks of one run execute at the same time;
// the others wait. The entrypoint itself doesn't count, nor does a task that waits for another. It is an option of
// the run: in an entrypoint that is called within another it has no effect.
func MaxConcurrency(n int) EntrypointOption { return maxConcurrency(n) }

type maxConcurrency int

func (n maxConcurrency) applyEntrypoint(e *engine.Entry) error {
	if n < 1 {
		return fmt.Errorf("max concurrency of %d: must be at least 1", int(n))
	}
	e.MaxConcurrency = int(n)
	return nil
}

// Durability says when the records of a run are on disk.
type Durability = engine.Durability

// The modes of durability, with LangGraph's names.
const (
	// Sync, the default: a result is on disk before the code that asked for it
	// sees it, and the input before the first task starts.
	Sync = engine.Sync
	// Async: results are written in order while the run goes on; a crash may
	// lose the last of them, whose tasks run again: at most 1,024 records, of which a task has two. The code waits
	// when so many are behind. All are on disk before the run's end or pause is known.
	Async = engine.Async
	// Exit: results are written with the run's end or pause; a crash before
	// that repeats all since the run's start or resume.
	Exit = engine.Exit
)

// Lenient makes replay LangGraph's: the input of a call is not compared with the recorded one, and at a call of
// another name that call and all later ones of the function are forgotten and run, whatever was recorded. Without it such a run is parked.
// It holds for the entrypoint's body and its tasks, not for entrypoints called there.
func Lenient() EntrypointOption { return lenient{} }

type lenient struct{}

func (lenient) applyEntrypoint(e *engine.Entry) error {
	e.Lenient = true
	return nil
}

// WithDurability sets the durability of the entrypoint's runs. Called within another entrypoint it has that of the caller's run.
func WithDurability(d Durability) EntrypointOption { return durability(d) }

type durability Durability

func (d durability) applyEntrypoint(e *engine.Entry) error {
	if Durability(d) > Exit {
		return fmt.Errorf("durability %d: want Sync, Async or Exit", d)
	}
	e.Durability = Durability(d)
	return nil
}

// saved is what the body of an entrypoint saves for the thread's next run.
type saved struct {
	data   []byte
	nested bool // within another entrypoint
}

type savedKey struct{}

// Save sets what the next run of the thread gets from [Previous], instead of
// the value that the entrypoint returns. It counts if the run finishes; the last call wins.
// It is LangGraph's entrypoint.final(value=…, save=…). Call it in the entrypoint's body; elsewhere: [ErrOutsideRun].
func Save(ctx context.Context, value any) error {
	s, err := engine.From(ctx)
	save, ok := ctx.Value(savedKey{}).(*saved)
	if err != nil || !ok {
		return &Error{Reason: ErrOutsideRun, Hint: "call Save in the body of an entrypoint"}
	}
	data, err := valuesOf(s).encode(value)
	if err != nil {
		return fmt.Errorf("saved value: %w", err)
	}
	save.data = data
	return nil
}

// Previous returns what the last finished run of the thread saved: the value
// it returned, unless it called [Save]. Runs that failed or were interrupted don't
// count. If there is none, ok is false. A value that isn't a P parks the run ([ErrParked]).
func Previous[P any](ctx context.Context) (value P, ok bool, err error) {
	s, err := engine.From(ctx)
	if err != nil {
		return value, false, public(err)
	}
	data := s.Previous()
	if save, ok := ctx.Value(savedKey{}).(*saved); ok && save.nested {
		data = nil
	}
	if data == nil {
		return value, false, nil
	}
	if err := valuesOf(s).decode(data, &value); err != nil {
		var zero P
		return zero, false, public(s.Reject(fmt.Errorf("previous value of the thread: %w", err)))
	}
	return value, true, nil
}
