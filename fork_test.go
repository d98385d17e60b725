package fermata_test

import (
	"context"
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
