package fermata_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// disk is a backend that counts its appends, and takes some time for each.
type disk struct {
	storage.Backend
	appends atomic.Int64
	takes   time.Duration
	stalled chan struct{} // not nil: appends wait until it is closed
}

func (d *disk) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	d.appends.Add(1)
	if d.stalled != nil {
		<-d.stalled
	}
	if d.takes > 0 {
		timer := time.NewTimer(d.takes)
		defer timer.Stop()
		<-timer.C
	}
	return d.Backend.Append(ctx, units)
}

var durabilities = []struct {
	name string
	mode fermata.Durability
}{{"sync", fermata.Sync}, {"async", fermata.Async}, {"exit", fermata.Exit}}

// chain is a workflow of as many steps as its input says, one after the other.
func chain(d fermata.Durability, step func()) *fermata.Entrypoint[int, int] {
	task := fermata.NewTask("step", func(_ context.Context, n int) (int, error) {
		step()
		return n, nil
	})
	return fermata.NewEntrypoint("chain", func(ctx context.Context, length int) (int, error) {
		for n := range length {
			if _, err := task.Call(ctx, n); err != nil {
				return 0, err
			}
		}
		return length, nil
	}, fermata.WithDurability(d))
}

// TestCommitsOfEachDurability: on a disk that takes ten times as long as a step, every step waits for the disk
// under Sync, ten share a commit under Async, and Exit writes once.
func TestCommitsOfEachDurability(t *testing.T) {
	const steps = 200
	commits := map[string]int64{}
	took := map[string]time.Duration{}
	for _, d := range durabilities {
		synctest.Test(t, func(t *testing.T) {
			memory := memory.New(nil)
			defer memory.Close()
			disk := &disk{Backend: memory, takes: time.Millisecond}
			flow := chain(d.mode, func() { <-time.After(100 * time.Microsecond) })
			engine, err := fermata.New(disk, nil, flow)
			if err != nil {
				t.Fatal(err)
			}
			defer engine.Close(t.Context())
			began := time.Now()
			if _, err := flow.On(engine).Thread("1").Invoke(t.Context(), steps); err != nil {
				t.Fatal(err)
			}
			commits[d.name], took[d.name] = disk.appends.Load(), time.Since(began)
		})
	}
	t.Logf("%d steps: commits %v, time %v", steps, commits, took)
	want(t, "commits under Sync", commits["sync"], steps+1)
	if n := commits["async"]; n < steps/10 || n > steps/10+3 {
		t.Errorf("%d commits under Async, want about %d", n, steps/10)
	}
	want(t, "commits under Exit", commits["exit"], 1)
	if took["async"] > took["exit"]+5*time.Millisecond || took["sync"] < 10*took["async"] {
		t.Errorf("under Async the run waits for the disk: %v", took)
	}
}

// TestAsyncIsBounded: code of an Async run goes on while the disk is stuck until 1,024 records are behind, and then waits.
func TestAsyncIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := memory.New(nil)
		defer memory.Close()
		disk := &disk{Backend: memory, stalled: make(chan struct{})}
		var begun atomic.Int64
		flow := chain(fermata.Async, func() { begun.Add(1) })
		engine, err := fermata.New(disk, nil, flow)
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close(t.Context())
		run, err := flow.On(engine).Thread("1").Start(t.Context(), 2000)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// Each step has two records. The result of the last one isn't handed to the code.
		want(t, "steps while the disk is stuck", begun.Load(), 512)
		close(disk.stalled)
		if _, err := run.Result(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(t, "steps", begun.Load(), 2000)
	})
}

// BenchmarkDurability runs a chain of 100 steps on SQLite with its default, a wait for the disk per commit.
func BenchmarkDurability(b *testing.B) {
	const steps = 100
	for _, d := range durabilities {
		b.Run(d.name, func(b *testing.B) {
			backend, err := sqlite.Open(filepath.Join(b.TempDir(), "bench.db"), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer backend.Close()
			flow := chain(d.mode, func() {})
			engine, err := fermata.New(backend, nil, flow)
			if err != nil {
				b.Fatal(err)
			}
			defer engine.Close(b.Context())
			before := backend.Stats().Commits
			for b.Loop() {
				if _, err := flow.On(engine).Thread(storage.NewID(time.Now()).String()).Invoke(b.Context(), steps); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(backend.Stats().Commits-before)/float64(b.N*steps), "commits/step")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*steps), "µs/step")
		})
	}
}

// picky is a backend that keeps no question with the tag "bad".
type picky struct{ storage.Backend }

func (p picky) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	for _, q := range units[0].Questions {
		if slices.Contains(q.Tags, "bad") {
			return []storage.Committed{{Err: fmt.Errorf("append: %w: a bad tag", storage.ErrInvalid)}}, nil
		}
	}
	return p.Backend.Append(ctx, units)
}

// What the backend refuses it would refuse again: the run is parked with what was kept before.
func TestRunWhoseRecordIsRefusedIsParked(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		open := g.open
		g.open = func(t testing.TB, offset func() time.Duration) storage.Backend { return picky{open(t, offset)} }
		for _, d := range durabilities {
			did := &calls{}
			step := fermata.NewTask("step", func(context.Context, string) (string, error) {
				did.add("step")
				return "", nil
			})
			var tag atomic.Value
			tag.Store("bad")
			flow := fermata.NewEntrypoint(d.name, func(ctx context.Context, _ string) (string, error) {
				did.add("body")
				if _, err := step.Call(ctx, ""); err != nil {
					return "", err
				}
				return fermata.Interrupt[string](ctx, "?", fermata.Tags(tag.Load().(string)))
			}, fermata.WithDurability(d.mode))
			g.deploy(nil, flow)
			_, err := flow.On(g.engine).Thread(d.name).Invoke(g.t.Context(), "")
			says(g.t, err, fermata.ErrParked, "a bad tag")
			if d.mode == fermata.Sync {
				want(g.t, "what was done", did.take(), map[string]int{"body": 1, "step": 1})
			}
			tag.Store("good")
			_, err = flow.On(g.engine).Thread(d.name).Continue(g.t.Context())
			if err != nil {
				g.t.Fatal(err)
			}
			questions := g.rest(flow, d.name).Questions
			if len(questions) != 1 {
				g.t.Fatalf("%s: %d questions when the code is mended, want 1", d.name, len(questions))
			}
			g.answer(questions[0], "yes")
			want(g.t, "result", g.end(flow, d.name), "yes")
			if d.mode == fermata.Sync {
				want(g.t, "what was done again", did.take()["step"], 0)
			}
		}
	})
}

// TestPauseAndEndAreKnownWhenAllIsWritten, whatever the durability.
func TestPauseAndEndAreKnownWhenAllIsWritten(t *testing.T) {
	for _, d := range durabilities {
		synctest.Test(t, func(t *testing.T) {
			memory := memory.New(nil)
			defer memory.Close()
			disk := &disk{Backend: memory}
			flow := seedOf(d.mode)
			engine, err := fermata.New(disk, nil, flow)
			if err != nil {
				t.Fatal(err)
			}
			defer engine.Close(t.Context())
			thread := flow.On(engine).Thread("1")
			rest := func(verb func() (*fermata.Run[string], error)) (out string, err error) {
				disk.stalled = make(chan struct{})
				run, err := verb()
				if err != nil {
					t.Fatal(err)
				}
				known := make(chan struct{})
				go func() {
					defer close(known)
					out, err = run.Result(t.Context())
				}()
				synctest.Wait()
				select {
				case <-known:
					t.Errorf("%s: known before it is written: %q, %v", d.name, out, err)
				default:
				}
				close(disk.stalled)
				<-known
				return out, err
			}
			_, err = rest(func() (*fermata.Run[string], error) { return thread.Start(t.Context(), "foo") })
			paused(t, err)
			out, err := rest(func() (*fermata.Run[string], error) { return thread.Resume(t.Context(), "baz") })
			want(t, d.name, fmt.Sprint(out, err), "baz bar<nil>")
		})
	}
}
