package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/backendtest"
)

// inBubble runs a test on the memory backend in a bubble of testing/synctest: there waiting takes no time.
func inBubble(t *testing.T, fn func(g *ground)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { fn(&ground{t: t, open: backendtest.Memory(t)}) })
}

// waits runs a task that always fails, and lists how long it waited before each repetition.
func waits(t *testing.T, policies ...fermata.RetryPolicy) []time.Duration {
	t.Helper()
	var between []time.Duration
	synctest.Test(t, func(t *testing.T) {
		g := &ground{t: t, open: backendtest.Memory(t)}
		var last time.Time
		bad := fermata.NewTask("bad", func(ctx context.Context, _ int) (int, error) {
			if !last.IsZero() {
				between = append(between, time.Since(last))
			}
			last = time.Now()
			return 0, errors.New("down")
		}, fermata.Retry(policies...))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) { return bad.Call(ctx, n) })
		g.deploy(nil, flow)
		o := play(g, flow, "1").start(0)
		failed, ok := errors.AsType[*fermata.TaskError](o.err)
		if !ok || failed.Attempts != len(between)+1 {
			t.Errorf("got error %+v, want a *TaskError with %d attempts", o.err, len(between)+1)
		}
	})
	return between
}

func TestWaitsBetweenAttempts(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	want(t, "defaults, without jitter", waits(t, fermata.RetryPolicy{NoJitter: true}), []time.Duration{500 * ms, 1000 * ms})
	want(t, "doubling up to 128 s", waits(t, fermata.RetryPolicy{NoJitter: true, MaxAttempts: 11}), []time.Duration{
		500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 16000 * ms, 32000 * ms, 64000 * ms, 128000 * ms, 128000 * ms,
	})
	want(t, "own fields", waits(t, fermata.RetryPolicy{
		NoJitter: true, MaxAttempts: 4, InitialInterval: 100 * ms, BackoffFactor: 3, MaxInterval: 200 * ms,
	}), []time.Duration{100 * ms, 200 * ms, 200 * ms})
	want(t, "one attempt", waits(t, fermata.RetryPolicy{MaxAttempts: 1}), nil)
	want(t, "no policy", waits(t), nil)
	for i, wait := range waits(t, fermata.RetryPolicy{}) {
		if base := 500 * ms << i; wait < base || wait > base+time.Second {
			t.Errorf("with jitter: waited %s before repetition %d", wait, i+1)
		}
	}
	// Each of 60 jitters is in either half of the second: that all are in one of them is not to be seen.
	var short, long int
	for i, wait := range waits(t, fermata.RetryPolicy{BackoffFactor: 1, MaxAttempts: 61}) {
		switch jitter := wait - 500*ms; {
		case jitter < 0 || jitter > time.Second:
			t.Errorf("jitter of %s before repetition %d", jitter, i+1)
		case jitter < 500*ms:
			short++
		default:
			long++
		}
	}
	if short == 0 || long == 0 {
		t.Errorf("%d jitters are below half a second and %d are not: want some of each", short, long)
	}
}

func TestFirstMatchingPolicyApplies(t *testing.T) {
	t.Parallel()
	errBusy, errGone := errors.New("busy"), errors.New("gone")
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	synctest.Test(t, func(t *testing.T) {
		g := &ground{t: t, open: backendtest.Memory(t)}
		var at []time.Duration
		begin := time.Now()
		flaky := fermata.NewTask("flaky", func(ctx context.Context, stays bool) (int, error) {
			at = append(at, time.Since(begin))
			switch len(at) {
			case 1, 2:
				return 0, fmt.Errorf("request: %w", errBusy)
			case 3:
				return 0, errGone
			}
			if stays {
				return 0, errGone
			}
			return fermata.Attempt(ctx), nil
		}, fermata.Retry(
			fermata.RetryPolicy{On: is(errGone), InitialInterval: 20 * time.Second, BackoffFactor: 2, MaxAttempts: 4, NoJitter: true},
			fermata.RetryPolicy{On: is(errBusy), InitialInterval: time.Second, BackoffFactor: 1, NoJitter: true},
			fermata.RetryPolicy{InitialInterval: time.Hour, MaxAttempts: 9, NoJitter: true},
		))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, stays bool) (int, error) { return flaky.Call(ctx, stays) })
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(false), 4) // the count is one for all policies, and so is that of the waits
		want(t, "times", at, []time.Duration{0, time.Second, 2 * time.Second, 82 * time.Second})
		at = nil
		failed, _ := errors.AsType[*fermata.TaskError](p.start(true).err)
		want(t, "attempts", failed.Attempts, 4)
	})
}

func TestPolicyOfTheTaskGoesBeforeTheEntrypoints(t *testing.T) {
	inBubble(t, func(g *ground) {
		var c calls
		fail := func(name string) func(context.Context, int) (int, error) {
			return func(context.Context, int) (int, error) { c.add(name); return 0, errors.New("down") }
		}
		attempts := func(n int) fermata.PolicyOption { return fermata.Retry(fermata.RetryPolicy{MaxAttempts: n}) }
		own := fermata.NewTask("own", fail("own"), attempts(2))
		inherits := fermata.NewTask("inherits", fail("inherits"))
		inner := fermata.NewTask("inner", fail("inner"))
		outer := fermata.NewTask("outer", func(ctx context.Context, n int) (int, error) { return inner.Call(ctx, n) }, attempts(1))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
			for _, task := range []*fermata.Task[int, int]{own, inherits, outer} {
				if _, err := task.Call(ctx, n); err == nil {
					return 0, errors.New("it did not fail")
				}
			}
			return 1, nil
		}, attempts(4))
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(0), 1)
		want(g.t, "attempts", c.take(), map[string]int{"own": 2, "inherits": 4, "inner": 4})
	})
}

func TestEntrypointsPolicyIsForTasksWithOtherOptions(t *testing.T) {
	for name, test := range map[string]struct {
		options []fermata.TaskOption
		calls   int
	}{
		"no option":        {nil, 3},
		"cached":           {[]fermata.TaskOption{fermata.Cached(0)}, 3},
		"timeout":          {[]fermata.TaskOption{fermata.Timeout(time.Hour)}, 3},
		"explicitly none":  {[]fermata.TaskOption{fermata.Retry()}, 1},
		"its own":          {[]fermata.TaskOption{fermata.Retry(fermata.RetryPolicy{MaxAttempts: 2})}, 2},
		"none and timeout": {[]fermata.TaskOption{fermata.Timeout(time.Hour), fermata.Retry()}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(g *ground) {
				var c calls
				bad := fermata.NewTask("bad", func(context.Context, []int) (int, error) { c.add("bad"); return 0, errors.New("down") }, test.options...)
				flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (bool, error) {
					_, err := bad.Call(ctx, []int{n})
					return err != nil, nil
				}, thrice())
				g.deploy(nil, flow)
				p := play(g, flow, "1")
				p.returns(p.start(0), true)
				want(g.t, "calls", c.take(), map[string]int{"bad": test.calls})
			})
		})
	}
}

func TestNestedEntrypointHasItsOwnPolicies(t *testing.T) {
	flaky := func(c *calls, name string) func(context.Context, []int) (int, error) {
		return func(_ context.Context, in []int) (int, error) {
			out := in[0]
			in[0] = 99 // its own copy
			if c.add(name) < 3 {
				return 0, errors.New("not yet")
			}
			return out, nil
		}
	}
	inBubble(t, func(g *ground) {
		var c calls
		calling := func(task *fermata.Task[[]int, int]) func(context.Context, []int) (int, error) {
			return func(ctx context.Context, in []int) (int, error) { return task.Call(ctx, in) }
		}
		task := fermata.NewTask("task", flaky(&c, "task"))
		once := fermata.NewTask("once", flaky(&c, "once"), fermata.Retry())
		body := fermata.NewEntrypoint("body", flaky(&c, "body"), thrice())
		tasks := fermata.NewEntrypoint("tasks", calling(task), thrice())
		both := fermata.NewEntrypoint("both", calling(once), thrice())
		late := fermata.NewEntrypoint("late", func(ctx context.Context, _ []int) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}, fermata.Timeout(time.Minute))
		plain := fermata.NewEntrypoint("plain", flaky(&c, "plain"))
		bad := fermata.NewTask("bad", func(context.Context, []int) (int, error) { c.add("bad"); return 0, errors.New("down") })
		open := fermata.NewEntrypoint("open", calling(bad))
		for _, parent := range []struct {
			name    string
			options []fermata.EntrypointOption
			bad     int // attempts of a task in an entrypoint without a policy
		}{{"no policy", nil, 1}, {"policy", []fermata.EntrypointOption{thrice()}, 3}, {"none", []fermata.EntrypointOption{fermata.Retry()}, 1}} {
			flow := fermata.NewEntrypoint(parent.name, func(ctx context.Context, _ int) ([]int, error) {
				var out []int
				for _, nested := range []*fermata.Entrypoint[[]int, int]{body, tasks, both} {
					n, err := nested.Call(ctx, []int{7})
					if err != nil {
						return nil, err
					}
					out = append(out, n)
				}
				if _, err := late.Call(ctx, []int{7}); !errors.Is(err, fermata.ErrTimeout) {
					return nil, fmt.Errorf("no timeout: %w", err)
				}
				if _, err := plain.Call(ctx, []int{7}); err == nil {
					return nil, errors.New("the policy of the caller applied to a nested body")
				}
				if _, err := open.Call(ctx, []int{7}); err == nil {
					return nil, errors.New("a task that fails did not")
				}
				return out, nil
			}, parent.options...)
			g.deploy(nil, flow)
			p := play(g, flow, parent.name)
			p.returns(p.start(0), []int{7, 7, 7})
			want(g.t, "calls, "+parent.name, c.take(), map[string]int{"body": 3, "task": 3, "once": 3, "plain": 1, "bad": parent.bad})
		}
	})
}

func TestWhatIsRetriedByDefault(t *testing.T) {
	t.Parallel()
	_, notANumber := strconv.Atoi("x")
	var into struct{ A int }
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"any error":          {errors.New("any"), true},
		"refused connection": {&net.OpError{Op: "dial", Err: errors.New("refused")}, true},
		"timeout":            {fermata.ErrTimeout, true},
		"deadline":           {context.DeadlineExceeded, true},
		"broken pipe":        {io.ErrUnexpectedEOF, true},
		"cancelled":          {context.Canceled, false},
		"no such file":       {&fs.PathError{Op: "open", Err: fs.ErrNotExist}, false},
		"not allowed":        {fmt.Errorf("open: %w", fs.ErrPermission), false},
		"not supported":      {errors.ErrUnsupported, false},
		"bad JSON":           {json.Unmarshal([]byte("{"), &into), false},
		"other JSON":         {json.Unmarshal([]byte(`{"A":"x"}`), &into), false},
		"bad value":          {&fermata.ValueError{Err: fermata.ErrLossy}, false},
		"a number, perhaps":  {notANumber, true},
	} {
		if got := fermata.RetryByDefault(test.err); got != test.want {
			t.Errorf("%s: got %t, want %t", name, got, test.want)
		}
	}
}

func TestPanicsAndPausesAreNotRetried(t *testing.T) {
	inBubble(t, func(g *ground) {
		var c calls
		retry := fermata.Retry(fermata.RetryPolicy{})
		panics := fermata.NewTask("panics", func(context.Context, int) (string, error) { c.add("panics"); panic("oh") }, retry)
		asks := fermata.NewTask("asks", func(ctx context.Context, _ int) (string, error) {
			c.add("asks")
			answer, err := fermata.Interrupt[string](ctx, "who?")
			return fmt.Sprint(answer, fermata.Attempt(ctx)), err
		}, retry)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			if _, err := panics.Call(ctx, n); err == nil {
				return "", errors.New("no panic")
			}
			return asks.Call(ctx, n)
		}, retry)
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"who?"`)
		p.returns(p.resume("me"), "me1")
		want(g.t, "calls", c.take(), map[string]int{"panics": 1, "asks": 2})
	})
}

func TestCustomPartsOfFailedAttemptsAreSeen(t *testing.T) {
	onEach(t, func(g *ground) {
		flaky := fermata.NewTask("flaky", func(ctx context.Context, n int) (int, error) {
			if err := fermata.Emit(ctx, fmt.Sprint("attempt ", fermata.Attempt(ctx))); err != nil {
				return 0, err
			}
			if fermata.Attempt(ctx) < 3 {
				return 0, errors.New("not yet")
			}
			return n, nil
		}, fermata.Retry(fermata.RetryPolicy{InitialInterval: 1, NoJitter: true}))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) { return flaky.Call(ctx, n) })
		g.deploy(nil, flow)
		run, err := flow.On(g.engine).Thread("1").Start(g.t.Context(), 7)
		if err != nil {
			g.t.Fatal(err)
		}
		var s script
		want(g.t, "parts", s.print(g.t, streamed[int]{Run: run}, fermata.StreamCustom, fermata.StreamUpdates), `custom "attempt 1"
custom "attempt 2"
custom "attempt 3"
updates {"flaky":7}
updates {"flow":7}
`)
	})
}

func TestTimeouts(t *testing.T) {
	for name, test := range map[string]struct {
		option fermata.PolicyOption
		work   func(ctx context.Context) // ten seconds of it
		fails  bool
	}{
		"within":                     {fermata.Timeout(11 * time.Second), idle, false},
		"over":                       {fermata.Timeout(9 * time.Second), idle, true},
		"heartbeats don't extend it": {fermata.Timeout(9 * time.Second), beating, true},
		"calls don't extend it":      {fermata.Timeout(9 * time.Second), calling, true},
		"idle too long":              {fermata.IdleTimeout(2 * time.Second), idle, true},
		"idle but beating":           {fermata.IdleTimeout(2 * time.Second), beating, false},
		"idle but calling":           {fermata.IdleTimeout(2 * time.Second), calling, false},
		"no heartbeat":               {fermata.HeartbeatTimeout(2 * time.Second), idle, true},
		"heartbeats":                 {fermata.HeartbeatTimeout(2 * time.Second), beating, false},
		"calls are none":             {fermata.HeartbeatTimeout(2 * time.Second), calling, true},
		"idle but emitting":          {fermata.IdleTimeout(2 * time.Second), emitting, false},
		"what it emits is none":      {fermata.HeartbeatTimeout(2 * time.Second), emitting, true},
		"beating below":              {fermata.IdleTimeout(2 * time.Second), below(beating), false},
		"calling below":              {fermata.IdleTimeout(2 * time.Second), below(calling), false},
		"heartbeats below":           {fermata.HeartbeatTimeout(2 * time.Second), below(beating), false},
		"calls below are none":       {fermata.HeartbeatTimeout(2 * time.Second), below(calling), true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(g *ground) {
				slow := fermata.NewTask("slow", func(ctx context.Context, n int) (string, error) {
					test.work(ctx)
					return "done", nil // whatever it says: its time was over
				}, test.option)
				flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
					out, err := slow.Call(ctx, n)
					if err != nil {
						out = fmt.Sprint(errors.Is(err, fermata.ErrTimeout))
					}
					_, err = fermata.Interrupt[string](ctx, out)
					return out, err
				})
				g.deploy(nil, flow)
				p := play(g, flow, "1")
				result := map[bool]string{true: "true", false: "done"}[test.fails]
				p.asks(p.start(0), strconv.Quote(result))
				p.returns(p.resume("same on replay"), result)
			})
		})
	}
}

func idle(ctx context.Context) {
	select {
	case <-time.After(10 * time.Second):
	case <-ctx.Done():
	}
}

func beating(ctx context.Context) { ten(ctx, func() { fermata.Heartbeat(ctx) }) }

func emitting(ctx context.Context) { ten(ctx, func() { _ = fermata.Emit(ctx, "news") }) }

// below does the work in a task of the task, which has an idle timeout too.
func below(work func(context.Context)) func(context.Context) {
	inner := fermata.NewTask("inner", func(ctx context.Context, n int) (int, error) { work(ctx); return n, nil }, fermata.IdleTimeout(5*time.Second))
	return func(ctx context.Context) { _, _ = inner.Call(ctx, 0) }
}

func calling(ctx context.Context) { ten(ctx, func() { _, _ = tick.Call(ctx, 0) }) }

var tick = fermata.NewTask("tick", func(_ context.Context, n int) (int, error) { return n, nil })

func ten(ctx context.Context, do func()) {
	for range 10 {
		select {
		case <-time.After(time.Second):
			do()
		case <-ctx.Done():
			return
		}
	}
}

func TestTimeoutIsRetriedAndEachAttemptHasItsOwn(t *testing.T) {
	inBubble(t, func(g *ground) {
		var c calls
		begin := time.Now()
		inner := fermata.NewTask("inner", func(_ context.Context, n int) (int, error) { c.add("inner"); return n, nil })
		slow := fermata.NewTask("slow", func(ctx context.Context, n int) (int, error) {
			attempt := c.add("slow")
			n, err := inner.Call(ctx, n)
			if attempt < 3 {
				<-ctx.Done()
				return 10 * attempt, nil // swallows it
			}
			return n, err
		}, fermata.Timeout(4*time.Second), fermata.Retry(fermata.RetryPolicy{InitialInterval: time.Second, BackoffFactor: 1, NoJitter: true}))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) { return slow.Call(ctx, n) })
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(7), 7)
		want(g.t, "time taken", time.Since(begin), 10*time.Second)
		want(g.t, "calls", c.take(), map[string]int{"slow": 3, "inner": 1}) // what it called in time is kept
	})
}

// A timeout ends what it bounds, not the calls in it: these have no outcome, and are made again.
func TestCallsAreMadeAgainAfterATimeoutAroundThem(t *testing.T) {
	type function = func(context.Context, int) (int, error)
	minute := fermata.Timeout(time.Minute)
	for name, around := range map[string]func(call function) *fermata.Entrypoint[int, int]{
		"of a task": func(call function) *fermata.Entrypoint[int, int] {
			outer := fermata.NewTask("outer", call, minute, thrice())
			return fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) { return outer.Call(ctx, n) })
		},
		"of a body": func(call function) *fermata.Entrypoint[int, int] {
			return fermata.NewEntrypoint("flow", call, minute, thrice())
		},
		"of two tasks around": func(call function) *fermata.Entrypoint[int, int] {
			middle := fermata.NewTask("middle", call)
			outer := fermata.NewTask("outer", func(ctx context.Context, n int) (int, error) { return middle.Call(ctx, n) }, minute, thrice())
			return fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) { return outer.Call(ctx, n) })
		},
		"of a body that is continued": func(call function) *fermata.Entrypoint[int, int] {
			return fermata.NewEntrypoint("flow", call, minute)
		},
	} {
		for kind, waits := range map[string]func(ctx context.Context, inner *fermata.Task[int, int], n int) (int, error){
			"call": func(ctx context.Context, inner *fermata.Task[int, int], n int) (int, error) {
				return inner.Call(ctx, n)
			},
			"first": func(ctx context.Context, inner *fermata.Task[int, int], n int) (int, error) {
				_, v, err := fermata.First(ctx, inner.Go(ctx, n))
				return v, err
			},
			"branch": func(ctx context.Context, inner *fermata.Task[int, int], n int) (v int, err error) {
				group := fermata.NewGroup(ctx)
				group.Go(func(ctx context.Context) error {
					if v, err = inner.Call(ctx, n); err != nil {
						_, err = tick.Call(ctx, 1) // which the next attempt doesn't call
					}
					return err
				})
				return v, group.Wait()
			},
			"swallowed": func(ctx context.Context, inner *fermata.Task[int, int], n int) (int, error) {
				v, err := inner.Call(ctx, n)
				if err != nil {
					wantErr(t, "error of the call", err, fermata.ErrTimeout)
					return tick.Call(ctx, 100)
				}
				return v, nil
			},
			"not awaited": func(ctx context.Context, inner *fermata.Task[int, int], n int) (int, error) {
				inner.Go(ctx, n)
				return n, nil
			},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				inBubble(t, func(g *ground) {
					var c calls
					inner := fermata.NewTask("inner", func(ctx context.Context, n int) (int, error) {
						if c.add("inner") == 1 {
							<-ctx.Done()
							return 0, ctx.Err()
						}
						return n, nil
					}, fermata.Retry(), fermata.Timeout(time.Hour))
					flow := around(func(ctx context.Context, n int) (int, error) { return waits(ctx, inner, n) })
					g.deploy(&fermata.Options{VerifyReplay: true}, flow)
					p := play(g, flow, "1")
					o := p.start(7)
					if name == "of a body that is continued" {
						wantErr(g.t, "first attempt", o.err, fermata.ErrTimeout)
						o = p.goOn()
					}
					p.returns(o, 7)
					want(g.t, "calls", c.take(), map[string]int{"inner": 2})
				})
			})
		}
	}
}

func TestTimeoutEndsTheWaitForAnAttemptBelow(t *testing.T) {
	inBubble(t, func(g *ground) {
		var c calls
		inner := fermata.NewTask("inner", func(_ context.Context, n int) (int, error) {
			if c.add("inner") == 1 {
				return 0, errors.New("down")
			}
			return n, nil
		}, fermata.Retry(fermata.RetryPolicy{InitialInterval: time.Hour, MaxInterval: time.Hour, NoJitter: true}))
		outer := fermata.NewTask("outer", func(ctx context.Context, n int) (int, error) { return inner.Call(ctx, n) }, fermata.Timeout(time.Minute), thrice())
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) { return outer.Call(ctx, n) })
		g.deploy(nil, flow)
		begin := time.Now()
		p := play(g, flow, "1")
		p.returns(p.start(7), 7)
		want(g.t, "time taken", time.Since(begin).Round(time.Second), time.Minute)
	})
}

func TestTimeoutOfAnEntrypointEndsAtAPause(t *testing.T) {
	inBubble(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, hang bool) (string, error) {
			if hang {
				<-ctx.Done()
				return "too late", nil
			}
			return fermata.Interrupt[string](ctx, "who?")
		}, fermata.Timeout(time.Minute))
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(false), `"who?"`)
		g.advance(72 * time.Hour)
		p.returns(p.resume("me"), "me")
		p.fails(p.start(true), fermata.ErrTimeout)
	})
}

func TestCachedResultsWithinAndOverRuns(t *testing.T) { // S51
	onEach(t, func(g *ground) {
		var c calls
		lookup := fermata.NewTask("ca", func(_ context.Context, n int) (int, error) { c.add(fmt.Sprint("ca ", n)); return 2 * n, nil }, fermata.Cached(0))
		flow := fermata.NewEntrypoint("cw", func(ctx context.Context, in []int) (out []int, err error) {
			for _, n := range in {
				d, err := lookup.Call(ctx, n)
				if err != nil {
					return nil, err
				}
				out = append(out, d)
			}
			return out, nil
		})
		g.deploy(nil, flow)
		first := play(g, flow, "1").start([]int{1, 2, 1})
		want(g.t, "first", first.updates(g.t), []string{`{"ca":2}`, `{"ca":4}`, `{"__metadata__":{"cached":true},"ca":2}`, `{"cw":[2,4,2]}`})
		g.deploy(nil, flow) // another process
		second := play(g, flow, "2").start([]int{1, 2})
		want(g.t, "second", second.updates(g.t), []string{`{"__metadata__":{"cached":true},"ca":2}`, `{"__metadata__":{"cached":true},"ca":4}`, `{"cw":[2,4]}`})
		var tasks []string
		for _, part := range partsOf(g.t, second.run, "", false, fermata.StreamTasks) {
			if kind := "end"; strings.Contains(string(part.Data), `"ca"`) {
				if strings.Contains(string(part.Data), `"triggers"`) {
					kind = "start"
				}
				tasks = append(tasks, kind)
			}
		}
		want(g.t, "parts of the tasks", tasks, []string{"start", "start"})
		want(g.t, "calls", c.take(), map[string]int{"ca 1": 1, "ca 2": 1})
		if err := g.engine.ClearCache(g.t.Context(), "ca"); err != nil {
			g.t.Fatal(err)
		}
		p := play(g, flow, "3")
		p.returns(p.start([]int{1}), []int{2})
		want(g.t, "calls after clearing", c.take(), map[string]int{"ca 1": 1})
	})
}

func TestCacheByKeyOfTheInput(t *testing.T) {
	type order struct {
		ID   string
		Note string
	}
	onEach(t, func(g *ground) {
		var c calls
		price := fermata.NewTask("price", func(_ context.Context, o order) (int, error) { c.add(o.ID); return len(o.ID), nil },
			fermata.CachedBy(time.Hour, func(o order) string { return o.ID }))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, o order) (int, error) { return price.Call(ctx, o) })
		g.deploy(nil, flow)
		for i, o := range []order{{"a", "first"}, {"a", "second"}, {"bb", ""}} {
			p := play(g, flow, fmt.Sprint(i))
			p.returns(p.start(o), len(o.ID))
		}
		want(g.t, "calls", c.take(), map[string]int{"a": 1, "bb": 1})
	})
}

func TestCachedResultOfAnotherTypeIsNone(t *testing.T) {
	onEach(t, func(g *ground) {
		old := fermata.NewTask("price", func(context.Context, int) (string, error) { return "seven", nil }, fermata.Cached(0))
		before := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) { return old.Call(ctx, n) })
		g.deploy(nil, before)
		p := play(g, before, "old")
		p.returns(p.start(1), "seven")
		var c calls
		price := fermata.NewTask("price", func(context.Context, int) (int, error) { c.add("price"); return 7, nil }, fermata.Cached(0))
		after := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) { return price.Call(ctx, n) })
		g.deploy(nil, after)
		for range 2 {
			p := play(g, after, "new")
			p.returns(p.start(1), 7)
		}
		want(g.t, "calls", c.take(), map[string]int{"price": 1}) // and the new one is kept
	})
}

func TestCacheAndInterruptsCompose(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) {
			c.add("ask")
			return fermata.Interrupt[string](ctx, q)
		}, fermata.Cached(0))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
			var answers []string
			for range 3 {
				a, err := ask.Call(ctx, "who?")
				if err != nil {
					return nil, err
				}
				answers = append(answers, a)
			}
			return answers, nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"who?"`)
		p.returns(p.resume("me"), []string{"me", "me", "me"}) // the first answer is the result for the others
		want(g.t, "calls", c.take(), map[string]int{"ask": 2})
	})
}

func TestMaxConcurrencyBoundsTasks(t *testing.T) {
	for _, limit := range []int{1, 3} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			onEach(t, func(g *ground) {
				var running, most atomic.Int64
				full := make(chan struct{})
				var once sync.Once
				task := fermata.NewTask("task", func(ctx context.Context, n int) (int, error) {
					now := running.Add(1)
					defer running.Add(-1)
					for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
					}
					if now == int64(limit) {
						once.Do(func() { close(full) })
					}
					<-full // nobody leaves before as many run as may
					return n, nil
				})
				flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
					var futures []*fermata.Future[int]
					for i := range n {
						futures = append(futures, task.Go(ctx, i))
					}
					all, err := fermata.All(ctx, futures...)
					return len(all), err
				}, fermata.MaxConcurrency(limit))
				g.deploy(nil, flow)
				p := play(g, flow, "1")
				p.returns(p.start(12), 12)
				want(g.t, "most at once", most.Load(), int64(limit))
			})
		})
	}
}

// TestMaxConcurrencyKeepsTheOthersWaiting: while no task ends, no more begin.
func TestMaxConcurrencyKeepsTheOthersWaiting(t *testing.T) {
	inBubble(t, func(g *ground) {
		var running atomic.Int64
		release := make(chan struct{})
		task := fermata.NewTask("task", func(context.Context, int) (int, error) {
			running.Add(1)
			<-release
			return 0, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
			var futures []*fermata.Future[int]
			for i := range n {
				futures = append(futures, task.Go(ctx, i))
			}
			all, err := fermata.All(ctx, futures...)
			return len(all), err
		}, fermata.MaxConcurrency(3))
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		run, err := p.handle().Start(g.t.Context(), 12)
		for ended := range int64(10) {
			synctest.Wait()
			want(g.t, "begun", running.Load(), 3+min(ended, 9))
			release <- struct{}{}
		}
		close(release)
		p.returns(p.rest(run, err), 12)
	})
}

func TestContinueGivesAllAttemptsAgain(t *testing.T) {
	retry := fermata.Retry(fermata.RetryPolicy{MaxAttempts: 2, InitialInterval: time.Second, NoJitter: true})
	inBubble(t, func(g *ground) {
		var c calls
		var at []time.Duration
		begin := time.Now()
		flaky := fermata.NewTask("flaky", func(ctx context.Context, n int) (int, error) {
			at = append(at, time.Since(begin))
			if c.add("flaky") < 4 {
				return 0, errors.New("down")
			}
			return fermata.Attempt(ctx), nil
		}, retry)
		outer := fermata.NewTask("outer", func(ctx context.Context, n int) (int, error) { return flaky.Call(ctx, n) })
		inTask := fermata.NewEntrypoint("task", func(ctx context.Context, n int) (int, error) { return outer.Call(ctx, n) })
		inBody := fermata.NewEntrypoint("body", func(ctx context.Context, n int) (int, error) {
			at = append(at, time.Since(begin))
			if c.add("body") < 4 {
				return 0, errors.New("down")
			}
			return fermata.Attempt(ctx), nil
		}, retry)
		g.deploy(nil, inTask, inBody)
		for _, flow := range []*fermata.Entrypoint[int, int]{inTask, inBody} {
			at, begin = nil, time.Now()
			p := play(g, flow, flow.Name())
			if o := p.start(0); o.err == nil {
				g.t.Fatal("the run did not fail")
			}
			p.returns(p.goOn(), 4) // the number of the attempt goes on
			want(g.t, "times", at, []time.Duration{0, time.Second, time.Second, 2 * time.Second})
		}
	})
}
