package simulation

import (
	"fmt"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/simulation/model"
	"pgregory.net/rapid"
)

// leaves are the tasks without durable calls that every generated program has.
var leaves = []model.Task{
	{Name: "plain"},
	{Name: "other"},
	{Name: "heals", Heals: 1},
	{Name: "heals_late", Heals: 2, Attempts: 2},
	{Name: "retried", Attempts: 3, FailFirst: 2},
	{Name: "panics", Heals: 1, Panics: true},
}

// composites is how many tasks with a body a generated program has; each may call those after it.
const composites = 3

// programs generates programs.
func programs() *rapid.Generator[*model.Program] {
	return rapid.Custom(func(t *rapid.T) *model.Program {
		g := &generator{t: t}
		p := &model.Program{
			Attempts: rapid.SampledFrom([]int{0, 0, 0, 0, 2, 3}).Draw(t, "attempts of the body"),
			Body:     g.ended(g.block(6, 2, 0)),
		}
		for i := range composites {
			c := model.Task{
				Name:     fmt.Sprintf("c%d", i),
				Nested:   rapid.IntRange(0, 3).Draw(t, "nested") == 3,
				Attempts: rapid.SampledFrom([]int{0, 0, 0, 2, 3}).Draw(t, "attempts"),
				Body:     g.ended(g.block(4, 1, i+1)),
			}
			if c.Nested {
				c.Attempts = 0 // its policy is for when it has a run of its own
			}
			p.Tasks = append(p.Tasks, c)
		}
		p.Tasks = append(p.Tasks, leaves...)
		return p
	})
}

type generator struct {
	t  *rapid.T
	id int
}

func (g *generator) int(label string, low, high int) int {
	return rapid.IntRange(low, high).Draw(g.t, label)
}

// block generates up to most statements, nested up to depth, which call composites from first on.
func (g *generator) block(most, depth, first int) []model.Stmt {
	out := make([]model.Stmt, 0, most)
	for range g.int("statements", 1, most) {
		out = append(out, g.stmt(depth, first))
	}
	return out
}

// ended lets some functions end with all the failures that they have caught: a new attempt
// then begins where the first of them was known.
func (g *generator) ended(block []model.Stmt) []model.Stmt {
	if g.int("fails with all", 0, 5) < 5 {
		return block
	}
	g.id++
	return append(block, model.Stmt{ID: g.id, Op: model.Fail, Wrap: model.All})
}

// ops are the statements, as often as each is to come.
var ops = []model.Op{
	model.Call, model.Call, model.Call, model.Go, model.Go, model.Ask, model.Ask, model.Await, model.Await,
	model.Fan, model.Group, model.Group, model.Loop, model.If, model.Let, model.Fail, model.Return,
}

func (g *generator) stmt(depth, first int) model.Stmt {
	op := rapid.SampledFrom(ops).Draw(g.t, "op")
	if depth == 0 && (op == model.Loop || op == model.If || op == model.Group) {
		op = model.Ask
	}
	g.id++
	s := model.Stmt{ID: g.id, Op: op}
	switch op {
	case model.Call, model.Go, model.Fan:
		s.Task = g.task(first)
		s.Arg = g.expr()
		s.Key = g.key()
	case model.Ask:
		s.Arg = g.expr()
		s.Key = g.key()
	case model.Let, model.If, model.Return:
		s.Arg = g.expr()
	}
	switch op {
	case model.Call, model.Await, model.Fan, model.Group:
		s.Catch = rapid.Bool().Draw(g.t, "catch")
	}
	s.Var = g.int("var", 0, model.NumVars-1)
	switch op {
	case model.Go, model.Await:
		s.Future = g.int("future", 0, model.NumFutures-1)
	case model.Fan:
		s.N = g.int("width", 1, 4)
		order := make([]int, s.N)
		for i := range order {
			order[i] = i
		}
		order = rapid.Permutation(order).Draw(g.t, "order")
		s.Order = order[:g.int("awaited", 0, s.N)]
	case model.Group:
		s.N = g.int("branches", 1, 3)
		s.Body = g.block(3, depth-1, first)
	case model.Loop:
		s.N = g.int("turns", 1, 3)
		s.Body = g.block(2, depth-1, first)
		if rapid.Bool().Draw(g.t, "ask again") {
			g.id++
			s.Body = append(s.Body, model.Stmt{ID: g.id, Op: model.Ask, Arg: g.expr(), Var: s.Var})
		}
	case model.If:
		s.Body = g.block(2, depth-1, first)
		if rapid.Bool().Draw(g.t, "else") {
			s.Else = g.block(2, depth-1, first)
		}
	case model.Fail:
		s.Wrap = rapid.SampledFrom([]model.Wrap{model.Last, model.All, model.Opaque, model.Panics}).Draw(g.t, "wrap")
	}
	return s
}

func (g *generator) task(first int) string {
	n := g.int("task", 0, len(leaves)+2*(composites-first)-1)
	if n < len(leaves) {
		return leaves[n].Name
	}
	return fmt.Sprintf("c%d", first+(n-len(leaves))%(composites-first))
}

func (g *generator) expr() model.Expr {
	return model.Expr{Const: g.int("const", 0, 2), Var: g.int("of", -1, model.NumVars-1)}
}

// key of a statement; most have none.
func (g *generator) key() string {
	if g.int("keyed", 0, 4) == 4 {
		return fmt.Sprintf("k%d", g.id)
	}
	return ""
}

// variations generates settings.
func variations() *rapid.Generator[settings] {
	return rapid.Custom(func(t *rapid.T) settings {
		return settings{
			Durability:     rapid.SampledFrom([]fermata.Durability{fermata.Sync, fermata.Sync, fermata.Sync, fermata.Async, fermata.Exit}).Draw(t, "durability"),
			MaxConcurrency: rapid.IntRange(0, 2).Draw(t, "max concurrency"),
			Verify:         rapid.IntRange(0, 3).Draw(t, "verify") == 3,
			Paused:         rapid.SampledFrom([]afterPause{passUp, passUp, goOn, failOtherwise, panicInstead}).Draw(t, "after a pause"),
		}
	})
}

// schedule is the order of steps, and what goes wrong.
type schedule struct {
	Picks  []byte
	Faults map[int]verdict
}

// schedules generates schedules with up to most faults among the first steps.
func schedules(most, steps int) *rapid.Generator[schedule] {
	return rapid.Custom(func(t *rapid.T) schedule {
		s := schedule{Picks: rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "picks"), Faults: map[int]verdict{}}
		for range rapid.IntRange(0, most).Draw(t, "faults") {
			at := rapid.IntRange(0, steps).Draw(t, "at step")
			s.Faults[at] = rapid.SampledFrom([]verdict{crashBefore, crashAfter, refuse, loseReply, repeat}).Draw(t, "fault")
		}
		return s
	})
}
