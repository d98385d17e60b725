package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
)

func inlines(n int, options ...fermata.AskOption) []fermata.Asking[string] {
	asks := make([]fermata.Asking[string], n)
	for i := range asks {
		asks[i] = fermata.Inline[string](fmt.Sprint("question ", i), options...)
	}
	return asks
}

// start begins a run and returns the questions that it asks.
func (g *ground) start(entrypoint *fermata.Entrypoint[string, string], thread string) []fermata.Question {
	g.t.Helper()
	_, err := entrypoint.On(g.engine).Thread(thread).Invoke(g.t.Context(), "")
	return paused(g.t, err)
}

func TestAskAll(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		const n = 20
		done := &calls{}
		note := fermata.NewTask("note", func(_ context.Context, what string) (string, error) {
			done.add(what)
			return what, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			if _, err := note.Call(ctx, "before"); err != nil {
				return "", err
			}
			answers, err := fermata.AskAll(ctx, inlines(n)...)
			if err != nil {
				return "", err
			}
			_, err = note.Call(ctx, "after")
			return strings.Join(answers, " "), err
		})
		options := &fermata.Options{VerifyReplay: true}
		g.deploy(options, flow)
		questions := g.start(flow, "1")
		want(g.t, "open questions", len(questions), n)
		expected := make([]string, n)
		for i, at := range rand.Perm(n) {
			if i == n/2 {
				g.deploy(options, flow)
			}
			q := questions[at]
			want(g.t, "call order", string(q.Payload), fmt.Sprintf(`"question %d"`, at))
			expected[at] = fmt.Sprint("a", at)
			g.answer(q, expected[at])
			s := g.rest(flow, "1")
			want(g.t, "open questions after another answer", len(s.Questions), n-1-i)
		}
		want(g.t, "answers", g.end(flow, "1"), strings.Join(expected, " "))
		want(g.t, "tasks", done.take(), map[string]int{"before": 1, "after": 1})
	})
}

// The answer of one withdraws the others in its own transaction.
func TestAskAny(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			i, answer, err := fermata.AskAny(ctx, inlines(5)...)
			if err != nil {
				return "", err
			}
			more, err := fermata.Interrupt[string](ctx, "replay?")
			return fmt.Sprint(i, " ", answer, " ", more), err
		})
		options := &fermata.Options{VerifyReplay: true}
		g.deploy(options, flow)
		questions := g.start(flow, "1")
		want(g.t, "open questions", len(questions), 5)
		// Left to another process: nothing but the transaction of the answer has run yet.
		elsewhere, err := fermata.New(g.open(g.t, nil), nil)
		if err != nil {
			g.t.Fatal(err)
		}
		defer elsewhere.Close(context.Background())
		if _, err := elsewhere.Answer(g.t.Context(), questions[3].ID, "three"); err != nil {
			g.t.Fatal(err)
		}
		for _, at := range []int{0, 1, 2, 4} {
			_, err := elsewhere.Answer(g.t.Context(), questions[at].ID, "late")
			wantErr(g.t, "answer to a loser", err, fermata.ErrWithdrawn)
		}
		s := g.rest(flow, "1")
		want(g.t, "open questions after the answer", payloads(s.Questions), []string{`"replay?"`})
		g.deploy(options, flow)
		g.answer(s.Questions[0], "yes")
		want(g.t, "result", g.end(flow, "1"), "3 three yes")
	})
}

func TestAskAnyWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		var asks func() []fermata.Asking[string]
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) {
			i, answer, err := fermata.AskAny(ctx, asks()...)
			if errors.Is(err, fermata.ErrExpired) {
				return "expired", nil
			}
			return fmt.Sprint(i, " ", answer), err
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		for thread, c := range map[string]struct {
			asks []fermata.Asking[string]
			want string
		}{
			"all expire":           {inlines(2, fermata.Deadline(time.Hour)), "expired"},
			"one has a default":    {append(inlines(1, fermata.Deadline(time.Hour)), inlines(1, fermata.Deadline(2*time.Hour, fermata.Default("well")))...), "1 well"},
			"the later one counts": {append(inlines(1, fermata.Deadline(time.Hour)), inlines(1, fermata.Deadline(50*time.Hour))...), ""},
		} {
			asks = func() []fermata.Asking[string] { return c.asks }
			questions := g.start(flow, thread)
			g.advance(3 * time.Hour)
			if c.want == "" {
				g.answer(questions[1], "in time")
				c.want = "1 in time"
			}
			want(g.t, thread, g.expired(flow, thread), c.want)
		}
	})
}

// A run that is to fail at a deadline doesn't wait for the other questions.
func TestFailRunBesideOpenQuestions(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		urgent := fermata.Inline[string]("one", fermata.Deadline(time.Hour, fermata.FailRun()))
		others := []fermata.Asking[string]{fermata.Inline[string]("two"), urgent, fermata.Inline[string]("three", fermata.Deadline(2*time.Hour, fermata.Default("d")))}
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, kind string) (string, error) {
			if kind == "all" {
				answers, err := fermata.AskAll(ctx, others...)
				return fmt.Sprint(answers), err
			}
			i, answer, err := fermata.AskAny(ctx, others...)
			return fmt.Sprint(i, " ", answer), err
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		questions := map[string][]fermata.Question{}
		for _, kind := range []string{"all", "any"} {
			_, err := flow.On(g.engine).Thread(kind).Invoke(g.t.Context(), kind)
			questions[kind] = paused(g.t, err)
		}
		g.advance(90 * time.Minute)
		for kind, asked := range questions {
			var s *fermata.State[string]
			for s = g.rest(flow, kind); s.Status == fermata.Interrupted; s = g.rest(flow, kind) {
				g.engine.Poke()
			}
			want(g.t, kind, s.Status, fermata.Failed)
			wantErr(g.t, kind, s.Err, fermata.ErrExpired)
			q, err := g.engine.Question(g.t.Context(), asked[0].ID)
			if err != nil {
				g.t.Fatal(err)
			}
			want(g.t, kind+": the open question", q.State, fermata.QuestionWithdrawn)
		}
	})
}

// expired waits until a run that waits for deadlines only has ended.
func (g *ground) expired(flow *fermata.Entrypoint[string, string], thread string) string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	for {
		s := g.rest(flow, thread)
		if s.Status != fermata.Interrupted {
			return g.end(flow, thread)
		}
		if err := ctx.Err(); err != nil {
			g.t.Fatalf("run still waits for %v", s.Questions)
		}
		g.engine.Poke()
	}
}

// A cancelled run asks anew, once more for one answer.
func TestAskAnyAfterCancel(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) {
			i, answer, err := fermata.AskAny(ctx, inlines(3)...)
			return fmt.Sprint(i, " ", answer), err
		})
		g.deploy(nil, flow)
		g.start(flow, "1")
		thread := flow.On(g.engine).Thread("1")
		if _, err := thread.Cancel(g.t.Context(), "wait"); err != nil {
			g.t.Fatal(err)
		}
		run, err := thread.Continue(g.t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		_, err = run.Result(g.t.Context())
		again := paused(g.t, err)
		want(g.t, "questions asked anew", len(again), 3)
		g.answer(again[1], "one")
		want(g.t, "result", g.end(flow, "1"), "1 one")
		counts, err := g.engine.CountQuestions(g.t.Context(), fermata.QuestionFilter{Thread: "1"})
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "questions", counts, map[fermata.QuestionState]int{fermata.QuestionAnswered: 1, fermata.QuestionWithdrawn: 5})
	})
}

func TestAnswerMany(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			answers, err := fermata.AskAll(ctx, inlines(3)...)
			return strings.Join(answers, " "), err
		})
		g.deploy(nil, flow)
		one, two := g.start(flow, "1"), g.start(flow, "2")
		if err := g.engine.Withdraw(g.t.Context(), two[2].ID, fermata.Principal{Subject: "ada"}); err != nil {
			g.t.Fatal(err)
		}
		unknown, err := fermata.ParseID("00000000000000000000000000000001")
		if err != nil {
			g.t.Fatal(err)
		}
		results := g.engine.AnswerMany(g.t.Context(), []fermata.Reply{
			{Question: one[0].ID, Value: "a"},
			{Question: one[1].ID, Value: 7},
			{Question: unknown, Value: "x"},
			{Question: one[1].ID, Value: "b"},
			{Question: one[1].ID, Value: "c"},
			{Question: two[0].ID, Value: make(chan int)},
			{Question: one[2].ID, Value: json.RawMessage(`"d"`)},
			{Question: two[2].ID, Value: "e"},
		})
		for i, reason := range []error{nil, fermata.ErrInvalidAnswer, fermata.ErrUnknownQuestion, nil, fermata.ErrAlreadyAnswered, fermata.ErrInvalidAnswer, nil, fermata.ErrWithdrawn} {
			r := results[i]
			if (r.Receipt == nil) != (reason != nil) || !errors.Is(r.Err, reason) {
				g.t.Errorf("reply %d: receipt %v, error %v; want %v", i, r.Receipt, r.Err, reason)
			}
		}
		out, err := results[0].Receipt.Wait(g.t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", string(out), `"a b d"`)
		want(g.t, "no replies", len(g.engine.AnswerMany(g.t.Context(), nil)), 0)
	})
}

func TestSameKeySameReceipt(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) { return fermata.Interrupt[string](ctx, "?") })
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		ada := fermata.By(fermata.Principal{Subject: "ada"})
		key := fermata.IdempotencyKey("click-1")
		answer := func(value string, options ...fermata.AnswerOption) (*fermata.Receipt, error) {
			return g.engine.Answer(g.t.Context(), q.ID, value, options...)
		}
		first, err := answer("yes", key, ada, fermata.Enqueue())
		if err != nil {
			g.t.Fatal(err)
		}
		second, err := answer("yes", key, ada)
		if err != nil {
			g.t.Fatal(err)
		}
		if first.Repeated || !second.Repeated || first.Question != second.Question || first.Run != second.Run || first.Thread != second.Thread {
			g.t.Errorf("receipts %+v and %+v", first, second)
		}
		_, err = answer("no", key, ada)
		wantErr(g.t, "another answer with the key", err, fermata.ErrAlreadyAnswered)
		_, err = answer("yes", key, fermata.By(fermata.Principal{Subject: "eve"}))
		wantErr(g.t, "another person with the key", err, fermata.ErrAlreadyAnswered)
		_, err = answer("yes", ada)
		wantErr(g.t, "the same without the key", err, fermata.ErrAlreadyAnswered)
		out, err := second.Wait(g.t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", string(out), `"yes"`)
	})
}

// Each way in which an answer can miss has its own error, and moves nothing.
func TestAnswersThatMiss(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, kind string) (string, error) {
			switch kind {
			case "two":
				_, err := fermata.AskAll(ctx, inlines(2)...)
				return "", err
			case "deadline":
				return fermata.Interrupt[string](ctx, "?", fermata.Deadline(time.Hour))
			}
			return fermata.Interrupt[string](ctx, "?")
		})
		g.deploy(nil, flow)
		ctx := g.t.Context()
		thread := func(id, input string) (*fermata.Thread[string, string], []fermata.Question) {
			th := flow.On(g.engine).Thread(id)
			_, err := th.Invoke(ctx, input)
			return th, paused(g.t, err)
		}
		_, err := flow.On(g.engine).Thread("unknown").Resume(ctx, "x")
		wantErr(g.t, "unknown thread", err, fermata.ErrUnknownThread)

		th, _ := thread("two", "two")
		_, err = th.Resume(ctx, "x")
		wantErr(g.t, "two open", err, fermata.ErrAmbiguous)
		want(g.t, "the open ones are told", len(questionsOf(err)), 2)
		_, err = flow.On(g.engine).Thread("two").Resume(ctx, "x")
		wantErr(g.t, "never read", err, fermata.ErrStaleRevision)

		th, qs := thread("superseded", "")
		if _, err := th.Start(ctx, "", fermata.Supersede()); err != nil {
			g.t.Fatal(err)
		}
		_, err = g.engine.Answer(ctx, qs[0].ID, "x")
		wantErr(g.t, "superseded", err, fermata.ErrSuperseded)

		_, qs = thread("withdrawn", "")
		if err := g.engine.Withdraw(ctx, qs[0].ID, fermata.Principal{Subject: "ada"}); err != nil {
			g.t.Fatal(err)
		}
		_, err = g.engine.Answer(ctx, qs[0].ID, "x")
		wantErr(g.t, "withdrawn", err, fermata.ErrWithdrawn)

		th, qs = thread("answered", "")
		g.answer(qs[0], "x")
		_, err = g.engine.Answer(ctx, qs[0].ID, "x")
		wantErr(g.t, "answered", err, fermata.ErrAlreadyAnswered)
		g.end(flow, "answered")
		_, err = th.Resume(ctx, "x")
		wantErr(g.t, "nothing is asked", err, fermata.ErrNoQuestion)

		_, qs = thread("late", "deadline")
		g.offset.Add(int64(2 * time.Hour))
		_, err = g.engine.Answer(ctx, qs[0].ID, "x")
		wantErr(g.t, "late", err, fermata.ErrExpired)

		g.deploy(&fermata.Options{RequireQuestionID: true}, flow)
		th, _ = thread("ids", "")
		_, err = th.Resume(ctx, "x")
		wantErr(g.t, "without an id", err, fermata.ErrIDRequired)
	})
}

// Many people, many engines, one run: every answer is taken, and nothing runs twice.
func TestAnswersAtOnce(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		const n = 24
		done := &calls{}
		charge := fermata.NewTask("charge", func(_ context.Context, item string) (string, error) {
			done.add(item)
			return item, nil
		})
		approve := fermata.NewTask("approve", func(ctx context.Context, item string) (string, error) {
			answer, err := fermata.Interrupt[string](ctx, item)
			if err != nil {
				return "", err
			}
			return charge.Call(ctx, item+"="+answer)
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, thread string) (string, error) {
			all := make([]*fermata.Future[string], n)
			for i := range all {
				all[i] = approve.Go(ctx, fmt.Sprint(thread, ".", i))
			}
			results, err := fermata.All(ctx, all...)
			return strings.Join(results, " "), err
		})
		g.deploy(nil, flow)
		engines := []*fermata.Engine{g.engine}
		for range 2 {
			e, err := fermata.New(g.open(g.t, nil), nil, flow)
			if err != nil {
				g.t.Fatal(err)
			}
			defer e.Close(context.Background())
			engines = append(engines, e)
		}
		for round := range 5 {
			thread := fmt.Sprint(round)
			_, err := flow.On(g.engine).Thread(thread).Invoke(g.t.Context(), thread)
			questions := paused(g.t, err)
			var people sync.WaitGroup
			for i, q := range questions {
				people.Go(func() {
					if _, err := engines[i%len(engines)].Answer(g.t.Context(), q.ID, fmt.Sprint(i)); err != nil {
						g.t.Errorf("question %d: %v", i, err)
					}
				})
			}
			people.Wait()
			expected, once := make([]string, n), map[string]int{}
			for i := range expected {
				expected[i] = fmt.Sprintf("%s.%d=%d", thread, i, i)
				once[expected[i]] = 1
			}
			want(g.t, "result", g.expired(flow, thread), strings.Join(expected, " "))
			want(g.t, "charges", done.take(), once)
		}
	})
}
