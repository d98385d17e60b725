package storagetest

import (
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var watchCases = []testCase{
	{"TellsOfEveryChange", watchChanges},
	{"TellsOfWorkLeftByAMember", watchLeave},
	{"SaysNothingAfterStop", watchStop},
	{"SeveralWatchers", watchSeveral},
	{"MayUseTheBackend", watchReenters},
	{"TellsOfAnotherHandle", watchSecond},
}

// notes collects what a watcher is told.
type notes struct {
	mu   sync.Mutex
	list []storage.Note
	more chan struct{}
	stop func()
}

func (w *world) watch() *notes {
	w.Helper()
	n := &notes{more: make(chan struct{}, 1)}
	n.stop = w.b.Watch(func(note storage.Note) {
		n.mu.Lock()
		n.list = append(n.list, note)
		n.mu.Unlock()
		select {
		case n.more <- struct{}{}:
		default:
		}
	})
	w.Cleanup(n.stop)
	return n
}

// expect waits for a note of a run with at least these flags, or for one that means
// anything, and forgets the notes up to it.
func (w *world) expect(n *notes, what string, want storage.Note) {
	w.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		n.mu.Lock()
		for i, got := range n.list {
			anything := got.Run.IsZero()
			its := got.Run == want.Run && got.Tenant == want.Tenant
			flags := (got.Queued || !want.Queued) && (got.Inbox || !want.Inbox) && (got.Questions || !want.Questions)
			if anything || its && flags || want.Run.IsZero() && flags {
				n.list = n.list[i+1:]
				n.mu.Unlock()
				return
			}
		}
		n.mu.Unlock()
		select {
		case <-n.more:
		case <-timeout.C:
			n.mu.Lock()
			defer n.mu.Unlock()
			w.Fatalf("no note of %s: want %+v, got %+v", what, want, n.list)
		}
	}
}

func watchChanges(w *world) {
	m := w.join()
	n := w.watch()
	w.changesNoted(w, n, m)
}

// changesNoted makes one change of each kind and waits for the watcher to hear of it.
func (w *world) changesNoted(by *world, n *notes, m storage.Membership) {
	w.Helper()
	queued := by.start(storage.Start{})
	w.expect(n, "a queued run", storage.Note{Tenant: tenant, Run: queued.ID, Queued: true})
	r := by.running(m)
	w.expect(n, "a running run", storage.Note{Tenant: tenant, Run: r.ID})
	by.append(&r, storage.Unit{})
	w.expect(n, "a unit", storage.Note{Tenant: tenant, Run: r.ID})
	q := by.ask(&r, storage.Question{})[0]
	w.expect(n, "an opened question", storage.Note{Tenant: tenant, Run: r.ID, Questions: true})
	by.settle(answer(q, "yes"))
	w.expect(n, "an answer", storage.Note{Tenant: tenant, Run: r.ID, Inbox: true, Questions: true})
	by.cancel(r, "")
	w.expect(n, "a cancellation", storage.Note{Tenant: tenant, Run: r.ID, Inbox: true})
	by.append(&r, storage.Unit{Status: storage.Failed})
	w.expect(n, "the end", storage.Note{Tenant: tenant, Run: r.ID})
	_, err := by.tryAcquire(r, nil, storage.Failed)
	w.ok(err, "Acquire")
	w.expect(n, "queueing", storage.Note{Tenant: tenant, Run: r.ID, Queued: true})

	waiting, q := by.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
	w.expect(n, "a pause", storage.Note{Tenant: tenant, Run: waiting.ID, Questions: true})
	by.extend(q, w.in(2*time.Hour))
	w.expect(n, "an extension", storage.Note{Tenant: tenant, Run: waiting.ID, Questions: true})
	w.clock.advance(3 * time.Hour)
	by.poll(m, 0)
	w.expect(n, "an expiry", storage.Note{Tenant: tenant, Run: waiting.ID, Queued: true, Inbox: true, Questions: true})
	by.poll(m, 10)
	w.expect(n, "taking", storage.Note{Tenant: tenant, Run: waiting.ID})

	waiting, q = by.waiting(m, storage.Question{})
	w.expect(n, "a pause", storage.Note{Tenant: tenant, Run: waiting.ID, Questions: true})
	by.settle(answer(q, "yes"))
	w.expect(n, "an answer that wakes", storage.Note{Tenant: tenant, Run: waiting.ID, Queued: true, Inbox: true, Questions: true})
	by.start(storage.Start{Run: storage.Run{Thread: waiting.Thread}, Supersede: true})
	w.expect(n, "superseding", storage.Note{Tenant: tenant, Run: waiting.ID})
}

func watchLeave(w *world) {
	dying := w.join()
	w.running(dying)
	n := w.watch()
	w.ok(dying.Leave(w.ctx), "Leave")
	w.expect(n, "the runs left behind", storage.Note{Queued: true})
}

func watchStop(w *world) {
	n := w.watch()
	r := w.start(storage.Start{})
	w.expect(n, "a start", storage.Note{Tenant: tenant, Run: r.ID})
	other := w.watch()
	n.stop()
	n.stop() // once more is no harm
	n.mu.Lock()
	had := len(n.list)
	n.mu.Unlock()
	r = w.start(storage.Start{})
	w.expect(other, "a start", storage.Note{Tenant: tenant, Run: r.ID})
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, note := range n.list[had:] {
		w.true(note.Run != r.ID, "a stopped watcher was told of a later run")
	}
}

func watchSeveral(w *world) {
	all := []*notes{w.watch(), w.watch(), w.watch()}
	r := w.start(storage.Start{})
	for _, n := range all {
		w.expect(n, "a start", storage.Note{Tenant: tenant, Run: r.ID, Queued: true})
	}
}

// watchReenters: fn must not block, but it may call the backend.
func watchReenters(w *world) {
	read := make(chan error, 100)
	stop := w.b.Watch(func(n storage.Note) {
		if n.Run.IsZero() {
			return
		}
		_, err := w.b.Run(w.ctx, n.Tenant, n.Run)
		select {
		case read <- err:
		default:
		}
	})
	defer stop()
	w.start(storage.Start{})
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case err := <-read:
		w.ok(err, "Run from within a watcher")
	case <-timeout.C:
		w.Fatal("no note of a start")
	}
}

func watchSecond(w *world) {
	other := w.second()
	m := other.join()
	n := w.watch()
	w.changesNoted(other, n, m)
	dying := other.join()
	other.running(dying)
	w.ok(dying.Leave(w.ctx), "Leave")
	w.expect(n, "the runs that another handle's member left", storage.Note{Queued: true})
}
