package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
)

// swallowers are functions that ask, and do whatever Go lets them do with the pause, but pass it up.
// With an answer each returns it.
var swallowers = map[string]func(ctx context.Context) (string, error){
	"ignores it": func(ctx context.Context) (string, error) {
		answer, _ := sure(ctx)
		return answer, nil
	},
	"returns nil": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			return "went on", nil
		}
		return answer, nil
	},
	"returns another error": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			return "", errors.New("nobody there")
		}
		return answer, nil
	},
	"formats it": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			return "", fmt.Errorf("asking failed: %v", err) //nolint:errorlint // that is its fault
		}
		return answer, nil
	},
	"joins it": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			return "", errors.Join(errors.New("mine"), err, context.Canceled)
		}
		return answer, nil
	},
	"says that it was cancelled": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			return "", context.Canceled
		}
		return answer, nil
	},
	"overrides it in a defer": func(ctx context.Context) (answer string, err error) {
		defer func() {
			if err != nil {
				answer, err = "went on", nil
			}
		}()
		return sure(ctx)
	},
	"panics with it": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			panic(err)
		}
		return answer, nil
	},
	"recovers from it": func(ctx context.Context) (answer string, err error) {
		defer func() {
			if recover() != nil {
				answer, err = "went on", nil
			}
		}()
		if answer, err = sure(ctx); err != nil {
			panic(err)
		}
		return answer, nil
	},
	"ends its goroutine": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			runtime.Goexit()
		}
		return answer, nil
	},
	"tries again": func(ctx context.Context) (answer string, err error) {
		for range 10 {
			if answer, err = sure(ctx); err == nil {
				return answer, nil
			}
		}
		return "gave up", nil
	},
	"asks somebody else": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			return fermata.Interrupt[string](ctx, "and you?")
		}
		return answer, nil
	},
	"does it without an answer": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			return misused.Call(ctx, "went on")
		}
		return answer, nil
	},
	"saves and returns": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			_ = fermata.Save(ctx, "went on")
			return "went on", nil
		}
		return answer, nil
	},
	"sleeps over it": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			return "went on", fermata.Sleep(ctx, time.Nanosecond)
		}
		return answer, nil
	},
	"asks in a branch": func(ctx context.Context) (string, error) {
		var answer string
		g := fermata.NewGroup(ctx)
		g.Go(func(ctx context.Context) error {
			answer, _ = sure(ctx)
			return nil
		})
		_ = g.Wait()
		return answer, nil
	},
	"asks in a nested entrypoint": func(ctx context.Context) (string, error) {
		answer, _ := sureFlow.Call(ctx, "")
		return answer, nil
	},
	"waits on its own": func(ctx context.Context) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			// What a library with its own goroutines does.
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = sure(ctx) })
			wg.Wait()
		}
		return answer, nil
	},
}

func sure(ctx context.Context) (string, error) { return fermata.Interrupt[string](ctx, "sure?") }

var sureFlow = fermata.NewEntrypoint("sure", func(ctx context.Context, _ string) (string, error) { return sure(ctx) })

// Whatever the code does with a pause, the run ends interrupted: the question stays open, nothing behind it happens, and
// the answer gets to the code that asked.
func TestPauseCannotBeSwallowed(t *testing.T) {
	t.Parallel()
	always := fermata.RetryPolicy{InitialInterval: time.Nanosecond, NoJitter: true, On: func(error) bool { return true }}
	for name, swallow := range swallowers {
		for where, make := range map[string]func(effect func(ctx context.Context) error) *fermata.Entrypoint[string, string]{
			"body": func(effect func(ctx context.Context) error) *fermata.Entrypoint[string, string] {
				return body(func(ctx context.Context, _ string) (string, error) {
					answer, err := swallow(ctx)
					if err != nil {
						return "", err
					}
					return answer, effect(ctx)
				})
			},
			"body that returns all the same": func(effect func(ctx context.Context) error) *fermata.Entrypoint[string, string] {
				return body(func(ctx context.Context, _ string) (string, error) {
					answer, _ := swallow(ctx)
					_ = effect(ctx)
					return answer, nil
				})
			},
			"task": func(effect func(ctx context.Context) error) *fermata.Entrypoint[string, string] {
				task := fermata.NewTask("task", func(ctx context.Context, _ string) (string, error) { return swallow(ctx) })
				return body(func(ctx context.Context, in string) (string, error) {
					answer, _ := task.Call(ctx, in)
					if answer == "" {
						answer = "no answer"
					}
					return answer, effect(ctx)
				})
			},
			"task with retries": func(effect func(ctx context.Context) error) *fermata.Entrypoint[string, string] {
				task := fermata.NewTask("task", func(ctx context.Context, _ string) (string, error) {
					if n := fermata.Attempt(ctx); n > 1 {
						return "", fmt.Errorf("the pause was counted as a failure: attempt %d", n)
					}
					return swallow(ctx)
				}, fermata.Retry(always))
				return body(func(ctx context.Context, in string) (string, error) {
					answer, err := task.Call(ctx, in)
					if err != nil {
						return "", err
					}
					return answer, effect(ctx)
				}, fermata.Retry(always))
			},
		} {
			t.Run(name+" in a "+where, func(t *testing.T) {
				t.Parallel()
				var effects atomic.Int32
				pay := fermata.NewTask("pay", func(context.Context, string) (string, error) {
					effects.Add(1)
					return "", nil
				})
				graph := make(func(ctx context.Context) error {
					_, err := pay.Call(ctx, "")
					return err
				})
				h := inMemory(t, graph)
				thread := fermatatest.On(h, graph, "1")
				thread.Start("x")
				q := thread.Question()
				if s := thread.State(); s.Status != fermata.Interrupted || effects.Load() > 0 {
					t.Fatalf("the run is %s, %d effects", s.Status, effects.Load())
				}
				if !fermatatest.Payload("sure?")(q) {
					t.Fatalf("it asks %s", q.Payload)
				}
				h.Restart()
				thread.Continue()
				if got := thread.Question(); got.ID != q.ID {
					t.Errorf("after a replay another question is open")
				}
				thread.Answer("yes")
				if got := thread.Result(); got != "yes" || effects.Load() != 1 {
					t.Errorf("result %q with %d effects, want yes and one", got, effects.Load())
				}
				if n, err := h.Engine().CountQuestions(t.Context(), fermata.QuestionFilter{}); err != nil || n[fermata.QuestionAnswered] != 1 || len(n) != 1 {
					t.Errorf("questions: %v, %v; want one, answered", n, err)
				}
			})
		}
	}
}

// The pause is an error that says so, to code that looks.
func TestPauseIsAnError(t *testing.T) {
	t.Parallel()
	var seen, again error
	graph := body(func(ctx context.Context, _ string) (string, error) {
		answer, err := sure(ctx)
		if err != nil {
			seen = err
			_, again = misused.Call(ctx, "x")
		}
		return answer, err
	})
	thread := fermatatest.On(fermatatest.New(t, &fermatatest.Options{Unverified: true}, graph), graph, "1")
	run, err := thread.Handle().Start(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = run.Result(t.Context())
	var paused *fermata.PausedError
	if !errors.As(err, &paused) || len(paused.Questions) != 1 || paused.Thread != "1" || paused.Run != run.ID() {
		t.Fatalf("the result of a paused run is %#v", err)
	}
	says(t, err, fermata.ErrPaused, `thread "1" waits for a person`, paused.Questions[0].ID.String())
	says(t, seen, fermata.ErrPaused, `thread "1"`, "at graph")
	says(t, again, fermata.ErrPaused)
}

// A question that nobody awaits keeps the run open all the same.
func TestUnawaitedQuestion(t *testing.T) {
	t.Parallel()
	graph := body(func(ctx context.Context, _ string) (string, error) {
		sureFlow.Go(ctx, "")
		return "went on", nil
	})
	thread := fermatatest.On(inMemory(t, graph), graph, "1")
	thread.Start("x")
	if s := thread.State(); s.Status != fermata.Interrupted || s.OK {
		t.Errorf("the run is %s, with a value: %t", s.Status, s.OK)
	}
	thread.Answer("yes")
	if got := thread.Result(); got != "went on" {
		t.Errorf("result %q", got)
	}
}
