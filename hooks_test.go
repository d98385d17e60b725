package fermata_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
)

type span struct{}

// witness notes what hooks see; each line begins with the names of the spans around it.
type witness struct {
	mu    sync.Mutex
	lines []string
	bytes int
}

func (w *witness) note(ctx context.Context, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	around, _ := ctx.Value(span{}).(string)
	w.lines = append(w.lines, around+fmt.Sprintf(format, args...))
}

func within(ctx context.Context, name string) context.Context {
	around, _ := ctx.Value(span{}).(string)
	return context.WithValue(ctx, span{}, around+name+" > ")
}

func (w *witness) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.lines
	w.lines = nil
	return taken
}

func (w *witness) hooks() *fermata.Hooks {
	return &fermata.Hooks{
		Run: func(ctx context.Context, run fermata.RunInfo) (context.Context, func(fermata.Status, error)) {
			w.note(ctx, "run of %s, for %s", run.Entrypoint, run.Metadata["who"])
			return within(ctx, "run"), func(status fermata.Status, err error) { w.note(ctx, "run %s, %v", status, err) }
		},
		Task: func(ctx context.Context, task fermata.TaskInfo) (context.Context, func(error)) {
			kind := "task"
			if task.Entrypoint {
				kind = "entrypoint"
			}
			w.note(ctx, "%s %s, attempt %d", kind, task.Path, task.Attempt)
			return within(ctx, task.Name), func(err error) {
				if errors.Is(err, fermata.ErrPaused) {
					err = fermata.ErrPaused
				}
				w.note(ctx, "%s returned %v", task.Name, err)
			}
		},
		Question: func(ctx context.Context, q fermata.Question) {
			w.note(context.WithoutCancel(ctx), "question of %s in thread %s is %s: %s%s", q.Entrypoint, q.Thread, q.State, q.Payload, q.Answer)
		},
		Commit: func(_ context.Context, commit fermata.CommitInfo) func(error) {
			return func(err error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				if err == nil && commit.Records > 0 {
					w.bytes += commit.Bytes
				}
			}
		},
	}
}

func TestHooks(t *testing.T) {
	onEach(t, func(g *ground) {
		failures := 1
		flaky := fermata.NewTask("flaky", func(_ context.Context, in string) (string, error) {
			if failures > 0 {
				failures--
				return "", errors.New("busy")
			}
			return in, nil
		}, fermata.Retry(fermata.RetryPolicy{InitialInterval: time.Nanosecond, NoJitter: true}))
		inner := fermata.NewEntrypoint("inner", func(ctx context.Context, in string) (string, error) { return flaky.Call(ctx, in) })
		ask := fermata.NewTask("ask", func(ctx context.Context, in string) (string, error) {
			return fermata.Interrupt[string](ctx, in)
		})
		outer := fermata.NewEntrypoint("outer", func(ctx context.Context, in string) (string, error) {
			in, err := inner.Call(ctx, in)
			if err != nil {
				return "", err
			}
			return ask.Call(ctx, in)
		})
		var w witness
		g.deploy(&fermata.Options{Hooks: w.hooks()}, outer, inner)
		thread := outer.On(g.engine).Thread("1")
		_, err := thread.Invoke(g.t.Context(), "x", fermata.Metadata(map[string]string{"who": "ann"}))
		paused(g.t, err)
		g.deploy(&fermata.Options{Hooks: w.hooks()}, outer, inner)
		if w.bytes == 0 {
			g.t.Error("no commit was seen")
		}
		got := w.take()
		// The question is durable before the task that asks it returns, or after.
		slices.SortStableFunc(got, func(a, b string) int { return strings.Count(a, "question") - strings.Count(b, "question") })
		want(g.t, "asking", got, []string{
			"run of outer, for ann",
			"run > entrypoint outer/inner, attempt 1",
			"run > inner > task outer/inner/flaky, attempt 1",
			"run > inner > flaky returned busy",
			"run > inner > task outer/inner/flaky, attempt 2",
			"run > inner > flaky returned <nil>",
			"run > inner returned <nil>",
			"run > task outer/ask, attempt 1",
			"run > ask returned " + fermata.ErrPaused.Error(),
			"run interrupted, <nil>",
			`run > question of outer in thread 1 is open: "x"`,
		})

		thread = outer.On(g.engine).Thread("1")
		if _, err := thread.State(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
		run, err := thread.Resume(g.t.Context(), "yes")
		if err != nil {
			g.t.Fatal(err)
		}
		if _, err := run.Result(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
		g.deploy(nil)
		want(g.t, "answering", w.take(), []string{
			`question of outer in thread 1 is answered: "x""yes"`,
			"run of outer, for ann",
			"run > task outer/ask, attempt 1",
			"run > ask returned <nil>",
			"run finished, <nil>",
		})
	})
}

func TestHooksThatPanic(t *testing.T) {
	onEach(t, func(g *ground) {
		graph := body(func(ctx context.Context, in string) (string, error) { return fermata.Interrupt[string](ctx, in) })
		g.deploy(&fermata.Options{Hooks: &fermata.Hooks{
			Run:      func(context.Context, fermata.RunInfo) (context.Context, func(fermata.Status, error)) { panic("run") },
			Task:     func(context.Context, fermata.TaskInfo) (context.Context, func(error)) { panic("task") },
			Question: func(context.Context, fermata.Question) { panic("question") },
			Commit: func(context.Context, fermata.CommitInfo) func(error) {
				return func(error) { panic("commit") }
			},
		}}, graph)
		thread := graph.On(g.engine).Thread("1")
		_, err := thread.Invoke(g.t.Context(), "x")
		paused(g.t, err)
		run, err := thread.Resume(g.t.Context(), "yes")
		if err != nil {
			g.t.Fatal(err)
		}
		if got, err := run.Result(g.t.Context()); err != nil || got != "yes" {
			g.t.Errorf("result %q, %v", got, err)
		}
	})
}

func TestHooksSayWhyARunFailedOrIsParked(t *testing.T) {
	onEach(t, func(g *ground) {
		input := "a"
		step := fermata.NewTask("step", func(_ context.Context, in string) (string, error) { return in, nil })
		fails := fermata.NewEntrypoint("fails", func(context.Context, string) (string, error) { return "", errors.New("oops") })
		strays := fermata.NewEntrypoint("strays", func(ctx context.Context, in string) (string, error) {
			if _, err := step.Call(ctx, input); err != nil {
				return "", err
			}
			return fermata.Interrupt[string](ctx, in)
		})
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		g.deploy(&fermata.Options{Hooks: fermata.LogHooks(logger), Logger: logger}, fails, strays)
		if _, err := fails.On(g.engine).Thread("1").Invoke(g.t.Context(), "x"); err == nil {
			g.t.Error("the run has not failed")
		}
		thread := strays.On(g.engine).Thread("2")
		_, err := thread.Invoke(g.t.Context(), "x")
		paused(g.t, err)
		input = "b"
		run, err := thread.Resume(g.t.Context(), "yes")
		if err != nil {
			g.t.Fatal(err)
		}
		_, err = run.Result(g.t.Context())
		says(g.t, err, fermata.ErrParked)
		g.deploy(nil) // when the engine is closed all is written
		for what, parts := range map[string][]string{
			"failed run": {"level=WARN", `msg="run given up"`, "status=failed", "oops"},
			"parked run": {"level=WARN", `msg="run given up"`, "status=parked", "task \\\"step\\\"", "another input"},
			"engine":     {"level=ERROR", `msg="run parked"`, "reason=divergence"},
		} {
			found := slices.ContainsFunc(strings.Split(log.String(), "\n"), func(line string) bool {
				return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) })
			})
			if !found {
				g.t.Errorf("no line of the %s with %q in\n%s", what, parts, log.String())
			}
		}
	})
}
