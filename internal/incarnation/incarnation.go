// Package incarnation gives a backend to one life of one process: a view that can
// die, as the process would, while the data and everybody else's views live on.
package incarnation

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// ErrDead is what a dead process' calls get. It matches [storage.ErrClosed].
var ErrDead = fmt.Errorf("the process is dead: %w", storage.ErrClosed)

// Backend is the view of one process. Make one with [New].
type Backend struct {
	inner storage.Backend
	owned bool

	mu      sync.Mutex
	ended   bool
	calls   int        // under way
	idle    *sync.Cond // calls became 0
	members []storage.Membership
	watches []func()
}

var _ storage.Backend = (*Backend)(nil)

// New returns a view of b. Views may share a b; with owned set this one's end closes b.
func New(b storage.Backend, owned bool) *Backend {
	v := &Backend{inner: b, owned: owned}
	v.idle = sync.NewCond(&v.mu)
	return v
}

// Kill ends the view as the death of its process does: each call under way is
// made wholly or not at all, and its reply is lost; later calls do nothing; the memberships end without
// a last word, as the kernel ends them. When it returns nothing is written by this view any more. A second Kill does nothing.
func (b *Backend) Kill() { _ = b.end() }

// Close is Kill: a process that ends in good order leaves no more behind.
func (b *Backend) Close() error { return b.end() }

func (b *Backend) end() error {
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return nil
	}
	b.ended = true
	for b.calls > 0 {
		b.idle.Wait()
	}
	members, watches := b.members, b.watches
	b.mu.Unlock()
	for _, stop := range watches {
		stop()
	}
	var failed error
	for _, m := range members {
		if err := m.Leave(context.Background()); err != nil && failed == nil {
			failed = err
		}
	}
	if b.owned {
		if err := b.inner.Close(); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// Dead reports whether the view has ended.
func (b *Backend) Dead() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// call makes a call of the backend, as long as the process lives.
func call[T any](b *Backend, fn func() (T, error)) (T, error) {
	var none T
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return none, ErrDead
	}
	b.calls++
	b.mu.Unlock()
	out, err := fn()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls--
	if b.calls == 0 {
		b.idle.Broadcast()
	}
	if b.ended {
		return none, ErrDead
	}
	return out, err
}

// do is call for calls that return nothing.
func do(b *Backend, fn func() error) error {
	_, err := call(b, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

// Join implements [storage.Backend].
func (b *Backend) Join(ctx context.Context, name string) (storage.Membership, error) {
	return call(b, func() (storage.Membership, error) {
		m, err := b.inner.Join(ctx, name)
		if err != nil {
			return nil, err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.members = append(b.members, m)
		return &membership{Membership: m, backend: b}, nil
	})
}

type membership struct {
	storage.Membership
	backend *Backend
}

func (m *membership) Leave(ctx context.Context) error {
	if m.backend.Dead() {
		return nil // it has ended with its process
	}
	return do(m.backend, func() error { return m.Membership.Leave(ctx) })
}

// Watch implements [storage.Backend]. A dead process is told nothing. The view's lock is not held
// while the backend is asked: it may tell of a change, from another goroutine, before it returns.
func (b *Backend) Watch(fn func(storage.Note)) (stop func()) {
	if b.Dead() {
		return func() {}
	}
	stop = sync.OnceFunc(b.inner.Watch(func(n storage.Note) {
		if !b.Dead() {
			fn(n)
		}
	}))
	b.mu.Lock()
	ended := b.ended
	b.watches = append(b.watches, stop)
	b.mu.Unlock()
	if ended {
		stop()
	}
	return stop
}

// Now implements [storage.Backend].
func (b *Backend) Now(ctx context.Context) (time.Time, error) {
	return call(b, func() (time.Time, error) { return b.inner.Now(ctx) })
}
