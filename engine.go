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
	// Context is the parent of the contexts that runs get. Default: context.Background().
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
	}
	if o.Setup != nil {
		inner.Setup = func(ctx context.Context, run *storage.Run) context.Context { return o.Setup(ctx, newRunInfo(run)) }
	}
	core, err := engine.New(context.Background(), backend, inner, entries...)
	if err != nil {
		return nil, public(err)
	}
	return &Engine{core: core, values: v}, nil
}

// Tenant returns a view of the engine that sees and makes only what belongs to
// the named tenant. The engine that [New] returns is the view of the tenant "".
func (e *Engine) Tenant(name string) *Engine {
	view := *e
	view.tenant = name
	return &view
}

// Close stops the engine: no new task starts, those that run may finish, and
// their results are recorded. Unfinished runs are left to other processes, or to the next start of
// this one. If ctx ends first, the contexts of tasks are cancelled, and Close returns the error of ctx.
// The backend stays open.
func (e *Engine) Close(ctx context.Context) error { return public(e.core.Close(ctx)) }

// Poke makes the engine look at once for runs that are due, enqueued or
// orphaned, instead of at the next notice or tick. Tests that move a backend's clock need it.
func (e *Engine) Poke() { e.core.Poke() }

// Answer answers an open question by its id. value is checked against the
// question's schema before anything moves. If this engine has the question's entrypoint the
// run goes on here; else it is left to a process that has it.
//
// Exactly one answer of a question is accepted. Errors: [ErrUnknownQuestion];
// [ErrAlreadyAnswered], [ErrExpired], [ErrWithdrawn], [ErrSuperseded] if it is
// not open any more; [ErrInvalidAnswer] with an *[AnswerError], [ErrNotAllowed]: it stays open.
func (e *Engine) Answer(ctx context.Context, question ID, value any, options ...AnswerOption) (*Receipt, error) {
	a, err := e.answer(value, options)
	if err != nil {
		return nil, err
	}
	a.Question = question
	h, err := e.core.Answer(ctx, a)
	if err != nil {
		return nil, public(err)
	}
	return &Receipt{Question: question, Thread: h.Run.Thread, Run: h.Run.ID, Repeated: h.Repeated, handle: h, engine: e}, nil
}

func (e *Engine) answer(value any, options []AnswerOption) (engine.Answer, error) {
	data, err := e.values.encode(value)
	if err != nil {
		return engine.Answer{}, &Error{Op: "answer", Reason: ErrInvalidAnswer, Err: err}
	}
	a := engine.Answer{Tenant: e.tenant, Value: data, By: storage.Principal{Kind: "person"}}
	for _, option := range options {
		option.applyAnswer(&a)
	}
	return a, nil
}

// Receipt says that an answer was accepted.
type Receipt struct {
	Question ID
	Thread   string
	Run      ID
	// Repeated: the same answer was given before, with the same [IdempotencyKey].
	Repeated bool
	handle   *engine.Handle
	engine   *Engine
}

// Wait waits until the run that asked rests again: ended, or waiting for a person. It
// returns what [Run.Result] would, as JSON.
func (r *Receipt) Wait(ctx context.Context) ([]byte, error) {
	data, err := r.engine.rest(ctx, r.handle, nil)
	if err != nil {
		return nil, err
	}
	return r.engine.values.json(data)
}

// Withdraw ends an open question without an answer: the code that asked gets [ErrWithdrawn].
// Errors: as [Engine.Answer] for a question that is not open.
func (e *Engine) Withdraw(ctx context.Context, question ID, by Principal) error {
	_, err := e.core.Withdraw(ctx, e.tenant, question, by)
	return public(err)
}

// AnswerOption is an option of one answer.
type AnswerOption interface{ applyAnswer(*engine.Answer) }

type answerOption func(*engine.Answer)

func (o answerOption) applyAnswer(a *engine.Answer) { o(a) }

// Principal is who answers, as the caller asserts it: whoever holds the engine is trusted.
type Principal = storage.Principal

// By says who answers. Default: a person without a name.
func By(p Principal) AnswerOption {
	return answerOption(func(a *engine.Answer) {
		a.By = p
		if a.By.Kind == "" {
			a.By.Kind = "person"
		}
	})
}

// IdempotencyKey makes an answer repeatable: sent again with the same key, it gets the same [Receipt].
func IdempotencyKey(key string) AnswerOption {
	return answerOption(func(a *engine.Answer) { a.Key = key })
}

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
