package sqlite

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/fermata-go/fermata/storage"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// open opens a fresh database.
func open(t testing.TB, o *Options) *Backend {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "work.db"), o)
}

func openAt(t testing.TB, path string, o *Options) *Backend {
	t.Helper()
	b, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func join(t testing.TB, b *Backend) storage.ID {
	t.Helper()
	m, err := b.Join(context.Background(), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return m.ID()
}
