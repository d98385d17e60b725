package engine

import (
	"bytes"
	"context"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

// verify replays the pass that has just ended against its own record. If the
// code doesn't do the same again, it returns why the run is to be parked.
func (x *execution) verify(done *pass, e ending) *stop {
	if _, err := done.journal.end(nil, nil); err != nil {
		done.lose(err)
		return nil
	}
	loaded, err := x.engine.load(context.Background(), done.run.Tenant, done.run.ID)
	if err != nil {
		done.lose(err)
		return nil
	}
	h, err := readHistory(&loaded)
	if err != nil {
		done.lose(err)
		return nil
	}
	for _, w := range done.waiting {
		// An answer that came since is no fact of the pass.
		if c := h.claims[w.claim.question.Seq]; c != nil && c.question != nil {
			c.question.State = storage.Open
		}
	}
	p := &pass{
		engine: x.engine, entry: x.entry, run: done.run, previous: done.previous, history: h, verify: true, bus: &bus{},
		slots: newSlots(x.entry.MaxConcurrency), skipBlocked: done.skipBlocked, // what was not entered can't have done something else
	}
	base, err := x.engine.setup(x.base, &p.run)
	if err != nil {
		done.lose(err)
		return nil
	}
	p.ctx, p.cancel = context.WithCancel(base)
	p.journal = newJournal(x.engine.backend, Exit, &p.run, h)
	p.journal.dry = true
	defer p.cancel()
	again := x.body(p)
	if s := p.stop.Load(); s != nil {
		return s
	}
	differs := ""
	switch {
	case again.scope.suspended != e.scope.suspended:
		differs = "one pass of the code waited for an answer, the other did not"
	case e.scope.suspended:
	case (again.failure == nil) != (e.failure == nil):
		differs = "one pass of the code failed, the other did not"
	case e.failure == nil && !bytes.Equal(again.out.Result, e.out.Result):
		differs = "the code returned another result on its second pass"
	}
	if differs == "" {
		return nil
	}
	return &stop{
		err:    p.error(p.entry.Name, ErrParked, fmt.Errorf("%s", differs), "move what is random, or depends on the time or the surroundings, into a task"),
		status: storage.Parked,
		report: &Parked{Reason: "verify", Path: p.entry.Name, Message: differs},
	}
}
