package fermata_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
)

// A disk that is really full: what was recorded is kept, and the run goes on when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := syscall.Mount("fermata", disk, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("a small disk can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	o := &fermatatest.Options{Backend: func(offset func() time.Duration) (storage.Backend, error) {
		return sqlite.Open(filepath.Join(disk, "work.db"), &sqlite.Options{Offset: offset})
	}}
	o.Engine.Tick = 10 * time.Millisecond
	ballast := filepath.Join(disk, "ballast")
	var calls [3]atomic.Int32
	make1MB := fermata.NewTask("make", func(_ context.Context, i int) (string, error) {
		calls[i].Add(1)
		if i == 1 && calls[i].Load() == 1 {
			// Somebody else fills the disk.
			f, err := os.Create(ballast)
			if err != nil {
				return "", err
			}
			defer f.Close()
			for {
				if _, err := f.Write(make([]byte, 4096)); err != nil {
					break
				}
			}
		}
		return strings.Repeat("x", 300_000), nil
	})
	graph := body(func(ctx context.Context, _ string) (int, error) {
		sum := 0
		for i := range calls {
			s, err := make1MB.Call(ctx, i)
			if err != nil {
				return 0, err
			}
			sum += len(s)
		}
		return sum, nil
	})
	h := fermatatest.New(t, o, graph)
	thread := fermatatest.On(h, graph, "1")
	run, err := thread.Handle().Start(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = run.Result(t.Context())
	says(t, err, fermata.ErrStorage, "free space", "work.db")
	says(t, err, storage.ErrFull)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if got := thread.Result(); got != 900_000 {
		t.Errorf("result %d", got)
	}
	if calls[0].Load() != 1 || calls[2].Load() != 1 {
		t.Errorf("the task before the full disk was called %d times, the one after it %d times", calls[0].Load(), calls[2].Load())
	}
}
