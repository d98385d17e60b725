package fermata_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/backendtest"
)

// stopwatch, setOfNames and passes are what the faulty workflows below read.
type stopwatch struct{ began time.Time }

func (w stopwatch) reading() string { return time.Since(w.began).String() }

type setOfNames map[string]bool

var passes int

func clockOfAHelper() string { return time.Now().String() }

const faultyVariable = "FERMATA_TEST_DETERMINISM"

// faults are the ways in which code that is replayed may come to another value than the first time.
func faults() map[string]func() string {
	clock := func() string { return time.Now().String() }
	watch := stopwatch{time.Now()}
	names := setOfNames{}
	for i := range 10_000 {
		names[strconv.Itoa(i)] = true
	}
	return map[string]func() string{
		"clock in a closure":    clock,
		"clock in a method":     watch.reading,
		"clock in a helper":     clockOfAHelper,
		"random number":         func() string { return strconv.FormatUint(rand.Uint64(), 10) },
		"environment":           func() string { return os.Getenv(faultyVariable) },
		"variable of a package": func() string { return strconv.Itoa(passes) },
		"order of a named map": func() string {
			sum := sha256.New()
			for name := range names {
				sum.Write([]byte(name + " "))
			}
			return fmt.Sprintf("%x", sum.Sum(nil))
		},
		"who gets a mutex first": func() string {
			var mu sync.Mutex
			order := ""
			racer := []string{"a", "b"}
			for i := range racer { // as chance may have it
				var done sync.WaitGroup
				done.Go(func() {
					mu.Lock()
					defer mu.Unlock()
					order += racer[(i+passes)%2]
				})
				done.Wait()
			}
			return order
		},
		"what a select takes": func() string {
			ready := make(chan bool, 1)
			if passes%2 == 0 {
				ready <- true
			}
			select {
			case <-ready:
				return "ready"
			case <-time.After(time.Millisecond):
				return "late"
			}
		},
	}
}

// Code whose calls depend on what a replay doesn't repeat is parked with a diagnosis
// when it comes to another value, and its results are given to no other call.
func TestCodeThatDependsOnChance(t *testing.T) { // E12
	for name, fault := range faults() {
		t.Run(name, func(t *testing.T) {
			g := &ground{t: t, open: backendtest.Memory(t)} // not in parallel: the faults share what they read
			var c calls
			step := fermata.NewTask("step", func(_ context.Context, s string) (string, error) { c.add("step"); return s, nil })
			flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (string, error) {
				passes++
				value, err := step.Call(ctx, fault())
				if err != nil {
					return "", err
				}
				_, err = fermata.Interrupt[string](ctx, "ok?")
				return value, err
			})
			diagnosed := func(err error) {
				t.Helper()
				wantErr(t, "replay", err, fermata.ErrParked)
				var found *fermata.DivergenceError
				if !errors.As(err, &found) || found.Recorded == nil || found.Current == nil {
					t.Fatalf("parked without the two sides: %v", err)
				}
				want(t, "calls", []string{found.Recorded.Name, found.Current.Name}, []string{"step", "step"})
				if len(found.Fields) != 1 || found.Fields[0].Recorded == found.Fields[0].Current {
					t.Errorf("differences %+v, want the two values", found.Fields)
				}
			}
			t.Setenv(faultyVariable, "before")
			g.deploy(nil, flow)
			p := play(g, flow, "1")
			question := p.asks(p.start(0), `"ok?"`)[0]
			t.Setenv(faultyVariable, "after")
			g.deploy(nil, flow)
			diagnosed(p.answer(question, "yes").err)
			want(t, "calls", c.take(), map[string]int{"step": 1})

			// Before anybody is asked, if the engine is told to look.
			g.deploy(&fermata.Options{VerifyReplay: true}, flow)
			first := play(g, flow, "2").start(0)
			if name == "environment" { // it is the same all the time that a process lives
				paused(t, first.err)
				return
			}
			diagnosed(first.err)
		})
	}
}
