package crashtest

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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sqlite"
)

// child is a process under way.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	said   chan string // its lines; closed at its end
	stderr bytes.Buffer
	done   chan struct{}
}

// birth starts a child. It is killed when the test ends, if it still runs then.
func birth(t *testing.T, o orders) *child {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, said: make(chan string, 1000), done: make(chan struct{})}
	c.cmd = exec.Command(program)
	c.cmd.Env = append(os.Environ(), ordersVariable+"="+string(text), "GORACE=atexit_sleep_ms=0")
	c.cmd.Stderr = &c.stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.done)
		defer close(c.said)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			c.said <- lines.Text()
		}
		c.cmd.Wait() // what matters of its error is in ProcessState
	}()
	t.Cleanup(c.kill)
	return c
}

// kill ends the child with SIGKILL and returns when it is gone.
func (c *child) kill() {
	c.cmd.Process.Kill() // an error means that it has ended already
	<-c.done
}

// hear returns the next thing that the child says. One that is silent for long has to show its stacks.
func (c *child) hear() string {
	c.t.Helper()
	const long = 3 * time.Minute
	silent := time.AfterFunc(long, func() { c.cmd.Process.Signal(syscall.SIGQUIT) })
	defer silent.Stop()
	line, ok := <-c.said
	if !ok {
		c.end()
		c.t.Fatalf("a child ended too early, or was silent for %v (%s)", long, c.cmd.ProcessState)
	}
	return line
}

// hearUntil returns when the child has said want.
func (c *child) hearUntil(want string) {
	c.t.Helper()
	for said := ""; said != want; {
		said = c.hear()
	}
}

// expect fails the test unless the child says want next.
func (c *child) expect(want string) {
	c.t.Helper()
	if got := c.hear(); got != want {
		c.t.Fatalf("a child said %q, want %q", got, want)
	}
}

// end waits for the end of the child and returns what it has said. It has nothing to complain of.
func (c *child) end() (said []string) {
	c.t.Helper()
	for line := range c.said {
		said = append(said, line)
	}
	<-c.done
	if c.stderr.Len() > 0 {
		c.t.Errorf("a child said:\n%s", c.stderr.String())
	}
	return said
}

// place is a database and a ledger.
func place(t *testing.T) orders {
	dir := t.TempDir()
	return orders{DB: filepath.Join(dir, "crash.db"), Ledger: filepath.Join(dir, "ledger"), Thread: "1"}
}

// entry is a line of the ledger: a step's effect, and the process that made it.
type entry struct{ pid, step int }

func (o *orders) ledger(t *testing.T) []entry {
	t.Helper()
	text, err := os.ReadFile(o.Ledger)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var entries []entry
	for line := range strings.Lines(string(text)) {
		var e entry
		if _, err := fmt.Sscanf(line, "%d %d\n", &e.pid, &e.step); err != nil {
			t.Fatalf("ledger has %q: %v", line, err)
		}
		entries = append(entries, e)
	}
	return entries
}

func (o *orders) steps(t *testing.T) (steps []int) {
	t.Helper()
	for _, e := range o.ledger(t) {
		steps = append(steps, e.step)
	}
	return steps
}

func sumTo(n int) int { return n * (n + 1) / 2 }

func TestKilledInsideATask(t *testing.T) {
	t.Parallel()
	o := place(t)
	o.Verb = "line"
	var want []int
	for n := 1; n <= lineLength; n++ {
		want = append(want, n)
		if n != 1 && n != 7 && n != lineLength/2 && n != lineLength {
			continue
		}
		o.HangIn = []int{n}
		c := birth(t, o)
		c.hearUntil(fmt.Sprint("inside ", n))
		c.kill()
		want = append(want, n) // it has no outcome, so the next process calls it again
	}
	o.HangIn = nil
	c := birth(t, o)
	said := c.end()
	if last := said[len(said)-1]; last != fmt.Sprint("result ", sumTo(lineLength)) {
		t.Errorf("the last child said %q", last)
	}
	if got := o.steps(t); !slices.Equal(got, want) {
		t.Errorf("effects:\ngot  %v\nwant %v", got, want)
	}
}

// TestKilledAnywhere kills a line and a fan of steps at random moments until they have ended.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, shape := range []struct {
		verb string
		size int
	}{{"line", lineLength}, {"fan", fanWidth}} {
		t.Run(shape.verb, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			rounds := 4
			if testing.Short() {
				rounds = 1
			}
			for range rounds {
				o := place(t)
				o.Verb = shape.verb
				killAnywhere(t, random, o, shape.size)
			}
		})
	}
}

func killAnywhere(t *testing.T, random *rand.Rand, o orders, size int) {
	t.Helper()
	durable := map[int]int{} // step to the process that learned of its result
	var life time.Duration   // of a child from its start to its first word
	kills := 1 + random.IntN(8)
	for finished := false; !finished; kills-- {
		began := time.Now()
		c := birth(t, o)
		after := 1 + random.IntN(size) // words
		pause := time.Duration(random.Int64N(int64(max(1, life/4))))
		for line := range c.said {
			life = max(life, time.Since(began))
			word, rest, _ := strings.Cut(line, " ")
			n, err := strconv.Atoi(rest)
			switch {
			case word == "result" && err == nil && n == sumTo(size):
				finished = true
			case word == "durable" && err == nil:
				durable[n] = c.cmd.Process.Pid
			default:
				t.Fatalf("a child said %q", line)
			}
			if after--; after == 0 && kills > 0 {
				time.AfterFunc(pause, func() { c.cmd.Process.Kill() })
			}
		}
		c.end()
	}
	// A step whose result was known in one process is never done in a later one.
	pids := []int{}
	did := map[int]int{}
	for _, e := range o.ledger(t) {
		if len(pids) == 0 || pids[len(pids)-1] != e.pid {
			pids = append(pids, e.pid)
		}
		if before, known := durable[e.step]; known && slices.Contains(pids, before) && before != e.pid {
			t.Errorf("step %d was done by process %d, and again by %d", e.step, before, e.pid)
		}
		if did[e.step] == e.pid {
			t.Errorf("step %d was done twice by process %d", e.step, e.pid)
		}
		did[e.step] = e.pid
	}
	if len(did) != size {
		t.Errorf("%d of %d steps were done", len(did), size)
	}
}

// TestEightAnswersAtOnce has eight living processes answer the same question at the same moment.
func TestEightAnswersAtOnce(t *testing.T) {
	t.Parallel()
	o := place(t)
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	ctx := t.Context()
	backend, err := sqlite.Open(o.DB, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	line, fan := o.workflows()
	engine, err := fermata.New(backend, &fermata.Options{Workers: -1}, line, fan)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.WithoutCancel(ctx))

	o.Verb = "answer"
	var children [8]*child
	for i := range children {
		children[i] = birth(t, o)
	}
	for _, c := range children {
		c.expect("ready")
	}
	for i := range rounds {
		thread := fmt.Sprint("thread ", i)
		if _, err := line.On(engine).Thread(thread).Invoke(ctx, 4); !errors.Is(err, fermata.ErrPaused) {
			t.Fatalf("the run doesn't wait: %v", err)
		}
		before := len(o.ledger(t))
		for _, c := range children {
			io.WriteString(c.stdin, thread+"\n")
			c.expect("read interrupted")
		}
		for _, c := range children {
			io.WriteString(c.stdin, "go\n")
		}
		won := 0
		for _, c := range children {
			switch said := c.hear(); {
			case said == fmt.Sprint("won ", sumTo(4)):
				won++
			case strings.HasPrefix(said, "told fermata: "):
				if !slices.ContainsFunc([]string{"question already answered", "thread has a running run", "no open question", "thread changed since it was read"}, func(s string) bool { return strings.Contains(said, s) }) {
					t.Errorf("round %d: a child was %s", i, said)
				}
			default:
				t.Errorf("round %d: a child said %q", i, said)
			}
		}
		if won != 1 {
			t.Errorf("round %d: %d have won", i, won)
		}
		if did := o.steps(t)[before:]; !slices.Equal(did, []int{2, 3, 4}) {
			t.Errorf("round %d: steps %v were done after the answer", i, did)
		}
	}
	for _, c := range children {
		c.stdin.Close()
		c.end()
	}
}
