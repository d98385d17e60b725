package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// scheduler is a director that holds every step, and lets one go at a time when
// everything stands still. Which one is told by picks, and so a case repeats itself.
type scheduler struct {
	picks []byte          // the n-th tells which of the waiting steps goes next; when they run out, the first by name
	fates map[int]verdict // by number of the step

	mu      sync.Mutex
	waiting []*held
	count   int // of steps that went
	harm    int // of those, the ones with a fate
	limit   int // of steps: a world that makes more runs in circles
	log     []entry
	stopped bool
	arrived chan struct{}
	// after, if not nil, is called when everything stands still after a step; an error ends the world.
	after func() error
}

type held struct {
	step
	verdict chan verdict
	gone    bool
}

func newScheduler(picks []byte, fates map[int]verdict) *scheduler {
	return &scheduler{picks: picks, fates: fates, limit: 20_000, arrived: make(chan struct{}, 1)}
}

func (s *scheduler) decide(ctx context.Context, what step) verdict {
	h := &held{step: what, verdict: make(chan verdict, 1)}
	s.mu.Lock()
	if s.stopped || what.process.died() {
		s.mu.Unlock()
		return dead
	}
	s.waiting = append(s.waiting, h)
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	select {
	case v := <-h.verdict:
		return v
	case <-what.process.dead:
		return dead
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		h.gone = true
		return late
	}
}

func (s *scheduler) faults() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.harm
}

// run lets steps go until done is closed. It belongs to the bubble's first goroutine.
func (s *scheduler) run(done <-chan struct{}) error {
	for {
		synctest.Wait()
		select {
		case <-done:
			return nil
		default:
		}
		if s.after != nil {
			if err := s.after(); err != nil {
				return err
			}
		}
		switch h := s.next(); {
		case h != nil:
			if s.count > s.limit {
				return fmt.Errorf("%d steps and no end; the last of them:\n%s", s.count, s.tail(40))
			}
		default:
			// Nothing wants to do anything: let time pass.
			select {
			case <-s.arrived:
			case <-done:
				return nil
			case <-time.After(time.Hour):
				return errors.New("nothing happens any more")
			}
		}
	}
}

// world runs people against the scheduler, in the bubble that it is called in.
func (s *scheduler) world(people func() error) error {
	done := make(chan struct{})
	var result error
	go func() {
		defer close(done)
		result = people()
	}()
	if err := s.run(done); err != nil {
		s.stop()
		select {
		case <-done:
		case <-time.After(time.Hour):
			// A bubble with a deadlock can't be wound up: end the test binary, with all its goroutines.
			panic(fmt.Sprintf("simulation: a process doesn't end: %v\nsteps:\n%s", err, s.tail(200)))
		}
		return err
	}
	return result
}

// mend ends all faults.
func (s *scheduler) mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fates = nil
}

// next lets one step go and returns it; nil: none waits.
func (s *scheduler) next() *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(h *held) bool { return h.gone || h.process.died() })
	if len(s.waiting) == 0 {
		return nil
	}
	slices.SortStableFunc(s.waiting, func(a, b *held) int {
		if a.process != b.process {
			return a.process.number - b.process.number
		}
		return strings.Compare(a.name, b.name)
	})
	i := 0
	if s.count < len(s.picks) {
		i = int(s.picks[s.count]) % len(s.waiting)
	}
	h := s.waiting[i]
	s.waiting = slices.Delete(s.waiting, i, i+1)
	v := s.fates[s.count]
	if h.effect && (v == refuse || v == loseReply) {
		v = proceed
	}
	s.note(fmt.Sprintf("process %d: %s", h.process.number, h.name), v)
	s.count++
	if v != proceed {
		s.harm++
	}
	h.verdict <- v
	return h
}

// note enters a step in the log for people. Repetitions are only counted.
func (s *scheduler) note(what string, v verdict) {
	if v != proceed {
		what += "  ← " + v.String()
	}
	if n := len(s.log); n > 0 && s.log[n-1].what == what {
		s.log[n-1].times++
		return
	}
	s.log = append(s.log, entry{s.count, what, 1})
}

// entry is a line of the log.
type entry struct {
	number int
	what   string
	times  int
}

// stop ends the world: every process dies.
func (s *scheduler) stop() {
	s.mu.Lock()
	s.stopped = true
	waiting := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, h := range waiting {
		h.verdict <- dead
	}
}

// tail returns the last n steps, for people.
func (s *scheduler) tail(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, e := range s.log[max(0, len(s.log)-n):] {
		fmt.Fprintf(&b, "%4d %s", e.number, e.what)
		if e.times > 1 {
			fmt.Fprintf(&b, " ×%d", e.times)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// counter is a director for tests outside of a bubble: steps go at once, and
// the one with the given number meets its fate.
type counter struct {
	mu    sync.Mutex
	count int
	at    int
	fate  verdict
	name  string // of the step that met it; "" if there were not so many
}

func (c *counter) decide(_ context.Context, s step) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.process.died() {
		return dead
	}
	if s.effect {
		return proceed
	}
	c.count++
	if c.count != c.at {
		return proceed
	}
	c.name = s.name
	return c.fate
}

func (c *counter) faults() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.name == "" {
		return 0
	}
	return 1
}
