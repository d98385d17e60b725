package fermata_test

import (
	"context"
	"errors"
	"testing"

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
