// Package backendtest runs a test once on every backend: memory, SQLite, and
// PostgreSQL where there is one.
package backendtest

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// Opener opens a handle on the database of one test, as one more process would;
// every call of one Opener opens the same data. offset, if not nil, is added to the backend's time, and is the
// same at every call. Closing the handle leaves the data; it is closed at the end of
// the test if it is open yet.
type Opener func(t testing.TB, offset func() time.Duration) storage.Backend

// Each calls fn in a parallel subtest per backend, each with a fresh database.
// The subtest has the backend's name.
func Each(t *testing.T, fn func(t *testing.T, open Opener)) {
	t.Helper()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			fn(t, b.database(t))
		})
	}
}

// EachBench is [Each] for benchmarks, one backend after the other.
func EachBench(b *testing.B, fn func(b *testing.B, open Opener)) {
	b.Helper()
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) { fn(b, backend.database(b)) })
	}
}

// Memory returns an Opener of a fresh database in memory, for tests that run in a bubble of
// testing/synctest.
func Memory(testing.TB) Opener {
	var shared *memory.Backend
	var once sync.Once
	return func(t testing.TB, offset func() time.Duration) storage.Backend {
		once.Do(func() { shared = memory.New(&memory.Options{Offset: offset}) })
		return closed(t, incarnation.New(shared, false))
	}
}

// sqliteFile is a file that is gone after the test. It isn't meant to survive a power cut.
func sqliteFile(t testing.TB) Opener {
	path := filepath.Join(t.TempDir(), "test.db")
	return func(t testing.TB, offset func() time.Duration) storage.Backend {
		t.Helper()
		b, err := sqlite.Open(path, &sqlite.Options{Offset: offset, Synchronous: sqlite.Normal})
		if err != nil {
			t.Fatal(err)
		}
		return closed(t, b)
	}
}

// postgresDatabase is a database that is empty again after the test, which is skipped if there is no server.
func postgresDatabase(t testing.TB) Opener {
	dsn := pgtest.DSN(t)
	return func(t testing.TB, offset func() time.Duration) storage.Backend {
		t.Helper()
		b, err := postgres.Open(t.Context(), dsn, &postgres.Options{Offset: offset, Connections: 4})
		if err != nil {
			t.Fatal(err)
		}
		return closed(t, b)
	}
}

// backends are those that this module has, cheapest first.
var backends = []struct {
	name     string
	database func(testing.TB) Opener
}{
	{"memory", Memory},
	{"sqlite", sqliteFile},
	{"postgres", postgresDatabase},
}

func closed(t testing.TB, b storage.Backend) storage.Backend {
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close the backend: %v", err)
		}
	})
	return b
}
