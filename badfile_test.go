package fermata_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
)

// sick is a backend that answers writes with a fault, as long as it has one.
type sick struct {
	storage.Backend
	fault *atomic.Pointer[error]
	seen  chan struct{} // a write was refused
}

func (s *sick) err() error {
	if fault := s.fault.Load(); fault != nil {
		select {
		case s.seen <- struct{}{}:
		default:
		}
		return *fault
	}
	return nil
}

func (s *sick) Start(ctx context.Context, start storage.Start) (storage.Started, error) {
	if err := s.err(); err != nil {
		return storage.Started{}, err
	}
	return s.Backend.Start(ctx, start)
}

func (s *sick) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Backend.Append(ctx, units)
}

func (s *sick) Settle(ctx context.Context, settlements []storage.Settlement) ([]storage.Settled, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Backend.Settle(ctx, settlements)
}

func (s *sick) Acquire(ctx context.Context, a storage.Acquire) (storage.Run, error) {
	if err := s.err(); err != nil {
		return storage.Run{}, err
	}
	return s.Backend.Acquire(ctx, a)
}

func (s *sick) Cancel(ctx context.Context, tenant string, run storage.ID, reason string) (storage.Run, error) {
	if err := s.err(); err != nil {
		return storage.Run{}, err
	}
	return s.Backend.Cancel(ctx, tenant, run, reason)
}

// While the database takes no writes, verbs and waiting callers are told what it said and what to do; what was
// recorded stays, and when it is well again the run goes on by itself.
func TestDatabaseThatTakesNoWrites(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		for name, c := range map[string]struct {
			fault error
			hint  string
		}{
			"full":      {storage.ErrFull, "free space"},
			"read-only": {storage.ErrReadOnly, "make the database writable"},
			"corrupt":   {storage.ErrCorrupt, "restore the database"},
			"gone":      {errors.New("connection reset by peer"), ""},
		} {
			t.Run(name, func(t *testing.T) {
				ctx := t.Context()
				fault, seen := &atomic.Pointer[error]{}, make(chan struct{}, 1)
				options := &fermatatest.Options{Backend: func(offset func() time.Duration) (storage.Backend, error) {
					b, err := o.Backend(offset)
					return &sick{Backend: b, fault: fault, seen: seen}, err
				}}
				options.Engine.Tick = 10 * time.Millisecond
				var first, second atomic.Int32
				entered, release := make(chan struct{}, 9), make(chan struct{})
				one := fermata.NewTask("one", func(_ context.Context, in string) (string, error) {
					first.Add(1)
					return in + " one", nil
				})
				two := fermata.NewTask("two", func(_ context.Context, in string) (string, error) {
					second.Add(1)
					entered <- struct{}{}
					<-release
					return in + " two", nil
				})
				graph := fermata.NewEntrypoint("graph "+name, func(ctx context.Context, in string) (string, error) {
					in, err := one.Call(ctx, in)
					if err != nil {
						return "", err
					}
					answer, err := fermata.Interrupt[string](ctx, "go on?")
					if err != nil {
						return "", err
					}
					return two.Call(ctx, in+" "+answer)
				})
				h := fermatatest.New(t, options, graph)
				thread := fermatatest.On(h, graph, name)

				fault.Store(&c.fault)
				_, err := thread.Handle().Start(ctx, "x")
				says(t, err, fermata.ErrStorage, "start:", c.hint)
				says(t, err, c.fault)
				fault.Store(nil)
				if s := thread.State(); !s.Run.IsZero() {
					t.Fatal("the refused start left a run")
				}

				thread.Start("x")
				q := thread.Question()
				before := thread.State()
				fault.Store(&c.fault)
				_, err = h.Engine().Answer(ctx, q.ID, "yes")
				says(t, err, fermata.ErrStorage, "answer:", c.hint)
				says(t, err, c.fault)
				_, err = thread.Handle().Cancel(ctx, "")
				says(t, err, fermata.ErrStorage, "cancel:", c.hint)
				_, err = thread.Handle().Continue(ctx)
				says(t, err, fermata.ErrStorage, "continue:", c.hint)
				fault.Store(nil)
				if now := thread.State(); now.Revision != before.Revision || len(now.Questions) != 1 || now.Questions[0].ID != q.ID {
					t.Fatalf("refused verbs moved something: %+v", now)
				}

				receipt, err := h.Engine().Answer(ctx, q.ID, "yes")
				if err != nil {
					t.Fatal(err)
				}
				<-entered
				fault.Store(&c.fault)
				for len(seen) > 0 {
					<-seen
				}
				close(release)
				<-seen
				_, err = receipt.Wait(ctx)
				says(t, err, fermata.ErrStorage, c.hint, name)
				says(t, err, c.fault)
				fault.Store(nil)
				if got := thread.Result(); got != "x one yes two" {
					t.Errorf("result %q", got)
				}
				if first.Load() != 1 || second.Load() != 2 {
					t.Errorf("task one was called %d times, want 1; two %d times, want 2: once more after its result was not written", first.Load(), second.Load())
				}
			})
		}
	})
}

// A damaged page of the file is found when it is read: the threads on it say so, nothing is
// taken for empty, and with a backup all goes on.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "work.db")
	o := &fermatatest.Options{Backend: func(offset func() time.Duration) (storage.Backend, error) {
		return sqlite.Open(path, &sqlite.Options{Offset: offset})
	}}
	var calls atomic.Int32
	chunk := fermata.NewTask("chunk", func(_ context.Context, i int) (string, error) {
		calls.Add(1)
		return strings.Repeat("x", 3000), nil
	})
	graph := body(func(ctx context.Context, _ string) (string, error) {
		for i := range 200 {
			if _, err := chunk.Call(ctx, i); err != nil {
				return "", err
			}
		}
		return fermata.Interrupt[string](ctx, "well?")
	})
	h := fermatatest.New(t, o, graph)
	thread := fermatatest.On(h, graph, "1")
	thread.Start("x")
	q := thread.Question()
	if err := h.Engine().Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Backend().Close(); err != nil {
		t.Fatal(err)
	}
	backup, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), backup...)
	for i := len(damaged) / 3; i < len(damaged)*2/3; i++ {
		damaged[i] = 0x5a
	}
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}

	b, err := sqlite.Open(path, nil)
	if err != nil {
		says(t, err, storage.ErrCorrupt, path)
	} else {
		e, err := fermata.New(b, nil, graph)
		if err != nil {
			says(t, err, storage.ErrCorrupt, path)
		} else {
			_, err := graph.On(e).Thread("1").Continue(t.Context())
			says(t, err, fermata.ErrStorage, "continue:", "restore the database from a backup", path)
			says(t, err, storage.ErrCorrupt)
			_, err = graph.On(e).Thread("1").Start(t.Context(), "y")
			if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, fermata.ErrThreadBusy) && !errors.Is(err, fermata.ErrQuestionOpen) {
				t.Errorf("start on a thread whose run can't be read: %v", err)
			}
			if err := e.Close(t.Context()); err != nil && !errors.Is(err, storage.ErrCorrupt) {
				t.Error(err)
			}
		}
		if err := b.Close(); err != nil && !errors.Is(err, storage.ErrCorrupt) {
			t.Error(err)
		}
	}

	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Restart()
	if got := thread.Question(); got.ID != q.ID {
		t.Error("the question is another one")
	}
	thread.Answer("well")
	if got := thread.Result(); got != "well" || calls.Load() != 200 {
		t.Errorf("result %q after %d calls of the task, want 200", got, calls.Load())
	}
}
