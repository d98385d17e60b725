package fermata_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/backendtest"
)

const day = 24 * time.Hour

func TestDeadlines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		then []fermata.Expiry
		want string
		err  error
	}{
		"an error that is no refusal": {nil, "expired", nil},
		"a default":                   {[]fermata.Expiry{fermata.Default("well")}, "well", nil},
		"the run fails":               {[]fermata.Expiry{fermata.FailRun()}, "", fermata.ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(g *ground) {
				flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
					answer, err := fermata.Interrupt[string](ctx, "?", fermata.Deadline(90*day, c.then...))
					if errors.Is(err, fermata.ErrExpired) {
						return "expired", nil
					}
					return answer, err
				})
				g.deploy(&fermata.Options{VerifyReplay: true}, flow)
				q := g.ask(flow, "1")
				g.advance(90*day - time.Minute)
				if s := g.rest(flow, "1"); s.Status != fermata.Interrupted {
					g.t.Fatalf("run is %s a minute early", s.Status)
				}
				g.advance(2 * time.Minute)
				var s *fermata.State[string]
				for s = g.rest(flow, "1"); s.Status == fermata.Interrupted; s = g.rest(flow, "1") {
					g.engine.Poke()
				}
				if c.err != nil {
					want(g.t, "status", s.Status, fermata.Failed)
					wantErr(g.t, "run", s.Err, c.err)
					_, err := flow.On(g.engine).Thread("1").Continue(g.t.Context())
					wantErr(g.t, "another attempt", err, fermata.ErrNothingToRetry)
				} else {
					want(g.t, "result", s.Value, c.want)
				}
				got, err := g.engine.Question(g.t.Context(), q.ID)
				if err != nil {
					g.t.Fatal(err)
				}
				want(g.t, "state", got.State, fermata.QuestionExpired)
				want(g.t, "who", got.By.Kind, "timeout")
				_, err = g.engine.Answer(g.t.Context(), q.ID, "late")
				wantErr(g.t, "late answer", err, fermata.ErrExpired)
			})
		})
	}
}

// A deadline that passed while everything was down refuses the answer that comes first after it.
func TestDeadlineWhileEverythingWasDown(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			return fermata.Interrupt[string](ctx, "?", fermata.Deadline(90*day, fermata.Default("too late")))
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		if err := g.engine.Close(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
		g.offset.Add(int64(91 * day))
		backend := g.open(g.t, func() time.Duration { return time.Duration(g.offset.Load()) })
		// An engine that neither has the entrypoint nor has looked for what is due.
		elsewhere, err := fermata.New(backend, &fermata.Options{Tick: time.Hour})
		if err != nil {
			g.t.Fatal(err)
		}
		defer elsewhere.Close(context.Background())
		_, err = elsewhere.Answer(g.t.Context(), q.ID, "in time, I swear")
		wantErr(g.t, "late answer", err, fermata.ErrExpired)
		g.engine = nil
		g.deploy(nil, flow)
		want(g.t, "result", g.expired(flow, "1"), "too late")
	})
}

func TestExtendDeadline(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			return fermata.Interrupt[string](ctx, "?", fermata.Deadline(time.Hour))
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		_, err := g.engine.ExtendDeadline(g.t.Context(), q.ID, q.Asked.Add(-time.Minute))
		wantErr(g.t, "into the past", err, fermata.ErrInvalid)
		_, err = g.engine.ExtendDeadline(g.t.Context(), q.ID, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))
		wantErr(g.t, "to when encoding/json can't write it", err, fermata.ErrInvalid)
		extended, err := g.engine.ExtendDeadline(g.t.Context(), q.ID, q.Deadline.Add(10*time.Hour))
		if err != nil {
			g.t.Fatal(err)
		}
		if !extended.Deadline.Equal(q.Deadline.Add(10 * time.Hour)) {
			g.t.Errorf("deadline %s, was %s", extended.Deadline, q.Deadline)
		}
		g.advance(5 * time.Hour)
		if extended, err = g.engine.ExtendDeadline(g.t.Context(), q.ID, time.Time{}); err != nil || !extended.Deadline.IsZero() {
			g.t.Fatalf("removed: %s, %v", extended.Deadline, err)
		}
		g.advance(1000 * time.Hour)
		g.answer(q, "late, but welcome")
		want(g.t, "result", g.end(flow, "1"), "late, but welcome")
		_, err = g.engine.ExtendDeadline(g.t.Context(), q.ID, time.Time{})
		wantErr(g.t, "of an answered question", err, fermata.ErrAlreadyAnswered)
		q = g.ask(flow, "2")
		g.offset.Add(int64(2 * time.Hour)) // and nobody has looked yet
		_, err = g.engine.ExtendDeadline(g.t.Context(), q.ID, q.Deadline.Add(10*time.Hour))
		wantErr(g.t, "after the deadline", err, fermata.ErrExpired)
	})
}

// Reminders come at their times, each once per time that has come, in any live process, also after a restart.
func TestReminders(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		c := &calls{}
		reminded := make(chan string, 10)
		options := &fermata.Options{VerifyReplay: true, Remind: func(_ context.Context, q fermata.Question) error {
			reminded <- q.Title
			return nil
		}}
		task := fermata.NewTask("wait", func(ctx context.Context, _ string) (string, error) {
			c.add("task")
			return fermata.Interrupt[string](ctx, "?", fermata.Title("the seats"), fermata.Remind(10*day, day), fermata.Deadline(90*day))
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) { return task.Call(ctx, "") })
		g.deploy(options, flow)
		q := g.ask(flow, "1")
		g.advance(23 * time.Hour)
		g.advance(2 * time.Hour)
		want(g.t, "first reminder", <-reminded, "the seats")
		g.rest(flow, "1")
		g.deploy(options, flow)
		g.advance(day)
		g.advance(9 * day)
		want(g.t, "second reminder, of another process", <-reminded, "the seats")
		g.rest(flow, "1")
		g.advance(50 * day)
		g.answer(q, "fine")
		want(g.t, "result", g.end(flow, "1"), "fine")
		want(g.t, "further reminders", len(reminded), 0)
	})
}

var expiryRounds = flag.Int("expiry-rounds", 30, "rounds of TestAnswerAgainstExpiry per backend")

// Answers, and the expiry of their question, while the clock passes from a
// millisecond before the deadline to one after it: one of them wins, and all are told which.
func TestAnswerAgainstExpiry(t *testing.T) {
	t.Parallel()
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) {
		const engines = 3
		var clock atomic.Int64 // Unix nanoseconds; it stands still
		clock.Store(time.Now().UnixNano())
		offset := func() time.Duration { return time.Until(time.Unix(0, clock.Load())) }
		wentOn := &calls{}
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, thread string) (string, error) {
			answer, err := fermata.Interrupt[string](ctx, "?", fermata.Deadline(time.Hour))
			if err != nil && !errors.Is(err, fermata.ErrExpired) {
				return "", err
			}
			wentOn.add(thread)
			return answer, nil
		})
		all := make([]*fermata.Engine, engines)
		for i := range all {
			e, err := fermata.New(open(t, offset), nil, flow)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close(context.Background())
			all[i] = e
		}
		g := &ground{t: t, open: open, engine: all[0]}
		answered, expired := 0, 0
		for round := range *expiryRounds {
			thread := fmt.Sprint(round)
			_, err := flow.On(all[0]).Thread(thread).Invoke(t.Context(), thread)
			q := paused(t, err)[0]
			clock.Store(q.Deadline.Add(-time.Millisecond).UnixNano())
			var accepted, refused atomic.Int64
			var racers sync.WaitGroup
			for i, e := range all {
				racers.Go(func() {
					if i == round%(engines+1) {
						clock.Store(q.Deadline.Add(time.Millisecond).UnixNano())
					}
					e.Poke()
					_, err := e.Answer(t.Context(), q.ID, fmt.Sprint(i))
					switch {
					case err == nil:
						accepted.Add(1)
					case errors.Is(err, fermata.ErrExpired), errors.Is(err, fermata.ErrAlreadyAnswered):
						refused.Add(1)
					default:
						t.Errorf("round %d: %v", round, err)
					}
				})
			}
			racers.Wait()
			out := g.expired(flow, thread)
			got, err := all[0].Question(t.Context(), q.ID)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case accepted.Load() == 1 && refused.Load() == engines-1 && got.State == fermata.QuestionAnswered && string(got.Answer) == fmt.Sprintf("%q", out):
				answered++
			case accepted.Load() == 0 && refused.Load() == engines && got.State == fermata.QuestionExpired && out == "":
				expired++
			default:
				t.Fatalf("round %d: %d accepted, %d refused, the question is %s with %s, the run returned %q", round, accepted.Load(), refused.Load(), got.State, got.Answer, out)
			}
		}
		for thread, n := range wentOn.take() {
			if n != 1 {
				t.Errorf("thread %s went on %d times", thread, n)
			}
		}
		t.Logf("%d answered, %d expired", answered, expired)
	})
}
