package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
)

// durableCalls are all that a function of a run can call.
var durableCalls = map[string]func(ctx context.Context) error{
	"Call":      func(ctx context.Context) error { _, err := misused.Call(ctx, "x"); return err },
	"Go":        func(ctx context.Context) error { _, err := misused.Go(ctx, "x").Result(ctx); return err },
	"nested":    func(ctx context.Context) error { _, err := misusedFlow.Call(ctx, "x"); return err },
	"Interrupt": func(ctx context.Context) error { _, err := fermata.Interrupt[string](ctx, "x"); return err },
	"Group": func(ctx context.Context) error {
		g := fermata.NewGroup(ctx)
		g.Go(func(context.Context) error { return nil })
		return g.Wait()
	},
	"Sleep":   func(ctx context.Context) error { return fermata.Sleep(ctx, time.Hour) },
	"Version": func(ctx context.Context) error { _, err := fermata.Version(ctx, "change", 1, 2); return err },
	"Now":     func(ctx context.Context) error { _, err := fermata.Now(ctx); return err },
	"Rand":    func(ctx context.Context) error { _, err := fermata.Rand(ctx); return err },
	"UUID":    func(ctx context.Context) error { _, err := fermata.UUID(ctx); return err },
}

var (
	misused     = fermata.NewTask("misused", echo)
	misusedFlow = fermata.NewEntrypoint("misused flow", echo)
)

func TestEveryDurableCallOutsideARun(t *testing.T) {
	t.Parallel()
	for name, call := range durableCalls {
		err := call(t.Context())
		if says(t, err, fermata.ErrOutsideRun, "with the context that was handed to it"); t.Failed() {
			t.Fatal(name)
		}
	}
	_, _, err := fermata.Previous[string](t.Context())
	says(t, err, fermata.ErrOutsideRun)
	_, _, err = fermata.Config[string](t.Context())
	says(t, err, fermata.ErrOutsideRun)
	_, err = fermata.CurrentRun(t.Context())
	says(t, err, fermata.ErrOutsideRun)
	_, err = fermata.IdempotencyID(t.Context())
	says(t, err, fermata.ErrOutsideRun)
	says(t, fermata.Save(t.Context(), "x"), fermata.ErrOutsideRun, "in the body of an entrypoint")
}

// Positions are counted by the goroutine that a function was called on: any other one is told, and nothing is recorded.
func TestEveryDurableCallOnAnotherGoroutine(t *testing.T) {
	t.Parallel()
	faults := map[string]error{}
	graph := body(func(ctx context.Context, in string) (string, error) {
		for name, call := range durableCalls {
			done := make(chan struct{})
			go func() {
				defer close(done)
				faults[name] = call(ctx)
			}()
			<-done
		}
		return misused.Call(ctx, in)
	})
	thread := fermatatest.On(inMemory(t, graph), graph, "1")
	thread.Start("x")
	if got := thread.Result(); got != "x" {
		t.Errorf("result %q", got)
	}
	for name, err := range faults {
		if says(t, err, fermata.ErrConcurrentScope, `thread "1"`, "at graph", "use Go for parallel work"); t.Failed() {
			t.Fatal(name)
		}
	}
}

// Calls from two goroutines at once: one of them owns the function, the other always gets the error.
func TestTwoGoroutinesAtOnce(t *testing.T) {
	t.Parallel()
	var refused, passed atomic.Int32
	graph := body(func(ctx context.Context, in string) (string, error) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := misused.Call(ctx, in); errors.Is(err, fermata.ErrConcurrentScope) {
					refused.Add(1)
				} else {
					passed.Add(1)
				}
			})
		}
		for range 8 {
			if _, err := misused.Call(ctx, in); err != nil {
				return "", err
			}
		}
		wg.Wait()
		return in, nil
	})
	h := fermatatest.New(t, &fermatatest.Options{Unverified: true}, graph)
	thread := fermatatest.On(h, graph, "1")
	thread.Start("x")
	thread.Result()
	if refused.Load() != 8 || passed.Load() != 0 {
		t.Errorf("%d calls of other goroutines were refused, %d passed; want 8 and 0", refused.Load(), passed.Load())
	}
}

// A context belongs to one function: not to the tasks below it, nor to what outlives it.
func TestContextOfAnotherFunction(t *testing.T) {
	t.Parallel()
	faults := map[string]error{}
	outer := make(chan context.Context, 2)
	inner := fermata.NewTask("inner", func(context.Context, string) (string, error) {
		of := <-outer
		for name, call := range durableCalls {
			faults["parent's "+name] = call(of)
		}
		return "", nil
	})
	var leaked context.Context
	leak := fermata.NewTask("leak", func(ctx context.Context, _ string) (string, error) {
		leaked = ctx
		return "", nil
	})
	graph := body(func(ctx context.Context, in string) (string, error) {
		outer <- ctx
		if _, err := inner.Call(ctx, in); err != nil {
			return "", err
		}
		if _, err := leak.Call(ctx, in); err != nil {
			return "", err
		}
		for name, call := range durableCalls {
			faults["child's "+name] = call(leaked)
		}
		return misused.Call(ctx, in)
	})
	h := fermatatest.New(t, &fermatatest.Options{Unverified: true}, graph)
	thread := fermatatest.On(h, graph, "1")
	thread.Start("x")
	if got := thread.Result(); got != "x" {
		t.Errorf("result %q", got)
	}
	for name, err := range faults {
		switch name[0] {
		case 'p':
			says(t, err, fermata.ErrConcurrentScope, "at graph")
		default:
			says(t, err, fermata.ErrScopeEnded, "graph/leak", "has returned")
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
	for name, call := range durableCalls {
		if says(t, call(leaked), fermata.ErrScopeEnded, "has returned"); t.Failed() {
			t.Fatalf("%s after the run", name)
		}
	}
}

// A context made from the one that was handed over is as good.
func TestDerivedContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	task := fermata.NewTask("task", func(ctx context.Context, _ string) (any, error) { return ctx.Value(key{}), nil })
	graph := body(func(ctx context.Context, _ string) (any, error) {
		ctx, cancel := context.WithTimeout(context.WithValue(ctx, key{}, "mine"), time.Hour)
		defer cancel()
		return task.Call(ctx, "x")
	})
	thread := fermatatest.On(inMemory(t, graph), graph, "1")
	thread.Start("x")
	if got := thread.Result(); got != "mine" {
		t.Errorf("the task saw %v", got)
	}
}

// A future belongs to the function that made the call.
func TestFutureOfAnotherFunction(t *testing.T) {
	t.Parallel()
	var fault error
	graph := body(func(ctx context.Context, in string) (string, error) {
		future := misused.Go(ctx, in)
		thief := fermata.NewGroup(ctx)
		thief.Go(func(ctx context.Context) error {
			_, fault = future.Result(ctx)
			return nil
		})
		if err := thief.Wait(); err != nil {
			return "", err
		}
		return future.Result(ctx)
	})
	thread := fermatatest.On(inMemory(t, graph), graph, "1")
	thread.Start("x")
	if got := thread.Result(); got != "x" {
		t.Errorf("result %q", got)
	}
	says(t, fault, fermata.ErrConcurrentScope, "a future belongs to the scope that made the call")
}

type angry struct{ level int }

func (a *angry) Error() string { return fmt.Sprint("angry at level ", a.level) } // panics if a is nil

// Whatever goes wrong in a user's function, it becomes an error of the task or of the run, with
// a stack that names the function, and the process lives.
func TestPanics(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault func() error
		says  string
		is    error
	}{
		"text":         {func() error { panic("out of order") }, "out of order", nil},
		"error":        {func() error { panic(errRegistered) }, "registered", errRegistered},
		"nil map":      {func() error { nilMap()["x"] = 1; return nil }, "assignment to entry in nil map", nil},
		"nil":          {func() error { panic(nil) }, "nil", nil},
		"Error panics": {func() error { var a *angry; return a }, "nil pointer", nil},
		"nil error":    {func() error { var a *angry; panic(a) }, "<nil>", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faulty := fermata.NewTask("faulty", func(context.Context, string) (string, error) { return "", c.fault() })
			var caught error
			graph := body(func(ctx context.Context, in string) (string, error) {
				if in == "body" {
					return "", c.fault()
				}
				_, caught = faulty.Call(ctx, in)
				return "caught", nil
			})
			h := fermatatest.New(t, &fermatatest.Options{Engine: fermata.Options{
				Errors: map[string]error{"registered": errRegistered},
			}}, graph)
			task := fermatatest.On(h, graph, "task")
			task.Start("task")
			task.Result()
			var taskErr *fermata.TaskError
			if !errors.As(caught, &taskErr) || !taskErr.Panic {
				t.Fatalf("the task's panic became %#v", caught)
			}
			says(t, caught, caught, `task "faulty" panicked`, c.says)
			run := fermatatest.On(h, graph, "body")
			run.Start("body")
			var runErr *fermata.RunError
			if err := run.Err(); !errors.As(err, &runErr) || !runErr.Panic {
				t.Fatalf("the body's panic became %#v", err)
			}
			says(t, runErr, runErr, `entrypoint "graph" panicked`, c.says)
			if c.is != nil {
				says(t, caught, c.is)
				says(t, runErr, c.is)
			}
			for _, stack := range []string{taskErr.Stack, runErr.Stack} {
				if !strings.Contains(stack, "misuse_test.go") {
					t.Errorf("the stack doesn't name the function that panicked:\n%s", stack)
				}
			}
		})
	}
}

var errRegistered = errors.New("registered")

// A function may end its goroutine, as testing's FailNow does. That is a failure of it, not of the process.
func TestGoexit(t *testing.T) {
	t.Parallel()
	attempts := 0
	leaving := fermata.NewTask("leaving", func(context.Context, string) (string, error) {
		attempts++
		runtime.Goexit()
		return "", nil
	}, fermata.Retry(fermata.RetryPolicy{
		MaxAttempts: 3, InitialInterval: time.Nanosecond, NoJitter: true, On: func(error) bool { return true },
	}))
	var ran atomic.Int32
	slow := fermata.NewTask("slow", func(context.Context, string) (string, error) {
		ran.Add(1)
		return "", nil
	})
	var caught error
	graph := body(func(ctx context.Context, in string) (string, error) {
		slow.Go(ctx, in)
		if in == "body" {
			runtime.Goexit()
		}
		_, caught = leaving.Call(ctx, in)
		return "caught", nil
	}, fermata.MaxConcurrency(1))
	h := inMemory(t, graph)
	task := fermatatest.On(h, graph, "task")
	task.Start("task")
	if got := task.Result(); got != "caught" {
		t.Errorf("result %q", got)
	}
	var taskErr *fermata.TaskError
	if !errors.As(caught, &taskErr) || !taskErr.Panic || taskErr.Attempts != 3 || attempts != 3 {
		t.Errorf("after %d attempts: %#v", attempts, caught)
	}
	says(t, caught, caught, "runtime.Goexit")
	run := fermatatest.On(h, graph, "body")
	run.Start("body")
	var runErr *fermata.RunError
	if err := run.Err(); !errors.As(err, &runErr) || !runErr.Panic {
		t.Errorf("the run's error is %v", err)
	}
	says(t, runErr, runErr, "runtime.Goexit")
	if ran.Load() != 2 {
		t.Errorf("the tasks beside it ran %d times, want once in each run", ran.Load())
	}
}

// The functions in options are the user's too.
func TestPanicsInOptions(t *testing.T) {
	t.Parallel()
	boom := func() { panic("out of order") }
	ok := fermata.NewTask("ok", echo)
	for name, c := range map[string]struct {
		options fermata.Options
		task    *fermata.Task[string, string]
		body    fermata.EntrypointOption
		failed  bool // the run; else it is parked
		says    []string
	}{
		"retry of a task": {
			task: fermata.NewTask("task", func(context.Context, string) (string, error) { return "", errors.New("no luck") },
				fermata.Retry(fermata.RetryPolicy{On: func(error) bool { boom(); return true }})),
			failed: true, says: []string{"no luck", "the retry policy panicked", "out of order"},
		},
		"retry of an entrypoint": {
			task:   fermata.NewTask("task", func(context.Context, string) (string, error) { return "", errors.New("no luck") }),
			body:   fermata.Retry(fermata.RetryPolicy{On: func(error) bool { boom(); return true }}),
			failed: true, says: []string{"no luck", "the retry policy panicked", "out of order"},
		},
		"key of a cache": {
			task:   fermata.NewTask("task", echo, fermata.CachedBy(0, func(string) string { boom(); return "" })),
			failed: true, says: []string{"key of the cached result", "out of order"},
		},
		"setup": {
			options: fermata.Options{Setup: func(context.Context, fermata.RunInfo) context.Context { boom(); return nil }},
			task:    ok, says: []string{"Setup panicked", "out of order"},
		},
		"setup without a context": {
			options: fermata.Options{Setup: func(context.Context, fermata.RunInfo) context.Context { return nil }},
			task:    ok, says: []string{"Setup returned no context"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var options []fermata.EntrypointOption
			if c.body != nil {
				options = append(options, c.body)
			}
			graph := body(func(ctx context.Context, in string) (string, error) { return c.task.Call(ctx, in) }, options...)
			h := fermatatest.New(t, &fermatatest.Options{Engine: c.options}, graph)
			thread := fermatatest.On(h, graph, "1")
			thread.Start("x")
			err := thread.Err()
			var failed *fermata.RunError
			if c.failed && !errors.As(err, &failed) {
				t.Fatalf("error %v, want a *RunError", err)
			}
			if !c.failed {
				says(t, err, fermata.ErrParked)
			}
			says(t, err, err, c.says...)
		})
	}
}

func nilMap() map[string]int { return nil }
