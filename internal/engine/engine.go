package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Entry is an entrypoint.
type Entry struct {
	Name string
	Def  any // its identity
	Do   func(ctx context.Context, in Input) (Output, error)
	// MaxConcurrency bounds the tasks of a run that execute at once; 0 doesn't. It and Durability are the run's: those of a
	// nested entrypoint don't count.
	MaxConcurrency int
	Durability     Durability
	// Policy repeats and bounds the attempts of the body, and of tasks what their own policy leaves open.
	Policy *Policy
	// Lenient replay is LangGraph's: inputs are not compared, and a call that
	// isn't the recorded one runs, with all that follow.
	Lenient bool
}

// Options of an engine. Zero fields have defaults.
type Options struct {
	// Name of the member, for people.
	Name string
	// Base is the context that runs get theirs from.
	Base context.Context
	Log  *slog.Logger
	// Errors are the registered errors, by code.
	Errors map[string]error
	// Workers bounds the runs that this engine takes from the queue at once; negative takes none.
	Workers int
	// Tick is how often the queue is looked at though nothing was said: for the runs of dead processes.
	Tick time.Duration
	// MaxCrashes parks a run that so many processes in a row died with.
	MaxCrashes int
	// WitnessKey, if set, keeps inputs out of the log.
	WitnessKey []byte
	// VerifyReplay replays each pass before its end is recorded, and parks the run if the code doesn't do the same again.
	VerifyReplay bool
	// Setup makes the context of a run's code from the engine's.
	Setup func(ctx context.Context, run *storage.Run) context.Context
	// Values is handed to the code of runs by [Scope.Values].
	Values any
	// CheckAnswer says what the schema can't of an answer to a question, before it is accepted, and
	// again, on answers that another process accepted, before the body runs. nil: nothing.
	CheckAnswer func(q *storage.Question, answer []byte) error
	// Remind is called when a reminder of an open question is due; an error is logged, and the
	// reminder not repeated. nil: nothing is called.
	Remind func(ctx context.Context, q *storage.Question) error
	// Members lists who is in a group, to refuse questions that nobody could answer. nil: nobody knows.
	Members func(ctx context.Context, tenant, group string) ([]string, error)
	Hooks   Hooks
	// RequireQuestionID refuses answers without the question's id.
	RequireQuestionID bool
}

// Engine runs entrypoints on a backend.
type Engine struct {
	backend storage.Backend
	options Options
	log     *slog.Logger
	base    context.Context
	abort   context.CancelCauseFunc
	entries map[string]*Entry
	names   []string // of entries, sorted

	draining atomic.Bool
	offset   atomic.Int64 // the backend's time minus this process's, in nanoseconds
	wake     chan struct{}
	unwatch  func()
	unbind   func() bool // from the parent of base
	hub      hub
	crew     crew
	defs     sync.Map       // definition to its identity
	backlog  atomic.Bool    // the last look at the queue left some there
	all      sync.WaitGroup // executions and the keeper
	taking   sync.WaitGroup // what may take runs; nothing is added once closed is set

	mu         sync.Mutex
	membership storage.Membership
	live       map[storage.ID]*execution
	later      map[storage.ID]overdue // runs to take up again
	troubled   map[storage.ID]trouble // runs that could not be loaded
	retired    []storage.Membership   // see retire
	closed     bool
	over       bool // nothing executes here any more

	gone     chan struct{} // closed when nothing of the engine is left
	closeErr error         // set before that
}

type definition struct {
	kind Kind
	name string
}

// New binds entrypoints to a backend and joins it. After Begin the engine also takes
// up queued runs and those of dead processes, until Close.
func New(ctx context.Context, backend storage.Backend, options Options, entries ...*Entry) (*Engine, error) {
	if backend == nil {
		return nil, &Error{Op: "new engine", Reason: ErrInvalid, Hint: "give it a backend: memory.New, sqlite.Open or postgres.Open"}
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Base == nil {
		options.Base = context.Background()
	}
	if options.Workers == 0 {
		options.Workers = 64
	}
	if options.Tick <= 0 {
		options.Tick = time.Second
	}
	if options.MaxCrashes <= 0 {
		options.MaxCrashes = 3
	}
	e := &Engine{
		backend: backend, options: options, log: options.Log,
		entries: map[string]*Entry{}, wake: make(chan struct{}, 1), gone: make(chan struct{}),
		live: map[storage.ID]*execution{}, later: map[storage.ID]overdue{}, troubled: map[storage.ID]trouble{},
	}
	for _, entry := range entries {
		if e.entries[entry.Name] != nil {
			return nil, &Error{Op: "new engine", Reason: ErrDefinition, Err: fmt.Errorf("two entrypoints are named %q", entry.Name), Hint: "give each its own name"}
		}
		e.entries[entry.Name] = entry
	}
	e.names = slices.Sorted(maps.Keys(e.entries))
	if err := e.syncClock(ctx); err != nil {
		return nil, storageError("new engine", "", storage.ID{}, err)
	}
	membership, err := backend.Join(ctx, options.Name)
	if err != nil {
		return nil, storageError("new engine", "", storage.ID{}, err)
	}
	e.membership = membership
	e.base, e.abort = context.WithCancelCause(options.Base)
	e.unbind = context.AfterFunc(options.Base, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.drain()
	})
	e.unwatch = backend.Watch(e.note)
	return e, nil
}

// Begin lets the engine take up what is queued, due or unowned.
func (e *Engine) Begin() { e.all.Go(e.keep) }

// Backend returns what the engine was made with.
func (e *Engine) Backend() storage.Backend { return e.backend }

// syncClock learns how far the backend's clock is from this process's.
func (e *Engine) syncClock(ctx context.Context) error {
	now, err := e.backend.Now(ctx)
	if err == nil {
		e.offset.Store(int64(time.Until(now)))
	}
	return err
}

// now is the backend's time, as far as this process can tell without asking.
func (e *Engine) now() time.Time { return time.Now().Add(time.Duration(e.offset.Load())) }

// define binds a name to a definition: within one engine a name means one thing.
func (e *Engine) define(kind Kind, name string, def any) error {
	if known, ok := e.defs.LoadOrStore(definition{kind, name}, def); ok && known != def {
		return &Error{Reason: ErrDefinition, Err: fmt.Errorf("two different %ss are named %q", kind, name), Hint: "names tell calls apart on replay: define each once and give each its own name"}
	}
	return nil
}

// Defined is what a name means within the engine; nil if that is not known yet.
func (e *Engine) Defined(kind Kind, name string) any {
	def, _ := e.defs.Load(definition{kind, name})
	return def
}

// entry finds an entrypoint of this engine.
func (e *Engine) entry(op, name string) (*Entry, error) {
	if entry := e.entries[name]; entry != nil {
		return entry, nil
	}
	return nil, &Error{Op: op, Reason: ErrUnknownEntry, Err: fmt.Errorf("%q", name), Hint: "pass the entrypoint to New"}
}

// enter begins what may take runs for this engine, which does not end before leave. It returns who
// the engine is to the backend; an error after Close.
func (e *Engine) enter(op string) (storage.ID, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.draining.Load() {
		return storage.ID{}, &Error{Op: op, Reason: ErrClosed, Hint: "the engine takes no new work"}
	}
	if e.options.Base.Err() != nil {
		return storage.ID{}, &Error{Op: op, Reason: ErrClosed, Hint: "the engine's own context has ended: it takes no new work"}
	}
	e.taking.Add(1)
	return e.membership.ID(), nil
}

// leave ends what enter began.
func (e *Engine) leave() { e.taking.Done() }

// launch executes a run that the backend has given to member. It returns nil
// if the engine has closed meanwhile: the run is then that of a member that left.
func (e *Engine) launch(entry *Entry, member storage.ID, loaded recording, skip bool) *execution {
	x, mine := e.hold(e.base, entry, member, loaded.Run, skip)
	if mine {
		e.begin(x, loaded)
	}
	return x
}

// running finds the execution of a run in this process; nil if there is none.
func (e *Engine) running(run storage.ID) *execution {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.live[run]
}

// retryLater takes a run up again that this process owns but could not write to.
func (e *Engine) retryLater(run storage.Run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.later[run.ID] = overdue{run: run, fence: true, at: e.troubled[run.ID].until}
	}
}

// note is called by the backend after changes.
func (e *Engine) note(n storage.Note) {
	anything := n.Run.IsZero()
	if n.Inbox || anything {
		e.mu.Lock()
		for run, x := range e.live {
			if anything || run == n.Run {
				x.poked.Store(true)
				n.Queued = true
			}
		}
		e.mu.Unlock()
	}
	if n.Queued || anything {
		e.poke()
	}
	e.hub.notify(n.Run)
	if n.Questions && !anything {
		e.hub.notify(anyQuestion)
	}
}

// inspect looks for cancellations of runs that execute here.
func (e *Engine) inspect() {
	e.mu.Lock()
	var poked []*execution
	for _, x := range e.live {
		if x.poked.Load() && x.cancelled.Load() == nil {
			poked = append(poked, x)
		}
	}
	e.mu.Unlock()
	for _, x := range poked {
		p := x.pass.Load()
		if p == nil {
			continue
		}
		if run, err := e.backend.Run(e.base, p.run.Tenant, p.run.ID); err == nil && run.CancelRequested && run.Token == p.run.Token {
			x.cancel(run.CancelReason)
		}
	}
}

// poke makes the keeper look at the queue.
func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Poke makes the engine look at once for what is due, queued or unowned.
func (e *Engine) Poke() { e.poke() }

// keep takes up what is queued, due or unowned, until the engine closes.
func (e *Engine) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		e.mu.Lock()
		lost := e.membership.Lost()
		e.mu.Unlock()
		select {
		case <-e.base.Done():
			return
		case <-lost:
			if !e.rejoin() {
				return
			}
		case <-e.wake:
		case <-timer.C:
		}
		timer.Reset(e.round())
	}
}

// round looks once at what is due, queued or unowned, and says when to look again.
func (e *Engine) round() (wait time.Duration) {
	wait = e.options.Tick
	if _, err := e.enter("look for work"); err != nil {
		return wait
	}
	defer e.leave()
	e.inspect()
	e.takeUp()
	e.dismiss(e.base)
	if next := e.poll(); !next.IsZero() {
		wait = max(0, min(wait, next.Sub(e.now())))
	}
	return wait
}

// replyTime is how long a poll, or the log of a run that it gave, is waited for: both are worth
// having also when the engine closes, since what was taken then can be given back.
const replyTime = 10 * time.Second

// poll takes runs from the backend and says when something is due next.
func (e *Engine) poll() (next time.Time) {
	for !e.draining.Load() {
		e.mu.Lock()
		free := e.options.Workers - len(e.later)
		for _, x := range e.live {
			if x.polled.Load() {
				free--
			}
		}
		member := e.membership.ID()
		e.mu.Unlock()
		except := e.leftAlone()
		if len(except) > mostLeftAlone {
			free = 0
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.base), replyTime)
		polled, err := e.backend.Poll(ctx, storage.Poll{Member: member, Entrypoints: e.names, Limit: max(0, free), Except: except})
		cancel()
		if err != nil {
			if e.base.Err() == nil && !errors.Is(err, storage.ErrClosed) {
				e.log.Error("looking for work failed", "error", err)
				if free > 0 {
					e.retire(member)
				}
			}
			return time.Time{}
		}
		e.offset.Store(int64(time.Until(polled.Now)))
		for _, run := range polled.Runs {
			e.adopt(member, run)
		}
		e.backlog.Store(polled.More)
		if !polled.More || len(polled.Runs) == 0 {
			return polled.Next
		}
	}
	return time.Time{}
}

// adopt executes a run that Poll has given to this engine.
func (e *Engine) adopt(member storage.ID, run storage.Run) {
	if x := e.running(run.ID); x != nil && x.token < run.Token {
		// What it was before has yet to end; others need not wait for that.
		e.taking.Go(func() { e.execute(e.base, e.entries[run.Entrypoint], member, run, run.Crashes == 0) })
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.base), replyTime)
	defer cancel()
	if x := e.execute(ctx, e.entries[run.Entrypoint], member, run, run.Crashes == 0); x != nil {
		x.polled.Store(true)
	}
}

// takeUp takes up runs that are this process's, and that nothing here executes.
func (e *Engine) takeUp() {
	var runs []overdue
	now := time.Now()
	e.mu.Lock()
	for id, o := range e.later {
		if !o.at.After(now) {
			runs = append(runs, o)
			delete(e.later, id)
		}
	}
	member := e.membership.ID()
	e.mu.Unlock()
	for _, o := range runs {
		if err := e.takeUpOne(member, o); err != nil && !errors.Is(err, storage.ErrClosed) {
			e.mu.Lock()
			if !e.later[o.run.ID].fence {
				e.later[o.run.ID] = o
			}
			e.mu.Unlock()
		}
	}
}

// rejoin stops what this engine ran as a member that others may think dead, and becomes a new one, however
// long the backend is away. It returns false when there is nothing to join any more.
func (e *Engine) rejoin() bool {
	e.log.Warn("membership lost: runs of this process are left to others")
	e.mu.Lock()
	live := slices.Collect(maps.Values(e.live))
	e.mu.Unlock()
	for _, x := range live {
		if p := x.pass.Load(); p != nil {
			p.lose(storage.ErrStale)
		}
	}
	pause := time.NewTicker(e.options.Tick)
	defer pause.Stop()
	for failed := false; ; failed = true {
		membership, err := e.backend.Join(e.base, e.options.Name)
		if err == nil {
			if failed {
				e.log.Info("joined again")
			}
			e.mu.Lock()
			e.membership = membership
			e.mu.Unlock()
			return true
		}
		switch {
		case e.base.Err() != nil:
			return false
		case errors.Is(err, storage.ErrClosed):
			e.log.Error("the backend was closed; this engine runs nothing any more", "error", err)
			return false
		case !failed:
			e.log.Error("joining again failed; this engine takes no work until it succeeds", "error", err)
		}
		select {
		case <-pause.C:
		case <-e.base.Done():
			return false
		}
	}
}

// Close stops the engine: no new call of a task starts, those that run may
// finish, and unfinished runs are left to other processes or the next one. When ctx
// ends before that, tasks are cancelled and Close returns the context's error. The backend stays open.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		e.drain()
		go e.end() //nolint:gosec // it outlives the caller, whose context bounds the wait only
	}
	e.mu.Unlock()
	select {
	case <-e.gone:
		return e.closeErr
	case <-ctx.Done():
	}
	e.abort(ErrDraining)
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-e.gone:
		return errors.Join(ctx.Err(), e.closeErr)
	case <-grace.C:
		return &Error{
			Op: "close", Reason: ErrDraining, Err: fmt.Errorf("%w; a task goes on though its context has ended", ctx.Err()),
			Hint: "its run stays this process's until the task returns or the process ends; Close again to wait for it",
		}
	}
}

// drain lets nothing new begin. The caller holds mu.
func (e *Engine) drain() {
	e.draining.Store(true)
	for _, x := range e.live {
		if p := x.pass.Load(); p != nil {
			p.drain()
		}
	}
}

// closeGrace is how long Close waits for tasks whose context it has ended.
const closeGrace = time.Second

// end ends what is left of the engine when no run executes here any more.
func (e *Engine) end() {
	defer close(e.gone)
	e.taking.Wait()
	e.waitIdle()
	e.unbind()
	e.abort(ErrClosed)
	e.unwatch()
	e.all.Wait()
	e.crew.dismiss()
	e.hub.close()
	e.dismiss(context.Background())
	e.mu.Lock()
	membership := e.membership
	e.mu.Unlock()
	if err := membership.Leave(context.Background()); err != nil && !errors.Is(err, storage.ErrClosed) {
		e.closeErr = storageError("close", "", storage.ID{}, err)
	}
}

// waitIdle returns when no run executes here, and none will.
func (e *Engine) waitIdle() {
	for {
		e.mu.Lock()
		var some *execution
		for _, x := range e.live {
			some = x
			break
		}
		e.over = some == nil
		e.mu.Unlock()
		if some == nil {
			return
		}
		<-some.done
		e.mu.Lock()
		for id, x := range e.live {
			if x == some {
				delete(e.live, id)
			}
		}
		e.mu.Unlock()
	}
}
