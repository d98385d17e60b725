package fermata

import (
	"context"
	"log/slog"
	"time"

	"github.com/fermata-go/fermata/internal/codec"
	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/storage"
)

// ID names a run or a question; its text is 32 lower-case hex digits.
type ID = storage.ID

// ParseID reads what [ID.String] returns, and UUIDs with hyphens. Error: one that matches [ErrInvalid].
func ParseID(s string) (ID, error) {
	id, err := storage.ParseID(s)
	if err != nil {
		return ID{}, &Error{Reason: ErrInvalid, Err: err}
	}
	return id, nil
}

// Options of an engine. Zero fields mean the default.
type Options struct {
	_ [0]func()
	// Name of this process, for people who look at the database. Default: none.
	Name string
	// Logger gets what nobody is there to be told as an error. Default: discard.
	Logger *slog.Logger
	// Codec of all values. It can't be changed while runs exist. Default: JSON.
	Codec Codec
	// MaxValueSize bounds one encoded value, in bytes; negative: no bound. Default: 16 MiB.
	MaxValueSize int
	// Errors that [errors.Is] shall find in a [TaskError] though only text is
	// recorded: each under a code that is stored with the failure. Default: none.
	Errors map[string]error
	// Context is the parent of the contexts that runs get. When it ends, as by a signal, the engine takes no new work
	// and gives its runs up for other processes; it is still to be closed. Default: context.Background().
	Context context.Context
	// Workers bounds how many enqueued, due and orphaned runs this process takes at
	// once; negative: it takes none. Runs that are started here don't count against it. Default: 64.
	Workers int
	// Tick is how often the process looks for runs of dead processes. Default: 1 s.
	Tick time.Duration
	// MaxCrashes: a run with which so many processes in a row died before it
	// made progress is parked. Default: 3.
	MaxCrashes int
	// VerifyReplay runs the code of each pass a second time, on its record, before a pause or an end is
	// recorded, and parks the run if it doesn't do the same: for tests and development. Default: off.
	VerifyReplay bool
	// Setup makes the context of each run from Context: the place for what
	// tasks depend on and definitions don't hold. It is called whenever a process begins to execute a run. Default: none.
	Setup func(ctx context.Context, run RunInfo) context.Context
	// Store configures the long-term store; see [Engine.Store].
	Store StoreOptions
	// Directory knows who is in a group. It is asked when a question is, so that one that nobody could answer
	// is refused ([ErrUnsatisfiable]); who answers says for himself which groups he is in. Default: none.
	Directory Directory
	// Remind is called when a reminder of a question is due (see [Remind]), in the process that takes up the
	// run for it: at least once per time that has come. The question is open as far as the process knows; answers
	// wait until Remind returns. An error is logged, and changes nothing. Default: none.
	Remind func(ctx context.Context, q Question) error
	// Hooks are called around what the engine does; see [LogHooks] for some that log. Default: none.
	Hooks *Hooks
	// RequireQuestionID makes [Thread.Resume] return [ErrIDRequired]: answers name their question. Default: off.
	RequireQuestionID bool
}

// RunInfo tells one run from another.
type RunInfo struct {
	ID         ID
	Tenant     string
	Thread     string
	Entrypoint string
	Metadata   map[string]string
}

func newRunInfo(r *storage.Run) RunInfo {
	return RunInfo{ID: r.ID, Tenant: r.Tenant, Thread: r.Thread, Entrypoint: r.Entrypoint, Metadata: r.Metadata}
}

// Engine runs entrypoints on a backend. It is safe for use by many goroutines.
// Several engines, in one process or many, may share a database.
type Engine struct {
	core   *engine.Engine
	values *values
	tenant string
	store  StoreOptions
}

// New binds entrypoints to a backend. From then on the engine also takes up
// runs that are enqueued, due, or whose process has died, until [Engine.Close].
// A nil options means all defaults.
//
// Errors: [ErrDefinition] for an ill-defined entrypoint, or two of one name; [ErrStorage].
func New(backend storage.Backend, options *Options, entrypoints ...Definition) (*Engine, error) {
	var o Options
	if options != nil {
		o = *options
	}
	v := &values{codec: o.Codec, limit: o.MaxValueSize}
	if v.codec == nil {
		v.codec = codec.JSON()
	}
	if v.limit == 0 {
		v.limit = defaultMaxValueSize
	}
	v.limit = max(0, v.limit)
	entries := make([]*engine.Entry, len(entrypoints))
	for i, definition := range entrypoints {
		if definition == nil {
			return nil, definitionError("entrypoint", "", errNilDefinition)
		}
		entry, err := definition.define(v)
		if err != nil {
			return nil, err
		}
		entries[i] = entry
	}
	errs, err := registeredErrors(o.Errors)
	if err != nil {
		return nil, err
	}
	inner := engine.Options{
		Name: o.Name, Base: o.Context, Log: o.Logger, Errors: errs, Workers: o.Workers, Tick: o.Tick,
		MaxCrashes: o.MaxCrashes, VerifyReplay: o.VerifyReplay, Values: v,
		RequireQuestionID: o.RequireQuestionID, CheckAnswer: v.checkAnswer,
	}
	if o.Directory != nil {
		inner.Members = o.Directory.Members
	}
	if o.Remind != nil {
		inner.Remind = func(ctx context.Context, q *storage.Question) error { return o.Remind(ctx, v.question(q)) }
	}
	if o.Setup != nil {
		inner.Setup = func(ctx context.Context, run *storage.Run) context.Context { return o.Setup(ctx, newRunInfo(run)) }
	}
	inner.Hooks = o.Hooks.erased(v)
	core, err := engine.New(context.Background(), backend, inner, entries...)
	if err != nil {
		return nil, public(err)
	}
	v.engine = &Engine{core: core, values: v, store: o.Store}
	core.Begin()
	return v.engine, nil
}

// Tenant returns a view of the engine that sees and makes only what belongs to
// the named tenant. The engine that [New] returns is the view of the tenant "". Views are one engine: Close of any closes it.
func (e *Engine) Tenant(name string) *Engine {
	view := *e
	view.tenant = name
	return &view
}

// Close stops the engine: no new task starts, those that run may finish, and
// their results are recorded. Unfinished runs are left to other processes, or to the next start of
// this one. If ctx ends first, the contexts of tasks are cancelled, and Close returns the error of ctx, at the latest
// a second later: a task that doesn't heed its context goes on, and its run stays this process's, until it returns; another
// Close waits for that. The backend stays open.
func (e *Engine) Close(ctx context.Context) error { return public(e.core.Close(ctx)) }

// Poke makes the engine look at once for runs that are due, enqueued or
// orphaned, instead of at the next notice or tick. Tests that move a backend's clock need it.
func (e *Engine) Poke() { e.core.Poke() }

// rest waits for a run and returns its encoded result.
func (e *Engine) rest(ctx context.Context, h *engine.Handle, seen func(engine.Revision)) ([]byte, error) {
	run, questions, err := h.Rest(ctx)
	if err != nil {
		return nil, public(err)
	}
	if seen != nil {
		seen(engine.Revision{Run: run.ID, Seq: run.LastSeq})
	}
	return e.outcome(run, questions)
}

// outcome is what the state of a run that rests means to who waits for it.
func (e *Engine) outcome(run storage.Run, open []storage.Question) ([]byte, error) {
	switch run.Status {
	case storage.Finished:
		return run.Result, nil
	case storage.Interrupted:
		paused := &PausedError{Thread: run.Thread, Run: run.ID}
		for i := range open {
			paused.Questions = append(paused.Questions, e.question(&open[i]))
		}
		return nil, paused
	case storage.Failed:
		return nil, e.runError(run)
	case storage.Parked:
		return nil, parkedError(run.Thread, run.ID, run.Error)
	case storage.Cancelled:
		return nil, cancelledError(run)
	default:
		return nil, &Error{Thread: run.Thread, Run: run.ID, Reason: ErrSuperseded}
	}
}
