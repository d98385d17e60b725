package fermata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// seedOf is the seed under a durability.
func seedOf(d fermata.Durability) *fermata.Entrypoint[string, string] {
	step := fermata.NewTask("step", func(_ context.Context, s string) (string, error) { return s + " bar", nil })
	return fermata.NewEntrypoint("graph", func(ctx context.Context, s string) (string, error) {
		s, err := step.Call(ctx, s)
		if err != nil {
			return "", err
		}
		answer, err := fermata.Interrupt[string](ctx, s)
		if err != nil {
			return "", err
		}
		return step.Call(ctx, answer)
	}, fermata.WithDurability(d))
}

// TestOrderOfTheModes: what one event says in several modes comes in LangGraph's order.
func TestOrderOfTheModes(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		flow := seedOf(fermata.Sync)
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		order := func(run *fermata.Run[string]) string {
			var modes []string
			for _, part := range (streamed[string]{Run: run}).collect(t, fermata.StreamCheckpoints, fermata.StreamValues, fermata.StreamTasks, fermata.StreamUpdates) {
				name := regexp.MustCompile(`"name":"(\w+)"`).FindStringSubmatch(string(part.Data))
				mode := string(part.Mode)
				if part.Mode == fermata.StreamTasks {
					mode += " " + name[1]
				}
				modes = append(modes, mode)
			}
			return strings.Join(modes, ", ")
		}
		run, err := thread.Start(t.Context(), "foo")
		if err != nil {
			t.Fatal(err)
		}
		want(t, "up to the question", order(run), "checkpoints, tasks graph, tasks step, updates, tasks step, updates, values, tasks graph")
		if run, err = thread.Resume(t.Context(), "baz"); err != nil {
			t.Fatal(err)
		}
		want(t, "from the answer on", order(run), "checkpoints, tasks graph, values, tasks step, tasks step, updates, tasks step, updates, tasks graph, values, checkpoints")
	})
}

// TestPartsHaveTheEnvelope: a part as JSON is LangGraph's version 2.
func TestPartsHaveTheEnvelope(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, counter)
		run, err := counter.On(g.engine).Thread("1").Start(g.t.Context(), 1)
		result(g.t, run, err)
		var text []byte
		for _, part := range (streamed[int]{Run: run}).collect(g.t) { // updates is the default mode
			if text, err = json.Marshal(part); err != nil {
				g.t.Fatal(err)
			}
		}
		want(g.t, "part", string(text), `{"type":"updates","ns":[],"data":{"counter":1}}`)
	})
}

func TestDeviationStreamUnknownModeIsRefused(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, counter)
		run, err := counter.On(g.engine).Thread("1").Start(g.t.Context(), 1)
		result(g.t, run, err)
		refused := false
		for _, err := range run.Stream(g.t.Context(), nil, "update") {
			wantErr(g.t, "a mode that isn't one", err, fermata.ErrInvalid)
			refused = true
		}
		want(g.t, "refused", refused, true)
	})
}

// TestDeviationExitLeavesTheSameHistoryAndStream: in LangGraph a run under exit has no input checkpoint, and the
// last part of its stream no parent.
func TestDeviationExitLeavesTheSameHistoryAndStream(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		seen := map[string]string{}
		for _, d := range durabilities {
			flow := seedOf(d.mode)
			g.deploy(nil, flow)
			thread := flow.On(g.engine).Thread(d.name)
			s := script{letters: map[string]string{}}
			print := func(run *fermata.Run[string], err error) string {
				if err != nil {
					t.Fatal(err)
				}
				return strings.ReplaceAll(s.print(t, streamed[string]{Run: run}, fermata.StreamUpdates, fermata.StreamValues, fermata.StreamTasks, fermata.StreamCheckpoints), `"`+d.name+`"`, `"thread"`)
			}
			run, err := thread.Start(t.Context(), "foo")
			seen[d.name] = print(run, err)
			run, err = thread.Resume(t.Context(), "baz")
			seen[d.name] += print(run, err) + fmt.Sprint(outline(t, thread, nil))
		}
		want(t, "async, like sync", seen["async"], seen["sync"])
		want(t, "exit, like sync", seen["exit"], seen["sync"])
		if !strings.HasSuffix(seen["exit"], "[loop 0 input -1]") || strings.Count(seen["exit"], `"parent_config":null`) != 2 {
			t.Errorf("stream and history under exit:\n%s", seen["exit"])
		}
	})
}

// TestNestedEntrypointHasTheDurabilityOfItsRun, whatever its own option says.
func TestNestedEntrypointHasTheDurabilityOfItsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := memory.New(nil)
		defer memory.Close()
		disk := &disk{Backend: memory}
		child := chain(fermata.Sync, func() {})
		parent := fermata.NewEntrypoint("parent", func(ctx context.Context, n int) (int, error) { return child.Call(ctx, n) }, fermata.WithDurability(fermata.Exit))
		engine, err := fermata.New(disk, nil, parent)
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close(t.Context())
		if _, err := parent.On(engine).Thread("1").Invoke(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		want(t, "commits", disk.appends.Load(), 1)
	})
}

func TestDeviationHistoryShowsOpenQuestionsOnly(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, graph)
		thread := graph.On(g.engine).Thread("1")
		_, err := thread.Invoke(t.Context(), "foo")
		paused(t, err)
		input := checkpoints(t, thread)[0]
		open := func() int {
			s, err := thread.StateAt(t.Context(), input)
			if err != nil {
				t.Fatal(err)
			}
			want(t, "next", s.Next, []string{"graph"})
			return len(s.Questions)
		}
		want(t, "questions while it waits", open(), 1)
		run, err := thread.Resume(t.Context(), "baz")
		result(t, run, err)
		want(t, "questions after the answer", open(), 0)
	})
}

func TestDeviationStoreQueryNeedsAnEmbedding(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, counter)
		_, err := g.engine.Store().Search(g.t.Context(), nil, &fermata.Search{Query: "trains"})
		wantErr(g.t, "a query without an embedding", err, fermata.ErrInvalid)
	})
}

// TestStoreIsNotUndoneByAFork, nor by an update or a deletion.
func TestStoreIsNotUndoneByAFork(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		store, err := fermata.StoreFrom(ctx)
		if err != nil {
			return 0, err
		}
		return n, store.Put(ctx, []string{"ns"}, fmt.Sprint(n), map[string]int{"n": n})
	})
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		for n := range 2 {
			run, err := thread.Start(t.Context(), n)
			result(t, run, err)
		}
		run, err := thread.Fork(t.Context(), fermata.AtCheckpoint(checkpoints(t, thread)[2])) // after the first run
		result(t, run, err)
		if err := g.engine.DeleteThread(t.Context(), "1"); err != nil {
			t.Fatal(err)
		}
		items, err := g.engine.Store().Search(t.Context(), []string{"ns"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "items", len(items), 2)
	})
}

func TestStateOfAThreadThatNeverRanIsEmpty(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, counter)
		state, err := counter.On(g.engine).Thread("1").State(g.t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "state", *state, fermata.State[int]{Thread: "1"})
	})
}
