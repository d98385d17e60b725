package storagetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var closeCases = []testCase{
	{"LaterCallsGetErrClosed", closeLater},
	{"CallsUnderWayGetErrClosed", closeUnderWay},
	{"EndsMemberships", closeMembers},
	{"EndsWatches", closeWatches},
}

var contextCases = []testCase{
	{"CancelledBeforeTheCallChangesNothing", contextCancelled},
	{"PastDeadlineChangesNothing", contextDeadline},
}

// call is one method of the contract, called so that it would change something.
type call struct {
	name string
	do   func(ctx context.Context, b storage.Backend) error
}

// calls prepares one call of every method, on runs of a fresh thread each.
func (w *world) calls(m storage.Membership) []call {
	w.Helper()
	start := w.filled(storage.Start{})
	running, queued, failed := w.running(m), w.start(storage.Start{}), w.inStatus(m, storage.Failed)
	_, asked := w.waiting(m, storage.Question{})
	_, extended := w.waiting(m, storage.Question{})
	history := w.history(m)
	gone := w.inStatus(m, storage.Finished)
	w.put(item("v", "k", "n"))
	return []call{
		{"Start", func(ctx context.Context, b storage.Backend) error { _, err := b.Start(ctx, start); return err }},
		{"Append", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Append(ctx, []storage.Unit{unit(running, storage.Unit{Status: storage.Interrupted})})
			return err
		}},
		{"Acquire", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Acquire(ctx, storage.Acquire{Tenant: tenant, Run: failed.ID, From: []storage.Status{storage.Failed}})
			return err
		}},
		{"Poll", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Poll(ctx, storage.Poll{Member: m.ID(), Entrypoints: []string{graph}, Limit: 10})
			return err
		}},
		{"Cancel", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Cancel(ctx, tenant, queued.ID, "")
			return err
		}},
		{"Run", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Run(ctx, tenant, queued.ID)
			return err
		}},
		{"Load", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Load(ctx, tenant, queued.ID)
			return err
		}},
		{"Log", func(ctx context.Context, b storage.Backend) error {
			_, _, err := b.Log(ctx, tenant, queued.ID, 0, 0)
			return err
		}},
		{"ListRuns", func(ctx context.Context, b storage.Backend) error {
			_, err := b.ListRuns(ctx, storage.RunFilter{Tenant: tenant})
			return err
		}},
		{"Settle", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Settle(ctx, []storage.Settlement{answer(asked, "yes")})
			return err
		}},
		{"Extend", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Extend(ctx, tenant, extended.ID, time.Now().Add(time.Hour))
			return err
		}},
		{"Question", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Question(ctx, tenant, asked.ID)
			return err
		}},
		{"ListQuestions", func(ctx context.Context, b storage.Backend) error {
			_, err := b.ListQuestions(ctx, storage.QuestionFilter{Tenant: tenant})
			return err
		}},
		{"CountQuestions", func(ctx context.Context, b storage.Backend) error {
			_, err := b.CountQuestions(ctx, storage.QuestionFilter{Tenant: tenant})
			return err
		}},
		{"QuestionChanges", func(ctx context.Context, b storage.Backend) error {
			_, err := b.QuestionChanges(ctx, tenant, 0, 10)
			return err
		}},
		{"Head", func(ctx context.Context, b storage.Backend) error {
			_, err := b.Head(ctx, tenant, queued.Thread)
			return err
		}},
		{"PutThread", func(ctx context.Context, b storage.Backend) error {
			return b.PutThread(ctx, storage.Thread{Tenant: tenant, ID: "put"})
		}},
		{"GetThread", func(ctx context.Context, b storage.Backend) error {
			_, err := b.GetThread(ctx, tenant, queued.Thread)
			return err
		}},
		{"ListThreads", func(ctx context.Context, b storage.Backend) error {
			_, err := b.ListThreads(ctx, storage.ThreadFilter{Tenant: tenant})
			return err
		}},
		{"DeleteThread", func(ctx context.Context, b storage.Backend) error { return b.DeleteThread(ctx, tenant, gone.Thread) }},
		{"CopyThread", func(ctx context.Context, b storage.Backend) error {
			return b.CopyThread(ctx, tenant, history[0].Thread, "copy")
		}},
		{"PruneThread", func(ctx context.Context, b storage.Backend) error {
			_, err := b.PruneThread(ctx, tenant, history[0].Thread)
			return err
		}},
		{"PutItems", func(ctx context.Context, b storage.Backend) error {
			return b.PutItems(ctx, ofTenant([]storage.Item{item("new", "k", "n"), item("v", "l", "n")}))
		}},
		{"GetItem", func(ctx context.Context, b storage.Backend) error {
			_, err := b.GetItem(ctx, tenant, []string{"n"}, "k", true)
			return err
		}},
		{"ListItems", func(ctx context.Context, b storage.Backend) error {
			_, err := b.ListItems(ctx, storage.ItemFilter{Tenant: tenant})
			return err
		}},
		{"ListNamespaces", func(ctx context.Context, b storage.Backend) error {
			_, err := b.ListNamespaces(ctx, tenant, nil)
			return err
		}},
		{"SweepItems", func(ctx context.Context, b storage.Backend) error { _, err := b.SweepItems(ctx, 10); return err }},
		{"Join", func(ctx context.Context, b storage.Backend) error { _, err := b.Join(ctx, "late"); return err }},
		{"Now", func(ctx context.Context, b storage.Backend) error { _, err := b.Now(ctx); return err }},
	}
}

func closeLater(w *world) {
	calls := w.calls(w.join())
	w.ok(w.b.Close(), "Close")
	for _, c := range calls {
		w.is(c.do(w.ctx, w.b), storage.ErrClosed, c.name+" after Close")
	}
	if err := w.b.Close(); err != nil {
		w.is(err, storage.ErrClosed, "Close again")
	}
	w.b.Watch(func(storage.Note) {})()
}

// closeUnderWay: whatever a call meets, it says that it succeeded or that the backend is
// closed, and it returns.
func closeUnderWay(w *world) {
	m := w.join()
	calls := w.calls(m)
	const callers = 4
	var started sync.WaitGroup
	started.Add(callers)
	concurrently(w, callers+1, func(i int) (int, error) {
		if i == callers {
			started.Wait()
			return 0, w.b.Close()
		}
		done := sync.OnceFunc(started.Done)
		defer done()
		closed := false
		for n := 0; !closed; n++ {
			if n == 1 {
				done()
			}
			for _, c := range slices.Concat(calls[i:], calls[:i]) {
				err := c.do(w.ctx, w.b)
				switch {
				case errors.Is(err, storage.ErrClosed):
					closed = true
				case closed:
					return 0, errors.New(c.name + " did not get ErrClosed after another call had")
				case err != nil && !ofContract(err):
					return 0, err
				}
			}
		}
		return 0, nil
	})
}

// ofContract reports whether err is one that a call repeated again and again may get.
func ofContract(err error) bool {
	return slices.ContainsFunc([]error{storage.ErrNotFound, storage.ErrBusy, storage.ErrSettled}, func(want error) bool {
		return errors.Is(err, want)
	})
}

func closeMembers(w *world) {
	m := w.join()
	select {
	case <-m.Lost():
		w.Fatal("a living member is lost")
	default:
	}
	w.ok(w.b.Close(), "Close")
	w.lost(m)
	if err := m.Leave(w.ctx); err != nil {
		w.is(err, storage.ErrClosed, "Leave after Close")
	}
}

// lost waits until a membership says that it is lost.
func (w *world) lost(m storage.Membership) {
	w.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-m.Lost():
	case <-timeout.C:
		w.Fatal("the membership was not lost")
	}
}

func closeWatches(w *world) {
	n := w.watch()
	w.start(storage.Start{})
	w.ok(w.b.Close(), "Close")
	n.stop()
}

func contextCancelled(w *world) {
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	w.refusedBy(ctx, context.Canceled)
}

func contextDeadline(w *world) {
	ctx, cancel := context.WithDeadline(w.ctx, time.Now().Add(-time.Second))
	defer cancel()
	w.refusedBy(ctx, context.DeadlineExceeded)
}

func (w *world) refusedBy(ctx context.Context, want error) {
	w.Helper()
	m := w.join()
	calls := w.calls(m)
	before := w.everything()
	for _, c := range calls {
		w.is(c.do(ctx, w.b), want, c.name)
	}
	w.is(m.Leave(ctx), want, "Leave")
	select {
	case <-m.Lost():
		w.Fatal("a refused Leave ended the membership")
	default:
	}
	same(w, "everything after the refused calls", w.everything(), before)
}

// everything is all that can be read of a tenant.
type everything struct {
	Runs      []storage.Loaded
	Questions []storage.Question
	Threads   []storage.Thread
	Items     []storage.Item
}

func (w *world) everything() everything {
	w.Helper()
	var all everything
	for _, r := range w.listRuns(storage.RunFilter{Limit: 1000}) {
		all.Runs = append(all.Runs, w.load(r))
	}
	all.Questions = w.list(storage.QuestionFilter{Limit: 1000})
	for _, id := range w.listThreads(storage.ThreadFilter{Limit: 1000}) {
		all.Threads = append(all.Threads, w.thread(id))
	}
	all.Items = w.items(storage.ItemFilter{Limit: 1000, WithVectors: true})
	return all
}
