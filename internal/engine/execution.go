package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// execution is a run that this process owns.
type execution struct {
	engine *Engine
	entry  *Entry
	member storage.ID
	token  int64
	pass   atomic.Pointer[pass]
	// cancelled and drain are asked for from outside; the running pass looks at them when it begins.
	cancelled atomic.Pointer[string]
	poked     atomic.Bool     // something came from outside since the pass began
	polled    atomic.Bool     // it counts against Workers
	skip      bool            // see pass.skipBlocked
	base      context.Context // of all passes
	// parked, if not nil, is why the run is to be parked without being replayed.
	parked *Parked

	bus  bus
	done chan struct{} // closed when this process has given the run up
	// What follows is set before done is closed.
	run storage.Run // as it was given up
	err error       // if the run was lost to this process
}

// Input is what an entrypoint's body gets.
type Input struct {
	Data     []byte
	Previous []byte // what the thread's last finished run saved; nil if there is none
	Config   []byte
}

// Output is what an entrypoint's body gives.
type Output struct {
	Result []byte
	Saved  []byte // nil: the same as Result
}

// main runs passes until the run comes to rest.
func (x *execution) main(loaded recording) {
	defer close(x.done)
	ctx, end := x.engine.observeRun(&loaded.Run)
	x.base = ctx
	defer func() {
		end(&x.run, x.err)
		if x.run.Status == storage.Parked {
			var report Parked
			_ = json.Unmarshal(x.run.Error, &report)
			if report.Divergence != nil {
				report.Message = report.Divergence.Outline()
			}
			x.engine.log.Error("run parked", "run", x.run.ID, "thread", x.run.Thread, "entrypoint", x.run.Entrypoint, "reason", report.Reason, "error", report.Message)
		}
	}()
	if x.parked != nil {
		x.parkAfter(loaded.Run, loaded.Run.LastSeq, x.parked)
		return
	}
	for {
		x.poked.Store(false)
		p, err := x.newPass(&loaded)
		again := false
		if err != nil {
			x.refuse(&loaded, err)
		} else {
			again = x.conclude(p, x.body(p))
		}
		if !again {
			return
		}
		if loaded, err = x.engine.load(context.Background(), loaded.Run.Tenant, loaded.Run.ID); err != nil {
			x.lost(p, storageError("load", p.run.Thread, p.run.ID, err))
			return
		}
		if loaded.Run.Token != p.run.Token || loaded.Run.Status != storage.Running {
			x.run = loaded.Run // someone else has it already
			return
		}
	}
}

func (x *execution) newPass(loaded *recording) (*pass, error) {
	h, err := readHistory(loaded)
	if err != nil {
		return nil, storageError("replay", loaded.Run.Thread, loaded.Run.ID, err)
	}
	p := &pass{
		engine: x.engine, entry: x.entry, run: loaded.Run, previous: loaded.Previous, history: h,
		slots: newSlots(x.entry.MaxConcurrency), skipBlocked: x.skip, bus: &x.bus,
	}
	base, err := x.engine.setup(x.base, &p.run)
	if err != nil {
		return nil, err
	}
	p.ctx, p.cancel = context.WithCancel(base)
	p.journal = newJournal(x.engine.backend, x.entry.Durability, &p.run, h)
	p.journal.written = func() { x.engine.hub.notify(p.run.ID) }
	p.journal.observe(x.base, x.engine, &p.run)
	x.pass.Store(p)
	if reason := x.cancelled.Load(); reason != nil || loaded.Run.CancelRequested {
		x.cancel(loaded.Run.CancelReason)
	}
	if x.engine.draining.Load() {
		p.drain()
	}
	if loaded.Run.Crashes >= x.engine.options.MaxCrashes {
		p.halt(&stop{
			err: p.error("", ErrParked, nil, "find out what kills the process, then continue the run"), status: storage.Parked,
			report: crashLoop(&loaded.Run),
		})
	}
	return p, nil
}

// setup makes the context of a run's code.
func (e *Engine) setup(base context.Context, run *storage.Run) (ctx context.Context, err error) {
	ctx = base
	if e.options.Setup == nil {
		return ctx, nil
	}
	err = guard(func() error {
		ctx = e.options.Setup(base, run)
		return nil
	})
	switch {
	case err != nil:
		err = fmt.Errorf("the engine's Setup panicked: %w", err)
	case ctx == nil:
		err = errors.New("the engine's Setup returned no context")
	}
	return ctx, err
}

// refuse parks a run whose log can't be read. The log is left as it is.
func (x *execution) refuse(loaded *recording, err error) {
	x.parkAfter(loaded.Run, loaded.Run.LastSeq, &Parked{Reason: "unreadable", Message: err.Error()})
}

func crashLoop(run *storage.Run) *Parked {
	return &Parked{
		Reason:  "crash_loop",
		Message: fmt.Sprintf("it was running in %d processes in a row that died before it made progress; it, or another run beside it, may be the cause", run.Crashes),
	}
}

// parkAfter parks a run without a look at its log, which ends with record last.
func (x *execution) parkAfter(run storage.Run, last int64, report *Parked) (again bool) {
	p := &pass{engine: x.engine, entry: x.entry, run: run, cancel: func() {}}
	p.journal = newJournal(x.engine.backend, Sync, &p.run, &history{last: last})
	return x.give(p, storage.Parked, nil, report)
}

// cancel stops the running pass, and those to come, because somebody asked for it.
func (x *execution) cancel(reason string) {
	x.cancelled.CompareAndSwap(nil, &reason)
	if p := x.pass.Load(); p != nil {
		p.halt(&stop{
			err:    p.error("", ErrCancelled, nil, ""),
			status: storage.Cancelled,
			report: &Cancellation{Reason: reason},
		})
		p.cancel()
	}
}

// Cancellation is what is stored of a run that was cancelled.
type Cancellation struct {
	Reason string `json:"reason,omitempty"`
}

// drain lets no new call start.
func (p *pass) drain() {
	p.halt(&stop{err: p.error("", ErrDraining, nil, "another process, or the next one, goes on with the run"), status: storage.Queued})
}

// ending is how a body came to its end.
type ending struct {
	out     Output
	scope   *Scope
	failure *Failure
	err     error // what failure describes
}

// body runs the entrypoint's function once, and waits for all that it started.
func (x *execution) body(p *pass) ending {
	root := p.newScope(opener{path: p.entry.Name, now: p.history.origin}, nil, p.entry.Policy.retries())
	var e ending
	e.scope = root
	p.checkAnswers()
	if p.stopped() != nil {
		root.refused = true
		return e
	}
	finished := make(chan struct{})
	x.engine.crew.start(func() {
		returned := false
		defer func() {
			if !returned { // the function ended its goroutine, and this code with it
				e.err = &panicked{value: errVanished}
				root.rest(e.err)
				e.failure = root.newFailure(p.entry.Name, root.attempt, e.err)
			}
			close(finished)
		}()
		root.attempt = p.attempt(0)
		err := p.entry.Policy.limit(p.ctx, p.entry.Name, func(ctx context.Context) error {
			err := guard(func() (err error) {
				e.out, err = p.entry.Do(root.own(ctx), Input{Data: p.run.Input, Previous: p.previous, Config: p.run.Config})
				return err
			})
			if err == nil && !root.suspended && !root.refused {
				p.announce(root, e.out)
			}
			root.rest(err)
			return err
		})
		if err != nil && !root.suspended {
			e.err = err
			e.failure = root.newFailure(p.entry.Name, root.attempt, err)
		}
		returned = true
	})
	<-finished
	return e
}

// announce records what the body returned if tasks that nobody awaits still
// run: readers of the run's events see it before what these tasks do.
func (p *pass) announce(root *Scope, out Output) {
	if p.history.body != nil || root.end(nil) != nil {
		return
	}
	for _, f := range root.running {
		select {
		case <-f.done:
		default:
			p.journal.add(record{kind: recordReturn, data: out.Result})
			if p.journal.durability != Exit {
				p.journal.flush()
			}
			return
		}
	}
}

// conclude records how the pass ended. It reports whether the run is still
// this process's, and there is news for it.
func (x *execution) conclude(p *pass, e ending) (again bool) {
	defer p.cancel()
	p.mu.Lock()
	if p.late != nil {
		p.late.Stop()
	}
	p.mu.Unlock()
	if e.failure != nil && p.ctx.Err() != nil {
		_ = p.halted() // what the engine's own cancellation brought about is no failure of the run
		e.scope.refused = true
	}
	root, s := e.scope, p.stop.Load()
	if s == nil && x.engine.options.VerifyReplay && root.late == nil { // else the next attempt makes the call that has no outcome
		if s = x.verify(p, e); s == nil {
			s = p.stop.Load()
		}
	}
	switch {
	case s != nil && s.status == 0: // lost
		return x.lost(p, s.err)
	case s != nil && (s.status == storage.Parked || s.status == storage.Failed):
		return x.give(p, s.status, nil, s.report)
	case s != nil && s.status == storage.Cancelled && (root.refused || root.suspended || e.failure != nil):
		return x.give(p, s.status, nil, s.report)
	case s != nil && s.status == storage.Queued && root.refused:
		return x.give(p, s.status, nil, nil)
	case root.suspended:
		return x.pause(p)
	case e.failure != nil:
		wait, again, fault := p.entry.Policy.again(e.err, root.attempt-p.spent(0))
		if again {
			return x.reattempt(p, e, wait)
		}
		if fault != nil {
			e.failure = root.newFailure(p.entry.Name, root.attempt, fault)
		}
		return x.give(p, storage.Failed, nil, e.failure)
	}
	return x.give(p, storage.Finished, &e.out, nil)
}

// reattempt begins the body anew, as the entrypoint's policy says.
func (x *execution) reattempt(p *pass, e ending, wait time.Duration) (again bool) {
	err := p.retry(p.ctx, 0, e.scope.attempt+1, e.failure, wait)
	if _, fault := p.journal.end(nil, nil); fault != nil {
		return x.lost(p, p.lose(fault))
	}
	switch s := p.stop.Load(); {
	case err == nil:
		return true
	case s.status == storage.Queued || s.status == storage.Cancelled:
		return x.give(p, s.status, nil, s.report)
	}
	return x.lost(p, err)
}

// pause gives the run up until somebody answers.
func (x *execution) pause(p *pass) (again bool) {
	if x.poked.Load() {
		run, err := x.engine.backend.Run(context.Background(), p.run.Tenant, p.run.ID)
		if err == nil && run.Inbox > p.run.Inbox {
			// An answer came while the pass ran: pausing would be undone at once.
			if _, err := p.journal.end(nil, nil); err != nil {
				return x.lost(p, p.lose(err))
			}
			x.skip = true
			return true
		}
	}
	if next := p.remind(); !next.IsZero() && (p.due.IsZero() || next.Before(p.due)) {
		p.due = next
	}
	last := &record{kind: recordPause, open: p.openInCallOrder()}
	status := storage.Interrupted
	if len(last.open) == 0 { // it only sleeps
		last, status = &record{kind: recordEnd, status: storage.Queued}, storage.Queued
	}
	return x.end(p, last, func(u *storage.Unit) { u.Status, u.SeenInbox, u.Due = status, p.run.Inbox, p.due })
}

// give ends the run, or puts it back for another process.
func (x *execution) give(p *pass, status storage.Status, out *Output, report any) (again bool) {
	var text []byte
	if report != nil {
		var err error
		if text, err = json.Marshal(report); err != nil {
			text, _ = json.Marshal(&Parked{Message: err.Error()})
		}
	}
	return x.end(p, &record{kind: recordEnd, status: status}, func(u *storage.Unit) {
		u.Status, u.Error, u.SeenInbox = status, text, p.run.Inbox
		if status == storage.Queued || p.history == nil {
			u.SeenInbox = 1 << 62 // news is for the next owner
		}
		if out != nil {
			u.Result, u.Saved = out.Result, out.Saved
		}
	})
}

// end commits the last unit of the pass.
//
// Crash window: before the commit the run is a dead owner's and another process
// replays it up to here; after it the run rests, and nobody needs this process.
func (x *execution) end(p *pass, last *record, finish func(*storage.Unit)) (again bool) {
	var unit storage.Unit
	committed, err := p.journal.end(last, func(u *storage.Unit) {
		finish(u)
		unit = *u
	})
	if err != nil {
		return x.lost(p, p.lose(err))
	}
	if committed.Kept {
		x.skip = true
		return true
	}
	x.run = p.run
	x.run.Status, x.run.Result, x.run.Saved, x.run.Error = unit.Status, unit.Result, unit.Saved, unit.Error
	x.run.LastSeq, x.run.Updated, x.run.Owner = unit.First+int64(len(unit.Records))-1, committed.At, storage.ID{}
	return false
}

// lost gives a run up that this process can't write to any more. If it is what the run would write that the backend
// refuses, another pass would come to the same: the run is parked.
func (x *execution) lost(p *pass, err error) (again bool) {
	if refusal := p.journal.fault(); errors.Is(refusal, storage.ErrInvalid) && p.history != nil {
		x.engine.log.Error("what a run recorded was refused", "run", p.run.ID, "thread", p.run.Thread, "error", refusal)
		return x.parkAfter(p.run, p.journal.sent, &Parked{Reason: "refused", Message: refusal.Error()})
	}
	x.run, x.err = p.run, err
	if !errors.Is(err, ErrLost) {
		x.engine.retryLater(p.run)
	}
	return false
}

func isLost(err error) bool {
	return errors.Is(err, storage.ErrStale) || errors.Is(err, storage.ErrNotFound)
}
