package fermata_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/fermata-go/fermata/storage"
)

// patience bounds what a test waits for; a test that passes never waits it out.
const patience = 30 * time.Second

// stage is a thread in some state, and the engine of somebody who is about to
// use a verb on it. That engine takes nothing up by itself, so that all that happens is the verb's doing.
type stage struct {
	*testing.T
	ctx      context.Context //nolint:containedctx // a test's
	open     backendtest.Opener
	backend  storage.Backend
	engine   *fermata.Engine
	thread   *fermata.Thread[string, string]
	workflow *fermata.Entrypoint[string, string]
	name     string // of the thread and of the entrypoint: nobody else touches them
	input    string

	run      fermata.ID // of the thread; a fresh one if there is none
	question fermata.ID // of the run; a fresh one if there is none
	asks     bool       // there is one

	held   chan struct{} // work waits for it
	halted chan struct{} // gets a value when the context of a held work ends
	broken atomic.Bool   // work fails
	worked atomic.Int32  // times that work ended well
}

func newStage(t *testing.T, open backendtest.Opener, name string) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	s := &stage{
		T: t, ctx: ctx, open: open, backend: open(t, nil), name: name, input: "order", held: make(chan struct{}), halted: make(chan struct{}, 1),
		run: storage.NewID(time.Now()), question: storage.NewID(time.Now()),
	}
	approve := fermata.NewTask("approve", func(ctx context.Context, in string) (string, error) {
		return fermata.Interrupt[string](ctx, "approve "+in+"?")
	})
	work := fermata.NewTask("work", func(ctx context.Context, in string) (string, error) {
		select {
		case <-s.held:
		case <-ctx.Done():
			select {
			case s.halted <- struct{}{}:
			default:
			}
			return "", ctx.Err()
		}
		if s.broken.Load() {
			return "", errors.New("work failed")
		}
		s.worked.Add(1)
		return in + " done", nil
	})
	s.workflow = fermata.NewEntrypoint(name, func(ctx context.Context, in string) (string, error) {
		asked, doing := approve.Go(ctx, in), work.Go(ctx, in)
		answer, err := asked.Result(ctx)
		if err != nil {
			return "", err
		}
		done, err := doing.Result(ctx)
		if err != nil {
			return "", err
		}
		if in == "sleepy order" {
			if err := fermata.Sleep(ctx, 72*time.Hour); err != nil {
				return "", err
			}
		}
		return done + ": " + answer, nil
	})
	var err error
	if s.engine, err = fermata.New(s.backend, &fermata.Options{Workers: -1}, s.workflow); err != nil {
		t.Fatal(err)
	}
	s.thread = s.workflow.On(s.engine).Thread(name)
	t.Cleanup(func() {
		stopped, stop := context.WithCancel(context.Background())
		stop()
		if err := s.engine.Close(stopped); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("close the engine: %v", err)
		}
	})
	return s
}

// other is another process on the same database.
func (s *stage) other(entrypoints ...fermata.Definition) *fermatatest.Harness {
	return fermatatest.New(s.T, &fermatatest.Options{
		Backend: func(offset func() time.Duration) (storage.Backend, error) { return s.open(s.T, offset), nil },
	}, entrypoints...)
}

// letGo lets work end.
func (s *stage) letGo() {
	select {
	case <-s.held:
	default:
		close(s.held)
	}
}

// state reads the thread.
func (s *stage) state() *fermata.State[string] {
	s.Helper()
	state, err := s.thread.State(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	return state
}

// until waits until the database is as ready wants it.
func until(t *testing.T, b storage.Backend, what string, ready func(ctx context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	news := make(chan struct{}, 1)
	defer b.Watch(func(storage.Note) {
		select {
		case news <- struct{}{}:
		default:
		}
	})()
	for !ready(ctx) {
		select {
		case <-news:
		case <-ctx.Done():
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// awaitStatus waits until the latest run of a thread is in that state.
func awaitStatus(t *testing.T, b storage.Backend, thread string, want fermata.Status) {
	t.Helper()
	until(t, b, "the run to be "+want.String(), func(ctx context.Context) bool {
		head, err := b.Head(ctx, "", thread)
		return err == nil && head.Run != nil && head.Run.Status == want
	})
}

// asked waits until the question of the thread's run is there.
func (s *stage) asked() {
	s.Helper()
	until(s.T, s.backend, "the question", func(context.Context) bool {
		open, err := s.backend.ListQuestions(s.ctx, storage.QuestionFilter{Thread: s.name})
		if err != nil {
			s.Fatal(err)
		}
		if len(open) == 1 {
			s.question, s.run, s.asks = open[0].ID, open[0].Run, true
		}
		return len(open) == 1
	})
}

func must[T any](v T, err error) func(s *stage) T {
	return func(s *stage) T {
		s.Helper()
		if err != nil {
			s.Fatal(err)
		}
		return v
	}
}

// The states that a thread may be in when somebody uses a verb.

func (s *stage) new() {}

func (s *stage) runningHere() {
	must(s.thread.Start(s.ctx, s.input))(s)
	s.asked()
}

func (s *stage) runningElsewhere() {
	fermatatest.On(s.other(s.workflow), s.workflow, s.name).Start(s.input)
	s.asked()
}

func (s *stage) ownerDead() {
	h := s.other(s.workflow)
	fermatatest.On(h, s.workflow, s.name).Start(s.input)
	s.asked()
	h.Crash()
}

func (s *stage) interrupted() {
	s.letGo()
	run := must(s.thread.Start(s.ctx, s.input))(s)
	if _, err := run.Result(s.ctx); !errors.Is(err, fermata.ErrPaused) {
		s.Fatal(err)
	}
	s.asked()
}

func (s *stage) asleep() {
	s.input = "sleepy order"
	s.interrupted()
	s.answer()
	awaitStatus(s.T, s.backend, s.name, fermata.Queued)
}

func (s *stage) queued() {
	s.run = must(s.thread.Start(s.ctx, s.input, fermata.Enqueue()))(s).ID()
}

func (s *stage) givenBack() {
	h := s.other(s.workflow)
	fermatatest.On(h, s.workflow, s.name).Start(s.input)
	s.asked()
	stopped, stop := context.WithCancel(s.ctx)
	stop()
	if err := h.Engine().Close(stopped); !errors.Is(err, context.Canceled) {
		s.Fatalf("close in a hurry: %v", err)
	}
	awaitStatus(s.T, s.backend, s.name, fermata.Queued)
}

func (s *stage) draining() {
	s.runningHere()
	closed := make(chan error, 1)
	go func() { closed <- s.engine.Close(context.Background()) }()
	s.Cleanup(func() {
		s.letGo()
		if err := <-closed; err != nil {
			s.Errorf("close: %v", err)
		}
	})
	for { // until Close has begun
		_, err := s.engine.Answer(s.ctx, fermata.ID{1}, "x")
		if errors.Is(err, fermata.ErrClosed) {
			return
		}
		runtime.Gosched()
	}
}

func (s *stage) closed() {
	s.interrupted()
	if err := s.engine.Close(s.ctx); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) parked() {
	s.interrupted()
	other := fermata.NewTask("other", func(_ context.Context, in string) (string, error) { return in, nil })
	diverging := fermata.NewEntrypoint(s.name, func(ctx context.Context, in string) (string, error) { return other.Call(ctx, in) })
	h := s.other(diverging)
	thread := fermatatest.On(h, diverging, s.name)
	thread.Continue()
	if err := thread.Err(); !errors.Is(err, fermata.ErrParked) {
		s.Fatalf("the run did not park: %v", err)
	}
}

func (s *stage) failed() {
	s.broken.Store(true)
	s.interrupted()
	var failed *fermata.RunError
	if _, err := s.answer().Wait(s.ctx); !errors.As(err, &failed) {
		s.Fatalf("the run did not fail: %v", err)
	}
	s.broken.Store(false)
}

func (s *stage) cancelled() {
	s.interrupted()
	run := must(s.thread.Cancel(s.ctx, "not wanted"))(s)
	if _, err := run.Result(s.ctx); !errors.Is(err, fermata.ErrCancelled) {
		s.Fatal(err)
	}
}

func (s *stage) finished() {
	s.interrupted()
	if _, err := s.answer().Wait(s.ctx); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) answer() *fermata.Receipt {
	s.Helper()
	return must(s.engine.Answer(s.ctx, s.question, "yes"))(s)
}
