package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-go/fermata"
)

func TestCallsStartAtOnceAndRunTogether(t *testing.T) {
	onEach(t, func(g *ground) {
		// Each waits for the other to have begun.
		begun := []chan struct{}{make(chan struct{}), make(chan struct{})}
		meet := fermata.NewTask("meet", func(ctx context.Context, i int) (int, error) {
			close(begun[i])
			select {
			case <-begun[1-i]:
				return i, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]int, error) {
			first, second := meet.Go(ctx, 0), meet.Go(ctx, 1)
			b, err := second.Result(ctx)
			if err != nil {
				return nil, err
			}
			a, err := first.Result(ctx)
			if err != nil {
				return nil, err
			}
			again, err := first.Result(ctx)
			return []int{a, b, again}, err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(0), []int{0, 1, 0})
	})
}

func TestParallelTasksStartInOrderAndEndAsTheyFinish(t *testing.T) { // S5
	onEach(t, func(g *ground) {
		finished := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})}
		close(finished[3])
		var run *fermata.Run[[]int]
		slow := fermata.NewTask("slow", func(ctx context.Context, i int) (int, error) {
			<-finished[i+1]
			return 10 * i, nil
		})
		flow := fermata.NewEntrypoint("par", func(ctx context.Context, inputs []int) ([]int, error) {
			var futures []*fermata.Future[int]
			for _, i := range inputs {
				futures = append(futures, slow.Go(ctx, i))
			}
			return fermata.All(ctx, futures...)
		})
		g.deploy(nil, flow)
		run, err := flow.On(g.engine).Thread("1").Start(g.t.Context(), []int{0, 1, 2})
		if err != nil {
			g.t.Fatal(err)
		}
		var lines []string
		for part, err := range run.Stream(g.t.Context(), nil, fermata.StreamTasks) {
			if err != nil {
				g.t.Fatal(err)
			}
			line := string(part.Data)
			switch {
			case strings.Contains(line, `"name":"par"`):
			case strings.Contains(line, `"input"`):
				lines = append(lines, "start "+line[strings.Index(line, "[[")+2:strings.Index(line, "],{}")])
			default:
				result := line[strings.Index(line, `__return__":`)+12 : len(line)-2]
				lines = append(lines, "result "+result)
				// The next one may finish when this one's end has been seen.
				close(finished[map[string]int{"20": 2, "10": 1, "0": 0}[result]])
			}
		}
		want(g.t, "order", lines, []string{"start 0", "start 1", "start 2", "result 20", "result 10", "result 0"})
		value, err := run.Result(g.t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "results in call order", value, []int{0, 10, 20})
	})
}

func TestFalsyResultsReplay(t *testing.T) { // S17
	onEach(t, func(g *ground) {
		var c calls
		type results struct {
			Pointer *int
			Number  int
			Text    string
			Flag    bool
			Nil     []int
			Empty   []int
			NoMap   map[string]int
			Map     map[string]int
			Struct  struct{}
			Answer  string
		}
		pointer := fermata.NewTask("pointer", func(context.Context, int) (*int, error) { c.add("pointer"); return nil, nil })
		number := fermata.NewTask("number", func(context.Context, int) (int, error) { c.add("number"); return 0, nil })
		text := fermata.NewTask("text", func(context.Context, int) (string, error) { c.add("text"); return "", nil })
		flag := fermata.NewTask("flag", func(context.Context, int) (bool, error) { c.add("flag"); return false, nil })
		list := fermata.NewTask("list", func(_ context.Context, empty bool) (list []int, _ error) {
			c.add("list")
			if empty {
				list = []int{}
			}
			return list, nil
		})
		dictionary := fermata.NewTask("map", func(_ context.Context, empty bool) (m map[string]int, _ error) {
			c.add("map")
			if empty {
				m = map[string]int{}
			}
			return m, nil
		})
		nothing := fermata.NewTask("struct", func(context.Context, int) (struct{}, error) { c.add("struct"); return struct{}{}, nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (r results, err error) {
			for _, call := range []func() error{
				func() (err error) { r.Pointer, err = pointer.Call(ctx, 0); return err },
				func() (err error) { r.Number, err = number.Call(ctx, 0); return err },
				func() (err error) { r.Text, err = text.Call(ctx, 0); return err },
				func() (err error) { r.Flag, err = flag.Call(ctx, 0); return err },
				func() (err error) { r.Nil, err = list.Call(ctx, false); return err },
				func() (err error) { r.Empty, err = list.Call(ctx, true); return err },
				func() (err error) { r.NoMap, err = dictionary.Call(ctx, false); return err },
				func() (err error) { r.Map, err = dictionary.Call(ctx, true); return err },
				func() (err error) { r.Struct, err = nothing.Call(ctx, 0); return err },
				func() (err error) { r.Answer, err = fermata.Interrupt[string](ctx, nil); return err },
			} {
				if err := call(); err != nil {
					return r, err
				}
			}
			return r, nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), "null")
		want(g.t, "live", c.take(), map[string]int{"pointer": 1, "number": 1, "text": 1, "flag": 1, "list": 2, "map": 2, "struct": 1})
		g.deploy(nil, flow)
		p.returns(p.resume(""), results{Empty: []int{}, Map: map[string]int{}})
		want(g.t, "on replay", c.take(), nil)
	})
}

func TestNestedTasks(t *testing.T) { // S7
	inner := fermata.NewTask("inner", func(_ context.Context, n int) (int, error) { return n + 1, nil })
	outer := fermata.NewTask("outer", func(ctx context.Context, n int) (int, error) {
		n, err := inner.Call(ctx, n)
		return 10 * n, err
	})
	flow := fermata.NewEntrypoint("nest", func(ctx context.Context, n int) (int, error) {
		a, err := outer.Call(ctx, n)
		if err != nil {
			return 0, err
		}
		b, err := inner.Call(ctx, 0)
		return a + b, err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		o := p.start(1)
		p.returns(o, 21)
		want(g.t, "updates", o.updates(g.t), []string{`{"inner":2}`, `{"outer":20}`, `{"inner":1}`, `{"nest":21}`})
	})
}

func TestFinishedOuterTaskIsNotEntered(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		deep := fermata.NewTask("deep", func(ctx context.Context, q string) (string, error) {
			c.add("deep")
			return fermata.Interrupt[string](ctx, q)
		})
		outer := fermata.NewTask("outer", func(ctx context.Context, name string) (string, error) {
			c.add("outer")
			a, err := deep.Call(ctx, name+" deep")
			if err != nil {
				return "", err
			}
			b, err := fermata.Interrupt[string](ctx, name+" own")
			return a + b, err
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			a, err := outer.Call(ctx, "first")
			if err != nil {
				return "", err
			}
			b, err := outer.Call(ctx, "second")
			return a + b, err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"first deep"`)
		want(g.t, "first", c.take(), map[string]int{"outer": 1, "deep": 1})
		p.asks(p.resume("A"), `"first own"`)
		want(g.t, "the inner answer", c.take(), map[string]int{"outer": 1, "deep": 1})
		p.asks(p.resume("B"), `"second deep"`)
		want(g.t, "the finished inner task is replayed", c.take(), map[string]int{"outer": 2, "deep": 1})
		p.asks(p.resume("C"), `"second own"`)
		want(g.t, "the finished outer task is not entered", c.take(), map[string]int{"outer": 1, "deep": 1})
		p.returns(p.resume("D"), "ABCD")
		want(g.t, "at the end", c.take(), map[string]int{"outer": 1})
	})
}

func TestUnawaitedTaskThatFailsDoesNotFailTheRun(t *testing.T) { // S59
	onEach(t, func(g *ground) {
		var c calls
		bad := fermata.NewTask("bad", func(context.Context, int) (int, error) { c.add("bad"); return 0, errors.New("nobody looks") })
		flow := fermata.NewEntrypoint("ff", func(ctx context.Context, n int) (string, error) {
			bad.Go(ctx, n)
			return "done", nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		o := p.start(0)
		p.returns(o, "done")
		want(g.t, "updates", o.updates(g.t), []string{`{"ff":"done"}`})
		want(g.t, "calls", c.take(), map[string]int{"bad": 1})
	})
}

func TestUnawaitedTaskThatAsksPausesTheRun(t *testing.T) {
	onEach(t, func(g *ground) {
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) { return fermata.Interrupt[string](ctx, q) })
		flow := fermata.NewEntrypoint("ff", func(ctx context.Context, _ int) (string, error) {
			ask.Go(ctx, "who?")
			return "done", nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"who?"`)
		o := p.resume("me")
		p.returns(o, "done")
	})
}

func TestCaughtErrorLetsTheRunGoOn(t *testing.T) { // S13
	bad := fermata.NewTask("bad", func(context.Context, int) (int, error) { return 0, errors.New("boom") })
	good := fermata.NewTask("good", func(_ context.Context, n int) (int, error) { return n, nil })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
		if _, err := bad.Call(ctx, n); err == nil {
			return "", errors.New("bad did not fail")
		}
		_, err := good.Call(ctx, n)
		return "done", err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		o := p.start(1)
		p.returns(o, "done")
		want(g.t, "updates", o.updates(g.t), []string{`{"good":1}`, `{"flow":"done"}`})
	})
}

var errRefused = errors.New("refused")

func TestErrorsAreTheSameLiveAndOnReplay(t *testing.T) {
	fail := fermata.NewTask("fail", func(ctx context.Context, how string) (int, error) {
		switch how {
		case "registered":
			return 0, fmt.Errorf("card 42: %w", errRefused)
		case "panic":
			panic("lost my head")
		case "panic with an error":
			panic(fmt.Errorf("very %w", errRefused))
		case "goexit":
			runtime.Goexit()
		case "deadline":
			return 0, context.DeadlineExceeded
		case "lossy":
			return 0, nil
		}
		return 0, errors.New("plain")
	})
	outer := fermata.NewTask("outer", func(ctx context.Context, how string) (int, error) {
		n, err := fail.Call(ctx, how)
		if err != nil {
			return n, fmt.Errorf("outer: %w", err)
		}
		return n, nil
	})
	describe := func(err error) string {
		task, ok := errors.AsType[*fermata.TaskError](err)
		if !ok {
			return fmt.Sprintf("no task error: %v", err)
		}
		depth := 0
		for e := error(task); e != nil; depth++ {
			var next *fermata.TaskError
			for _, inner := range e.(interface{ Unwrap() []error }).Unwrap() {
				if found, ok := inner.(*fermata.TaskError); ok {
					next = found
				}
			}
			if next == nil {
				break
			}
			e = next
		}
		return fmt.Sprintf("%v|%s|%s|%d|%t|%t|%t|%t|%d", err, task.Task, task.Path, task.Attempts, task.Panic, task.Stack != "",
			errors.Is(err, errRefused), errors.Is(err, context.DeadlineExceeded), depth)
	}
	ways := []string{"plain", "registered", "panic", "panic with an error", "goexit", "deadline"}
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
		var seen []string
		for _, how := range ways {
			_, err := fail.Call(ctx, how)
			seen = append(seen, describe(err))
			_, err = outer.Call(ctx, how)
			seen = append(seen, describe(err))
		}
		_, err := fermata.Interrupt[string](ctx, seen)
		return seen, err
	})
	onEach(t, func(g *ground) {
		options := &fermata.Options{Errors: map[string]error{"refused": errRefused}}
		g.deploy(options, flow)
		p := play(g, flow, "1")
		question := paused(g.t, p.start(0).err)[0]
		var live []string
		if err := question.Decode(&live); err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "plain", live[0], `task "fail" failed: plain|fail|flow/fail|1|false|false|false|false|0`)
		want(g.t, "registered", live[2], `task "fail" failed: card 42: refused|fail|flow/fail|1|false|false|true|false|0`)
		want(g.t, "registered, passed on", live[3], `task "outer" failed: outer: task "fail" failed: card 42: refused|outer|flow/outer|1|false|false|true|false|1`)
		want(g.t, "panic", live[4], `task "fail" panicked: lost my head|fail|flow/fail|1|true|true|false|false|0`)
		want(g.t, "panic with an error", live[6], `task "fail" panicked: very refused|fail|flow/fail|1|true|true|true|false|0`)
		if !strings.Contains(live[8], "Goexit") || !strings.Contains(live[10], "|true|0") {
			g.t.Errorf("got %s and %s", live[8], live[10])
		}
		g.deploy(options, flow) // another process replays them
		p.returns(p.resume("go on"), live)
	})
}

func TestPanicOfTheBodyFailsTheRun(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, how string) (string, error) {
			if c.add(how) == 1 {
				if how == "goexit" {
					runtime.Goexit()
				}
				panic("oh")
			}
			return "mended", nil
		})
		g.deploy(nil, flow)
		for _, how := range []string{"panic", "goexit"} {
			p := play(g, flow, how)
			o := p.start(how)
			failed, ok := errors.AsType[*fermata.RunError](o.err)
			if !ok || !failed.Panic {
				g.t.Fatalf("%s: got error %v, want a *RunError of a panic", how, o.err)
			}
			want(g.t, "status", p.state().Status, fermata.Failed)
			p.returns(p.goOn(), "mended")
		}
	})
}

func TestSiblingsResultsAreKeptAfterAFailure(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		failed := make(chan struct{})
		bad := fermata.NewTask("bad", func(context.Context, int) (string, error) {
			if c.add("bad") == 1 {
				return "", errors.New("boom")
			}
			return "mended", nil
		})
		long := fermata.NewTask("long", func(context.Context, int) (string, error) {
			c.add("long")
			<-failed // it ends after the body has
			return "long", nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			slow, quick := long.Go(ctx, n), bad.Go(ctx, n)
			a, err := quick.Result(ctx)
			if err != nil {
				close(failed)
				return "", err
			}
			b, err := slow.Result(ctx)
			return a + b, err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		if o := p.start(0); o.err == nil {
			g.t.Fatal("the run did not fail")
		}
		want(g.t, "first", c.take(), map[string]int{"bad": 1, "long": 1})
		c.add("bad")
		p.returns(p.goOn(), "mendedlong")
		want(g.t, "then", c.take(), map[string]int{"bad": 2})
	})
}

func TestInputsAndResultsAreCopies(t *testing.T) {
	type basket struct{ Items []string }
	add := fermata.NewTask("add", func(_ context.Context, b *basket) (*basket, error) {
		b.Items[0] = "changed"
		b.Items = append(b.Items, "new")
		return b, nil
	})
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
		own := &basket{Items: []string{"tea"}}
		first, err := add.Call(ctx, own)
		if err != nil {
			return nil, err
		}
		if first == own {
			return nil, errors.New("the result is the argument itself")
		}
		_, err = fermata.Interrupt[string](ctx, append(slices.Clone(own.Items), first.Items...))
		return append(own.Items, first.Items...), err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `["tea","changed","new"]`)
		p.returns(p.resume("same on replay"), []string{"tea", "changed", "new"})
	})
}

func TestOneTaskCalledFromManyPlaces(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		leaf := fermata.NewTask("leaf", func(_ context.Context, s string) (string, error) { c.add(s); return s, nil })
		branch := fermata.NewTask("branch", func(ctx context.Context, s string) (string, error) {
			a, err := leaf.Call(ctx, s+" 1")
			if err != nil {
				return "", err
			}
			b, err := leaf.Call(ctx, s+" 2")
			return a + " " + b, err
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
			all, err := fermata.All(ctx, branch.Go(ctx, "a"), branch.Go(ctx, "b"), leaf.Go(ctx, "c"))
			if err != nil {
				return nil, err
			}
			last, err := fermata.Interrupt[string](ctx, "last?")
			return append(all, last), err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"last?"`)
		want(g.t, "calls", c.take(), map[string]int{"a 1": 1, "a 2": 1, "b 1": 1, "b 2": 1, "c": 1})
		p.returns(p.resume("d"), []string{"a 1 a 2", "b 1 b 2", "c", "d"})
		want(g.t, "calls on replay", c.take(), nil)
	})
}

func TestChildHasNoPreviousAndOneOnItsOwnThreadHas(t *testing.T) { // S47
	child := fermata.NewEntrypoint("child", func(ctx context.Context, n int) (int, error) {
		previous, _, err := fermata.Previous[int](ctx)
		if err != nil {
			return 0, err
		}
		return previous + n, nil
	})
	onEach(t, func(g *ground) {
		elsewhere := fermata.NewTask("elsewhere", func(ctx context.Context, n int) (int, error) {
			run, err := fermata.CurrentRun(ctx)
			if err != nil {
				return 0, err
			}
			return child.On(g.engine).Thread("of "+run.Thread).Invoke(ctx, n)
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			first, err := child.Call(ctx, n)
			if err != nil {
				return "", err
			}
			second, err := child.Call(ctx, n)
			if err != nil {
				return "", err
			}
			own, err := elsewhere.Call(ctx, n)
			return fmt.Sprint(first, second, own), err
		})
		g.deploy(nil, flow, child)
		p := play(g, flow, "1")
		p.returns(p.start(1), "1 1 1")
		p.returns(p.start(2), "2 2 3")
	})
}

func TestAThreadCanNotCallItself(t *testing.T) {
	onEach(t, func(g *ground) {
		var flow *fermata.Entrypoint[int, string]
		again := fermata.NewTask("again", func(ctx context.Context, n int) (string, error) {
			return flow.On(g.engine).Thread("1").Invoke(ctx, n+1)
		})
		flow = fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) { return again.Call(ctx, n) })
		g.deploy(&fermata.Options{Errors: map[string]error{"busy": fermata.ErrThreadBusy}}, flow)
		p := play(g, flow, "1")
		p.fails(p.start(0), fermata.ErrThreadBusy)
	})
}

func TestDurableCallsBelongToOneGoroutine(t *testing.T) {
	onEach(t, func(g *ground) {
		step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) { return n, nil })
		leak := make(chan context.Context, 1)
		leaking := fermata.NewTask("leaking", func(ctx context.Context, n int) (int, error) { leak <- ctx; return n, nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
			var seen []string
			on := make(chan error)
			go func() { _, err := step.Call(ctx, 1); on <- err }()
			err := <-on
			seen = append(seen, fmt.Sprint(errors.Is(err, fermata.ErrConcurrentScope)))
			future := step.Go(ctx, 2)
			go func() { _, err := future.Result(ctx); on <- err }()
			err = <-on
			seen = append(seen, fmt.Sprint(errors.Is(err, fermata.ErrConcurrentScope)))
			if _, err := future.Result(ctx); err != nil {
				return nil, err
			}
			if _, err := leaking.Call(ctx, 3); err != nil {
				return nil, err
			}
			_, err = step.Call(<-leak, 4)
			seen = append(seen, fmt.Sprint(errors.Is(err, fermata.ErrConcurrentScope) || errors.Is(err, fermata.ErrScopeEnded)))
			group := fermata.NewGroup(ctx)
			group.Go(func(context.Context) error { _, err := step.Call(ctx, 5); return err }) // the wrong ctx
			err = group.Wait()
			return append(seen, fmt.Sprint(err)), nil
		})
		g.deploy(nil, flow)
		o := play(g, flow, "1").start(0)
		if o.err != nil {
			g.t.Fatal(o.err)
		}
		want(g.t, "refused", o.value[:3], []string{"true", "true", "true"})
		if !strings.Contains(o.value[3], fermata.ErrConcurrentScope.Error()) {
			g.t.Errorf("a branch with the context of the function around it: %s", o.value[3])
		}
	})
}
