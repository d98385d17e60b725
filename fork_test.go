package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
)

// A fork knows the answers that its code had been handed by then. What was asked before the fork and answered
// after it is asked anew, whatever became of the question in the run that it came from.
func TestForkBesideAnOpenQuestion(t *testing.T) {
	onEach(t, func(g *ground) {
		ask := fermata.NewTask("ask", func(ctx context.Context, payload string) (string, error) {
			return fermata.Interrupt[string](ctx, payload)
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			answers, err := fermata.All(ctx, ask.Go(ctx, "a?"), ask.Go(ctx, "b?"))
			if err != nil {
				return "", err
			}
			return answers[0] + answers[1], nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		questions := p.asks(p.start(0), `"a?"`, `"b?"`)
		p.asks(p.answer(questions[0], "1"), `"b?"`)
		p.returns(p.resume("2"), "12")
		// One of the two was recorded last: the fork before it has the record of the other.
		for _, q := range questions {
			run, err := p.handle().Fork(g.t.Context(), fermata.BeforeQuestion(q.ID))
			anew := p.asks(p.rest(run, err), `"a?"`, `"b?"`)
			p.asks(p.answer(anew[0], "x"), `"b?"`)
			p.returns(p.resume("y"), "xy")
		}
	})
}

// A fork that asked a question anew keeps its own answer in every later pass, and so does a fork of it.
func TestForkKeepsItsOwnAnswer(t *testing.T) {
	onEach(t, func(g *ground) {
		ask := fermata.NewTask("ask", func(ctx context.Context, payload string) (string, error) {
			return fermata.Interrupt[string](ctx, payload)
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, together bool) (string, error) {
			var answers []string
			var err error
			if together {
				answers, err = fermata.AskAll(ctx, fermata.Inline[string]("a?"), fermata.Inline[string]("b?"))
			} else {
				answers, err = fermata.All(ctx, ask.Go(ctx, "a?"), ask.Go(ctx, "b?"))
			}
			if err != nil {
				return "", err
			}
			more, err := fermata.Interrupt[string](ctx, "more?")
			return answers[0] + answers[1] + more, err
		})
		g.deploy(nil, flow)
		for _, together := range []bool{true, false} {
			p := play(g, flow, map[bool]string{true: "together", false: "apart"}[together])
			questions := p.asks(p.start(together), `"a?"`, `"b?"`)
			p.asks(p.answer(questions[0], "1"), `"b?"`)
			p.asks(p.answer(questions[1], "2"), `"more?"`)
			p.returns(p.resume("3"), "123")

			run, err := p.handle().Fork(g.t.Context(), fermata.BeforeQuestion(questions[1].ID))
			anew := p.asks(p.rest(run, err), `"a?"`, `"b?"`)
			p.asks(p.answer(anew[1], "y"), `"a?"`)
			more := p.asks(p.answer(anew[0], "x"), `"more?"`)
			p.returns(p.resume("z"), "xyz")

			run, err = p.handle().Fork(g.t.Context(), fermata.BeforeQuestion(more[0].ID))
			p.asks(p.rest(run, err), `"more?"`)
			p.returns(p.resume("!"), "xy!")

			run, err = p.handle().Fork(g.t.Context(), fermata.BeforeQuestion(anew[0].ID))
			again := p.asks(p.rest(run, err), `"a?"`, `"b?"`)
			p.asks(p.answer(again[0], "p"), `"b?"`)
			p.asks(p.answer(again[1], "q"), `"more?"`)
			p.returns(p.resume("r"), "pqr")
		}
	})
}

// A rejection in a fork stays one, though the run that it came from had the approval.
func TestForkKeepsItsOwnRejection(t *testing.T) {
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		beside := fermata.NewTask("beside", func(ctx context.Context, payload string) (string, error) {
			return fermata.Interrupt[string](ctx, payload)
		})
		pay := fermata.NewTask("pay", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000})
			if errors.Is(err, fermata.ErrRejected) {
				_, err := fermata.Interrupt[string](ctx, "rejected: and now?")
				return "rejected", err
			}
			if err != nil {
				return "", err
			}
			if _, err := fermata.Interrupt[string](ctx, "approved: now?"); err != nil {
				return "", err
			}
			return send.Run(ctx, approval)
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			out, err := fermata.All(ctx, pay.Go(ctx, ""), beside.Go(ctx, "beside?"))
			if err != nil {
				return "", err
			}
			return out[0], nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		const action = `{"to":"ada","cents":1000}`
		questions := p.asks(p.start(""), action, `"beside?"`)
		p.asks(p.answer(questions[1], "x"), action)
		p.asks(p.answer(questions[0], verdict{Decision: fermata.Approve}), `"approved: now?"`)
		p.returns(p.resume("go"), "sent 1000 to ada")
		run, err := p.handle().Fork(g.t.Context(), fermata.AfterQuestion(questions[1].ID))
		anew := p.asks(p.rest(run, err), action)
		p.asks(p.answer(anew[0], verdict{Decision: fermata.Reject}), `"rejected: and now?"`)
		p.returns(p.resume("so be it"), "rejected")
		want(g.t, "what was done", did.take(), map[string]int{"ada 1000": 1})
	})
}

// chance is what a function drew at one place.
type chance struct {
	Now  time.Time
	Rand uint64
	UUID fermata.ID
}

// TestForksAndCopiesReplayWhatWasDrawn: all calls get what was drawn before them, so that they park if it is another.
func TestForksAndCopiesReplayWhatWasDrawn(t *testing.T) {
	t.Parallel()
	type result struct{ First, Task, AfterTask, Branch, AfterGroup, Last chance }
	type task struct{ Before, After chance }
	onEach(t, func(g *ground) {
		keep := fermata.NewTask("keep", func(_ context.Context, c chance) (chance, error) {
			g.advance(time.Second)
			return c, nil
		})
		look := func(ctx context.Context) (c chance, err error) {
			if c.Now, err = fermata.Now(ctx); err != nil {
				return c, err
			}
			source, err := fermata.Rand(ctx)
			if err != nil {
				return c, err
			}
			c.Rand = source.Uint64()
			c.UUID, err = fermata.UUID(ctx)
			return c, err
		}
		draw := func(ctx context.Context, options ...fermata.CallOption) (chance, error) {
			c, err := look(ctx)
			if err != nil {
				return c, err
			}
			return keep.Call(ctx, c, options...)
		}
		ask := fermata.NewTask("ask", func(ctx context.Context, payload string) (r task, err error) {
			if r.Before, err = draw(ctx); err != nil {
				return r, err
			}
			if _, err := fermata.Interrupt[string](ctx, payload); err != nil {
				return r, err
			}
			r.After, err = draw(ctx)
			return r, err
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (r result, err error) {
			if r.First, err = draw(ctx); err != nil {
				return r, err
			}
			asked, err := ask.Call(ctx, "task?")
			if err != nil {
				return r, err
			}
			r.Task, r.AfterTask = asked.Before, asked.After
			group := fermata.NewGroup(ctx)
			group.Go(func(ctx context.Context) error {
				if _, err := draw(ctx); err != nil {
					return err
				}
				r.Branch, err = look(ctx) // only the function around it lets this be recorded
				return err
			})
			if err := group.Wait(); err != nil {
				return r, err
			}
			if _, err := keep.Call(ctx, r.Branch); err != nil {
				return r, err
			}
			if r.AfterGroup, err = draw(ctx, fermata.Key("keyed")); err != nil {
				return r, err
			}
			if _, err := fermata.Interrupt[string](ctx, "body?"); err != nil {
				return r, err
			}
			r.Last, err = draw(ctx)
			return r, err
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)

		// same holds that two results agree in their first n places, and in no other random number.
		same := func(what string, a, b result, n int) {
			g.t.Helper()
			x, y := []chance{a.First, a.Task, a.AfterTask, a.Branch, a.AfterGroup, a.Last}, []chance{b.First, b.Task, b.AfterTask, b.Branch, b.AfterGroup, b.Last}
			want(g.t, what, y[:n], x[:n])
			for i := n; i < len(x); i++ {
				if x[i].Rand == y[i].Rand || x[i].UUID == y[i].UUID {
					g.t.Errorf("%s: place %d has the same random numbers", what, i)
				}
			}
		}
		ended := func(o outcome[result]) result {
			g.t.Helper()
			if o.err != nil {
				g.t.Fatal(o.err)
			}
			return o.value
		}
		p := play(g, flow, "1")
		copied := func(from, to string) player[int, result] {
			g.advance(time.Minute)
			if err := g.engine.CopyThread(g.t.Context(), from, to); err != nil {
				g.t.Fatal(err)
			}
			return play(g, flow, to)
		}
		fork := func(p player[int, result], point fermata.ForkPoint) outcome[result] {
			g.advance(time.Minute)
			return p.rest(p.handle().Fork(g.t.Context(), point))
		}
		inTask := p.asks(p.start(0), `"task?"`)[0]
		early := copied("1", "early")
		inBody := p.asks(p.resume(""), `"body?"`)[0]
		late := copied("1", "late")
		original := ended(p.resume(""))

		same("fork before the question in the task", original, func() result {
			p.asks(fork(p, fermata.BeforeQuestion(inTask.ID)), `"task?"`)
			p.asks(p.resume(""), `"body?"`)
			return ended(p.resume(""))
		}(), 2)
		same("fork after the question in the task", original, func() result {
			p.asks(fork(p, fermata.AfterQuestion(inTask.ID)), `"body?"`)
			return ended(p.resume(""))
		}(), 2)
		same("fork after the question in the body", original, ended(fork(p, fermata.AfterQuestion(inBody.ID))), 5)

		again := p.asks(fork(p, fermata.BeforeQuestion(inBody.ID)), `"body?"`)[0]
		forkCopy := copied("1", "of a fork")
		first := ended(p.resume(""))
		same("fork before the question in the body", original, first, 5)
		for what, point := range map[string]fermata.ForkPoint{"before": fermata.BeforeQuestion(again.ID), "after": fermata.AfterQuestion(again.ID)} {
			o := fork(p, point)
			if what == "before" {
				p.asks(o, `"body?"`)
				o = p.resume("")
			}
			second := ended(o)
			same("fork of a fork, "+what, original, second, 5)
			same("fork of a fork and the fork, "+what, first, second, 5)
		}

		early.asks(early.goOn(), `"task?"`)
		afterTask := early.asks(early.resume(""), `"body?"`)[0]
		twice := copied("early", "twice")
		once := ended(early.resume(""))
		same("copy", original, once, 2)
		late.asks(late.goOn(), `"body?"`)
		same("late copy", original, ended(late.resume("")), 5)
		forkCopy.asks(forkCopy.goOn(), `"body?"`)
		same("copy of a fork", first, ended(forkCopy.resume("")), 5)
		twice.asks(twice.goOn(), `"body?"`)
		same("copy of a copy", once, ended(twice.resume("")), 5)
		same("fork of a copy", once, ended(fork(early, fermata.AfterQuestion(afterTask.ID))), 5)

		if _, err := g.engine.PruneThread(g.t.Context(), "1"); err != nil {
			g.t.Fatal(err)
		}
		for i := range 2 {
			last := copied("1", fmt.Sprint("pruned ", i))
			same("copy of a pruned thread", ended(p.goOn()), ended(last.goOn()), 6)
		}
	})
}

func TestForkTakesItsOptions(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			config, _, err := fermata.Config[string](ctx)
			if err != nil {
				return "", err
			}
			answer, err := fermata.Interrupt[string](ctx, "q")
			return config + " " + answer, err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		q := p.asks(p.start(1, fermata.WithConfig("old")), `"q"`)[0]
		p.returns(p.resume("A"), "old A")
		before := fermata.AtCheckpoint(q.Run.String())
		fork := func(options ...fermata.StartOption) outcome[string] {
			return p.rest(p.handle().Fork(g.t.Context(), before, options...))
		}
		p.asks(fork(), `"q"`)
		p.returns(p.resume("B"), "old B")
		p.asks(fork(fermata.WithConfig("new")), `"q"`)
		p.returns(p.resume("C"), "new C")

		runs := len(checkpoints(g.t, p.handle()))
		o := fork(fermata.WithConfig(make(chan int)))
		p.fails(o, fermata.ErrInvalid)
		wantOp(g.t, o.err, "fork")
		o = fork(fermata.From(q.Run.String()))
		p.fails(o, fermata.ErrInvalid)
		wantOp(g.t, o.err, "fork")
		want(g.t, "checkpoints", len(checkpoints(g.t, p.handle())), runs)

		// What the engine refuses bears the verb, too.
		p.asks(fork(), `"q"`)
		o = fork()
		p.fails(o, fermata.ErrQuestionOpen)
		wantOp(g.t, o.err, "fork")
	})
}

// wantOp holds an error to name the verb that the user called.
func wantOp(t *testing.T, err error, op string) {
	t.Helper()
	if e, ok := errors.AsType[*fermata.Error](err); !ok || e.Op != op {
		t.Errorf("error %v is not of the verb %q", err, op)
	}
}
