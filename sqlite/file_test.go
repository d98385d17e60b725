package sqlite

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
	driver "zombiezen.com/go/sqlite"
)

// script runs statements on a file with the bare driver.
func script(t *testing.T, path string, texts ...string) {
	t.Helper()
	raw, err := driver.OpenConn(path, driver.OpenReadWrite|driver.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, text := range texts {
		if err := (&conn{raw: raw}).run(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

func TestRefusedFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	ours := func(t *testing.T, path string) {
		b, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		want error
		says string
	}{
		{"foreign", func(t *testing.T, path string) { script(t, path, "CREATE TABLE users (id)") }, storage.ErrForeign, "choose another path"},
		{"foreign_wal", func(t *testing.T, path string) {
			script(t, path, "PRAGMA journal_mode = WAL", "CREATE TABLE users (id)")
		}, storage.ErrForeign, "choose another path"},
		{"foreign_application", func(t *testing.T, path string) {
			script(t, path, "PRAGMA application_id = 7")
		}, storage.ErrForeign, "application id 0x7"},
		{"newer", func(t *testing.T, path string) {
			ours(t, path)
			script(t, path, "INSERT INTO migration VALUES (99, 0)")
		}, storage.ErrSchemaTooNew, "upgrade this program"},
		{"text", func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("not a database\n"), 500), 0o600); err != nil {
				t.Fatal(err)
			}
		}, storage.ErrCorrupt, "restore a backup"},
		{"short", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, storage.ErrCorrupt, "restore a backup"},
		{"damaged_schema", func(t *testing.T, path string) {
			ours(t, path)
			damage(t, path, 100, 3000)
		}, storage.ErrCorrupt, "restore a backup"},
		{"cut_off", func(t *testing.T, path string) {
			ours(t, path)
			if err := os.Truncate(path, 5000); err != nil {
				t.Fatal(err)
			}
		}, storage.ErrCorrupt, "restore a backup"},
		{"directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, storage.ErrInvalid, "it is a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "work.db")
			c.make(t, path)
			before, _ := os.ReadFile(path)
			b, err := Open(path, nil)
			if err == nil {
				b.Close()
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q doesn't say %q and where", err, c.says)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

// damage overwrites a part of a file.
func damage(t *testing.T, path string, from, to int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0x5a}, int(to-from)), from); err != nil {
		t.Fatal(err)
	}
}

func TestPathsThatAreNoFile(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]error{
		"":                           storage.ErrInvalid,
		":memory:":                   storage.ErrUnsupported,
		"file::memory:":              storage.ErrUnsupported,
		"file:x?mode=memory":         storage.ErrUnsupported,
		"file:work.db":               storage.ErrInvalid,
		"/there/is/no/such/director": storage.ErrInvalid,
	} {
		_, err := Open(path, nil)
		if !errors.Is(err, want) {
			t.Errorf("Open(%q): %v, want %v", path, err, want)
		}
		if want == storage.ErrUnsupported && !strings.Contains(err.Error(), "storage/memory") {
			t.Errorf("Open(%q): %v doesn't name storage/memory", path, err)
		}
	}
}

func TestAnEmptyFileIsNew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "work.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := openAt(t, path, nil)
	ownedRun(t, b, join(t, b))
}

// A page in the middle of the file is damaged while nobody looks.
func TestDamagedPage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "work.db")
	b, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := ownedRun(t, b, join(t, b))
	for range 500 {
		appendTo(t, b, &r, storage.Unit{Records: [][]byte{record}})
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, path, info.Size()/2/pageSize*pageSize, info.Size())
	b = openAt(t, path, nil)
	_, err = b.Load(context.Background(), "", r.ID)
	if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want ErrCorrupt and the path", err)
	}
}

// TestDamageIsNamed: what SQLite says of a file that is no longer what this package wrote is ErrCorrupt, though the
// pages of the file are sound.
func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"a column is missing":    "ALTER TABLE run RENAME COLUMN due TO other",
		"an index is missing":    "DROP INDEX run_queued",
		"a table is missing":     "DROP TABLE log",
		"a counter is garbage":   "UPDATE counter SET value = 'x' WHERE name = 'run'",
		"a counter is too high":  "UPDATE counter SET value = 1 << 60 WHERE name = 'run'",
		"a counter is not there": "DELETE FROM counter",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "work.db")
			b, err := Open(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := ownedRun(t, b, join(t, b))
			pause(t, b, &r)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			script(t, path, change)
			b = openAt(t, path, nil)
			m, err := b.Join(context.Background(), "test")
			if err != nil {
				t.Fatal(err)
			}
			started, err := b.Start(context.Background(), storage.Start{Run: storage.Run{
				ID: storage.NewID(time.Now()), Thread: "other", Entrypoint: "graph", Owner: m.ID(),
			}})
			if err == nil {
				u := unitOf(&started.Run, storage.Unit{})
				u.Questions = []storage.Question{question(&started.Run)}
				var list []storage.Committed
				if list, err = b.Append(context.Background(), []storage.Unit{u}); err == nil {
					err = list[0].Err
				}
			}
			if err == nil {
				_, err = b.Poll(context.Background(), storage.Poll{Member: m.ID(), Entrypoints: []string{"graph"}, Limit: 1})
			}
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%v, want ErrCorrupt", err)
			}
		})
	}
}

// TestDamagedKeysEnd: a key that is greater than itself as it is read doesn't send those who go through keys in circles.
func TestDamagedKeysEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	path := filepath.Join(t.TempDir(), "work.db")
	b, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ownedRun(t, b, join(t, b))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	script(t, path, "UPDATE run SET thread = CAST(thread AS BLOB), owner = CAST(owner || x'00' AS BLOB)")
	b = openAt(t, path, nil)
	if _, err := b.ListThreads(ctx, storage.ThreadFilter{Limit: 1 << 30, Entrypoint: "none"}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("ListThreads: %v, want ErrCorrupt", err)
	}
	if _, err := b.Poll(ctx, storage.Poll{Member: join(t, b), Entrypoints: []string{"graph"}, Limit: 1}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Poll: %v, want ErrCorrupt", err)
	}
}

// TestFileIsGone: what is written to a file that nobody can open any more isn't reported as done.
func TestFileIsGone(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("an open file can't be removed")
	}
	ctx := context.Background()
	for name, c := range map[string]struct {
		take func(path string) error
		says string
	}{
		"removed": {os.Remove, "removed"},
		"moved":   {func(path string) error { return os.Rename(path, path+".old") }, "moved"},
		"replaced": {func(path string) error {
			if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}, "replaced"},
	} {
		fails := func(t *testing.T, err error) {
			t.Helper()
			if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want ErrCorrupt that says %q", err, c.says)
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, nil)
			r := ownedRun(t, b, join(t, b))
			if err := c.take(b.Path()); err != nil {
				t.Fatal(err)
			}
			_, err := b.Append(ctx, []storage.Unit{unitOf(&r, storage.Unit{})})
			fails(t, err)
			_, err = b.Run(ctx, "", r.ID)
			fails(t, err)
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			if _, err := b.Run(ctx, "", r.ID); !errors.Is(err, storage.ErrClosed) {
				t.Errorf("after Close: %v, want ErrClosed", err)
			}
		})
		t.Run(name+"_watched", func(t *testing.T) {
			t.Parallel()
			b := open(t, nil)
			r := ownedRun(t, b, join(t, b))
			told := make(chan storage.Note, 100)
			defer b.Watch(func(n storage.Note) { told <- n })()
			if err := c.take(b.Path()); err != nil {
				t.Fatal(err)
			}
			for n := range told {
				if n.Questions && n.Run.IsZero() {
					break
				}
			}
			_, err := b.Run(ctx, "", r.ID)
			fails(t, err)
		})
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := open(t, nil)
	r := ownedRun(t, b, join(t, b))
	pages, err := b.writer.value("PRAGMA page_count")
	if err != nil {
		t.Fatal(err)
	}
	limit := func(n int64) {
		if _, err := b.writer.query("PRAGMA max_page_count = " + itoa(n)).first(nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(pages + 4)
	large := unitOf(&r, storage.Unit{Records: [][]byte{make([]byte, 100_000)}})
	_, err = b.Append(ctx, []storage.Unit{large})
	if !errors.Is(err, storage.ErrFull) || !strings.Contains(err.Error(), b.Path()) || !strings.Contains(err.Error(), "free space") {
		t.Errorf("error %v, want ErrFull with the path and what to do", err)
	}
	appendTo(t, b, &r, storage.Unit{}) // what fits still works
	limit(1 << 30)
	large.First = r.LastSeq + 1
	list, err := b.Append(ctx, []storage.Unit{large})
	if err != nil || list[0].Err != nil {
		t.Errorf("with space again: %v %v", err, list)
	}
	if got := texts(t, b, r.ID); len(got) != 2 || got[0] != "record 1" || len(got[1]) != 100_000 {
		t.Errorf("%d records", len(got))
	}
	sound(t, b)
}

// The file is reached by two names; members of both see each other.
func TestSymbolicLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openAt(t, filepath.Join(dir, "work.db"), nil)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(b.Path(), link); err != nil {
		t.Skip(err)
	}
	other := openAt(t, link, nil)
	if other.Path() != b.Path() {
		t.Errorf("paths %q and %q", b.Path(), other.Path())
	}
	if !other.members.lives(join(t, b)) {
		t.Error("a member is not alive for the other name")
	}
}

// While another transaction holds the write lock, a write waits, and then says so.
func TestBusyForTooLong(t *testing.T) {
	t.Parallel()
	b := open(t, &Options{BusyTimeout: 50 * time.Millisecond})
	r := ownedRun(t, b, join(t, b))
	raw, err := driver.OpenConn(b.Path(), driver.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	other := &conn{raw: raw}
	if err := other.run("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Append(context.Background(), []storage.Unit{unitOf(&r, storage.Unit{})}); !errors.Is(err, storage.ErrLocked) || !strings.Contains(err.Error(), "BusyTimeout") {
		t.Errorf("error %v, want ErrLocked that names BusyTimeout", err)
	}
	if _, err := b.Run(context.Background(), "", r.ID); err != nil {
		t.Errorf("a read has to wait: %v", err)
	}
	if err := other.run("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, b, &r, storage.Unit{})
	if b.Stats().Busy == 0 {
		t.Error("Stats.Busy is 0")
	}
}

// Close ends a write that waits for another process.
func TestCloseWhileBusy(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	r := ownedRun(t, b, join(t, b))
	raw, err := driver.OpenConn(b.Path(), driver.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := (&conn{raw: raw}).run("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		_, err := b.Append(context.Background(), []storage.Unit{unitOf(&r, storage.Unit{})})
		result <- err
	}()
	for b.Stats().Busy == 0 { // until it waits
		runtime.Gosched()
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, storage.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}
