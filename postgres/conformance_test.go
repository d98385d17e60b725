package postgres_test

import (
	"sync"
	"testing"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/storagetest"
)

func TestConformance(t *testing.T) {
	var dsns sync.Map // of the databases, by backend
	open := func(t *testing.T, dsn string, o storagetest.Options) storage.Backend {
		t.Helper()
		b, err := postgres.Open(t.Context(), dsn, &postgres.Options{Offset: o.Offset, Connections: 4})
		if err != nil {
			t.Fatal(err)
		}
		dsns.Store(b, dsn)
		return b
	}
	dsnOf := func(b storage.Backend) string {
		dsn, _ := dsns.Load(b)
		return dsn.(string)
	}
	storagetest.Run(t, storagetest.Harness{
		New: func(t *testing.T, o storagetest.Options) storage.Backend { return open(t, pgtest.DSN(t), o) },
		Reopen: func(t *testing.T, b storage.Backend, o storagetest.Options) storage.Backend {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, dsnOf(b), o)
		},
		Second: func(t *testing.T, b storage.Backend, o storagetest.Options) storage.Backend {
			return open(t, dsnOf(b), o)
		},
		HoldRun: func(t *testing.T, b storage.Backend, run storage.ID) func() {
			conn := connect(t, dsnOf(b))
			execute(t, conn, "BEGIN")
			execute(t, conn, "SELECT FROM fermata.run WHERE id = $1 FOR UPDATE", run.String())
			return func() { execute(t, conn, "COMMIT") }
		},
	})
}
