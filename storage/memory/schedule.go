package memory

import (
	"container/heap"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// place puts a run where Poll looks for it. It is called after every change of
// the run's status, owner or due time, and of its owner's life.
func (b *Backend) place(r *run, now time.Time) {
	target, at := b.placeOf(r, now)
	if r.queue == target && (target == nil || target != b.due) {
		return // it keeps its place in the line
	}
	b.unplace(r)
	if target == nil {
		return
	}
	r.queue, r.at, r.tie = target, at, r.row.Number
	heap.Push(target, r)
	b.note(r, storage.Note{Queued: true})
}

func (b *Backend) placeOf(r *run, now time.Time) (*queue[*run], time.Time) {
	switch r.row.Status {
	case storage.Running:
		if !b.alive(r) {
			return b.readyFor(r.row.Entrypoint), now
		}
	case storage.Queued:
		if r.row.Due.After(now) {
			return b.due, r.row.Due
		}
		if !r.row.Due.IsZero() {
			return b.readyFor(r.row.Entrypoint), r.row.Due
		}
		return b.readyFor(r.row.Entrypoint), now
	case storage.Interrupted:
		if !r.row.Due.IsZero() {
			return b.due, r.row.Due
		}
	}
	return nil, time.Time{}
}

func (b *Backend) unplace(r *run) {
	if r.queue != nil {
		heap.Remove(r.queue, r.index)
		r.queue = nil
	}
}

func (b *Backend) readyFor(entrypoint string) *queue[*run] {
	q := b.ready[entrypoint]
	if q == nil {
		q = &queue[*run]{}
		b.ready[entrypoint] = q
	}
	return q
}

// slot is the place of an entry of a queue.
type slot struct {
	at    time.Time
	tie   int64
	index int
}

func (s *slot) self() *slot { return s }

// queue is a heap, earliest first, whose entries know where they are, so that
// any of them can be taken out. It is used through container/heap.
type queue[T interface{ self() *slot }] []T

func (q queue[T]) Len() int { return len(q) }

func (q queue[T]) Less(i, j int) bool {
	a, b := q[i].self(), q[j].self()
	if c := a.at.Compare(b.at); c != 0 {
		return c < 0
	}
	return a.tie < b.tie
}

func (q queue[T]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].self().index, q[j].self().index = i, j
}

func (q *queue[T]) Push(x any) {
	entry := x.(T)
	entry.self().index = len(*q)
	*q = append(*q, entry)
}

func (q *queue[T]) Pop() any {
	old := *q
	n := len(old) - 1
	entry := old[n]
	clear(old[n:])
	*q = old[:n]
	return entry
}
