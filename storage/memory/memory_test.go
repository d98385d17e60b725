package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
	"github.com/fermata-go/fermata/storage/storagetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, storagetest.Harness{
		New: func(_ *testing.T, o storagetest.Options) storage.Backend {
			return memory.New(&memory.Options{Offset: o.Offset})
		},
		HoldRun: func(_ *testing.T, b storage.Backend, run storage.ID) func() {
			return b.(*memory.Backend).HoldRun(run)
		},
	})
}

// ask starts a run that waits with a question, on a thread of its own.
func ask(t *testing.T, b *memory.Backend, owner storage.Membership, q storage.Question, due time.Time) storage.ID {
	t.Helper()
	id := storage.NewID(time.Now())
	started, err := b.Start(t.Context(), storage.Start{Run: storage.Run{
		ID: id, Thread: id.String(), Entrypoint: "graph", Owner: owner.ID(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	q.Seq = 1
	list, err := b.Append(t.Context(), []storage.Unit{{
		Run: id, Token: started.Run.Token, First: 1, Records: [][]byte{[]byte("ask")},
		Questions: []storage.Question{q}, Status: storage.Interrupted, Due: due,
	}})
	if err == nil {
		err = list[0].Err
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func join(t *testing.T, b *memory.Backend) storage.Membership {
	t.Helper()
	m, err := b.Join(t.Context(), "member")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestDeadlineIsExact: in a bubble time stands still, so that "deadline is now" can be met exactly.
func TestDeadlineIsExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		m := join(t, b)
		deadline := time.Now().Add(time.Hour)
		early, late := storage.Question{ID: storage.NewID(time.Now()), Deadline: deadline}, storage.Question{ID: storage.NewID(time.Now()), Deadline: deadline}
		ask(t, b, m, early, time.Time{})
		ask(t, b, m, late, time.Time{})
		due := ask(t, b, m, storage.Question{ID: storage.NewID(time.Now())}, deadline)
		settle := func(q storage.Question) error {
			list, err := b.Settle(t.Context(), []storage.Settlement{{Question: q.ID, State: storage.Answered}})
			if err != nil {
				t.Fatal(err)
			}
			return list[0].Err
		}
		poll := func() storage.Polled {
			p, err := b.Poll(t.Context(), storage.Poll{Member: m.ID(), Entrypoints: []string{"graph"}, Limit: 10})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}

		time.Sleep(time.Hour - time.Microsecond)
		if p := poll(); len(p.Runs) != 0 || !p.Next.Equal(deadline) {
			t.Errorf("a microsecond early: took %d runs, next %v", len(p.Runs), p.Next)
		}
		if err := settle(early); err != nil {
			t.Errorf("an answer a microsecond early: %v", err)
		}
		time.Sleep(time.Microsecond)
		var settled *storage.SettledError
		if err := settle(late); !errors.As(err, &settled) || settled.Question.State != storage.Expired {
			t.Errorf("an answer at the deadline: %v", err)
		}
		if !settled.Question.Settled.Equal(deadline) {
			t.Errorf("expired at %v, want %v", settled.Question.Settled, deadline)
		}
		taken := map[storage.ID]bool{}
		for _, r := range poll().Runs {
			taken[r.ID] = true
		}
		if len(taken) != 3 || !taken[due] {
			t.Errorf("took %v, want the two that were settled and the one that is due now", taken)
		}
	})
}

// TestExpiryIsExact: an item that expires now is absent.
func TestExpiryIsExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		if err := b.PutItems(t.Context(), []storage.Item{{Namespace: []string{"n"}, Key: "k", Value: []byte("v"), TTL: time.Hour}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Microsecond)
		if _, err := b.GetItem(t.Context(), "", []string{"n"}, "k", false); err != nil {
			t.Errorf("a microsecond early: %v", err)
		}
		time.Sleep(time.Microsecond)
		if _, err := b.GetItem(t.Context(), "", []string{"n"}, "k", true); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("at the end of its life: %v", err)
		}
	})
}

func TestTimeNeverGoesBack(t *testing.T) {
	t.Parallel()
	offset := time.Hour
	b := memory.New(&memory.Options{Offset: func() time.Duration { return offset }})
	first, err := b.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Until(first); d < 59*time.Minute {
		t.Errorf("the offset of an hour makes %v", d)
	}
	offset = 0
	if second, err := b.Now(t.Context()); err != nil || second.Before(first) {
		t.Errorf("%v after %v, error %v", second, first, err)
	}
}

func TestTheDeadOwnNothing(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	gone, m := join(t, b), join(t, b)
	q := storage.Question{ID: storage.NewID(time.Now())}
	run := ask(t, b, m, q, time.Time{})
	if err := gone.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Start(t.Context(), storage.Start{Run: storage.Run{
		ID: storage.NewID(time.Now()), Thread: "t", Entrypoint: "graph", Owner: gone.ID(),
	}}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Start: %v", err)
	}
	if _, err := b.Acquire(t.Context(), storage.Acquire{Run: run, Member: gone.ID(), From: []storage.Status{storage.Interrupted}}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Acquire: %v", err)
	}
	if _, err := b.Poll(t.Context(), storage.Poll{Member: gone.ID(), Limit: 1}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Poll: %v", err)
	}
	// An answer is not lost for it: the run is queued.
	list, err := b.Settle(t.Context(), []storage.Settlement{{Question: q.ID, State: storage.Answered, Member: gone.ID()}})
	if err != nil || list[0].Err != nil || list[0].Acquired || list[0].Run.Status != storage.Queued {
		t.Errorf("Settle: %+v, %v", list, err)
	}
}

func TestHoldRun(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	q := storage.Question{ID: storage.NewID(time.Now())}
	run := ask(t, b, join(t, b), q, time.Time{})
	settle := func() error {
		list, err := b.Settle(t.Context(), []storage.Settlement{{Question: q.ID, State: storage.Answered, Key: "k"}})
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Err
	}
	one, two := b.HoldRun(run), b.HoldRun(run)
	one()
	one()
	if err := settle(); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("a run that is held once more: %v", err)
	}
	two()
	if err := settle(); err != nil {
		t.Error(err)
	}
}

// TestWatchIsToldBeforeTheCallReturns: what memory promises beyond the contract.
func TestWatchIsToldBeforeTheCallReturns(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	m := join(t, b)
	var notes []storage.Note
	stop := b.Watch(func(n storage.Note) { notes = append(notes, n) })
	run := ask(t, b, m, storage.Question{ID: storage.NewID(time.Now())}, time.Time{})
	stop()
	ask(t, b, m, storage.Question{ID: storage.NewID(time.Now())}, time.Time{})
	if len(notes) != 2 || notes[0] != (storage.Note{Run: run}) || notes[1] != (storage.Note{Run: run, Questions: true}) {
		t.Errorf("got %+v", notes)
	}
}
