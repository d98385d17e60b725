package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
)

// program is a workflow that a deploy changes while a run of it waits: what it calls, line by line.
//
//	task ARGUMENT    call a task
//	ask PAYLOAD      ask a question
//	key=K ...        the same under a key
type program []string

// deployed builds the workflow. Calls of tasks are counted, and answer with their name and argument.
func (lines program) deployed(c *calls) *fermata.Entrypoint[int, []string] {
	tasks := map[string]*fermata.Task[string, string]{}
	for _, line := range lines {
		words := strings.Fields(line)
		if strings.HasPrefix(words[0], "key=") {
			words = words[1:]
		}
		name := words[0]
		tasks[name] = fermata.NewTask(name, func(_ context.Context, argument string) (string, error) {
			c.add(name + " " + argument)
			return name + "(" + argument + ")", nil
		})
	}
	return fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
		results := []string{}
		for _, line := range lines {
			var options []fermata.CallOption
			var asked []fermata.AskOption
			if key, rest, ok := strings.Cut(line, " "); ok && strings.HasPrefix(key, "key=") {
				options, asked, line = append(options, fermata.Key(key)), append(asked, fermata.Key(key)), rest
			}
			name, argument, _ := strings.Cut(line, " ")
			var result string
			var err error
			if name == "ask" {
				result, err = fermata.Interrupt[string](ctx, argument, asked...)
			} else {
				result, err = tasks[name].Call(ctx, argument, options...)
			}
			if err != nil {
				return nil, err
			}
			results = append(results, result)
		}
		return results, nil
	})
}

// What a run that waits comes to when it is answered after a deploy.
func TestDeploysWhileARunWaits(t *testing.T) {
	for name, test := range map[string]struct {
		before, after program
		want          []string // nil: it is parked
		report        string   // what the diagnosis says
	}{
		"nothing": {
			program{"a 1", "b 2", "ask ok?"}, program{"a 1", "b 2", "ask ok?"},
			[]string{"a(1)", "b(2)", "yes"}, "",
		},
		"more after the question": {
			program{"a 1", "ask ok?"}, program{"a 1", "ask ok?", "b 2"},
			[]string{"a(1)", "yes", "b(2)"}, "",
		},
		"E3: insert a task of the same name": {
			program{"call price", "ask ok?"}, program{"call fraud", "call price", "ask ok?"},
			nil, `task "call"`,
		},
		"E3: reorder two of one name": {
			program{"call price", "call tax", "ask ok?"}, program{"call tax", "call price", "ask ok?"},
			nil, `"price", is "tax"`,
		},
		"E4: rename a finished task": {
			program{"mail ann", "ask ok?"}, program{"send_mail ann", "ask ok?"},
			nil, `the code now calls task "send_mail"`,
		},
		"E6: swap two questions": {
			program{"ask vendor name", "ask approve payment?"}, program{"ask approve payment?", "ask vendor name"},
			nil, `"vendor name", is "approve payment?"`,
		},
		"remove a task": {
			program{"a 1", "b 2", "ask ok?"}, program{"b 2", "ask ok?"},
			nil, `task "a"`,
		},
		"remove the question": {
			program{"a 1", "ask ok?"}, program{"a 1"},
			nil, "the code ended without it",
		},
		"a task instead of the question": {
			program{"a 1", "ask ok?"}, program{"a 1", "b ok?"},
			nil, "question",
		},
		"change what is shown": {
			program{"ask refund 10?"}, program{"ask refund 90000?"},
			nil, "refund 10?",
		},
		"insert with a key": {
			program{"a 1", "ask ok?"}, program{"key=new b 2", "a 1", "ask ok?"},
			[]string{"b(2)", "a(1)", "yes"}, "",
		},
		"move calls with keys": {
			program{"key=k1 call 1", "key=k2 call 2", "key=q ask ok?"}, program{"key=k2 call 2", "key=q ask ok?", "key=k1 call 1"},
			[]string{"call(2)", "yes", "call(1)"}, "",
		},
		"remove a call with a key": {
			program{"key=k1 call 1", "key=k2 call 2", "ask ok?"}, program{"key=k2 call 2", "ask ok?"},
			[]string{"call(2)", "yes"}, "",
		},
		"another argument under a key": {
			program{"key=k1 call 1", "ask ok?"}, program{"key=k1 call 2", "ask ok?"},
			nil, "key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(g *ground) {
				var before, after calls
				flow := test.before.deployed(&before)
				g.deploy(nil, flow)
				p := play(g, flow, "1")
				question := paused(g.t, p.start(0).err)[0]
				flow = test.after.deployed(&after)
				g.deploy(nil, flow)
				p = play(g, flow, "1")
				o := p.answer(question, "yes")
				if test.want != nil {
					p.returns(o, test.want)
				} else if o.err == nil || !strings.Contains(o.err.Error(), test.report) {
					g.t.Fatalf("got %q, error %v; want a diagnosis with %s", o.value, o.err, test.report)
				}
				known := map[string]bool{}
				for line := range before.take() {
					known[strings.TrimSpace(line)] = true
				}
				for line := range after.take() {
					if known[line] || test.want == nil {
						g.t.Errorf("the new code ran %s", line)
					}
				}
				if test.want != nil {
					return
				}
				p.fails(o, fermata.ErrParked)
				// Nothing is lost: the old code goes on, with the answer that was given.
				flow = test.before.deployed(&before)
				g.deploy(nil, flow)
				p = play(g, flow, "1")
				o = p.goOn()
				if o.err != nil && !errors.Is(o.err, fermata.ErrPaused) {
					g.t.Errorf("with the old code again: %v", o.err)
				}
				want(g.t, "calls of the old code", before.take(), nil)
			})
		})
	}
}

// Code that fails before it makes the recorded calls says why it didn't.
func TestFailureBeforeTheRecordedCallsIsReported(t *testing.T) {
	for name, test := range map[string]struct {
		fails func() error
		want  string
		stack bool
	}{
		"error":      {func() error { return errors.New("DB_URL is not set") }, "with the error: DB_URL is not set", false},
		"panic":      {func() error { panic("DB_URL is not set") }, "with the panic: DB_URL is not set", true},
		"odd error":  {func() error { return (*angry)(nil) }, "the error, a *fermata_test.angry, can't be read", true},
		"goexit":     {func() error { runtime.Goexit(); return nil }, "runtime.Goexit", false},
		"no failure": {func() error { return nil }, "the code ended without it", false},
	} {
		for _, where := range []string{"body", "task"} {
			t.Run(name+" of a "+where, func(t *testing.T) {
				onEach(t, func(g *ground) {
					build := func(fails func() error) player[int, string] {
						code := func(ctx context.Context, _ int) (string, error) {
							if fails != nil {
								return "", fails()
							}
							return fermata.Interrupt[string](ctx, "q")
						}
						flow := fermata.NewEntrypoint("flow", code)
						if where == "task" {
							task := fermata.NewTask("task", code)
							flow = fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) { return task.Call(ctx, n) })
						}
						g.deploy(nil, flow)
						return play(g, flow, "1")
					}
					p := build(nil)
					p.asks(p.start(0), `"q"`)
					o := build(test.fails).resume("yes")
					for _, err := range []error{o.err, p.state().Err} {
						wantErr(g.t, "error", err, fermata.ErrParked)
						report, ok := errors.AsType[*fermata.DivergenceError](err)
						if !ok || !strings.Contains(err.Error(), test.want) || test.stack != strings.Contains(report.Stack, "_test.go") {
							g.t.Errorf("got error %v, want one that says %q; stack:\n%s", err, test.want, report.Stack)
						}
					}
					p = build(nil) // its surroundings are mended
					p.returns(p.goOn(), "yes")
				})
			})
		}
	}
}

func TestKeyUsedTwice(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
		if _, err := tick.Call(ctx, 1, fermata.Key("k")); err != nil {
			return "", err
		}
		_, err := tick.Call(ctx, 2, fermata.Key("k"))
		return fmt.Sprint(errors.Is(err, fermata.ErrInvalid)), nil
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(0), "true")
	})
}

func TestAddedFieldIsNoDivergence(t *testing.T) {
	type order1 struct{ ID string }
	type order2 struct {
		ID   string
		Gift bool
	}
	onEach(t, func(g *ground) {
		v1 := fermata.NewTask("ship", func(_ context.Context, o order1) (string, error) { return "shipped " + o.ID, nil })
		old := fermata.NewEntrypoint("flow", func(ctx context.Context, id string) (string, error) {
			s, err := v1.Call(ctx, order1{id})
			if err != nil {
				return "", err
			}
			_, err = fermata.Interrupt[string](ctx, "arrived?")
			return s, err
		})
		g.deploy(nil, old)
		for _, id := range []string{"1", "2"} {
			p := play(g, old, id)
			p.asks(p.start("7"), `"arrived?"`)
		}
		deploy := func(gift bool) *fermata.Entrypoint[string, string] {
			v2 := fermata.NewTask("ship", func(_ context.Context, o order2) (string, error) { return "shipped again", nil })
			flow := fermata.NewEntrypoint("flow", func(ctx context.Context, id string) (string, error) {
				s, err := v2.Call(ctx, order2{id, gift})
				if err != nil {
					return "", err
				}
				_, err = fermata.Interrupt[string](ctx, "arrived?")
				return s, err
			})
			g.deploy(nil, flow)
			return flow
		}
		p := play(g, deploy(false), "1")
		p.returns(p.resume("yes"), "shipped 7")
		p = play(g, deploy(true), "2")
		o := p.resume("yes")
		divergence, ok := errors.AsType[*fermata.DivergenceError](o.err)
		if !ok {
			g.t.Fatalf("got %v, want a divergence", o.err)
		}
		want(g.t, "fields", divergence.Fields, []fermata.FieldDifference{{Field: "Gift", Recorded: "absent", Current: "true"}})
	})
}

func TestDeployOfAnotherAnswerTypeParksAndKeepsTheAnswer(t *testing.T) {
	onEach(t, func(g *ground) {
		old := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			return fermata.Interrupt[string](ctx, "how many?")
		})
		g.deploy(nil, old)
		p := play(g, old, "1")
		question := p.asks(p.start(0), `"how many?"`)[0]
		changed := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			n, err := fermata.Interrupt[int](ctx, "how many?")
			return fmt.Sprint(n), err
		})
		g.deploy(nil, changed)
		parked := play(g, changed, "1")
		parked.fails(parked.answer(question, "a few"), fermata.ErrParked)
		g.deploy(nil, old)
		p.returns(p.goOn(), "a few")
	})
}

func TestAcceptRecorded(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		flow := program{"mail ann", "ask ok?"}.deployed(&c)
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		question := p.asks(p.start(0), `"ok?"`)[0]
		flow = program{"send_mail ann", "ask ok?"}.deployed(&c)
		g.deploy(nil, flow)
		p = play(g, flow, "1")
		p.fails(p.answer(question, "yes"), fermata.ErrParked)
		run, err := p.handle().Repair(g.t.Context(), fermata.AcceptRecorded, fermata.Principal{Subject: "ops"}, "renamed")
		p.returns(p.rest(run, err), []string{"mail(ann)", "yes"})
		want(g.t, "mails", c.take(), map[string]int{"mail ann": 1})
	})
}

func TestRunAgainKeepsWhatCameBefore(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		flow := program{"a 1", "b 2", "ask ok?"}.deployed(&c)
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		question := p.asks(p.start(0), `"ok?"`)[0]
		flow = program{"a 1", "b 3", "ask ok?"}.deployed(&c)
		g.deploy(nil, flow)
		p = play(g, flow, "1")
		p.fails(p.answer(question, "yes"), fermata.ErrParked)
		c.take()
		run, err := p.handle().Repair(g.t.Context(), fermata.RunAgain, fermata.Principal{Subject: "ops"}, "b was wrong")
		again := p.asks(p.rest(run, err), `"ok?"`)[0]
		want(g.t, "calls", c.take(), map[string]int{"b 3": 1})
		if again.ID == question.ID {
			g.t.Error("the question that was superseded is asked again")
		}
		p.returns(p.resume("yes, again"), []string{"a(1)", "b(3)", "yes, again"})
	})
}

func TestAbandonAParkedRun(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		flow := program{"a 1", "ask ok?"}.deployed(&c)
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		question := p.asks(p.start(0), `"ok?"`)[0]
		flow = program{"b 1", "ask ok?"}.deployed(&c)
		g.deploy(nil, flow)
		p = play(g, flow, "1")
		p.fails(p.answer(question, "yes"), fermata.ErrParked)
		p.fails(p.start(0), fermata.ErrParked)
		run, err := p.handle().Cancel(g.t.Context(), "not worth it")
		p.fails(p.rest(run, err), fermata.ErrCancelled)
		p.asks(p.start(0), `"ok?"`)
		p.returns(p.resume("yes"), []string{"b(1)", "yes"})
	})
}

func TestVersionThatNobodyKnowsParks(t *testing.T) {
	build := func(lowest, highest int) *fermata.Entrypoint[int, int] {
		return fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (int, error) {
			v, err := fermata.Version(ctx, "change", lowest, highest)
			if err != nil {
				return 0, err
			}
			if _, err := fermata.Interrupt[string](ctx, "ok?"); err != nil {
				return 0, err
			}
			again, err := fermata.Version(ctx, "change", lowest, highest)
			return 10*v + again, err
		})
	}
	onEach(t, func(g *ground) {
		flow := build(1, 2)
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		question := p.asks(p.start(0), `"ok?"`)[0]
		flow = build(3, 4)
		g.deploy(nil, flow)
		p = play(g, flow, "1")
		p.fails(p.answer(question, "yes"), fermata.ErrParked)
		flow = build(2, 4) // version 2 is still known, and stands
		g.deploy(nil, flow)
		p = play(g, flow, "1")
		p.returns(p.goOn(), 22)
	})
}

func TestClockAndChanceAreTheSameLiveAndOnReplay(t *testing.T) {
	type drawn struct {
		Now        []time.Time
		Numbers    []uint64
		IDs        []fermata.ID
		Idempotent []fermata.ID
	}
	read := func(ctx context.Context, d *drawn) error {
		now, err := fermata.Now(ctx)
		if err != nil {
			return err
		}
		random, err := fermata.Rand(ctx)
		if err != nil {
			return err
		}
		id, err := fermata.UUID(ctx)
		if err != nil {
			return err
		}
		key, err := fermata.IdempotencyID(ctx)
		d.Now, d.Numbers = append(d.Now, now), append(d.Numbers, random.Uint64(), random.Uint64())
		d.IDs, d.Idempotent = append(d.IDs, id), append(d.Idempotent, key)
		return err
	}
	step := fermata.NewTask("step", func(ctx context.Context, _ int) (drawn, error) {
		var d drawn
		return d, read(ctx, &d)
	})
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (drawn, error) {
		var d drawn
		if err := read(ctx, &d); err != nil {
			return d, err
		}
		for range 2 {
			below, err := step.Call(ctx, 1)
			if err != nil {
				return d, err
			}
			d.Numbers, d.IDs, d.Idempotent = append(d.Numbers, below.Numbers...), append(d.IDs, below.IDs...), append(d.Idempotent, below.Idempotent...)
			if err := read(ctx, &d); err != nil {
				return d, err
			}
		}
		d.Idempotent = d.Idempotent[1:2] // the body's own is one for all reads
		_, err := fermata.Interrupt[string](ctx, d)
		return d, err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		question := paused(g.t, p.start(0).err)[0]
		var live drawn
		if err := question.Decode(&live); err != nil {
			g.t.Fatal(err)
		}
		g.advance(time.Hour)
		g.deploy(nil, flow)
		p.returns(p.resume("same?"), live)
		different := map[any]bool{}
		for _, n := range live.Numbers {
			different[n] = true
		}
		for _, id := range live.IDs {
			different[id] = true
		}
		want(g.t, "all draws are different", len(different), len(live.Numbers)+len(live.IDs))
		for i := 1; i < len(live.Now); i++ {
			if live.Now[i].Before(live.Now[i-1]) {
				g.t.Error("the clock ran backwards")
			}
		}
		other := play(g, flow, "2")
		if next := paused(g.t, other.start(0).err)[0]; string(next.Payload) == string(question.Payload) {
			g.t.Error("another run drew the same")
		}
	})
}

func TestIdempotencyIDOverAttemptsAndProcesses(t *testing.T) {
	onEach(t, func(g *ground) {
		seen := map[string][]fermata.ID{}
		charge := fermata.NewTask("charge", func(ctx context.Context, order string) (string, error) {
			id, err := fermata.IdempotencyID(ctx)
			if err != nil {
				return "", err
			}
			seen[order] = append(seen[order], id)
			if order == "a" && len(seen[order]) < 4 {
				return "", errors.New("down")
			}
			return order, nil
		}, fermata.Retry(fermata.RetryPolicy{MaxAttempts: 2, InitialInterval: 1, NoJitter: true}))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			a, err := charge.Call(ctx, "a")
			if err != nil {
				return "", err
			}
			b, err := charge.Call(ctx, "b")
			return a + b, err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		if o := p.start(0); o.err == nil {
			g.t.Fatal("the run did not fail")
		}
		g.deploy(nil, flow)
		p.returns(p.goOn(), "ab")
		if len(seen["a"]) != 4 {
			g.t.Fatalf("got %d attempts, want 4", len(seen["a"]))
		}
		for _, id := range seen["a"] {
			want(g.t, "id in every attempt", id, seen["a"][0])
		}
		if seen["b"][0] == seen["a"][0] {
			g.t.Error("two calls have one id")
		}
	})
}

func TestLenientReplayIsLangGraphs(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		a := fermata.NewTask("a", func(_ context.Context, n int) (int, error) { c.add("a"); return n, nil })
		b := fermata.NewTask("b", func(_ context.Context, n int) (int, error) { c.add("b"); return n, nil })
		build := func(x, y int, swap bool) *fermata.Entrypoint[int, []int] {
			return fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]int, error) {
				first, second := a, b
				if swap {
					first, second = b, a
				}
				m, err := first.Call(ctx, x)
				if err != nil {
					return nil, err
				}
				n, err := second.Call(ctx, y)
				if err != nil {
					return nil, err
				}
				_, err = fermata.Interrupt[string](ctx, "ok?")
				return []int{m, n}, err
			}, fermata.Lenient())
		}
		flow := build(1, 2, false)
		g.deploy(nil, flow)
		for _, thread := range []string{"arguments", "order"} {
			p := play(g, flow, thread)
			p.asks(p.start(0), `"ok?"`)
		}
		c.take()
		flow = build(99, 98, false) // S15
		g.deploy(nil, flow)
		p := play(g, flow, "arguments")
		p.returns(p.resume("yes"), []int{1, 2})
		want(g.t, "calls", c.take(), nil)
		flow = build(1, 2, true)
		g.deploy(nil, flow)
		p = play(g, flow, "order")
		p.asks(p.goOn(), `"ok?"`)
		want(g.t, "both run again", c.take(), map[string]int{"a": 1, "b": 1})
		p.returns(p.resume("yes"), []int{1, 2})
	})
}

func TestLenientIsTheNearestEntrypointsAffair(t *testing.T) {
	onEach(t, func(g *ground) {
		step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) { return n, nil })
		deploy := func(n int, child, parent []fermata.EntrypointOption) player[int, int] {
			ask := fermata.NewTask("ask", func(ctx context.Context, m int) (int, error) {
				if _, err := step.Call(ctx, n); err != nil {
					return 0, err
				}
				return fermata.Interrupt[int](ctx, m)
			})
			nested := fermata.NewEntrypoint("nested", func(ctx context.Context, m int) (int, error) { return ask.Call(ctx, m) }, child...)
			flow := fermata.NewEntrypoint("flow", func(ctx context.Context, m int) (int, error) { return nested.Call(ctx, m) }, parent...)
			g.deploy(nil, flow)
			return play(g, flow, fmt.Sprint(len(child)))
		}
		lenient := []fermata.EntrypointOption{fermata.Lenient()}
		p := deploy(1, lenient, nil)
		p.asks(p.start(7), "7")
		p = deploy(2, lenient, nil)
		p.returns(p.resume(8), 8)
		p = deploy(1, nil, lenient)
		p.asks(p.start(7), "7")
		p = deploy(2, nil, lenient)
		p.fails(p.resume(8), fermata.ErrParked)
	})
}

func TestVerifyReplayLeavesGoodCodeAlone(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) {
			c.add("ask")
			return fermata.Interrupt[string](ctx, q)
		})
		fail := fermata.NewTask("fail", func(context.Context, int) (int, error) { c.add("fail"); return 0, errors.New("no") })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
			if _, err := fail.Call(ctx, 0); err == nil {
				return nil, errors.New("it did not fail")
			}
			random, err := fermata.Rand(ctx)
			if err != nil {
				return nil, err
			}
			return fermata.All(ctx, ask.Go(ctx, "a"), ask.Go(ctx, fmt.Sprint(random.IntN(1000000) < 0)))
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		p := play(g, flow, "1")
		questions := p.asks(p.start(0), `"a"`, `"false"`)
		p.asks(p.answer(questions[1], "B"), `"a"`)
		p.returns(p.resume("A"), []string{"A", "B"})
		want(g.t, "failing task", c.take()["fail"], 1)
	})
}

func TestVerifyReplayLeavesShortSleepsAlone(t *testing.T) {
	inBubble(t, func(g *ground) {
		step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) { return n, nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
			<-time.After(2 * time.Second) // so that the sleep is over before the replay comes to it
			if err := fermata.Sleep(ctx, 3*time.Second); err != nil {
				return 0, err
			}
			return step.Call(ctx, n)
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		p := play(g, flow, "1")
		p.returns(p.start(7), 7)
	})
}
