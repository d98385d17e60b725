package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// noTime is the zero time.
var noTime time.Time

// spillAt is the size of input and config together from which they don't live
// in the run's row, which is written again at every change of the run's status.
const spillAt = 2048

// Start makes a run: one row.
func (b *Backend) Start(ctx context.Context, s storage.Start) (storage.Started, error) {
	if err := checkStart(&s); err != nil {
		return storage.Started{}, err
	}
	var started storage.Started
	err := b.write(ctx, "start a run", func(t *tx) (err error) {
		started, err = t.start(&s)
		return err
	})
	if err != nil {
		return storage.Started{}, err
	}
	return started, nil
}

func checkStart(s *storage.Start) error {
	r := &s.Run
	switch {
	case r.ID.IsZero():
		return invalid("start: the run has no id")
	case r.Thread == "":
		return invalid("start: run %s has no thread", r.ID)
	case r.Entrypoint == "":
		return invalid("start: run %s has no entrypoint", r.ID)
	case r.Source > storage.Fork:
		return invalid("start: run %s: unknown source %d", r.ID, r.Source)
	case r.Status == storage.Finished:
		if !r.Owner.IsZero() {
			return invalid("start: run %s is to be born finished, and to have an owner", r.ID)
		}
	case r.Status == 0, r.Status == storage.Queued && r.Owner.IsZero(), r.Status == storage.Running && !r.Owner.IsZero():
	default:
		return invalid("start: run %s can't be born %s", r.ID, r.Status)
	}
	if s.ForkSeq < 0 {
		return invalid("start: run %s: negative ForkSeq", r.ID)
	}
	return nil
}

func (t *tx) start(s *storage.Start) (storage.Started, error) {
	none := storage.Started{}
	if !s.Run.Owner.IsZero() && !t.lives(s.Run.Owner) {
		return none, left(s.Run.Owner)
	}
	existing, err := lookupRun(t.conn, s.Run.Tenant, s.Run.ID)
	if err != nil {
		return none, err
	}
	if existing != nil {
		return t.startedBefore(s, existing)
	}
	latest, err := latestRun(t.conn, s.Run.Tenant, s.Run.Thread)
	if err != nil {
		return none, err
	}
	if latest != nil && latest.Status.Active() {
		if !s.Supersede || latest.Status == storage.Running && t.lives(latest.Owner) {
			return none, t.busy(latest)
		}
	}
	r := &runRow{Run: storage.Run{
		ID: s.Run.ID, Tenant: s.Run.Tenant, Thread: s.Run.Thread, Entrypoint: s.Run.Entrypoint, Source: s.Run.Source,
		Input: s.Run.Input, Config: s.Run.Config, ForkSeq: s.ForkSeq, LastSeq: s.ForkSeq, Created: timeOf(t.now), Updated: timeOf(t.now),
	}, base: s.ForkSeq, last: t.now}
	if len(s.Run.Metadata) > 0 {
		r.Metadata = s.Run.Metadata
	}
	previous, err := t.descend(r, s, latest)
	if err != nil {
		return none, err
	}
	switch {
	case s.Run.Status == storage.Finished:
		r.Status, r.Result, r.Saved = storage.Finished, s.Run.Result, s.Run.Saved
	case !s.Run.Owner.IsZero():
		r.Status, r.Owner, r.Token = storage.Running, s.Run.Owner, 1
	default:
		r.Status, r.Due, r.ready = storage.Queued, micros(s.Run.Due), max(t.now, readyAt(s.Run.Due))
	}
	if r.Number, err = t.nextRun(); err != nil {
		return none, err
	}

	note := storage.Note{Tenant: r.Tenant, Run: r.ID, Queued: r.Status == storage.Queued}
	if latest != nil && latest.Status.Active() {
		if err := t.supersede(latest); err != nil {
			return none, err
		}
	}
	if err := t.insertRun(r); err != nil {
		return none, err
	}
	t.note(note)
	return storage.Started{Run: r.Run, Previous: previous}, nil
}

// startedBefore answers a start whose run id is known.
func (t *tx) startedBefore(s *storage.Start, r *runRow) (storage.Started, error) {
	if r.Thread != s.Run.Thread || r.Entrypoint != s.Run.Entrypoint || !bytes.Equal(r.Input, s.Run.Input) {
		return storage.Started{}, fmt.Errorf("sqlite: start: %w: run %s is of entrypoint %.80q on thread %.80q", storage.ErrConflict, r.ID, r.Entrypoint, r.Thread)
	}
	previous, err := savedBy(t.conn, r.Tenant, r.Previous)
	if err != nil {
		return storage.Started{}, err
	}
	return storage.Started{Run: r.Run, Existing: true, Previous: previous}, nil
}

// descend sets what r has from its parent: Parent, Previous and Step. It
// returns the value that r sees as previous.
func (t *tx) descend(r *runRow, s *storage.Start, latest *runRow) (previous []byte, err error) {
	parent := latest
	switch {
	case s.From == nil && latest != nil:
		r.Parent = storage.Checkpoint{Run: latest.ID, End: latest.Status == storage.Finished}
	case s.From != nil && s.From.Run.IsZero():
		parent = nil
	case s.From != nil:
		if parent, err = lookupRun(t.conn, r.Tenant, s.From.Run); err != nil {
			return nil, err
		}
		if parent == nil || parent.Thread != r.Thread {
			return nil, fmt.Errorf("sqlite: start: %w: run %s to descend from is not on thread %.80q", storage.ErrNotFound, s.From.Run, r.Thread)
		}
		if s.From.End && parent.Status != storage.Finished {
			return nil, invalid("start: there is no checkpoint after run %s, which is %s", parent.ID, parent.Status)
		}
		r.Parent = *s.From
	}
	if s.ForkSeq > 0 && (s.From == nil || parent == nil) {
		return nil, invalid("start: run %s shares %d records, and doesn't say whose", r.ID, s.ForkSeq)
	}
	if parent == nil {
		r.Step = -1
		return nil, nil
	}
	if s.ForkSeq > parent.LastSeq {
		return nil, invalid("start: run %s shares %d records with run %s, which has %d", r.ID, s.ForkSeq, parent.ID, parent.LastSeq)
	}
	r.Step = parent.Step
	if r.Parent.End {
		r.Step++
	}
	if s.Run.Status != storage.Finished {
		r.Step++ // the checkpoint before the run is one of its own
	}
	if r.Parent.End {
		r.Previous = parent.ID
		return saved(parent), nil
	}
	r.Previous = parent.Previous
	return savedBy(t.conn, r.Tenant, r.Previous)
}

// supersede gives r up for a newer input.
func (t *tx) supersede(r *runRow) error {
	if _, err := t.closeOpen(r.Number, storage.SupersededQuestion, max(t.now, r.last)); err != nil {
		return err
	}
	r.giveUp(storage.Superseded)
	r.CancelRequested = false
	r.Updated = timeOf(max(t.now, r.last))
	t.note(storage.Note{Tenant: r.Tenant, Run: r.ID, Questions: true})
	return t.saveRun(r)
}

// insertRun writes a new run.
func (t *tx) insertRun(r *runRow) error {
	t.fences.putRun(r)
	input, config := r.Input, r.Config
	if r.spilled = len(input)+len(config) > spillAt; r.spilled {
		if err := t.write(t.query("INSERT INTO spill (n, input, config) VALUES (?, ?, ?)").int(r.Number).blob(input).blob(config)); err != nil {
			return err
		}
		input, config = nil, nil
	}
	return t.write(t.query(`INSERT INTO run (`+runColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`).
		int(r.Number).blob(r.ID[:]).text(r.Tenant).text(r.Thread).text(r.Entrypoint).int(int64(r.Source)).int(int64(r.Status)).
		int(r.Token).int(r.base).int(r.Inbox).int(r.Step).int(int64(r.Crashes)).int(r.ForkSeq).bool(r.spilled).
		int(r.Created.UnixMicro()).int(r.Updated.UnixMicro()).id(r.Owner).time(r.Due).optInt(r.ready).
		bool(r.CancelRequested).optText(r.CancelReason).id(r.Parent.Run).bool(r.Parent.End).id(r.Previous).
		json(r.Metadata, len(r.Metadata) == 0).blob(r.tail).blob(input).blob(config).blob(r.Result).blob(r.Saved).blob(r.Error).
		blob(storage.PackParts(r.Copied)))
}

// nextRun gives the number of a new run.
func (t *tx) nextRun() (int64, error) {
	if t.lastRun < 0 {
		n, err := t.query("SELECT max(coalesce((SELECT max(n) FROM run), 0), (SELECT value FROM counter WHERE name = 'run'))").firstInt()
		if err != nil {
			return 0, err
		}
		t.lastRun = n
	}
	if t.lastRun > maxRun {
		return 0, fmt.Errorf("sqlite: %s: %w: the number of the last run is %d", t.b.path, storage.ErrCorrupt, t.lastRun)
	}
	if t.lastRun == maxRun {
		return 0, fmt.Errorf("sqlite: %w: %d runs were made in this file; start a new one", storage.ErrFull, t.lastRun)
	}
	t.lastRun++
	return t.lastRun, nil
}

// saved returns the value that the next run sees as previous.
func saved(r *runRow) []byte {
	if r.Saved != nil {
		return r.Saved
	}
	return r.Result
}

// savedBy is saved of the run of that id; nil for the zero id.
func savedBy(c *conn, tenant string, id storage.ID) (value []byte, err error) {
	if id.IsZero() {
		return nil, nil
	}
	_, err = c.query("SELECT saved, result FROM run WHERE id = ? AND tenant = ?").blob(id[:]).text(tenant).first(func(q *query) {
		if value = q.colBlob(0); value == nil {
			value = q.colBlob(1)
		}
	})
	return value, err
}

// micros cuts a time to what the file keeps of it.
func micros(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return timeOf(t.UnixMicro())
}

// readyAt is when a queued run may be taken, if its due time says so.
func readyAt(due time.Time) int64 {
	if due.IsZero() {
		return 0
	}
	return due.UnixMicro()
}
