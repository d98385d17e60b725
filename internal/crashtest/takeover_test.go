package crashtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/pgtest"
)

// eachPlace calls fn in a parallel subtest per database that processes can share.
func eachPlace(t *testing.T, fn func(t *testing.T, o orders)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		fn(t, place(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		o := place(t)
		o.DB = pgtest.DSN(t)
		fn(t, o)
	})
}

// parent is this process's engine on the database. It takes nothing up by itself.
func (o *orders) parent(t *testing.T) (line, fan fermata.Bound[int, int]) {
	t.Helper()
	backend, err := o.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, second := o.workflows()
	engine, err := fermata.New(backend, &fermata.Options{Workers: -1}, first, second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(engine.Close(context.Background()), backend.Close()); err != nil {
			t.Error(err)
		}
	})
	return first.On(engine), second.On(engine)
}

// bounded is a context for what must end.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// slack is for a machine that is busy with other things.
const slack = 10 * time.Second

// TestTakenOver kills the process that executes a run; another one that lives goes on with it, though
// it looks for nothing by itself: it is told.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, o orders) {
		ctx := bounded(t)
		_, fan := o.parent(t)
		o.Verb, o.Takes, o.Tick, o.HangIn = "serve", true, time.Hour, []int{5}
		first := birth(t, o)
		first.expect("ready")
		run, err := fan.Thread("1").Start(ctx, fanWidth, fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		first.expect("inside 5")
		o.HangIn = nil
		second := birth(t, o)
		second.expect("ready")
		limit := time.Second
		if o.onPostgres() {
			limit = memberTimeout + heartbeat
		}
		killed := time.Now()
		first.kill()
		sum, err := run.Result(ctx)
		if err != nil || sum != sumTo(fanWidth) {
			t.Errorf("result %d, error %v", sum, err)
		}
		took := time.Since(killed)
		t.Logf("done %v after the kill; the promise is %v", took.Round(time.Millisecond), limit)
		if took > limit+slack {
			t.Errorf("the run was done only %v after the kill", took)
		}
		second.stdin.Close()
		second.end()
	})
}

// TestRunThatKillsItsProcesses: a run with which living processes die one after the other is put aside,
// and goes on when somebody says so.
func TestRunThatKillsItsProcesses(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, o orders) {
		ctx := bounded(t)
		line, _ := o.parent(t)
		thread := line.Thread("1")
		run, err := thread.Start(ctx, lineLength, fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() {
			_, err := run.Result(ctx)
			result <- err
		}()
		o.Verb, o.Takes, o.DieIn = "serve", true, []int{3}
		died := 0
		for parked := false; !parked && died < 10; {
			c := birth(t, o)
			select {
			case <-c.done:
				died++
			case err := <-result:
				parked = true
				if !errors.Is(err, fermata.ErrParked) || !strings.Contains(err.Error(), "3 processes in a row that died") {
					t.Errorf("the run rests with the error %v", err)
				}
				c.stdin.Close()
				c.end()
			}
		}
		// Steps 1 and 2 were recorded with the first death: that one is not held against the run.
		if died != 4 {
			t.Errorf("%d processes died before the run was parked, want 4", died)
		}
		o.DieIn = nil
		if run, err = thread.Continue(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := run.Result(ctx); !errors.Is(err, fermata.ErrPaused) {
			t.Fatalf("after Continue: error %v, want the question", err)
		}
		if run, err = thread.Resume(ctx, "yes"); err != nil {
			t.Fatal(err)
		}
		if sum, err := run.Result(ctx); err != nil || sum != sumTo(lineLength) {
			t.Errorf("result %d, error %v", sum, err)
		}
		want := []int{1, 2}
		for n := 3; n <= lineLength; n++ {
			want = append(want, n)
			for ; n == 3 && len(want) < 3+died; want = append(want, 3) {
			}
		}
		if got := o.steps(t); !slices.Equal(got, want) {
			t.Errorf("effects:\ngot  %v\nwant %v", got, want)
		}
	})
}

// write tells the child something.
func (c *child) write(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.stdin, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// counted is how often each process did each step.
func (o *orders) counted(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, e := range o.ledger(t) {
		counts[fmt.Sprintf("step %d by %d", e.step, e.pid)]++
	}
	return counts
}
