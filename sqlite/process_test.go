package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// The test binary runs itself again as another process, in one of these roles.
const (
	roleVariable = "FERMATA_SQLITE_TEST_ROLE"
	pathVariable = "FERMATA_SQLITE_TEST_PATH"
)

var roles = map[string]func(path string) error{
	"opener":   openerRole,
	"worker":   workerRole,
	"appender": appenderRole,
	"owner":    ownerRole,
	"reader":   readerRole,
}

// process is another process.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	err strings.Builder
}

func spawn(t *testing.T, role, path string, change ...func(*exec.Cmd)) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(self)}
	p.Env = append(os.Environ(), roleVariable+"="+role, pathVariable+"="+path)
	p.Stderr = &p.err
	for _, f := range change {
		f(p.Cmd)
	}
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	return p
}

// line returns the next line that the process prints.
func (p *process) line(t *testing.T) string {
	t.Helper()
	if !p.out.Scan() {
		t.Fatalf("the process ended: %v %v\n%s", p.out.Err(), p.Wait(), p.err.String())
	}
	return p.out.Text()
}

// kill is SIGKILL; when it returns the process is gone.
func (p *process) kill() {
	p.Process.Kill()
	p.Wait()
}

// end waits for the process to end by itself.
func (p *process) end(t *testing.T) {
	t.Helper()
	p.in.Close()
	for p.out.Scan() {
	}
	if err := p.Wait(); err != nil {
		t.Errorf("%s: %v\n%s", p.Path, err, p.err.String())
	}
}

func openerRole(path string) error {
	b, err := Open(path, nil)
	if err != nil {
		return err
	}
	id := storage.NewID(time.Now())
	if _, err := b.Start(context.Background(), storage.Start{Run: storage.Run{ID: id, Thread: id.String(), Entrypoint: "graph"}}); err != nil {
		return err
	}
	return b.Close()
}

func TestManyProcessesOpenANewFile(t *testing.T) {
	t.Parallel()
	const rounds, each = 3, 8
	for range rounds {
		path := filepath.Join(t.TempDir(), "work.db")
		var processes []*process
		for range each {
			processes = append(processes, spawn(t, "opener", path))
		}
		for _, p := range processes {
			p.end(t)
		}
		b := openAt(t, path, nil)
		runs, err := b.ListRuns(context.Background(), storage.RunFilter{})
		if err != nil || len(runs) != each {
			t.Errorf("%d runs, error %v; want %d", len(runs), err, each)
		}
		sound(t, b)
	}
}

// sound fails the test if SQLite finds the file damaged.
func sound(t *testing.T, b *Backend) {
	t.Helper()
	err := b.read(context.Background(), "check", func(c *conn) error {
		var verdict string
		if _, err := c.query("PRAGMA integrity_check").first(func(q *query) { verdict = q.colText(0) }); err != nil {
			return err
		}
		if verdict != "ok" {
			return errors.New(verdict)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The workers start runs that ask, answer what anybody asks, and take what is
// queued to its end; each until nothing is left to do.
const workerRuns = 60

func workerRole(path string) error {
	ctx := context.Background()
	b, err := Open(path, nil)
	if err != nil {
		return err
	}
	defer b.Close()
	m, err := b.Join(ctx, "worker")
	if err != nil {
		return err
	}
	for begun := 0; ; {
		if begun < workerRuns {
			begun++
			if err := workerStart(ctx, b, m.ID()); err != nil {
				return fmt.Errorf("start: %w", err)
			}
		}
		open, err := b.ListQuestions(ctx, storage.QuestionFilter{States: []storage.QuestionState{storage.Open}, Limit: 5})
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		for _, q := range open {
			s, err := b.Settle(ctx, []storage.Settlement{{Question: q.ID, State: storage.Answered, Answer: []byte(m.ID().String()), By: storage.Principal{Subject: m.ID().String()}}})
			if err == nil && s[0].Err != nil && !errors.Is(s[0].Err, storage.ErrSettled) {
				err = s[0].Err
			}
			if err != nil {
				return fmt.Errorf("settle: %w", err)
			}
			if s[0].Err == nil {
				fmt.Println("won", q.ID)
			}
		}
		polled, err := b.Poll(ctx, storage.Poll{Member: m.ID(), Entrypoints: []string{"graph"}, Limit: 10})
		if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		for _, r := range polled.Runs {
			if err := workerAppend(ctx, b, &r, storage.Unit{Status: storage.Finished, Result: []byte("done")}); err != nil {
				return fmt.Errorf("finish: %w", err)
			}
		}
		if begun == workerRuns && len(open) == 0 && len(polled.Runs) == 0 {
			left, err := b.ListRuns(ctx, storage.RunFilter{Statuses: []storage.Status{storage.Queued, storage.Running, storage.Interrupted}, Limit: 1})
			if err != nil || len(left) == 0 {
				return err
			}
		}
	}
}

func workerStart(ctx context.Context, b *Backend, member storage.ID) error {
	id := storage.NewID(time.Now())
	started, err := b.Start(ctx, storage.Start{Run: storage.Run{ID: id, Thread: id.String(), Entrypoint: "graph", Owner: member}})
	if err != nil {
		return err
	}
	r := started.Run
	if err := workerAppend(ctx, b, &r, storage.Unit{}); err != nil {
		return err
	}
	q := question(&r)
	return workerAppend(ctx, b, &r, storage.Unit{Questions: []storage.Question{q}, Status: storage.Interrupted})
}

func workerAppend(ctx context.Context, b *Backend, r *storage.Run, u storage.Unit) error {
	u = unitOf(r, u)
	list, err := b.Append(ctx, []storage.Unit{u})
	if err != nil {
		return err
	}
	r.LastSeq += int64(len(u.Records))
	return list[0].Err
}

func TestProcessesShareAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "work.db")
	b := openAt(t, path, nil)
	const each = 4
	var processes []*process
	for range each {
		processes = append(processes, spawn(t, "worker", path))
	}
	wins := map[string]int{}
	for _, p := range processes {
		for p.out.Scan() {
			wins[p.out.Text()]++
		}
		p.end(t)
	}
	if len(wins) != each*workerRuns {
		t.Errorf("%d questions were answered, want %d", len(wins), each*workerRuns)
	}
	for win, n := range wins {
		if n != 1 {
			t.Errorf("%s: %d times", win, n)
		}
	}
	runs, err := b.ListRuns(context.Background(), storage.RunFilter{Limit: 10 * each * workerRuns})
	if err != nil || len(runs) != each*workerRuns {
		t.Fatalf("%d runs, error %v", len(runs), err)
	}
	for _, r := range runs {
		if got := texts(t, b, r.ID); r.Status != storage.Finished || len(got) != 3 || r.Token != 2 {
			t.Errorf("run %s is %s with token %d and the records %q", r.ID, r.Status, r.Token, got)
		}
	}
	sound(t, b)
}

// appenderRole appends to a few runs at once, for ever, and says what was acknowledged.
func appenderRole(path string) error {
	ctx := context.Background()
	b, err := Open(path, &Options{CheckpointPages: 100})
	if err != nil {
		return err
	}
	m, err := b.Join(ctx, "appender")
	if err != nil {
		return err
	}
	failed := make(chan error)
	for range 8 {
		go func() {
			for {
				id := storage.NewID(time.Now())
				started, err := b.Start(ctx, storage.Start{Run: storage.Run{ID: id, Thread: id.String(), Entrypoint: "graph", Owner: m.ID()}})
				if err != nil {
					failed <- err
					return
				}
				r := started.Run
				for i := range 20 {
					u := storage.Unit{}
					if i == 10 {
						q := question(&r)
						u.Questions = []storage.Question{q}
					}
					if i == 19 {
						u.Status = storage.Finished
					}
					if err := workerAppend(ctx, b, &r, u); err != nil {
						failed <- err
						return
					}
					fmt.Printf("%s %d\n", r.ID, r.LastSeq)
				}
			}
		}()
	}
	return <-failed
}

func TestKilledInTheMiddleOfCommits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "work.db")
	acknowledged := map[string]int64{}
	for round := range 6 {
		p := spawn(t, "appender", path)
		for range 40 + 150*round {
			var id string
			var seq int64
			line := p.line(t)
			if _, err := fmt.Sscan(line, &id, &seq); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			acknowledged[id] = max(acknowledged[id], seq)
		}
		// What is acknowledged from here on, until the kill, is not read: it doesn't count.
		p.kill()

		b, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for id, seq := range acknowledged {
			runID, err := storage.ParseID(id)
			if err != nil {
				t.Fatal(err)
			}
			got := texts(t, b, runID)
			if int64(len(got)) < seq {
				t.Fatalf("round %d: run %s has %d records, %d were acknowledged", round, id, len(got), seq)
			}
			for i, text := range got {
				if text != fmt.Sprintf("record %d", i+1) {
					t.Fatalf("round %d: run %s: record %d is %q", round, id, i+1, text)
				}
			}
		}
		sound(t, b)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// ownerRole owns a run until it is killed, or told to go.
func ownerRole(path string) error {
	b, err := Open(path, nil)
	if err != nil {
		return err
	}
	ctx := context.Background()
	m, err := b.Join(ctx, "owner")
	if err != nil {
		return err
	}
	id := storage.NewID(time.Now())
	if _, err := b.Start(ctx, storage.Start{Run: storage.Run{ID: id, Thread: "t", Entrypoint: "graph", Owner: m.ID()}}); err != nil {
		return err
	}
	fmt.Println(id)
	io.Copy(io.Discard, os.Stdin)
	return b.Close()
}

// readerRole is run by somebody who may not write the file.
func readerRole(path string) error {
	b, err := Open(path, nil)
	if err == nil {
		b.Close()
		return errors.New("it could be opened")
	}
	fmt.Println(errors.Is(err, storage.ErrReadOnly), err)
	return nil
}

func TestTakeoverFromAKilledProcess(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"killed", "closed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			b := open(t, nil)
			p := spawn(t, "owner", b.Path())
			id := p.line(t)
			member := join(t, b)
			poll := storage.Poll{Member: member, Entrypoints: []string{"graph"}, Limit: 1}
			polled, err := b.Poll(ctx, poll)
			if err != nil || len(polled.Runs) != 0 {
				t.Fatalf("while the owner lives: %v %v", polled.Runs, err)
			}
			var dead sync.Once
			told := make(chan struct{})
			stop := b.Watch(func(n storage.Note) {
				if n.Queued {
					dead.Do(func() { close(told) })
				}
			})
			defer stop()
			if how == "killed" {
				p.kill()
			} else {
				p.end(t)
			}
			polled, err = b.Poll(ctx, poll) // at once
			if err != nil || len(polled.Runs) != 1 || polled.Runs[0].ID.String() != id {
				t.Fatalf("after its death: %v %v", polled.Runs, err)
			}
			if r := polled.Runs[0]; r.Owner != member || r.Token != 2 || r.Crashes != 1 {
				t.Errorf("taken over as %+v", r)
			}
			if files, _ := filepath.Glob(b.Path() + "-live-*"); len(files) != 1 {
				t.Errorf("lock files %q, want the survivor's", files)
			}
		})
	}
}

func TestWatchersHearOfADeath(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	p := spawn(t, "owner", b.Path())
	p.line(t)
	notes := make(chan storage.Note, 1000)
	stop := b.Watch(func(n storage.Note) {
		select {
		case notes <- n:
		default:
		}
	})
	defer stop()
	// The watcher has to see the owner alive once: it looks when it starts.
	if n := waitForOwner(t, b); n != 1 {
		t.Fatalf("%d owners", n)
	}
	p.kill()
	for {
		select {
		case n := <-notes:
			// A death writes nothing: only a look at the lock can tell of it.
			if n == (storage.Note{Queued: true}) {
				return
			}
		case <-time.After(30 * time.Second):
			t.Fatal("nobody was told")
		}
	}
}

func waitForOwner(t *testing.T, b *Backend) (owners int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for owners == 0 && time.Now().Before(deadline) {
		owners = int(b.watchers.knownOwners.Load())
		runtime.Gosched()
	}
	return owners
}
