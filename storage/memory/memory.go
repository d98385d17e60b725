// Package memory is the reference implementation of [storage.Backend]: the
// whole contract in maps under one mutex, kept so simple that it can be read
// beside the contract. It serves tests, examples and programs whose work need
// not survive them.
//
// A [Backend] outlives the engines that use it. A crash is simulated by a member
// that leaves without giving its runs up: the data stays, and whoever joins next
// finds it as it was.
package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Options are the options of [New]. Nil, and the zero value, are the defaults.
type Options struct {
	_ [0]func()

	// Offset is added to the clock, for tests that move time. It is called once
	// per call of the backend. Nil: nothing is added.
	Offset func() time.Duration
}

// New returns an empty backend.
func New(o *Options) *Backend {
	b := &Backend{
		runs:      map[runKey]*run{},
		threads:   map[threadKey]*thread{},
		questions: map[questionKey]*question{},
		unique:    map[uniqueKey]*question{},
		members:   map[storage.ID]*member{},
		ready:     map[string]*queue[*run]{},
		due:       &queue[*run]{},
		deadlines: &queue[*question]{},
		items:     map[string]map[string]map[string]*item{},
		held:      map[storage.ID]int{},
	}
	if o != nil {
		b.offset = o.Offset
	}
	return b
}

var _ storage.Backend = (*Backend)(nil)

// Backend keeps everything in memory. Make one with [New].
type Backend struct {
	offset func() time.Duration

	mu     sync.Mutex
	closed bool
	last   time.Time // the latest time given out: the backend's time never goes back

	number    int64 // of the latest run
	runs      map[runKey]*run
	byNumber  []*run // all runs, oldest first
	threads   map[threadKey]*thread
	questions map[questionKey]*question
	open      openQuestions
	unique    map[uniqueKey]*question // the open question that holds the key
	feed      feed
	members   map[storage.ID]*member // the living

	// What Poll looks at. See place.
	ready     map[string]*queue[*run] // by entrypoint
	due       *queue[*run]
	deadlines *queue[*question]

	items map[string]map[string]map[string]*item // by tenant, joined namespace, key
	held  map[storage.ID]int                     // see HoldRun

	watchers []*watcher // replaced, never changed
	notes    []storage.Note
}

type runKey struct {
	tenant string
	id     storage.ID
}

type threadKey struct{ tenant, id string }

type questionKey struct {
	tenant string
	id     storage.ID
}

type uniqueKey struct{ tenant, name, key string }

// begin opens the one transaction that a call is, and returns its time. Unless
// it returns an error the caller must call end.
func (b *Backend) begin(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, fmt.Errorf("memory: %w", err)
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return time.Time{}, fmt.Errorf("memory: %w", storage.ErrClosed)
	}
	now := time.Now()
	if b.offset != nil {
		now = now.Add(b.offset())
	}
	now = cut(now)
	if now.Before(b.last) {
		now = b.last
	}
	b.last = now
	return now, nil
}

// end closes the transaction and tells the watchers what it changed.
func (b *Backend) end() {
	watchers, notes := b.watchers, b.notes
	b.notes = nil
	b.mu.Unlock()
	for _, w := range watchers {
		for _, n := range notes {
			w.call(n)
		}
	}
}

// cut gives a time the precision of the contract.
func cut(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// Now is the backend's time: the system clock plus [Options].Offset. It never goes back.
func (b *Backend) Now(ctx context.Context) (time.Time, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer b.end()
	return now, nil
}

// Close ends every membership and frees the data. A second Close does nothing.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	for _, m := range b.members {
		close(m.lost)
	}
	b.watchers = nil
	b.members, b.runs, b.byNumber, b.threads = nil, nil, nil, nil
	b.questions, b.open, b.unique, b.feed = nil, openQuestions{}, nil, feed{}
	b.ready, b.due, b.deadlines, b.items = nil, nil, nil, nil
	return nil
}

// HoldRun makes Append and Settle answer [storage.ErrLocked] for a run, of any
// tenant, until release is called: as if another transaction held the run's row.
// It is for tests of callers. A run may be held several times; a second call of one release
// does nothing.
func (b *Backend) HoldRun(run storage.ID) (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[run]++
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.held[run]--; b.held[run] == 0 {
			delete(b.held, run)
		}
	})
}
