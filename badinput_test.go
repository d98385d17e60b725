package fermata_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/fermata-go/fermata/storage"
)

// onHarness runs a test on every backend; make starts a harness there.
func onHarness(t *testing.T, fn func(t *testing.T, o *fermatatest.Options)) {
	t.Parallel()
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) {
		fn(t, &fermatatest.Options{Backend: func(offset func() time.Duration) (storage.Backend, error) {
			return open(t, offset), nil
		}})
	})
}

// inMemory is for what has nothing to do with the backend.
func inMemory(t *testing.T, definitions ...fermata.Definition) *fermatatest.Harness {
	t.Helper()
	return fermatatest.New(t, nil, definitions...)
}

// says ends the test unless err matches want and its text holds all parts. A text is for people:
// it is not longer than they read.
func says(t *testing.T, err, want error, parts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want one that matches %q", err, want)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error doesn't say %q: %v", part, err)
		}
	}
	if n := len(err.Error()); n > 1000 {
		t.Errorf("the error has %d bytes: %.300s…", n, err)
	}
}

func echo(_ context.Context, in string) (string, error) { return in, nil }

// body makes an entrypoint "graph" of a function.
func body[I, O any](fn func(context.Context, I) (O, error), options ...fermata.EntrypointOption) *fermata.Entrypoint[I, O] {
	return fermata.NewEntrypoint("graph", fn, options...)
}

type unexportedOnly struct{ secret string } //nolint:unused // that is its fault

func TestBadEntrypoints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entrypoints []fermata.Definition
		says        string
	}{
		"no name":           {[]fermata.Definition{fermata.NewEntrypoint("", echo)}, "it has no name"},
		"long name":         {[]fermata.Definition{fermata.NewEntrypoint(strings.Repeat("x", 1<<20), echo)}, "its name is longer than 128 bytes"},
		"control character": {[]fermata.Definition{fermata.NewEntrypoint("a\nb", echo)}, "control character"},
		"no UTF-8":          {[]fermata.Definition{fermata.NewEntrypoint("a\xffb", echo)}, "UTF-8"},
		"no function":       {[]fermata.Definition{fermata.NewEntrypoint[string, string]("graph", nil)}, "it has no function"},
		"channel":           {[]fermata.Definition{body(func(context.Context, chan int) (string, error) { return "", nil })}, "chan int"},
		"function": {[]fermata.Definition{body(func(context.Context, string) (struct{ F func() }, error) {
			return struct{ F func() }{}, nil
		})}, "/F"},
		"unexported fields only": {[]fermata.Definition{body(func(context.Context, unexportedOnly) (string, error) { return "", nil })}, "unexportedOnly"},
		"bad option":             {[]fermata.Definition{body(echo, fermata.MaxConcurrency(0))}, "must be at least 1"},
		"bad durability":         {[]fermata.Definition{body(echo, fermata.WithDurability(9))}, "want Sync, Async or Exit"},
		"two of one name":        {[]fermata.Definition{body(echo), body(echo)}, `two entrypoints are named "graph"`},
		"nil":                    {[]fermata.Definition{nil}, "nil"},
		"nil entrypoint":         {[]fermata.Definition{(*fermata.Entrypoint[string, string])(nil)}, "nil"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := fermata.New(backendtest.Memory(t)(t, nil), nil, c.entrypoints...)
			says(t, err, fermata.ErrDefinition, c.says)
		})
	}
}

func TestBadEngineOptions(t *testing.T) {
	t.Parallel()
	_, err := fermata.New(nil, nil)
	says(t, err, fermata.ErrInvalid, "memory.New, sqlite.Open or postgres.Open")
	for name, registered := range map[string]map[string]error{
		"no code":    {"": errors.New("x")},
		"no error":   {"x": nil},
		"taken code": {"fermata.timeout": errors.New("x")},
	} {
		_, err := fermata.New(backendtest.Memory(t)(t, nil), &fermata.Options{Errors: registered})
		if says(t, err, fermata.ErrDefinition, "registered error"); t.Failed() {
			t.Error(name)
		}
	}
	closed := backendtest.Memory(t)(t, nil)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = fermata.New(closed, nil)
	says(t, err, fermata.ErrStorage, "closed")
	says(t, err, storage.ErrClosed)
}

// An ill-defined task is a fault of the program: its calls say so, and leave no trace in the run.
func TestBadTasks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		task *fermata.Task[string, string]
		says string
	}{
		"no name":             {fermata.NewTask("", echo), "it has no name"},
		"long name":           {fermata.NewTask(strings.Repeat("x", 129), echo), "its name is longer than 128 bytes"},
		"no function":         {fermata.NewTask[string, string]("task", nil), "it has no function"},
		"timeout of 0":        {fermata.NewTask("task", echo, fermata.Timeout(0)), "must be greater than 0"},
		"negative policy":     {fermata.NewTask("task", echo, fermata.Retry(fermata.RetryPolicy{MaxAttempts: -1})), "negative"},
		"another of its name": {fermata.NewTask("good", echo), `two different tasks are named "good"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := fermata.NewTask("good", echo)
			var fault error
			graph := body(func(ctx context.Context, in string) (string, error) {
				if _, err := good.Call(ctx, in); err != nil {
					return "", err
				}
				_, fault = c.task.Call(ctx, in)
				return good.Call(ctx, "again "+in)
			})
			thread := fermatatest.On(inMemory(t, graph), graph, "1")
			thread.Start("x")
			if got := thread.Result(); got != "again x" {
				t.Errorf("the run's result is %q", got)
			}
			says(t, fault, fermata.ErrDefinition, c.says)
		})
	}
}

// Types are checked when a task is called: that is the first time an engine meets it.
func TestTaskOfABadType(t *testing.T) {
	t.Parallel()
	task := fermata.NewTask("task", func(context.Context, chan int) (string, error) { return "", nil })
	var fault error
	graph := body(func(ctx context.Context, in string) (string, error) {
		_, fault = task.Call(ctx, nil)
		return in, nil
	})
	thread := fermatatest.On(inMemory(t, graph), graph, "1")
	thread.Start("x")
	thread.Result()
	says(t, fault, fermata.ErrDefinition, "chan int", `task "task"`)
}

func TestEntrypointWithoutItsEngine(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		ctx := t.Context()
		graph := body(echo)
		verbs := func(thread *fermata.Thread[string, string]) map[string]error {
			errs := map[string]error{}
			_, errs["start"] = thread.Start(ctx, "x")
			_, errs["resume"] = thread.Resume(ctx, "x")
			_, errs["continue"] = thread.Continue(ctx)
			_, errs["cancel"] = thread.Cancel(ctx, "")
			_, errs["repair"] = thread.Repair(ctx, fermata.RunAgain, fermata.Principal{}, "")
			_, errs["state"] = thread.State(ctx)
			return errs
		}
		for verb, err := range verbs(graph.On(nil).Thread("1")) {
			says(t, err, fermata.ErrInvalid, verb+":", "bind the entrypoint to an engine with On")
		}

		h := fermatatest.New(t, o, fermata.NewEntrypoint("other", echo))
		_, err := graph.On(h.Engine()).Thread("1").Start(ctx, "x")
		says(t, err, fermata.ErrUnknownEntrypoint, `"graph"`, "pass the entrypoint to New")

		// It has one of that name, which is another: that must not run instead.
		h.RestartWith(body(func(context.Context, int) (int, error) { return 0, nil }))
		_, err = graph.On(h.Engine()).Thread("1").Start(ctx, "x")
		says(t, err, fermata.ErrUnknownEntrypoint, `"graph"`)
		if s := fermatatest.On(h, graph, "1").State(); !s.Run.IsZero() {
			t.Errorf("a run was made: %+v", s)
		}
	})
}

// A process that doesn't know the workflow can still read its thread, answer, and give it up.
func TestProcessThatDoesNotKnowTheWorkflow(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		graph := body(func(ctx context.Context, in string) (string, error) { return fermata.Interrupt[string](ctx, in) })
		h := fermatatest.New(t, o, graph)
		fermatatest.On(h, graph, "1").Start("which?")
		h.Wait()
		h.RestartWith()
		q := h.Question()
		thread := fermatatest.On(h, graph, "1")
		_, err := thread.Handle().Continue(t.Context())
		says(t, err, fermata.ErrUnknownEntrypoint, `"graph"`, "pass the entrypoint to New")
		_, err = h.Engine().Answer(t.Context(), q.ID, 7)
		says(t, err, fermata.ErrInvalidAnswer)
		h.Answer(q, "this")
		if s := thread.State(); s.Status != fermata.Queued {
			t.Errorf("the run is %s, want queued: for a process that knows it", s.Status)
		}
		h.RestartWith(graph)
		if got := thread.Result(); got != "this" {
			t.Errorf("result %q", got)
		}
	})
}

func TestBadThreadIDs(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		ctx := t.Context()
		graph := body(echo)
		h := fermatatest.New(t, o, graph)
		for name, c := range map[string]struct{ id, says string }{
			"empty":         {"", "it is empty"},
			"257 bytes":     {strings.Repeat("x", 257), "it is longer than 256 bytes"},
			"10 MB":         {strings.Repeat("x", 10<<20), "10485760 bytes"},
			"line break":    {"a\nb", "control characters"},
			"NUL":           {"a\x00b", "control characters"},
			"C1 control":    {"a\u0085b", "control characters"},
			"invalid UTF-8": {"a\xff", "not UTF-8"},
		} {
			thread := graph.On(h.Engine()).Thread(c.id)
			for verb, fn := range map[string]func() error{
				"start":    func() error { _, err := thread.Start(ctx, "x"); return err },
				"resume":   func() error { _, err := thread.Resume(ctx, "x"); return err },
				"continue": func() error { _, err := thread.Continue(ctx); return err },
				"cancel":   func() error { _, err := thread.Cancel(ctx, "x"); return err },
				"repair": func() error {
					_, err := thread.Repair(ctx, fermata.RunAgain, fermata.Principal{}, "")
					return err
				},
				"state": func() error { _, err := thread.State(ctx); return err },
			} {
				if says(t, fn(), fermata.ErrInvalid, verb+":", c.says, "use a short printable id"); t.Failed() {
					t.Fatalf("%s of the thread %s", verb, name)
				}
			}
		}
		threads, err := h.Backend().ListThreads(ctx, storage.ThreadFilter{})
		if err != nil || len(threads) > 0 {
			t.Errorf("bad ids left %d threads, %v", len(threads), err)
		}
		for _, id := range []string{"x", strings.Repeat("x", 256), "Straße 7 / 東京 🎼", "../../etc/passwd", "'; DROP TABLE run; --"} {
			thread := fermatatest.On(h, graph, id)
			thread.Start("in " + id)
			if got := thread.Result(); got != "in "+id {
				t.Errorf("thread %.40q: result %q", id, got)
			}
		}
	})
}

func TestUnknownThread(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		graph := body(echo)
		thread := fermatatest.On(fermatatest.New(t, o, graph), graph, "none")
		_, err := thread.Handle().Resume(t.Context(), "x")
		says(t, err, fermata.ErrUnknownThread, `resume: unknown thread (thread "none")`, "start a run on it first")
		_, err = thread.Handle().Continue(t.Context())
		says(t, err, fermata.ErrUnknownThread, "continue:")
		_, err = thread.Handle().Cancel(t.Context(), "")
		says(t, err, fermata.ErrUnknownThread, "cancel:")
		if s := thread.State(); !s.Run.IsZero() || s.OK || s.Status != 0 || s.Revision != "" {
			t.Errorf("state %+v, want the zero state", s)
		}
	})
}

// A run id is given once: with the same start it is the same run, with another an error.
func TestRunIDUsedTwice(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		ctx := t.Context()
		graph := body(echo)
		h := fermatatest.New(t, o, graph)
		thread := graph.On(h.Engine()).Thread("1")
		id, err := fermata.ParseID("0123456789abcdef0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := thread.Invoke(ctx, "x", fermata.WithRunID(id)); err != nil {
			t.Fatal(err)
		}
		if out, err := thread.Invoke(ctx, "x", fermata.WithRunID(id)); out != "x" || err != nil {
			t.Errorf("the repeated start: %q, %v", out, err)
		}
		_, err = thread.Start(ctx, "y", fermata.WithRunID(id))
		says(t, err, fermata.ErrRunConflict, "give each run its own id")
		_, err = graph.On(h.Engine()).Thread("2").Start(ctx, "x", fermata.WithRunID(id))
		says(t, err, fermata.ErrRunConflict)
		for _, bad := range []string{"", "xyz", strings.Repeat("g", 32), strings.Repeat("0", 31), strings.Repeat("0", 1<<20)} {
			_, err := fermata.ParseID(bad)
			says(t, err, fermata.ErrInvalid, "want 32 hex digits")
			want(t, "how often the error says that it is invalid", strings.Count(err.Error(), "invalid request"), 1)
		}
		_, err = thread.StateAt(ctx, "zz")
		says(t, err, fermata.ErrInvalid, "checkpoint")
		want(t, "how often the error says that it is invalid", strings.Count(err.Error(), "invalid request"), 1)
	})
}
