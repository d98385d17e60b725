package simulation

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// sleeper is a run that sleeps between its steps, over the deaths of its processes.
type sleeper struct {
	director *scheduler
	data     *memory.Backend
	process  *process
	graph    *fermata.Entrypoint[int, int]
	task     *fermata.Task[int, int]
	lives    int
	effects  []time.Time // of all lives
}

const (
	nap  = 40 * time.Minute
	naps = 2
	// lateness is how much later than it said a sleeper may wake: others have to notice that its process died.
	lateness = 5 * time.Minute
)

func (z *sleeper) body(ctx context.Context, in int) (int, error) {
	sum := 0
	for i := range naps + 1 {
		n, err := z.task.Call(ctx, in+i)
		if err != nil {
			return 0, err
		}
		sum += n
		if i == naps {
			break
		}
		if err := fermata.Sleep(ctx, nap); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

func (z *sleeper) effect(ctx context.Context, n int) (int, error) {
	p := z.process
	v := z.director.decide(ctx, step{process: p, name: fmt.Sprint("effect ", n), effect: true})
	switch v {
	case dead, crashBefore:
		p.die()
		return 0, incarnation.ErrDead
	case late:
		return 0, context.Cause(ctx)
	}
	z.effects = append(z.effects, time.Now())
	if v == crashAfter {
		p.die()
	}
	return n, nil
}

// live lets processes come, until one has the result.
func (z *sleeper) live() (int, error) {
	run := storage.NewID(time.Now())
	for z.lives < 20 {
		z.lives++
		p, err := boot(z.lives, z.director, incarnation.New(z.data, false), fermata.Options{Tick: 30 * time.Second}, func(self *process) []fermata.Definition {
			z.process, z.task = self, fermata.NewTask("step", z.effect)
			z.graph = fermata.NewEntrypoint(entrypoint, z.body)
			return []fermata.Definition{z.graph}
		})
		if err != nil {
			if !transient(err) {
				return 0, err
			}
			continue
		}
		for !p.died() {
			ctx, cancel := context.WithTimeout(p.ctx, 24*time.Hour)
			handle, err := z.graph.On(p.engine).Thread("1").Start(ctx, 1, fermata.WithRunID(run))
			value := 0
			if err == nil {
				value, err = handle.Result(ctx)
			}
			cancel()
			if err == nil || !transient(err) {
				return value, errors.Join(err, p.bury())
			}
		}
		if err := p.bury(); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("no process stays up")
}

// A sleeper wakes when it said it would, whichever step its process dies at: neither is time that
// it has slept forgotten, nor does it rise early.
func TestSleepOverCrashes(t *testing.T) {
	for _, fate := range fates {
		at := 0
		for over := false; !over; at++ {
			synctest.Test(t, func(t *testing.T) {
				d := newScheduler(nil, map[int]verdict{at: fate})
				z := &sleeper{director: d, data: memory.New(nil)}
				began := time.Now()
				err := d.world(func() error {
					value, err := z.live()
					if want := 1 + 2 + 3; err == nil && value != want {
						err = fmt.Errorf("result %d, want %d", value, want)
					}
					return errors.Join(err, z.data.Close())
				})
				slept := time.Since(began)
				switch {
				case err != nil:
				case slept < naps*nap || slept > naps*nap+lateness:
					err = fmt.Errorf("the run took %s, and sleeps for %s", slept, naps*nap)
				case len(z.effects) < naps+1 || len(z.effects) > naps+1+d.faults():
					err = fmt.Errorf("%d effects in a run of %d steps", len(z.effects), naps+1)
				}
				if err != nil {
					t.Fatalf("%s at step %d: %v\nsteps:\n%s", fate, at, err, d.tail(1<<20))
				}
				over = d.count <= at
			})
		}
		t.Logf("%s: at each of %d steps", fate, at-1)
	}
}
