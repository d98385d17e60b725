package sqlite

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

func TestReadOnly(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "work.db")
	b, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Start(context.Background(), storage.Start{Run: storage.Run{ID: storage.NewID(time.Now()), Thread: "t", Entrypoint: "graph"}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// /proc/self/exe can be executed by those who can't see the directory of the binary.
	nobody := func(c *exec.Cmd) {
		c.Path = "/proc/self/exe"
		c.Dir = "/"
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	p := spawn(t, "reader", path, nobody)
	if line := p.line(t); line[:4] != "true" {
		t.Errorf("not ErrReadOnly: %s", line)
	} else {
		t.Log(line)
	}
	p.end(t)
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Error("the file was changed")
	}
}
