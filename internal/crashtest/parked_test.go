package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fermata-go/fermata"
)

// TestManyParked parks many runs through Start in this process, and answers them in another. While
// they wait they are rows: no goroutine, no connection, no memory.
func TestManyParked(t *testing.T) {
	eachPlace(t, func(t *testing.T, o orders) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		backend, err := o.open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer backend.Close()
		line, fan := o.workflows()
		engine, err := fermata.New(backend, nil, line, fan)
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close(context.WithoutCancel(ctx))
		n := o.size().parked
		park := func(first, last int) time.Duration {
			began := time.Now()
			err := inParallel(first, last, func(i int) error {
				run, err := line.On(engine).Thread(fmt.Sprint(i)).Start(ctx, parkedLength)
				if err != nil {
					return err
				}
				if _, err := run.Result(ctx); !errors.Is(err, fermata.ErrPaused) {
					return fmt.Errorf("thread %d doesn't wait: %w", i, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		park(0, 200) // whatever is made once is made
		settle()
		before := measure()
		took := park(200, n)
		settle()
		after := measure()
		t.Logf("%d parked in %v: %s before, %s after; %d connections", n, took.Round(time.Millisecond), before, after, o.connections(ctx, t))
		if grown := after.goroutines - before.goroutines; grown > n/10 {
			t.Errorf("%d goroutines more than before", grown)
		}
		if grown := after.heap - before.heap; grown > 8<<20 {
			t.Errorf("%d bytes of heap more than before: something is kept of each run", grown)
		}
		o.Verb = "answer all"
		began := time.Now()
		child := birth(t, o)
		for _, said := range child.end() {
			t.Logf("the other process, after %v: %s", time.Since(began).Round(time.Millisecond), said)
		}
		finished := 0
		for run, err := range engine.Runs(ctx, nil) {
			if err != nil {
				t.Fatal(err)
			}
			if run.Status != fermata.Finished || string(run.Value) != fmt.Sprint(sumTo(parkedLength)) {
				t.Fatalf("thread %s is %s with %s (%v)", run.Thread, run.Status, run.Value, run.Err)
			}
			finished++
		}
		if finished != n {
			t.Errorf("%d runs are finished, want %d", finished, n)
		}
	})
}

// settle waits until the last executions have ended: who waits for a run hears of its end a moment earlier.
func settle() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10_000 {
		if runtime.NumGoroutine() < 20 {
			return
		}
		<-tick.C
	}
}

// parkedLength is that of a line with a step before the question, and three after it.
const parkedLength = 4

// answerAll answers what is open, and waits for the ends of the runs.
func answerAll(ctx context.Context, engine *fermata.Engine) error {
	filter := fermata.QuestionFilter{States: []fermata.QuestionState{fermata.QuestionOpen}}
	answered, most := 0, measure()
	for {
		page, err := engine.Questions(ctx, filter, fermata.Page{Limit: 1000})
		if err != nil {
			return err
		}
		if len(page.Questions) == 0 {
			say("answered %d; %s at most between pages, %s now", answered, most, measure())
			return nil
		}
		err = inParallel(0, len(page.Questions), func(i int) error {
			receipt, err := engine.Answer(ctx, page.Questions[i].ID, "yes")
			if err != nil {
				return err
			}
			_, err = receipt.Wait(ctx)
			return err
		})
		if err != nil {
			return err
		}
		answered += len(page.Questions)
		now := measure()
		most = usage{max(most.goroutines, now.goroutines), max(most.heap, now.heap), max(most.resident, now.resident)}
	}
}

// inParallel calls fn with first to last-1, 64 at a time, until one fails.
func inParallel(first, last int, fn func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	next.Store(int64(first))
	for range 64 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < last && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := fn(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// usage is what this process takes.
type usage struct {
	goroutines     int
	heap, resident int64
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %.1f MB heap, %.1f MB resident", u.goroutines, float64(u.heap)/1e6, float64(u.resident)/1e6)
}

func measure() usage {
	runtime.GC()
	runtime.GC() // what the first one only moved from pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{goroutines: runtime.NumGoroutine(), heap: int64(m.HeapAlloc)}
	var size, pages int64
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil { // elsewhere it is 0
		if _, err := fmt.Sscan(string(statm), &size, &pages); err == nil {
			u.resident = pages * int64(os.Getpagesize())
		}
	}
	return u
}

// connections counts those to the database's server, or the handles of its files.
func (o *orders) connections(ctx context.Context, t *testing.T) (n int) {
	t.Helper()
	if o.onPostgres() {
		conn, err := pgx.Connect(ctx, o.DB)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	links, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // not on this system
	}
	for _, link := range links {
		if to, err := os.Readlink("/proc/self/fd/" + link.Name()); err == nil && strings.HasPrefix(to, o.DB) {
			n++
		}
	}
	return n
}
