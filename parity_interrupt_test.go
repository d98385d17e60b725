package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/fermata-go/fermata"
)

func TestQuestionsInSequence(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, questions []string) ([]string, error) {
			c.add("body")
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
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		seen := map[fermata.ID]bool{}
		o := p.start([]string{"one", "two", "three"})
		for i, q := range []string{"one", "two", "three"} {
			seen[p.asks(o, fmt.Sprintf("%q", q))[0].ID] = true
			o = p.resume(fmt.Sprint(i))
		}
		p.returns(o, []string{"0", "1", "2"})
		want(g.t, "ids", len(seen), 3)
		want(g.t, "calls", c.take(), map[string]int{"body": 4})
	})
}

func TestTwoQuestionsInOneTask(t *testing.T) { // S19
	onEach(t, func(g *ground) {
		var c calls
		two := fermata.NewTask("two", func(ctx context.Context, _ int) ([]string, error) {
			c.add("two")
			a, err := fermata.Interrupt[string](ctx, "first?")
			if err != nil {
				return nil, err
			}
			b, err := fermata.Interrupt[string](ctx, "second?")
			return []string{a, b}, err
		})
		flow := fermata.NewEntrypoint("c1b", func(ctx context.Context, n int) ([]string, error) { return two.Call(ctx, n) })
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		o := p.start(0)
		p.asks(o, `"first?"`)
		want(g.t, "updates up to the question", o.updates(g.t), []string{`{"__interrupt__":[{"value":"first?","id":"ID"}]}`})
		if state := p.state(); state.Status != fermata.Interrupted || state.Err != nil {
			g.t.Errorf("the run is %s, error %v", state.Status, state.Err)
		}
		p.asks(p.resume("A"), `"second?"`)
		o = p.resume("B")
		p.returns(o, []string{"A", "B"})
		want(g.t, "updates", o.updates(g.t), []string{`{"two":["A","B"]}`, `{"c1b":["A","B"]}`})
		want(g.t, "calls", c.take(), map[string]int{"two": 3})
	})
}

func TestSameQuestionTwice(t *testing.T) { // S21
	ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) { return fermata.Interrupt[string](ctx, q) })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, inTask bool) ([]string, error) {
		var answers []string
		for range 2 {
			call := fermata.Interrupt[string]
			if inTask {
				call = func(ctx context.Context, q any, _ ...fermata.AskOption) (string, error) {
					return ask.Call(ctx, q.(string))
				}
			}
			a, err := call(ctx, "same")
			if err != nil {
				return nil, err
			}
			answers = append(answers, a)
		}
		return answers, nil
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		for _, inTask := range []bool{false, true} {
			p := play(g, flow, fmt.Sprint(inTask))
			first := p.asks(p.start(inTask), `"same"`)[0]
			second := p.asks(p.resume("1"), `"same"`)[0]
			if first.ID == second.ID {
				g.t.Error("two questions have one id")
			}
			p.fails(p.answer(first, "again"), fermata.ErrAlreadyAnswered)
			p.returns(p.resume("2"), []string{"1", "2"})
		}
	})
}

func TestLoopUntilTheAnswerIsGood(t *testing.T) { // S23
	onEach(t, func(g *ground) {
		var c calls
		ask := func(ctx context.Context) (int, error) {
			question := "What is your age?"
			for {
				answer, err := fermata.Interrupt[any](ctx, question)
				if err != nil {
					return 0, err
				}
				if age, ok := answer.(float64); ok {
					return int(age), nil
				}
				question = fmt.Sprintf("'%v' is not a valid age. What is your age?", answer)
			}
		}
		inBody := fermata.NewEntrypoint("body", func(ctx context.Context, _ int) (int, error) { return ask(ctx) })
		task := fermata.NewTask("task", func(ctx context.Context, _ int) (int, error) { c.add("task"); return ask(ctx) })
		inTask := fermata.NewEntrypoint("tasks", func(ctx context.Context, n int) (int, error) { return task.Call(ctx, n) })
		g.deploy(nil, inBody, inTask)
		for _, flow := range []*fermata.Entrypoint[int, int]{inBody, inTask} {
			p := play(g, flow, flow.Name())
			p.asks(p.start(0), `"What is your age?"`)
			p.asks(p.resume("x"), `"'x' is not a valid age. What is your age?"`)
			p.asks(p.resume("y"), `"'y' is not a valid age. What is your age?"`)
			p.returns(p.resume(30), 30)
		}
		want(g.t, "calls", c.take(), map[string]int{"task": 4})
	})
}

// age is an answer that says itself whether it is good.
type age int

func (a age) Validate() error {
	if a < 0 || a > 150 {
		return fmt.Errorf("%d is not a valid age", a)
	}
	return nil
}

func TestLoopOfADeclaredQuestionRunsNothingForABadAnswer(t *testing.T) { // E5
	onEach(t, func(g *ground) {
		var c calls
		question := fermata.NewQuestion[string, age]("parity_age")
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (age, error) {
			c.add("body")
			return question.Ask(ctx, "What is your age?")
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"What is your age?"`)
		for range 20 {
			p.fails(p.resume(-1), fermata.ErrInvalidAnswer)
		}
		want(g.t, "executions before the good answer", c.take(), map[string]int{"body": 1})
		p.returns(p.resume(30), 30)
		want(g.t, "executions for it", c.take(), map[string]int{"body": 1})
	})
}

func TestFalsyAnswers(t *testing.T) { // S25
	type all struct {
		Number int
		Text   string
		Flag   bool
		List   []int
		Any    any
	}
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (a all, err error) {
		if a.Number, err = fermata.Interrupt[int](ctx, "number"); err != nil {
			return a, err
		}
		if a.Text, err = fermata.Interrupt[string](ctx, "text"); err != nil {
			return a, err
		}
		if a.Flag, err = fermata.Interrupt[bool](ctx, "flag"); err != nil {
			return a, err
		}
		if a.List, err = fermata.Interrupt[[]int](ctx, "list"); err != nil {
			return a, err
		}
		a.Any, err = fermata.Interrupt[any](ctx, "any")
		return a, err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"number"`)
		p.asks(p.resume(0), `"text"`)
		p.asks(p.resume(""), `"flag"`)
		p.asks(p.resume(false), `"list"`)
		p.asks(p.resume([]int{}), `"any"`)
		p.returns(p.resume(map[string]any{}), all{List: []int{}, Any: map[string]any{}})
	})
}

func TestAnObjectIsAnAnswer(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (map[string]string, error) {
		return fermata.Interrupt[map[string]string](ctx, "who?")
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		for i, answer := range []map[string]string{
			{"name": "Ann"},
			{"0123456789abcdef0123456789abcdef": "looks like an id"}, // LangGraph takes it for a map of answers
			{},
		} {
			p := play(g, flow, fmt.Sprint(i))
			p.asks(p.start(0), `"who?"`)
			p.returns(p.resume(answer), answer)
		}
	})
}

func TestQuestionsOfBodyAndTasksMixed(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) {
			c.add("ask " + q)
			return fermata.Interrupt[string](ctx, q)
		})
		work := fermata.NewTask("work", func(_ context.Context, s string) (string, error) { c.add("work"); return s + "!", nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, rounds int) (string, error) {
			said := ""
			for i := range rounds {
				own, err := fermata.Interrupt[string](ctx, fmt.Sprint("body ", i))
				if err != nil {
					return "", err
				}
				below, err := ask.Call(ctx, fmt.Sprint("task ", i))
				if err != nil {
					return "", err
				}
				done, err := work.Call(ctx, own+below)
				if err != nil {
					return "", err
				}
				said += done
			}
			return said, nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(2), `"body 0"`)
		p.asks(p.resume("a"), `"task 0"`)
		p.asks(p.resume("b"), `"body 1"`)
		g.deploy(nil, flow)
		p.asks(p.resume("c"), `"task 1"`)
		p.returns(p.resume("d"), "ab!cd!")
		want(g.t, "calls", c.take(), map[string]int{"ask task 0": 2, "ask task 1": 2, "work": 2})
	})
}

func TestNoAnswerAsksTheSameAgain(t *testing.T) { // S31
	onEach(t, func(g *ground) {
		var c calls
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) {
			c.add("ask")
			return fermata.Interrupt[string](ctx, q)
		})
		done := fermata.NewTask("done", func(_ context.Context, n int) (int, error) { c.add("done"); return n, nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			c.add("body")
			if _, err := done.Call(ctx, n); err != nil {
				return "", err
			}
			return ask.Call(ctx, "who?")
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		first := p.asks(p.start(0), `"who?"`)[0]
		want(g.t, "first", c.take(), map[string]int{"body": 1, "done": 1, "ask": 1})
		second := p.asks(p.goOn(), `"who?"`)[0]
		want(g.t, "the question", second.ID, first.ID)
		want(g.t, "continued", c.take(), map[string]int{"body": 1, "ask": 1})
		p.returns(p.resume("me"), "me")
	})
}

func TestNewInputWithSupersede(t *testing.T) { // S37
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, in string) (string, error) {
		answer, err := fermata.Interrupt[string](ctx, in+"?")
		return in + answer, err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		first := p.asks(p.start("first"), `"first?"`)[0]
		second := p.asks(p.start("second", fermata.Supersede()), `"second?"`)[0]
		if first.ID == second.ID {
			g.t.Error("the new run asks with the old id")
		}
		p.fails(p.answer(first, "late"), fermata.ErrSuperseded)
		p.returns(p.answer(second, " R"), "second R")
		old, err := g.engine.Question(g.t.Context(), first.ID)
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "the first question", old.State, fermata.QuestionSuperseded)
	})
}

func TestSiblingFinishesDuringAPause(t *testing.T) { // S41
	onEach(t, func(g *ground) {
		var c calls
		answerable := make(chan struct{})
		longTask := fermata.NewTask("longt", func(context.Context, int) (int, error) {
			c.add("longt")
			<-answerable
			return 1, nil
		})
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) { return fermata.Interrupt[string](ctx, q) })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			slow, asked := longTask.Go(ctx, n), ask.Go(ctx, "q")
			answer, err := asked.Result(ctx)
			if err != nil {
				return "", err
			}
			n, err = slow.Result(ctx)
			return fmt.Sprint(answer, n), err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		run, err := p.handle().Start(g.t.Context(), 0)
		if err != nil {
			g.t.Fatal(err)
		}
		// The question is there while the sibling still runs.
		var question fermata.Question
		for q, err := range g.engine.QuestionChanges(g.t.Context(), 0) {
			if err != nil {
				g.t.Fatal(err)
			}
			question = q
			break
		}
		close(answerable)
		o := p.rest(run, nil)
		want(g.t, "question", p.asks(o, `"q"`)[0].ID, question.ID)
		want(g.t, "updates", o.updates(g.t), []string{`{"longt":1}`, `{"__interrupt__":[{"value":"q","id":"ID"}]}`})
		p.returns(p.resume("A"), "A1")
		want(g.t, "calls", c.take(), map[string]int{"longt": 1})
	})
}

func TestAnswerWhileASiblingStillRuns(t *testing.T) {
	onEach(t, func(g *ground) {
		answered := make(chan struct{})
		longTask := fermata.NewTask("longt", func(context.Context, int) (int, error) { <-answered; return 1, nil })
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) { return fermata.Interrupt[string](ctx, q) })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			slow, asked := longTask.Go(ctx, n), ask.Go(ctx, "q")
			n, err := slow.Result(ctx)
			if err != nil {
				return "", err
			}
			answer, err := asked.Result(ctx)
			return fmt.Sprint(answer, n), err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		run, err := p.handle().Start(g.t.Context(), 0)
		if err != nil {
			g.t.Fatal(err)
		}
		for q, err := range g.engine.QuestionChanges(g.t.Context(), 0) {
			if err == nil {
				_, err = g.engine.Answer(g.t.Context(), q.ID, "early")
			}
			if err != nil {
				g.t.Fatal(err)
			}
			break
		}
		close(answered)
		p.returns(p.rest(run, nil), "early1")
	})
}

func TestFailureOfASiblingDuringAPause(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		bad := fermata.NewTask("bad", func(context.Context, int) (int, error) { c.add("bad"); return 0, errors.New("boom") })
		ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) { return fermata.Interrupt[string](ctx, q) })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			failing, asked := bad.Go(ctx, n), ask.Go(ctx, "q")
			answer, err := asked.Result(ctx)
			if err != nil {
				return "", err
			}
			_, err = failing.Result(ctx)
			return fmt.Sprint(answer, " ", err != nil), nil
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"q"`)
		p.returns(p.resume("A"), "A true")
		want(g.t, "calls", c.take(), map[string]int{"bad": 1})
	})
}

func TestErrorAfterAnAnswerThenContinue(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		charge := fermata.NewTask("charge", func(ctx context.Context, n int) (string, error) {
			card, err := fermata.Interrupt[string](ctx, "which card?")
			if err != nil {
				return "", err
			}
			if c.add("charge") == 1 {
				return "", errors.New("bank down")
			}
			return "charged " + card, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			name, err := fermata.Interrupt[string](ctx, "name?")
			if err != nil {
				return "", err
			}
			charged, err := charge.Call(ctx, n)
			return name + " " + charged, err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"name?"`)
		p.asks(p.resume("Ann"), `"which card?"`)
		o := p.resume("gold")
		if _, ok := errors.AsType[*fermata.RunError](o.err); !ok {
			g.t.Fatalf("got error %v, want a failed run", o.err)
		}
		p.fails(p.resume("silver"), fermata.ErrNoQuestion)
		g.deploy(nil, flow)
		p.returns(p.goOn(), "Ann charged gold")
	})
}

func TestErrorOfTheBodyAfterAnAnswerThenContinue(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			name, err := fermata.Interrupt[string](ctx, "name?")
			if err == nil && c.add("after") == 1 {
				err = errors.New("not yet")
			}
			return name, err
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(0), `"name?"`)
		o := p.resume("Ann")
		if o.err == nil {
			g.t.Fatal("the run did not fail")
		}
		p.returns(p.goOn(), "Ann")
	})
}

func TestQuestionsInNestedEntrypointsInALoop(t *testing.T) {
	onEach(t, func(g *ground) {
		var c calls
		work := fermata.NewTask("work", func(_ context.Context, s string) (string, error) { c.add("work " + s); return s, nil })
		child := fermata.NewEntrypoint("child", func(ctx context.Context, q string) (string, error) {
			c.add("child " + q)
			s, err := work.Call(ctx, q)
			if err != nil {
				return "", err
			}
			for {
				a, err := fermata.Interrupt[string](ctx, s)
				if err != nil {
					return "", err
				}
				if a != "" {
					return a, nil
				}
				s += "?"
			}
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) ([]string, error) {
			return fermata.All(ctx, child.Go(ctx, "a"), child.Go(ctx, "b"))
		})
		g.deploy(nil, flow, child)
		p := play(g, flow, "1")
		questions := p.asks(p.start(0), `"a"`, `"b"`)
		want(g.t, "paths", []string{questions[0].Path, questions[1].Path}, []string{"flow/child", "flow/child"})
		questions = p.asks(p.answer(questions[1], ""), `"a"`, `"b?"`)
		questions = p.asks(p.answer(questions[0], ""), `"a?"`, `"b?"`)
		g.deploy(nil, flow, child)
		p.asks(p.answer(questions[0], "A"), `"b?"`)
		p.returns(p.resume("B"), []string{"A", "B"})
		want(g.t, "tasks", [2]int{c.counts["work a"], c.counts["work b"]}, [2]int{1, 1})
	})
}

func TestOneAnswerWinsUnderConcurrency(t *testing.T) { // E2
	onEach(t, func(g *ground) {
		var c calls
		charge := fermata.NewTask("charge", func(context.Context, int) (string, error) { c.add("charge"); return "charged", nil })
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			yes, err := fermata.Interrupt[bool](ctx, "refund?")
			if err != nil {
				return "", err
			}
			if !yes {
				c.add("rejected")
				return "rejected", nil
			}
			return charge.Call(ctx, n)
		})
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		question := p.asks(p.start(0), `"refund?"`)[0]
		errs, receipts := make([]error, 20), make([]*fermata.Receipt, 20)
		var answering sync.WaitGroup
		for i := range errs {
			answering.Go(func() { receipts[i], errs[i] = g.engine.Answer(g.t.Context(), question.ID, i%2 == 0) })
		}
		answering.Wait()
		won := 0
		for i, err := range errs {
			if err != nil {
				wantErr(g.t, "a loser", err, fermata.ErrAlreadyAnswered)
				continue
			}
			won++
			if _, err := receipts[i].Wait(g.t.Context()); err != nil {
				g.t.Fatal(err)
			}
		}
		want(g.t, "accepted answers", won, 1)
		counts := c.take()
		want(g.t, "endings", counts["charge"]+counts["rejected"], 1)
		p.fails(p.answer(question, true), fermata.ErrAlreadyAnswered) // E1: also after the end
		want(g.t, "calls after the end", c.take(), nil)
	})
}

func TestInterruptsAreReportedEverywhere(t *testing.T) {
	ask := fermata.NewTask("ask", func(ctx context.Context, q string) (string, error) { return fermata.Interrupt[string](ctx, q) })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
		later := ask.Go(ctx, "in a task")
		own, err := fermata.Interrupt[string](ctx, "in the body")
		if err != nil {
			return "", err
		}
		below, err := later.Result(ctx)
		return own + below, err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		o := p.start(0)
		questions := p.asks(o, `"in a task"`, `"in the body"`)
		want(g.t, "updates", o.updates(g.t), []string{`{"__interrupt__":[{"value":"in a task","id":"ID"},{"value":"in the body","id":"ID"}]}`})
		state := p.state()
		want(g.t, "status", state.Status, fermata.Interrupted)
		want(g.t, "state", payloads(state.Questions), payloads(questions))
		page, err := g.engine.Questions(g.t.Context(), fermata.QuestionFilter{Thread: "1", States: []fermata.QuestionState{fermata.QuestionOpen}}, fermata.Page{})
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "list", len(page.Questions), 2)
		slices.Reverse(questions)
		p.asks(p.answer(questions[0], "own "), `"in a task"`)
		p.returns(p.answer(questions[1], "below"), "own below")
	})
}
