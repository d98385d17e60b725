package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// pass is one time through an entrypoint's body, from its first line.
type pass struct {
	engine   *Engine
	entry    *Entry
	run      storage.Run
	previous []byte
	ctx      context.Context // ends when the run is to stop at once
	history  *history
	journal  *journal
	slots    slots
	// skipBlocked: tasks that can only wait for their open questions again are not entered.
	skipBlocked bool

	// verify: the pass only checks that the code replays; nothing new may come.
	verify bool

	stop   atomic.Pointer[stop]
	cancel context.CancelFunc
	bus    *bus
	armed  atomic.Bool // see writeLater
	asking sync.Mutex  // orders questions and withdrawals

	mu      sync.Mutex // guards the maps of history, and what follows
	waiting []waiting
	due     time.Time   // when the first sleeper wants to wake; zero: none sleeps
	late    *time.Timer // writes a question whose asker doesn't come to rest
}

// stop is why a pass makes no more durable calls. The first one counts.
type stop struct {
	err    error
	status storage.Status // that the run gets; zero: none, it isn't ours to change
	report any            // what is stored of it
}

// waiting is an open question that the pass came to.
type waiting struct {
	order []int
	place string // of the scope that asked
	claim *pastClaim
}

// clock is the time now as records of outcomes have it, also those that other runs share; at is its inverse.
func (p *pass) clock() int64 { return p.engine.now().Sub(p.history.origin).Milliseconds() }

func (p *pass) at(clock int64) time.Time {
	return p.history.origin.Add(time.Duration(max(0, clock)) * time.Millisecond)
}

// stopped returns why the run makes no more durable calls, or nil.
func (p *pass) stopped() error {
	if s := p.stop.Load(); s != nil {
		return s.err
	}
	return nil
}

// halted is stopped for code whose context may have ended: if nothing else is known the engine's own has.
func (p *pass) halted() error {
	if p.ctx.Err() != nil {
		p.drain()
	}
	return p.stopped()
}

// halt stops the pass. Tasks that are under way go on, and are recorded.
func (p *pass) halt(s *stop) error {
	p.stop.CompareAndSwap(nil, s)
	return p.stopped()
}

func (p *pass) error(path string, reason, err error, hint string) error {
	return &Error{Thread: p.run.Thread, Run: p.run.ID, Path: path, Reason: reason, Err: err, Hint: hint}
}

// diverge parks the run because today's code isn't the one that was recorded.
func (p *pass) diverge(d *Divergence) error {
	return p.halt(&stop{
		err:    p.error(d.Path, ErrParked, d, "deploy code that makes the recorded calls and continue the run, or repair it"),
		status: storage.Parked,
		report: &Parked{Reason: "divergence", Path: d.Path, Message: d.Error(), Divergence: d},
	})
}

// park parks the run because a record can't be used.
func (p *pass) park(path string, err error) error {
	return p.halt(&stop{
		err:    p.error(path, ErrParked, err, "deploy code that can read the recorded value and continue the run"),
		status: storage.Parked,
		report: &Parked{Reason: "decode", Path: path, Message: err.Error()},
	})
}

// lose stops the pass because nothing of it can be written any more.
func (p *pass) lose(err error) error {
	reason := storageError("", p.run.Thread, p.run.ID, err)
	if isLost(err) {
		reason = p.error("", ErrLost, nil, "another process goes on with it")
	}
	stopped := p.halt(&stop{err: reason})
	p.cancel()
	return stopped
}

// Parked is what is stored of a run that was parked.
type Parked struct {
	Reason     string      `json:"reason"` // "divergence", "decode", "crash_loop", "unreadable", "refused"
	Path       string      `json:"path,omitempty"`
	Message    string      `json:"message"`
	Divergence *Divergence `json:"divergence,omitempty"`
}

// waitFor notes that the pass waits for the questions of these claims, which lie below order.
func (p *pass) waitFor(order []int, place string, claims ...*pastClaim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, c := range claims {
		at := order
		if len(claims) > 1 {
			at = append(slices.Clip(order), i)
		}
		p.waiting = append(p.waiting, waiting{order: at, place: place, claim: c})
	}
}

// openInCallOrder lists the open questions that the pass came to, each by its Seq.
func (p *pass) openInCallOrder() []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.SortFunc(p.waiting, func(a, b waiting) int { return slices.Compare(a.order, b.order) })
	open := make([]int64, len(p.waiting))
	for i, w := range p.waiting {
		open[i] = w.claim.question.Seq
	}
	return slices.Compact(open)
}

// blocked returns the questions that a call waits for if it can do nothing else; else nil.
func (p *pass) blocked(c *pastClaim) []*pastClaim {
	if !p.skipBlocked {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.history.blocked(c) {
		return nil
	}
	return p.history.openQuestions(c, nil)
}

// remember makes a fresh claim known to later attempts of this pass.
func (p *pass) remember(s *Scope, c *pastClaim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.parent, c.live = p.history.claims[s.id], true
	p.history.claims[c.seq] = c
	if c.key == "" {
		s.past.calls = append(s.past.calls, c)
		return
	}
	if s.past.keyed == nil {
		s.past.keyed = map[string]*pastClaim{}
	}
	s.past.keyed[c.key] = c
}

// questionDelay is how long a new question may wait to be written together
// with the run's pause. Siblings that still run would delay that for long.
const questionDelay = time.Millisecond

// writeSoon makes a new question durable even if its asker doesn't come to rest.
func (p *pass) writeSoon() {
	if p.journal.durability == Exit {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late == nil {
		p.late = time.AfterFunc(questionDelay, p.journal.flush)
	} else {
		p.late.Reset(questionDelay)
	}
}
