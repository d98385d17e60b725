package engine

import (
	"context"
	"errors"

	"github.com/fermata-go/fermata/storage"
)

// hold makes a run that the backend has given to member this process's to
// execute. Several verbs may learn at once of the same ownership, as when two questions of a run are
// answered: the first holds the run, and only then reads its log; the others get the first one's execution.
// The result is nil if the engine has closed, or ctx ended: the run is then taken up later.
func (e *Engine) hold(ctx context.Context, entry *Entry, member storage.ID, run storage.Run, skip bool) (x *execution, mine bool) {
	for {
		e.mu.Lock()
		if e.over {
			e.mu.Unlock()
			return nil, false
		}
		x = e.live[run.ID]
		if x == nil {
			x = &execution{engine: e, entry: entry, member: member, token: run.Token, skip: skip, done: make(chan struct{})}
			e.live[run.ID] = x
			e.mu.Unlock()
			return x, true
		}
		e.mu.Unlock()
		if x.token >= run.Token {
			return x, false
		}
		// One that has given the run up, or lost it, is about to end.
		select {
		case <-x.done:
			e.release(run.ID, x)
		case <-ctx.Done():
			e.retryLater(run)
			return nil, false
		}
	}
}

// release forgets an execution that has ended. Who reads its events need not wait for it any more.
func (e *Engine) release(run storage.ID, x *execution) {
	e.mu.Lock()
	if e.live[run] == x {
		delete(e.live, run)
	}
	e.mu.Unlock()
	e.hub.notify(run)
}

// begin executes a run that is held, as it was loaded since.
func (e *Engine) begin(x *execution, loaded recording) {
	if x.parked == nil {
		e.mu.Lock()
		delete(e.troubled, loaded.Run.ID)
		e.mu.Unlock()
	}
	e.all.Add(1)
	e.crew.start(func() {
		defer e.all.Done()
		x.main(loaded)
		e.release(loaded.Run.ID, x)
		if e.backlog.Load() {
			e.poke() // a slot is free
		}
	})
}

// drop gives up what was held and never begun: because the run rests already, or because of err.
func (e *Engine) drop(x *execution, run storage.Run, err error) {
	x.run = run
	close(x.done)
	e.release(run.ID, x)
	if err == nil {
		return
	}
	if errors.Is(err, storage.ErrUnopened) {
		e.giveBack(x.member, &run, err)
		return
	}
	// What is recorded is kept; the run is taken up again like any that this process could not write to.
	// At once if that is not the same again: the caller gave up, or the run is parked then.
	now := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, storage.ErrCorrupt)
	if !now && e.trouble(run.ID) {
		e.log.Error("run can't be loaded; it is tried again", "run", run.ID, "thread", run.Thread, "error", err)
	}
	e.retryLater(run)
	if now {
		e.poke()
	}
}

// execute goes on with a run that the backend has given to member. It returns the
// execution, which may be another verb's; nil if there is none here.
func (e *Engine) execute(ctx context.Context, entry *Entry, member storage.ID, run storage.Run, skip bool) *execution {
	x, mine := e.hold(ctx, entry, member, run, skip)
	if !mine {
		return x
	}
	var loaded recording
	var err error
	if run.Crashes >= e.options.MaxCrashes {
		// Loading may be what killed them: only its row is read.
		if loaded.Run, err = e.backend.Run(ctx, run.Tenant, run.ID); err == nil {
			x.parked = crashLoop(&run)
		}
	} else {
		loaded, err = e.load(ctx, run.Tenant, run.ID)
	}
	switch {
	case errors.Is(err, storage.ErrCorrupt):
		e.trouble(run.ID) // which counts if it can't be parked either
		report := storageError("load", run.Thread, run.ID, err).Error()
		x.parked, loaded = &Parked{Reason: "unreadable", Message: report}, recording{Loaded: storage.Loaded{Run: run}}
	case err != nil:
		e.drop(x, run, err)
		return nil
	case loaded.Run.Token != run.Token || loaded.Run.Owner != member:
		e.drop(x, loaded.Run, nil) // it has been executed, and given up, meanwhile
		return nil
	}
	e.begin(x, loaded)
	return x
}
