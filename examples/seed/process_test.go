package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/google/go-cmp/cmp"
)

// binary is the program under test, as go build makes it.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fermata-seed-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "seed")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.Command("go", append([]string{"build", "-o", binary}, append(buildFlags, ".")...)...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// place is a database and a thread in it, for processes to meet at.
type place struct{ db, thread string }

func newPlace(t *testing.T) place { return place{filepath.Join(t.TempDir(), "seed.db"), "1"} }

// process is a program under way.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan string // its lines on standard output
	stderr bytes.Buffer
	done   chan struct{} // closed when it has ended; then stderr and code may be read
	code   int           // -1 if a signal ended it
}

// launch starts the program. It is killed when the test ends, if it still runs then.
func (p place) launch(t *testing.T, args ...string) *process {
	t.Helper()
	x := &process{t: t, events: make(chan string, 100), done: make(chan struct{})}
	x.cmd = exec.Command(binary, append([]string{"-db", p.db, "-thread", p.thread}, args...)...)
	x.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // it would sleep a second before its end
	x.cmd.Stderr = &x.stderr
	var err error
	if x.stdin, err = x.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := x.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(x.done)
		defer close(x.events)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			x.events <- lines.Text()
		}
		x.cmd.Wait() // its error is what code says
		x.code = x.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(x.kill)
	return x
}

// kill ends the process with SIGKILL and returns when it is gone.
func (x *process) kill() {
	x.cmd.Process.Kill() // an error means that it has ended already
	<-x.done
}

// ended is what a process left behind.
type ended struct {
	events []string
	stderr string
	code   int
}

// wait returns when the process has ended, with the events that were not taken yet.
func (x *process) wait() ended {
	x.t.Helper()
	var e ended
	for line := range x.events {
		e.events = append(e.events, line)
	}
	<-x.done
	e.stderr, e.code = x.stderr.String(), x.code
	for _, fault := range []string{"panic", "database is locked", "DATA RACE"} {
		if strings.Contains(e.stderr, fault) {
			x.t.Errorf("a process said:\n%s", e.stderr)
		}
	}
	for _, line := range e.events {
		if !json.Valid([]byte(line)) {
			x.t.Errorf("standard output has a line that is no JSON document: %q", line)
		}
	}
	return e
}

// next returns the next event.
func (x *process) next() string {
	x.t.Helper()
	line, ok := <-x.events
	if !ok {
		x.t.Fatalf("the process ended; it said:\n%s", x.wait().stderr)
	}
	return line
}

// run runs the program to its end.
func (p place) run(t *testing.T, args ...string) ended {
	t.Helper()
	return p.launch(t, args...).wait()
}

// outcome reads what the database says of the thread.
func (p place) outcome(t *testing.T) *fermata.State[string] {
	t.Helper()
	backend, err := sqlite.Open(p.db, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	engine, err := fermata.New(backend, &fermata.Options{Workers: -1}, graph)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.Background())
	state, err := graph.On(engine).Thread(p.thread).State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

const (
	step1Event = `{"step_1":"foo bar"}`
	askedEvent = `{"__interrupt__":[{"value":"Please provide feedback: foo bar","id":"ID"}]}`
)

// afterAnswer are the events of a run from the answer on.
func afterAnswer(answer string) []string {
	return []string{
		`{"human_feedback":"foo bar ` + answer + `"}`,
		`{"step_3":"foo bar ` + answer + ` qux"}`,
		`{"graph":"foo bar ` + answer + ` qux"}`,
	}
}

var idPattern = regexp.MustCompile(`[0-9a-f]{32}`)

// anyID replaces the ids in events, which are different in each run.
func anyID(events ...string) []string {
	var out []string
	for _, event := range events {
		out = append(out, idPattern.ReplaceAllString(event, "ID"))
	}
	return out
}

func (e ended) check(t *testing.T, code int, events ...string) {
	t.Helper()
	if e.code != code {
		t.Errorf("exit status %d, want %d; it said:\n%s", e.code, code, e.stderr)
	}
	if diff := cmp.Diff(events, anyID(e.events...)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.run(t, "start", "foo").check(t, 0, step1Event, askedEvent)
	p.run(t, "resume", "baz").check(t, 0, afterAnswer("baz")...)
	p.run(t, "start", "again").check(t, 0,
		`{"step_1":"again bar"}`, `{"__interrupt__":[{"value":"Please provide feedback: again bar","id":"ID"}]}`)
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	says := func(e ended, code int, want string) {
		t.Helper()
		e.check(t, code)
		if !strings.Contains(e.stderr, want) {
			t.Errorf("it said:\n%swhich doesn't have %q", e.stderr, want)
		}
	}
	says(p.run(t, "resume", "baz"), 1, "unknown thread")
	says(p.run(t, "resume"), 2, "usage: seed")
	says(p.run(t, "start", "foo", "bar"), 2, "usage: seed")
	says(p.run(t, "stop", "foo"), 2, "usage: seed")
	says(p.run(t, "-frobnicate"), 2, "usage: seed")
	says(place{p.db, strings.Repeat("x", 10<<10)}.run(t, "start", "foo"), 1, "bad thread id")
	says(place{t.TempDir(), "1"}.run(t, "start", "foo"), 1, "it is a directory")

	p.run(t, "start", "foo").check(t, 0, step1Event, askedEvent)
	says(p.run(t, "start", "foo"), 1, "thread has an open question")
	p.run(t, "resume", "baz").check(t, 0, afterAnswer("baz")...)
	says(p.run(t, "resume", "late"), 1, "no open question")
	if state := p.outcome(t); state.Value != "foo bar baz qux" {
		t.Errorf("the thread's value is %q", state.Value)
	}
}

// ask starts the program as a person does, up to the question.
func (p place) ask(t *testing.T, events ...string) (x *process, question string) {
	t.Helper()
	x = p.launch(t)
	for _, want := range events {
		if got := x.next(); got != want {
			t.Fatalf("event %s, want %s", got, want)
		}
	}
	question = x.next()
	if got := anyID(question)[0]; got != askedEvent {
		t.Fatalf("event %s, want %s", got, askedEvent)
	}
	return x, question
}

// answer types a line, and returns what the process did from then on.
func (x *process) answer(line string) ended {
	x.t.Helper()
	if _, err := io.WriteString(x.stdin, line+"\n"); err != nil {
		x.t.Fatal(err)
	}
	return x.wait()
}

func TestKilledAtTheQuestion(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	x, question := p.ask(t, step1Event)
	x.kill()
	for range 3 {
		again, same := p.ask(t) // without step_1
		if same != question {
			t.Errorf("asked %s, before %s", same, question)
		}
		again.kill()
	}
	x, _ = p.ask(t)
	x.answer("baz").check(t, 0, afterAnswer("baz")...)

	x, _ = p.ask(t, step1Event) // the thread is free for the next run
	x.stdin.Close()
	x.wait().check(t, 0)
}

func TestStoppedAtTheQuestion(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process can't be sent an interrupt there")
	}
	t.Parallel()
	p := newPlace(t)
	x, question := p.ask(t, step1Event)
	if err := x.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	stopped := x.wait()
	stopped.check(t, 0)
	if !strings.Contains(stopped.stderr, "stays open") {
		t.Errorf("it said:\n%s", stopped.stderr)
	}
	x, same := p.ask(t)
	if same != question {
		t.Errorf("asked %s, before %s", same, question)
	}
	x.answer("baz").check(t, 0, afterAnswer("baz")...)
}

// TestReadme holds the terminal in README.md to what is really printed.
func TestReadme(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process can't be sent an interrupt there")
	}
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "<!-- printed by examples/seed -->\n```console\n")
	shown, _, found := strings.Cut(rest, "```")
	sessions := strings.Split(shown, "$ go run ./examples/seed\n")
	if !found || len(sessions) != 3 {
		t.Fatalf("README.md shows %d sessions, want 2", len(sessions)-1)
	}
	p := newPlace(t)
	for i, session := range sessions[1:] {
		terminal, stdin, cmd := p.terminal(t)
		want, typed := strings.Replace(session, "^C", "", 1), "" // the terminal shows what is typed
		if want == session {
			want, typed = strings.Replace(session, "baz\n", "", 1), "baz\n"
		}
		var got strings.Builder
		for b := make([]byte, 4096); ; {
			n, err := terminal.Read(b)
			got.Write(b[:n])
			if err != nil {
				break
			}
			if !strings.HasSuffix(got.String(), "> ") {
				continue
			}
			if typed == "" {
				err = cmd.Process.Signal(os.Interrupt)
			} else {
				_, err = io.WriteString(stdin, typed)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(anyID(want), anyID(got.String())); diff != "" {
			t.Errorf("session %d (-README.md +now):\n%s", i+1, diff)
		}
	}
}

// terminal starts the program with both outputs in one place, as a terminal has them.
func (p place) terminal(t *testing.T) (output io.Reader, stdin io.Writer, cmd *exec.Cmd) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(binary, "-db", p.db)
	cmd.Stdout, cmd.Stderr = w, w
	if stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		r.Close()
	})
	return r, stdin, cmd
}

// TestKilledAnywhere kills the program at random points of its life, again and
// again, until it has come to its end. Whatever was lost, it goes on to the
// same result, and what one process has reported as done no other does again.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	rounds := 10
	if testing.Short() {
		rounds = 5
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	began := time.Now()
	newPlace(t).run(t, "start", "foo").check(t, 0, step1Event, askedEvent)
	life := time.Since(began)

	p := newPlace(t)
	killed := 0
	for i := range rounds {
		p.thread = fmt.Sprint(i)
		state, events := &fermata.State[string]{}, []string(nil)
		for kills := random.IntN(6); state.Status != fermata.Finished; kills-- {
			verb := []string{"resume", "baz"}
			if state.Run.IsZero() {
				verb = []string{"start", "foo"}
			}
			x := p.launch(t, verb...)
			if kills > 0 {
				time.AfterFunc(time.Duration(random.Int64N(int64(life))), func() { x.cmd.Process.Kill() })
			}
			e := x.wait()
			switch {
			case e.code < 0:
				killed++
			case e.code > 0 && !strings.Contains(e.stderr, "no open question"):
				t.Fatalf("round %d: exit status %d; it said:\n%s", i, e.code, e.stderr)
			}
			events = append(events, anyID(e.events...)...)
			state = p.outcome(t)
		}
		if state.Value != "foo bar baz qux" || len(state.Questions) > 0 {
			t.Errorf("round %d: the thread's value is %q, %d questions are open", i, state.Value, len(state.Questions))
		}
		all := append([]string{step1Event, askedEvent}, afterAnswer("baz")...)
		for _, event := range events {
			at := slices.Index(all, event)
			if at < 0 {
				t.Fatalf("round %d: %s came twice or out of order in %q", i, event, events)
			}
			all = all[at+1:]
		}
	}
	t.Logf("%d processes were killed", killed)
}

// TestEightStarts has eight processes make the database and start runs, each on
// its own thread; then all on one.
func TestEightStarts(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	all := func(thread func(n int) string) (started int) {
		t.Helper()
		var processes [8]*process
		for n := range processes {
			processes[n] = place{p.db, thread(n)}.launch(t, "start", "foo")
		}
		for _, x := range processes {
			e := x.wait()
			if e.code == 0 {
				e.check(t, 0, step1Event, askedEvent)
				started++
				continue
			}
			e.check(t, 1)
			if !busy.MatchString(e.stderr) {
				t.Errorf("a process that lost said:\n%s", e.stderr)
			}
		}
		return started
	}
	if started := all(func(n int) string { return fmt.Sprint("own ", n) }); started != 8 {
		t.Errorf("%d of 8 processes have started a run on their own thread", started)
	}
	if started := all(func(int) string { return "shared" }); started != 1 {
		t.Errorf("%d processes have started a run on the same thread", started)
	}
}

var busy = regexp.MustCompile(`thread has an open question|thread has a running run`)

// TestEightAnswers has eight processes answer one question at once. One
// answer wins; the others are told so, and change nothing.
func TestEightAnswers(t *testing.T) {
	t.Parallel()
	rounds := 5
	if testing.Short() {
		rounds = 1
	}
	told := regexp.MustCompile(`question already answered|run has ended|no open question|thread has a running run|thread changed since it was read`)
	p := newPlace(t)
	for i := range rounds {
		p.thread = fmt.Sprint(i)
		p.run(t, "start", "foo").check(t, 0, step1Event, askedEvent)
		var all sync.WaitGroup
		var answers [8]ended
		for n := range answers {
			x := p.launch(t, "resume", fmt.Sprint("answer", n))
			all.Go(func() { answers[n] = x.wait() })
		}
		all.Wait()
		winner := -1
		for n, e := range answers {
			if e.code == 0 {
				if winner >= 0 {
					t.Errorf("both %d and %d have won", winner, n)
				}
				winner = n
				e.check(t, 0, afterAnswer(fmt.Sprint("answer", n))...)
				continue
			}
			e.check(t, 1)
			if !told.MatchString(e.stderr) {
				t.Errorf("answer %d lost and was told:\n%s", n, e.stderr)
			}
		}
		if winner < 0 {
			t.Fatal("no answer has won")
		}
		if state, want := p.outcome(t), fmt.Sprintf("foo bar answer%d qux", winner); state.Value != want {
			t.Errorf("the thread's value is %q, the winner got %q", state.Value, want)
		}
	}
}
