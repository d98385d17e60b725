package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fermata-go/fermata"
)

// Each test of this file and of deviations_run_test.go holds one ruling by which fermata differs from LangGraph; docs/parity.md has the reasons.

// askTask asks what it is given.
var askTask = fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) { return fermata.Interrupt[string](ctx, q) })

// inTurn asks its questions one after the other.
var inTurn = fermata.NewEntrypoint("in_turn", func(ctx context.Context, questions []string) ([]string, error) {
	var answers []string
	for _, q := range questions {
		a, err := fermata.Interrupt[string](ctx, q)
		if err != nil {
			return nil, err
		}
		answers = append(answers, a)
	}
	return answers, nil
})

// atOnce asks its questions in parallel tasks.
var atOnce = fermata.NewEntrypoint("at_once", func(ctx context.Context, questions []string) ([]string, error) {
	var futures []*fermata.Future[string]
	for _, q := range questions {
		futures = append(futures, askTask.Go(ctx, q))
	}
	return fermata.All(ctx, futures...)
})

func TestDeviationP1AllParallelQuestionsAreReported(t *testing.T) { // S29
	onEach(t, func(g *ground) {
		g.deploy(nil, atOnce)
		p := play(g, atOnce, "1")
		o := p.start([]string{"a", "b", "c"})
		questions := p.asks(o, `"a"`, `"b"`, `"c"`)
		want(g.t, "updates", o.updates(g.t), []string{`{"__interrupt__":[{"value":"a","id":"ID"},{"value":"b","id":"ID"},{"value":"c","id":"ID"}]}`})
		want(g.t, "state", payloads(p.state().Questions), []string{`"a"`, `"b"`, `"c"`})
		refused := p.resume("for whom?")
		p.fails(refused, fermata.ErrAmbiguous)
		listed, _ := errors.AsType[*fermata.Error](refused.err)
		want(g.t, "questions in the error", payloads(listed.Questions), []string{`"a"`, `"b"`, `"c"`})
		refused = p.start(nil)
		p.fails(refused, fermata.ErrQuestionOpen)
		listed, _ = errors.AsType[*fermata.Error](refused.err)
		want(g.t, "questions in the error of a start", payloads(listed.Questions), []string{`"a"`, `"b"`, `"c"`})
		var replies []fermata.Reply
		for i, q := range questions {
			replies = append(replies, fermata.Reply{Question: q.ID, Value: fmt.Sprint(i)})
		}
		var last *fermata.Receipt
		for _, result := range g.engine.AnswerMany(g.t.Context(), replies) {
			if result.Err != nil {
				g.t.Fatal(result.Err)
			}
			last = result.Receipt
		}
		if _, err := last.Wait(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", p.state().Value, []string{"0", "1", "2"})
	})
}

func TestDeviationS1AnAnswerIsConsumedOnce(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		p := play(g, inTurn, "1")
		p.asks(p.start([]string{"i1", "i2"}), `"i1"`)
		p.asks(p.resume("A"), `"i2"`)
		p.asks(p.goOn(), `"i2"`) // not answered with A once more
		g.deploy(nil, inTurn)
		p.asks(p.goOn(), `"i2"`)
		p.returns(p.resume("B"), []string{"A", "B"})
	})
}

func TestDeviationS2AnswerToAFinishedThreadIsRefused(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		p := play(g, inTurn, "1")
		p.returns(p.start(nil), nil)
		p.fails(p.resume("early"), fermata.ErrNoQuestion)
		p.asks(p.start([]string{"i1"}), `"i1"`) // not answered by what came before
	})
}

func TestDeviationS3AnswerToAnUnknownThreadIsRefused(t *testing.T) { // S33, E9
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		p := play(g, inTurn, "nobody")
		p.fails(p.resume("hello?"), fermata.ErrUnknownThread)
		want(g.t, "state", p.state(), &fermata.State[[]string]{Thread: "nobody"})
		for thread, err := range g.engine.Threads(g.t.Context(), nil) {
			g.t.Errorf("thread %s was made, error %v", thread.ID, err)
		}
	})
}

func TestDeviationIDsEachQuestionHasOne(t *testing.T) {
	onEach(t, func(g *ground) {
		two := fermata.NewTask("two", func(ctx context.Context, _ int) (string, error) {
			a, err := fermata.Interrupt[string](ctx, "first?")
			if err != nil {
				return "", err
			}
			b, err := fermata.Interrupt[string](ctx, "second?")
			return a + b, err
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) { return two.Call(ctx, n) })
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		first := p.asks(p.start(0), `"first?"`)[0]
		second := p.asks(p.resume("A"), `"second?"`)[0]
		if first.ID == second.ID {
			g.t.Error("the questions of a task share an id")
		}
		g.deploy(nil, flow)
		want(g.t, "id when asked again", p.asks(p.goOn(), `"second?"`)[0].ID, second.ID)
		p.fails(p.answer(first, "meant for the first"), fermata.ErrAlreadyAnswered)
		p.returns(p.answer(second, "B"), "AB")
	})
}

func TestDeviationMapAnUnknownIDIsAnError(t *testing.T) { // S35, E7b
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		p := play(g, inTurn, "1")
		question := p.asks(p.start([]string{"i1"}), `"i1"`)[0]
		before := p.state()
		unknown := question
		unknown.ID[15] ^= 1
		p.fails(p.answer(unknown, "A"), fermata.ErrUnknownQuestion)
		want(g.t, "state", p.state(), before)
		p.returns(p.resume("A"), []string{"A"})
	})
	onEach(t, func(g *ground) { // what LangGraph calls a map of answers
		g.deploy(nil, atOnce)
		p := play(g, atOnce, "1")
		asked := p.asks(p.start([]string{"a", "b", "c"}), `"a"`, `"b"`, `"c"`)
		unknown := asked[0].ID
		unknown[15] ^= 1
		results := g.engine.AnswerMany(g.t.Context(), []fermata.Reply{
			{Question: asked[0].ID, Value: "A"}, {Question: unknown, Value: "X"}, {Question: asked[2].ID, Value: "C"}, {Question: asked[0].ID, Value: "again"},
		})
		for i, reason := range []error{nil, fermata.ErrUnknownQuestion, nil, fermata.ErrAlreadyAnswered} {
			if !errors.Is(results[i].Err, reason) || (results[i].Receipt == nil) != (reason != nil) {
				g.t.Fatalf("answer %d: receipt %v, error %v; want %v", i, results[i].Receipt, results[i].Err, reason)
			}
		}
		refusal, _ := errors.AsType[*fermata.Error](results[1].Err)
		want(g.t, "questions in the refusal", len(refusal.Questions), 0)
		if _, err := results[2].Receipt.Wait(g.t.Context()); !errors.Is(err, fermata.ErrPaused) {
			g.t.Fatal(err)
		}
		want(g.t, "still asked", payloads(p.state().Questions), []string{`"b"`})
		p.returns(p.resume("B"), []string{"A", "B", "C"})
	})
}

func TestDeviationNullIsAnAnswer(t *testing.T) { // S28, E11
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
		a, err := fermata.Interrupt[*string](ctx, "name, if you like?")
		if err != nil {
			return "", err
		}
		b, err := fermata.Interrupt[any](ctx, "anything?")
		return fmt.Sprint(a == nil, "/", b == nil), err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"name, if you like?"`)
		question := p.asks(p.resume(nil), `"anything?"`)[0]
		p.returns(p.answer(question, nil), "true/true")
	})
}

func TestDeviationCatchingAPauseIsNotSwallowed(t *testing.T) { // S39, E10
	onEach(t, func(g *ground) {
		var c calls
		work := fermata.NewTask("work", func(context.Context, int) (int, error) { c.add("work"); return 1, nil })
		swallow := func(ctx context.Context, panics bool) (answer string, err error) {
			defer func() {
				if recover() != nil {
					answer, err = "recovered", nil
				}
			}()
			answer, err = askTask.Call(ctx, "who?")
			if err != nil && panics {
				panic(err)
			}
			if err != nil {
				answer = "nobody"
				_, _ = work.Call(ctx, 1) // must not run
			}
			return answer, nil
		}
		flow := fermata.NewEntrypoint("flow", swallow)
		g.deploy(nil, flow)
		for _, panics := range []bool{false, true} {
			p := play(g, flow, fmt.Sprint(panics))
			p.asks(p.start(panics), `"who?"`)
			want(g.t, "calls after the pause", c.take(), nil)
			p.returns(p.resume("me"), "me")
		}
	})
}

func TestDeviationNoSaverThereIsAlwaysABackend(t *testing.T) {
	t.Parallel()
	// LangGraph lets a workflow without a saver ask, and never resume. Here New takes a backend, and code
	// that runs outside of it can't ask.
	_, err := fermata.Interrupt[string](t.Context(), "who?")
	wantErr(t, "a question without an engine", err, fermata.ErrOutsideRun)
	if engine, err := fermata.New(nil, nil, inTurn); err == nil {
		_ = engine.Close(t.Context())
		t.Error("an engine without a backend")
	}
}

func TestDeviationN1NestedTasksAreReplayed(t *testing.T) { // S45
	onEach(t, func(g *ground) {
		var c calls
		add := fermata.NewTask("add", func(_ context.Context, n int) (int, error) { c.add(fmt.Sprint("add ", n)); return n + 1, nil })
		child := fermata.NewEntrypoint("child", func(ctx context.Context, n int) (string, error) {
			n, err := add.Call(ctx, n)
			if err != nil {
				return "", err
			}
			answer, err := fermata.Interrupt[string](ctx, "child-q")
			return fmt.Sprint(n, answer), err
		})
		viaTask := fermata.NewTask("via_task", func(ctx context.Context, n int) (string, error) { return child.Call(ctx, n) })
		parent := fermata.NewEntrypoint("parent", func(ctx context.Context, n int) (string, error) {
			a, err := child.Call(ctx, n)
			if err != nil {
				return "", err
			}
			b, err := viaTask.Call(ctx, 10*n)
			return a + " " + b, err
		})
		g.deploy(nil, parent)
		p := play(g, parent, "1")
		p.asks(p.start(1), `"child-q"`)
		g.deploy(nil, parent)
		p.asks(p.resume("R"), `"child-q"`)
		p.returns(p.resume("S"), "2R 11S")
		want(g.t, "calls", c.take(), map[string]int{"add 1": 1, "add 10": 1})
	})
}

func TestDeviationN2AQuestionBelowIsReportedOnce(t *testing.T) {
	child := fermata.NewEntrypoint("child", func(ctx context.Context, q string) (string, error) { return askTask.Call(ctx, q) })
	outer := fermata.NewTask("outer", func(ctx context.Context, q string) (string, error) { return child.Call(ctx, q) })
	parent := fermata.NewEntrypoint("parent", func(ctx context.Context, q string) (string, error) { return outer.Call(ctx, q) })
	onEach(t, func(g *ground) {
		g.deploy(nil, parent)
		p := play(g, parent, "1")
		o := p.start("deep?")
		p.asks(o, `"deep?"`)
		want(g.t, "updates", o.updates(g.t), []string{`{"__interrupt__":[{"value":"deep?","id":"ID"}]}`})
		want(g.t, "state", len(p.state().Questions), 1)
	})
}

func TestDeviationR1RetriedEntrypointKeepsResults(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) { c.add(fmt.Sprint("step ", n)); return n, nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			for i := range 2 {
				if _, err := step.Call(ctx, i); err != nil {
					return "", err
				}
			}
			answer, err := fermata.Interrupt[string](ctx, "who?")
			if err != nil {
				return "", err
			}
			if c.add("body") < 3 {
				return "", errors.New("down")
			}
			return answer, nil
		}, fermata.Retry(fermata.RetryPolicy{InitialInterval: 1, NoJitter: true}))
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"who?"`)
		p.returns(p.resume("me"), "me")
		want(g.t, "calls", c.take(), map[string]int{"step 0": 1, "step 1": 1, "body": 3})
	})
}

func TestDeviationR2RetryDoesNotAskAgain(t *testing.T) { // S49
	onEach(t, func(g *ground) {
		var c calls
		charge := fermata.NewTask("charge", func(ctx context.Context, _ int) (string, error) {
			answer, err := fermata.Interrupt[string](ctx, "card?")
			if err != nil {
				return "", err
			}
			if c.add("charge") < 3 {
				return "", errors.New("down")
			}
			return answer, nil
		}, fermata.Retry(fermata.RetryPolicy{InitialInterval: 1, NoJitter: true}))
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) { return charge.Call(ctx, n) })
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"card?"`)
		p.returns(p.resume("A"), "A")
		counts, err := g.engine.CountQuestions(g.t.Context(), fermata.QuestionFilter{Thread: "1"})
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "questions", counts, map[fermata.QuestionState]int{fermata.QuestionAnswered: 1})
	})
}

// step counts its calls; answered by name.
func counting(c *calls) *fermata.Task[string, string] {
	return fermata.NewTask("step", func(_ context.Context, s string) (string, error) { c.add(s); return s, nil })
}

func TestDeviationT1AnswerAtTheHeadRunsNothingAgain(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		step := counting(&c)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			if _, err := step.Call(ctx, "a"); err != nil {
				return "", err
			}
			return fermata.Interrupt[string](ctx, "who?")
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"who?"`)
		revision := p.state().Revision // the head, named
		run, err := p.handle().Resume(g.t.Context(), "me", fermata.AtRevision(revision))
		p.returns(p.rest(run, err), "me")
		want(g.t, "calls", c.take(), map[string]int{"a": 1})
		run, err = p.handle().Resume(g.t.Context(), "you", fermata.AtRevision(revision))
		p.fails(p.rest(run, err), fermata.ErrNoQuestion)
	})
}

func TestDeviationT2ForkTakesTheNewAnswer(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		step := counting(&c)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			before, err := step.Call(ctx, "before")
			if err != nil {
				return "", err
			}
			answer, err := fermata.Interrupt[string](ctx, "who?")
			if err != nil {
				return "", err
			}
			after, err := step.Call(ctx, "after")
			return before + answer + after, err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		question := p.asks(p.start(0), `"who?"`)[0]
		p.returns(p.resume(" A "), "before A after")
		run, err := p.handle().Fork(g.t.Context(), fermata.BeforeQuestion(question.ID))
		p.asks(p.rest(run, err), `"who?"`)
		p.returns(p.resume(" B "), "before B after")
		want(g.t, "calls", c.take(), map[string]int{"before": 1, "after": 2})
	})
}

func TestDeviationIdentityAChangedArgumentParks(t *testing.T) { // S15
	onEach(t, func(g *ground) {
		var c calls
		step := counting(&c)
		build := func(argument string) *fermata.Entrypoint[int, string] {
			return fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
				s, err := step.Call(ctx, argument)
				if err != nil {
					return "", err
				}
				_, err = fermata.Interrupt[string](ctx, "ok?")
				return s, err
			})
		}
		flow := build("refund 10")
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		question := p.asks(p.start(0), `"ok?"`)[0]
		flow = build("refund 90000")
		g.deploy(nil, flow)
		p = play(g, flow, "1")
		o := p.answer(question, "yes")
		p.fails(o, fermata.ErrParked)
		divergence, ok := errors.AsType[*fermata.DivergenceError](o.err)
		if !ok {
			g.t.Fatalf("got %v, want a *DivergenceError", o.err)
		}
		want(g.t, "fields", divergence.Fields, []fermata.FieldDifference{{Recorded: `"refund 10"`, Current: `"refund 90000"`}})
		if !strings.HasPrefix(divergence.Recorded.Site, "deviations_test.go:") || !strings.HasPrefix(divergence.Current.Site, "deviations_test.go:") {
			g.t.Errorf("call sites: %+v, %+v", divergence.Recorded, divergence.Current)
		}
		want(g.t, "calls", c.take(), map[string]int{"refund 10": 1})
	})
}

func TestDeviationCaughtErrorsAreReplayed(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		flaky := fermata.NewTask("flaky", func(context.Context, int) (string, error) {
			if c.add("flaky") == 1 {
				return "", errors.New("down")
			}
			return "up", nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			path := "went well"
			if _, err := flaky.Call(ctx, n); err != nil {
				path = "went around"
			}
			answer, err := fermata.Interrupt[string](ctx, path)
			return path + ", " + answer, err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"went around"`)
		g.deploy(nil, flow)
		p.returns(p.resume("fine"), "went around, fine")
		want(g.t, "calls", c.take(), map[string]int{"flaky": 1})
	})
}

func TestDeviationConfigIsKeptOverAPause(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
		if _, err := fermata.Interrupt[string](ctx, "go on?"); err != nil {
			return "", err
		}
		config, _, err := fermata.Config[string](ctx)
		return config, err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0, fermata.WithConfig("large")), `"go on?"`)
		g.deploy(nil, flow)
		p.returns(p.resume("yes"), "large") // nobody has to give it again
	})
}

func TestDeviationNewInputIsRefusedWhileAsked(t *testing.T) { // E8
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		p := play(g, inTurn, "1")
		question := p.asks(p.start([]string{"i1"}), `"i1"`)[0]
		refused := p.start([]string{"other"})
		p.fails(refused, fermata.ErrQuestionOpen)
		listed, _ := errors.AsType[*fermata.Error](refused.err)
		want(g.t, "the question in the error", payloads(listed.Questions), []string{`"i1"`})
		p.returns(p.answer(question, "still open"), []string{"still open"})
	})
}

func TestDeviationADoubleClickDoesNotAnswerTheNextQuestion(t *testing.T) { // E7
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		p := play(g, inTurn, "1")
		shown := p.handle()
		if _, err := shown.Invoke(g.t.Context(), []string{"refund 10?", "wire 90000?"}); !errors.Is(err, fermata.ErrPaused) {
			g.t.Fatal(err)
		}
		revision := p.state().Revision
		run, err := p.handle().Resume(g.t.Context(), "yes", fermata.AtRevision(revision))
		p.asks(p.rest(run, err), `"wire 90000?"`)
		_, err = p.handle().Resume(g.t.Context(), "yes", fermata.AtRevision(revision))
		wantErr(g.t, "the second click", err, fermata.ErrStaleRevision)
		want(g.t, "still asked", payloads(p.state().Questions), []string{`"wire 90000?"`})
	})
}
