package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/storagetest"
)

func TestConformance(t *testing.T) {
	open := func(t *testing.T, path string, o storagetest.Options) storage.Backend {
		b, err := Open(path, &Options{Offset: o.Offset})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	storagetest.Run(t, storagetest.Harness{
		New: func(t *testing.T, o storagetest.Options) storage.Backend {
			return open(t, filepath.Join(t.TempDir(), "work.db"), o)
		},
		Reopen: func(t *testing.T, b storage.Backend, o storagetest.Options) storage.Backend {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, b.(*Backend).Path(), o)
		},
		Second: func(t *testing.T, b storage.Backend, o storagetest.Options) storage.Backend {
			return open(t, b.(*Backend).Path(), o)
		},
		// The kernel frees a dead process's locks, and nothing else happens.
		Kill: func(t *testing.T, m storage.Membership) {
			m.(*membership).die()
		},
	})
}

// die is what the death of a process does to its member: the lock is free, and the file is still there.
func (m *membership) die() {
	m.b.members.remove(m)
	m.lock.file.Close()
	close(m.lost)
}
