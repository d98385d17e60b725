package fermata_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/fermata-go/fermata"
)

// outline prints a history as "source step", newest first.
func outline[I, O any](t *testing.T, thread *fermata.Thread[I, O], options *fermata.HistoryOptions) []string {
	t.Helper()
	var lines []string
	for s, err := range thread.History(t.Context(), options) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(s.Source, " ", s.Step))
	}
	return lines
}

func checkpoints[I, O any](t *testing.T, thread *fermata.Thread[I, O]) []string {
	t.Helper()
	var ids []string
	for s, err := range thread.History(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, s.Checkpoint)
	}
	return ids
}

// result waits for a run that a verb has returned.
func result[O any](t *testing.T, run *fermata.Run[O], err error) O {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	out, err := run.Result(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// counter adds its inputs up over the runs of a thread.
var counter = fermata.NewEntrypoint("counter", func(ctx context.Context, n int) (int, error) {
	sum, _, err := fermata.Previous[int](ctx)
	return sum + n, err
})

func TestHistoryOfTheSeed(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, graph)
		thread := graph.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), "foo")
		question := paused(t, err)[0]
		for s, err := range thread.History(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			want(t, "next", s.Next, []string{"graph"})
			want(t, "open questions", len(s.Questions), 1)
			want(t, "question", s.Questions[0].ID, question.ID)
			want(t, "has a value", s.OK, false)
			want(t, "place", fmt.Sprint(s.Source, s.Step, s.Parent), "input-1")
		}
		run, err := thread.Resume(t.Context(), "baz")
		result(t, run, err)
		ids := checkpoints(t, thread)
		want(t, "history", outline(t, thread, nil), []string{"loop 0", "input -1"})
		end, err := thread.StateAt(t.Context(), ids[0])
		if err != nil {
			t.Fatal(err)
		}
		want(t, "value", end.Value, "foo bar baz qux")
		want(t, "parent", end.Parent, ids[1])
		want(t, "next", len(end.Next), 0)
	})
}

func TestHistoryFilters(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, counter)
		thread := counter.On(g.engine).Thread("1")
		for i := range 3 {
			run, err := thread.Start(t.Context(), i, fermata.Metadata(map[string]string{"run": fmt.Sprint(i)}))
			result(t, run, err)
		}
		ids := checkpoints(t, thread)
		step := int64(2)
		for _, c := range []struct {
			name    string
			options *fermata.HistoryOptions
			want    []string
		}{
			{"all", nil, []string{"loop 4", "input 3", "loop 2", "input 1", "loop 0", "input -1"}},
			{"limit", &fermata.HistoryOptions{Limit: 2}, []string{"loop 4", "input 3"}},
			{"before", &fermata.HistoryOptions{Before: ids[2]}, []string{"input 1", "loop 0", "input -1"}},
			{"source", &fermata.HistoryOptions{Source: "input"}, []string{"input 3", "input 1", "input -1"}},
			{"step", &fermata.HistoryOptions{Step: &step}, []string{"loop 2"}},
			{"metadata", &fermata.HistoryOptions{Metadata: map[string]string{"run": "1"}}, []string{"loop 2", "input 1"}},
		} {
			want(t, c.name, outline(t, thread, c.options), c.want)
		}
	})
}

func TestForkOfAnInputRunsAllAgain(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, graph)
		thread := graph.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), "foo")
		first := paused(t, err)[0]
		run, err := thread.Resume(t.Context(), "baz")
		result(t, run, err)
		ids := checkpoints(t, thread)
		fork, err := thread.Fork(t.Context(), fermata.AtCheckpoint(ids[1]))
		if err != nil {
			t.Fatal(err)
		}
		want(t, "events", len((streamed[string]{Run: fork}).collect(t)), 2)
		_, err = fork.Result(t.Context())
		again := paused(t, err)[0]
		if again.ID == first.ID {
			t.Error("the fork asks under the old id")
		}
		want(t, "history", outline(t, thread, nil), []string{"fork 0", "loop 0", "input -1"})
		if run, err = thread.Resume(t.Context(), "NEW"); err != nil {
			t.Fatal(err)
		}
		want(t, "events of the resumed fork", len((streamed[string]{Run: run}).collect(t)), 3)
		want(t, "result", result(t, run, nil), "foo bar NEW qux")
	})
}

func TestForkBeforeAQuestionKeepsWhatCameBefore(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		var c calls
		step := fermata.NewTask("step", func(_ context.Context, s string) (string, error) {
			c.add(s)
			return s, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			out := ""
			for _, name := range []string{"a", "b", "c"} {
				s, err := step.Call(ctx, name)
				if err != nil {
					return "", err
				}
				answer, err := fermata.Interrupt[string](ctx, name+"?")
				if err != nil {
					return "", err
				}
				out += s + answer
			}
			return out, nil
		})
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), 0)
		var questions []fermata.Question
		for _, answer := range []string{"1", "2", "3"} {
			questions = append(questions, paused(t, err)...)
			run, resumeErr := thread.Resume(t.Context(), answer)
			if resumeErr != nil {
				t.Fatal(resumeErr)
			}
			_, err = run.Result(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		c.take()
		run, err := thread.Fork(t.Context(), fermata.BeforeQuestion(questions[1].ID))
		if err != nil {
			t.Fatal(err)
		}
		_, err = run.Result(t.Context())
		want(t, "question", payloads(paused(t, err)), []string{`"b?"`})
		g.deploy(nil, flow) // another process
		thread = flow.On(g.engine).Thread("1")
		for _, answer := range []string{"X", "Y"} {
			if _, err := thread.State(t.Context()); err != nil {
				t.Fatal(err)
			}
			if run, err = thread.Resume(t.Context(), answer); err != nil {
				t.Fatal(err)
			}
			_, err = run.Result(t.Context())
		}
		want(t, "result", result(t, run, err), "a1bXcY")
		want(t, "tasks that ran again", c.take(), map[string]int{"c": 1})
	})
}

// TestForkAfterAQuestionKeepsItsAnswer: what came after the answer is done again, and nothing is asked again that was
// answered by then.
func TestForkAfterAQuestionKeepsItsAnswer(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		var c calls
		step := fermata.NewTask("step", func(_ context.Context, s string) (string, error) {
			c.add(s)
			return s, nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
			out := ""
			for _, name := range []string{"a", "b"} {
				answer, err := fermata.Interrupt[string](ctx, name+"?")
				if err != nil {
					return "", err
				}
				s, err := step.Call(ctx, name+answer)
				if err != nil {
					return "", err
				}
				out += s
			}
			return out, nil
		})
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), 0)
		first := paused(t, err)[0]
		_, err = thread.Fork(t.Context(), fermata.AfterQuestion(first.ID), fermata.Supersede())
		wantErr(t, "a fork after an open question", err, fermata.ErrInvalid)
		run, err := thread.Resume(t.Context(), "1")
		if err != nil {
			t.Fatal(err)
		}
		_, err = run.Result(t.Context())
		second := paused(t, err)[0]
		run, err = thread.Resume(t.Context(), "2")
		want(t, "result", result(t, run, err), "a1b2")
		c.take()
		run, err = thread.Fork(t.Context(), fermata.AfterQuestion(second.ID))
		want(t, "with both answers", result(t, run, err), "a1b2")
		want(t, "tasks that ran again", c.take(), map[string]int{"b2": 1})
		if run, err = thread.Fork(t.Context(), fermata.AfterQuestion(first.ID)); err != nil {
			t.Fatal(err)
		}
		_, err = run.Result(t.Context())
		want(t, "question", payloads(paused(t, err)), []string{`"b?"`})
		want(t, "tasks that ran again", c.take(), map[string]int{"a1": 1})
		g.deploy(nil, flow) // another process
		thread = flow.On(g.engine).Thread("1")
		if _, err := thread.State(t.Context()); err != nil {
			t.Fatal(err)
		}
		run, err = thread.Resume(t.Context(), "3")
		want(t, "with the first answer", result(t, run, err), "a1b3")
		want(t, "tasks that ran again", c.take(), map[string]int{"b3": 1})
	})
}

func TestBranchesOfACounter(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, counter)
		thread := counter.On(g.engine).Thread("1")
		for i, sum := range []int{1, 3, 6} {
			run, err := thread.Start(t.Context(), i+1)
			want(t, "sum", result(t, run, err), sum)
		}
		ids := checkpoints(t, thread)
		run, err := thread.Start(t.Context(), 10, fermata.From(ids[4]))
		want(t, "from the first result", result(t, run, err), 11)
		run, err = thread.Start(t.Context(), 100)
		want(t, "then", result(t, run, err), 111)
		want(t, "checkpoints", len(checkpoints(t, thread)), 10)
		if run, err = thread.Fork(t.Context(), fermata.AtCheckpoint(ids[2])); err != nil {
			t.Fatal(err)
		}
		want(t, "a fork of a result", result(t, run, err), 3)
		want(t, "parts of it", len((streamed[int]{Run: run}).collect(t)), 0)
		run, err = thread.Start(t.Context(), 1)
		want(t, "after it", result(t, run, err), 4)
	})
}

func TestUpdateSetsTheValue(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, counter, graph)
		thread := counter.On(g.engine).Thread("1")
		if _, err := thread.Update(t.Context(), 41); err != nil {
			t.Fatal(err)
		}
		want(t, "history", outline(t, thread, nil), []string{"update 0"})
		run, err := thread.Start(t.Context(), 1)
		want(t, "the next run", result(t, run, err), 42)
		asking := graph.On(g.engine).Thread("2")
		_, err = asking.Invoke(t.Context(), "foo")
		question := paused(t, err)[0]
		if _, err := asking.Update(t.Context(), "set", fermata.AndSave("saved")); err != nil {
			t.Fatal(err)
		}
		state, err := asking.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want(t, "value", state.Value, "set")
		want(t, "open questions", len(state.Questions), 0)
		_, err = g.engine.Answer(t.Context(), question.ID, "late")
		wantErr(t, "an answer to a question given up", err, fermata.ErrSuperseded)
	})
}

func TestThreadsAreListedCopiedPrunedAndDeleted(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, counter, graph)
		thread := counter.On(g.engine).Thread("a")
		for i := range 3 {
			run, err := thread.Start(t.Context(), i)
			result(t, run, err)
		}
		_, err := graph.On(g.engine).Thread("b").Invoke(t.Context(), "foo")
		paused(t, err)
		ids := func(filter *fermata.ThreadFilter) []string {
			var ids []string
			for info, err := range g.engine.Threads(t.Context(), filter) {
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, info.ID)
			}
			return ids
		}
		want(t, "all", ids(nil), []string{"a", "b"})
		want(t, "interrupted", ids(&fermata.ThreadFilter{Statuses: []fermata.Status{fermata.Interrupted}}), []string{"b"})
		if err := g.engine.CopyThread(t.Context(), "a", "copy"); err != nil {
			t.Fatal(err)
		}
		run, err := counter.On(g.engine).Thread("copy").Start(t.Context(), 10)
		want(t, "the copy goes on", result(t, run, err), 13)
		if _, err := g.engine.PruneThread(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		run, err = thread.Start(t.Context(), 5)
		want(t, "the pruned thread goes on", result(t, run, err), 8)
		if err := g.engine.DeleteThread(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		want(t, "after deletion", ids(nil), []string{"b", "copy"})
		runs := 0
		for _, err := range g.engine.Runs(t.Context(), &fermata.RunFilter{Entrypoint: "graph"}) {
			if err != nil {
				t.Fatal(err)
			}
			runs++
		}
		want(t, "runs of the graph", runs, 1)
	})
}
