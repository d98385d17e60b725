package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/pgtest"
)

// size is that of the tests under load. FERMATA_LOAD=full is for a machine that has half an hour.
func (o *orders) size() (s struct{ threads, rounds, parked int }) {
	s.threads, s.rounds, s.parked = 200, 1, 2_000
	if os.Getenv("FERMATA_LOAD") == "full" {
		s.rounds, s.parked = 25, 100_000
	}
	if testing.Short() {
		s.threads, s.parked = 40, 500
	}
	if !o.onPostgres() {
		s.rounds *= 4 // what died is taken over at once, so a round is short
	}
	return s
}

// crew are the worker processes of a test.
type crew struct {
	t      *testing.T
	orders orders
	random *rand.Rand
	living []*child

	heard  sync.WaitGroup // what the workers say
	mu     sync.Mutex
	failed map[int]bool // processes that were killed, or that others took for dead
	kills  int
}

// hire adds a worker.
func (c *crew) hire() {
	c.t.Helper()
	worker := birth(c.t, c.orders)
	worker.expect("ready")
	c.living = append(c.living, worker)
	c.heard.Go(func() {
		for line := range worker.said {
			if strings.Contains(line, "membership lost") {
				c.fail(worker.cmd.Process.Pid)
			}
		}
	})
}

func (c *crew) fail(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[pid] = true
}

// killOne kills a worker, and hires another.
func (c *crew) killOne() {
	c.t.Helper()
	i := c.random.IntN(len(c.living))
	victim := c.living[i]
	c.fail(victim.cmd.Process.Pid)
	victim.kill()
	c.living = append(c.living[:i], c.living[i+1:]...)
	c.kills++
	c.hire()
}

// dismiss lets the workers end.
func (c *crew) dismiss() {
	for _, worker := range c.living {
		worker.stdin.Close()
	}
	for _, worker := range c.living {
		<-worker.done
		if worker.stderr.Len() > 0 || !worker.cmd.ProcessState.Success() {
			c.t.Errorf("a worker ended with %v and said:\n%s", worker.cmd.ProcessState, worker.stderr.String())
		}
	}
	c.heard.Wait()
}

// TestWorkersKilledUnderLoad: worker processes are killed at random while many threads run and get answered.
func TestWorkersKilledUnderLoad(t *testing.T) {
	eachPlace(t, func(t *testing.T, o orders) { underLoad(t, o, nil) })
}

// TestServerKilledUnderLoad: the same, and PostgreSQL itself is killed now and then, and starts again.
func TestServerKilledUnderLoad(t *testing.T) {
	server := pgtest.Start(t)
	o := place(t)
	o.DB = server.Database(t)
	underLoad(t, o, func() {
		server.Kill(t)
		server.Restart(t)
	})
}

func underLoad(t *testing.T, o orders, killServer func()) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	o.Verb, o.Takes, o.Tick = "load", true, 500*time.Millisecond
	c := &crew{t: t, orders: o, random: rand.New(rand.NewPCG(seed, 0)), failed: map[int]bool{}}
	const workers = 4
	for range workers {
		c.hire()
	}
	backend, err := o.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	flow := o.rounds()
	engine, err := fermata.New(backend, &fermata.Options{Workers: -1}, flow)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.WithoutCancel(ctx))

	size := o.size()
	began := time.Now()
	var all sync.WaitGroup
	var ended atomic.Int64
	for i := range size.threads {
		all.Go(func() {
			for round := range size.rounds {
				thread := fmt.Sprintf("thread-%d-%d", i, round)
				if err := o.oneRound(ctx, engine, flow.On(engine).Thread(thread)); err != nil {
					t.Errorf("%s: %v", thread, err)
					cancel()
					return
				}
				ended.Add(1)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	servers := 0
	for underway := true; underway; {
		select {
		case <-done:
			underway = false
		case <-time.After(200*time.Millisecond + time.Duration(c.random.IntN(600))*time.Millisecond):
			// A worker that has just come begins with what the dead ones left, so the work
			// goes on whatever the pace. Enough is enough on a slow machine.
			if c.kills < 20*size.rounds {
				c.killOne()
			}
			if killServer != nil && c.kills%4 == 2 && servers < 3*size.rounds {
				killServer()
				servers++
			}
		}
	}
	took := time.Since(began)
	c.dismiss()
	if t.Failed() {
		return
	}
	again := o.audit(ctx, t, engine, c.failed)
	t.Logf("%d runs ended in %v; %d workers and %d servers were killed; %d effects without a record were made again",
		ended.Load(), took.Round(time.Millisecond), c.kills, servers, again)
	if c.kills == 0 {
		t.Error("no worker was killed: the load was over too soon")
	}
}

// oneRound starts a run on a thread, answers what it asks if no worker is faster, and waits for its end.
func (o *orders) oneRound(ctx context.Context, engine *fermata.Engine, thread *fermata.Thread[string, booked]) error {
	run, err := thread.Start(ctx, thread.ID(), fermata.Enqueue())
	if err != nil {
		return err
	}
	for {
		_, err := run.Result(ctx)
		paused, ok := errors.AsType[*fermata.PausedError](err)
		if !ok {
			return err
		}
		for _, q := range paused.Questions {
			if err := o.reply(ctx, engine, q.ID); err != nil {
				return err
			}
		}
	}
}

// audit compares the runs with what the processes noted outside, and returns how many effects
// were made that no run has recorded.
func (o *orders) audit(ctx context.Context, t *testing.T, engine *fermata.Engine, failed map[int]bool) (again int) {
	t.Helper()
	deeds := map[string]deed{}
	for line := range lines(t, o.Ledger) {
		var d deed
		if _, err := fmt.Sscanf(line, deedFormat, &d.PID, &d.Name, &d.Thread, &d.Step, &d.Answer); err != nil {
			t.Fatalf("ledger has %q: %v", line, err)
		}
		if _, twice := deeds[d.Name]; twice {
			t.Errorf("deed %s is in the ledger twice", d.Name)
		}
		deeds[d.Name] = d
	}
	tries, won := map[string]string{}, map[string]string{} // value to question, question to value
	for line := range lines(t, o.answers()) {
		var word, q, value string
		if _, err := fmt.Sscan(line, &word, &q, &value); err != nil {
			t.Fatalf("answers have %q: %v", line, err)
		}
		switch {
		case word == "tries":
			tries[value] = q
		case won[q] != "":
			t.Errorf("question %s: both %s and %s were told that they have won", q, won[q], value)
		default:
			won[q] = value
		}
	}
	unrecorded := maps.Clone(deeds)
	used := map[string]bool{}
	runs := 0
	for run, err := range engine.Runs(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		runs++
		var b booked
		if err := json.Unmarshal(run.Value, &b); err != nil || run.Status != fermata.Finished || len(b.Deeds) != stepsOfRounds || len(b.Answers) != questionsOfRounds {
			t.Errorf("%s: %s with %s (%v)", run.Thread, run.Status, run.Value, run.Err)
			continue
		}
		told := map[int]string{1: "-", 2: "-", 3: b.Answers[0], 4: b.Answers[0], 5: b.Answers[0], 6: b.Answers[1]}
		for i, name := range b.Deeds {
			got := deeds[name]
			if diff := cmp.Diff(deed{PID: got.PID, Name: name, Thread: run.Thread, Step: i + 1, Answer: told[i+1]}, got); diff != "" {
				t.Errorf("%s: what step %d recorded is not what it did (-recorded +ledger):\n%s", run.Thread, i+1, diff)
			}
			delete(unrecorded, name)
		}
		page, err := engine.Questions(ctx, fermata.QuestionFilter{Thread: run.Thread}, fermata.Page{})
		if err != nil || len(page.Questions) != questionsOfRounds {
			t.Fatalf("%s: %d questions, error %v", run.Thread, len(page.Questions), err)
		}
		for i, q := range page.Questions {
			value := b.Answers[i]
			if string(q.Answer) != fmt.Sprintf("%q", value) || tries[value] != q.ID.String() || used[value] {
				t.Errorf("%s: the run got %q, the question's answer is %s", run.Thread, value, q.Answer)
			}
			if w := won[q.ID.String()]; w != "" && w != value {
				t.Errorf("%s: %s was told that it has won, the run got %s", run.Thread, w, value)
			}
			used[value] = true
		}
	}
	if size := o.size(); runs != size.threads*size.rounds {
		t.Errorf("%d runs, want %d times %d", runs, size.threads, size.rounds)
	}
	for _, d := range unrecorded {
		if !failed[d.PID] {
			t.Errorf("step %d of %s was done by process %d, which lived on, and isn't recorded", d.Step, d.Thread, d.PID)
		}
	}
	return len(unrecorded)
}

func lines(t *testing.T, file string) iter.Seq[string] {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Lines(string(text))
}
