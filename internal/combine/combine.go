// Package combine lets many callers share one expensive step, such as a commit.
//
// A [Queue] has no goroutine of its own. The first caller leads: on its own
// goroutine it takes everything that is queued, runs the batch function over
// it and wakes the others. What was queued meanwhile is the next batch, and the
// first of its callers leads it. So a lone caller pays nothing for the sharing,
// and the busier the queue, the larger the batches.
package combine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
)

// ErrClosed is returned to callers whose operation was not run because the queue is closed.
var ErrClosed = errors.New("combine: queue closed")

// errExited: the batch function called runtime.Goexit.
var errExited = errors.New("combine: the batch function ended its goroutine")

// PanicError is what every caller of a batch gets if the batch function
// panicked. Whether their operations took effect is not known.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("combine: panic in the batch function: %v\n%s", e.Value, e.Stack)
}

// Queue combines operations of type T into batches. Make one with [New].
type Queue[T any] struct {
	run func(batch []T, finish func(i int))

	mu      sync.Mutex
	waiting []*waiter[T] // in the order of arrival; the next batch
	busy    bool         // somebody leads, or has been told to
	closed  bool
	idle    chan struct{} // made by Close; closed when nobody leads any more

	// Only the leader touches these: the batch under way and what it is made from.
	batch   []T
	callers []*waiter[T]
	crowded bool // the batch before had several callers
}

// New returns a queue whose batches are run by run, one at a time, each on the
// goroutine of one of its callers. A batch has at least one operation; its
// operations are in the order of their arrival. The slice is run's only until
// it returns. The outcome of each operation is left in the operation itself.
func New[T any](run func(batch []T)) *Queue[T] {
	return NewFinishing(func(batch []T, _ func(int)) { run(batch) })
}

// NewFinishing is New for a run that needn't keep all callers until it returns:
// finish(i) lets the caller of batch[i] go on at once, unless it is the one that leads. After that run
// must not touch the operation any more.
func NewFinishing[T any](run func(batch []T, finish func(i int))) *Queue[T] {
	return &Queue[T]{run: run}
}

// Do queues op and returns nil when a batch with it has been run.
//
// If ctx ends first, Do returns its error at once: an operation that was still
// waiting is then never run, one whose batch is under way still ends, and its
// caller doesn't learn how; the caller must not touch op any more. The caller that leads a batch sees it through.
// Other errors: [ErrClosed], and [*PanicError].
func (q *Queue[T]) Do(ctx context.Context, op T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	w := &waiter[T]{op: op}
	q.waiting = append(q.waiting, w)
	if !q.busy {
		q.busy = true
		w.state = leading
		q.mu.Unlock()
		return q.lead(w)
	}
	w.wake = make(chan bool, 1)
	q.mu.Unlock()

	select {
	case lead := <-w.wake:
		if lead {
			return q.lead(w)
		}
		return w.err
	case <-ctx.Done():
	}
	if q.abandon(w) {
		return ctx.Err()
	}
	// The message to w is sent or about to be.
	if lead := <-w.wake; lead {
		q.handOver()
		return ctx.Err()
	}
	return w.err
}

// Len returns how many operations wait for the next batch.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Close refuses new operations with [ErrClosed], and those that still wait,
// and returns when no batch is under way any more.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	q.closed = true
	for _, w := range q.waiting {
		if w.state == queued {
			w.err = ErrClosed
			w.state = done
			w.wake <- false
		}
	}
	q.waiting = nil
	if q.idle == nil {
		q.idle = make(chan struct{})
		if !q.busy {
			close(q.idle)
		}
	}
	idle := q.idle
	q.mu.Unlock()
	<-idle
}

// waiter is one caller of Do.
type waiter[T any] struct {
	op    T
	err   error     // set before wake is sent to
	wake  chan bool // true: lead the next batch; nil for a caller that leads at once
	state state     // guarded by Queue.mu
}

type state uint8

const (
	queued  state = iota // in Queue.waiting
	leading              // in Queue.waiting, and told to lead
	taken                // in the batch under way
	done                 // told the outcome, or about to be
)

// abandon takes w out of the queue. It reports false if a message to w is on its way.
func (q *Queue[T]) abandon(w *waiter[T]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.state == queued || w.state == leading {
		if i := slices.Index(q.waiting, w); i >= 0 {
			q.waiting = slices.Delete(q.waiting, i, i+1)
		}
	}
	return w.state == queued || w.state == taken
}

// lead runs one batch, with w's operation in it, and hands over.
func (q *Queue[T]) lead(w *waiter[T]) (err error) {
	if q.crowded {
		runtime.Gosched() // the callers of the batch before, just woken, may come back with more
	}
	q.mu.Lock()
	callers := q.waiting
	q.waiting = q.callers[:0]
	for _, c := range callers {
		c.state = taken
	}
	q.mu.Unlock()
	if len(callers) == 0 { // Close came first
		q.handOver()
		return ErrClosed
	}

	for _, c := range callers {
		q.batch = append(q.batch, c.op)
	}
	finished := false
	defer func() {
		if !finished {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			} else {
				err = errExited
			}
		}
		q.release(w, callers, err)
	}()
	q.run(q.batch, func(i int) {
		if c := callers[i]; c != nil && c != w {
			q.mu.Lock()
			c.state = done
			q.mu.Unlock()
			c.wake <- false
			callers[i] = nil
		}
	})
	finished = true
	return nil
}

// release tells the callers of a batch that it has ended, and hands over.
func (q *Queue[T]) release(leader *waiter[T], callers []*waiter[T], err error) {
	clear(q.batch)
	q.batch = q.batch[:0]
	q.mu.Lock()
	for _, c := range callers {
		if c != nil {
			c.state = done
		}
	}
	q.mu.Unlock()
	for i, c := range callers {
		if c != nil && c != leader {
			c.err = err
			c.wake <- false
		}
		callers[i] = nil
	}
	q.callers, q.crowded = callers[:0], len(callers) > 1
	q.handOver()
}

// handOver makes the first waiting caller the leader.
func (q *Queue[T]) handOver() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) > 0 {
		next := q.waiting[0]
		next.state = leading
		next.wake <- true
		return
	}
	q.busy = false
	if q.idle != nil {
		close(q.idle)
	}
}
