package faulty

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Join implements [storage.Backend].
func (b *Backend) Join(ctx context.Context, name string) (storage.Membership, error) {
	return do(b, "Join", func() (storage.Membership, error) {
		inner, err := b.inner.Join(ctx, name)
		if err != nil {
			return nil, err
		}
		m := &membership{inner: inner, b: b}
		b.mu.Lock()
		err = b.gone("Join")
		if err == nil {
			b.members[m] = struct{}{}
		}
		b.mu.Unlock()
		if err != nil { // the process died while it joined
			_ = inner.Leave(context.Background())
			return nil, err
		}
		return m, nil
	})
}

type membership struct {
	inner storage.Membership
	b     *Backend
}

func (m *membership) ID() storage.ID        { return m.inner.ID() }
func (m *membership) Lost() <-chan struct{} { return m.inner.Lost() }

func (m *membership) Leave(ctx context.Context) error {
	return do0(m.b, "Leave", func() error {
		if err := m.inner.Leave(ctx); err != nil {
			return err
		}
		m.b.mu.Lock()
		defer m.b.mu.Unlock()
		delete(m.b.members, m)
		return nil
	})
}

type watch struct {
	over atomic.Bool
	stop func()
}

func (w *watch) end() {
	w.over.Store(true)
	w.stop()
}

// Watch implements [storage.Backend]. It is not counted as a call.
func (b *Backend) Watch(fn func(storage.Note)) (stop func()) {
	w := &watch{}
	w.stop = b.inner.Watch(func(n storage.Note) {
		if !w.over.Load() {
			fn(n)
		}
	})
	b.mu.Lock()
	late := b.gone("Watch") != nil
	if !late {
		b.watches[w] = struct{}{}
	}
	b.mu.Unlock()
	if late {
		w.end()
	}
	return func() {
		b.mu.Lock()
		delete(b.watches, w)
		b.mu.Unlock()
		w.end()
	}
}

// Now implements [storage.Backend].
func (b *Backend) Now(ctx context.Context) (time.Time, error) {
	return do(b, "Now", func() (time.Time, error) { return b.inner.Now(ctx) })
}

// Start implements [storage.Runs].
func (b *Backend) Start(ctx context.Context, s storage.Start) (storage.Started, error) {
	return do(b, "Start", func() (storage.Started, error) { return b.inner.Start(ctx, s) })
}

// Append implements [storage.Runs].
func (b *Backend) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	return do(b, "Append", func() ([]storage.Committed, error) { return b.inner.Append(ctx, units) })
}

// Acquire implements [storage.Runs].
func (b *Backend) Acquire(ctx context.Context, a storage.Acquire) (storage.Run, error) {
	return do(b, "Acquire", func() (storage.Run, error) { return b.inner.Acquire(ctx, a) })
}

// Poll implements [storage.Runs].
func (b *Backend) Poll(ctx context.Context, p storage.Poll) (storage.Polled, error) {
	return do(b, "Poll", func() (storage.Polled, error) { return b.inner.Poll(ctx, p) })
}

// Cancel implements [storage.Runs].
func (b *Backend) Cancel(ctx context.Context, tenant string, run storage.ID, reason string) (storage.Run, error) {
	return do(b, "Cancel", func() (storage.Run, error) { return b.inner.Cancel(ctx, tenant, run, reason) })
}

// Run implements [storage.Runs].
func (b *Backend) Run(ctx context.Context, tenant string, run storage.ID) (storage.Run, error) {
	return do(b, "Run", func() (storage.Run, error) { return b.inner.Run(ctx, tenant, run) })
}

// Load implements [storage.Runs].
func (b *Backend) Load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	return do(b, "Load", func() (storage.Loaded, error) { return b.inner.Load(ctx, tenant, run) })
}

// Log implements [storage.Runs].
func (b *Backend) Log(ctx context.Context, tenant string, run storage.ID, after int64, limit int) (storage.Run, []storage.Record, error) {
	type reply struct {
		run     storage.Run
		records []storage.Record
	}
	r, err := do(b, "Log", func() (reply, error) {
		run, records, err := b.inner.Log(ctx, tenant, run, after, limit)
		return reply{run, records}, err
	})
	return r.run, r.records, err
}

// ListRuns implements [storage.Runs].
func (b *Backend) ListRuns(ctx context.Context, f storage.RunFilter) ([]storage.Run, error) {
	return do(b, "ListRuns", func() ([]storage.Run, error) { return b.inner.ListRuns(ctx, f) })
}

// Settle implements [storage.Questions].
func (b *Backend) Settle(ctx context.Context, s []storage.Settlement) ([]storage.Settled, error) {
	return do(b, "Settle", func() ([]storage.Settled, error) { return b.inner.Settle(ctx, s) })
}

// Extend implements [storage.Questions].
func (b *Backend) Extend(ctx context.Context, tenant string, question storage.ID, deadline time.Time) (storage.Question, error) {
	return do(b, "Extend", func() (storage.Question, error) { return b.inner.Extend(ctx, tenant, question, deadline) })
}

// Question implements [storage.Questions].
func (b *Backend) Question(ctx context.Context, tenant string, question storage.ID) (storage.Question, error) {
	return do(b, "Question", func() (storage.Question, error) { return b.inner.Question(ctx, tenant, question) })
}

// ListQuestions implements [storage.Questions].
func (b *Backend) ListQuestions(ctx context.Context, f storage.QuestionFilter) ([]storage.Question, error) {
	return do(b, "ListQuestions", func() ([]storage.Question, error) { return b.inner.ListQuestions(ctx, f) })
}

// CountQuestions implements [storage.Questions].
func (b *Backend) CountQuestions(ctx context.Context, f storage.QuestionFilter) (map[storage.QuestionState]int, error) {
	return do(b, "CountQuestions", func() (map[storage.QuestionState]int, error) { return b.inner.CountQuestions(ctx, f) })
}

// QuestionChanges implements [storage.Questions].
func (b *Backend) QuestionChanges(ctx context.Context, tenant string, after int64, limit int) ([]storage.Question, error) {
	return do(b, "QuestionChanges", func() ([]storage.Question, error) {
		return b.inner.QuestionChanges(ctx, tenant, after, limit)
	})
}

// Head implements [storage.Threads].
func (b *Backend) Head(ctx context.Context, tenant, thread string) (storage.Head, error) {
	return do(b, "Head", func() (storage.Head, error) { return b.inner.Head(ctx, tenant, thread) })
}

// PutThread implements [storage.Threads].
func (b *Backend) PutThread(ctx context.Context, t storage.Thread) error {
	return do0(b, "PutThread", func() error { return b.inner.PutThread(ctx, t) })
}

// GetThread implements [storage.Threads].
func (b *Backend) GetThread(ctx context.Context, tenant, thread string) (storage.Thread, error) {
	return do(b, "GetThread", func() (storage.Thread, error) { return b.inner.GetThread(ctx, tenant, thread) })
}

// ListThreads implements [storage.Threads].
func (b *Backend) ListThreads(ctx context.Context, f storage.ThreadFilter) ([]storage.Thread, error) {
	return do(b, "ListThreads", func() ([]storage.Thread, error) { return b.inner.ListThreads(ctx, f) })
}

// DeleteThread implements [storage.Threads].
func (b *Backend) DeleteThread(ctx context.Context, tenant, thread string) error {
	return do0(b, "DeleteThread", func() error { return b.inner.DeleteThread(ctx, tenant, thread) })
}

// CopyThread implements [storage.Threads].
func (b *Backend) CopyThread(ctx context.Context, tenant, from, to string) error {
	return do0(b, "CopyThread", func() error { return b.inner.CopyThread(ctx, tenant, from, to) })
}

// PruneThread implements [storage.Threads].
func (b *Backend) PruneThread(ctx context.Context, tenant, thread string) (int, error) {
	return do(b, "PruneThread", func() (int, error) { return b.inner.PruneThread(ctx, tenant, thread) })
}

// PutItems implements [storage.Items].
func (b *Backend) PutItems(ctx context.Context, items []storage.Item) error {
	return do0(b, "PutItems", func() error { return b.inner.PutItems(ctx, items) })
}

// GetItem implements [storage.Items].
func (b *Backend) GetItem(ctx context.Context, tenant string, namespace []string, key string, refresh bool) (storage.Item, error) {
	return do(b, "GetItem", func() (storage.Item, error) { return b.inner.GetItem(ctx, tenant, namespace, key, refresh) })
}

// ListItems implements [storage.Items].
func (b *Backend) ListItems(ctx context.Context, f storage.ItemFilter) ([]storage.Item, error) {
	return do(b, "ListItems", func() ([]storage.Item, error) { return b.inner.ListItems(ctx, f) })
}

// ListNamespaces implements [storage.Items].
func (b *Backend) ListNamespaces(ctx context.Context, tenant string, prefix []string) ([][]string, error) {
	return do(b, "ListNamespaces", func() ([][]string, error) { return b.inner.ListNamespaces(ctx, tenant, prefix) })
}

// SweepItems implements [storage.Items].
func (b *Backend) SweepItems(ctx context.Context, limit int) (int, error) {
	return do(b, "SweepItems", func() (int, error) { return b.inner.SweepItems(ctx, limit) })
}
