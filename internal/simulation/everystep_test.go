package simulation

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/internal/simulation/model"
)

// fates are all that may befall a step.
var fates = []verdict{crashBefore, crashAfter, refuse, loseReply}

// approvals is a workflow of more than twenty steps: in a row and in parallel, in
// the body, in tasks and in tasks of tasks, with questions everywhere.
var approvals = &model.Program{
	Body: []model.Stmt{
		{ID: 1, Op: model.Call, Task: "plain", Arg: model.Expr{Const: 1, Var: 0}, Var: 1},
		{ID: 2, Op: model.Call, Task: "other", Arg: model.Expr{Const: 2, Var: 1}, Var: 1},
		{ID: 3, Op: model.Ask, Arg: model.Expr{Const: 3, Var: 1}, Var: 2},
		{ID: 4, Op: model.Go, Task: "plain", Arg: model.Expr{Const: 4, Var: 2}, Future: 0},
		{ID: 5, Op: model.Go, Task: "review", Arg: model.Expr{Const: 5, Var: 2}, Future: 1},
		{ID: 6, Op: model.Go, Task: "review", Arg: model.Expr{Const: 6, Var: 2}, Future: 2, Key: "second"},
		{ID: 7, Op: model.Call, Task: "retried", Arg: model.Expr{Const: 7, Var: -1}, Var: 3},
		{ID: 8, Op: model.Await, Future: 2, Var: 4},
		{ID: 9, Op: model.Await, Future: 1, Var: 3},
		{ID: 10, Op: model.Await, Future: 0, Var: 2},
		{ID: 11, Op: model.Call, Task: "panics", Arg: model.Expr{Const: 1, Var: -1}, Var: 1, Catch: true},
		{ID: 12, Op: model.Loop, N: 3, Var: 4, Body: []model.Stmt{
			{ID: 13, Op: model.Call, Task: "plain", Arg: model.Expr{Const: 8, Var: 4}, Var: 3},
			{ID: 14, Op: model.Ask, Arg: model.Expr{Const: 9, Var: 3}, Var: 4},
		}},
		{ID: 15, Op: model.Call, Task: "other", Arg: model.Expr{Const: 10, Var: 4}, Var: 2},
		{ID: 16, Op: model.Call, Task: "heals", Arg: model.Expr{Const: 11, Var: 2}, Var: 1},
		{ID: 17, Op: model.Call, Task: "plain", Arg: model.Expr{Const: 12, Var: 1}, Var: 0},
	},
	Tasks: append([]model.Task{
		{Name: "review", Body: []model.Stmt{
			{ID: 20, Op: model.Call, Task: "plain", Arg: model.Expr{Const: 1, Var: 0}, Var: 1},
			{ID: 21, Op: model.Fan, Task: "vote", Arg: model.Expr{Const: 2, Var: 1}, Var: 2, N: 2, Order: []int{1, 0}},
			{ID: 22, Op: model.Call, Task: "other", Arg: model.Expr{Const: 3, Var: 2}, Var: 1},
		}},
		{Name: "vote", Body: []model.Stmt{
			{ID: 30, Op: model.Call, Task: "plain", Arg: model.Expr{Const: 1, Var: 0}, Var: 1},
			{ID: 31, Op: model.Ask, Arg: model.Expr{Const: 2, Var: 1}, Var: 2},
		}},
	}, leaves...),
}

// seedShape is the seed program: a task, a task that asks, a task.
var seedShape = &model.Program{
	Body: []model.Stmt{
		{ID: 1, Op: model.Call, Task: "plain", Arg: model.Expr{Const: 1, Var: 0}, Var: 1},
		{ID: 2, Op: model.Call, Task: "feedback", Arg: model.Expr{Const: 2, Var: 1}, Var: 1},
		{ID: 3, Op: model.Call, Task: "other", Arg: model.Expr{Const: 3, Var: 1}, Var: 1},
	},
	Tasks: append([]model.Task{{Name: "feedback", Body: []model.Stmt{
		{ID: 10, Op: model.Ask, Arg: model.Expr{Const: 4, Var: 0}, Var: 1},
	}}}, leaves...),
}

// Every step of both workflows, each call of the database and each effect, meets
// every fate: the run ends as the model says.
func TestEveryStep(t *testing.T) {
	for _, workflow := range []struct {
		name    string
		program *model.Program
	}{{"seed", seedShape}, {"approvals", approvals}} {
		t.Run(workflow.name, func(t *testing.T) {
			for _, fate := range fates {
				at := 0
				for over := false; !over; at++ {
					synctest.Test(t, func(t *testing.T) {
						s := &story{Program: workflow.program, Schedule: schedule{Faults: map[int]verdict{at: fate}}}
						d := newScheduler(nil, s.Schedule.Faults)
						if err := s.tellTo(d); err != nil {
							t.Fatalf("%v\n%s\nsteps:\n%s", err, s, d.tail(1<<20))
						}
						over = d.count <= at
					})
				}
				t.Logf("%s: at each of %d steps", fate, at-1)
			}
		})
	}
}

// everyStep, if set, says that the databases on disk are crashed at every call, not at some.
const everyStep = "FERMATA_EVERY_STEP"

// The same on each real database, in real time, whose files are closed and opened
// again with each process.
func TestEveryCall(t *testing.T) {
	few, many := 3, 41
	if os.Getenv(everyStep) != "" {
		few, many = 1, 1
	}
	backendtest.Each(t, func(t *testing.T, opener backendtest.Opener) {
		if t.Name() == "TestEveryCall/memory" {
			t.Skip("TestEveryStep")
		}
		b := database{
			open: func() *incarnation.Backend { return incarnation.New(opener(t, nil), true) },
			data: opener(t, nil),
		}
		for _, fate := range fates {
			everyCall(t, b, seedShape, fate, few)
			everyCall(t, b, approvals, fate, many)
		}
	})
}

// everyCall lets the fate befall each stride-th call of the database in turn.
func everyCall(t *testing.T, b database, workflow *model.Program, fate verdict, stride int) {
	t.Helper()
	for at := 1; ; at += stride {
		c := &counter{at: at, fate: fate}
		p, err := newPlayer(b, c, workflow, settings{Tick: 5 * time.Millisecond}, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = p.play()
		if end := p.end(); err == nil {
			err = end
		}
		if err != nil {
			t.Fatalf("%s at call %d (%s): %v\n%s", fate, at, c.name, err, workflow)
		}
		if c.name == "" {
			return
		}
	}
}
