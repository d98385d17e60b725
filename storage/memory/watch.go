package memory

import (
	"slices"
	"sync/atomic"

	"github.com/fermata-go/fermata/storage"
)

type watcher struct {
	fn      func(storage.Note)
	stopped atomic.Bool
}

func (w *watcher) call(n storage.Note) {
	if !w.stopped.Load() {
		w.fn(n)
	}
}

// Watch implements [storage.Backend]. fn is called by the goroutine that made
// the change, before its call returns; fn may use the backend.
func (b *Backend) Watch(fn func(storage.Note)) (stop func()) {
	w := &watcher{fn: fn}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return func() {}
	}
	b.watchers = append(slices.Clone(b.watchers), w)
	return func() {
		w.stopped.Store(true)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.watchers = slices.DeleteFunc(slices.Clone(b.watchers), func(other *watcher) bool { return other == w })
	}
}

// note tells the watchers, at the end of the transaction, that a run changed, and what of n is true.
func (b *Backend) note(r *run, n storage.Note) {
	if len(b.watchers) == 0 {
		return
	}
	n.Tenant, n.Run = r.row.Tenant, r.row.ID
	if len(b.notes) > 0 {
		if last := &b.notes[len(b.notes)-1]; last.Run == n.Run && last.Tenant == n.Tenant {
			last.Queued, last.Inbox, last.Questions = last.Queued || n.Queued, last.Inbox || n.Inbox, last.Questions || n.Questions
			return
		}
	}
	b.notes = append(b.notes, n)
}

// noteAny tells the watchers that more has changed than can be named.
func (b *Backend) noteAny() {
	if len(b.watchers) > 0 {
		b.notes = append(b.notes, storage.Note{Queued: true, Inbox: true, Questions: true})
	}
}
