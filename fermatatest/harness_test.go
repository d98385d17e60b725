package fermatatest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/fermata-go/fermata/storage"
	"github.com/google/go-cmp/cmp"
)

// each runs a test with a harness on every backend.
func each(t *testing.T, fn func(t *testing.T, o *fermatatest.Options)) {
	t.Parallel()
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) {
		fn(t, &fermatatest.Options{Backend: func(offset func() time.Duration) (storage.Backend, error) {
			return open(t, offset), nil
		}})
	})
}

// trip asks twice around two tasks, and counts what its tasks do.
type trip struct {
	flights, hotels atomic.Int32
	inHotel         func(context.Context) // called in the second task
}

func (tr *trip) book(version string) *fermata.Entrypoint[string, string] {
	flight := fermata.NewTask("flight", func(_ context.Context, city string) (string, error) {
		tr.flights.Add(1)
		return "flight to " + city, nil
	})
	hotel := fermata.NewTask("hotel", func(ctx context.Context, city string) (string, error) {
		tr.hotels.Add(1)
		if tr.inHotel != nil {
			tr.inHotel(ctx)
		}
		return "hotel in " + city, ctx.Err()
	})
	return fermata.NewEntrypoint("trip", func(ctx context.Context, city string) (string, error) {
		seat, err := fermata.Interrupt[string](ctx, "which seat to "+city+"?")
		if err != nil {
			return "", err
		}
		f, err := flight.Call(ctx, city)
		if err != nil {
			return "", err
		}
		h, err := hotel.Call(ctx, city)
		if err != nil {
			return "", err
		}
		ok, err := fermata.Interrupt[bool](ctx, map[string]any{"book": []string{f, seat, h}})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s: %s, %s, %s: %t", version, f, seat, h, ok), nil
	})
}

func TestRunUntilBlocked(t *testing.T) {
	each(t, func(t *testing.T, o *fermatatest.Options) {
		tr := &trip{}
		book := tr.book("v1")
		h := fermatatest.New(t, o, book)
		rome, oslo := fermatatest.On(h, book, "1"), fermatatest.On(h, book, "2")
		rome.Start("Rome")
		oslo.Start("Oslo")
		if got := len(h.Questions()); got != 2 {
			t.Fatalf("%d questions are open, want one per thread", got)
		}
		h.AnswerAll("aisle")
		q := rome.Question()
		if want := fermatatest.Payload(map[string]any{"book": []any{"flight to Rome", "aisle", "hotel in Rome"}}); !want(q) {
			t.Errorf("the second question shows %s", q.Payload)
		}
		if got := oslo.State().Status; got != fermata.Interrupted {
			t.Errorf("the other thread is %s", got)
		}
		h.Answer(q, true)
		if got, want := rome.Result(), "v1: flight to Rome, aisle, hotel in Rome: true"; got != want {
			t.Errorf("result %q, want %q", got, want)
		}
		oslo.Answer(false)
		if got := oslo.Result(); !strings.HasSuffix(got, ": false") {
			t.Errorf("result %q", got)
		}
	})
}

func TestScriptedPeople(t *testing.T) {
	each(t, func(t *testing.T, o *fermatatest.Options) {
		tr := &trip{}
		book := tr.book("v1")
		h := fermatatest.New(t, o, book)
		var asked []string
		h.OnQuestion(fermatatest.Asks("seat to Rome"), "window")
		h.OnQuestion(fermatatest.Asks("seat"), "aisle")
		h.OnQuestion(fermatatest.Path("trip"), func(q fermata.Question) any {
			asked = append(asked, q.Thread)
			return q.Thread == "1"
		})
		for _, id := range []string{"1", "2"} {
			fermatatest.On(h, book, id).Start(map[string]string{"1": "Rome", "2": "Oslo"}[id])
		}
		h.Wait()
		if len(asked) != 2 {
			t.Errorf("the script was asked for threads %v", asked)
		}
		for id, want := range map[string]string{
			"1": "v1: flight to Rome, window, hotel in Rome: true",
			"2": "v1: flight to Oslo, aisle, hotel in Oslo: false",
		} {
			if got := fermatatest.On(h, book, id).Result(); got != want {
				t.Errorf("thread %s: result %q, want %q", id, got, want)
			}
		}
	})
}

func TestCrashAtAQuestion(t *testing.T) {
	each(t, func(t *testing.T, o *fermatatest.Options) {
		tr := &trip{}
		book := tr.book("v1")
		h := fermatatest.New(t, o, book)
		rome := fermatatest.On(h, book, "1")
		rome.Start("Rome")
		rome.Answer("aisle")
		q := rome.Question()
		h.Crash()
		if _, err := rome.Handle().State(t.Context()); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("state read by a dead process: error %v", err)
		}
		h.Restart()
		if diff := cmp.Diff(q, rome.Question()); diff != "" {
			t.Errorf("the question is another one after the crash (-before +after):\n%s", diff)
		}
		rome.Answer(true)
		if got, want := rome.Result(), "v1: flight to Rome, aisle, hotel in Rome: true"; got != want {
			t.Errorf("result %q, want %q", got, want)
		}
		if f, h := tr.flights.Load(), tr.hotels.Load(); f != 1 || h != 1 {
			t.Errorf("flights booked %d times, hotels %d times", f, h)
		}
	})
}

func TestCrashInATask(t *testing.T) {
	each(t, func(t *testing.T, o *fermatatest.Options) {
		tr := &trip{}
		book := tr.book("v1")
		h := fermatatest.New(t, o, book)
		crashed := make(chan struct{})
		tr.inHotel = func(ctx context.Context) {
			if tr.hotels.Load() == 1 {
				h.Crash()
				<-ctx.Done()
				close(crashed)
			}
		}
		rome := fermatatest.On(h, book, "1")
		rome.Start("Rome")
		rome.Answer("aisle")
		<-crashed
		h.Restart()
		rome.Answer(true)
		if got, want := rome.Result(), "v1: flight to Rome, aisle, hotel in Rome: true"; got != want {
			t.Errorf("result %q, want %q", got, want)
		}
		if f, h := tr.flights.Load(), tr.hotels.Load(); f != 1 || h != 2 {
			t.Errorf("flights booked %d times, want 1: it was recorded; hotels %d times, want 2: it was not", f, h)
		}
	})
}

func TestDeployWhileAPersonIsAsked(t *testing.T) {
	each(t, func(t *testing.T, o *fermatatest.Options) {
		tr := &trip{}
		v1, v2 := tr.book("v1"), tr.book("v2")
		h := fermatatest.New(t, o, v1)
		fermatatest.On(h, v1, "1").Start("Rome")
		h.Wait()
		h.RestartWith(v2)
		rome := fermatatest.On(h, v2, "1")
		rome.Answer("aisle")
		rome.Answer(true)
		if got, want := rome.Result(), "v2: flight to Rome, aisle, hotel in Rome: true"; got != want {
			t.Errorf("result %q, want %q", got, want)
		}
	})
}

func TestAdvance(t *testing.T) {
	each(t, func(t *testing.T, o *fermatatest.Options) {
		tr := &trip{}
		book := tr.book("v1")
		h := fermatatest.New(t, o, book)
		rome := fermatatest.On(h, book, "1")
		rome.Start("Rome")
		first := rome.Question()
		before := h.Now()
		h.Advance(72 * time.Hour)
		if passed := h.Now().Sub(before); passed < 72*time.Hour || passed > 73*time.Hour {
			t.Errorf("%s have passed, want 72 h", passed)
		}
		rome.Answer("aisle")
		if later := rome.Question().Asked.Sub(first.Asked); later < 72*time.Hour {
			t.Errorf("the second question was asked %s after the first, want 72 h", later)
		}
		h.Restart()
		if passed := h.Now().Sub(before); passed < 72*time.Hour {
			t.Error("the clock went back at the restart")
		}
	})
}

func TestErrAndContinue(t *testing.T) {
	each(t, func(t *testing.T, o *fermatatest.Options) {
		broken := true
		pay := fermata.NewTask("pay", func(_ context.Context, n int) (int, error) {
			if broken {
				return 0, errors.New("bank closed")
			}
			return n, nil
		})
		graph := fermata.NewEntrypoint("graph", func(ctx context.Context, n int) (int, error) { return pay.Call(ctx, n) })
		h := fermatatest.New(t, o, graph)
		thread := fermatatest.On(h, graph, "1")
		if err := thread.Err(); err != nil {
			t.Errorf("a thread without a run has the error %v", err)
		}
		thread.Start(7)
		var failed *fermata.RunError
		if err := thread.Err(); !errors.As(err, &failed) || !strings.Contains(failed.Message, "bank closed") {
			t.Errorf("error of the failed run: %v", err)
		}
		broken = false
		thread.Continue()
		if got := thread.Result(); got != 7 {
			t.Errorf("result %d, want 7", got)
		}
	})
}

// A tenant's runs are waited for, and its questions answered, like any.
func TestTenants(t *testing.T) {
	each(t, func(t *testing.T, o *fermatatest.Options) {
		tr := &trip{}
		book := tr.book("v1")
		h := fermatatest.New(t, o, book)
		thread := book.On(h.Engine().Tenant("acme")).Thread("1")
		if _, err := thread.Start(t.Context(), "Rome"); err != nil {
			t.Fatal(err)
		}
		h.AnswerAll("aisle")
		h.OnQuestion(fermatatest.Anything, true)
		h.Wait()
		s, err := thread.State(t.Context())
		if err != nil || s.Status != fermata.Finished {
			t.Errorf("the tenant's run is %v, %v; want finished", s, err)
		}
	})
}

// In a bubble the clock of the process moves too, when nothing else can.
func TestInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nap := fermata.NewTask("nap", func(_ context.Context, d time.Duration) (string, error) {
			time.Sleep(d)
			return "awake", nil
		})
		night := fermata.NewEntrypoint("night", func(ctx context.Context, d time.Duration) (string, error) { return nap.Call(ctx, d) })
		h := fermatatest.New(t, &fermatatest.Options{Patience: 24 * time.Hour}, night)
		thread := fermatatest.On(h, night, "1")
		thread.Start(8 * time.Hour)
		if got := thread.Result(); got != "awake" {
			t.Errorf("result %q", got)
		}
	})
}

func TestNonDeterminismIsFound(t *testing.T) {
	t.Parallel()
	var bodies atomic.Int32
	double := fermata.NewTask("double", func(_ context.Context, n int32) (int32, error) { return 2 * n, nil })
	fickle := fermata.NewEntrypoint("fickle", func(ctx context.Context, _ string) (int32, error) {
		return double.Call(ctx, bodies.Add(1))
	})
	verified := fermatatest.On(fermatatest.New(t, nil, fickle), fickle, "1")
	verified.Start("")
	if err := verified.Err(); !errors.Is(err, fermata.ErrParked) {
		t.Errorf("error %v, want ErrParked: the body never calls the same twice", err)
	}
	bodies.Store(6)
	unverified := fermatatest.On(fermatatest.New(t, &fermatatest.Options{Unverified: true}, fickle), fickle, "1")
	unverified.Start("")
	if got := unverified.Result(); got != 14 {
		t.Errorf("result %d, want 14: the body runs once", got)
	}
}

// A task that Restart itself takes up crashes the process that it runs in, not the one before.
func TestCrashWhileTheProcessStarts(t *testing.T) {
	t.Parallel()
	for range 50 {
		var h *fermatatest.Harness
		var times atomic.Int32
		crash := fermata.NewTask("crash", func(ctx context.Context, in int) (int, error) {
			if times.Add(1) <= 2 {
				h.Crash()
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return 7, nil
		})
		graph := fermata.NewEntrypoint("graph", func(ctx context.Context, in int) (int, error) { return crash.Call(ctx, in) })
		h = fermatatest.New(t, nil, graph)
		thread := fermatatest.On(h, graph, "1")
		thread.Start(1)
		for n := int32(1); n <= 2; n++ {
			for times.Load() < n || !h.Backend().(interface{ Dead() bool }).Dead() {
				runtime.Gosched()
			}
			h.Restart()
		}
		if got := thread.Result(); got != 7 {
			t.Fatalf("result %d", got)
		}
	}
}
