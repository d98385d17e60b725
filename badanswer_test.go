package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/google/go-cmp/cmp"
)

// payment asks twice and pays as it was told; bodies and payments are counted.
type payment struct {
	bodies, refunds, wires atomic.Int32
}

func (p *payment) flow() *fermata.Entrypoint[string, string] {
	refund := fermata.NewTask("refund", func(_ context.Context, how string) (string, error) {
		p.refunds.Add(1)
		return "refund " + how, nil
	})
	wire := fermata.NewTask("wire", func(_ context.Context, how string) (string, error) {
		p.wires.Add(1)
		return "wire " + how, nil
	})
	return body(func(ctx context.Context, _ string) (string, error) {
		p.bodies.Add(1)
		small, err := fermata.Interrupt[string](ctx, "approve $10 refund?")
		if err != nil {
			return "", err
		}
		first, err := refund.Call(ctx, small)
		if err != nil {
			return "", err
		}
		large, err := fermata.Interrupt[string](ctx, "approve $90,000 wire?")
		if err != nil {
			return "", err
		}
		second, err := wire.Call(ctx, large)
		return first + ", " + second, err
	})
}

// The second click of an impatient person, by id, is told; it is no answer to the next question.
func TestTwoClicksWithTheID(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		p := &payment{}
		graph := p.flow()
		h := fermatatest.New(t, o, graph)
		thread := fermatatest.On(h, graph, "1")
		thread.Start("x")
		q := thread.Question()
		ada := fermata.By(fermata.Principal{Subject: "ada"})
		h.Answer(q, "yes-click-1", ada)
		_, err := h.Engine().Answer(t.Context(), q.ID, "yes-click-2")
		says(t, err, fermata.ErrAlreadyAnswered, `thread "1"`, q.ID.String(), "by ada")
		next := thread.Question()
		if !fermatatest.Asks("wire")(next) || p.wires.Load() > 0 {
			t.Fatalf("the second click was taken for an answer to %s; %d wires", next.Payload, p.wires.Load())
		}
		_, err = h.Engine().Answer(t.Context(), q.ID, "yes-click-3")
		says(t, err, fermata.ErrAlreadyAnswered)
		thread.Answer("no")
		if got, want := thread.Result(), "refund yes-click-1, wire no"; got != want {
			t.Errorf("result %q, want %q", got, want)
		}
		// And after the end, with the opposite answer.
		_, err = h.Engine().Answer(t.Context(), next.ID, "yes")
		says(t, err, fermata.ErrAlreadyAnswered)
		if got, want := thread.Result(), "refund yes-click-1, wire no"; got != want || p.refunds.Load() != 1 || p.wires.Load() != 1 {
			t.Errorf("after the late answer: %q, %d refunds, %d wires", got, p.refunds.Load(), p.wires.Load())
		}
	})
}

// Without an id a click is for what its sender has seen.
func TestTwoClicksWithoutAnID(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		ctx := t.Context()
		p := &payment{}
		graph := p.flow()
		h := fermatatest.New(t, o, graph)
		harness := fermatatest.On(h, graph, "1")
		harness.Start("x")
		harness.Wait()

		unread := harness.Handle()
		_, err := unread.Resume(ctx, "yes")
		says(t, err, fermata.ErrStaleRevision, "was not read yet")
		first, second := harness.Handle(), harness.Handle()
		shown, err := first.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.State(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Resume(ctx, "yes"); err != nil {
			t.Fatal(err)
		}
		// At once, the run may be on its way; when it asks again, the other click is stale.
		if _, err := first.Resume(ctx, "yes"); !errors.Is(err, fermata.ErrThreadBusy) && !errors.Is(err, fermata.ErrStaleRevision) {
			t.Errorf("a second click at once: error %v", err)
		}
		harness.Wait()
		for name, click := range map[string]func() error{
			"the same handle":     func() error { _, err := first.Resume(ctx, "yes"); return err },
			"another handle":      func() error { _, err := second.Resume(ctx, "yes"); return err },
			"a page shown before": func() error { _, err := unread.Resume(ctx, "yes", fermata.AtRevision(shown.Revision)); return err },
			"a made up revision":  func() error { _, err := unread.Resume(ctx, "yes", fermata.AtRevision("7")); return err },
			"an empty revision":   func() error { _, err := unread.Resume(ctx, "yes", fermata.AtRevision("")); return err },
			"a revision of some run": func() error {
				_, err := unread.Resume(ctx, "yes", fermata.AtRevision(fermata.ID{1}.String()+".3"))
				return err
			},
		} {
			if says(t, click(), fermata.ErrStaleRevision, "resume:", `thread "1"`); t.Failed() {
				t.Fatal(name)
			}
		}
		if q := harness.Question(); !fermatatest.Asks("wire")(q) || p.wires.Load() > 0 {
			t.Fatalf("a late click moved something: %s is open, %d wires", q.Payload, p.wires.Load())
		}
		now := harness.State()
		if _, err := unread.Resume(ctx, "no", fermata.AtRevision(now.Revision)); err != nil {
			t.Fatal(err)
		}
		if got, want := harness.Result(), "refund yes, wire no"; got != want {
			t.Errorf("result %q, want %q", got, want)
		}
		_, err = second.Resume(ctx, "yes")
		says(t, err, fermata.ErrNoQuestion, "the run is finished")
	})
}

// Of many answers at once, from several processes, one is accepted and all others are told.
func TestManyAnswersAtOnce(t *testing.T) {
	t.Parallel()
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) {
		p := &payment{}
		graph := p.flow()
		var engines []*fermata.Engine
		for range 3 {
			e, err := fermata.New(open(t, nil), nil, graph)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close(context.Background()) })
			engines = append(engines, e)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		run, err := graph.On(engines[0]).Thread("1").Start(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		for _, how := range []string{"first", "second"} {
			_, err := run.Result(ctx)
			var paused *fermata.PausedError
			if !errors.As(err, &paused) || len(paused.Questions) != 1 {
				t.Fatalf("result %v, want a pause with one question", err)
			}
			var won atomic.Int32
			var winner atomic.Pointer[fermata.Receipt]
			var clicks sync.WaitGroup
			for i := range 24 {
				clicks.Go(func() {
					receipt, err := engines[i%3].Answer(ctx, paused.Questions[0].ID, fmt.Sprint(how, " ", i))
					switch {
					case err == nil:
						won.Add(1)
						winner.Store(receipt)
					case !errors.Is(err, fermata.ErrAlreadyAnswered):
						t.Errorf("answer %d: %v", i, err)
					}
				})
			}
			clicks.Wait()
			if won.Load() != 1 {
				t.Fatalf("%d answers to the %s question were accepted", won.Load(), how)
			}
			if _, err := winner.Load().Wait(ctx); err != nil && !errors.Is(err, fermata.ErrPaused) {
				t.Fatal(err)
			}
		}
		out, err := run.Result(ctx)
		if err != nil || !strings.HasPrefix(out, "refund first ") || !strings.Contains(out, "wire second ") {
			t.Errorf("result %q, %v", out, err)
		}
		if p.refunds.Load() != 1 || p.wires.Load() != 1 {
			t.Errorf("%d refunds, %d wires", p.refunds.Load(), p.wires.Load())
		}
	})
}

// A retried answer with the same key is the same answer.
func TestAnswerSentAgain(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		p := &payment{}
		graph := p.flow()
		h := fermatatest.New(t, o, graph)
		thread := fermatatest.On(h, graph, "1")
		thread.Start("x")
		q := thread.Question()
		for i := range 3 {
			r, err := h.Engine().Answer(t.Context(), q.ID, "yes", fermata.IdempotencyKey("click 7"))
			if err != nil || r.Repeated != (i > 0) || r.Question != q.ID || r.Thread != "1" || r.Run != q.Run {
				t.Fatalf("answer %d: %+v, %v", i, r, err)
			}
		}
		_, err := h.Engine().Answer(t.Context(), q.ID, "yes", fermata.IdempotencyKey("click 8"))
		says(t, err, fermata.ErrAlreadyAnswered)
		if q := thread.Question(); !fermatatest.Asks("wire")(q) || p.refunds.Load() != 1 {
			t.Errorf("%s is open after %d refunds", q.Payload, p.refunds.Load())
		}
	})
}

// A repetition is by the same principal, for the same other one: whoever else knows the key learns nothing.
func TestAnswerSentAgainForAnother(t *testing.T) {
	t.Parallel()
	type p = fermata.Principal
	onEach(t, func(g *ground) {
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) {
			return fermata.Interrupt[string](ctx, "?", fermata.Groups("staff"), fermata.NotBy("ada"))
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		staff, key := []string{"staff"}, fermata.IdempotencyKey("click 7")
		bot := p{Subject: "bot", OnBehalfOf: "carol", Groups: staff}
		g.answer(q, "yes", fermata.By(bot), key)
		for name, by := range map[string]p{
			"for another":          {Subject: "bot", OnBehalfOf: "dave", Groups: staff},
			"for the excluded one": {Subject: "bot", OnBehalfOf: "ada", Groups: staff},
			"for nobody":           {Subject: "bot", Groups: staff},
			"of no group any more": {Subject: "bot", OnBehalfOf: "carol"},
		} {
			_, err := g.engine.Answer(g.t.Context(), q.ID, "yes", fermata.By(by), key)
			wantErr(g.t, name, err, fermata.ErrAlreadyAnswered)
		}
		if r, err := g.engine.Answer(g.t.Context(), q.ID, "yes", fermata.By(bot), key); err != nil || !r.Repeated {
			g.t.Errorf("the same once more: %+v, %v", r, err)
		}
	})
}

func TestAnswerWithoutItsQuestion(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		ctx := t.Context()
		p := &payment{}
		graph := p.flow()
		h := fermatatest.New(t, o, graph)
		// A thread that never was: nothing begins.
		_, err := graph.On(h.Engine()).Thread("1").Resume(ctx, "yes")
		says(t, err, fermata.ErrUnknownThread)
		if p.bodies.Load() > 0 {
			t.Error("the answer started a run")
		}
		thread := fermatatest.On(h, graph, "1")
		thread.Start("x")
		q := thread.Question()
		// An id that matches nothing: the question stays, and its id.
		_, err = h.Engine().Answer(ctx, fermata.ID{7}, "yes")
		says(t, err, fermata.ErrUnknownQuestion, "07000000", "list the open questions")
		_, err = h.Engine().Tenant("acme").Answer(ctx, q.ID, "yes")
		says(t, err, fermata.ErrUnknownQuestion)
		// New input: refused, unless the caller gives the question up.
		_, err = thread.Handle().Start(ctx, "y")
		says(t, err, fermata.ErrQuestionOpen, "Supersede")
		var e *fermata.Error
		if !errors.As(err, &e) || len(e.Questions) != 1 || e.Questions[0].ID != q.ID {
			t.Errorf("the refusal doesn't bear the question: %+v", e)
		}
		if got := thread.Question(); got.ID != q.ID {
			t.Error("another question is open now")
		}
		thread.Start("y", fermata.Supersede())
		_, err = h.Engine().Answer(ctx, q.ID, "yes")
		says(t, err, fermata.ErrSuperseded, "look at the open questions")
		if got := thread.Question(); got.ID == q.ID || p.refunds.Load() > 0 {
			t.Error("the superseded question was answered")
		}
	})
}

func TestAmbiguousAnswer(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		graph := body(func(ctx context.Context, _ string) ([]string, error) {
			return fermata.All(ctx, sureFlow.Go(ctx, "a"), sureFlow.Go(ctx, "b"))
		})
		h := fermatatest.New(t, o, graph)
		thread := fermatatest.On(h, graph, "1")
		thread.Start("x")
		open := thread.Questions()
		handle := thread.Handle()
		if _, err := handle.State(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := handle.Resume(t.Context(), "yes")
		says(t, err, fermata.ErrAmbiguous, "answer by id", open[0].ID.String(), open[1].ID.String())
		var e *fermata.Error
		if !errors.As(err, &e) || len(e.Questions) != 2 {
			t.Errorf("the refusal bears %d questions", len(e.Questions))
		}
		h.Answer(open[1], "b")
		thread.Answer("a")
		if diff := cmp.Diff([]string{"a", "b"}, thread.Result()); diff != "" {
			t.Error(diff)
		}
	})
}

// What comes too late finds out why.
func TestLateAnswers(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		ctx := t.Context()
		graph := body(func(ctx context.Context, _ string) (string, error) {
			answer, err := fermata.Interrupt[string](ctx, "sure?", fermata.Deadline(72*time.Hour))
			if errors.Is(err, fermata.ErrExpired) || errors.Is(err, fermata.ErrWithdrawn) {
				return "nobody said", nil
			}
			return answer, err
		})
		h := fermatatest.New(t, o, graph)
		for name, c := range map[string]struct {
			end  func(thread *fermatatest.Thread[string, string], q fermata.Question)
			want error
			says string
		}{
			"withdrawn": {func(_ *fermatatest.Thread[string, string], q fermata.Question) {
				if err := h.Engine().Withdraw(ctx, q.ID, fermata.Principal{}); err != nil {
					t.Error(err)
				}
			}, fermata.ErrWithdrawn, "look at the open questions"},
			"cancelled": {func(thread *fermatatest.Thread[string, string], _ fermata.Question) {
				if _, err := thread.Handle().Cancel(ctx, ""); err != nil {
					t.Error(err)
				}
			}, fermata.ErrWithdrawn, "look at the open questions"},
			"expired": {func(*fermatatest.Thread[string, string], fermata.Question) { h.Advance(72*time.Hour + time.Minute) }, fermata.ErrExpired, "deadline"},
		} {
			thread := fermatatest.On(h, graph, name)
			thread.Start("x")
			q := thread.Question()
			c.end(thread, q)
			_, err := h.Engine().Answer(ctx, q.ID, "yes")
			says(t, err, c.want, c.says, fmt.Sprintf("thread %q", name))
			if s := thread.State(); len(s.Questions) > 0 || s.Value == "yes" {
				t.Errorf("%s: state %+v", name, s)
			}
		}
	})
}

type decision struct {
	Choice string   `json:"choice"`
	Amount int      `json:"amount"`
	Tags   []string `json:"tags,omitempty"`
	Note   *string  `json:"note,omitempty"`
}

// An answer of a wrong type changes nothing: its fields are named, the question stays open, no line of the code runs.
func TestAnswersOfAWrongType(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		ctx := t.Context()
		var bodies atomic.Int32
		graph := body(func(ctx context.Context, _ string) (decision, error) {
			bodies.Add(1)
			return fermata.Interrupt[decision](ctx, "how?")
		})
		h := fermatatest.New(t, o, graph)
		thread := fermatatest.On(h, graph, "1")
		thread.Start("x")
		q, before := thread.Question(), thread.State()
		ran := bodies.Load()
		for name, c := range map[string]struct {
			answer   any
			pointers []string
		}{
			"a text":         {"yes", []string{""}},
			"null":           {nil, []string{""}},
			"a list":         {[]int{1}, []string{""}},
			"a wrong field":  {map[string]any{"choice": "a", "amount": "much"}, []string{"/amount"}},
			"two of them":    {map[string]any{"choice": 1, "amount": "much"}, []string{"/amount", "/choice"}},
			"a missing one":  {map[string]any{"choice": "a"}, []string{"/amount"}},
			"an unknown one": {map[string]any{"choice": "a", "amount": 1, "chioce": "b"}, []string{"/chioce"}},
			"a deep one":     {map[string]any{"choice": "a", "amount": 1, "tags": []any{"x", 2}}, []string{"/tags/1"}},
			"a fraction":     {map[string]any{"choice": "a", "amount": 1.5}, []string{"/amount"}},
			"no JSON":        {json.RawMessage("{"), nil},
			"nothing":        {json.RawMessage(""), nil},
			"other fields":   {struct{ X int }{1}, []string{"/X", "/choice", "/amount"}},
		} {
			_, err := h.Engine().Answer(ctx, q.ID, c.answer)
			if says(t, err, fermata.ErrInvalidAnswer, "answer:"); t.Failed() {
				t.Fatal(name)
			}
			var faults *fermata.AnswerError
			if c.pointers == nil {
				continue
			}
			if !errors.As(err, &faults) {
				t.Fatalf("%s: %v is not an *AnswerError", name, err)
			}
			at := map[string]bool{}
			for _, f := range faults.Fields {
				at[f.Pointer] = true
				if f.Message == "" {
					t.Errorf("%s: no message at %q", name, f.Pointer)
				}
			}
			for _, p := range c.pointers {
				if !at[p] {
					t.Errorf("%s: no fault at %q in %+v", name, p, faults.Fields)
				}
			}
			says(t, err, fermata.ErrInvalidAnswer, "the question stays open")
		}
		if diff := cmp.Diff(before, thread.State(), sameText); diff != "" || bodies.Load() != ran {
			t.Errorf("%d bodies ran, the state changed (-before +after):\n%s", bodies.Load()-ran, diff)
		}
		note := "fine"
		want := decision{Choice: "a", Amount: 1, Tags: []string{"x"}, Note: &note}
		thread.Answer(want)
		if diff := cmp.Diff(want, thread.Result()); diff != "" {
			t.Error(diff)
		}
	})
}

// Null, false, zero and nothing are answers where the type has them.
func TestEmptyAnswers(t *testing.T) {
	t.Parallel()
	ask := func(what string) func(ctx context.Context) (any, error) {
		switch what {
		case "pointer":
			return func(ctx context.Context) (any, error) {
				v, err := fermata.Interrupt[*string](ctx, "?")
				return v == nil, err
			}
		case "any":
			return func(ctx context.Context) (any, error) {
				v, err := fermata.Interrupt[any](ctx, "?")
				return v == nil, err
			}
		case "text":
			return func(ctx context.Context) (any, error) {
				v, err := fermata.Interrupt[string](ctx, "?")
				return v == "", err
			}
		case "number":
			return func(ctx context.Context) (any, error) { v, err := fermata.Interrupt[int](ctx, "?"); return v == 0, err }
		case "bool":
			return func(ctx context.Context) (any, error) { v, err := fermata.Interrupt[bool](ctx, "?"); return !v, err }
		}
		return func(ctx context.Context) (any, error) {
			v, err := fermata.Interrupt[[]string](ctx, "?")
			return len(v) == 0, err
		}
	}
	graph := body(func(ctx context.Context, what string) (any, error) { return ask(what)(ctx) })
	h := inMemory(t, graph)
	for what, empty := range map[string]any{"pointer": nil, "any": nil, "text": "", "number": 0, "bool": false, "list": []string{}} {
		thread := fermatatest.On(h, graph, what)
		thread.Start(what)
		thread.Answer(empty)
		if got := thread.Result(); got != true {
			t.Errorf("%s: the code did not get the empty answer", what)
		}
	}
}
