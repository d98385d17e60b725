package incarnation_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
	"github.com/fermata-go/fermata/storage/storagetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, storagetest.Harness{
		New: func(_ *testing.T, o storagetest.Options) storage.Backend {
			return incarnation.New(memory.New(&memory.Options{Offset: o.Offset}), true)
		},
	})
}

func TestKill(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	data := memory.New(nil)
	defer data.Close()
	b, other := incarnation.New(data, false), incarnation.New(data, false)
	m, err := b.Join(ctx, "doomed")
	if err != nil {
		t.Fatal(err)
	}
	run := storage.Run{ID: storage.ID{1}, Thread: "1", Entrypoint: "graph", Owner: m.ID()}
	if _, err := b.Start(ctx, storage.Start{Run: run}); err != nil {
		t.Fatal(err)
	}
	b.Watch(func(storage.Note) { t.Error("a dead process was told of a change") })
	b.Kill()
	b.Kill()

	if _, err := b.Append(ctx, []storage.Unit{{Run: run.ID, Token: 1, First: 1, Records: [][]byte{{1}}}}); !errors.Is(err, incarnation.ErrDead) {
		t.Errorf("write of a dead process: error %v", err)
	}
	if _, err := b.Join(ctx, "again"); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("join of a dead process: error %v", err)
	}
	if err := m.Leave(ctx); err != nil {
		t.Errorf("leave of a dead process: %v", err)
	}
	heir, err := other.Join(ctx, "heir")
	if err != nil {
		t.Fatal(err)
	}
	polled, err := other.Poll(ctx, storage.Poll{Member: heir.ID(), Entrypoints: []string{"graph"}, Limit: 1})
	if err != nil || len(polled.Runs) != 1 || polled.Runs[0].LastSeq != 0 {
		t.Errorf("what the dead process left: %+v, %v; want its run, with an empty log", polled.Runs, err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if _, err := data.Now(ctx); err != nil {
		t.Errorf("the data went with the views: %v", err)
	}
}

// A process may die while it writes: the write is then made or not, and nobody gets the reply.
func TestKillDuringACall(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	data := memory.New(nil)
	defer data.Close()
	slow := &held{Backend: data, entered: make(chan struct{}), release: make(chan struct{})}
	b := incarnation.New(slow, false)
	reply, dead := make(chan error, 1), make(chan struct{})
	go func() { reply <- b.PutThread(ctx, storage.Thread{ID: "1"}) }()
	<-slow.entered
	go func() {
		b.Kill()
		close(dead)
	}()
	for !b.Dead() {
		runtime.Gosched()
	}
	select {
	case <-dead:
		t.Fatal("Kill did not wait for the write under way")
	default:
	}
	close(slow.release)
	<-dead
	if err := <-reply; !errors.Is(err, incarnation.ErrDead) {
		t.Errorf("reply to a dead process: %v", err)
	}
	if _, err := data.GetThread(ctx, "", "1"); err != nil {
		t.Errorf("the write under way was not made: %v", err)
	}
}

type held struct {
	storage.Backend
	entered, release chan struct{}
}

func (h *held) PutThread(ctx context.Context, t storage.Thread) error {
	close(h.entered)
	<-h.release
	return h.Backend.PutThread(ctx, t)
}

// eager tells of a change while it is being watched for, and waits until it is heard.
type eager struct{ storage.Backend }

func (e eager) Watch(fn func(storage.Note)) (stop func()) {
	stop = e.Backend.Watch(fn)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		fn(storage.Note{Queued: true})
	}()
	<-heard
	return stop
}

func TestToldBeforeWatchReturns(t *testing.T) {
	t.Parallel()
	told := 0
	b := incarnation.New(eager{memory.New(nil)}, true)
	defer b.Close()
	b.Watch(func(storage.Note) { told++ })
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}
