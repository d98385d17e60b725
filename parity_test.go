package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata"
)

// The tests of the files parity_*_test.go hold what docs/parity.md says.

// player drives one thread, the way a program does that keeps nothing between two calls.
type player[I, O any] struct {
	g      *ground
	entry  *fermata.Entrypoint[I, O]
	thread string
}

// outcome is how a run came to rest.
type outcome[O any] struct {
	value O
	err   error
	run   *fermata.Run[O]
}

func play[I, O any](g *ground, entry *fermata.Entrypoint[I, O], thread string) player[I, O] {
	return player[I, O]{g, entry, thread}
}

func (p player[I, O]) handle() *fermata.Thread[I, O] { return p.entry.On(p.g.engine).Thread(p.thread) }

func (p player[I, O]) rest(run *fermata.Run[O], err error) outcome[O] {
	if err != nil {
		return outcome[O]{err: err}
	}
	value, err := run.Result(p.g.t.Context())
	return outcome[O]{value, err, run}
}

func (p player[I, O]) start(in I, options ...fermata.StartOption) outcome[O] {
	return p.rest(p.handle().Start(p.g.t.Context(), in, options...))
}

func (p player[I, O]) resume(answer any) outcome[O] {
	thread := p.handle()
	if _, err := thread.State(p.g.t.Context()); err != nil {
		return outcome[O]{err: err}
	}
	return p.rest(thread.Resume(p.g.t.Context(), answer))
}

func (p player[I, O]) goOn() outcome[O] { return p.rest(p.handle().Continue(p.g.t.Context())) }

// answer answers a question by its id, and waits until the run rests.
func (p player[I, O]) answer(q fermata.Question, value any) outcome[O] {
	receipt, err := p.g.engine.Answer(p.g.t.Context(), q.ID, value)
	if err != nil {
		return outcome[O]{err: err}
	}
	if _, err = receipt.Wait(p.g.t.Context()); err != nil {
		return outcome[O]{err: err}
	}
	return outcome[O]{value: p.state().Value}
}

func (p player[I, O]) state() *fermata.State[O] {
	p.g.t.Helper()
	state, err := p.handle().State(p.g.t.Context())
	if err != nil {
		p.g.t.Fatal(err)
	}
	return state
}

// asks holds an outcome to be a pause at these payloads.
func (p player[I, O]) asks(o outcome[O], want ...string) []fermata.Question {
	p.g.t.Helper()
	questions := paused(p.g.t, o.err)
	if diff := cmp.Diff(want, payloads(questions)); diff != "" {
		p.g.t.Fatalf("open questions (-want +got):\n%s", diff)
	}
	return questions
}

// returns holds an outcome to be a result.
func (p player[I, O]) returns(o outcome[O], want O) {
	p.g.t.Helper()
	if o.err != nil {
		p.g.t.Fatal(o.err)
	}
	if diff := cmp.Diff(want, o.value); diff != "" {
		p.g.t.Fatalf("result (-want +got):\n%s", diff)
	}
}

// fails holds an outcome to be an error that matches.
func (p player[I, O]) fails(o outcome[O], target error) {
	p.g.t.Helper()
	if !errors.Is(o.err, target) {
		p.g.t.Fatalf("got %v, error %v; want an error that matches %q", o.value, o.err, target)
	}
}

// updates lists the events of the last verb, as LangGraph's updates.
func (o outcome[O]) updates(t *testing.T) []string {
	t.Helper()
	var lines []string
	for event, err := range o.run.Events(t.Context()) {
		if err != nil {
			return append(lines, "error")
		}
		line, err := event.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, idPattern.ReplaceAllString(string(line), "ID"))
	}
	return lines
}

func TestPreviousSurvivesFailureAndInterruption(t *testing.T) { // S9
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
		previous, ok, err := fermata.Previous[string](ctx)
		if err != nil {
			return "", err
		}
		switch n {
		case 2:
			return "", errors.New("no")
		case 3:
			if _, err := fermata.Interrupt[string](ctx, "go on?"); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("(%s %t %d)", previous, ok, n), nil
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(1), "( false 1)")
		if o := p.start(2); o.err == nil {
			g.t.Fatal("the run did not fail")
		}
		p.asks(p.start(3), `"go on?"`)
		state := p.state()
		want(g.t, "value while a run is pending", state.Value, "( false 1)")
		want(g.t, "there is a value", state.OK, true)
		p.returns(p.start(4, fermata.Supersede()), "(( false 1) true 4)")
		p.returns(p.start(5), "((( false 1) true 4) true 5)")
		other := play(g, flow, "2")
		other.returns(other.start(1), "( false 1)")
	})
}

func TestPreviousIsTheSameAfterAPause(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		previous, _, err := fermata.Previous[int](ctx)
		if err != nil {
			return 0, err
		}
		more, err := fermata.Interrupt[int](ctx, previous)
		return previous + n + more, err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(1), "0")
		p.returns(p.resume(10), 11)
		p.asks(p.start(2), "11")
		g.deploy(nil, flow)
		p.returns(p.resume(100), 113)
	})
}

func TestSaveDiffersFromWhatIsReturned(t *testing.T) { // entrypoint.final
	type seen struct {
		Previous *int
		OK       bool
	}
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, save string) (*seen, error) {
		previous, ok, err := fermata.Previous[*int](ctx)
		if err != nil {
			return nil, err
		}
		switch save {
		case "null":
			err = fermata.Save(ctx, nil)
		case "7":
			if err = fermata.Save(ctx, 6); err == nil {
				err = fermata.Save(ctx, 7) // the last one counts
			}
		case "return null, save 8":
			return nil, fermata.Save(ctx, 8)
		}
		return &seen{previous, ok}, err
	})
	number := func(n int) *int { return &n }
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start("7"), &seen{})
		p.returns(p.start("null"), &seen{number(7), true})
		p.returns(p.start("null"), &seen{nil, true}) // a saved null is a value
		p.returns(p.start("return null, save 8"), nil)
		p.returns(p.start("7"), &seen{number(8), true})
	})
}

func TestSaveOfARunThatFailsIsDropped(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, fail bool) (int, error) {
		previous, _, err := fermata.Previous[int](ctx)
		if err != nil {
			return 0, err
		}
		if err := fermata.Save(ctx, previous+1); err != nil || !fail {
			return previous, err
		}
		return 0, errors.New("no")
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(false), 0)
		if o := p.start(true); o.err == nil {
			g.t.Fatal("the run did not fail")
		}
		p.returns(p.start(false), 1)
	})
}

func TestFalsyInputsStartRuns(t *testing.T) {
	onEach(t, func(g *ground) {
		numbers, texts, flags := asking[int]("numbers"), asking[string]("texts"), asking[bool]("flags")
		lists, objects, nothing := asking[[]int]("lists"), asking[map[string]int]("objects"), asking[*int]("nothing")
		g.deploy(nil, numbers, texts, flags, lists, objects, nothing)
		startsAnew(g, numbers, 0)
		startsAnew(g, texts, "")
		startsAnew(g, flags, false)
		startsAnew(g, lists, []int{})
		startsAnew(g, objects, map[string]int{})
		startsAnew(g, nothing, nil)
	})
}

// asking is an entrypoint that asks, and returns its input.
func asking[T any](name string) *fermata.Entrypoint[T, T] {
	return fermata.NewEntrypoint(name, func(ctx context.Context, in T) (T, error) {
		_, err := fermata.Interrupt[string](ctx, in)
		return in, err
	})
}

func startsAnew[T any](g *ground, flow *fermata.Entrypoint[T, T], in T) {
	g.t.Helper()
	p := play(g, flow, flow.Name())
	first := paused(g.t, p.start(in).err)[0]
	second := paused(g.t, p.start(in, fermata.Supersede()).err)[0]
	if first.Run == second.Run || first.ID == second.ID {
		g.t.Errorf("%s: the same input went on with the old run", flow.Name())
	}
	p.returns(p.resume("go on"), in)
}

func TestContinueOnAFinishedThreadRunsNothing(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		flow := fermata.NewEntrypoint("flow", func(_ context.Context, n int) (int, error) { c.add("body"); return n + 1, nil })
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.fails(p.goOn(), fermata.ErrUnknownThread)
		p.returns(p.start(1), 2)
		p.returns(p.goOn(), 2)
		g.deploy(nil, flow)
		p.returns(p.goOn(), 2)
		want(g.t, "calls", c.take(), map[string]int{"body": 1})
	})
}

func TestOriginalInputAfterAnErrorIsANewRun(t *testing.T) { // S11
	onEach(t, func(g *ground) {
		var c calls
		good := fermata.NewTask("good", func(_ context.Context, n int) (int, error) { c.add("good"); return n, nil })
		bad := fermata.NewTask("bad", func(_ context.Context, n int) (int, error) {
			if c.add("bad") == 1 {
				return 0, errors.New("down")
			}
			return n + 1, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
			n, err := good.Call(ctx, n)
			if err != nil {
				return 0, err
			}
			return bad.Call(ctx, n)
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		failed := p.start(1)
		if _, ok := errors.AsType[*fermata.RunError](failed.err); !ok {
			g.t.Fatalf("got error %v, want a *RunError", failed.err)
		}
		again := p.start(1)
		p.returns(again, 2)
		want(g.t, "calls", c.take(), map[string]int{"good": 2, "bad": 2})
		if failed.run.ID() == again.run.ID() {
			g.t.Error("the new input went on with the old run")
		}
	})
}

func TestContinueAfterAnErrorRunsOnlyWhatIsLeft(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) {
			if c.add(fmt.Sprint("step ", n)) == 1 && n == 2 {
				return 0, errors.New("down")
			}
			return n, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (sum int, err error) {
			for i := range n {
				got, err := step.Call(ctx, i)
				if err != nil {
					return 0, err
				}
				sum += got
			}
			return sum, nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		if o := p.start(5); o.err == nil {
			g.t.Fatal("the run did not fail")
		}
		want(g.t, "first", c.take(), map[string]int{"step 0": 1, "step 1": 1, "step 2": 1})
		c.add("step 2")
		p.returns(p.goOn(), 10)
		want(g.t, "then", c.take(), map[string]int{"step 2": 2, "step 3": 1, "step 4": 1})
	})
}

func TestCancelAndContinue(t *testing.T) { // S63
	onEach(t, func(g *ground) {
		var c calls
		reached := make(chan struct{}, 1)
		step := fermata.NewTask("step", func(ctx context.Context, n int) (int, error) {
			if c.add(fmt.Sprint("step ", n)) == 1 && n == 2 {
				reached <- struct{}{}
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return n, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (sum int, err error) {
			for i := range n {
				got, err := step.Call(ctx, i)
				if err != nil {
					return 0, err
				}
				sum += got
			}
			return sum, nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		run, err := p.handle().Start(g.t.Context(), 5)
		if err != nil {
			g.t.Fatal(err)
		}
		<-reached
		if _, err := p.handle().Cancel(g.t.Context(), "enough"); err != nil {
			g.t.Fatal(err)
		}
		p.fails(p.rest(run, nil), fermata.ErrCancelled)
		want(g.t, "before", c.take(), map[string]int{"step 0": 1, "step 1": 1, "step 2": 1})
		c.add("step 2")
		g.deploy(nil, flow)
		p.returns(p.goOn(), 10)
		want(g.t, "after", c.take(), map[string]int{"step 2": 2, "step 3": 1, "step 4": 1})
	})
}

func TestDurableCallsOutsideARun(t *testing.T) {
	t.Parallel()
	task := fermata.NewTask("task", func(_ context.Context, n int) (int, error) { return n, nil })
	flow := fermata.NewEntrypoint("flow", func(_ context.Context, n int) (int, error) { return n, nil })
	for name, call := range map[string]func(context.Context) error{
		"Task.Call":       func(ctx context.Context) error { _, err := task.Call(ctx, 1); return err },
		"Task.Go":         func(ctx context.Context) error { _, err := task.Go(ctx, 1).Result(ctx); return err },
		"Entrypoint.Call": func(ctx context.Context) error { _, err := flow.Call(ctx, 1); return err },
		"Interrupt":       func(ctx context.Context) error { _, err := fermata.Interrupt[int](ctx, "?"); return err },
		"Group":           func(ctx context.Context) error { g := fermata.NewGroup(ctx); g.Go(nil); return g.Wait() },
		"Sleep":           func(ctx context.Context) error { return fermata.Sleep(ctx, 1) },
		"Now":             func(ctx context.Context) error { _, err := fermata.Now(ctx); return err },
		"Rand":            func(ctx context.Context) error { _, err := fermata.Rand(ctx); return err },
		"UUID":            func(ctx context.Context) error { _, err := fermata.UUID(ctx); return err },
		"Version":         func(ctx context.Context) error { _, err := fermata.Version(ctx, "c", 1, 2); return err },
		"IdempotencyID":   func(ctx context.Context) error { _, err := fermata.IdempotencyID(ctx); return err },
		"Config":          func(ctx context.Context) error { _, _, err := fermata.Config[int](ctx); return err },
		"Previous":        func(ctx context.Context) error { _, _, err := fermata.Previous[int](ctx); return err },
		"Save":            func(ctx context.Context) error { return fermata.Save(ctx, 1) },
		"Emit":            func(ctx context.Context) error { return fermata.Emit(ctx, 1) },
		"EmitMessage":     func(ctx context.Context) error { return fermata.EmitMessage(ctx, 1, nil) },
		"StoreFrom":       func(ctx context.Context) error { _, err := fermata.StoreFrom(ctx); return err },
		"CurrentRun":      func(ctx context.Context) error { _, err := fermata.CurrentRun(ctx); return err },
	} {
		if err := call(t.Context()); !errors.Is(err, fermata.ErrOutsideRun) {
			t.Errorf("%s: got error %v, want one that matches ErrOutsideRun", name, err)
		}
	}
	want(t, "attempt outside a run", fermata.Attempt(t.Context()), 1)
	fermata.Heartbeat(t.Context())
}

func TestConfigIsStoredWithTheRun(t *testing.T) {
	type settings struct{ Model, User string }
	read := fermata.NewTask("read", func(ctx context.Context, _ int) (string, error) {
		s, _, err := fermata.Config[settings](ctx)
		return s.Model, err
	})
	child := fermata.NewEntrypoint("child", func(ctx context.Context, n int) (string, error) { return read.Call(ctx, n) })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
		s, ok, err := fermata.Config[settings](ctx)
		if err != nil || !ok {
			return "none", err
		}
		if _, err := fermata.Interrupt[string](ctx, "go on?"); err != nil {
			return "", err
		}
		below, err := child.Call(ctx, n)
		return s.User + " " + below, err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(1, fermata.WithConfig(settings{"large", "bob"})), `"go on?"`)
		g.deploy(nil, flow) // another process, which was not given it
		p.returns(p.resume("yes"), "bob large")
		p.returns(p.start(1), "none")
	})
}

func TestSetupGivesDependenciesToEveryProcess(t *testing.T) {
	type key struct{}
	read := fermata.NewTask("read", func(ctx context.Context, _ int) (string, error) {
		info, err := fermata.CurrentRun(ctx)
		return fmt.Sprint(ctx.Value(key{}), " ", info.Thread, " ", info.Entrypoint, " ", info.Metadata["user"]), err
	})
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
		if _, err := fermata.Interrupt[string](ctx, ctx.Value(key{})); err != nil {
			return "", err
		}
		return read.Call(ctx, n)
	})
	onEach(t, func(g *ground) {
		with := func(name string) *fermata.Options {
			return &fermata.Options{Setup: func(ctx context.Context, run fermata.RunInfo) context.Context {
				return context.WithValue(ctx, key{}, name+" for "+run.Entrypoint)
			}}
		}
		g.deploy(with("client"), flow)
		p := play(g, flow, "t")
		p.asks(p.start(1, fermata.Metadata(map[string]string{"user": "bob"})), `"client for flow"`)
		g.deploy(with("client"), flow)
		p.returns(p.resume("yes"), "client for flow t flow bob")
	})
}
