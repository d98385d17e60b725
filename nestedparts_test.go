package fermata_test

import (
	"context"
	"regexp"
	"strings"
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

// Nested entrypoints that one function calls are told apart, live and for who reads later, and start and end as a root does.
func TestSeveralNestedEntrypointsHaveNamespacesOfTheirOwn(t *testing.T) {
	add := fermata.NewTask("add", func(ctx context.Context, n int) (int, error) { return n + 1, fermata.Emit(ctx, n+1) })
	child := fermata.NewEntrypoint("child", func(ctx context.Context, n int) (int, error) { return add.Call(ctx, n) })
	via := fermata.NewTask("via", func(ctx context.Context, n int) (int, error) { return child.Call(ctx, n) })
	middle := fermata.NewEntrypoint("middle", func(ctx context.Context, n int) (int, error) { return child.Call(ctx, n) })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		_, err := fermata.All(ctx, child.Go(ctx, 10), child.Go(ctx, 20), via.Go(ctx, 30), middle.Go(ctx, 40))
		return n, err
	})
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, flow)
		run, err := flow.On(g.engine).Thread("1").Start(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		ids := regexp.MustCompile(`:[0-9a-f]{32}`)
		updates, emitted := map[string]string{}, map[string]string{}
		for _, part := range partsOf(t, run, "", true, fermata.StreamCustom, fermata.StreamUpdates) {
			where, data := ids.ReplaceAllString(strings.Join(part.Namespace, "|"), ""), string(part.Data)
			if n, ok := strings.CutPrefix(data, `{"add":`); ok {
				updates[strings.Trim(n, "}")] = where
			} else if part.Mode == fermata.StreamCustom {
				emitted[data] = where
			}
		}
		namespaces := map[string]string{"11": "flow", "21": "flow|1", "31": "flow|via", "41": "flow|2|middle"}
		want(t, "namespaces of updates", updates, namespaces)
		want(t, "namespaces of what was emitted", emitted, namespaces)
		ends := 0
		for _, part := range partsOf(t, run, "", true, fermata.StreamTasks) {
			text := string(part.Data)
			root := strings.Contains(text, `["__start__"]`) || strings.Contains(text, `"__end__"`)
			if nested := !strings.Contains(text, `"add"`) && !strings.Contains(text, `"via"`); root != nested {
				t.Errorf("shape of %s", text)
			}
			if root {
				ends++
			}
		}
		want(t, "starts and ends of entrypoints", ends, 12)
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
