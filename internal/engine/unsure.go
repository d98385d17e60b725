package engine

import (
	"context"
	"errors"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// unsure is for a verb that got an error and may nevertheless have made the run
// this process's: its reply may have been lost. If so the run is taken up, since no
// other process will as long as this one lives.
func (e *Engine) unsure(tenant string, run storage.ID, err error) {
	if answered(err) {
		return
	}
	e.mu.Lock()
	if _, known := e.later[run]; !known && !e.closed {
		e.later[run] = overdue{run: storage.Run{ID: run, Tenant: tenant}}
	}
	e.mu.Unlock()
	e.poke()
}

// answered reports whether err is the backend's own no, after which nothing was changed.
func answered(err error) bool {
	for _, no := range []error{
		storage.ErrInvalid, storage.ErrNotFound, storage.ErrBusy, storage.ErrConflict, storage.ErrSettled,
		storage.ErrClosed, storage.ErrReadOnly, storage.ErrFull, storage.ErrUnsupported,
	} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// overdue is a run to take up.
type overdue struct {
	run storage.Run
	// fence: this process wrote to it, and a write may still be under way. Else
	// it only may have been given to this process.
	fence bool
	at    time.Time // not before
}

// trouble is how often a run could not be loaded here, and when to try again.
type trouble struct {
	times int
	until time.Time
}

// longestPause bounds the pauses between attempts to load a run.
const longestPause = time.Minute

// mostLeftAlone bounds what Poll is told to leave alone. An engine that can't read more runs than that takes none for a while.
const mostLeftAlone = 1000

// trouble notes that a run could not be loaded. It reports whether that is worth a line in the log: the first time, and then rarely.
func (e *Engine) trouble(run storage.ID) (telling bool) {
	e.mu.Lock()
	t := e.troubled[run]
	pause := max(e.options.Tick, min(longestPause, e.options.Tick<<min(t.times, 16)))
	t.times++
	t.until = time.Now().Add(pause)
	e.troubled[run] = t
	e.mu.Unlock()
	return t.times%10 == 1
}

// takeUpOne takes a run up, if nobody does. The error says that it is to be tried again.
func (e *Engine) takeUpOne(member storage.ID, o overdue) error {
	row, err := e.backend.Run(e.base, o.run.Tenant, o.run.ID)
	if errors.Is(err, storage.ErrUnopened) {
		if e.running(o.run.ID) == nil {
			e.giveBack(member, &o.run, err)
		}
		return nil
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if row.Status != storage.Running || row.Owner != member {
		return nil // at rest, or others take it up
	}
	if o.fence {
		row, err = e.backend.Acquire(e.base, storage.Acquire{Tenant: row.Tenant, Run: row.ID, Member: member, From: []storage.Status{storage.Running}})
		if errors.Is(err, storage.ErrBusy) || errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	e.adopt(member, row)
	return nil
}

// giveBack leaves a run to processes that can read it, and alone in this one for a while.
func (e *Engine) giveBack(owner storage.ID, run *storage.Run, why error) {
	telling := e.trouble(run.ID)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.base), replyTime)
	defer cancel()
	_, err := e.backend.Acquire(ctx, storage.Acquire{Tenant: run.Tenant, Run: run.ID, Owner: owner, From: []storage.Status{storage.Running}})
	switch {
	case errors.Is(err, storage.ErrBusy) || errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrClosed):
		return // it isn't this process's
	case err != nil && !errors.Is(err, storage.ErrUnopened):
		e.retryLater(*run)
	}
	if telling {
		e.log.Error("run can't be read by this process, and is left to others", "run", run.ID, "thread", run.Thread, "error", why)
	}
}

// leftAlone lists the runs that Poll is not to give this engine, because it can't read them.
func (e *Engine) leftAlone() (runs []storage.ID) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, t := range e.troubled {
		switch {
		case t.until.After(now):
			runs = append(runs, id)
		case now.Sub(t.until) > longestPause: // another process goes on with it
			delete(e.troubled, id)
		}
	}
	return runs
}

// retire gives up the membership that polled without getting a reply: runs that
// it was given then, and that nobody here knows of, are free for all once it
// leaves, which it does when what it executes has come to rest.
func (e *Engine) retire(member storage.ID) {
	fresh, err := e.backend.Join(e.base, e.options.Name)
	if err != nil {
		return // the next poll fails too
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.membership.ID() != member {
		e.retired = append(e.retired, fresh)
		return
	}
	e.retired = append(e.retired, e.membership)
	e.membership = fresh
}

// dismiss lets the retired memberships leave that execute nothing.
func (e *Engine) dismiss(ctx context.Context) {
	e.mu.Lock()
	busy := map[storage.ID]bool{}
	for _, x := range e.live {
		busy[x.member] = true
	}
	var idle, kept []storage.Membership
	for _, m := range e.retired {
		if busy[m.ID()] {
			kept = append(kept, m)
		} else {
			idle = append(idle, m)
		}
	}
	e.retired = kept
	e.mu.Unlock()
	for _, m := range idle {
		if err := m.Leave(ctx); err != nil && !errors.Is(err, storage.ErrClosed) {
			e.mu.Lock()
			e.retired = append(e.retired, m)
			e.mu.Unlock()
		}
	}
}
