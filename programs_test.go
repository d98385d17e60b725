package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/backendtest"
)

// ground is an engine on a fresh database, and the clock of that.
type ground struct {
	t      *testing.T
	open   backendtest.Opener
	offset atomic.Int64
	engine *fermata.Engine
}

// onEach runs a test on every backend.
func onEach(t *testing.T, fn func(g *ground)) {
	t.Helper()
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) { fn(&ground{t: t, open: open}) })
}

// deploy starts an engine with these entrypoints, after closing the one before.
func (g *ground) deploy(options *fermata.Options, entrypoints ...fermata.Definition) {
	g.t.Helper()
	if g.engine != nil {
		if err := g.engine.Close(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
	}
	backend := g.open(g.t, func() time.Duration { return time.Duration(g.offset.Load()) })
	engine, err := fermata.New(backend, options, entrypoints...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.engine = engine
	g.t.Cleanup(func() { _ = engine.Close(context.Background()) })
}

// advance moves the backend's clock.
func (g *ground) advance(d time.Duration) {
	g.offset.Add(int64(d))
	g.engine.Poke()
}

// calls counts what user code did.
type calls struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *calls) add(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[name]++
	return c.counts[name]
}

func (c *calls) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	c.counts = nil
	return counts
}

func want[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func wantErr(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: got error %v, want one that matches %q", what, err, target)
	}
}

// paused returns the open questions of a result that is a pause.
func paused(t *testing.T, err error) []fermata.Question {
	t.Helper()
	var p *fermata.PausedError
	if !errors.As(err, &p) {
		t.Fatalf("got error %v, want a pause", err)
	}
	return p.Questions
}

func payloads(questions []fermata.Question) []string {
	var all []string
	for _, q := range questions {
		all = append(all, string(q.Payload))
	}
	return all
}

func TestParallelQuestionsAreAllReported(t *testing.T) {
	var c calls
	ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) {
		c.add("ask " + q)
		return fermata.Interrupt[string](ctx, q)
	})
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
		return fermata.All(ctx, ask.Go(ctx, "a"), ask.Go(ctx, "b"), ask.Go(ctx, "c"))
	})
	onEach(t, func(g *ground) {
		c := &c
		c.take()
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), 0)
		questions := paused(g.t, err)
		want(g.t, "questions in call order", payloads(questions), []string{`"a"`, `"b"`, `"c"`})
		_, err = thread.Resume(t.Context(), "x")
		wantErr(g.t, "an answer without an id", err, fermata.ErrAmbiguous)
		for i, answer := range []string{"C", "A", "B"} {
			q := questions[[]int{2, 0, 1}[i]]
			receipt, err := g.engine.Answer(t.Context(), q.ID, answer)
			if err != nil {
				g.t.Fatal(err)
			}
			out, err := receipt.Wait(t.Context())
			if i < 2 {
				want(g.t, "questions left", len(paused(g.t, err)), 2-i)
				continue
			}
			if err != nil {
				g.t.Fatal(err)
			}
			want(g.t, "result", string(out), `["A","B","C"]`)
		}
	})
}

func TestAnsweringOneQuestionDoesNotRunTheOthersAgain(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) {
			c.add(q)
			return fermata.Interrupt[string](ctx, q)
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) ([]string, error) {
			var asked []*fermata.Future[string]
			for i := range n {
				asked = append(asked, ask.Go(ctx, fmt.Sprint(i)))
			}
			return fermata.All(ctx, asked...)
		})
		g.deploy(nil, flow)
		_, err := flow.On(g.engine).Thread("1").Invoke(t.Context(), 5)
		questions := paused(g.t, err)
		c.take()
		receipt, err := g.engine.Answer(t.Context(), questions[3].ID, "yes")
		if err != nil {
			g.t.Fatal(err)
		}
		_, err = receipt.Wait(t.Context())
		want(g.t, "open questions", payloads(paused(g.t, err)), []string{`"0"`, `"1"`, `"2"`, `"4"`})
		want(g.t, "tasks that ran", c.take(), map[string]int{"3": 1})
	})
}

func TestFirstRecordsItsWinner(t *testing.T) {
	onEach(t, func(g *ground) {
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) {
			return fermata.Interrupt[string](ctx, q)
		})
		quick := fermata.NewTask("quick", func(_ context.Context, s string) (string, error) { return s, nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			i, first, err := fermata.First(ctx, ask.Go(ctx, "slow person"), ask.Go(ctx, "quick person"))
			if err != nil {
				return "", err
			}
			then, err := fermata.Interrupt[string](ctx, "and then?")
			if err != nil {
				return "", err
			}
			last, err := quick.Call(ctx, fmt.Sprint(i, first, then))
			return last, err
		})
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), 0)
		questions := paused(g.t, err)
		want(g.t, "questions", len(questions), 2)
		receipt, err := g.engine.Answer(t.Context(), questions[1].ID, "me")
		if err != nil {
			g.t.Fatal(err)
		}
		_, err = receipt.Wait(t.Context())
		want(g.t, "open questions", payloads(paused(g.t, err)), []string{`"and then?"`})
		_, err = g.engine.Answer(t.Context(), questions[0].ID, "too late")
		wantErr(g.t, "an answer to the loser", err, fermata.ErrWithdrawn)
		if _, err := thread.State(t.Context()); err != nil {
			g.t.Fatal(err)
		}
		run, err := thread.Resume(t.Context(), "done")
		if err != nil {
			g.t.Fatal(err)
		}
		out, err := run.Result(t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", out, "1medone")
	})
}

func TestGroupBranchesAskAndShareVariables(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		double := fermata.NewTask("double", func(_ context.Context, n int) (int, error) {
			c.add("double")
			return 2 * n, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) ([]int, error) {
			sums := make([]int, n)
			group := fermata.NewGroup(ctx)
			for i := range n {
				group.Go(func(ctx context.Context) error {
					d, err := double.Call(ctx, i)
					if err != nil {
						return err
					}
					more, err := fermata.Interrupt[int](ctx, fmt.Sprint("how much for ", i))
					sums[i] = d + more
					return err
				})
			}
			return sums, group.Wait()
		})
		g.deploy(nil, flow)
		_, err := flow.On(g.engine).Thread("1").Invoke(t.Context(), 3)
		questions := paused(g.t, err)
		want(g.t, "questions", payloads(questions), []string{`"how much for 0"`, `"how much for 1"`, `"how much for 2"`})
		var out []byte
		for i, q := range slices.Backward(questions) {
			receipt, err := g.engine.Answer(t.Context(), q.ID, 100*i)
			if err != nil {
				g.t.Fatal(err)
			}
			out, err = receipt.Wait(t.Context())
			if i > 0 {
				wantErr(g.t, "with a question open", err, fermata.ErrPaused)
			} else if err != nil {
				g.t.Fatal(err)
			}
		}
		want(g.t, "result", string(out), "[0,102,204]")
		want(g.t, "calls", c.take(), map[string]int{"double": 3})
	})
}

func TestContinueRepeatsOnlyWhatFailed(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		var broken atomic.Bool
		broken.Store(true)
		good := fermata.NewTask("good", func(_ context.Context, s string) (string, error) {
			c.add("good " + s)
			return s, nil
		})
		bad := fermata.NewTask("bad", func(_ context.Context, s string) (string, error) {
			c.add("bad")
			if broken.Load() {
				return "", errors.New("service down")
			}
			return s, nil
		})
		outer := fermata.NewTask("outer", func(ctx context.Context, s string) (string, error) {
			c.add("outer")
			if _, err := good.Call(ctx, "inner"); err != nil {
				return "", err
			}
			out, err := bad.Call(ctx, s)
			if err != nil {
				return "", fmt.Errorf("outer: %w", err)
			}
			return out, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			if _, err := good.Call(ctx, "before"); err != nil {
				return "", err
			}
			out, err := outer.Call(ctx, "done")
			if err != nil {
				if _, err := good.Call(ctx, "cleanup"); err != nil {
					return "", err
				}
				return "", fmt.Errorf("flow: %w", err)
			}
			return out, nil
		})
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), 0)
		var failed *fermata.RunError
		var task *fermata.TaskError
		if !errors.As(err, &failed) || !errors.As(err, &task) {
			g.t.Fatalf("got error %v, want a *RunError with a *TaskError in it", err)
		}
		want(g.t, "failed task", task.Task, "outer")
		want(g.t, "first attempt", c.take(), map[string]int{"good before": 1, "outer": 1, "good inner": 1, "bad": 1, "good cleanup": 1})
		g.deploy(nil, flow) // another process
		thread = flow.On(g.engine).Thread("1")
		broken.Store(false)
		run, err := thread.Continue(t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		out, err := run.Result(t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", out, "done")
		want(g.t, "second attempt", c.take(), map[string]int{"outer": 1, "bad": 1})
	})
}

func TestContinueRepeatsAllThatTheErrorJoins(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		var broken atomic.Bool
		broken.Store(true)
		task := fermata.NewTask("task", func(_ context.Context, n int) (int, error) {
			c.add(fmt.Sprint("task ", n))
			if broken.Load() && n > 0 {
				return 0, errors.New("down")
			}
			return n, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (int, error) {
			var futures []*fermata.Future[int]
			for n := range 3 {
				futures = append(futures, task.Go(ctx, n))
			}
			sum, failed := 0, error(nil)
			for _, f := range futures {
				n, err := f.Result(ctx)
				sum, failed = sum+n, errors.Join(failed, err)
			}
			return sum, failed
		})
		g.deploy(nil, flow)
		if _, err := flow.On(g.engine).Thread("1").Invoke(t.Context(), 0); err == nil {
			g.t.Fatal("the run did not fail")
		}
		c.take()
		broken.Store(false)
		g.deploy(nil, flow) // another process
		run, err := flow.On(g.engine).Thread("1").Continue(t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		sum, err := run.Result(t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", sum, 3)
		want(g.t, "second attempt", c.take(), map[string]int{"task 1": 1, "task 2": 1})
	})
}

func TestContinueWithAHiddenFailure(t *testing.T) {
	onEach(t, func(g *ground) {
		bad := fermata.NewTask("bad", func(context.Context, int) (int, error) { return 0, errors.New("no") })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (int, error) {
			if _, err := bad.Call(ctx, 0); err != nil {
				return 0, errors.New("something went wrong")
			}
			return 1, nil
		})
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		if _, err := thread.Invoke(t.Context(), 0); err == nil {
			g.t.Fatal("the run did not fail")
		}
		_, err := thread.Continue(t.Context())
		wantErr(g.t, "continue", err, fermata.ErrNothingToRetry)
	})
}

func TestCaughtFailureIsReplayed(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		errDown := errors.New("service down")
		flaky := fermata.NewTask("flaky", func(context.Context, int) (int, error) {
			if c.add("flaky") == 1 {
				return 0, fmt.Errorf("call: %w", errDown)
			}
			return 1, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			_, err := flaky.Call(ctx, 0)
			matched := fmt.Sprint(errors.Is(err, errDown), " ", err)
			answer, err := fermata.Interrupt[string](ctx, matched)
			return matched + " " + answer, err
		})
		g.deploy(&fermata.Options{Errors: map[string]error{"down": errDown}}, flow)
		thread := flow.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), 0)
		want(g.t, "question", payloads(paused(g.t, err)), []string{`"true task \"flaky\" failed: call: service down"`})
		run, err := thread.Resume(t.Context(), "ok")
		if err != nil {
			g.t.Fatal(err)
		}
		out, err := run.Result(t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", out, `true task "flaky" failed: call: service down ok`)
		want(g.t, "calls", c.take(), map[string]int{"flaky": 1})
	})
}

func TestRetryKeepsAnswersAndResults(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		inner := fermata.NewTask("inner", func(context.Context, int) (int, error) {
			c.add("inner")
			return 7, nil
		})
		asking := fermata.NewTask("asking", func(ctx context.Context, _ int) (string, error) {
			n, err := inner.Call(ctx, 0)
			if err != nil {
				return "", err
			}
			answer, err := fermata.Interrupt[string](ctx, "which?")
			if err != nil {
				return "", err
			}
			if c.add("after the answer") < 3 {
				return "", errors.New("not yet")
			}
			return fmt.Sprint(answer, n, fermata.Attempt(ctx)), nil
		}, fermata.Retry(fermata.RetryPolicy{InitialInterval: time.Nanosecond, NoJitter: true}))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) { return asking.Call(ctx, n) })
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), 0)
		paused(g.t, err)
		run, err := thread.Resume(t.Context(), "A")
		if err != nil {
			g.t.Fatal(err)
		}
		out, err := run.Result(t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", out, "A7 3")
		want(g.t, "calls", c.take(), map[string]int{"inner": 1, "after the answer": 3})
	})
}

func TestEntrypointIsRetriedAsAWhole(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		good := fermata.NewTask("good", func(context.Context, int) (int, error) { c.add("good"); return 1, nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
			if _, err := good.Call(ctx, n); err != nil {
				return 0, err
			}
			return fermata.Attempt(ctx), map[bool]error{true: errors.New("again")}[c.add("body") < 3]
		}, fermata.Retry(fermata.RetryPolicy{InitialInterval: time.Nanosecond, NoJitter: true}))
		g.deploy(nil, flow)
		out, err := flow.On(g.engine).Thread("1").Invoke(t.Context(), 0)
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "attempt", out, 3)
		want(g.t, "calls", c.take(), map[string]int{"good": 1, "body": 3})
	})
}

func TestSleepSuspendsTheRun(t *testing.T) {
	onEach(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			before, err := fermata.Now(ctx)
			if err != nil {
				return "", err
			}
			if err := fermata.Sleep(ctx, 24*time.Hour); err != nil {
				return "", err
			}
			after, err := fermata.Now(ctx)
			if err != nil || after.Sub(before) < 24*time.Hour {
				return "", fmt.Errorf("slept for %s: %w", after.Sub(before), err)
			}
			return "rested", nil
		})
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		run, err := thread.Start(t.Context(), 0)
		if err != nil {
			g.t.Fatal(err)
		}
		for {
			state, err := thread.State(t.Context())
			if err != nil {
				g.t.Fatal(err)
			}
			if state.Status == fermata.Queued {
				break
			}
		}
		g.advance(25 * time.Hour)
		out, err := run.Result(t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", out, "rested")
	})
}

func TestVersionServesOldAndNewRuns(t *testing.T) {
	onEach(t, func(g *ground) {
		step := fermata.NewTask("step", func(_ context.Context, s string) (string, error) { return s, nil })
		body := func(withCheck bool) func(context.Context, int) ([]string, error) {
			return func(ctx context.Context, _ int) ([]string, error) {
				var trace []string
				if withCheck {
					v, err := fermata.Version(ctx, "fraud-check", 1, 2)
					if err != nil {
						return nil, err
					}
					if v >= 2 {
						s, err := step.Call(ctx, "fraud")
						if err != nil {
							return nil, err
						}
						trace = append(trace, s)
					}
				}
				s, err := step.Call(ctx, "price")
				if err != nil {
					return nil, err
				}
				answer, err := fermata.Interrupt[string](ctx, "ok?")
				return append(trace, s, answer), err
			}
		}
		finish := func(entry *fermata.Entrypoint[int, []string], id string) []string {
			thread := entry.On(g.engine).Thread(id)
			if _, err := thread.State(t.Context()); err != nil {
				g.t.Fatal(err)
			}
			run, err := thread.Resume(t.Context(), "yes")
			if err != nil {
				g.t.Fatal(err)
			}
			out, err := run.Result(t.Context())
			if err != nil {
				g.t.Fatal(err)
			}
			return out
		}
		v1 := fermata.NewEntrypoint("flow", body(false))
		g.deploy(nil, v1)
		_, err := v1.On(g.engine).Thread("old").Invoke(t.Context(), 0)
		paused(g.t, err)
		v2 := fermata.NewEntrypoint("flow", body(true))
		g.deploy(nil, v2)
		_, err = v2.On(g.engine).Thread("new").Invoke(t.Context(), 0)
		paused(g.t, err)
		want(g.t, "old run", finish(v2, "old"), []string{"price", "yes"})
		want(g.t, "new run", finish(v2, "new"), []string{"fraud", "price", "yes"})
	})
}

func TestDivergenceParksAndIsRepaired(t *testing.T) {
	step := fermata.NewTask("callAPI", func(_ context.Context, s string) (string, error) { return "result:" + s, nil })
	build := func(services ...string) *fermata.Entrypoint[int, []string] {
		return fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
			var results []string
			for _, service := range services {
				r, err := step.Call(ctx, service)
				if err != nil {
					return nil, err
				}
				results = append(results, r)
			}
			answer, err := fermata.Interrupt[string](ctx, "ok?")
			return append(results, answer), err
		})
	}
	park := func(g *ground) (*fermata.Entrypoint[int, []string], fermata.Question) {
		v1 := build("price")
		g.deploy(nil, v1)
		_, err := v1.On(g.engine).Thread("1").Invoke(t.Context(), 0)
		question := paused(g.t, err)[0]
		v2 := build("fraud-score", "price")
		g.deploy(nil, v2)
		receipt, err := g.engine.Answer(t.Context(), question.ID, "yes")
		if err != nil {
			g.t.Fatal(err)
		}
		_, err = receipt.Wait(t.Context())
		wantErr(g.t, "after an insertion", err, fermata.ErrParked)
		var d *fermata.DivergenceError
		if !errors.As(err, &d) {
			g.t.Fatalf("got %v, want a *DivergenceError", err)
		}
		want(g.t, "fields", d.Fields, []fermata.FieldDifference{{Recorded: `"price"`, Current: `"fraud-score"`}})
		if d.Recorded.Site == "" || d.Current.Site == "" {
			g.t.Errorf("call sites are missing: %+v %+v", d.Recorded, d.Current)
		}
		return v2, question
	}
	t.Run("continue after the old code is back", func(t *testing.T) {
		onEach(t, func(g *ground) {
			park(g)
			v1 := build("price")
			g.deploy(nil, v1)
			run, err := v1.On(g.engine).Thread("1").Continue(t.Context())
			if err != nil {
				g.t.Fatal(err)
			}
			out, err := run.Result(t.Context())
			if err != nil {
				g.t.Fatal(err)
			}
			want(g.t, "result", out, []string{"result:price", "yes"})
		})
	})
	t.Run("run again from the call", func(t *testing.T) {
		onEach(t, func(g *ground) {
			v2, _ := park(g)
			run, err := v2.On(g.engine).Thread("1").Repair(t.Context(), fermata.RunAgain, fermata.Principal{Subject: "ops"}, "new fraud check")
			if err != nil {
				g.t.Fatal(err)
			}
			_, err = run.Result(t.Context())
			paused(g.t, err)
			if run, err = v2.On(g.engine).Thread("1").Continue(t.Context()); err != nil {
				g.t.Fatal(err)
			}
			_, err = run.Result(t.Context())
			receipt, err := g.engine.Answer(t.Context(), paused(g.t, err)[0].ID, "again")
			if err != nil {
				g.t.Fatal(err)
			}
			out, err := receipt.Wait(t.Context())
			if err != nil {
				g.t.Fatal(err)
			}
			want(g.t, "result", string(out), `["result:fraud-score","result:price","again"]`)
		})
	})
}

func TestVerifyReplayFindsHiddenChance(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) { return n, nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (int, error) {
			return step.Call(ctx, c.add("body")) // another input each time
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		_, err := flow.On(g.engine).Thread("1").Invoke(t.Context(), 0)
		wantErr(g.t, "a body with a counter", err, fermata.ErrParked)
	})
}

func TestNestedEntrypointsReplayAtEveryDepth(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		add := fermata.NewTask("add", func(_ context.Context, n int) (int, error) { c.add("add"); return n + 1, nil })
		child := fermata.NewEntrypoint("child", func(ctx context.Context, n int) (string, error) {
			if _, ok, _ := fermata.Previous[string](ctx); ok {
				return "", errors.New("a nested entrypoint has a previous value")
			}
			n, err := add.Call(ctx, n)
			if err != nil {
				return "", err
			}
			answer, err := fermata.Interrupt[string](ctx, "child-q")
			return fmt.Sprint(n, answer), err
		})
		middle := fermata.NewEntrypoint("middle", func(ctx context.Context, n int) (string, error) { return child.Call(ctx, n) })
		parent := fermata.NewEntrypoint("parent", func(ctx context.Context, n int) (string, error) {
			s, err := middle.Call(ctx, n)
			if err != nil {
				return "", err
			}
			n, err = add.Call(ctx, 100)
			return fmt.Sprint(s, n), err
		})
		g.deploy(nil, parent, child)
		thread := parent.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), 1)
		questions := paused(g.t, err)
		want(g.t, "questions", payloads(questions), []string{`"child-q"`})
		want(g.t, "path", questions[0].Path, "parent/middle/child")
		run, err := thread.Resume(t.Context(), "R")
		if err != nil {
			g.t.Fatal(err)
		}
		out, err := run.Result(t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", out, "2R101")
		want(g.t, "calls", c.take(), map[string]int{"add": 2})
	})
}

func TestMaxConcurrencyOfOneDoesNotDeadlock(t *testing.T) {
	onEach(t, func(g *ground) {
		var running, most atomic.Int64
		inner := fermata.NewTask("inner", func(_ context.Context, n int) (int, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			return n, nil
		})
		outer := fermata.NewTask("outer", func(ctx context.Context, n int) (int, error) { return inner.Call(ctx, n) })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
			var futures []*fermata.Future[int]
			for i := range n {
				futures = append(futures, outer.Go(ctx, i))
			}
			all, err := fermata.All(ctx, futures...)
			return len(all), err
		}, fermata.MaxConcurrency(1))
		g.deploy(nil, flow)
		out, err := flow.On(g.engine).Thread("1").Invoke(t.Context(), 10)
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "results", out, 10)
		want(g.t, "most inner tasks at once", most.Load(), 1)
	})
}

func TestCacheKeepsSuccessesOnly(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		lookup := fermata.NewTask("lookup", func(_ context.Context, n int) (int, error) {
			if c.add(fmt.Sprint("lookup ", n)) == 1 && n == 13 {
				return 0, errors.New("unlucky")
			}
			return 2 * n, nil
		}, fermata.Cached(time.Hour))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) { return lookup.Call(ctx, n) })
		g.deploy(nil, flow)
		invoke := func(id string, n int) (int, error) { return flow.On(g.engine).Thread(id).Invoke(t.Context(), n) }
		for _, id := range []string{"1", "2"} {
			out, err := invoke(id, 4)
			if err != nil {
				g.t.Fatal(err)
			}
			want(g.t, "result", out, 8)
		}
		want(g.t, "calls for a success", c.take(), map[string]int{"lookup 4": 1})
		if _, err := invoke("3", 13); err == nil {
			g.t.Fatal("the failing call succeeded")
		}
		if out, err := invoke("4", 13); err != nil || out != 26 {
			g.t.Fatalf("after a failure: got %d, %v", out, err)
		}
		g.advance(2 * time.Hour)
		if out, err := invoke("5", 4); err != nil || out != 8 {
			g.t.Fatalf("after expiry: got %d, %v", out, err)
		}
		if err := g.engine.ClearCache(t.Context(), "lookup"); err != nil {
			g.t.Fatal(err)
		}
		if out, err := invoke("6", 4); err != nil || out != 8 {
			g.t.Fatalf("after clearing: got %d, %v", out, err)
		}
		want(g.t, "later calls", c.take(), map[string]int{"lookup 13": 2, "lookup 4": 2})
	})
}
