package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Call is a call of a task.
type Call struct {
	// Def is the identity of the definition: two of one name in one engine are refused.
	Def  any
	Kind Kind // zero means [KindTask]
	Name string
	Key  string // "" takes the next position
	// Input is the encoded input, Value the input itself.
	Input []byte
	Value any
	// Do calls the user's function and encodes its result.
	Do func(ctx context.Context) ([]byte, error)
	// Policy applies to the call. What it leaves open is, for a task, as the entrypoints around say, the nearest first.
	Policy *Policy
	// Entry is the definition, if the call is of a nested entrypoint.
	Entry *Entry
	// Check, if not nil, says whether a cached result can be decoded.
	Check func(result []byte) error
	// CacheKey is for the engine itself.
	CacheKey string
	// Grant, if not nil, is what the call needs, and uses up.
	Grant *Grant
}

// Future is a call under way. It belongs to the scope that made the call.
type Future struct {
	scope  *Scope
	claim  *pastClaim
	opener opener
	cancel context.CancelCauseFunc
	inner  *Scope // of the running attempt
	entry  *Entry // nil: it is no nested entrypoint

	mu        sync.Mutex
	recording bool          // the outcome is being recorded
	withdrawn atomic.Bool   // another call was first: this one gets no outcome
	lost      *Failure      // what the scope's owner gets then
	done      chan struct{} // nil: was recorded already

	// What follows is set before done is closed.
	data      []byte
	failure   *Failure
	suspended bool
	err       error // the run stops: the call has no outcome
	late      error // the time of an attempt around is over: the call has no outcome
}

// Go claims a call on the scope of ctx and starts it, or finds it recorded.
func Go(ctx context.Context, c Call) (*Future, error) {
	s, err := From(ctx)
	if err != nil {
		return nil, err
	}
	if c.Kind == 0 {
		c.Kind = KindTask
	}
	switch c.Kind {
	case KindTask:
		c.Policy = s.defaults(c.Policy)
	case KindEntrypoint:
		c.Policy = c.Entry.Policy
	}
	if err := s.pass.engine.define(c.Kind, c.Name, c.Def); err != nil {
		return nil, err
	}
	if c.Grant != nil {
		if err := c.Grant.check(s); err != nil {
			return nil, err
		}
		if c.Policy.cache() != nil {
			own := *c.Policy // what was approved is done, not looked up
			own.Cache = nil
			c.Policy = &own
		}
	}
	past, order, err := s.claim(call{kind: c.Kind, name: c.Name, key: c.Key, input: c.Input})
	if err != nil {
		return nil, err
	}
	f := &Future{scope: s, claim: past, opener: s.opening(past), entry: c.Entry}
	p := s.pass
	if c.Grant != nil && !past.done {
		if err := f.spend(c.Grant, c.Name); err != nil {
			return nil, err
		}
	}
	if past.done {
		return f, f.recall()
	}
	if open := p.blocked(past); open != nil {
		f.suspended = true
		s.running = append(s.running, f)
		p.waitFor(order, f.opener.place, open...)
		return f, nil
	}
	f.done = make(chan struct{})
	ctx, f.cancel = context.WithCancelCause(ctx)
	s.running = append(s.running, f)
	p.engine.crew.start(func() { f.run(ctx, c, order, false) })
	return f, nil
}

// run performs the call and says that it is done. If the user's function ends
// its goroutine, and this code with it, another one goes on.
func (f *Future) run(ctx context.Context, c Call, order []int, vanished bool) {
	returned := false
	defer func() {
		if !returned {
			go f.run(ctx, c, order, true)
			return
		}
		f.cancel(nil)
		close(f.done)
	}()
	f.scope.pass.slots.hold(func() { f.perform(ctx, c, order, vanished) })
	returned = true
}

// recall takes the outcome from the record.
func (f *Future) recall() error {
	if !f.claim.failed {
		f.data = f.claim.data
		return nil
	}
	failure, err := f.scope.pass.engine.decodeFailure(f.claim.data, f.claim.seq)
	if err != nil {
		return f.scope.pass.park(f.opener.path, err)
	}
	f.failure = failure
	return nil
}

// perform runs the call to its outcome, its suspension, or the stop of the run. If vanished, the
// goroutine that it was on ended within the function of the running attempt.
func (f *Future) perform(ctx context.Context, c Call, order []int, vanished bool) {
	p := f.scope.pass
	if err := c.Policy.cache().key(&c); err != nil {
		f.record(nil, p.newScope(f.opener, order, false).newFailure(c.Name, 1, fmt.Errorf("key of the cached result: %w", err)))
		return
	}
	if c.Policy.cache() != nil && !vanished && f.fromCache(ctx, c) {
		return
	}
	keep := f.scope.keep || c.Policy.retries()
	for attempt := p.attempt(f.claim.seq); ; attempt++ {
		if f.err = p.stopped(); f.err != nil {
			return
		}
		var out []byte
		var err error
		inner := f.inner
		if vanished {
			vanished, attempt, err = false, inner.attempt, &panicked{value: errVanished}
			inner.rest(err)
		} else {
			inner = p.newScope(f.opener, order, keep)
			inner.future, f.inner = f, inner
			out, err = f.try(ctx, c, inner, attempt)
		}
		switch stop := inner.end(err); {
		case f.withdrawn.Load():
			return
		case stop != nil, inner.refused, err != nil && p.ctx.Err() != nil:
			f.err = p.halted() // the engine's own doing is never an outcome
			return
		case inner.suspended:
			f.suspended = true
			return
		case (err != nil || inner.late != nil) && timedOut(ctx) != nil:
			// It is that attempt that failed: a repetition of it calls this again.
			f.late = timedOut(ctx)
			return
		case err == nil:
			f.record(out, nil)
			if c.Policy.cache() != nil {
				f.toCache(ctx, c, out)
			}
			return
		}
		failure := inner.newFailure(c.Name, attempt, err)
		wait, again, fault := c.Policy.again(err, attempt-p.spent(f.claim.seq))
		if fault != nil {
			failure = inner.newFailure(c.Name, attempt, fault)
		}
		if !again {
			f.record(nil, failure)
			return
		}
		if f.err = p.retry(ctx, f.claim.seq, attempt+1, failure, wait); f.err != nil || f.withdrawn.Load() {
			return
		}
		if f.late = timedOut(ctx); f.late != nil {
			return
		}
	}
}

// try runs the user's function once, and waits for what it started.
func (f *Future) try(ctx context.Context, c Call, inner *Scope, attempt int) (out []byte, err error) {
	inner.attempt = attempt
	ctx, end := f.scope.pass.engine.observeTask(ctx, Execution{
		Run: &f.scope.pass.run, Kind: c.Kind, Name: c.Name, Path: f.opener.path, Attempt: attempt,
	})
	seen := errVanished
	defer func() { end(seen) }()
	err = c.Policy.limit(ctx, c.Name, func(ctx context.Context) error {
		err := guard(func() (err error) {
			out, err = c.Do(inner.own(ctx))
			return err
		})
		inner.rest(err)
		return err
	})
	if seen = err; inner.suspended {
		seen = ErrPaused
	}
	return out, err
}

// record makes the outcome durable, then sets it.
func (f *Future) record(out []byte, failure *Failure) { f.recordOutcome(out, failure, false) }

func (f *Future) recordOutcome(out []byte, failure *Failure, cached bool) {
	f.mu.Lock()
	f.recording = !f.withdrawn.Load()
	f.mu.Unlock()
	if !f.recording {
		return
	}
	p := f.scope.pass
	if f.claim.call == KindBranch {
		// A branch shares variables with the function around it, so it runs again
		// on every replay: what is recorded are its calls.
		if f.failure = failure; failure != nil {
			failure.Branch, failure.claim = f.claim.seq, f.claim.seq
			p.engine.register(failure)
		}
		return
	}
	r := record{kind: recordOutcome, claim: f.claim.seq, data: out, cached: cached, at: p.clock()}
	if failure != nil {
		r.failed, r.data = true, failure.encode()
	}
	_, batch := p.journal.add(r)
	if err := p.journal.settle(batch); err != nil {
		f.err = p.lose(err)
		return
	}
	f.finish(r)
	f.data = out
	if failure != nil {
		// What the code sees is what a replay will see.
		f.failure, f.err = p.engine.decodeFailure(r.data, f.claim.seq)
	}
}

// finish makes the outcome known to later attempts of this pass.
func (f *Future) finish(r record) {
	f.claim.done, f.claim.failed, f.claim.cached, f.claim.data = true, r.failed, r.cached, r.data
	f.claim.doneAt = f.scope.pass.at(r.at)
}

// Await returns the encoded result of the call once it is durable. Errors:
// *[Failure]; [ErrPaused] if the call waits for a person; or that of the run's stop. ctx must be of the
// scope that made the call; a deadline of its own doesn't end the wait, since whether it
// passed would be no fact of the record: limit the call instead.
func (f *Future) Await(ctx context.Context) ([]byte, error) {
	s, err := From(ctx)
	if err != nil {
		return nil, err
	}
	if s != f.scope {
		return nil, s.error(ErrConcurrentScope, "a future belongs to the scope that made the call")
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	if f.lost != nil {
		s.seen(f.claim.doneAt)
		return nil, f.lost
	}
	if f.done != nil {
		s.wait(func() { <-f.done })
	}
	switch {
	case f.err != nil:
		s.refused = true
		return nil, f.err
	case f.suspended:
		return nil, s.suspend()
	case f.late != nil:
		s.late = f.late
		return nil, f.late
	}
	if f.done != nil && (f.claim.call != KindBranch || !f.inner.quiet.Load()) {
		s.news()
	}
	if f.failure != nil {
		s.deliver(f.failure)
		s.seen(f.claim.doneAt)
		return nil, f.failure
	}
	s.seen(f.claim.doneAt)
	return f.data, nil
}

// Reject parks the run because a recorded result can't be decoded as what the code now wants.
func (f *Future) Reject(err error) error {
	f.scope.refused = true
	return f.scope.pass.park(f.opener.path, err)
}

// deliver notes that a failure was handed to the code. That a call lost is a fact that no new attempt changes.
func (s *Scope) deliver(f *Failure) {
	if f.Lost {
		return
	}
	if s.delivered == nil {
		s.delivered = map[int64]int64{}
	}
	if _, ok := s.delivered[f.claim]; !ok {
		s.delivered[f.claim] = s.lastClaim
	}
}

func (s *Scope) seen(at time.Time) {
	if at.After(s.now) {
		s.now = at
	}
}

// Attempt is the number of the running attempt of the task that ctx belongs to; the first is 1.
func Attempt(ctx context.Context) int {
	s, err := From(ctx)
	if err != nil {
		return 1
	}
	return max(s.attempt, 1)
}

// attempt is the number of the attempt that a claim's scope is in.
func (p *pass) attempt(claim int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.history.scopes[claim]; s != nil {
		return max(s.attempt, 1)
	}
	return 1
}

// spent is how many attempts of a claim's scope came before its retry policy began to count.
func (p *pass) spent(claim int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.history.scopes[claim]; s != nil {
		return s.spent
	}
	return 0
}

// retry records that a new attempt of the call begins, and waits as the policy
// says, or until ctx ends. The error is that of the run's stop.
func (p *pass) retry(ctx context.Context, claim int64, attempt int, failure *Failure, wait time.Duration) error {
	spent := p.spent(claim)
	p.mu.Lock()
	records, err := p.history.reopen(p.engine, claim, attempt, spent, failure)
	for _, r := range records {
		p.history.supersede(r)
	}
	p.mu.Unlock()
	if err != nil {
		return p.park(failure.Path, err)
	}
	batch := p.journal.addAll(records, nil)
	if err := p.journal.settle(batch); err != nil {
		return p.lose(err)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.stopped()
}

// supersede opens a new attempt of a scope in the history of this pass, and
// returns the record that says so.
func (p *pass) supersede(scope int64, attempt int, retry []int64, cut int64) record {
	r := record{kind: recordAttempt, claim: scope, attempt: attempt, spent: p.spent(scope), retry: retry, cut: cut}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history.supersede(r)
	return r
}

// keepAll is a cut after which no claim comes.
const keepAll = 1 << 62
