package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/backendtest"
)

var allModes = []fermata.Mode{
	fermata.StreamUpdates, fermata.StreamValues, fermata.StreamCustom, fermata.StreamMessages, fermata.StreamTasks,
	fermata.StreamCheckpoints, fermata.StreamDebug,
}

// tour is a workflow with something of all that streams show: parallel and nested calls, questions, and what code emits.
func tour() *fermata.Entrypoint[int, string] {
	step := fermata.NewTask("step", func(ctx context.Context, n int) (int, error) {
		return n, fermata.Emit(ctx, n)
	})
	ask := fermata.NewTask("ask", func(ctx context.Context, what string) (string, error) {
		return fermata.Interrupt[string](ctx, what)
	})
	child := fermata.NewEntrypoint("child", func(ctx context.Context, n int) (string, error) {
		if _, err := step.Call(ctx, n); err != nil {
			return "", err
		}
		return ask.Call(ctx, "nested?")
	})
	return fermata.NewEntrypoint("tour", func(ctx context.Context, n int) (string, error) {
		all := []*fermata.Future[int]{step.Go(ctx, n), step.Go(ctx, n+1), step.Go(ctx, n+2)}
		if _, err := fermata.All(ctx, all...); err != nil {
			return "", err
		}
		out, err := ask.Call(ctx, "first?")
		if err != nil {
			return "", err
		}
		if err := fermata.EmitMessage(ctx, "token", nil); err != nil {
			return "", err
		}
		inner, err := child.Call(ctx, n)
		if err != nil {
			return "", err
		}
		_, err = step.Call(ctx, n)
		return out + inner, err
	})
}

// partsOf collects the parts of a run from a position on.
func partsOf[O any](t *testing.T, run *fermata.Run[O], after string, nested bool, modes ...fermata.Mode) (parts []fermata.Part) {
	t.Helper()
	for part, err := range run.Stream(t.Context(), &fermata.StreamOptions{Nested: nested, After: after}, modes...) {
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	return parts
}

// wanted are the parts that a reader with these modes, in another process, sees.
func wanted(parts []fermata.Part, nested bool, modes ...fermata.Mode) (some []fermata.Part) {
	for _, p := range parts {
		emitted := p.Mode == fermata.StreamCustom || p.Mode == fermata.StreamMessages
		if slices.Contains(modes, p.Mode) && !emitted && (nested || len(p.Namespace) == 0) {
			some = append(some, p)
		}
	}
	return some
}

// sameParts fails the test unless a reader got the parts that are wanted.
func sameParts(t *testing.T, what string, got, want []fermata.Part) {
	t.Helper()
	lines := func(parts []fermata.Part) (lines []string) {
		for _, p := range parts {
			lines = append(lines, fmt.Sprint(p.Position, " ", p.Mode, p.Namespace, " ", string(p.Data)))
		}
		return lines
	}
	if g, w := lines(got), lines(want); !slices.Equal(g, w) {
		t.Fatalf("%s: another stream (-want +got):\n%s", what, cmp.Diff(w, g))
	}
}

// TestAttachAnywhere: who attaches to a run, in another process, while it waits or when it has ended, sees from any
// position on, with any modes, what the one saw who was there.
func TestAttachAnywhere(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) {
		flow := tour()
		deploy := func() *fermata.Thread[int, string] {
			engine, err := fermata.New(open(t, nil), nil, flow)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { engine.Close(context.Background()) })
			return flow.On(engine).Thread("1")
		}
		here, there := deploy(), deploy()
		run, err := here.Start(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		var seen []fermata.Part
		for answers := 0; ; answers++ {
			for _, part := range partsOf(t, run, "", true, allModes...) {
				if n := len(seen); n > 0 && seen[n-1].Position == part.Position {
					t.Fatalf("two parts have the position %s", part.Position)
				}
				seen = append(seen, part)
			}
			attached, err := there.Attach(t.Context(), fermata.ID{})
			if err != nil {
				t.Fatal(err)
			}
			sameParts(t, fmt.Sprintf("after %d answers", answers), partsOf(t, attached, "", true, allModes...), wanted(seen, true, allModes...))
			if answers == 2 {
				break
			}
			if run, err = here.Resume(t.Context(), fmt.Sprint("yes", answers)); err != nil {
				t.Fatal(err)
			}
		}
		attached, err := there.Attach(t.Context(), run.ID())
		if err != nil {
			t.Fatal(err)
		}
		for i, from := range seen {
			for _, modes := range [][]fermata.Mode{allModes, {fermata.StreamUpdates}, {fermata.StreamValues, fermata.StreamTasks}} {
				for _, nested := range []bool{true, false} {
					got := partsOf(t, attached, from.Position, nested, modes...)
					sameParts(t, fmt.Sprintf("after %s, modes %v, nested %t", from.Position, modes, nested), got, wanted(seen[i+1:], nested, modes...))
				}
			}
		}
		if len(wanted(seen, true, allModes...)) == len(seen) {
			t.Error("nothing was emitted")
		}
		want(t, "result by the attached handle", result(t, attached, nil), "yes0yes1")
	})
}

// TestAttachRefuses what it can't attach to, and positions that are none.
func TestAttachRefuses(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, counter)
		_, err := counter.On(g.engine).Thread("1").Attach(t.Context(), fermata.ID{})
		wantErr(t, "a thread without a run", err, fermata.ErrUnknownThread)
		run, err := counter.On(g.engine).Thread("1").Start(t.Context(), 1)
		result(t, run, err)
		_, err = counter.On(g.engine).Thread("2").Attach(t.Context(), run.ID())
		wantErr(t, "a run of another thread", err, fermata.ErrUnknownRun)
		for _, bad := range []string{"x", "1", "1.0.0", "1.0.0.-1", "01.0.0.1", "1.0.0.1.0", "1.0.0.99999999999999999999"} {
			for _, err := range run.Stream(t.Context(), &fermata.StreamOptions{After: bad}) {
				wantErr(t, "position "+bad, err, fermata.ErrInvalid)
			}
		}
	})
}

// TestAttachAfterAFailureThatWasLeft: the stream goes on over a failure after which the run was continued. What the entrypoint
// failed with is not in it any more.
func TestAttachAfterAFailureThatWasLeft(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		broken := true
		step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) { return n, nil })
		fragile := fermata.NewTask("fragile", func(_ context.Context, n int) (int, error) {
			if broken {
				return 0, errors.New("broken")
			}
			return n, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
			if _, err := step.Call(ctx, n); err != nil {
				return 0, err
			}
			return fragile.Call(ctx, n)
		})
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		var seen []fermata.Part
		watch := func(run *fermata.Run[int], err error) (last error) {
			if err != nil {
				t.Fatal(err)
			}
			for part, err := range run.Stream(t.Context(), nil, fermata.StreamUpdates, fermata.StreamTasks, fermata.StreamValues) {
				if last = err; err == nil {
					seen = append(seen, part)
				}
			}
			return last
		}
		run, err := thread.Start(t.Context(), 1)
		if err := watch(run, err); err == nil {
			t.Fatal("the stream of a run that failed has no error")
		}
		end := len(seen) - 1
		if !strings.Contains(string(seen[end].Data), `"name":"flow"`) {
			t.Fatalf("the last part is %s", seen[end].Data)
		}
		broken = false
		run, err = thread.Continue(t.Context())
		if err := watch(run, err); err != nil {
			t.Fatal(err)
		}
		attached, err := thread.Attach(t.Context(), run.ID())
		if err != nil {
			t.Fatal(err)
		}
		all := slices.Delete(slices.Clone(seen), end, end+1)
		sameParts(t, "all of it", partsOf(t, attached, "", false, fermata.StreamUpdates, fermata.StreamTasks, fermata.StreamValues), all)
		sameParts(t, "after the failure", partsOf(t, attached, seen[end].Position, false, fermata.StreamUpdates, fermata.StreamTasks, fermata.StreamValues), all[end:])
	})
}

func TestAttachToACancelledPause(t *testing.T) {
	onEach(t, func(g *ground) {
		graph := body(func(ctx context.Context, in string) (string, error) { return fermata.Interrupt[string](ctx, in) })
		g.deploy(nil, graph)
		ctx, thread := g.t.Context(), graph.On(g.engine).Thread("1")
		_, err := thread.Invoke(ctx, "go on?")
		paused(g.t, err)
		if _, err := thread.Cancel(ctx, "no need"); err != nil {
			g.t.Fatal(err)
		}
		run, err := thread.Attach(ctx, fermata.ID{})
		if err != nil {
			g.t.Fatal(err)
		}
		for _, err = range run.Events(ctx) {
			if err != nil {
				break
			}
		}
		wantErr(g.t, "the end of the events", err, fermata.ErrCancelled)
	})
}

func TestEnqueuedForkStreamsFromItsPoint(t *testing.T) {
	onEach(t, func(g *ground) {
		step := fermata.NewTask("step", func(_ context.Context, in string) (string, error) { return in, nil })
		graph := body(func(ctx context.Context, in string) (string, error) {
			if _, err := step.Call(ctx, in); err != nil {
				return "", err
			}
			return fermata.Interrupt[string](ctx, "go on?")
		})
		g.deploy(nil, graph)
		ctx, thread := g.t.Context(), graph.On(g.engine).Thread("1")
		_, err := thread.Invoke(ctx, "x")
		question := paused(g.t, err)[0].ID
		first := func(options ...fermata.StartOption) (position string) {
			if _, err := thread.Cancel(ctx, ""); err != nil {
				g.t.Fatal(err)
			}
			run, err := thread.Fork(ctx, fermata.BeforeQuestion(question), options...)
			if err != nil {
				g.t.Fatal(err)
			}
			for part, err := range run.Stream(ctx, nil, fermata.StreamDebug) {
				if err != nil {
					g.t.Fatal(err)
				}
				if position == "" {
					position = part.Position
				}
			}
			return position
		}
		want(g.t, "the first part of an enqueued fork", first(fermata.Enqueue()), first())
	})
}
