package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/storage"
)

// order is a value of which every part can be at fault.
type order struct {
	Price float64 `json:"price"`
	Extra any     `json:"extra,omitempty"`
}

var badOrders = map[string]struct {
	order order
	path  string
	says  string
}{
	"NaN":                  {order{Price: math.NaN()}, "/price", "NaN"},
	"infinity":             {order{Price: math.Inf(1)}, "/price", "Inf"},
	"function inside":      {order{Extra: func() {}}, "/extra", "a func can't be stored"},
	"channel inside":       {order{Extra: []any{1, make(chan int)}}, "/extra/1", "a chan can't be stored"},
	"invalid UTF-8":        {order{Extra: "a\xff"}, "/extra", "UTF-8"},
	"large number":         {order{Extra: int64(1<<53 + 1)}, "/extra", ""},
	"key is no string":     {order{Extra: map[[2]int]int{{1, 2}: 3}}, "/extra", ""},
	"points to itself":     {order{Extra: loop()}, "/extra", ""},
	"hidden inside":        {order{Extra: unexportedOnly{"x"}}, "/extra", "unexportedOnly"},
	"number as json":       {order{Extra: json.Number("x")}, "/extra", ""},
	"marshaller that errs": {order{Extra: broken{}}, "/extra", "out of order"},
}

type broken struct{}

func (broken) MarshalJSON() ([]byte, error) { return nil, errors.New("out of order") }

func loop() any {
	m := map[string]any{}
	m["self"] = m
	return m
}

// valueError ends the test unless err is a *ValueError that says what and where.
func valueError(t *testing.T, err, want error, path string) {
	t.Helper()
	var v *fermata.ValueError
	if !errors.As(err, &v) {
		t.Fatalf("%v is not a *ValueError", err)
	}
	says(t, err, want)
	if !strings.HasPrefix(v.Path, path) || v.Type == "" || v.Op == "" {
		t.Errorf("op %q, type %q, path %q; want a path below %q", v.Op, v.Type, v.Path, path)
	}
}

// A value that would not come back is refused when it is written, with what and where; what was there stays.
func TestValuesThatWouldNotComeBack(t *testing.T) {
	t.Parallel()
	for name, c := range badOrders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var taskRan atomic.Int32
			take := fermata.NewTask("take", func(context.Context, order) (string, error) {
				taskRan.Add(1)
				return "", nil
			})
			give := fermata.NewTask("give", func(context.Context, string) (order, error) { return c.order, nil })
			var fault error
			graph := body(func(ctx context.Context, in order) (order, error) {
				switch in.Extra {
				case "input of a task":
					_, fault = take.Call(ctx, c.order)
				case "result of a task":
					_, fault = give.Call(ctx, "")
				case "payload":
					_, fault = fermata.Interrupt[string](ctx, c.order)
				case "saved":
					fault = fermata.Save(ctx, c.order)
				case "ask":
					return fermata.Interrupt[order](ctx, "?")
				case "result":
					return c.order, nil
				}
				return order{Extra: "done"}, nil
			})
			h := inMemory(t, graph)
			thread := fermatatest.On(h, graph, "1")

			_, err := thread.Handle().Start(t.Context(), c.order)
			says(t, err, fermata.ErrInvalid, "start:", c.says)
			valueError(t, err, fermata.ErrLossy, c.path)
			if s := thread.State(); !s.Run.IsZero() {
				t.Error("a start with a bad input left a run")
			}
			for _, what := range []string{"input of a task", "result of a task", "payload", "saved"} {
				thread := fermatatest.On(h, graph, what)
				thread.Start(order{Extra: what})
				if got := thread.Result(); got.Extra != "done" {
					t.Errorf("%s: the run's result is %v", what, got)
				}
				says(t, fault, fermata.ErrLossy, c.says)
				if what != "result of a task" {
					valueError(t, fault, fermata.ErrLossy, c.path)
					continue
				}
				var failed *fermata.TaskError
				if !errors.As(fault, &failed) || !strings.Contains(failed.Message, c.path) {
					t.Errorf("a task with a bad result gives %v; want a *TaskError that names %s", fault, c.path)
				}
			}
			if taskRan.Load() > 0 {
				t.Error("a task ran with an input that can't be stored")
			}

			failing := fermatatest.On(h, graph, "result")
			failing.Start(order{Extra: "result"})
			var failed *fermata.RunError
			if err := failing.Err(); !errors.As(err, &failed) || !errors.Is(err, fermata.ErrLossy) {
				t.Errorf("a run with a bad result: %v; want a *RunError that matches ErrLossy", err)
			} else {
				says(t, err, fermata.ErrLossy, `result of entrypoint "graph"`, c.path)
			}

			asking := fermatatest.On(h, graph, "ask")
			asking.Start(order{Extra: "ask"})
			q := asking.Question()
			_, err = h.Engine().Answer(t.Context(), q.ID, c.order)
			says(t, err, fermata.ErrInvalidAnswer, "answer:", c.says)
			valueError(t, err, fermata.ErrLossy, c.path)
			if got := asking.Question(); got.ID != q.ID {
				t.Error("a bad answer closed the question")
			}
		})
	}
}

func TestValuesThatAreTooLarge(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		o.Engine.MaxValueSize = 1000
		large := strings.Repeat("x", 1000) // and two quotes
		take := fermata.NewTask("take", echo)
		give := fermata.NewTask("give", func(context.Context, string) (string, error) { return large, nil })
		var fault error
		graph := body(func(ctx context.Context, in string) (string, error) {
			switch in {
			case "input of a task":
				_, fault = take.Call(ctx, large)
			case "result of a task":
				_, fault = give.Call(ctx, "")
			case "payload":
				_, fault = fermata.Interrupt[string](ctx, large)
			case "saved":
				fault = fermata.Save(ctx, large)
			case "ask":
				return fermata.Interrupt[string](ctx, "?")
			case "result":
				return large, nil
			}
			return "done", nil
		})
		h := fermatatest.New(t, o, graph)
		_, err := fermatatest.On(h, graph, "1").Handle().Start(t.Context(), large)
		says(t, err, fermata.ErrTooLarge, "start:", "1002", "1000")
		for _, what := range []string{"input of a task", "result of a task", "payload", "saved"} {
			thread := fermatatest.On(h, graph, what)
			thread.Start(what)
			thread.Result()
			says(t, fault, fermata.ErrTooLarge, "1002", "1000")
		}
		failing := fermatatest.On(h, graph, "result")
		failing.Start("result")
		says(t, failing.Err(), fermata.ErrTooLarge, "1002", "1000")

		asking := fermatatest.On(h, graph, "ask")
		asking.Start("ask")
		_, err = h.Engine().Answer(t.Context(), asking.Question().ID, large)
		says(t, err, fermata.ErrInvalidAnswer, "1002", "1000")
		says(t, err, fermata.ErrTooLarge)
		asking.Answer(large[:998])
		if got := asking.Result(); len(got) != 998 {
			t.Errorf("result of %d bytes", len(got))
		}
	})
}

// What is stored and doesn't fit the types of today's code parks the run with a diagnosis; code that can read it goes on.
func TestStoredValuesOfAnotherType(t *testing.T) {
	type text = struct {
		N string `json:"n"`
	}
	type number = struct {
		N int `json:"n"`
	}
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		var made atomic.Int32
		makeText := fermata.NewTask("make", func(context.Context, string) (text, error) {
			made.Add(1)
			return text{"seven"}, nil
		})
		makeNumber := fermata.NewTask("make", func(context.Context, string) (number, error) {
			made.Add(1)
			return number{8}, nil
		})
		v1 := body(func(ctx context.Context, in text) (string, error) {
			got, err := makeText.Call(ctx, in.N)
			if err != nil {
				return "", err
			}
			sure, err := fermata.Interrupt[text](ctx, "sure?")
			return in.N + got.N + sure.N, err
		})
		otherResult := body(func(ctx context.Context, in text) (string, error) {
			_, err := makeNumber.Call(ctx, in.N)
			return "", err
		})
		otherInput := body(func(context.Context, number) (string, error) { return "", nil })
		otherAnswer := body(func(ctx context.Context, in text) (string, error) {
			if _, err := makeText.Call(ctx, in.N); err != nil {
				return "", err
			}
			_, err := fermata.Interrupt[number](ctx, "sure?")
			return "", err
		})

		h := fermatatest.New(t, o, v1)
		thread := fermatatest.On(h, v1, "1")
		thread.Start(text{"in "})
		q := thread.Question()

		h.RestartWith(otherResult)
		thread.Continue()
		says(t, thread.Err(), fermata.ErrParked, "graph/make", "a string is stored", "/n", "continue the run")
		if got := thread.Question(); got.ID != q.ID {
			t.Error("parking changed the question")
		}
		h.RestartWith(otherInput)
		thread.Continue()
		says(t, thread.Err(), fermata.ErrParked, "input of the run", "/n")

		h.RestartWith(v1)
		thread.Answer(text{" yes"})
		h.RestartWith(otherAnswer)
		thread.Continue()
		says(t, thread.Err(), fermata.ErrParked, "answer to question "+q.ID.String(), "/n")

		h.RestartWith(v1)
		thread.Continue()
		if got, want := thread.Result(), "in seven yes"; got != want {
			t.Errorf("after the mended deploy the result is %q, want %q", got, want)
		}
		if made.Load() != 1 {
			t.Errorf("the task was called %d times", made.Load())
		}
	})
}

func TestPreviousOfAnotherType(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		v1 := body(func(_ context.Context, in string) (string, error) { return in, nil })
		h := fermatatest.New(t, o, v1)
		fermatatest.On(h, v1, "1").Start("seven")
		h.Wait()
		v2 := body(func(ctx context.Context, in string) (int, error) {
			n, _, err := fermata.Previous[int](ctx)
			return n, err
		})
		h.RestartWith(v2)
		thread := fermatatest.On(h, v2, "1")
		_, err := thread.Handle().State(t.Context())
		says(t, err, fermata.ErrMismatch, "state:", "string", "int")
		thread.Start("x")
		h.Wait()
		run, err := h.Backend().Head(t.Context(), "", "1")
		if err != nil || run.Run.Status != fermata.Parked || !strings.Contains(string(run.Run.Error), "previous value of the thread") {
			t.Errorf("run is %v with %s, %v; want parked for the previous value", run.Run.Status, run.Run.Error, err)
		}
		mended := body(func(ctx context.Context, in string) (string, error) {
			last, _, err := fermata.Previous[string](ctx)
			return last + in, err
		})
		h.RestartWith(mended)
		fixed := fermatatest.On(h, mended, "1")
		fixed.Continue()
		if got := fixed.Result(); got != "sevenx" {
			t.Errorf("result %q", got)
		}
	})
}

// A backend that is closed under a run takes nothing with it.
func TestBackendClosedUnderARun(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		ctx := t.Context()
		entered, release := make(chan struct{}, 2), make(chan struct{})
		var first, second atomic.Int32
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
		graph := body(func(ctx context.Context, in string) (string, error) {
			in, err := one.Call(ctx, in)
			if err != nil {
				return "", err
			}
			return two.Call(ctx, in)
		})
		h := fermatatest.New(t, o, graph)
		thread := fermatatest.On(h, graph, "1")
		run, err := thread.Handle().Start(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		<-entered
		if err := h.Backend().Close(); err != nil {
			t.Fatal(err)
		}
		close(release)
		_, err = run.Result(ctx)
		says(t, err, fermata.ErrStorage, "Close the engine before its backend")
		says(t, err, storage.ErrClosed)
		_, err = thread.Handle().Start(ctx, "y")
		says(t, err, fermata.ErrStorage, "start:", "closed")
		_, err = thread.Handle().State(ctx)
		says(t, err, fermata.ErrStorage, "state:", "closed")
		_, err = h.Engine().Answer(ctx, fermata.ID{1}, "x")
		says(t, err, fermata.ErrStorage, "answer:", "closed")
		for _, err := range run.Events(ctx) {
			if err != nil {
				says(t, err, fermata.ErrStorage, "events:", "closed")
			}
		}
		if err := h.Engine().Close(ctx); err != nil {
			t.Errorf("close of the engine after its backend: %v", err)
		}
		h.Restart()
		if got := thread.Result(); got != "x one two" {
			t.Errorf("result %q", got)
		}
		if first.Load() != 1 || second.Load() != 2 {
			t.Errorf("task one was called %d times, want 1; two %d times, want 2", first.Load(), second.Load())
		}
	})
}
