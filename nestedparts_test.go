package fermata_test

import (
	"context"
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
