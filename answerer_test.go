package fermata_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
)

// onShared runs a test on each database that processes can share; a name is what testdata/answerer is told.
func onShared(t *testing.T, f func(t *testing.T, database string)) {
	t.Helper()
	for backend, name := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "test.db") },
		"postgres": func(t *testing.T) string { return pgtest.DSN(t) },
	} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			f(t, name(t))
		})
	}
}

// openShared opens such a database.
func openShared(t *testing.T, name string, offset func() time.Duration) storage.Backend {
	t.Helper()
	var backend storage.Backend
	var err error
	if file, ok := strings.CutPrefix(name, "sqlite:"); ok {
		backend, err = sqlite.Open(file, &sqlite.Options{Offset: offset})
	} else {
		backend, err = postgres.Open(t.Context(), name, &postgres.Options{Offset: offset, Connections: 4})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	return backend
}

// answerer is a process of testdata/answerer, which knows no workflow.
type answerer struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// answererOrder is what it is told.
type answererOrder struct {
	Question fermata.ID        `json:"question"`
	Answers  []json.RawMessage `json:"answers"`
	Clock    time.Time         `json:"clock"`
	Expire   bool              `json:"expire"`
}

// startAnswerers starts n processes, which end with the test.
func startAnswerers(t *testing.T, n int, database string) []*answerer {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "answerer")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./testdata/answerer")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var all []*answerer
	for range n {
		c := exec.CommandContext(context.WithoutCancel(t.Context()), binary, database)
		c.Stderr = os.Stderr
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			if err := c.Wait(); err != nil {
				t.Errorf("answerer: %v", err)
			}
		})
		all = append(all, &answerer{t, in, bufio.NewReader(out)})
	}
	return all
}

func (a *answerer) tell(o answererOrder) {
	a.t.Helper()
	if err := json.NewEncoder(a.in).Encode(o); err != nil {
		a.t.Fatal(err)
	}
}

// said is what came of the answers of the next order.
func (a *answerer) said() (said []string) {
	a.t.Helper()
	line, err := a.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil {
		a.t.Fatalf("answerer said %q: %v", line, err)
	}
	return said
}

// A program that is linked without the workflow, and without the question's declaration, refuses bad answers too.
func TestBadAnswersOfAProgramWithoutTheWorkflow(t *testing.T) {
	t.Parallel()
	onShared(t, func(t *testing.T, database string) {
		approve := fermata.NewQuestion[proposal, ruling]("bad_answers_elsewhere")
		c := &calls{}
		flow := askingFlow("flow", c, func(ctx context.Context) (string, error) {
			r, err := approve.Ask(ctx, proposal{"ada", 1000})
			return r.Note, err
		})
		engine, err := fermata.New(openShared(t, database, nil), nil, flow)
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close(context.Background())
		g := &ground{t: t, engine: engine}
		q := g.ask(flow, "1")
		c.take()
		bad := []string{
			`7`, `-0.5`, `null`, `true`, `"yes"`, `""`, `[]`, `[true]`, `{}`, `{"approved":true}`, `{"limit":1}`,
			`{"approved":"yes","limit":1}`, `{"approved":1,"limit":1}`, `{"approved":null,"limit":1}`, `{"approved":true,"limit":"1"}`,
			`{"approved":true,"limit":1.5}`, `{"approved":true,"limit":null}`, `{"approved":true,"limit":1,"extra":true}`,
			`{"approved":true,"limit":1,"note":7}`, `{"Approved":true,"Limit":1}`,
		}
		o := answererOrder{Question: q.ID}
		for _, answer := range bad {
			o.Answers = append(o.Answers, json.RawMessage(answer))
		}
		elsewhere := startAnswerers(t, 1, database)[0]
		elsewhere.tell(o)
		for i, said := range elsewhere.said() {
			want(t, bad[i], said, "invalid")
		}
		if s := g.rest(flow, "1"); s.Status != fermata.Interrupted || len(s.Questions) != 1 || s.Questions[0].ID != q.ID {
			t.Errorf("run is %s with %d questions, want it to wait as before", s.Status, len(s.Questions))
		}
		want(t, "calls of the body", c.take()["body"], 0)
		elsewhere.tell(answererOrder{Question: q.ID, Answers: []json.RawMessage{json.RawMessage(`{"approved":true,"limit":5,"note":"good"}`)}})
		want(t, "a good answer", elsewhere.said(), []string{"accepted"})
		want(t, "result", g.end(flow, "1"), "good")
	})
}

// Three processes, whose clocks are a millisecond before or after the deadline of a question, answer
// it, and those that are late expire what is due: one of them wins, and all are told which.
func TestAnswerAgainstExpiryFromThreeProcesses(t *testing.T) {
	t.Parallel()
	onShared(t, func(t *testing.T, database string) {
		const perBatch = 200 // that are asked before they are raced for
		// The clock of the process that has the workflow. It stands still, ahead of what the others have done.
		var clock atomic.Int64
		clock.Store(time.Now().UnixNano())
		wentOn := &calls{}
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, n int) (string, error) {
			answer, err := fermata.Interrupt[string](ctx, "?", fermata.Deadline(time.Hour+time.Duration(n%perBatch)*time.Second))
			if err != nil && !errors.Is(err, fermata.ErrExpired) {
				return "", err
			}
			wentOn.add(fmt.Sprint(n))
			return answer, nil
		})
		backend := openShared(t, database, func() time.Duration { return time.Until(time.Unix(0, clock.Load())) })
		engine, err := fermata.New(backend, nil, flow)
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close(context.Background())
		racers := startAnswerers(t, 3, database)
		ends := map[fermata.QuestionState]int{}
		for first := 0; first < *expiryRounds; first += perBatch {
			questions := askAtOnce(t, engine, flow, first, min(perBatch, *expiryRounds-first))
			said := make([][]string, len(questions))
			for i, q := range questions {
				for n, r := range racers {
					o := answererOrder{Question: q.ID, Clock: q.Deadline.Add(-time.Millisecond), Answers: []json.RawMessage{json.RawMessage(fmt.Sprintf(`"%d"`, n))}}
					if rand.IntN(2) == 0 {
						o.Clock, o.Expire = q.Deadline.Add(time.Millisecond), true
					}
					r.tell(o)
				}
				for _, r := range racers {
					said[i] = append(said[i], r.said()...)
				}
			}
			clock.Store(questions[len(questions)-1].Deadline.Add(time.Second).UnixNano())
			for i, q := range questions {
				ends[checkRace(t, engine, flow, q, said[i])]++
			}
		}
		for thread, n := range wentOn.take() {
			if n != 1 {
				t.Errorf("thread %s went on %d times", thread, n)
			}
		}
		t.Logf("%d answered, %d expired", ends[fermata.QuestionAnswered], ends[fermata.QuestionExpired])
	})
}

// askAtOnce makes n threads ask, and returns their questions by their deadlines.
func askAtOnce(t *testing.T, engine *fermata.Engine, flow *fermata.Entrypoint[int, string], first, n int) []fermata.Question {
	t.Helper()
	questions := make([]fermata.Question, n)
	var next atomic.Int64
	var askers sync.WaitGroup
	for range min(n, 16) {
		askers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				_, err := flow.On(engine).Thread(fmt.Sprint(first+i)).Invoke(t.Context(), first+i)
				var p *fermata.PausedError
				if !errors.As(err, &p) || len(p.Questions) != 1 {
					t.Errorf("thread %d: %v", first+i, err)
					return
				}
				questions[i] = p.Questions[0]
			}
		})
	}
	askers.Wait()
	if t.Failed() {
		t.FailNow()
	}
	slices.SortFunc(questions, func(a, b fermata.Question) int { return a.Deadline.Compare(b.Deadline) })
	return questions
}

// checkRace returns how a question ended, if the run and all who answered agree on it.
func checkRace(t *testing.T, engine *fermata.Engine, flow *fermata.Entrypoint[int, string], q fermata.Question, said []string) fermata.QuestionState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	state, err := flow.On(engine).Thread(q.Thread).State(ctx)
	for ; err == nil && state.Status != fermata.Finished; state, err = flow.On(engine).Thread(q.Thread).State(ctx) {
		engine.Poke()
	}
	if err != nil {
		t.Fatal(err)
	}
	if q, err = engine.Question(ctx, q.ID); err != nil {
		t.Fatal(err)
	}
	var told []string
	switch winner := slices.Index(said, "accepted"); {
	case winner < 0:
		told = []string{"expired", "expired", "expired"}
		want(t, "state", q.State, fermata.QuestionExpired)
		want(t, "result", state.Value, "")
	default:
		told = []string{"answered", "answered", "answered"}
		told[winner] = "accepted"
		want(t, "state", q.State, fermata.QuestionAnswered)
		want(t, "answer", string(q.Answer), fmt.Sprintf(`"%d"`, winner))
		want(t, "result", state.Value, fmt.Sprint(winner))
	}
	want(t, "what the processes were told of thread "+q.Thread, said, told)
	return q.State
}
