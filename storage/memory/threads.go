package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

type thread struct {
	tenant, id       string
	metadata         map[string]string
	created, updated time.Time
	runs             []*run // oldest first
}

func (b *Backend) addThread(tenant, id string, now time.Time) *thread {
	t := &thread{tenant: tenant, id: id, created: now, updated: now}
	b.threads[threadKey{tenant, id}] = t
	return t
}

func (t *thread) latest() *run {
	if t == nil || len(t.runs) == 0 {
		return nil
	}
	return t.runs[len(t.runs)-1]
}

func (t *thread) snapshot() storage.Thread {
	updated := t.updated
	if r := t.latest(); r != nil && r.row.Updated.After(updated) {
		updated = r.row.Updated
	}
	return storage.Thread{Tenant: t.tenant, ID: t.id, Metadata: maps.Clone(t.metadata), Created: t.created, Updated: updated}
}

// Head implements [storage.Threads].
func (b *Backend) Head(ctx context.Context, tenant, id string) (storage.Head, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return storage.Head{}, err
	}
	defer b.end()
	head := storage.Head{Now: now}
	r := b.threads[threadKey{tenant, id}].latest()
	if r == nil {
		return head, nil
	}
	row := r.snapshot()
	head.Run, head.Alive = &row, b.alive(r)
	if last := b.holder(r); last != nil {
		row := last.snapshot()
		head.Last = &row
	}
	for _, q := range r.questions {
		if q.row.State == storage.Open {
			head.Open = append(head.Open, q.snapshot())
		}
	}
	return head, nil
}

// holder is the run that holds the value of the thread whose latest run is r.
func (b *Backend) holder(r *run) *run {
	if r.row.Status == storage.Finished {
		return r
	}
	return b.runs[runKey{r.row.Tenant, r.row.Previous}]
}

// PutThread implements [storage.Threads].
func (b *Backend) PutThread(ctx context.Context, in storage.Thread) error {
	now, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer b.end()
	if in.ID == "" {
		return fmt.Errorf("memory: put thread: %w: no id", storage.ErrInvalid)
	}
	t := b.threads[threadKey{in.Tenant, in.ID}]
	if t == nil {
		t = b.addThread(in.Tenant, in.ID, now)
	}
	t.metadata, t.updated = clone(in.Metadata), now
	return nil
}

// GetThread implements [storage.Threads].
func (b *Backend) GetThread(ctx context.Context, tenant, id string) (storage.Thread, error) {
	if _, err := b.begin(ctx); err != nil {
		return storage.Thread{}, err
	}
	defer b.end()
	t := b.threads[threadKey{tenant, id}]
	if t == nil {
		return storage.Thread{}, fmt.Errorf("memory: thread %.80q: %w", id, storage.ErrNotFound)
	}
	return t.snapshot(), nil
}

// ListThreads implements [storage.Threads].
func (b *Backend) ListThreads(ctx context.Context, f storage.ThreadFilter) ([]storage.Thread, error) {
	if _, err := b.begin(ctx); err != nil {
		return nil, err
	}
	defer b.end()
	var found []*thread
	for _, t := range b.threads {
		if t.matches(f) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b *thread) int { return cmp.Compare(a.id, b.id) })
	var list []storage.Thread
	for _, t := range found[:min(len(found), pageSize(f.Limit))] {
		list = append(list, t.snapshot())
	}
	return list, nil
}

func (t *thread) matches(f storage.ThreadFilter) bool {
	if t.tenant != f.Tenant || t.id <= f.After && f.After != "" || !contains(t.metadata, f.Metadata) {
		return false
	}
	if f.Entrypoint == "" && len(f.Statuses) == 0 {
		return true
	}
	r := t.latest()
	return r != nil &&
		(f.Entrypoint == "" || r.row.Entrypoint == f.Entrypoint) &&
		(len(f.Statuses) == 0 || slices.Contains(f.Statuses, r.row.Status))
}

// DeleteThread implements [storage.Threads].
func (b *Backend) DeleteThread(ctx context.Context, tenant, id string) error {
	if _, err := b.begin(ctx); err != nil {
		return err
	}
	defer b.end()
	t := b.threads[threadKey{tenant, id}]
	if t == nil {
		return nil
	}
	// Only the latest run of a thread may have an owner.
	if r := t.latest(); r != nil && b.alive(r) {
		return b.busy(r)
	}
	b.remove(t.runs)
	delete(b.threads, threadKey{tenant, id})
	b.noteAny()
	return nil
}

// remove forgets runs with all that is theirs, but for their thread.
func (b *Backend) remove(runs []*run) {
	gone := make(map[*run]struct{}, len(runs))
	for _, r := range runs {
		gone[r] = struct{}{}
		b.unplace(r)
		delete(b.runs, runKey{r.row.Tenant, r.row.ID})
		for _, q := range r.questions {
			b.removeQuestion(q)
		}
	}
	b.byNumber = slices.DeleteFunc(b.byNumber, func(r *run) bool { _, is := gone[r]; return is })
}

func (b *Backend) removeQuestion(q *question) {
	if q.row.State == storage.Open && q.row.Unique != "" {
		delete(b.unique, uniqueKey{q.row.Tenant, q.row.Name, q.row.Unique})
	}
	b.untime(q)
	b.open.remove(q)
	delete(b.questions, questionKey{q.row.Tenant, q.row.ID})
	b.feed.forget(q)
}

// PruneThread implements [storage.Threads].
func (b *Backend) PruneThread(ctx context.Context, tenant, id string) (int, error) {
	if _, err := b.begin(ctx); err != nil {
		return 0, err
	}
	defer b.end()
	t := b.threads[threadKey{tenant, id}]
	latest := t.latest()
	if latest == nil {
		return 0, nil
	}
	keep := map[*run]struct{}{}
	for _, r := range []*run{latest, b.holder(latest)} {
		for ; r != nil; r = r.parent {
			keep[r] = struct{}{}
		}
	}
	var kept, gone []*run
	for _, r := range t.runs {
		if _, is := keep[r]; is {
			kept = append(kept, r)
		} else {
			gone = append(gone, r)
		}
	}
	if len(gone) > 0 {
		t.runs = kept
		b.remove(gone)
		b.noteAny()
	}
	return len(gone), nil
}

// CopyThread implements [storage.Threads].
func (b *Backend) CopyThread(ctx context.Context, tenant, from, to string) error {
	now, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer b.end()
	if to == "" {
		return fmt.Errorf("memory: copy thread %.80q: %w: the copy has no id", from, storage.ErrInvalid)
	}
	source := b.threads[threadKey{tenant, from}]
	if source == nil {
		return fmt.Errorf("memory: copy thread %.80q: %w", from, storage.ErrNotFound)
	}
	target := b.threads[threadKey{tenant, to}]
	if r := target.latest(); r != nil {
		return b.busy(r)
	}
	if target == nil {
		target = b.addThread(tenant, to, now)
	}
	target.metadata, target.updated = clone(source.metadata), now
	copies := map[storage.ID]*run{}
	for _, r := range source.runs {
		copies[r.row.ID] = b.copyRun(r, target, copies, now)
	}
	return nil
}

// copyRun copies a run, whose ancestors are copied, to another thread.
func (b *Backend) copyRun(r *run, target *thread, copies map[storage.ID]*run, now time.Time) *run {
	c := &run{row: r.snapshot(), records: slices.Clone(r.records), units: slices.Clone(r.units)}
	b.number++
	c.row.ID, c.row.Thread, c.row.Number = storage.NewID(now), target.id, b.number
	c.row.Owner = storage.ID{}
	c.row.Copied = append(c.row.Copied, storage.Part{Run: r.row.ID, Seq: r.row.LastSeq})
	renamed := func(id storage.ID) storage.ID {
		if p := copies[id]; p != nil {
			return p.row.ID
		}
		return storage.ID{}
	}
	c.row.Previous, c.row.Parent.Run = renamed(r.row.Previous), renamed(r.row.Parent.Run)
	if r.parent != nil {
		c.parent = copies[r.parent.row.ID]
	}
	b.add(target, c)
	for _, q := range r.questions {
		qc := &question{run: c, row: q.snapshot()}
		qc.row.ID, qc.row.Thread, qc.row.Run, qc.row.Change = storage.NewID(now), target.id, c.row.ID, 0
		b.questions[questionKey{qc.row.Tenant, qc.row.ID}] = qc
		c.questions = append(c.questions, qc)
		if qc.row.State == storage.Open {
			qc.row.State, qc.row.Settled = storage.Withdrawn, now
		}
		b.changed(qc)
	}
	if r.row.Status.Active() {
		b.finish(c, storage.Cancelled, storage.Withdrawn, now)
	}
	b.note(c, storage.Note{})
	return c
}
