package fermata_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// The context of an engine often ends with a signal. What was under way then is no failure of the
// work: the next process goes on with it.
func TestEngineContextEnds(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		for name, gives := range map[string]func(ctx context.Context) (string, error){
			"error":               func(ctx context.Context) (string, error) { return "", ctx.Err() },
			"wrapped error":       func(ctx context.Context) (string, error) { return "", errors.Join(errors.New("stopped"), ctx.Err()) },
			"result all the same": func(context.Context) (string, error) { return "done", nil },
		} {
			for _, where := range []string{"task", "body"} {
				t.Run(name+" of a "+where, func(t *testing.T) { endOfContext(t, *o, where, gives) })
			}
		}
	})
}

func endOfContext(t *testing.T, options fermatatest.Options, where string, gives func(ctx context.Context) (string, error)) {
	t.Helper()
	var attempts, after atomic.Int32
	entered := make(chan struct{}, 1)
	work := func(ctx context.Context, _ string) (string, error) {
		if attempts.Add(1) > 1 {
			return "done", nil
		}
		entered <- struct{}{}
		<-ctx.Done()
		return gives(ctx)
	}
	task := fermata.NewTask("task", work)
	next := fermata.NewTask("next", func(_ context.Context, in string) (string, error) {
		after.Add(1)
		return in + ", next", nil
	})
	graph := fermata.NewEntrypoint(t.Name(), func(ctx context.Context, in string) (string, error) {
		do := work
		if where == "task" {
			do = func(ctx context.Context, in string) (string, error) { return task.Call(ctx, in) }
		}
		out, err := do(ctx, in)
		if err != nil {
			return "", err
		}
		return next.Call(ctx, out)
	})
	signal, stop := context.WithCancel(t.Context())
	defer stop()
	options.Engine.Context = signal
	options.Unverified = true
	h := fermatatest.New(t, &options, graph)
	thread := fermatatest.On(h, graph, t.Name())
	thread.Start("x")
	<-entered
	stop()
	awaitStatus(t, h.Backend(), t.Name(), fermata.Queued) // given back, before anybody closes the engine
	_, err := fermatatest.On(h, graph, "2").Handle().Start(t.Context(), "x")
	says(t, err, fermata.ErrClosed, "takes no new work")
	if err := h.Engine().Close(t.Context()); err != nil {
		t.Error(err)
	}
	if after.Load() > 0 {
		t.Error("a task was called after the end of the engine's context")
	}
	options.Engine.Context = nil
	second := fermatatest.New(t, &options, graph)
	if got := fermatatest.On(second, graph, t.Name()).Result(); got != "done, next" {
		t.Errorf("result %q", got)
	}
}

// Close is bounded by its context, whatever the tasks do; it loses nothing of them.
func TestCloseDoesNotWaitForDeafTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		var calls atomic.Int32
		deaf := fermata.NewTask("deaf", func(context.Context, string) (string, error) {
			calls.Add(1)
			close(entered)
			<-release
			return "heard", nil
		})
		graph := body(func(ctx context.Context, in string) (string, error) { return deaf.Call(ctx, in) })
		h := inMemory(t, graph)
		thread := fermatatest.On(h, graph, "1")
		thread.Start("x")
		<-entered
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		err := h.Engine().Close(ctx)
		says(t, err, context.DeadlineExceeded, "a task goes on though its context has ended", "Close again")
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("Close took %s, with a context of 10 s", took)
		}
		if s, err := thread.Handle().State(t.Context()); err != nil || s.Status != fermata.Running {
			t.Errorf("the run is %v, %v; it must stay with the process that still runs its task", s.Status, err)
		}
		close(release)
		if err := h.Engine().Close(t.Context()); err != nil {
			t.Errorf("a second Close, when the task has returned: %v", err)
		}
		h.Restart()
		if got := thread.Result(); got != "heard" || calls.Load() != 1 {
			t.Errorf("result %q after %d calls", got, calls.Load())
		}
	})
}

// Who closes the engine from within one of its tasks doesn't wait for himself for ever.
func TestCloseWithinATask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h *fermatatest.Harness
		fault := make(chan error, 1)
		last := fermata.NewTask("last", func(ctx context.Context, in string) (string, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			fault <- h.Engine().Close(ctx)
			return in, nil
		})
		graph := body(func(ctx context.Context, in string) (string, error) { return last.Call(ctx, in) })
		h = inMemory(t, graph)
		thread := fermatatest.On(h, graph, "1")
		thread.Start("x")
		says(t, <-fault, context.DeadlineExceeded)
		h.Restart()
		if got := thread.Result(); got != "x" {
			t.Errorf("result %q", got)
		}
	})
}

// slowPoll is a backend whose replies to a poll that gave something come late.
type slowPoll struct {
	storage.Backend
	taken chan struct{} // told of each such reply
	reply chan struct{} // closed to let them come
}

func (b *slowPoll) Poll(ctx context.Context, poll storage.Poll) (storage.Polled, error) {
	polled, err := b.Backend.Poll(ctx, poll)
	if len(polled.Runs) > 0 {
		b.taken <- struct{}{}
		<-b.reply
	}
	return polled, err
}

func TestCloseGivesBackWhatItWasBeingGiven(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		hurry bool
	}{{"at leisure", false}, {"in a hurry", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, hurry := context.WithCancel(t.Context())
			defer hurry()
			backend := &slowPoll{Backend: memory.New(nil), taken: make(chan struct{}, 1), reply: make(chan struct{})}
			defer backend.Close()
			graph := body(func(_ context.Context, in string) (string, error) { return in, nil })
			web, err := fermata.New(backend, &fermata.Options{Workers: -1}, graph)
			if err != nil {
				t.Fatal(err)
			}
			defer web.Close(t.Context())
			worker, err := fermata.New(backend, nil, graph)
			if err != nil {
				t.Fatal(err)
			}
			run, err := graph.On(web).Thread("1").Start(t.Context(), "x", fermata.Enqueue())
			if err != nil {
				t.Fatal(err)
			}
			<-backend.taken
			closed := make(chan error, 1)
			go func() { closed <- worker.Close(ctx) }()
			for !errors.Is(err, fermata.ErrClosed) { // until Close has begun
				_, err = worker.Answer(t.Context(), fermata.ID{1}, "x")
			}
			if c.hurry {
				hurry()
			}
			close(backend.reply)
			if err := <-closed; err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			left, err := backend.Run(t.Context(), "", run.ID())
			if err != nil {
				t.Fatal(err)
			}
			if left.Status == storage.Running || left.Crashes > 0 {
				t.Errorf("the run is %s, after %d crashes; want it queued, or finished", left.Status, left.Crashes)
			}
		})
	}
}

// repeating is a backend that loses the first reply to each unit that brings a run to rest; a person answers just before.
type repeating struct {
	storage.Backend
	answer func()
}

func (b *repeating) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	if units[0].Status == storage.Interrupted {
		b.answer()
		if _, err := b.Backend.Append(ctx, units); err != nil {
			return nil, err
		}
	}
	return b.Backend.Append(ctx, units)
}

func TestLostReplyToAPauseThatAnAnswerUndid(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	backend := &repeating{Backend: memory.New(nil)}
	defer backend.Close()
	ask := fermata.NewTask("ask", func(ctx context.Context, in string) (string, error) { return fermata.Interrupt[string](ctx, in) })
	work := fermata.NewTask("work", func(ctx context.Context, in string) (string, error) {
		for { // until the question is there
			if open, err := backend.ListQuestions(ctx, storage.QuestionFilter{}); err != nil || len(open) == 1 {
				return in, err
			}
			runtime.Gosched()
		}
	})
	graph := body(func(ctx context.Context, in string) (string, error) {
		asked := ask.Go(ctx, in)
		if _, err := work.Call(ctx, in); err != nil {
			return "", err
		}
		return asked.Result(ctx)
	})
	engine, err := fermata.New(backend, nil, graph)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.Background())
	backend.answer = func() {
		open, err := backend.ListQuestions(ctx, storage.QuestionFilter{})
		if err != nil || len(open) != 1 {
			t.Errorf("%d open questions, %v", len(open), err)
			return
		}
		s := storage.Settlement{Question: open[0].ID, State: storage.Answered, Answer: []byte(`"yes"`), By: storage.Principal{Kind: "person"}}
		if _, err := backend.Settle(ctx, []storage.Settlement{s}); err != nil {
			t.Error(err)
		}
	}
	if got, err := graph.On(engine).Thread("1").Invoke(ctx, "go on?"); err != nil || got != "yes" {
		t.Errorf("result %q, %v", got, err)
	}
}

// outage is a backend whose memberships can be lost, and that can't be joined until it is back.
type outage struct {
	storage.Backend
	members atomic.Int32
	lost    chan struct{} // of the first membership
	away    atomic.Int32  // joins that fail
}

var errAway = errors.New("away")

type losable struct {
	storage.Membership
	lost chan struct{}
}

func (m losable) Lost() <-chan struct{} { return m.lost }

func (b *outage) Join(ctx context.Context, name string) (storage.Membership, error) {
	if b.members.Load() > 0 && b.away.Add(-1) >= 0 {
		return nil, errAway
	}
	m, err := b.Backend.Join(ctx, name)
	if err != nil || b.members.Add(1) > 1 {
		return m, err
	}
	return losable{m, b.lost}, nil
}

func TestWorksAgainAfterAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := &outage{Backend: memory.New(nil), lost: make(chan struct{})}
		defer backend.Close()
		backend.away.Store(5)
		graph := body(func(_ context.Context, in string) (string, error) { return in, nil })
		worker, err := fermata.New(backend, nil, graph)
		if err != nil {
			t.Fatal(err)
		}
		defer worker.Close(t.Context())
		close(backend.lost)
		synctest.Wait()
		run, err := graph.On(worker).Thread("1").Start(t.Context(), "x", fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if got, err := run.Result(ctx); err != nil || got != "x" || backend.members.Load() != 2 {
			t.Errorf("result %q, %v, after %d memberships", got, err, backend.members.Load())
		}
	})
}

// An engine that waits for its backend to come back can be closed meanwhile.
func TestCloseDuringAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := &outage{Backend: memory.New(nil), lost: make(chan struct{})}
		defer backend.Close()
		backend.away.Store(1 << 30)
		worker, err := fermata.New(backend, nil)
		if err != nil {
			t.Fatal(err)
		}
		close(backend.lost)
		time.Sleep(10 * time.Second)
		if err := worker.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// slowLoad is a backend that takes its time to load a run.
type slowLoad struct{ storage.Backend }

func (b slowLoad) Load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return b.Backend.Load(ctx, tenant, run)
	case <-ctx.Done():
		return storage.Loaded{}, ctx.Err()
	}
}

// A worker that has had work without a pause for minutes gives none of it up.
func TestLongBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := slowLoad{memory.New(nil)}
		defer backend.Close()
		graph := body(func(_ context.Context, in string) (string, error) { return in, nil })
		web, err := fermata.New(backend, &fermata.Options{Workers: -1}, graph)
		if err != nil {
			t.Fatal(err)
		}
		defer web.Close(t.Context())
		var runs []*fermata.Run[string]
		for i := range 600 {
			run, err := graph.On(web).Thread(strconv.Itoa(i)).Start(t.Context(), "x", fermata.Enqueue())
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, run)
		}
		worker, err := fermata.New(backend, nil, graph)
		if err != nil {
			t.Fatal(err)
		}
		defer worker.Close(t.Context())
		for _, run := range runs {
			if _, err := run.Result(t.Context()); err != nil {
				t.Fatal(err)
			}
			if row, err := backend.Run(t.Context(), "", run.ID()); err != nil || row.Token != 1 {
				t.Fatalf("run taken %d times, %v", row.Token, err)
			}
		}
	})
}

func TestRunsStartedHereTakeNoWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := memory.New(nil)
		defer backend.Close()
		release := make(chan struct{})
		wait := fermata.NewEntrypoint("wait", func(_ context.Context, in string) (string, error) {
			<-release
			return in, nil
		})
		graph := body(func(_ context.Context, in string) (string, error) { return in, nil })
		worker, err := fermata.New(backend, &fermata.Options{Workers: 1}, wait, graph)
		if err != nil {
			t.Fatal(err)
		}
		defer worker.Close(t.Context())
		for i := range 3 {
			if _, err := wait.On(worker).Thread(strconv.Itoa(i)).Start(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
		}
		defer close(release)
		run, err := graph.On(worker).Thread("queued").Start(t.Context(), "x", fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if got, err := run.Result(ctx); err != nil || got != "x" {
			t.Errorf("result %q, %v", got, err)
		}
		busy, err := wait.On(worker).Thread("first").Start(t.Context(), "x", fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		second, err := graph.On(worker).Thread("second").Start(t.Context(), "x", fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if row, err := backend.Run(t.Context(), "", second.ID()); err != nil || row.Status != storage.Queued {
			t.Errorf("run is %s, %v, while %s has the one worker", row.Status, err, busy.ID())
		}
	})
}
