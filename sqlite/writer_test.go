package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func TestConcurrentRunsShareCommits(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	member := join(t, b)
	const runs, each = 64, 20
	list := make([]storage.Run, runs)
	for i := range list {
		list[i] = ownedRun(t, b, member)
	}
	before := b.Stats()
	var wg sync.WaitGroup
	for i := range list {
		wg.Go(func() {
			for range each {
				appendTo(t, b, &list[i], storage.Unit{})
			}
		})
	}
	wg.Wait()
	after := b.Stats()
	units, commits := after.Units-before.Units, after.Commits-before.Commits
	if units != runs*each {
		t.Errorf("%d units, want %d", units, runs*each)
	}
	if commits > units/8 {
		t.Errorf("%d units took %d commits: they don't share them", units, commits)
	}
}

// blocked occupies the queue until release is called: what is asked for meanwhile is one batch.
func blocked(t *testing.T, b *Backend) (release func()) {
	t.Helper()
	in, out := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- b.write(context.Background(), "block", func(*tx) error {
			close(in)
			<-out
			return nil
		})
	}()
	<-in
	return func() {
		close(out)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// queuedUp waits until n operations are queued or under way since before.
func queuedUp(b *Backend, n int) {
	for b.queue.Len() < n {
		runtime.Gosched()
	}
}

// together runs functions so that their writes are in one batch, in any order.
func together(t *testing.T, b *Backend, functions ...func()) {
	t.Helper()
	release := blocked(t, b)
	var wg sync.WaitGroup
	for _, f := range functions {
		wg.Go(f)
	}
	queuedUp(b, len(functions))
	release()
	wg.Wait()
}

func TestRefusedOperationUndoesNothingOfItsNeighbours(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	member := join(t, b)
	good, bad := ownedRun(t, b, member), ownedRun(t, b, member)
	before := b.Stats()
	together(t, b,
		func() { appendTo(t, b, &good, storage.Unit{}) },
		func() {
			u := unitOf(&bad, storage.Unit{})
			u.Token = 7
			list, err := b.Append(context.Background(), []storage.Unit{u})
			if err != nil || !errors.Is(list[0].Err, storage.ErrStale) {
				t.Errorf("got %v %v, want ErrStale", list, err)
			}
		},
		func() {
			_, err := b.Start(context.Background(), storage.Start{Run: storage.Run{ID: storage.NewID(time.Now()), Thread: good.Thread, Entrypoint: "graph"}})
			if !errors.Is(err, storage.ErrBusy) {
				t.Errorf("got %v, want ErrBusy", err)
			}
		},
	)
	if s := b.Stats(); s.Commits != before.Commits+1 || s.Redone != before.Redone {
		t.Errorf("%+v, before %+v", s, before)
	}
	if got := texts(t, b, good.ID); len(got) != 1 {
		t.Errorf("records %q", got)
	}
}

func TestBrokenOperationIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(*tx) error{
		"database_error": func(t *tx) error {
			if err := t.write(t.query("INSERT INTO counter (name, value) VALUES ('broken', 1)")); err != nil {
				return err
			}
			return t.write(t.query("INSERT INTO counter (name, value) VALUES ('broken', 1)"))
		},
		"panic": func(t *tx) error {
			if err := t.write(t.query("INSERT INTO counter (name, value) VALUES ('broken', 1)")); err != nil {
				return err
			}
			panic("broken")
		},
		"open_statement": func(t *tx) error {
			t.query("SELECT name FROM counter").next()
			return errors.New("left in the middle")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, nil)
			member := join(t, b)
			runs := []storage.Run{ownedRun(t, b, member), ownedRun(t, b, member)}
			failing := func() {
				err := b.write(context.Background(), "break", broken)
				if err == nil || isRefusal(err) || !strings.Contains(err.Error(), b.Path()) {
					t.Errorf("got %v, want a fault that names the file", err)
				}
				if name == "panic" && !strings.Contains(err.Error(), "writer_test.go") {
					t.Errorf("the panic lost its stack: %v", err)
				}
			}
			together(t, b,
				func() { appendTo(t, b, &runs[0], storage.Unit{}) }, failing, failing,
				func() { appendTo(t, b, &runs[1], storage.Unit{}) }, failing, failing, failing,
			)
			for i := range runs {
				if got := texts(t, b, runs[i].ID); len(got) != 1 {
					t.Errorf("run %d: records %q", i, got)
				}
				appendTo(t, b, &runs[i], storage.Unit{})
			}
			if n, err := b.writer.value("SELECT count(*) FROM counter WHERE name = 'broken'"); err != nil || n != 0 {
				t.Errorf("%d rows of the broken operation are there, %v", n, err)
			}
			if b.Stats().Redone == 0 {
				t.Error("Stats.Redone is 0")
			}
		})
	}
}

// A commit that fails: everybody of it gets the error, and nothing of it is there.
func TestFailedCommit(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	r := ownedRun(t, b, join(t, b))
	for _, text := range []string{
		"PRAGMA foreign_keys = ON", "CREATE TABLE parent (id PRIMARY KEY)",
		"CREATE TABLE child (id REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)",
	} {
		if err := b.writer.run(text); err != nil {
			t.Fatal(err)
		}
	}
	unit := unitOf(&r, storage.Unit{Status: storage.Finished})
	together(t, b,
		func() {
			if err := b.write(context.Background(), "orphan", func(t *tx) error { return t.write(t.query("INSERT INTO child VALUES (1)")) }); err == nil {
				t.Error("an orphan was committed")
			}
		},
		func() {
			if list, err := b.Append(context.Background(), []storage.Unit{unit}); err == nil || isRefusal(err) {
				t.Errorf("got %v %v, want the fault of the commit", list, err)
			}
		},
	)
	if got := texts(t, b, r.ID); len(got) != 0 {
		t.Errorf("records %q", got)
	}
	// Repeating the unit is safe: nothing that was remembered speaks of the commit that failed.
	list, err := b.Append(context.Background(), []storage.Unit{unit})
	if err != nil || list[0].Err != nil {
		t.Errorf("again: %v %v", list, err)
	}
}

func TestCancelledWriter(t *testing.T) {
	t.Parallel()
	b := open(t, nil)
	r := ownedRun(t, b, join(t, b))
	release := blocked(t, b)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() {
		_, err := b.Append(ctx, []storage.Unit{unitOf(&r, storage.Unit{})})
		result <- err
	}()
	queuedUp(b, 1)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v while the queue is blocked", err)
	}
	release()
	if got := texts(t, b, r.ID); len(got) != 0 {
		t.Errorf("a cancelled waiter's unit was committed: %q", got)
	}
	appendTo(t, b, &r, storage.Unit{})
}

func TestClose(t *testing.T) {
	t.Parallel()
	b, err := Open(filepath.Join(t.TempDir(), "work.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	m, err := b.Join(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	r := ownedRun(t, b, m.ID())
	stop := b.Watch(func(storage.Note) {})
	release := blocked(t, b)
	waiting := make(chan error)
	go func() {
		_, err := b.Append(ctx, []storage.Unit{unitOf(&r, storage.Unit{})})
		waiting <- err
	}()
	queuedUp(b, 1)
	closed := make(chan error)
	go func() { closed <- b.Close() }()
	if err := <-waiting; !errors.Is(err, storage.ErrClosed) {
		t.Errorf("a call that waited: %v", err)
	}
	release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	stop()
	select {
	case <-m.Lost():
	default:
		t.Error("a member outlived the backend")
	}
	if err := m.Leave(ctx); err != nil {
		t.Error(err)
	}
	if _, err := b.Run(ctx, "", r.ID); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
	files, err := os.ReadDir(filepath.Dir(b.Path()))
	if err != nil || len(files) != 1 {
		t.Errorf("files %v are left, %v", files, err)
	}
}

// Readers that overlap keep the log from beginning anew; it may not grow for ever.
func TestLogIsLimited(t *testing.T) {
	t.Parallel()
	const pages = 20
	b := open(t, &Options{CheckpointPages: pages, Synchronous: Normal})
	r := ownedRun(t, b, join(t, b))
	reader, err := b.pool.open()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.raw.Close()
	size := func() int64 {
		info, err := os.Stat(b.Path() + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if err := reader.run("BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.value("SELECT count(*) FROM run"); err != nil {
		t.Fatal(err)
	}
	for range 400 {
		appendTo(t, b, &r, storage.Unit{Records: [][]byte{record}})
	}
	if size() < 4*pages*pageSize {
		t.Fatalf("the log has %d bytes although it is read", size())
	}
	if err := reader.run("COMMIT"); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		appendTo(t, b, &r, storage.Unit{Records: [][]byte{record}})
	}
	if size() > 4*pages*pageSize {
		t.Errorf("the log still has %d bytes", size())
	}
}

// A Backend that makes many commits makes room for them first.
func TestLogIsGrownAhead(t *testing.T) {
	t.Parallel()
	const pages = 200
	b := open(t, &Options{CheckpointPages: pages})
	r := ownedRun(t, b, join(t, b))
	for range growAfter {
		appendTo(t, b, &r, storage.Unit{})
	}
	size := b.writer.logSize()
	if size < pages*pageSize || size > 3*pages*pageSize/2 {
		t.Errorf("the log has %d bytes after %d commits, want those of %d pages", size, growAfter, pages)
	}
	other := openAt(t, b.Path(), nil) // reads what is in the log and nothing else
	if got := texts(t, other, r.ID); len(got) != growAfter {
		t.Errorf("%d records", len(got))
	}
	for range 10 {
		appendTo(t, b, &r, storage.Unit{})
	}
	if b.writer.logSize() != size {
		t.Errorf("the log went on growing, from %d to %d bytes", size, b.writer.logSize())
	}
	if got := texts(t, b, r.ID); len(got) != growAfter+10 {
		t.Errorf("%d records", len(got))
	}
	sound(t, b)
}

// What the writer remembers of runs is dropped when another connection writes.
func TestForeignChangesAreSeen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := open(t, nil)
	other := openAt(t, b.Path(), nil)
	m, err := b.Join(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	thief := join(t, other)
	for i := range 20 {
		r := ownedRun(t, b, m.ID())
		appendTo(t, b, &r, storage.Unit{})
		q := pause(t, b, &r)
		s, err := other.Settle(ctx, []storage.Settlement{{Question: q.ID, State: storage.Answered, Member: thief}})
		if err != nil || !s[0].Acquired {
			t.Fatal(s, err)
		}
		stolen := s[0].Run
		list, err := b.Append(ctx, []storage.Unit{unitOf(&r, storage.Unit{})})
		if err != nil || !errors.Is(list[0].Err, storage.ErrStale) {
			t.Fatalf("round %d: the old owner got %v %v", i, list, err)
		}
		appendTo(t, other, &stolen, storage.Unit{})
		if got := fmt.Sprint(texts(t, b, r.ID)); got != "[record 1 record 2 record 3]" {
			t.Fatalf("round %d: %s", i, got)
		}
	}
}
