package memory

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Poll implements [storage.Runs]. A member that doesn't live: [storage.ErrClosed].
func (b *Backend) Poll(ctx context.Context, p storage.Poll) (storage.Polled, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return storage.Polled{}, err
	}
	defer b.end()
	if p.Limit > 0 && b.members[p.Member] == nil {
		return storage.Polled{}, fmt.Errorf("memory: poll: member %s: %w", p.Member, storage.ErrClosed)
	}
	b.tick(now)
	polled := storage.Polled{Now: now, Next: b.next()}
	for {
		r := b.longestWaiting(p.Entrypoints, p.Except)
		if r == nil {
			return polled, nil
		}
		if len(polled.Runs) >= p.Limit {
			polled.More = true
			return polled, nil
		}
		b.give(r, p.Member, now)
		b.place(r, now)
		b.note(r, storage.Note{})
		polled.Runs = append(polled.Runs, r.snapshot())
	}
}

// tick does what time has brought: it expires questions and wakes runs.
func (b *Backend) tick(now time.Time) {
	for len(*b.deadlines) > 0 && !(*b.deadlines)[0].at.After(now) {
		b.expire((*b.deadlines)[0], now)
	}
	for len(*b.due) > 0 && !(*b.due)[0].at.After(now) {
		r := heap.Pop(b.due).(*run)
		r.queue = nil
		r.row.Status, r.row.Updated = storage.Queued, now
		b.place(r, now) // while it has its Due: it waits since then
		r.row.Due = time.Time{}
	}
}

// next is when tick will have something to do.
func (b *Backend) next() time.Time {
	var next time.Time
	if len(*b.due) > 0 {
		next = (*b.due)[0].at
	}
	if len(*b.deadlines) > 0 {
		if at := (*b.deadlines)[0].at; next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

func (b *Backend) longestWaiting(entrypoints []string, except []storage.ID) *run {
	var first *run
	for _, name := range entrypoints {
		q := b.ready[name]
		if q == nil {
			continue
		}
		for _, r := range *q {
			excepted := slices.Contains(except, r.row.ID)
			if !excepted && (first == nil || r.at.Before(first.at) || r.at.Equal(first.at) && r.tie < first.tie) {
				first = r
			}
			if len(except) == 0 {
				break // it is the first of its heap
			}
		}
	}
	return first
}
