package simulation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage"
	"pgregory.net/rapid"
)

// day is a case: what each citizen does, one after the other.
type day struct {
	Deeds    [][]byte
	Threads  int
	Schedule schedule
}

func (d *day) String() string {
	return fmt.Sprintf("%d threads, deeds %v\nfaults %v, picks %v", d.Threads, d.Deeds, d.Schedule.Faults, d.Schedule.Picks)
}

func days() *rapid.Generator[*day] {
	return rapid.Custom(func(t *rapid.T) *day {
		return &day{
			Deeds:    rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 12), 1, 3).Draw(t, "deeds"),
			Threads:  rapid.IntRange(1, 3).Draw(t, "threads"),
			Schedule: schedules(4, 150).Draw(t, "schedule"),
		}
	})
}

// refusals are the errors that a verb may give to somebody who knows nothing of the others.
var refusals = []error{
	fermata.ErrThreadBusy, fermata.ErrQuestionOpen, fermata.ErrNoQuestion, fermata.ErrAmbiguous, fermata.ErrStaleRevision,
	fermata.ErrUnknownThread, fermata.ErrAlreadyAnswered, fermata.ErrWithdrawn, fermata.ErrSuperseded, fermata.ErrRunEnded,
	fermata.ErrNothingToRetry, fermata.ErrCancelled, fermata.ErrPaused, context.DeadlineExceeded,
}

func expected(err error) bool {
	if err == nil || transient(err) {
		return true
	}
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return true
		}
	}
	var failed *fermata.RunError
	return errors.As(err, &failed)
}

// live does a citizen's deeds, in as many processes as it takes.
func (c *city) live(number, threads int, deeds []byte) error {
	var z *citizen
	for life := 0; ; life++ {
		if life > 50 {
			return errors.New("no process stays up")
		}
		var err error
		if z, err = c.born(10*number + life); err != nil {
			if !transient(err) {
				return fmt.Errorf("new engine: %w", err)
			}
			continue
		}
		for len(deeds) > 0 && !z.died() {
			err := z.do(threads, deeds[0])
			deeds = deeds[1:]
			if !expected(err) && !z.died() {
				return errors.Join(fmt.Errorf("deed %d: %w", deeds, err), z.bury())
			}
		}
		if err := z.bury(); err != nil || len(deeds) == 0 {
			return err
		}
	}
}

// do does one deed.
func (z *citizen) do(threads int, deed byte) error {
	ctx, cancel := context.WithTimeout(z.ctx, 3*time.Second)
	defer cancel()
	id := fmt.Sprint(int(deed/16) % threads)
	thread := z.graph.On(z.engine).Thread(id)
	switch deed % 16 {
	case 0, 1:
		return z.start(ctx, thread, int(deed))
	case 2:
		return z.start(ctx, thread, int(deed), fermata.Supersede())
	case 3:
		return z.start(ctx, thread, int(deed), fermata.Enqueue())
	case 4, 5, 6, 7:
		page, err := z.engine.Questions(ctx, fermata.QuestionFilter{States: []fermata.QuestionState{fermata.QuestionOpen}}, fermata.Page{})
		if err != nil || len(page.Questions) == 0 {
			return err
		}
		return z.answer(page.Questions[int(deed/16)%len(page.Questions)].ID)
	case 8, 9:
		state, err := thread.State(ctx)
		if err != nil || len(state.Questions) == 0 {
			return err
		}
		value := z.city.number()
		q := state.Questions[0].ID
		z.city.mu.Lock()
		z.city.tried[q] = append(z.city.tried[q], value)
		z.city.mu.Unlock()
		_, err = thread.Resume(ctx, value)
		return err
	case 10, 11:
		_, err := thread.Continue(ctx)
		return err
	case 12, 14:
		_, err := thread.Cancel(ctx, "somebody wants it so")
		if deed%16 == 14 {
			z.die()
		}
		return err
	case 13:
		state, err := thread.State(ctx)
		if err != nil || len(state.Questions) == 0 {
			return err
		}
		return z.engine.Withdraw(ctx, state.Questions[0].ID, fermata.Principal{Kind: "person"})
	}
	<-ctx.Done() // let time pass
	return nil
}

func (z *citizen) start(ctx context.Context, thread *fermata.Thread[int, int], input int, options ...fermata.StartOption) error {
	run := storage.NewID(time.Now())
	z.city.mu.Lock()
	z.city.started[run] = start{thread.ID(), input}
	z.city.mu.Unlock()
	_, err := thread.Start(ctx, input, append(options, fermata.WithRunID(run))...)
	return err
}

// settle lets one process see to it that every run comes to its end.
func (c *city) settle() error {
	z, err := c.born(1000)
	for range 50 {
		if err == nil || !transient(err) {
			break
		}
		z, err = c.born(1001)
	}
	if err != nil {
		return err
	}
	for range 50 {
		open, err := z.round()
		if err != nil {
			return errors.Join(err, z.bury())
		}
		if !open {
			return z.bury()
		}
		if z.died() {
			return errors.New("the last process died")
		}
	}
	return errors.Join(errors.New("runs that never end"), z.bury())
}

// round answers what is asked, and waits for what runs. It reports whether any run was active.
func (z *citizen) round() (active bool, err error) {
	runs, err := z.city.data.ListRuns(context.Background(), storage.RunFilter{Limit: 1 << 20})
	if err != nil {
		return false, err
	}
	for _, r := range runs {
		if !r.Status.Active() {
			continue
		}
		active = true
		ctx, cancel := context.WithTimeout(z.ctx, patience)
		defer cancel()
		s := z.city.started[r.ID]
		run, err := z.graph.On(z.engine).Thread(s.thread).Start(ctx, s.input, fermata.WithRunID(r.ID))
		if err == nil {
			_, err = run.Result(ctx)
		}
		var paused *fermata.PausedError
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return true, fmt.Errorf("run %s, which is %s, does not come to rest", r.ID, r.Status)
		case errors.As(err, &paused):
			for _, q := range paused.Questions {
				if err := z.answer(q.ID); !expected(err) {
					return true, err
				}
			}
		case !expected(err):
			return true, err
		}
	}
	return active, nil
}

// tally is how much happened in all days.
type tally struct{ started, finished, superseded, asked, answered, faults int }

// add counts what happened in a city.
func (n *tally) add(c *city) {
	n.started += len(c.started)
	for _, end := range c.ended {
		switch end.status {
		case storage.Finished:
			n.finished++
		case storage.Superseded:
			n.superseded++
		}
	}
	n.asked += len(c.tried)
	n.answered += len(c.won)
	n.faults += c.director.faults()
}

// tell lives a day in the bubble that it is called in.
func (d *day) tell(c *city) error {
	s := c.director
	return s.world(func() error {
		var all sync.WaitGroup
		errs := make([]error, len(d.Deeds)+1)
		for i, deeds := range d.Deeds {
			all.Go(func() { errs[i] = c.live(i, d.Threads, deeds) })
		}
		all.Wait()
		s.mend()
		errs[len(d.Deeds)] = c.settle()
		return errors.Join(append(errs, c.audit(), c.data.Close())...)
	})
}

// Several engines serve several threads, and people do to them what they like:
// a thread has one active run, a question one winner, only a run's owner has effects, and every run comes to an end.
func TestThreads(t *testing.T) {
	var seen tally
	check(t, 600, func(t *rapid.T) {
		d := days().Draw(t, "day")
		rapid.SyncTest(t, func(t *rapid.T) {
			s := newScheduler(d.Schedule.Picks, d.Schedule.Faults)
			c := newCity(s)
			if err := d.tell(c); err != nil {
				t.Fatalf("%v\n%s\nsteps:\n%s", err, d, s.tail(1<<20))
			}
			seen.add(c)
		})
	})
	t.Logf("what happened: %+v", seen)
}
