// Package faulty wraps a [storage.Backend] so that it fails, loses a reply, or
// dies at the n-th call. A test runs a program once to count its calls, and then
// once for each call, with a crash there:
//
//	for n := 1; n <= calls; n++ {
//		b := faulty.Wrap(inner)
//		b.CrashAt(n, true)
//		…
//	}
//
// What a wrapper stands for is one process: its death frees its memberships as
// a kernel would, and the wrapped backend, which stands for the database, stays.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/fermata-go/fermata/storage"
)

// ErrCrashed is what every call of a crashed wrapper returns, the one that it
// crashed at included. It is none of the sentinels of package storage: as after any
// fault, the caller doesn't know whether its change was made.
var ErrCrashed = errors.New("the process has crashed")

// Backend is a wrapper made by [Wrap]. It is safe for use by many goroutines.
type Backend struct {
	inner   storage.Backend
	crashed chan struct{}

	mu      sync.Mutex
	dead    bool
	closed  bool
	trace   []string
	faults  map[int]fault
	members map[*membership]struct{}
	watches map[*watch]struct{}
}

var _ storage.Backend = (*Backend)(nil)

type kind uint8

const (
	fail kind = iota + 1
	loseReply
	crashBefore
	crashAfter
)

type fault struct {
	kind kind
	err  error
}

// Wrap returns a wrapper that passes every call on to inner until it is told
// otherwise. Closing it ends its memberships and watches; inner stays open.
func Wrap(inner storage.Backend) *Backend {
	return &Backend{
		inner:   inner,
		crashed: make(chan struct{}),
		faults:  map[int]fault{},
		members: map[*membership]struct{}{},
		watches: map[*watch]struct{}{},
	}
}

// Calls is the number of calls so far. What counts is every method that takes a
// context, Membership.Leave included; calls of a wrapper that has crashed or was closed don't.
func (b *Backend) Calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.trace)
}

// Trace is the names of the methods called so far: of call n at index n-1.
func (b *Backend) Trace() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.trace)
}

// FailAt makes call n, counted from 1 for the first call of the wrapper, return
// err without reaching the wrapped backend. Of several faults at one call the one set last holds.
func (b *Backend) FailAt(n int, err error) { b.set(n, fault{fail, err}) }

// LoseReplyAt makes call n reach the wrapped backend, and its caller get err
// instead of the reply.
func (b *Backend) LoseReplyAt(n int, err error) { b.set(n, fault{loseReply, err}) }

// CrashAt makes the wrapper die at call n: after the wrapped backend has executed
// it, or before. That call, calls under way and all later ones return [ErrCrashed]; the
// memberships joined through the wrapper end, and its watchers are told nothing more.
func (b *Backend) CrashAt(n int, after bool) {
	k := crashBefore
	if after {
		k = crashAfter
	}
	b.set(n, fault{k, ErrCrashed})
}

func (b *Backend) set(n int, f fault) {
	if f.err == nil {
		panic("faulty: a fault without an error")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults[n] = f
}

// Crashed is closed when the wrapper has died and its memberships have ended.
func (b *Backend) Crashed() <-chan struct{} { return b.crashed }

// Close ends the memberships and watches of the wrapper. It does not close the wrapped backend.
func (b *Backend) Close() error {
	b.mu.Lock()
	closed := b.dead || b.closed
	b.closed = true
	b.mu.Unlock()
	if closed {
		return nil
	}
	return b.free()
}

// crash ends the life of the process.
func (b *Backend) crash() {
	b.mu.Lock()
	dead := b.dead
	b.dead = true
	b.mu.Unlock()
	if dead {
		return
	}
	// A membership that can't be ended was ended by another: its backend is closed.
	_ = b.free()
	close(b.crashed)
}

// free does what a kernel does for a process that is gone. The caller has made
// sure that nothing is added any more. It holds no lock: inner may call watchers.
func (b *Backend) free() error {
	b.mu.Lock()
	members, watches := b.members, b.watches
	b.members, b.watches = nil, nil
	b.mu.Unlock()
	for w := range watches {
		w.end()
	}
	var errs []error
	for m := range members {
		errs = append(errs, m.inner.Leave(context.Background()))
	}
	return errors.Join(errs...)
}

// gone is the error of calls that come too late; b.mu is held.
func (b *Backend) gone(name string) error {
	switch {
	case b.dead:
		return fmt.Errorf("faulty: %s: %w", name, ErrCrashed)
	case b.closed:
		return fmt.Errorf("faulty: %s: %w", name, storage.ErrClosed)
	}
	return nil
}

// enter counts a call and says which fault it meets.
func (b *Backend) enter(name string) (fault, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.gone(name); err != nil {
		return fault{}, err
	}
	b.trace = append(b.trace, name)
	return b.faults[len(b.trace)], nil
}

// do is one call: fn passes it on.
func do[T any](b *Backend, name string, fn func() (T, error)) (T, error) {
	var none T
	f, err := b.enter(name)
	if err != nil {
		return none, err
	}
	switch f.kind {
	case fail:
		return none, fmt.Errorf("faulty: %s: %w", name, f.err)
	case crashBefore:
		b.crash()
		return none, fmt.Errorf("faulty: %s: %w", name, f.err)
	}
	reply, err := fn()
	if f.kind == crashAfter {
		b.crash()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.dead:
		return none, fmt.Errorf("faulty: %s: %w", name, ErrCrashed)
	case f.kind == loseReply:
		return none, fmt.Errorf("faulty: reply to %s lost: %w", name, f.err)
	}
	return reply, err
}

// do0 is do for methods that return nothing but an error.
func do0(b *Backend, name string, fn func() error) error {
	_, err := do(b, name, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}
