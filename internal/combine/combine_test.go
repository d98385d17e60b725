package combine

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// op records the batch that ran it.
type op struct {
	id    int
	batch int
}

// gate is a batch function that numbers batches and holds each until it is let go.
type gate struct {
	entered chan []*op
	release chan struct{}
	batches int
}

func newGate() *gate {
	return &gate{entered: make(chan []*op), release: make(chan struct{})}
}

func (g *gate) run(batch []*op) {
	g.batches++
	for _, o := range batch {
		o.batch = g.batches
	}
	g.entered <- batch
	<-g.release
}

func TestCallersShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		q := New(g.run)
		ops := make([]*op, 10)
		var wg sync.WaitGroup
		for i := range ops {
			ops[i] = &op{id: i}
			wg.Go(func() {
				if err := q.Do(context.Background(), ops[i]); err != nil {
					t.Errorf("op %d: %v", i, err)
				}
			})
			if i == 0 {
				if batch := <-g.entered; len(batch) != 1 {
					t.Errorf("the first caller led a batch of %d, want 1", len(batch))
				}
			}
			synctest.Wait() // so that arrival is in the order of i
		}
		g.release <- struct{}{}
		batch := <-g.entered
		for i, o := range batch {
			if o.id != i+1 {
				t.Errorf("place %d of the batch has op %d, want %d", i, o.id, i+1)
			}
		}
		g.release <- struct{}{}
		wg.Wait()
		if g.batches != 2 {
			t.Errorf("10 operations took %d batches, want 2", g.batches)
		}
	})
}

func TestCancelledWaiterIsNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		q := New(g.run)
		var wg sync.WaitGroup
		first, second, third := &op{id: 1}, &op{id: 2}, &op{id: 3}
		wg.Go(func() { q.Do(context.Background(), first) })
		<-g.entered
		ctx, cancel := context.WithCancel(context.Background())
		wg.Go(func() {
			if err := q.Do(ctx, second); !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled waiter got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { q.Do(context.Background(), third) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		g.release <- struct{}{}
		if batch := <-g.entered; len(batch) != 1 || batch[0] != third {
			t.Errorf("the second batch has %d operations, want the third only", len(batch))
		}
		g.release <- struct{}{}
		wg.Wait()
	})
}

func TestCancelDuringBatchReturnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		q := New(g.run)
		var wg sync.WaitGroup
		wg.Go(func() { q.Do(context.Background(), &op{}) })
		<-g.entered
		wg.Go(func() { q.Do(context.Background(), &op{}) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		returned := make(chan error, 1)
		go func() { returned <- q.Do(ctx, &op{}) }()
		synctest.Wait()
		g.release <- struct{}{}
		if batch := <-g.entered; len(batch) != 2 {
			t.Fatalf("the second batch has %d operations, want 2", len(batch))
		}
		cancel()
		if err := <-returned; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error while the batch is under way", err)
		}
		g.release <- struct{}{}
		wg.Wait()
	})
}

func TestPanicReachesEveryCallerOfTheBatchOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		batches := 0
		q := New(func(batch []*op) {
			batches++
			n := batches
			entered <- struct{}{}
			<-release
			if n == 2 {
				panic("broken")
			}
		})
		var wg sync.WaitGroup
		do := func(want bool) {
			wg.Go(func() {
				err := q.Do(context.Background(), &op{})
				var p *PanicError
				if errors.As(err, &p) != want {
					t.Errorf("got %v, want a panic: %v", err, want)
				}
				if want && (p.Value != "broken" || !strings.Contains(string(p.Stack), "combine_test.go")) {
					t.Errorf("the panic lost its value or its stack: %v", p)
				}
			})
			synctest.Wait()
		}
		do(false)
		<-entered
		do(true)
		do(true)
		release <- struct{}{}
		<-entered
		do(false)
		release <- struct{}{}
		<-entered
		release <- struct{}{}
		wg.Wait()
	})
}

func TestGoexitInTheBatchFreesTheOthers(t *testing.T) {
	exit := true
	q := New(func(batch []*op) {
		if exit {
			exit = false
			runtime.Goexit()
		}
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.Do(context.Background(), &op{})
	}()
	<-ended
	if err := q.Do(context.Background(), &op{}); err != nil {
		t.Errorf("after a batch that ended its goroutine: %v", err)
	}
}

func TestFinishedCallersDontWaitForTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		q := NewFinishing(func(batch []*op, finish func(int)) {
			for i, o := range batch {
				if o.id == 1 {
					finish(i)
				}
			}
			entered <- struct{}{}
			<-release
		})
		var wg sync.WaitGroup
		wg.Go(func() { q.Do(context.Background(), &op{}) })
		<-entered
		finished := make(chan error, 1)
		wg.Go(func() { q.Do(context.Background(), &op{}) }) // leads the next batch
		synctest.Wait()
		wg.Go(func() { finished <- q.Do(context.Background(), &op{id: 1}) })
		synctest.Wait()
		release <- struct{}{}
		<-entered
		if err := <-finished; err != nil { // while the batch is under way
			t.Error(err)
		}
		release <- struct{}{}
		wg.Wait()
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		q := New(g.run)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := q.Do(context.Background(), &op{}); err != nil {
				t.Errorf("the operation under way got %v", err)
			}
		})
		<-g.entered
		wg.Go(func() {
			if err := q.Do(context.Background(), &op{}); !errors.Is(err, ErrClosed) {
				t.Errorf("the waiting operation got %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		var closed atomic.Bool
		for range 2 {
			wg.Go(func() { q.Close(); closed.Store(true) })
		}
		synctest.Wait()
		if closed.Load() {
			t.Error("Close returned while a batch was under way")
		}
		g.release <- struct{}{}
		wg.Wait()
		if err := q.Do(context.Background(), &op{}); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v, want ErrClosed", err)
		}
		q.Close()
	})
}

// TestStorm: whatever callers do, every operation that was answered with nil ran exactly once, and none of those
// that the queue refused.
func TestStorm(t *testing.T) {
	const callers, each = 32, 300
	ran := make([]int, callers*each)
	q := New(func(batch []int) {
		for _, i := range batch {
			ran[i]++
		}
	})
	answered := make([]error, callers*each)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(context.Background())
				if i%3 == 0 {
					go cancel()
				}
				answered[c*each+i] = q.Do(ctx, c*each+i)
				cancel()
				if c == 0 && i == each-10 {
					go q.Close()
				}
			}
		})
	}
	wg.Wait()
	q.Close()
	for i, err := range answered {
		switch {
		case err == nil && ran[i] != 1:
			t.Fatalf("operation %d was answered with nil and ran %d times", i, ran[i])
		case errors.Is(err, ErrClosed) && ran[i] != 0:
			t.Fatalf("operation %d was refused and ran", i)
		case ran[i] > 1:
			t.Fatalf("operation %d ran %d times", i, ran[i])
		}
	}
}

func BenchmarkDo(b *testing.B) {
	q := New(func(batch []*op) {})
	for _, parallel := range []int{1, 64} {
		b.Run("callers="+map[int]string{1: "1", 64: "64"}[parallel], func(b *testing.B) {
			b.ReportAllocs()
			if parallel == 1 {
				for b.Loop() {
					q.Do(context.Background(), &op{})
				}
				return
			}
			b.SetParallelism(parallel / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					q.Do(context.Background(), &op{})
				}
			})
		})
	}
}
