package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage"
)

var workloads = []struct {
	name string
	run  func(b *bench, backend string) error
}{
	{"W1", seedCycles}, {"W2", steps}, {"W3", fanOut}, {"W4", resume}, {"W5", parked}, {"W6", payloads},
}

var (
	step1 = fermata.NewTask("step_1", func(_ context.Context, q string) (string, error) { return q + " bar", nil })
	step2 = fermata.NewTask("human_feedback", func(ctx context.Context, q string) (string, error) {
		answer, err := fermata.Interrupt[string](ctx, "Please provide feedback: "+q)
		return q + " " + answer, err
	})
	step3 = fermata.NewTask("step_3", func(_ context.Context, q string) (string, error) { return q + " qux", nil })
	graph = fermata.NewEntrypoint("graph", func(ctx context.Context, q string) (string, error) {
		q, err := step1.Call(ctx, q)
		if err == nil {
			q, err = step2.Call(ctx, q)
		}
		if err == nil {
			q, err = step3.Call(ctx, q)
		}
		return q, err
	})

	add   = fermata.NewTask("add", func(_ context.Context, n int) (int, error) { return n + 1, nil })
	chain = fermata.NewEntrypoint("chain", chainOf)
	async = fermata.NewEntrypoint("chain_async", chainOf, fermata.WithDurability(fermata.Async))
	fan   = fermata.NewEntrypoint("fan", func(ctx context.Context, n int) (int, error) {
		futures := make([]*fermata.Future[int], n)
		for i := range futures {
			futures[i] = add.Go(ctx, i)
		}
		results, err := fermata.All(ctx, futures...)
		return len(results), err
	})
	chainThenAsk = fermata.NewEntrypoint("chain_then_ask", func(ctx context.Context, n int) (int, error) {
		sum, err := chainOf(ctx, n)
		if err != nil {
			return 0, err
		}
		answer, err := fermata.Interrupt[int](ctx, "how many?")
		return sum + answer, err
	}, fermata.WithDurability(fermata.Async))

	pass = fermata.NewTask("pass", func(_ context.Context, s string) (string, error) { return s, nil })
	bulk = fermata.NewEntrypoint("bulk", func(ctx context.Context, s string) (int, error) {
		var err error
		for range 10 {
			if s, err = pass.Call(ctx, s); err != nil {
				return 0, err
			}
		}
		return len(s), nil
	})
)

func chainOf(ctx context.Context, n int) (int, error) {
	sum := 0
	for range n {
		next, err := add.Call(ctx, sum)
		if err != nil {
			return 0, err
		}
		sum = next
	}
	return sum, nil
}

// cycle runs the seed program once.
func (s *system) cycle(ctx context.Context, thread string) error {
	t := graph.On(s.engine).Thread(thread)
	run, err := t.Start(ctx, "foo")
	if err != nil {
		return err
	}
	var paused *fermata.PausedError
	if _, err := run.Result(ctx); !errors.As(err, &paused) {
		return fmt.Errorf("no pause: %w", err)
	}
	if run, err = t.Resume(ctx, "baz"); err != nil {
		return err
	}
	out, err := run.Result(ctx)
	if err == nil && out != "foo bar baz qux" {
		err = fmt.Errorf("wrong result %q", out)
	}
	return err
}

// seedCommits is how many commits of a seed cycle wait for each other: input,
// step_1, question, answer, human_feedback, step_3, end.
const seedCommits = 7

// seedCycles is W1: the seed program, one at a time and by 64 threads at once.
func seedCycles(b *bench, backend string) error {
	for _, callers := range []int{1, 64} {
		var rates, raws []float64
		for range b.rounds {
			s, err := b.open(backend)
			if err != nil {
				return err
			}
			if err := s.with(graph); err != nil {
				return err
			}
			raw, err := s.rawCommit()
			if err != nil {
				return err
			}
			rate, err := s.rate(b.ctx, callers, 1500*time.Millisecond)
			s.close()
			if err != nil {
				return err
			}
			rates = append(rates, rate)
			if raw > 0 {
				raws = append(raws, 1/(raw*seedCommits))
			}
		}
		limit := 0.0
		if len(raws) > 0 && callers == 1 {
			limit = median(raws)
		}
		report("W1", backend, fmt.Sprintf("seed, %d at a time", callers), "/s", median(rates), limit)
	}
	return nil
}

// rate runs seed cycles with so many callers for about so long.
func (s *system) rate(ctx context.Context, callers int, window time.Duration) (float64, error) {
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	start := time.Now()
	for caller := range callers {
		all.Go(func() {
			for i := 0; time.Since(start) < window; i++ {
				if err := s.cycle(ctx, fmt.Sprintf("%d-%d", caller, i)); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

// steps is W2: n tasks one after the other.
func steps(b *bench, backend string) error {
	for _, n := range []int{10, 100, 1000} {
		if err := b.chain(backend, chain, n, float64(n+2)/float64(n)); err != nil {
			return err
		}
	}
	return b.chain(backend, async, 10_000, 0)
}

// chain measures a step of a chain of n; commits is how many a step needs, 0 if it doesn't wait for them.
func (b *bench) chain(backend string, entry *fermata.Entrypoint[int, int], n int, commits float64) error {
	var figures, raws []float64
	for range b.rounds {
		s, err := b.open(backend)
		if err != nil {
			return err
		}
		if err := s.with(entry); err != nil {
			return err
		}
		raw, err := s.rawCommit()
		if err != nil {
			return err
		}
		start, runs := time.Now(), 0
		for ; runs == 0 || time.Since(start) < 300*time.Millisecond; runs++ {
			out, err := entry.On(s.engine).Thread(fmt.Sprint("chain-", runs)).Invoke(b.ctx, n)
			if err != nil || out != n {
				return fmt.Errorf("chain of %d gave %d: %w", n, out, err)
			}
		}
		figures = append(figures, time.Since(start).Seconds()*1e6/float64(n*runs))
		raws = append(raws, raw*1e6*commits)
		s.close()
	}
	report("W2", backend, fmt.Sprintf("step of %d, %s", n, entry.Name()), "us", median(figures), median(raws))
	return nil
}

// fanOut is W3: n tasks at once.
func fanOut(b *bench, backend string) error {
	for _, n := range []int{100, 1000, 10_000} {
		var figures []float64
		for round := range b.rounds {
			s, err := b.open(backend)
			if err != nil {
				return err
			}
			if err := s.with(fan); err != nil {
				return err
			}
			start := time.Now()
			out, err := fan.On(s.engine).Thread(fmt.Sprint("fan-", round)).Invoke(b.ctx, n)
			if err != nil || out != n {
				return fmt.Errorf("fan-out of %d gave %d: %w", n, out, err)
			}
			figures = append(figures, time.Since(start).Seconds()*1e3)
			s.close()
		}
		report("W3", backend, fmt.Sprintf("fan-out of %d", n), "ms", median(figures), 0)
	}
	return nil
}

// resume is W4: n finished tasks, then an answer: from the answer to the result, nothing of the run in memory.
func resume(b *bench, backend string) error {
	for _, n := range []int{100, 1000, 10_000} {
		s, err := b.open(backend)
		if err != nil {
			return err
		}
		if err := s.with(chainThenAsk); err != nil {
			return err
		}
		var figures []float64
		for round := range b.rounds {
			t := chainThenAsk.On(s.engine).Thread(fmt.Sprint("resume-", round))
			if _, err := t.Invoke(b.ctx, n); !errors.Is(err, fermata.ErrPaused) {
				return fmt.Errorf("no pause: %w", err)
			}
			start := time.Now()
			run, err := t.Resume(b.ctx, 1)
			if err != nil {
				return err
			}
			if out, err := run.Result(b.ctx); err != nil || out != n+1 {
				return fmt.Errorf("resume of %d gave %d: %w", n, out, err)
			}
			figures = append(figures, time.Since(start).Seconds()*1e3)
		}
		s.close()
		report("W4", backend, fmt.Sprintf("resume after %d tasks", n), "ms", median(figures), 0)
	}
	return nil
}

// parked is W5: many runs wait at the question.
func parked(b *bench, backend string) error {
	const n = 20_000
	s, err := b.open(backend)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.with(graph); err != nil {
		return err
	}
	before := usage()
	goroutines := runtime.NumGoroutine()
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	start := time.Now()
	for range 64 {
		all.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				if _, err := graph.On(s.engine).Thread(fmt.Sprint(i)).Invoke(b.ctx, "foo"); !errors.Is(err, fermata.ErrPaused) {
					failed.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	report("W5", backend, fmt.Sprintf("park %d, 64 at a time", n), "/s", n/time.Since(start).Seconds(), 0)
	report("W5", backend, "memory over start", "MB", (usage()-before)/1e6, 0)
	report("W5", backend, "goroutines over start", "", float64(runtime.NumGoroutine()-goroutines), 0)
	var listing, resuming []float64
	for i := range 20 {
		start := time.Now()
		page, err := s.backend.ListQuestions(b.ctx, storage.QuestionFilter{States: []storage.QuestionState{storage.Open}, Limit: 50})
		if err != nil || len(page) != 50 {
			return fmt.Errorf("%d open questions on the first page: %w", len(page), err)
		}
		listing = append(listing, time.Since(start).Seconds()*1e3)
		t := graph.On(s.engine).Thread(fmt.Sprint(i*900 + 1))
		if _, err := t.State(b.ctx); err != nil {
			return err
		}
		start = time.Now()
		run, err := t.Resume(b.ctx, "baz")
		if err != nil {
			return err
		}
		if out, err := run.Result(b.ctx); err != nil || out != "foo bar baz qux" {
			return fmt.Errorf("resume gave %q: %w", out, err)
		}
		resuming = append(resuming, time.Since(start).Seconds()*1e3)
	}
	raw, err := s.rawCommit()
	if err != nil {
		return err
	}
	report("W5", backend, "first page of open questions", "ms", median(listing), 0)
	report("W5", backend, "resume one to its end (4 commits)", "ms", median(resuming), 4*raw*1e3)
	return nil
}

// usage is the resident memory of this process after a collection, in bytes.
func usage() float64 {
	runtime.GC()
	var pages int64
	if data, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size int64
		_, _ = fmt.Sscan(string(data), &size, &pages)
	}
	return float64(pages * int64(os.Getpagesize()))
}

// payloads is W6: ten tasks that hand on a string of 1 MiB.
func payloads(b *bench, backend string) error {
	payload := strings.Repeat("0123456789abcdef", 1<<16)
	var figures []float64
	for round := range b.rounds {
		s, err := b.open(backend)
		if err != nil {
			return err
		}
		if err := s.with(bulk); err != nil {
			return err
		}
		start := time.Now()
		out, err := bulk.On(s.engine).Thread(fmt.Sprint("bulk-", round)).Invoke(b.ctx, payload)
		if err != nil || out != len(payload) {
			return fmt.Errorf("bulk gave %d: %w", out, err)
		}
		figures = append(figures, 10/time.Since(start).Seconds())
		s.close()
	}
	report("W6", backend, "10 tasks of 1 MiB", "MB/s", median(figures), 0)
	return nil
}
