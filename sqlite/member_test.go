package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

func liveFiles(t *testing.T, b *Backend) []string {
	t.Helper()
	files, err := filepath.Glob(b.Path() + "-live-*")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestMembersFiles(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := open(t, nil)
	m, err := b.Join(ctx, "worker 7")
	if err != nil {
		t.Fatal(err)
	}
	files := liveFiles(t, b)
	if len(files) != 1 || files[0] != b.Path()+"-live-"+m.ID().String() {
		t.Fatalf("files %q", files)
	}
	if content, err := os.ReadFile(files[0]); err != nil || string(content) != "worker 7" {
		t.Errorf("content %q, %v", content, err)
	}
	if !b.members.lives(m.ID()) || b.members.lives(storage.ID{}) || b.members.lives(storage.NewID(time.Now())) {
		t.Error("lives: want true for the member only")
	}
	other := openAt(t, b.Path(), nil)
	if !other.members.lives(m.ID()) {
		t.Error("another backend takes the member for dead")
	}
	if err := m.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	if other.members.lives(m.ID()) || len(liveFiles(t, b)) != 0 {
		t.Errorf("after Leave the member lives, or has left %q", liveFiles(t, b))
	}
}

// Files of the dead go away when somebody joins, even if the dead owned nothing.
func TestStaleFilesAreSwept(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	living := join(t, b)
	stale := b.Path() + "-live-" + storage.NewID(time.Now()).String()
	foreign := b.Path() + "-live-notes"
	for _, path := range []string{stale, foreign} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second := openAt(t, b.Path(), nil)
	join(t, second)
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("the stale file: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file of somebody else: %v", err)
	}
	if !second.members.lives(living) {
		t.Error("the sweep killed a living member")
	}
}

// Members that join while others sweep are never taken for dead.
func TestJoinAndSweepRace(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := open(t, nil)
	other := openAt(t, b.Path(), nil)
	stop := make(chan struct{})
	var sweepers sync.WaitGroup
	for range 4 {
		sweepers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := other.members.sweep(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 200 {
		m, err := b.Join(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if !probeLock(b.members.file(m.ID())) {
			t.Fatal("a member that joined is dead")
		}
		if err := m.Leave(ctx); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	sweepers.Wait()
}
