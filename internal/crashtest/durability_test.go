package crashtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage"
)

// stalling is a backend on a disk that writes nothing any more once it is told to stall.
type stalling struct {
	storage.Backend
	stall chan struct{}
	tell  func()
}

func newStalling(b storage.Backend) *stalling {
	return &stalling{Backend: b, stall: make(chan struct{}), tell: sync.OnceFunc(func() { say("stalled") })}
}

func (b *stalling) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	select {
	case <-b.stall:
		b.tell()
		select {} // until the process is killed
	default:
		return b.Backend.Append(ctx, units)
	}
}

// asyncResults is how many results of a line of steps the process may lose under Async: each
// has two records, of the 1,024 that may be behind.
const asyncResults = 512

// TestLossOfEachDurability kills the process that executes a line of steps before its question, and the one that
// executes it after the answer. What the next process does again is what the durability says, and no more.
func TestLossOfEachDurability(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		durability fermata.Durability
		length     int
		// stall is the step, counted from the start or the answer, at which the disk stops to write; 0: it doesn't.
		// The process dies in step die, or, if that is 0, when it waits for the disk.
		stall, die int
		// lost says whether the steps that are done again may be the last so many of those that were done, the one under
		// way among them.
		lost func(again, done int) bool
	}{
		{
			name: "sync", durability: fermata.Sync, length: lineLength, die: 7,
			lost: func(again, _ int) bool { return again == 1 },
		},
		{
			name: "sync on a disk that stalls", durability: fermata.Sync, length: lineLength, stall: 5,
			lost: func(again, done int) bool { return again == 1 && done == 5 },
		},
		{
			name: "async", durability: fermata.Async, length: 1000, die: 450,
			lost: func(again, _ int) bool { return again <= asyncResults+1 },
		},
		{
			name: "async on a disk that stalls", durability: fermata.Async, length: 1000, stall: 100, die: 450,
			lost: func(again, _ int) bool { return again > 450-100 && again <= asyncResults+1 },
		},
		{
			name: "exit", durability: fermata.Exit, length: lineLength, die: 7,
			lost: func(again, done int) bool { return again == done },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachPlace(t, func(t *testing.T, o orders) {
				ctx := bounded(t)
				o.Verb, o.Takes, o.Durability = "serve", true, c.durability
				line, _ := o.parent(t)
				thread := line.Thread("1")
				run, err := thread.Start(ctx, c.length, fermata.Enqueue())
				if err != nil {
					t.Fatal(err)
				}
				var want []int
				half := func(base, last int) {
					t.Helper()
					first, second := o, o
					if c.stall > 0 {
						first.StallIn = base + c.stall
					}
					if c.die > 0 {
						first.DieIn = []int{base + c.die}
					}
					victim := birth(t, first)
					if c.die == 0 {
						victim.hearUntil("stalled")
						victim.kill()
					}
					<-victim.done
					did := o.steps(t)[len(want):]
					again := birth(t, second)
					again.expect("ready")
					if _, err := run.Result(ctx); err != nil && !errors.Is(err, fermata.ErrPaused) {
						t.Fatal(err)
					}
					again.kill() // what it has recorded is on the disk, whatever the durability
					repeated := len(o.steps(t)) - len(want) - (last - base)
					t.Logf("%d of %d steps were done again", repeated, len(did))
					if !c.lost(repeated, len(did)) {
						t.Errorf("%d of %d steps were done again", repeated, len(did))
					}
					for n := base + 1; n <= base+len(did); n++ {
						want = append(want, n)
					}
					for n := base + len(did) - repeated + 1; n <= last; n++ {
						want = append(want, n)
					}
					if got := o.steps(t); !slices.Equal(got, want) {
						t.Fatalf("effects:\ngot  %v\nwant %v", got, want)
					}
				}
				half(0, c.length/2-1)
				if run, err = thread.Resume(ctx, "yes", fermata.Enqueue()); err != nil {
					t.Fatal(err)
				}
				half(c.length/2-1, c.length)
				if sum, err := run.Result(ctx); err != nil || sum != sumTo(c.length) {
					t.Errorf("result %d, error %v", sum, err)
				}
			})
		})
	}
}
