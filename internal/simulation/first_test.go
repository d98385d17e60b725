package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fermata-go/fermata"
)

// race is a workflow that lets calls run against each other, twice: effects against questions, then questions alone.
// What comes after a race depends on who won it.
func race(z *solo) *fermata.Entrypoint[int, int] {
	return fermata.NewEntrypoint(entrypoint, laps(z, false))
}

// raceAgain is race in a task whose first attempts fail after a race each.
func raceAgain(z *solo) *fermata.Entrypoint[int, int] {
	retried := fermata.NewTask("retried", laps(z, true), fermata.Retry(fermata.RetryPolicy{NoJitter: true}))
	return fermata.NewEntrypoint(entrypoint, func(ctx context.Context, n int) (int, error) { return retried.Call(ctx, n) })
}

func laps(z *solo, again bool) func(context.Context, int) (int, error) {
	plain := fermata.NewTask("plain", z.effect)
	asks := fermata.NewTask("asks", func(ctx context.Context, payload int) (int, error) {
		return fermata.Interrupt[int](ctx, payload)
	})
	both := fermata.NewTask("both", func(ctx context.Context, n int) (int, error) {
		if _, err := plain.Call(ctx, n); err != nil {
			return 0, err
		}
		return fermata.Interrupt[int](ctx, n)
	})
	return func(ctx context.Context, _ int) (int, error) {
		winner, value, err := fermata.First(ctx, asks.Go(ctx, 1), plain.Go(ctx, 2), plain.Go(ctx, 3), both.Go(ctx, 4))
		if err != nil {
			return 0, err
		}
		if _, err := plain.Call(ctx, firstRace+winner); err != nil {
			return 0, err
		}
		if again && fermata.Attempt(ctx) == 1 {
			return 0, errors.New("the first attempt fails")
		}
		second, answer, err := fermata.First(ctx, asks.Go(ctx, 5), both.Go(ctx, 6), asks.Go(ctx, 7))
		if err != nil {
			return 0, err
		}
		if _, err := plain.Call(ctx, secondRace+second); err != nil {
			return 0, err
		}
		if again && fermata.Attempt(ctx) == 2 {
			return 0, errors.New("the second attempt fails")
		}
		if answer != reply(5+second) {
			return 0, fmt.Errorf("answer %d to question %d", answer, 5+second)
		}
		last, err := fermata.Interrupt[int](ctx, lastQuestion)
		if err != nil {
			return 0, err
		}
		if last != reply(lastQuestion) {
			return 0, fmt.Errorf("answer %d to the last question", last)
		}
		return 10*winner + second + 0*value, nil
	}
}

// What the workflow does after its races, by the winner.
const (
	firstRace    = 100
	secondRace   = 200
	lastQuestion = 300
)

// winners are those that the run acted on, in all its lives.
func (z *solo) winners(race int) []int {
	var all []int
	for _, e := range z.effects {
		if e.number >= race && e.number < race+100 && !slices.Contains(all, e.number-race) {
			all = append(all, e.number-race)
		}
	}
	return all
}

// tellRace plays such a workflow, and checks that a race has one winner over all lives, and that its losers' questions are closed.
func tellRace(d *scheduler, code func(*solo) *fermata.Entrypoint[int, int]) error {
	z := newSolo(d, code)
	return d.world(func() error {
		value, err := z.play(func(open []fermata.Question) error {
			for _, q := range open {
				payload := 0
				if err := q.Decode(&payload); err != nil {
					return err
				}
				if len(z.winners(firstRace)) > 0 && payload < 5 || len(z.winners(secondRace)) > 0 && payload < lastQuestion {
					return fmt.Errorf("question %d is open though its race is over", payload)
				}
			}
			return nil
		})
		first, second := z.winners(firstRace), z.winners(secondRace)
		switch {
		case err != nil:
		case len(first) != 1 || len(second) != 1:
			err = fmt.Errorf("the races were won by %v and %v", first, second)
		case value != 10*first[0]+second[0]:
			err = fmt.Errorf("result %d of races that %d and %d won", value, first[0], second[0])
		case first[0] != 1 && first[0] != 2:
			err = errors.New("a race was won by who waits for an answer")
		}
		return z.end(err)
	})
}

// The winner of a race is the same over all deaths, and who lost has no say any more.
func TestFirstOverCrashes(t *testing.T) {
	atEveryStep(t, func(d *scheduler) error { return tellRace(d, race) })
	atEveryStep(t, func(d *scheduler) error { return tellRace(d, raceAgain) })
	cases := 150
	if testing.Short() {
		cases = 50
	}
	numbered(t, cases, func(t *testing.T, seed uint64, r *rand.Rand) {
		faults := map[int]verdict{}
		for range r.IntN(4) {
			faults[r.IntN(40)] = fates[r.IntN(len(fates))]
		}
		d, code := newScheduler(random(r, 60), faults), race
		if r.IntN(2) == 0 {
			code = raceAgain
		}
		if err := tellRace(d, code); err != nil {
			t.Fatalf("%v\nwith -simulation.seed=%d, faults %v\nsteps:\n%s", err, seed, faults, d.tail(1<<20))
		}
	})
}
