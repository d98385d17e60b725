package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/fermata-go/fermata/storage"
)

// First waits for the first of several calls of the scope of ctx to end, in
// success or failure, and records which: every replay gets the same. The others are withdrawn: their contexts
// end, their questions are withdrawn, and they have no further effect. If those that have no
// outcome all wait for people, the scope is suspended.
func First(ctx context.Context, futures []*Future) (int, error) {
	s, err := From(ctx)
	if err != nil {
		return 0, err
	}
	for _, f := range futures {
		if f == nil || f.scope != s {
			return 0, s.error(ErrConcurrentScope, "a future belongs to the scope that made the call")
		}
	}
	if len(futures) == 0 {
		return 0, s.error(ErrInvalid, "First needs at least one future")
	}
	input := make([]byte, 0, 4*len(futures))
	for _, f := range futures {
		input = append(strconv.AppendInt(input, f.claim.seq, 10), ' ')
	}
	past, _, err := s.claim(call{kind: KindValue, name: "first", input: input})
	if err != nil {
		return 0, err
	}
	if past.done {
		winner, err := strconv.Atoi(string(past.data))
		if err != nil || winner >= len(futures) {
			return 0, s.Reject(fmt.Errorf("%w: winner %.20q of %d", storage.ErrCorrupt, past.data, len(futures)))
		}
		return winner, nil
	}
	winner, err := s.race(futures)
	if err != nil {
		return 0, err
	}
	if err := s.withdrawLosers(past, futures, winner); err != nil {
		return 0, err
	}
	s.news()
	return winner, nil
}

// race waits until one of the futures has an outcome.
func (s *Scope) race(futures []*Future) (int, error) {
	for {
		var running []reflect.SelectCase
		for i, f := range futures {
			switch {
			case f.lost != nil:
				return i, nil
			case !f.rests():
				running = append(running, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(f.done)})
			case f.err != nil:
				s.refused = true
				return 0, f.err
			case f.late != nil:
				s.late = f.late
				return 0, f.late
			case !f.suspended:
				return i, nil
			}
		}
		if len(running) == 0 {
			return 0, s.suspend()
		}
		s.wait(func() { reflect.Select(running) })
	}
}

// rests reports whether the call has come to its outcome, its suspension, or the stop of the run.
func (f *Future) rests() bool {
	if f.done == nil {
		return true
	}
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

var errLoser = errors.New("withdrawn: another call was first")

// withdrawLosers records the winner, and the others as withdrawn, in one unit.
func (s *Scope) withdrawLosers(past *pastClaim, futures []*Future, winner int) error {
	p := s.pass
	records := []record{{kind: recordOutcome, claim: past.seq, data: strconv.AppendInt(nil, int64(winner), 10), at: p.clock()}}
	var closing []storage.ID
	for i, f := range futures {
		if i == winner || !f.withdraw() {
			continue
		}
		closing = append(closing, p.takeQuestions(f)...)
		failure := &Failure{Task: f.claim.name, Path: f.opener.path, Message: errLoser.Error(), Attempts: 1, Lost: true, Codes: []string{"fermata.withdrawn"}}
		r := record{kind: recordOutcome, claim: f.claim.seq, failed: true, data: failure.encode(), at: p.clock()}
		records = append(records, r)
		var err error
		if f.lost, err = p.engine.decodeFailure(r.data, f.claim.seq); err != nil {
			return err
		}
		f.finish(r)
	}
	if len(closing) > 0 {
		// What is to be closed must be open first.
		if err := p.journal.write(p.journal.current()); err != nil {
			return p.lose(err)
		}
	}
	past.done, past.data = true, records[0].data
	if err := p.journal.settle(p.journal.addAll(records, closing)); err != nil {
		return p.lose(err)
	}
	return nil
}

// withdraw takes the right to an outcome from a call that has none yet. It reports whether it did.
func (f *Future) withdraw() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recording || f.done == nil && !f.suspended {
		return false
	}
	p := f.scope.pass
	p.asking.Lock()
	f.withdrawn.Store(true)
	p.asking.Unlock()
	if f.cancel != nil {
		f.cancel(errLoser)
	}
	return true
}

// takeQuestions forgets the open questions of a call that lost, and returns their ids: those that this pass came to,
// and those that an earlier one asked, which this one might have come to yet.
func (p *pass) takeQuestions(f *Future) []storage.ID {
	p.asking.Lock()
	defer p.asking.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	var taken []storage.ID
	place := f.opener.place
	p.waiting = slices.DeleteFunc(p.waiting, func(w waiting) bool {
		below := w.place == place || strings.HasPrefix(w.place, place+"/")
		if below {
			taken = append(taken, w.claim.question.ID)
		}
		return below
	})
	for _, c := range p.history.claims {
		// The call may be under way yet: what of its claims is done may change right now, whose they are does not.
		if c.call == KindQuestion && c.open() && c.below(f.claim) && !slices.Contains(taken, c.question.ID) {
			taken = append(taken, c.question.ID)
		}
	}
	slices.SortFunc(taken, storage.ID.Compare)
	return taken
}

// below reports whether the claim was made by the function of the outer one, or below it.
func (c *pastClaim) below(outer *pastClaim) bool {
	for c != nil && c != outer {
		c = c.parent
	}
	return c != nil
}
