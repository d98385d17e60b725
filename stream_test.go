package fermata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/fermata-go/fermata"
)

// script prints a stream, a part a line, with ids as numbers in the order of their coming.
type script struct {
	letters map[string]string
	given   int
}

var idPattern = regexp.MustCompile(`[0-9a-f]{32}(\.end)?`)

func (s *script) print(t *testing.T, run interface {
	collect(*testing.T, ...fermata.Mode) []fermata.Part
}, modes ...fermata.Mode,
) string {
	t.Helper()
	var b strings.Builder
	for _, part := range run.collect(t, modes...) {
		line := string(part.Data)
		if len(modes) > 1 {
			line = string(part.Mode) + " " + line
		}
		if len(part.Namespace) > 0 {
			line = strings.Join(part.Namespace, "|") + " " + line
		}
		line = regexp.MustCompile(`"timestamp":"[^"]*"`).ReplaceAllString(line, `"timestamp":T`)
		b.WriteString(idPattern.ReplaceAllStringFunc(line, s.letter) + "\n")
	}
	return b.String()
}

func (s *script) letter(id string) string {
	if s.letters == nil {
		s.letters = map[string]string{}
	}
	if s.letters[id] == "" {
		s.given++
		s.letters[id] = fmt.Sprint("#", s.given)
	}
	return s.letters[id]
}

// streamed is a run whose stream is read with options.
type streamed[O any] struct {
	*fermata.Run[O]
	options *fermata.StreamOptions
}

func (r streamed[O]) collect(t *testing.T, modes ...fermata.Mode) []fermata.Part {
	t.Helper()
	var parts []fermata.Part
	for part, err := range r.Stream(t.Context(), r.options, modes...) {
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	return parts
}

func TestStreamOfTheSeedInEveryMode(t *testing.T) {
	type golden struct {
		modes       []fermata.Mode
		first, then string
	}
	const interrupt = `[{"id":"#I","value":"Please provide feedback: foo bar"}]`
	for _, g := range []golden{
		{
			modes: []fermata.Mode{fermata.StreamUpdates},
			first: `{"step_1":"foo bar"}` + "\n" + `{"__interrupt__":` + interrupt + "}\n",
			then:  `{"human_feedback":"foo bar baz"}` + "\n" + `{"step_3":"foo bar baz qux"}` + "\n" + `{"graph":"foo bar baz qux"}` + "\n",
		},
		{
			modes: []fermata.Mode{fermata.StreamValues},
			first: `{"__interrupt__":` + interrupt + "}\n",
			then:  "null\n" + `"foo bar baz qux"` + "\n",
		},
		{modes: []fermata.Mode{fermata.StreamCustom, fermata.StreamMessages}},
		{
			modes: []fermata.Mode{fermata.StreamTasks},
			first: `{"id":"#G","input":"foo","name":"graph","triggers":["__start__"]}
{"id":"#A","input":[["foo"],{}],"name":"step_1","triggers":["__pregel_push"]}
{"error":null,"id":"#A","interrupts":[],"name":"step_1","result":{"__return__":"foo bar"}}
{"id":"#H","input":[["foo bar"],{}],"name":"human_feedback","triggers":["__pregel_push"]}
{"error":null,"id":"#G","interrupts":` + interrupt + `,"name":"graph","result":{}}
`,
			then: `{"id":"#G","input":"foo","name":"graph","triggers":["__start__"]}
{"id":"#A","input":[["foo"],{}],"name":"step_1","triggers":["__pregel_push"]}
{"id":"#H","input":[["foo bar"],{}],"name":"human_feedback","triggers":["__pregel_push"]}
{"error":null,"id":"#H","interrupts":[],"name":"human_feedback","result":{"__return__":"foo bar baz"}}
{"id":"#Q","input":[["foo bar baz"],{}],"name":"step_3","triggers":["__pregel_push"]}
{"error":null,"id":"#Q","interrupts":[],"name":"step_3","result":{"__return__":"foo bar baz qux"}}
{"error":null,"id":"#G","interrupts":[],"name":"graph","result":{"__end__":"foo bar baz qux"}}
`,
		},
		{
			modes: []fermata.Mode{fermata.StreamCheckpoints},
			first: `{"config":{"configurable":{"checkpoint_id":"#G","checkpoint_ns":"","thread_id":"1"}},"metadata":{"parents":{},"source":"input","step":-1},"next":["graph"],"parent_config":null,"tasks":[{"id":"#G","interrupts":[],"name":"graph","state":null}],"values":null}
`,
			then: `{"config":{"configurable":{"checkpoint_id":"#G","checkpoint_ns":"","thread_id":"1"}},"metadata":{"parents":{},"source":"input","step":-1},"next":["graph"],"parent_config":null,"tasks":[{"id":"#G","interrupts":` + interrupt + `,"name":"graph","state":null}],"values":null}
{"config":{"configurable":{"checkpoint_id":"#E","checkpoint_ns":"","thread_id":"1"}},"metadata":{"parents":{},"source":"loop","step":0},"next":[],"parent_config":{"configurable":{"checkpoint_id":"#G","checkpoint_ns":"","thread_id":"1"}},"tasks":[],"values":"foo bar baz qux"}
`,
		},
		{
			modes: []fermata.Mode{fermata.StreamValues, fermata.StreamUpdates},
			first: `updates {"step_1":"foo bar"}
updates {"__interrupt__":` + interrupt + `}
values {"__interrupt__":` + interrupt + `}
`,
			then: `values null
updates {"human_feedback":"foo bar baz"}
updates {"step_3":"foo bar baz qux"}
updates {"graph":"foo bar baz qux"}
values "foo bar baz qux"
`,
		},
	} {
		t.Run(fmt.Sprint(g.modes), func(t *testing.T) {
			onEach(t, func(ground *ground) {
				t := ground.t
				ground.deploy(nil, graph)
				thread := graph.On(ground.engine).Thread("1")
				run, err := thread.Start(t.Context(), "foo")
				if err != nil {
					t.Fatal(err)
				}
				_, err = run.Result(t.Context())
				// The run's id is that of its first checkpoint and of the entrypoint's call.
				s := script{letters: map[string]string{run.ID().String(): "#G", paused(t, err)[0].ID.String(): "#I", run.ID().String() + ".end": "#E"}}
				first := s.print(t, streamed[string]{Run: run}, g.modes...)
				if run, err = thread.Resume(t.Context(), "baz"); err != nil {
					t.Fatal(err)
				}
				then := s.print(t, streamed[string]{Run: run}, g.modes...)
				rename := func(text string) string {
					for i, name := range []string{"step_1", "human_feedback", "step_3"} {
						if m := regexp.MustCompile(`"id":"(#\d)","input":[^\n]*,"name":"` + name).FindStringSubmatch(first + then); m != nil {
							text = strings.ReplaceAll(text, m[1], "#"+[]string{"A", "H", "Q"}[i]+"!")
						}
					}
					return strings.ReplaceAll(text, "!", "")
				}
				want(t, "first", rename(first), g.first)
				want(t, "then", rename(then), g.then)
			})
		})
	}
}

func TestDebugStreamOfTheSeed(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, graph)
		thread := graph.On(g.engine).Thread("1")
		run, err := thread.Start(t.Context(), "foo")
		if err != nil {
			t.Fatal(err)
		}
		outline := func(run *fermata.Run[string]) string {
			var lines []string
			for _, part := range (streamed[string]{Run: run}).collect(t, fermata.StreamDebug) {
				var e struct {
					Step    int
					Type    string
					Payload struct{ Name string }
				}
				if err := json.Unmarshal(part.Data, &e); err != nil {
					t.Fatal(err)
				}
				lines = append(lines, strings.TrimSpace(fmt.Sprintf("%d %s %s", e.Step, e.Type, e.Payload.Name)))
			}
			return strings.Join(lines, ", ")
		}
		want(t, "first", outline(run), "-1 checkpoint, 0 task graph, 0 task step_1, 0 task_result step_1, 0 task human_feedback, 0 task_result graph")
		if run, err = thread.Resume(t.Context(), "baz"); err != nil {
			t.Fatal(err)
		}
		want(t, "then", outline(run), "-1 checkpoint, 0 task graph, 0 task step_1, 0 task human_feedback, 0 task_result human_feedback, 0 task step_3, 0 task_result step_3, 0 task_result graph, 0 checkpoint")
	})
}

func TestCustomPartsStandBetweenTheRecords(t *testing.T) {
	speaking := fermata.NewTask("speaking", func(ctx context.Context, n int) (int, error) {
		if err := fermata.Emit(ctx, n); err != nil {
			return 0, err
		}
		if err := fermata.EmitMessage(ctx, "token", map[string]any{"user": "bob"}); err != nil {
			return 0, err
		}
		return n, fermata.Emit(ctx, map[string]int{"a": 2})
	})
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
		if err := fermata.Emit(ctx, "start"); err != nil {
			return "", err
		}
		if _, err := speaking.Call(ctx, n); err != nil {
			return "", err
		}
		answer, err := fermata.Interrupt[string](ctx, "go on?")
		if err != nil {
			return "", err
		}
		return answer, fermata.Emit(ctx, "end")
	})
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		run, err := thread.Start(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		modes := []fermata.Mode{fermata.StreamCustom, fermata.StreamMessages, fermata.StreamUpdates}
		var s script
		want(t, "first", s.print(t, streamed[string]{Run: run}, modes...), `custom "start"
custom 1
messages ["token",{"langgraph_node":"speaking","langgraph_step":0,"user":"bob"}]
custom {"a":2}
updates {"speaking":1}
updates {"__interrupt__":[{"id":"#1","value":"go on?"}]}
`)
		if run, err = thread.Resume(t.Context(), "yes"); err != nil {
			t.Fatal(err)
		}
		want(t, "then", s.print(t, streamed[string]{Run: run}, modes...), `custom "end"
updates {"flow":"yes"}
`)
	})
}

// What a function emits stands after its own start and the starts of its calls, under every durability, and is seen
// while the function runs: but for Exit, where all is seen when it is written.
func TestCustomPartsFollowTheStartsBeforeThem(t *testing.T) {
	for _, d := range durabilities {
		t.Run(d.name, func(t *testing.T) {
			onEach(t, func(g *ground) {
				heard := map[string]chan struct{}{}
				for _, text := range []string{"begin", "both", "task"} {
					heard[text] = make(chan struct{})
					if d.mode == fermata.Exit {
						close(heard[text])
					}
				}
				emit := func(ctx context.Context, text string) error {
					err := fermata.Emit(ctx, text)
					<-heard[text]
					return err
				}
				quiet := fermata.NewTask("quiet", func(_ context.Context, n int) (int, error) { return n, nil })
				speak := fermata.NewTask("speak", func(ctx context.Context, n int) (int, error) { return n, emit(ctx, "task") })
				flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
					if _, err := fermata.Version(ctx, "change", 1, 1); err != nil { // a record that nothing waits for
						return 0, err
					}
					if err := emit(ctx, "begin"); err != nil {
						return 0, err
					}
					if _, err := speak.Call(ctx, n); err != nil {
						return 0, err
					}
					a, b := speak.Go(ctx, 1, fermata.Key("again")), quiet.Go(ctx, 2)
					if err := emit(ctx, "both"); err != nil {
						return 0, err
					}
					_, err := fermata.All(ctx, a, b)
					return n, err
				}, fermata.WithDurability(d.mode))
				g.deploy(nil, flow)
				run, err := flow.On(g.engine).Thread("1").Start(g.t.Context(), 1)
				if err != nil {
					g.t.Fatal(err)
				}
				started, at := 0, map[string][]int{} // how many tasks had started, by text
				for part, err := range run.Stream(g.t.Context(), nil, fermata.StreamTasks, fermata.StreamCustom) {
					if err != nil {
						g.t.Fatal(err)
					}
					if part.Mode == fermata.StreamTasks {
						if strings.Contains(string(part.Data), `"__pregel_push"`) {
							started++
						}
						continue
					}
					text := strings.Trim(string(part.Data), `"`)
					if at[text] = append(at[text], started); len(at[text]) == 1 && d.mode != fermata.Exit {
						close(heard[text])
					}
				}
				again := at["task"]
				if len(again) != 2 || again[0] != 1 || again[1] < 2 {
					g.t.Errorf("the task's parts come after %v starts, want 1, and 2 or 3", again)
				}
				delete(at, "task")
				want(g.t, "starts before what the body emits", at, map[string][]int{"begin": {0}, "both": {3}})
			})
		})
	}
}

// The metadata of a message has the run's and the code's, and names the place of the code truly.
func TestMetadataOfAMessage(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		return n, fermata.EmitMessage(ctx, "token", map[string]any{"langgraph_node": "another", "langgraph_step": 99, "user": "ann", "model": "m"})
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		run, err := flow.On(g.engine).Thread("1").Start(g.t.Context(), 1, fermata.Metadata(map[string]string{"user": "bob", "team": "x"}))
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "message", (&script{}).print(g.t, streamed[int]{Run: run}, fermata.StreamMessages),
			`["token",{"langgraph_node":"flow","langgraph_step":0,"model":"m","team":"x","user":"ann"}]`+"\n")
	})
}

func TestStreamOfANestedEntrypoint(t *testing.T) {
	add := fermata.NewTask("add", func(_ context.Context, n int) (int, error) { return n + 1, nil })
	child := fermata.NewEntrypoint("child", func(ctx context.Context, n int) (string, error) {
		n, err := add.Call(ctx, n)
		if err != nil {
			return "", err
		}
		answer, err := fermata.Interrupt[string](ctx, "child-q")
		return fmt.Sprint(n, answer), err
	})
	parent := fermata.NewEntrypoint("parent", func(ctx context.Context, n int) (string, error) {
		s, err := child.Call(ctx, n)
		if err != nil {
			return "", err
		}
		n, err = add.Call(ctx, 100)
		return fmt.Sprint(s, n), err
	})
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, parent)
		thread := parent.On(g.engine).Thread("1")
		run, err := thread.Start(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		s := script{letters: map[string]string{run.ID().String(): "#P"}}
		nested := &fermata.StreamOptions{Nested: true}
		want(t, "first", s.print(t, streamed[string]{run, nested}), `parent:#P {"add":2}
{"__interrupt__":[{"id":"#1","value":"child-q"}]}
`)
		if run, err = thread.Resume(t.Context(), "R"); err != nil {
			t.Fatal(err)
		}
		want(t, "nested", s.print(t, streamed[string]{run, nested}), `parent:#P {"child":"2R"}
{"add":101}
{"parent":"2R101"}
`)
		want(t, "without", s.print(t, streamed[string]{run, nil}), `{"add":101}
{"parent":"2R101"}
`)
	})
}

// An input that is too large to be recorded is said to be left out, and is the same for who reads it later.
func TestLargeInputIsSaidToBeLeftOut(t *testing.T) {
	big := fermata.NewTask("big", func(_ context.Context, s string) (int, error) { return len(s), nil })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		return big.Call(ctx, strings.Repeat("x", n))
	})
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, flow)
		for n, input := range map[int]string{62: `"input":[["` + strings.Repeat("x", 62) + `"],{}]`, 63: `"input":null,"input_omitted":true`} {
			thread := flow.On(g.engine).Thread(fmt.Sprint(n))
			run, err := thread.Start(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			var s script
			live := s.print(t, streamed[int]{Run: run}, fermata.StreamTasks)
			want(t, fmt.Sprint("start with ", n+2, " bytes"), strings.Split(live, "\n")[1], `{"id":"#2",`+input+`,"name":"big","triggers":["__pregel_push"]}`)
			if run, err = thread.Attach(t.Context(), run.ID()); err != nil {
				t.Fatal(err)
			}
			want(t, "read later", s.print(t, streamed[int]{Run: run}, fermata.StreamTasks), live)
		}
	})
}

// A finished thread that is continued has the value that it has, not the one before, and so has a fork at an end.
func TestStreamOfARunInWhichNothingRuns(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(_ context.Context, n int) (int, error) { return 10 * n, nil })
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		var ends []string
		for n := 1; n <= 2; n++ {
			run, err := thread.Start(t.Context(), n)
			result(t, run, err)
			ends = append(ends, run.ID().String()+".end")
		}
		modes := []fermata.Mode{fermata.StreamUpdates, fermata.StreamValues, fermata.StreamTasks, fermata.StreamCheckpoints}
		id := func(end string) string { return strings.TrimSuffix(end, ".end") }
		config := func(id string) string {
			return `{"configurable":{"checkpoint_id":"` + id + `","checkpoint_ns":"","thread_id":"1"}}`
		}
		last := func(id, parent, source string, step, value int) string {
			return fmt.Sprintf("values %d\n"+`checkpoints {"config":%s,"metadata":{"parents":{},"source":"%s","step":%d},"next":[],"parent_config":%s,"tasks":[],"values":%d}`+"\n",
				value, config(id), source, step, config(parent), value)
		}
		run, err := thread.Continue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		plain := script{letters: map[string]string{}}
		for _, end := range ends {
			plain.letters[end], plain.letters[id(end)] = end, id(end)
		}
		want(t, "continued", plain.print(t, streamed[int]{Run: run}, modes...), last(ends[1], id(ends[1]), "loop", 2, 20))
		if run, err = thread.Fork(t.Context(), fermata.AtCheckpoint(ends[0])); err != nil {
			t.Fatal(err)
		}
		own := run.ID().String() + ".end"
		plain.letters[own] = own
		fork := last(own, ends[0], "fork", 1, 10)
		want(t, "fork at an end", plain.print(t, streamed[int]{Run: run}, modes...), fork)
		if run, err = thread.Attach(t.Context(), run.ID()); err != nil {
			t.Fatal(err)
		}
		want(t, "attached to it", plain.print(t, streamed[int]{Run: run}, modes...), fork)
	})
}

// A fork begins with the value that the thread has there, also where no record is shared.
func TestValuesOfAFork(t *testing.T) {
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
		return fermata.Interrupt[int](ctx, "q")
	})
	onEach(t, func(g *ground) {
		t := g.t
		g.deploy(nil, flow)
		p := play(g, flow, "1")
		p.asks(p.start(1), `"q"`)
		p.returns(p.resume(10), 10)
		q := p.asks(p.start(2), `"q"`)[0]
		p.returns(p.resume(20), 20)
		thread := p.handle()
		const asks = `{"__interrupt__":[{"id":"#1","value":"q"}]}` + "\n"
		for name, c := range map[string]struct {
			point  fermata.ForkPoint
			values string
		}{
			"input":           {fermata.AtCheckpoint(q.Run.String()), "10\n" + asks},
			"before question": {fermata.BeforeQuestion(q.ID), "10\n" + asks},
			"after question":  {fermata.AfterQuestion(q.ID), "10\n20\n"},
		} {
			run, err := thread.Fork(t.Context(), c.point, fermata.Supersede())
			if err != nil {
				t.Fatal(err)
			}
			want(t, name, (&script{}).print(t, streamed[int]{Run: run}, fermata.StreamValues), c.values)
			if run, err = thread.Attach(t.Context(), run.ID()); err != nil {
				t.Fatal(err)
			}
			want(t, name+", attached", (&script{}).print(t, streamed[int]{Run: run}, fermata.StreamValues), c.values)
		}
	})
}

// A body returns, and a task that nobody awaits asks: the run that is resumed ends with the result that was announced.
func TestRunThatAskedAfterItsResultEndsWithIt(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		announced := make(chan struct{})
		ask := fermata.NewTask("ask", func(ctx context.Context, n int) (int, error) {
			<-announced
			return fermata.Interrupt[int](ctx, "q")
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (int, error) {
			ask.Go(ctx, n)
			return 7, nil
		})
		g.deploy(nil, flow)
		thread := flow.On(g.engine).Thread("1")
		run, err := thread.Start(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		var updates []string
		for part, err := range run.Stream(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			if updates = append(updates, string(part.Data)); len(updates) == 1 {
				close(announced)
			}
		}
		want(t, "first update", updates[0], `{"flow":7}`)
		if _, err := thread.State(t.Context()); err != nil {
			t.Fatal(err)
		}
		if run, err = thread.Resume(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		want(t, "resumed", (&script{}).print(t, streamed[int]{Run: run}, fermata.StreamUpdates, fermata.StreamValues, fermata.StreamTasks),
			`tasks {"id":"#1","input":1,"name":"flow","triggers":["__start__"]}
values null
tasks {"id":"#2","input":[[1],{}],"name":"ask","triggers":["__pregel_push"]}
updates {"ask":5}
tasks {"error":null,"id":"#2","interrupts":[],"name":"ask","result":{"__return__":5}}
tasks {"error":null,"id":"#1","interrupts":[],"name":"flow","result":{"__end__":7}}
values 7
`)
		want(t, "last checkpoint", len(partsOf(t, run, "", false, fermata.StreamCheckpoints)), 2)
	})
}

func TestUnawaitedTaskEndsBeforeTheRunDoes(t *testing.T) {
	onEach(t, func(g *ground) {
		t := g.t
		returned := make(chan struct{})
		background := fermata.NewTask("bg", func(ctx context.Context, n int) (int, error) {
			<-returned
			return n, nil
		})
		flow := fermata.NewEntrypoint("ff", func(ctx context.Context, n int) (string, error) {
			background.Go(ctx, n)
			return "done", nil
		})
		g.deploy(nil, flow)
		run, err := flow.On(g.engine).Thread("1").Start(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for event, err := range run.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			line, err := json.Marshal(event)
			if err != nil {
				t.Fatal(err)
			}
			if lines = append(lines, string(line)); len(lines) == 1 {
				close(returned)
			}
		}
		want(t, "events", lines, []string{`{"ff":"done"}`, `{"bg":1}`})
	})
}
