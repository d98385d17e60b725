package fermata_test

import (
	"context"
	"sync"
	"testing"

	"github.com/fermata-go/fermata"
)

// What code in a nested entrypoint emits has the namespace that the results of its tasks have, at every depth.
func TestCustomPartsOfNestedEntrypoints(t *testing.T) {
	speaking := fermata.NewTask("speaking", func(ctx context.Context, where string) (string, error) {
		return where, fermata.Emit(ctx, where)
	})
	speak := func(ctx context.Context, where string) error {
		if err := fermata.Emit(ctx, where); err != nil {
			return err
		}
		_, err := speaking.Call(ctx, where)
		return err
	}
	inner := fermata.NewEntrypoint("inner", func(ctx context.Context, n int) (int, error) { return n, speak(ctx, "inner") })
	through := fermata.NewTask("through", func(ctx context.Context, n int) (int, error) { return inner.Call(ctx, n) })
	outer := fermata.NewEntrypoint("outer", func(ctx context.Context, n int) (int, error) {
		if err := speak(ctx, "outer"); err != nil {
			return 0, err
		}
		return through.Call(ctx, n)
	})
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		if err := speak(ctx, "flow"); err != nil {
			return 0, err
		}
		return outer.Call(ctx, n)
	})
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, flow)
		run, err := flow.On(g.engine).Thread("1").Start(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		of := map[string][]string{} // namespace of the task's result, by where it was called
		emitted := map[string][][]string{}
		for _, part := range (streamed[int]{run, &fermata.StreamOptions{Nested: true}}).collect(t, fermata.StreamCustom, fermata.StreamUpdates) {
			for _, where := range []string{"flow", "outer", "inner"} {
				switch string(part.Data) {
				case `{"speaking":"` + where + `"}`:
					of[where] = part.Namespace
				case `"` + where + `"`:
					emitted[where] = append(emitted[where], part.Namespace)
				}
			}
		}
		want(t, "segments", []int{len(of["flow"]), len(of["outer"]), len(of["inner"])}, []int{0, 1, 3})
		for where, namespace := range of {
			want(t, "namespaces of what "+where+" emits", emitted[where], [][]string{namespace, namespace})
		}
	})
}

// A goroutine that a body has started may emit while the body makes its calls, also of a run that was resumed.
func TestEmitOnAnotherGoroutineOfAResumedRun(t *testing.T) {
	step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) { return n, nil })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		if _, err := fermata.Interrupt[int](ctx, "go on?"); err != nil {
			return 0, err
		}
		var emitting sync.WaitGroup
		emitting.Go(func() {
			for i := range 100 {
				if err := fermata.Emit(ctx, i); err != nil {
					panic(err)
				}
			}
		})
		defer emitting.Wait()
		for i := range 20 {
			if _, err := step.Call(ctx, i); err != nil {
				return 0, err
			}
		}
		return n, nil
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(1), `"go on?"`)
		thread := p.handle()
		if _, err := thread.State(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
		run, err := thread.Resume(g.t.Context(), 2)
		want(g.t, "result", result(g.t, run, err), 1)
		want(g.t, "parts", len(partsOf(g.t, run, "", false, fermata.StreamCustom)), 100)
	})
}
