package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// show is one case: a program, the processes that execute it one after the other, and an audience.
type show struct {
	*rapid.T
	open    func() storage.Backend // a view of the database
	data    storage.Backend        // the test's own
	program []act
	flow    *fermata.Entrypoint[int, int]

	mu     sync.Mutex
	view   *incarnation.Backend // of the process that executes
	engine *fermata.Engine
	kills  map[int]bool // steps that kill their process, once
	all    []*fermata.Engine
	views  []*incarnation.Backend
	over   chan struct{} // closed when the run has finished
}

// act is a part of the program: some steps at once, in the body or in a nested entrypoint, or a question.
type act struct {
	Steps  int
	Emits  int
	Nested bool
	Ask    bool
}

func (s *show) define(d fermata.Durability) {
	step := fermata.NewTask("step", func(ctx context.Context, in [2]int) (int, error) {
		for i := range in[1] {
			if err := fermata.Emit(ctx, fmt.Sprint(in[0], " ", i)); err != nil {
				return 0, err
			}
		}
		s.mu.Lock()
		dies := s.kills[in[0]]
		delete(s.kills, in[0])
		view := s.view
		s.mu.Unlock()
		if dies {
			view.Kill()
			s.boot()
		}
		return in[0], nil
	})
	several := func(ctx context.Context, n, steps, emits int) error {
		var futures []*fermata.Future[int]
		for i := range steps {
			futures = append(futures, step.Go(ctx, [2]int{100*n + i, emits}))
		}
		_, err := fermata.All(ctx, futures...)
		return err
	}
	nested := fermata.NewEntrypoint("nested", func(ctx context.Context, in [3]int) (int, error) {
		return in[0], several(ctx, in[0], in[1], in[2])
	})
	s.flow = fermata.NewEntrypoint("flow", func(ctx context.Context, _ int) (int, error) {
		for n, a := range s.program {
			if err := fermata.Emit(ctx, n); err != nil {
				return 0, err
			}
			var err error
			switch {
			case a.Ask:
				_, err = fermata.Interrupt[int](ctx, n)
			case a.Nested:
				_, err = nested.Call(ctx, [3]int{n, a.Steps, a.Emits})
			default:
				err = several(ctx, n, a.Steps, a.Emits)
			}
			if err != nil {
				return 0, err
			}
		}
		return len(s.program), nil
	}, fermata.WithDurability(d))
}

// process is an engine on a view of its own.
func (s *show) process(workers int) (*incarnation.Backend, *fermata.Engine) {
	view := incarnation.New(s.open(), true)
	engine, err := fermata.New(view, &fermata.Options{Workers: workers, MaxCrashes: 1000}, s.flow)
	if err != nil {
		panic(err)
	}
	return view, engine
}

// boot starts the next process that executes the run.
func (s *show) boot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	dead := s.engine
	s.view, s.engine = s.process(0)
	s.all, s.views = append(s.all, s.engine), append(s.views, s.view)
	if dead != nil {
		go func() {
			stopped, stop := context.WithCancel(context.Background())
			stop()
			dead.Close(stopped) // who read there is told
		}()
	}
}

func (s *show) current() *fermata.Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engine
}

// spectator is a reader of the stream.
type spectator struct {
	engine func() *fermata.Engine
	modes  []fermata.Mode
	nested bool
	after  string // where it begins
	stalls int    // after so many parts it stands still until the run is over; 0: never
	parts  []fermata.Part
	err    error
}

// look reads from where it begins until the run has finished.
func (p *spectator) look(ctx context.Context, s *show, run fermata.ID) error {
	news := make(chan struct{}, 1)
	defer s.data.Watch(func(storage.Note) {
		select {
		case news <- struct{}{}:
		default:
		}
	})()
	last := p.after
	for {
		row, err := s.data.Run(ctx, "", run)
		if err != nil {
			return err
		}
		attached, err := s.flow.On(p.engine()).Thread("1").Attach(ctx, run)
		if err == nil {
			for part, streamed := range attached.Stream(ctx, &fermata.StreamOptions{Nested: p.nested, After: last}, p.modes...) {
				if err = streamed; err != nil {
					break
				}
				if last != "" && comparePlaces(part.Position, last) <= 0 {
					return fmt.Errorf("a part at %s comes after one at %s", part.Position, last)
				}
				last = part.Position
				p.parts = append(p.parts, part)
				if len(p.parts) == p.stalls {
					<-s.over
				}
			}
		}
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			if !errors.Is(err, fermata.ErrClosed) && !errors.Is(err, storage.ErrClosed) {
				return err
			}
			continue // the process is dead: on with the next one
		}
		if row.Status == fermata.Finished {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// comparePlaces orders positions.
func comparePlaces(a, b string) int {
	numbers := func(s string) (list []int) {
		for field := range strings.SplitSeq(s, ".") {
			n, _ := strconv.Atoi(field)
			list = append(list, n)
		}
		return list
	}
	return slices.Compare(numbers(a), numbers(b))
}

var durableModes = []fermata.Mode{
	fermata.StreamUpdates, fermata.StreamValues, fermata.StreamTasks, fermata.StreamCheckpoints, fermata.StreamDebug,
}

// TestEveryReaderSeesOneSequence draws a program, steps that kill the process that executes it, and readers: in that
// process or another one, with any modes, from any position, some of which stand still. What each of them has seen in
// the end is the part of one sequence that it asked for.
func TestEveryReaderSeesOneSequence(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			data := memory.New(nil)
			oneSequence(t, func() storage.Backend { return incarnation.New(data, false) })
		})
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		dir, files := t.TempDir(), 0
		rapid.Check(t, func(t *rapid.T) {
			if files++; files > 15 && !testing.Short() || files > 3 && testing.Short() {
				return // each takes long; the other backend has had as many as there are
			}
			file := filepath.Join(dir, fmt.Sprint(files, ".db"))
			oneSequence(t, func() storage.Backend {
				b, err := sqlite.Open(file, &sqlite.Options{Synchronous: sqlite.Normal})
				if err != nil {
					panic(err)
				}
				return b
			})
		})
	})
}

func oneSequence(t *rapid.T, open func() storage.Backend) {
	s := &show{T: t, open: open, data: open(), kills: map[int]bool{}, over: make(chan struct{})}
	defer s.data.Close()
	for n := range rapid.IntRange(1, 6).Draw(t, "acts") {
		a := act{
			Ask: rapid.IntRange(0, 3).Draw(t, "ask") == 0, Steps: rapid.IntRange(1, 4).Draw(t, "steps"),
			Emits: rapid.SampledFrom([]int{0, 1, 3, 700}).Draw(t, "emits"), Nested: rapid.Bool().Draw(t, "nested"),
		}
		s.program = append(s.program, a)
		if !a.Ask && rapid.IntRange(0, 2).Draw(t, "kill") == 0 {
			s.kills[100*n+rapid.IntRange(0, a.Steps-1).Draw(t, "killer")] = true
		}
	}
	s.define(rapid.SampledFrom([]fermata.Durability{fermata.Sync, fermata.Async, fermata.Exit}).Draw(t, "durability"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	view, observer := s.process(-1)
	s.boot()
	defer func() {
		stopped, stop := context.WithCancel(context.Background())
		stop()
		for _, e := range append(s.all, observer) {
			e.Close(stopped)
		}
		for _, v := range append(s.views, view) {
			v.Kill()
		}
	}()
	run, err := s.flow.On(observer).Thread("1").Start(ctx, 0, fermata.Enqueue())
	if err != nil {
		t.Fatal(err)
	}
	var audience []*spectator
	var looking sync.WaitGroup
	enter := func(after string) {
		p := &spectator{
			engine: s.current, nested: rapid.Bool().Draw(t, "shows nested"), after: after,
			modes:  rapid.SliceOfNDistinct(rapid.SampledFrom(allModes), 1, len(allModes), rapid.ID[fermata.Mode]).Draw(t, "modes"),
			stalls: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "stalls"),
		}
		if rapid.Bool().Draw(t, "elsewhere") {
			p.engine = func() *fermata.Engine { return observer }
		}
		audience = append(audience, p)
		looking.Go(func() { p.err = p.look(ctx, s, run.ID()) })
	}
	for range rapid.IntRange(1, 3).Draw(t, "readers") {
		enter("")
	}
	for paused := (*fermata.PausedError)(nil); ; {
		if _, err = run.Result(ctx); !errors.As(err, &paused) {
			break
		}
		// Who comes now begins somewhere in what there is.
		var there []fermata.Part
		attached, err := s.flow.On(observer).Thread("1").Attach(ctx, run.ID())
		if err != nil {
			t.Fatal(err)
		}
		for part := range attached.Stream(ctx, nil, durableModes...) {
			there = append(there, part)
		}
		enter(rapid.SampledFrom(there).Draw(t, "from").Position)
		if _, err := observer.Answer(ctx, paused.Questions[0].ID, 1, fermata.Enqueue()); err != nil {
			t.Fatal(err)
		}
	}
	close(s.over)
	if err != nil {
		t.Fatal(err)
	}
	looking.Wait()

	attached, err := s.flow.On(observer).Thread("1").Attach(ctx, run.ID())
	if err != nil {
		t.Fatal(err)
	}
	var truth []fermata.Part
	for part, err := range attached.Stream(ctx, &fermata.StreamOptions{Nested: true}, durableModes...) {
		if err != nil {
			t.Fatal(err)
		}
		truth = append(truth, part)
	}
	emitted := map[string]string{} // by position
	for i, p := range audience {
		if p.err != nil {
			t.Fatalf("reader %d: %v", i, p.err)
		}
		var got []string
		for _, part := range p.parts {
			switch {
			case part.Lost > 0:
			case part.Mode == fermata.StreamCustom:
				if before, ok := emitted[part.Position]; ok && before != string(part.Data) {
					t.Fatalf("at %s one reader sees %s, and another %s", part.Position, before, part.Data)
				}
				emitted[part.Position] = string(part.Data)
			default:
				got = append(got, fmt.Sprint(part.Position, part.Mode, part.Namespace, string(part.Data)))
			}
		}
		var expected []string
		for _, part := range truth {
			if (p.after == "" || comparePlaces(part.Position, p.after) > 0) && slices.Contains(p.modes, part.Mode) && (p.nested || len(part.Namespace) == 0) {
				expected = append(expected, fmt.Sprint(part.Position, part.Mode, part.Namespace, string(part.Data)))
			}
		}
		if !slices.Equal(got, expected) {
			t.Fatalf("reader %d of modes %v from %q saw\n%s\nwant\n%s", i, p.modes, p.after, strings.Join(got, "\n"), strings.Join(expected, "\n"))
		}
	}
}
