package faulty_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
	"github.com/fermata-go/fermata/storage/storagetest"
	"github.com/fermata-go/fermata/storage/storagetest/faulty"
	"github.com/google/go-cmp/cmp"
)

// TestConformance: a wrapper without faults is a backend. It is also to one database what a
// process is, which lets the suite be tried with several handles and with reopening.
func TestConformance(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	databases := map[storage.Backend]*memory.Backend{}
	open := func(inner *memory.Backend) storage.Backend {
		b := faulty.Wrap(inner)
		mu.Lock()
		defer mu.Unlock()
		databases[b] = inner
		return b
	}
	of := func(b storage.Backend) *memory.Backend {
		mu.Lock()
		defer mu.Unlock()
		return databases[b]
	}
	storagetest.Run(t, storagetest.Harness{
		New: func(_ *testing.T, o storagetest.Options) storage.Backend {
			return open(memory.New(&memory.Options{Offset: o.Offset}))
		},
		Reopen: func(t *testing.T, b storage.Backend, _ storagetest.Options) storage.Backend {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			return open(of(b))
		},
		Second: func(_ *testing.T, b storage.Backend, _ storagetest.Options) storage.Backend {
			return open(of(b))
		},
		HoldRun: func(_ *testing.T, b storage.Backend, run storage.ID) func() {
			return of(b).HoldRun(run)
		},
	})
}

var errFault = errors.New("the disk is on fire")

// put is a call whose effect is easy to see.
func put(t *testing.T, b storage.Backend, thread string) error {
	t.Helper()
	return b.PutThread(t.Context(), storage.Thread{ID: thread})
}

func exists(t *testing.T, b storage.Backend, thread string) bool {
	t.Helper()
	_, err := b.GetThread(t.Context(), "", thread)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func crashed(b *faulty.Backend) bool {
	select {
	case <-b.Crashed():
		return true
	default:
		return false
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	b := faulty.Wrap(memory.New(nil))
	m, err := b.Join(t.Context(), "member")
	if err != nil {
		t.Fatal(err)
	}
	b.Watch(func(storage.Note) {})()
	if err := put(t, b, "a"); err != nil {
		t.Fatal(err)
	}
	exists(t, b, "nowhere")
	if err := m.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Join", "PutThread", "GetThread", "Leave"}, b.Trace()); diff != "" {
		t.Error(diff)
	}
	if b.Calls() != 4 {
		t.Errorf("%d calls, want 4", b.Calls())
	}
}

func TestFailAt(t *testing.T) {
	t.Parallel()
	inner := memory.New(nil)
	b := faulty.Wrap(inner)
	b.FailAt(2, errFault)
	for i, want := range []error{nil, errFault, nil} {
		if err := put(t, b, string(rune('a'+i))); !errors.Is(err, want) {
			t.Errorf("call %d: error %v, want %v", i+1, err, want)
		}
	}
	if !exists(t, inner, "a") || exists(t, inner, "b") || !exists(t, inner, "c") {
		t.Error("the failed call reached the database, or another didn't")
	}
	if crashed(b) {
		t.Error("a failed call is no crash")
	}
}

func TestLoseReplyAt(t *testing.T) {
	t.Parallel()
	b := faulty.Wrap(memory.New(nil))
	m, err := b.Join(t.Context(), "member")
	if err != nil {
		t.Fatal(err)
	}
	started, err := b.Start(t.Context(), storage.Start{Run: storage.Run{
		ID: storage.NewID(time.Now()), Thread: "thread", Entrypoint: "graph", Owner: m.ID(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	unit := []storage.Unit{{Run: started.Run.ID, Token: started.Run.Token, First: 1, Records: [][]byte{[]byte("a")}}}
	b.LoseReplyAt(3, errFault)
	if list, err := b.Append(t.Context(), unit); !errors.Is(err, errFault) || list != nil {
		t.Errorf("results %v, error %v; want the fault alone", list, err)
	}
	list, err := b.Append(t.Context(), unit)
	if err != nil || !errors.Is(list[0].Err, storage.ErrDuplicate) {
		t.Errorf("results %v, error %v: the unit whose reply was lost is not there", list, err)
	}
}

func TestTheFaultSetLastHolds(t *testing.T) {
	t.Parallel()
	b := faulty.Wrap(memory.New(nil))
	b.CrashAt(1, false)
	b.FailAt(1, errFault)
	if err := put(t, b, "a"); !errors.Is(err, errFault) || crashed(b) {
		t.Errorf("error %v, crashed %v", err, crashed(b))
	}
	defer func() {
		if recover() == nil {
			t.Error("a fault without an error was taken")
		}
	}()
	b.FailAt(2, nil)
}

func TestCrashAt(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"Before": false, "After": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := memory.New(nil)
			b, other := faulty.Wrap(inner), faulty.Wrap(inner)
			told := 0
			stop := b.Watch(func(storage.Note) { told++ })
			m, err := b.Join(t.Context(), "mortal")
			if err != nil {
				t.Fatal(err)
			}
			survivor, err := other.Join(t.Context(), "survivor")
			if err != nil {
				t.Fatal(err)
			}
			start := func(b storage.Backend, owner storage.Membership) storage.ID {
				id := storage.NewID(time.Now())
				s := storage.Start{Run: storage.Run{ID: id, Thread: id.String(), Entrypoint: "graph", Owner: owner.ID()}}
				if _, err := b.Start(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				return id
			}
			run := start(b, m)
			toldBefore := told
			if toldBefore == 0 {
				t.Error("the watcher was told nothing before the crash")
			}

			b.CrashAt(3, after)
			if err := put(t, b, "crash"); !errors.Is(err, faulty.ErrCrashed) {
				t.Errorf("the call of the crash: error %v", err)
			}
			if !crashed(b) {
				t.Error("Crashed is not closed")
			}
			if got := exists(t, inner, "crash"); got != after {
				t.Errorf("the call was executed: %v, want %v", got, after)
			}
			if err := put(t, b, "later"); !errors.Is(err, faulty.ErrCrashed) || exists(t, inner, "later") {
				t.Errorf("a later call: error %v, executed %v", err, exists(t, inner, "later"))
			}
			if _, err := b.Join(t.Context(), "undead"); !errors.Is(err, faulty.ErrCrashed) {
				t.Errorf("a later Join: error %v", err)
			}
			if err := m.Leave(t.Context()); !errors.Is(err, faulty.ErrCrashed) {
				t.Errorf("a later Leave: error %v", err)
			}
			if b.Calls() != 3 {
				t.Errorf("%d calls, want 3: the dead make none", b.Calls())
			}
			select {
			case <-m.Lost():
			default:
				t.Error("the membership is not lost")
			}

			// Others go on, and take over.
			p, err := other.Poll(t.Context(), storage.Poll{Member: survivor.ID(), Entrypoints: []string{"graph"}, Limit: 10})
			if err != nil || len(p.Runs) != 1 || p.Runs[0].ID != run {
				t.Errorf("Poll took %v, error %v; want the dead owner's run", p.Runs, err)
			}
			start(other, survivor)
			if told != toldBefore {
				t.Error("the dead watcher was told of something")
			}
			stop()
			b.Watch(func(storage.Note) { t.Error("a watch of the dead") })
			start(other, survivor)
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// slow holds calls of PutThread and Join inside the wrapped backend.
type slow struct {
	storage.Backend
	entered, leave chan struct{}
}

func (s *slow) wait() {
	s.entered <- struct{}{}
	<-s.leave
}

func (s *slow) PutThread(ctx context.Context, t storage.Thread) error {
	s.wait()
	return s.Backend.PutThread(ctx, t)
}

func (s *slow) Join(ctx context.Context, name string) (storage.Membership, error) {
	m, err := s.Backend.Join(ctx, name)
	s.wait()
	return m, err
}

// TestCrashWhileCallsAreUnderWay: what is on its way to the database may still be
// executed, but nobody hears of it, and who joined at that moment is not left behind.
func TestCrashWhileCallsAreUnderWay(t *testing.T) {
	t.Parallel()
	inner := memory.New(nil)
	s := &slow{inner, make(chan struct{}), make(chan struct{})}
	b := faulty.Wrap(s)
	b.CrashAt(3, false)
	errs := make(chan error, 2)
	go func() { errs <- put(t, b, "late") }()
	<-s.entered
	go func() {
		m, err := b.Join(t.Context(), "late")
		if m != nil {
			t.Error("the dead got a membership")
		}
		errs <- err
	}()
	<-s.entered
	if _, err := b.Now(t.Context()); !errors.Is(err, faulty.ErrCrashed) {
		t.Errorf("error %v", err)
	}
	close(s.leave)
	for range 2 {
		if err := <-errs; !errors.Is(err, faulty.ErrCrashed) {
			t.Errorf("a call under way: error %v", err)
		}
	}
	if !exists(t, inner, "late") {
		t.Error("the call under way did not reach the database")
	}
}

func TestCloseLeavesTheDatabaseOpen(t *testing.T) {
	t.Parallel()
	inner := memory.New(nil)
	b := faulty.Wrap(inner)
	m, err := b.Join(t.Context(), "member")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	<-m.Lost()
	if err := put(t, b, "a"); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if crashed(b) {
		t.Error("a closed wrapper has not crashed")
	}
	if err := put(t, inner, "a"); err != nil {
		t.Errorf("the wrapped backend: %v", err)
	}
}

// TestEveryMethodIsPassedOn: each method of the contract is counted under its own
// name, and returns what the wrapped backend does.
func TestEveryMethodIsPassedOn(t *testing.T) {
	t.Parallel()
	b := faulty.Wrap(memory.New(nil))
	ctx, id := t.Context(), storage.NewID(time.Now())
	calls := []struct {
		name string
		do   func() error
		want error
	}{
		{"Now", func() error { _, err := b.Now(ctx); return err }, nil},
		{"Start", func() error { _, err := b.Start(ctx, storage.Start{}); return err }, storage.ErrInvalid},
		{"Append", func() error { _, err := b.Append(ctx, make([]storage.Unit, 2)); return err }, storage.ErrInvalid},
		{"Acquire", func() error { _, err := b.Acquire(ctx, storage.Acquire{Run: id}); return err }, storage.ErrNotFound},
		{"Poll", func() error { _, err := b.Poll(ctx, storage.Poll{}); return err }, nil},
		{"Cancel", func() error { _, err := b.Cancel(ctx, "", id, ""); return err }, storage.ErrNotFound},
		{"Run", func() error { _, err := b.Run(ctx, "", id); return err }, storage.ErrNotFound},
		{"Load", func() error { _, err := b.Load(ctx, "", id); return err }, storage.ErrNotFound},
		{"Log", func() error { _, _, err := b.Log(ctx, "", id, 0, 0); return err }, storage.ErrNotFound},
		{"ListRuns", func() error { _, err := b.ListRuns(ctx, storage.RunFilter{}); return err }, nil},
		{"Settle", func() error { _, err := b.Settle(ctx, nil); return err }, nil},
		{"Extend", func() error { _, err := b.Extend(ctx, "", id, time.Time{}); return err }, storage.ErrNotFound},
		{"Question", func() error { _, err := b.Question(ctx, "", id); return err }, storage.ErrNotFound},
		{"ListQuestions", func() error { _, err := b.ListQuestions(ctx, storage.QuestionFilter{}); return err }, nil},
		{"CountQuestions", func() error { _, err := b.CountQuestions(ctx, storage.QuestionFilter{}); return err }, nil},
		{"QuestionChanges", func() error { _, err := b.QuestionChanges(ctx, "", 0, 1); return err }, nil},
		{"Head", func() error { _, err := b.Head(ctx, "", "t"); return err }, nil},
		{"PutThread", func() error { return b.PutThread(ctx, storage.Thread{}) }, storage.ErrInvalid},
		{"GetThread", func() error { _, err := b.GetThread(ctx, "", "t"); return err }, storage.ErrNotFound},
		{"ListThreads", func() error { _, err := b.ListThreads(ctx, storage.ThreadFilter{}); return err }, nil},
		{"DeleteThread", func() error { return b.DeleteThread(ctx, "", "t") }, nil},
		{"CopyThread", func() error { return b.CopyThread(ctx, "", "t", "u") }, storage.ErrNotFound},
		{"PruneThread", func() error { _, err := b.PruneThread(ctx, "", "t"); return err }, nil},
		{"PutItems", func() error { return b.PutItems(ctx, make([]storage.Item, 1)) }, storage.ErrInvalid},
		{"GetItem", func() error { _, err := b.GetItem(ctx, "", []string{"n"}, "k", false); return err }, storage.ErrNotFound},
		{"ListItems", func() error { _, err := b.ListItems(ctx, storage.ItemFilter{}); return err }, nil},
		{"ListNamespaces", func() error { _, err := b.ListNamespaces(ctx, "", nil); return err }, nil},
		{"SweepItems", func() error { _, err := b.SweepItems(ctx, 1); return err }, nil},
	}
	var names []string
	for _, c := range calls {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		names = append(names, c.name)
	}
	if diff := cmp.Diff(names, b.Trace()); diff != "" {
		t.Error(diff)
	}
}
