package memory

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// run is a run with its log.
type run struct {
	slot
	queue *queue[*run] // the queue of Poll that it is in, or nil

	row    storage.Run
	thread *thread
	// parent has the records 1 to row.ForkSeq, if that is not zero.
	parent    *run
	records   []storage.Record // from row.ForkSeq+1 on
	units     []unit           // by first
	questions []*question      // by Seq
	open      int              // how many of them are open
	taken     int64            // row.LastSeq when the owner took the run
}

// unit is what has to be remembered of a unit to know it again.
type unit struct{ first, token int64 }

func (r *run) snapshot() storage.Run {
	row := r.row
	row.Metadata, row.Copied = maps.Clone(row.Metadata), slices.Clone(row.Copied)
	return row
}

// log appends the records from after+1 to last to a list.
func (r *run) log(records []storage.Record, after, last int64) []storage.Record {
	if fork := r.row.ForkSeq; after < fork {
		records = r.parent.log(records, after, min(last, fork))
		after = fork
	}
	if after >= last {
		return records
	}
	return append(records, r.records[after-r.row.ForkSeq:last-r.row.ForkSeq]...)
}

func (b *Backend) alive(r *run) bool { return b.members[r.row.Owner] != nil }

// claimable reports whether nobody living owns an active run.
func (b *Backend) claimable(r *run) bool {
	return r.row.Status.Active() && (r.row.Status != storage.Running || !b.alive(r))
}

func (b *Backend) busy(r *run) error {
	return &storage.BusyError{Run: r.snapshot(), Alive: b.alive(r), Open: r.open}
}

func (b *Backend) find(tenant string, id storage.ID) (*run, error) {
	r := b.runs[runKey{tenant, id}]
	if r == nil {
		return nil, fmt.Errorf("memory: run %s: %w", id, storage.ErrNotFound)
	}
	return r, nil
}

// value is what the run with this id holds for those that see it as "previous".
func (b *Backend) value(tenant string, id storage.ID) []byte {
	r := b.runs[runKey{tenant, id}]
	switch {
	case id.IsZero() || r == nil:
		return nil
	case r.row.Saved != nil:
		return r.row.Saved
	}
	return r.row.Result
}

// Start implements [storage.Runs].
func (b *Backend) Start(ctx context.Context, s storage.Start) (storage.Started, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return storage.Started{}, err
	}
	defer b.end()
	in := s.Run
	if in.ID.IsZero() || in.Thread == "" || in.Entrypoint == "" {
		return storage.Started{}, fmt.Errorf("memory: start: %w: a run needs an id, a thread and an entrypoint", storage.ErrInvalid)
	}
	if !in.Owner.IsZero() && b.members[in.Owner] == nil {
		return storage.Started{}, fmt.Errorf("memory: start run %s: member %s: %w", in.ID, in.Owner, storage.ErrClosed)
	}
	if old := b.runs[runKey{in.Tenant, in.ID}]; old != nil {
		if old.row.Thread != in.Thread || old.row.Entrypoint != in.Entrypoint || !bytes.Equal(old.row.Input, in.Input) {
			return storage.Started{}, fmt.Errorf("memory: start run %s: %w", in.ID, storage.ErrConflict)
		}
		return storage.Started{Run: old.snapshot(), Existing: true, Previous: b.value(in.Tenant, old.row.Previous)}, nil
	}
	t := b.threads[threadKey{in.Tenant, in.Thread}]
	latest := t.latest()
	r := &run{row: storage.Run{
		ID: in.ID, Tenant: in.Tenant, Thread: in.Thread, Entrypoint: in.Entrypoint, Source: in.Source,
		Input: in.Input, Config: in.Config, Metadata: clone(in.Metadata),
		Created: now, Updated: now, Status: storage.Queued,
	}}
	if err := b.descend(r, latest, s); err != nil {
		return storage.Started{}, fmt.Errorf("memory: start run %s: %w", in.ID, err)
	}
	if latest != nil && latest.row.Status.Active() {
		if !s.Supersede || !b.claimable(latest) {
			return storage.Started{}, b.busy(latest)
		}
		b.finish(latest, storage.Superseded, storage.SupersededQuestion, now)
	}
	switch {
	case in.Status == storage.Finished:
		r.row.Status, r.row.Result, r.row.Saved = storage.Finished, in.Result, in.Saved
	case !in.Owner.IsZero():
		b.give(r, in.Owner, now)
	default:
		r.row.Due = cut(in.Due)
	}
	b.number++
	r.row.Number = b.number
	if t == nil {
		t = b.addThread(in.Tenant, in.Thread, now)
	}
	b.add(t, r)
	b.place(r, now)
	b.note(r, storage.Note{})
	return storage.Started{Run: r.snapshot(), Previous: b.value(in.Tenant, r.row.Previous)}, nil
}

// descend fills what a new run has from its ancestors.
func (b *Backend) descend(r, latest *run, s storage.Start) error {
	var parent *run
	end := false
	if s.From == nil {
		if parent = latest; parent != nil {
			end = parent.row.Status == storage.Finished
		}
	} else if !s.From.Run.IsZero() {
		parent, end = b.runs[runKey{r.row.Tenant, s.From.Run}], s.From.End
		if parent == nil || parent.row.Thread != r.row.Thread {
			return fmt.Errorf("from run %s: %w", s.From.Run, storage.ErrNotFound)
		}
		if end && parent.row.Status != storage.Finished {
			return fmt.Errorf("from the end of run %s, which is %s: %w", s.From.Run, parent.row.Status, storage.ErrInvalid)
		}
	}
	if s.ForkSeq < 0 || s.ForkSeq > 0 && (s.From == nil || parent == nil || s.ForkSeq > parent.row.LastSeq) {
		return fmt.Errorf("%d records of another run: %w", s.ForkSeq, storage.ErrInvalid)
	}
	if s.ForkSeq > 0 {
		r.parent, r.row.ForkSeq, r.row.LastSeq = parent, s.ForkSeq, s.ForkSeq
	}
	step := int64(-2) // of the checkpoint that the run descends from
	if parent != nil {
		r.row.Parent = storage.Checkpoint{Run: parent.row.ID, End: end}
		r.row.Previous, step = parent.row.Previous, parent.row.Step
		if end {
			r.row.Previous, step = parent.row.ID, step+1
		}
	}
	r.row.Step = step + 1
	if s.Run.Status == storage.Finished {
		r.row.Step = max(step, -1)
	}
	return nil
}

// add makes a complete run known.
func (b *Backend) add(t *thread, r *run) {
	r.thread = t
	t.runs = append(t.runs, r)
	b.byNumber = append(b.byNumber, r)
	b.runs[runKey{r.row.Tenant, r.row.ID}] = r
}

// give makes a member the owner of a run, from whatever state.
func (b *Backend) give(r *run, member storage.ID, now time.Time) {
	if !r.row.Status.Active() {
		r.row.CancelReason = ""
	}
	if !r.row.Owner.IsZero() && !b.alive(r) && r.row.LastSeq == r.taken {
		r.row.Crashes++
	}
	b.disown(r)
	r.row.Result, r.row.Saved, r.row.Error = nil, nil, nil
	r.row.Status, r.row.Owner, r.row.Due, r.row.Updated = storage.Running, member, time.Time{}, now
	r.row.Token++
	r.taken = r.row.LastSeq
	if m := b.members[member]; m != nil {
		m.owned[r] = struct{}{}
	}
}

// disown takes a run from its owner, if it has one.
func (b *Backend) disown(r *run) {
	if m := b.members[r.row.Owner]; m != nil {
		delete(m.owned, r)
	}
	r.row.Owner = storage.ID{}
}

// finish ends a run, and its open questions with it.
func (b *Backend) finish(r *run, status storage.Status, questions storage.QuestionState, now time.Time) {
	b.disown(r)
	r.row.Status, r.row.Due, r.row.CancelRequested, r.row.Updated = status, time.Time{}, false, now
	r.row.Result, r.row.Saved, r.row.Error = nil, nil, nil
	for _, q := range r.questions {
		if q.row.State == storage.Open {
			b.settle(q, questions, now)
		}
	}
	b.place(r, now)
	b.note(r, storage.Note{})
}

// Acquire implements [storage.Runs]. A member that doesn't live: [storage.ErrClosed].
func (b *Backend) Acquire(ctx context.Context, a storage.Acquire) (storage.Run, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return storage.Run{}, err
	}
	defer b.end()
	if !a.Member.IsZero() && b.members[a.Member] == nil {
		return storage.Run{}, fmt.Errorf("memory: acquire run %s: member %s: %w", a.Run, a.Member, storage.ErrClosed)
	}
	r, err := b.find(a.Tenant, a.Run)
	if err != nil {
		return storage.Run{}, err
	}
	if latest := r.thread.latest(); latest != r {
		return storage.Run{}, b.busy(latest)
	}
	taken := r.row.Status == storage.Running && b.alive(r) && r.row.Owner != a.Member && r.row.Owner != a.Owner
	if taken || !slices.Contains(a.From, r.row.Status) {
		return storage.Run{}, b.busy(r)
	}
	b.give(r, a.Member, now)
	if a.Member.IsZero() {
		r.row.Status = storage.Queued
	}
	b.place(r, now)
	b.note(r, storage.Note{})
	return r.snapshot(), nil
}

// Cancel implements [storage.Runs].
func (b *Backend) Cancel(ctx context.Context, tenant string, id storage.ID, reason string) (storage.Run, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return storage.Run{}, err
	}
	defer b.end()
	r, err := b.find(tenant, id)
	if err != nil {
		return storage.Run{}, err
	}
	if !r.row.Status.Active() {
		return storage.Run{}, b.busy(r)
	}
	r.row.CancelReason = reason
	if b.claimable(r) {
		b.finish(r, storage.Cancelled, storage.Withdrawn, now)
		return r.snapshot(), nil
	}
	r.row.CancelRequested, r.row.Updated = true, now
	r.row.Inbox++
	b.note(r, storage.Note{Inbox: true})
	return r.snapshot(), nil
}

// Run implements [storage.Runs].
func (b *Backend) Run(ctx context.Context, tenant string, id storage.ID) (storage.Run, error) {
	if _, err := b.begin(ctx); err != nil {
		return storage.Run{}, err
	}
	defer b.end()
	r, err := b.find(tenant, id)
	if err != nil {
		return storage.Run{}, err
	}
	return r.snapshot(), nil
}

// Load implements [storage.Runs].
func (b *Backend) Load(ctx context.Context, tenant string, id storage.ID) (storage.Loaded, error) {
	if _, err := b.begin(ctx); err != nil {
		return storage.Loaded{}, err
	}
	defer b.end()
	r, err := b.find(tenant, id)
	if err != nil {
		return storage.Loaded{}, err
	}
	l := storage.Loaded{
		Run:      r.snapshot(),
		Previous: b.value(tenant, r.row.Previous),
		Records:  r.log(make([]storage.Record, 0, r.row.LastSeq), 0, r.row.LastSeq),
	}
	for _, q := range r.questions {
		l.Questions = append(l.Questions, q.snapshot())
	}
	return l, nil
}

// Log implements [storage.Runs].
func (b *Backend) Log(ctx context.Context, tenant string, id storage.ID, after int64, limit int) (storage.Run, []storage.Record, error) {
	if _, err := b.begin(ctx); err != nil {
		return storage.Run{}, nil, err
	}
	defer b.end()
	r, err := b.find(tenant, id)
	if err != nil {
		return storage.Run{}, nil, err
	}
	after = max(after, 0)
	last := r.row.LastSeq
	if limit > 0 {
		last = min(last, after+int64(limit))
	}
	return r.snapshot(), r.log(nil, after, last), nil
}

// ListRuns implements [storage.Runs].
func (b *Backend) ListRuns(ctx context.Context, f storage.RunFilter) ([]storage.Run, error) {
	if _, err := b.begin(ctx); err != nil {
		return nil, err
	}
	defer b.end()
	runs := b.byNumber
	if f.Thread != "" {
		runs = nil
		if t := b.threads[threadKey{f.Tenant, f.Thread}]; t != nil {
			runs = t.runs
		}
	}
	var list []storage.Run
	for _, r := range slices.Backward(runs) {
		if len(list) == pageSize(f.Limit) {
			break
		}
		if matchRun(&r.row, f) {
			list = append(list, r.snapshot())
		}
	}
	return list, nil
}

func matchRun(r *storage.Run, f storage.RunFilter) bool {
	return r.Tenant == f.Tenant &&
		(f.Thread == "" || r.Thread == f.Thread) &&
		(f.Entrypoint == "" || r.Entrypoint == f.Entrypoint) &&
		(len(f.Statuses) == 0 || slices.Contains(f.Statuses, r.Status)) &&
		(len(f.Sources) == 0 || slices.Contains(f.Sources, r.Source)) &&
		(f.Before == 0 || r.Number < f.Before) &&
		contains(r.Metadata, f.Metadata)
}

// contains reports whether all of want is in have.
func contains(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// clone copies metadata; none is nil.
func clone(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

func pageSize(limit int) int {
	if limit <= 0 {
		return 100
	}
	return limit
}
