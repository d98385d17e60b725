package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
)

// thrice is a policy of three attempts that follow each other at once.
func thrice() fermata.PolicyOption {
	return fermata.Retry(fermata.RetryPolicy{InitialInterval: time.Nanosecond, NoJitter: true})
}

func TestLoserOfFirstStaysOutOfTheNextAttempt(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		asks := fermata.NewTask("asks", func(ctx context.Context, _ int) (string, error) {
			c.add("asks")
			return fermata.Interrupt[string](ctx, "ok?")
		})
		works := fermata.NewTask("works", func(ctx context.Context, _ int) (string, error) {
			c.add("works")
			<-ctx.Done()
			return "", ctx.Err()
		})
		quick := fermata.NewTask("quick", func(context.Context, int) (string, error) { c.add("quick"); return "quick", nil })
		outer := fermata.NewTask("outer", func(ctx context.Context, n int) (string, error) {
			slow := []*fermata.Future[string]{asks.Go(ctx, n), works.Go(ctx, n)}
			winner, value, err := fermata.First(ctx, append(slow, quick.Go(ctx, n))...)
			if err != nil {
				return "", err
			}
			for _, f := range slow {
				if _, err := f.Result(ctx); !errors.Is(err, fermata.ErrWithdrawn) {
					g.t.Errorf("attempt %d: a loser ended in %v", fermata.Attempt(ctx), err)
				}
			}
			if winner != 2 || fermata.Attempt(ctx) < 3 {
				return "", errors.New("not yet")
			}
			return value, nil
		}, thrice())
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) { return outer.Call(ctx, n) })
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.returns(p.start(0), "quick")
		got := c.take()
		for name, times := range got {
			if times != 1 {
				g.t.Errorf("%s was called %d times, want once in all attempts", name, times)
			}
		}
		want(g.t, "calls of the winner", got["quick"], 1)
	})
}

func TestQuestionThatASleepOutranStaysClosedInTheNextAttempt(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		asks := fermata.NewTask("asks", func(ctx context.Context, _ int) (string, error) { return fermata.Interrupt[string](ctx, "ok?") })
		naps := fermata.NewTask("naps", func(ctx context.Context, _ int) (string, error) { return "nobody came", fermata.Sleep(ctx, time.Hour) })
		acts := fermata.NewTask("acts", func(_ context.Context, s string) (string, error) {
			if c.add("acts") == 1 {
				return "", errors.New("service down")
			}
			return s, nil
		})
		outer := fermata.NewTask("outer", func(ctx context.Context, n int) (string, error) {
			_, value, err := fermata.First(ctx, asks.Go(ctx, n), naps.Go(ctx, n))
			if err != nil {
				return "", err
			}
			return acts.Call(ctx, value)
		}, thrice())
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) { return outer.Call(ctx, n) })
		g.deploy(nil, flow)
		answered, late := play(g, flow, "answered"), play(g, flow, "late")
		q := answered.asks(answered.start(0), `"ok?"`)[0]
		late.asks(late.start(0), `"ok?"`)
		answered.returns(answered.answer(q, "yes"), "yes")
		want(g.t, "calls", c.take(), map[string]int{"acts": 2})
		g.advance(2 * time.Hour)
		awaitStatus(g.t, g.open(g.t, nil), "late", fermata.Finished)
		want(g.t, "value", late.state().Value, "nobody came")
		want(g.t, "calls", c.take(), map[string]int{"acts": 2})
	})
}

func TestLoserIsTheSameLiveAndOnReplay(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		ended := make(chan struct{}, 1)
		slow := fermata.NewTask("slow", func(ctx context.Context, _ int) (int, error) {
			c.add("slow")
			ended <- struct{}{}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		quick := fermata.NewTask("quick", func(_ context.Context, n int) (int, error) { <-ended; return n, nil })
		step := fermata.NewTask("step", func(context.Context, string) (int, error) { return 0, nil })
		var flows []fermata.Definition
		var players []player[int, int]
		for _, asks := range []bool{false, true} {
			flow := fermata.NewEntrypoint(fmt.Sprint("asks ", asks), func(ctx context.Context, n int) (int, error) {
				loser, winner := slow.Go(ctx, n), quick.Go(ctx, n)
				if _, err := winner.Result(ctx); err != nil {
					return 0, err
				}
				g.offset.Add(int64(time.Second)) // so the others lose later than the winner ended
				if _, _, err := fermata.First(ctx, loser, winner); err != nil {
					return 0, err
				}
				_, lost := loser.Result(ctx)
				now, err := fermata.Now(ctx)
				if err != nil {
					return 0, err
				}
				if _, err := step.Call(ctx, now.String()); err != nil {
					return 0, err
				}
				if asks {
					if _, err := fermata.Interrupt[int](ctx, "q"); err != nil {
						return 0, err
					}
				}
				return 0, fmt.Errorf("so it is: %w", lost)
			})
			flows = append(flows, flow)
			players = append(players, play(g, flow, fmt.Sprint(asks)))
		}
		g.deploy(&fermata.Options{VerifyReplay: true}, flows...)
		for _, p := range players {
			o := p.start(1)
			if p.thread == "true" {
				p.asks(o, `"q"`)
				o = p.resume(1)
			}
			for range 2 {
				p.fails(o, fermata.ErrWithdrawn)
				if failed, ok := errors.AsType[*fermata.TaskError](o.err); !ok || failed.Task != "slow" {
					g.t.Errorf("got error %v, want one with the loser's in it", o.err)
				}
				want(g.t, "calls on "+p.thread, c.take()["slow"], 1)
				c.add("slow")
				o = p.goOn() // to the same end: that it lost is no failure to be repeated
			}
			c.take()
		}
	})
}
