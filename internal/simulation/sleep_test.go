package simulation

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata"
)

const (
	nap  = 40 * time.Minute
	naps = 2
	// lateness is how much later than it said a sleeper may wake: others have to notice that its process died.
	lateness = 5 * time.Minute
)

// sleeper is a workflow that sleeps between its steps.
func sleeper(z *solo) *fermata.Entrypoint[int, int] {
	step := fermata.NewTask("step", z.effect)
	return fermata.NewEntrypoint(entrypoint, func(ctx context.Context, in int) (int, error) {
		sum := 0
		for i := range naps + 1 {
			n, err := step.Call(ctx, in+i)
			if err != nil {
				return 0, err
			}
			if sum += n; i == naps {
				break
			}
			if err := fermata.Sleep(ctx, nap); err != nil {
				return 0, err
			}
		}
		return sum, nil
	})
}

// A sleeper wakes when it said it would, whichever step its process dies at: neither is time that
// it has slept forgotten, nor does it rise early.
func TestSleepOverCrashes(t *testing.T) {
	atEveryStep(t, func(d *scheduler) error {
		z := newSolo(d, sleeper)
		began := time.Now()
		err := d.world(func() error {
			value, err := z.play(nil)
			if want := 1 + 2 + 3; err == nil && value != want {
				err = fmt.Errorf("result %d, want %d", value, want)
			}
			return z.end(err)
		})
		slept := time.Since(began)
		switch {
		case err != nil:
			return err
		case slept < naps*nap || slept > naps*nap+lateness:
			return fmt.Errorf("the run took %s, and sleeps for %s", slept, naps*nap)
		case len(z.effects) < naps+1 || len(z.effects) > naps+1+d.faults():
			return fmt.Errorf("%d effects in a run of %d steps", len(z.effects), naps+1)
		}
		return nil
	})
}

// atEveryStep plays a case again and again, until each of its steps has met every fate.
func atEveryStep(t *testing.T, tell func(*scheduler) error) {
	t.Helper()
	for _, fate := range fates {
		at := 0
		for over := false; !over; at++ {
			synctest.Test(t, func(t *testing.T) {
				d := newScheduler(nil, map[int]verdict{at: fate})
				if err := tell(d); err != nil {
					t.Fatalf("%s at step %d: %v\nsteps:\n%s", fate, at, err, d.tail(1<<20))
				}
				over = d.count <= at
			})
		}
		t.Logf("%s: at each of %d steps", fate, at-1)
	}
}
