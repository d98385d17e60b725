package sealed

import (
	"context"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

// Head implements [storage.Threads].
func (b *Backend) Head(ctx context.Context, tenant, thread string) (storage.Head, error) {
	h, err := b.Backend.Head(ctx, tenant, thread)
	if err != nil {
		return storage.Head{}, err
	}
	for _, r := range []**storage.Run{&h.Run, &h.Last} {
		if *r == nil {
			continue
		}
		run := **r // Run and Last may be the same
		if err := b.openRun(&run); err != nil {
			return storage.Head{}, err
		}
		*r = &run
	}
	if err := b.openQuestions(h.Open); err != nil {
		return storage.Head{}, err
	}
	return h, nil
}

// PutThread implements [storage.Threads].
func (b *Backend) PutThread(ctx context.Context, t storage.Thread) error {
	t.Metadata = b.sealMetadata(t.Tenant, t.Metadata)
	return b.Backend.PutThread(ctx, t)
}

// GetThread implements [storage.Threads].
func (b *Backend) GetThread(ctx context.Context, tenant, thread string) (storage.Thread, error) {
	t, err := b.Backend.GetThread(ctx, tenant, thread)
	if err == nil {
		err = b.openThread(&t)
	}
	if err != nil {
		return storage.Thread{}, err
	}
	return t, nil
}

func (b *Backend) openThread(t *storage.Thread) (err error) {
	if t.Metadata, err = b.openMetadata(t.Tenant, t.Metadata); err != nil {
		return fmt.Errorf("thread %.80q: %w", t.ID, err)
	}
	return nil
}

// ListThreads implements [storage.Threads].
func (b *Backend) ListThreads(ctx context.Context, f storage.ThreadFilter) ([]storage.Thread, error) {
	f.Metadata = b.sealMetadata(f.Tenant, f.Metadata)
	threads, err := b.Backend.ListThreads(ctx, f)
	if err != nil {
		return nil, err
	}
	for i := range threads {
		if err := b.openThread(&threads[i]); err != nil {
			return nil, err
		}
	}
	return threads, nil
}

// CopyThread implements [storage.Threads].
func (b *Backend) CopyThread(ctx context.Context, tenant, from, to string) error {
	return b.failure(tenant, b.Backend.CopyThread(ctx, tenant, from, to))
}

// DeleteThread implements [storage.Threads].
func (b *Backend) DeleteThread(ctx context.Context, tenant, thread string) error {
	return b.failure(tenant, b.Backend.DeleteThread(ctx, tenant, thread))
}
