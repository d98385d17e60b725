package fermata_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// damaged is a backend whose disk gives back other records than were written.
type damaged struct {
	storage.Backend
	seq    int64 // of the record that is damaged
	damage func([]byte) []byte
}

func (d *damaged) spoil(records []storage.Record) []storage.Record {
	records = slices.Clone(records)
	for i := range records {
		if records[i].Seq == d.seq {
			records[i].Data = d.damage(slices.Clone(records[i].Data))
		}
	}
	return records
}

func (d *damaged) Load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	loaded, err := d.Backend.Load(ctx, tenant, run)
	loaded.Records = d.spoil(loaded.Records)
	return loaded, err
}

func (d *damaged) Log(ctx context.Context, tenant string, run storage.ID, after int64, limit int) (storage.Run, []storage.Record, error) {
	row, records, err := d.Backend.Log(ctx, tenant, run, after, limit)
	return row, d.spoil(records), err
}

// TestDamagedRecords: whatever a record has become, readers and a process that goes on with the run get a typed error, or
// the run goes on: nothing panics, and nothing waits for ever.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	flow := tour()
	damages := map[string]func([]byte) []byte{
		"gone":         func([]byte) []byte { return nil },
		"cut off":      func(b []byte) []byte { return b[:len(b)/2] },
		"another kind": func(b []byte) []byte { b[0] ^= 3; return b },
		"no kind":      func(b []byte) []byte { b[0] = 0xff; return b },
		"lengthened":   func(b []byte) []byte { return append(b, 0xff, 0xff) },
	}
	for i := range 12 {
		damages[fmt.Sprint("byte ", i)] = func(b []byte) []byte {
			b[min(i, len(b)-1)] ^= 0x15
			return b
		}
	}
	parked, survived := 0, 0
	for name, damage := range damages {
		last := int64(1)
		for seq := int64(1); seq <= last; seq++ {
			data := memory.New(nil)
			whole, err := fermata.New(incarnation.New(data, false), nil, flow)
			if err != nil {
				t.Fatal(err)
			}
			run, err := flow.On(whole).Thread("1").Start(ctx, 1)
			if err != nil {
				t.Fatal(err)
			}
			_, err = run.Result(ctx)
			question := paused(t, err)[0]
			row, err := data.Run(ctx, "", run.ID())
			if err != nil {
				t.Fatal(err)
			}
			last = row.LastSeq
			backend := &damaged{Backend: incarnation.New(data, false), seq: seq, damage: damage}
			engine, err := fermata.New(backend, nil, flow)
			if err != nil {
				t.Fatal(err)
			}
			typed := func(what string, err error) {
				var known *fermata.Error
				if err != nil && !errors.As(err, &known) && !errors.Is(err, fermata.ErrPaused) {
					t.Errorf("%s, record %d, %s: error %v is not of a kind", name, seq, what, err)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("%s, record %d, %s: it waits for ever", name, seq, what)
				}
			}
			thread := flow.On(engine).Thread("1")
			watch := func(what string) {
				attached, err := thread.Attach(ctx, run.ID())
				if err != nil {
					t.Fatal(err)
				}
				for _, err := range attached.Stream(ctx, &fermata.StreamOptions{Nested: true}, allModes...) {
					typed(what, err)
				}
			}
			watch("a stream while it waits")
			if receipt, err := engine.Answer(ctx, question.ID, "yes"); err == nil {
				_, err = receipt.Wait(ctx)
				typed("the result", err)
				if errors.Is(err, fermata.ErrParked) {
					parked++
				} else {
					survived++
				}
				watch("a stream after the answer")
			}
			for _, e := range []*fermata.Engine{whole, engine} {
				if err := e.Close(ctx); err != nil {
					t.Fatal(err)
				}
			}
			data.Close()
		}
	}
	t.Logf("%d runs were parked, %d went on", parked, survived)
	if parked == 0 {
		t.Error("no run was parked")
	}
}

// unloadable is a backend that can't load runs.
type unloadable struct {
	storage.Backend
	err   atomic.Pointer[error] // why; nil if it can
	loads atomic.Int32
}

func (b *unloadable) Load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	b.loads.Add(1)
	if err := b.err.Load(); err != nil {
		return storage.Loaded{}, *err
	}
	return b.Backend.Load(ctx, tenant, run)
}

func TestRunWhoseLogIsDamagedIsParked(t *testing.T) {
	onHarness(t, func(t *testing.T, o *fermatatest.Options) {
		inner, backend := o.Backend, &unloadable{}
		o.Backend = func(offset func() time.Duration) (b storage.Backend, err error) {
			backend.Backend, err = inner(offset)
			return backend, err
		}
		graph := body(func(ctx context.Context, in string) (string, error) { return fermata.Interrupt[string](ctx, in) })
		h := fermatatest.New(t, o, graph)
		thread := fermatatest.On(h, graph, "1")
		thread.Start("go on?")
		question := thread.Question()
		damage := fmt.Errorf("page 7: %w", storage.ErrCorrupt)
		backend.err.Store(&damage)
		receipt, err := h.Engine().Answer(t.Context(), question.ID, "yes")
		if err != nil {
			t.Fatal(err)
		}
		_, err = receipt.Wait(t.Context())
		says(t, err, fermata.ErrParked, "database corrupt", "page 7")
		backend.err.Store(nil)
		if _, err := thread.Handle().Continue(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := thread.Result(); got != "yes" {
			t.Errorf("result %q, of a run whose database was mended", got)
		}
	})
}

func TestRunThatCantBeLoadedIsTriedWithPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := &unloadable{Backend: memory.New(nil)}
		defer backend.Close()
		fault := errors.New("disk on fire")
		backend.err.Store(&fault)
		graph := body(func(_ context.Context, in string) (string, error) { return in, nil })
		var log bytes.Buffer
		worker, err := fermata.New(backend, &fermata.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, graph)
		if err != nil {
			t.Fatal(err)
		}
		run, err := graph.On(worker).Thread("1").Start(t.Context(), "x", fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if n := backend.loads.Load(); n < 10 || n > 20 {
			t.Errorf("%d loads in ten minutes", n)
		}
		backend.err.Store(nil)
		if got, err := run.Result(t.Context()); err != nil || got != "x" {
			t.Errorf("result %q, %v", got, err)
		}
		if err := worker.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "disk on fire"); n < 1 || n > 3 {
			t.Errorf("%d lines in the log", n)
		}
	})
}

// deadly is a process that dies when it loads a run.
type deadly struct {
	*incarnation.Backend
	loads *atomic.Int32
}

func (b deadly) Load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	b.loads.Add(1)
	b.Kill()
	return b.Backend.Load(ctx, tenant, run)
}

func TestRunThatKillsWhoLoadsItIsParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		data := memory.New(nil)
		defer data.Close()
		graph := body(func(_ context.Context, in string) (string, error) { return in, nil })
		web, err := fermata.New(incarnation.New(data, false), &fermata.Options{Workers: -1}, graph)
		if err != nil {
			t.Fatal(err)
		}
		defer web.Close(t.Context())
		run, err := graph.On(web).Thread("1").Start(t.Context(), "x", fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		var loads atomic.Int32
		var log bytes.Buffer
		for range 6 {
			worker, err := fermata.New(deadly{incarnation.New(data, false), &loads}, &fermata.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, graph)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			_ = worker.Close(t.Context())
		}
		_, err = run.Result(t.Context())
		says(t, err, fermata.ErrParked, "3 processes", "beside it")
		if n := loads.Load(); n != 3 {
			t.Errorf("%d processes loaded it", n)
		}
		if !strings.Contains(log.String(), "reason=crash_loop") {
			t.Errorf("nobody is told:\n%s", log.String())
		}
	})
}
