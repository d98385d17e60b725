package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Watch calls fn directly after each commit of this Backend, and with a zero Run
// within [Options.PollInterval] after another process, or another Backend, committed to the file. A
// goroutine of the Backend's own calls fn, so fn may use the Backend, but not close it.
func (b *Backend) Watch(fn func(storage.Note)) (stop func()) {
	return b.watchers.add(fn)
}

// watchers are the callers of Watch. While there are any, one goroutine tells
// them what was committed, in order, and another looks for changes made by others.
// A watcher is never called by the goroutine that commits: it may use the backend.
type watchers struct {
	b     *Backend
	fns   atomic.Pointer[[]*watcher] // replaced as a whole
	mu    sync.Mutex                 // of what follows
	news  []storage.Note             // not told yet
	more  chan struct{}              // there are news
	quit  chan struct{}              // ends the goroutines; nil if there are none
	ended sync.WaitGroup
	done  bool

	knownOwners atomic.Int64 // living owners of runs, of whatever process, as of the last look
}

type watcher struct {
	fn      func(storage.Note)
	stopped atomic.Bool
}

// maxNews is how many notes wait for slow watchers; if there are more, one that means anything takes their place.
const maxNews = 10_000

func (w *watchers) init(b *Backend) {
	w.b, w.more = b, make(chan struct{}, 1)
	w.fns.Store(new([]*watcher))
}

func (w *watchers) any() bool { return len(*w.fns.Load()) > 0 }

// tell leaves notes for the watchers.
func (w *watchers) tell(notes ...storage.Note) {
	if len(notes) == 0 || !w.any() {
		return
	}
	w.mu.Lock()
	if len(w.news)+len(notes) > maxNews {
		w.news, notes = w.news[:0], []storage.Note{{Queued: true, Inbox: true, Questions: true}}
	}
	w.news = append(w.news, notes...)
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// speak calls the watchers with what tell left, until quit is closed.
func (w *watchers) speak(quit <-chan struct{}) {
	var notes []storage.Note
	for {
		select {
		case <-quit:
			return
		case <-w.more:
		}
		w.mu.Lock()
		notes, w.news = w.news, notes[:0]
		w.mu.Unlock()
		for _, note := range notes {
			for _, watcher := range *w.fns.Load() {
				if !watcher.stopped.Load() {
					watcher.fn(note)
				}
			}
		}
	}
}

func (w *watchers) add(fn func(storage.Note)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return func() {}
	}
	added := &watcher{fn: fn}
	fns := append([]*watcher{added}, *w.fns.Load()...)
	w.fns.Store(&fns)
	if w.quit == nil {
		w.quit = make(chan struct{})
		quit := w.quit
		w.ended.Go(func() { w.look(quit) })
		w.ended.Go(func() { w.speak(quit) })
	}
	return sync.OnceFunc(func() { w.remove(added) })
}

func (w *watchers) remove(gone *watcher) {
	gone.stopped.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	var fns []*watcher
	for _, watcher := range *w.fns.Load() {
		if watcher != gone {
			fns = append(fns, watcher)
		}
	}
	w.fns.Store(&fns)
	if len(fns) == 0 && w.quit != nil {
		close(w.quit)
		w.quit, w.news = nil, nil
	}
}

// close forgets the watchers and ends the goroutines. One that a watcher holds up ends when the watcher returns.
func (w *watchers) close() {
	w.mu.Lock()
	w.done = true
	w.fns.Store(new([]*watcher))
	if w.quit != nil {
		close(w.quit)
		w.quit, w.news = nil, nil
	}
	w.mu.Unlock()
	w.ended.Wait()
}

// look asks the file for foreign changes until quit is closed. The question is
// asked on the writer's connection, whose own commits don't count as changes; while it is busy with
// transactions, each of them asks.
func (w *watchers) look(quit <-chan struct{}) {
	ticker := time.NewTicker(w.b.options.PollInterval)
	defer ticker.Stop()
	known := map[storage.ID]bool{} // owners of runs, and whether they lived when last seen
	for tick := 0; ; tick++ {
		select {
		case <-quit:
			return
		case <-ticker.C:
		}
		_ = w.b.queue.Do(context.Background(), &operation{})
		if tick%20 != 0 {
			continue
		}
		if w.b.present() != nil {
			w.tell(storage.Note{Queued: true, Inbox: true, Questions: true}) // who waits is to find out
			return
		}
		if w.someoneDied(known) {
			w.tell(storage.Note{Queued: true})
		}
	}
}

// someoneDied reports whether an owner of runs is dead, once for each: it may have died before the first call.
func (w *watchers) someoneDied(known map[storage.ID]bool) bool {
	owners := map[storage.ID]bool{}
	err := w.b.read(context.Background(), "watch", func(c *conn) error {
		return eachOwner(c, func(id storage.ID) { owners[id] = true })
	})
	if err != nil {
		return false // the file's faults are for those who want something of it
	}
	died, living := false, 0
	for id := range owners {
		lived, seen := known[id]
		lives := w.b.members.lives(id)
		known[id] = lives
		if lives {
			living++
		} else if lived || !seen {
			died = true
		}
	}
	for id := range known {
		if !owners[id] {
			delete(known, id)
		}
	}
	w.knownOwners.Store(int64(living))
	return died
}

// eachOwner calls f with every owner of running runs: one seek in the index each.
func eachOwner(c *conn, f func(storage.ID)) error {
	var last storage.ID
	for {
		next := last
		found, err := c.query("SELECT owner FROM run WHERE status = 2 AND owner > ? ORDER BY owner LIMIT 1").
			blob(last[:]).first(func(q *query) { next = q.colID(0) })
		if err != nil || !found {
			return err
		}
		if bytes.Compare(next[:], last[:]) <= 0 {
			return fmt.Errorf("sqlite: %w: owner %s comes after owner %s", storage.ErrCorrupt, next, last)
		}
		last = next
		f(last)
	}
}
