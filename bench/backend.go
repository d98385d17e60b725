package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// bench is one run of the program.
type bench struct {
	ctx    context.Context
	dir    string
	dsn    string
	rounds int
}

// system is a backend with an engine on it, and the raw limit of where it writes.
type system struct {
	name    string
	backend storage.Backend
	engine  *fermata.Engine
	// raw makes one durable commit as cheap as the place allows; nil in memory.
	raw   func() error
	close func()
}

// open makes a fresh database.
func (b *bench) open(name string) (*system, error) {
	s := &system{name: name}
	dir, err := os.MkdirTemp(b.dir, "fermata-bench-")
	if err != nil {
		return nil, err
	}
	cleanup := func() { _ = os.RemoveAll(dir) }
	switch name {
	case "memory":
		s.backend = memory.New(nil)
	case "sqlite":
		if s.backend, err = sqlite.Open(filepath.Join(dir, "bench.db"), nil); err != nil {
			return nil, err
		}
		raw, err := newRawSQLite(filepath.Join(dir, "raw.db"))
		if err != nil {
			return nil, err
		}
		s.raw = raw.commit
		cleanup = func() { raw.close(); _ = os.RemoveAll(dir) }
	case "postgres":
		raw, err := s.openPostgres(b.ctx, b.dsn)
		if err != nil {
			return nil, err
		}
		cleanup = func() { raw(); _ = os.RemoveAll(dir) }
	default:
		return nil, fmt.Errorf("unknown backend %q", name)
	}
	s.close = func() {
		if s.engine != nil {
			_ = s.engine.Close(b.ctx)
		}
		_ = s.backend.Close()
		cleanup()
	}
	return s, nil
}

// with starts an engine on the system.
func (s *system) with(entrypoints ...fermata.Definition) error {
	if s.engine != nil {
		if err := s.engine.Close(context.Background()); err != nil {
			return err
		}
	}
	var err error
	s.engine, err = fermata.New(s.backend, nil, entrypoints...)
	return err
}

// rawCommit is the mean time of a raw commit over about 200 ms, in seconds; 0 in memory.
func (s *system) rawCommit() (float64, error) {
	if s.raw == nil {
		return 0, nil
	}
	start, n := time.Now(), 0
	for time.Since(start) < 200*time.Millisecond {
		if err := s.raw(); err != nil {
			return 0, err
		}
		n++
	}
	return time.Since(start).Seconds() / float64(n), nil
}

func median(figures []float64) float64 {
	slices.Sort(figures)
	return figures[len(figures)/2]
}

// report prints one line of the table. raw 0: there is no such limit.
func report(workload, backend, what, unit string, figure, raw float64) {
	limit, ratio := "", ""
	if raw > 0 {
		limit, ratio = fmt.Sprintf("%.4g %s", raw, unit), fmt.Sprintf("%.2f", figure/raw)
	}
	fmt.Printf("%-4s %-9s %-34s %12s %12s %8s\n", workload, backend, what, fmt.Sprintf("%.4g %s", figure, unit), limit, ratio)
}
