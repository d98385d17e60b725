package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
)

func TestDeviationDurabilityRecordedBeforeTheCodeSeesIt(t *testing.T) { // S58
	onEach(t, func(g *ground) {
		other := g.open(g.t, nil) // what another process would find
		var recorded []int
		records := func(ctx context.Context) error {
			run, err := fermata.CurrentRun(ctx)
			if err != nil {
				return err
			}
			stored, err := other.Load(ctx, "", run.ID)
			recorded = append(recorded, len(stored.Records))
			return err
		}
		step := fermata.NewTask("step", func(ctx context.Context, n int) (int, error) { return n, records(ctx) })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
			for i := range n {
				if _, err := step.Call(ctx, i); err != nil {
					return 0, err
				}
				if err := records(ctx); err != nil {
					return 0, err
				}
			}
			return n, nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(3), 3)
		for i := 1; i < len(recorded); i += 2 {
			if recorded[i] < i+1 { // a claim and an outcome per finished task
				g.t.Errorf("after task %d the database has %d records", i/2, recorded[i])
			}
		}
	})
}

func TestDeviationConcurrencyOfOneDoesNotDeadlock(t *testing.T) {
	deep := fermata.NewTask("deep", func(_ context.Context, n int) (int, error) { return n, nil })
	outer := fermata.NewTask("outer", func(ctx context.Context, n int) (int, error) { return deep.Call(ctx, n) })
	child := fermata.NewEntrypoint("child", func(ctx context.Context, n int) (int, error) { return outer.Call(ctx, n) })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		all, err := fermata.All(ctx, outer.Go(ctx, n), child.Go(ctx, n), deep.Go(ctx, n))
		return len(all), err
	}, fermata.MaxConcurrency(1))
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(1), 3)
	})
}

func TestDeviationSameThreadHasOneActiveRun(t *testing.T) {
	onEach(t, func(g *ground) {
		release := make(chan struct{})
		wait := fermata.NewTask("wait", func(context.Context, int) (int, error) { <-release; return 1, nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) { return wait.Call(ctx, n) })
		g.deploy(nil, flow)
		runs, errs := make([]*fermata.Run[int], 10), make([]error, 10)
		var starting sync.WaitGroup
		for i := range runs {
			starting.Go(func() { runs[i], errs[i] = flow.On(g.engine).Thread("1").Start(g.t.Context(), i) })
		}
		starting.Wait()
		close(release)
		begun := 0
		for i, err := range errs {
			if err != nil {
				wantErr(g.t, "a start that lost", err, fermata.ErrThreadBusy)
				continue
			}
			begun++
			if _, err := runs[i].Result(g.t.Context()); err != nil {
				g.t.Fatal(err)
			}
		}
		want(g.t, "runs begun", begun, 1)
		want(g.t, "checkpoints", outline(g.t, flow.On(g.engine).Thread("1"), nil), []string{"loop 0", "input -1"})
	})
}

func TestDeviationCacheKeepsSuccessesOnly(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		lookup := fermata.NewTask("lookup", func(ctx context.Context, n int) (string, error) {
			if c.add("lookup") == 1 {
				return "", errors.New("first")
			}
			return fermata.Interrupt[string](ctx, "which?") // an interrupt is no result either
		}, fermata.Cached(0))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) { return lookup.Call(ctx, n) })
		g.deploy(nil, flow)
		if o := play(g, flow, "1").start(0); o.err == nil {
			g.t.Fatal("the first call did not fail")
		}
		second := play(g, flow, "2")
		second.asks(second.start(0), `"which?"`)
		third := play(g, flow, "3")
		third.asks(third.start(0), `"which?"`)
		second.returns(second.resume("this"), "this")
		fourth := play(g, flow, "4")
		fourth.returns(fourth.start(0), "this")
	})
}

func TestDeviationCacheTellsTasksApart(t *testing.T) {
	onEach(t, func(g *ground) {
		adder := func(name string, add int) *fermata.Task[int, int] {
			return fermata.NewTask(name, func(_ context.Context, n int) (int, error) { return n + add, nil }, fermata.Cached(0))
		}
		five, ten, other := adder("five", 5), adder("ten", 10), adder("five", 50)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, clash bool) ([]int, error) {
			second := ten
			if clash {
				second = other
			}
			return fermata.All(ctx, five.Go(ctx, 5), second.Go(ctx, 5))
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(false), []int{10, 15})
		o := play(g, flow, "2").start(true)
		if o.err == nil || !strings.Contains(o.err.Error(), `two different tasks are named "five"`) {
			g.t.Errorf("two functions under one name: got %v, error %v", o.value, o.err)
		}
	})
}

func TestDeviationV1InterruptStandsAlone(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, ask bool) (map[string]int, error) {
		if ask {
			if _, err := fermata.Interrupt[string](ctx, "go on?"); err != nil {
				return nil, err
			}
		}
		return map[string]int{"a": 1}, nil
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(false), map[string]int{"a": 1})
		o := p.start(true)
		p.asks(o, `"go on?"`)
		var s script
		want(g.t, "values", s.print(g.t, streamed[map[string]int]{Run: o.run}, fermata.StreamValues), `{"__interrupt__":[{"id":"#1","value":"go on?"}]}`+"\n")
	})
}

// speaking is a root task that emits, and one that a nested entrypoint calls.
var speaking = fermata.NewTask("speaking", func(ctx context.Context, n int) (int, error) {
	if err := fermata.Emit(ctx, n); err != nil {
		return 0, err
	}
	return n, fermata.EmitMessage(ctx, "token", nil)
})

func TestDeviationC1M1PartsOfRootTasksAreAtTheRoot(t *testing.T) {
	child := fermata.NewEntrypoint("child", func(ctx context.Context, n int) (int, error) { return speaking.Call(ctx, n) })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		n, err := speaking.Call(ctx, n)
		if err != nil {
			return 0, err
		}
		return child.Call(ctx, n+1)
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		run, err := flow.On(g.engine).Thread("1").Start(g.t.Context(), 1)
		result(g.t, run, err)
		s := script{letters: map[string]string{run.ID().String(): "#F"}}
		want(g.t, "parts with nested ones", s.print(g.t, streamed[int]{run, &fermata.StreamOptions{Nested: true}}, fermata.StreamCustom, fermata.StreamMessages), `custom 1
messages ["token",{"langgraph_node":"speaking","langgraph_step":0}]
flow:#F custom 2
flow:#F messages ["token",{"langgraph_node":"speaking","langgraph_step":0}]
`)
		want(g.t, "parts without nested ones", s.print(g.t, streamed[int]{Run: run}, fermata.StreamCustom, fermata.StreamMessages), `custom 1
messages ["token",{"langgraph_node":"speaking","langgraph_step":0}]
`)
	})
}

func TestDeviationDrainStopsAtTaskBoundaries(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		inSecond, goOn := make(chan struct{}), make(chan struct{})
		step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) {
			if c.add(fmt.Sprint("step ", n)); n == 2 {
				close(inSecond)
				<-goOn
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
		if _, err := p.handle().Start(g.t.Context(), 5); err != nil {
			g.t.Fatal(err)
		}
		<-inSecond
		closed := make(chan error)
		go func() { closed <- g.engine.Close(context.Background()) }()
		for { // until the engine drains
			if _, err := g.engine.Answer(g.t.Context(), fermata.ID{1}, ""); errors.Is(err, fermata.ErrClosed) {
				break
			}
		}
		close(goOn)
		if err := <-closed; err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "before", c.take(), map[string]int{"step 0": 1, "step 1": 1, "step 2": 1})
		g.deploy(nil, flow) // takes it up by itself
		deadline, cancel := context.WithTimeout(g.t.Context(), patience)
		defer cancel()
		for state := p.state(); state.Status != fermata.Finished; state = p.state() {
			if deadline.Err() != nil {
				g.t.Fatalf("the run is %s", state.Status)
			}
		}
		want(g.t, "result", p.state().Value, 10)
		want(g.t, "after", c.take(), map[string]int{"step 3": 1, "step 4": 1})
	})
}

func TestDeviationStreamHasNoUpdateOfAFailedFunction(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
		if _, err := fermata.Interrupt[string](ctx, "who?"); err != nil {
			return "", err
		}
		return "", errors.New("boom")
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"who?"`)
		thread := p.handle()
		if _, err := thread.State(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
		run, err := thread.Resume(g.t.Context(), "me")
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "updates", outcome[string]{run: run}.updates(g.t), []string{"error"})
	})
}

func TestDeviationThreadIDMissingIsATypedError(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		p := play(g, inTurn, "")
		p.fails(p.start(nil), fermata.ErrInvalid)
		_, err := p.handle().State(g.t.Context())
		wantErr(g.t, "state", err, fermata.ErrInvalid)
	})
}

func TestDeviationStoreKeepsTheTimeOfMaking(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		store, ctx := g.engine.Store(), g.t.Context()
		put := func(n int) *fermata.Item {
			if err := store.Put(ctx, []string{"users"}, "ann", map[string]int{"n": n}); err != nil {
				g.t.Fatal(err)
			}
			item, err := store.Get(ctx, []string{"users"}, "ann")
			if err != nil {
				g.t.Fatal(err)
			}
			return item
		}
		first := put(1)
		g.advance(time.Hour)
		second := put(2)
		if !second.Created.Equal(first.Created) || !second.Updated.After(first.Updated) {
			g.t.Errorf("made %s, then %s; updated %s, then %s", first.Created, second.Created, first.Updated, second.Updated)
		}
		_, err := store.Get(ctx, []string{"nowhere"}, "x")
		wantErr(g.t, "an unknown item", err, fermata.ErrNotFound)
		namespaces, err := store.Namespaces(ctx, nil)
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "namespaces after a read", namespaces, [][]string{{"users"}})
	})
}

func TestDeviationStoreReadsInABodyAreRecorded(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
		store, err := fermata.StoreFrom(ctx)
		if err != nil {
			return "", err
		}
		item, err := store.Get(ctx, []string{"users"}, "ann")
		if err != nil {
			return "", err
		}
		if _, err := fermata.Interrupt[string](ctx, item.Value); err != nil {
			return "", err
		}
		return string(item.Value), nil
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		put := func(likes string) {
			if err := g.engine.Store().Put(g.t.Context(), []string{"users"}, "ann", map[string]string{"likes": likes}); err != nil {
				g.t.Fatal(err)
			}
		}
		put("tea")
		p := play(g, flow, "1")
		question := paused(g.t, p.start(0).err)[0]
		put("coffee")
		p.returns(p.answer(question, ""), `{"likes":"tea"}`)
		var shown map[string]string
		if err := json.Unmarshal(question.Payload, &shown); err != nil || shown["likes"] != "tea" {
			g.t.Errorf("shown: %s", question.Payload)
		}
	})
}
