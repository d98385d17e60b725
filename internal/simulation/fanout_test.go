package simulation

import (
	"flag"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/fermata-go/fermata/internal/simulation/model"
)

// seedFlag is for the tests whose cases come from numbers.
var seedFlag = flag.Uint64("simulation.seed", 0, "run only this case of the tests whose cases are numbered from 1")

// numbered calls fn with a source of random numbers for each of n cases.
func numbered(t *testing.T, n int, fn func(t *testing.T, seed uint64, r *rand.Rand)) {
	t.Helper()
	for seed := uint64(1); seed <= uint64(n); seed++ {
		if *seedFlag != 0 {
			seed, n = *seedFlag, 0
		}
		synctest.Test(t, func(t *testing.T) { fn(t, seed, rand.New(rand.NewPCG(seed, seed))) })
	}
}

const wide = 50

// fanOut is one call for each of fifty things, awaited in a random order, some never.
func fanOut(r *rand.Rand, task string) *model.Program {
	return &model.Program{
		Body: []model.Stmt{{
			ID: 1, Op: model.Fan, Task: task, Arg: model.Expr{Const: 1, Var: 0}, Var: 1, N: wide, Order: r.Perm(wide)[:r.IntN(wide+1)],
		}},
		Tasks: append([]model.Task{{Name: "approve", Body: []model.Stmt{
			{ID: 10, Op: model.Call, Task: "plain", Arg: model.Expr{Const: 2, Var: 0}, Var: 1},
			{ID: 11, Op: model.If, Arg: model.Expr{Const: 0, Var: 1}, Body: []model.Stmt{
				{ID: 12, Op: model.Ask, Arg: model.Expr{Const: 3, Var: 1}, Var: 2},
			}},
			{ID: 13, Op: model.Call, Task: "other", Arg: model.Expr{Const: 4, Var: 2}, Var: 1},
		}}}, leaves...),
	}
}

// A fan-out is crashed when any subset of its calls has outcomes, again and
// again, and never parks.
func TestFanOut(t *testing.T) {
	cases := 30
	if testing.Short() {
		cases = 10
	}
	numbered(t, cases, func(t *testing.T, seed uint64, r *rand.Rand) {
		task := []string{"plain", "retried", "approve"}[r.IntN(3)]
		s := &story{
			Program:  fanOut(r, task),
			Settings: settings{MaxConcurrency: []int{0, 0, 1, 7}[r.IntN(4)]},
			Schedule: schedule{Picks: random(r, 1000), Faults: map[int]verdict{}},
			Answers:  random(r, 100),
		}
		at := 0
		for range 1 + r.IntN(8) {
			at += 1 + r.IntN(wide)
			s.Schedule.Faults[at] = []verdict{crashBefore, crashAfter}[r.IntN(2)]
		}
		d := newScheduler(s.Schedule.Picks, s.Schedule.Faults)
		if err := s.tellTo(d); err != nil {
			t.Fatalf("%v\nwith -simulation.seed=%d:\n%s\nsteps:\n%s", err, seed, s, d.tail(1<<20))
		}
	})
}

func random(r *rand.Rand, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}
