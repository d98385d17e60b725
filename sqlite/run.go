package sqlite

import (
	"context"
	"fmt"
	"slices"

	"github.com/fermata-go/fermata/storage"
)

// Run reads one run.
func (b *Backend) Run(ctx context.Context, tenant string, run storage.ID) (storage.Run, error) {
	var r *runRow
	err := b.readSoon(ctx, "read a run", func(c *conn) (err error) {
		r, err = findRun(c, tenant, run)
		return err
	})
	if err != nil {
		return storage.Run{}, err
	}
	return r.Run, nil
}

// Cancel ends a run that nobody owns, or asks its owner to.
func (b *Backend) Cancel(ctx context.Context, tenant string, run storage.ID, reason string) (storage.Run, error) {
	var r *runRow
	err := b.write(ctx, "cancel a run", func(t *tx) (err error) {
		if r, err = findRun(t.conn, tenant, run); err != nil {
			return err
		}
		if !r.Status.Active() {
			return t.busy(r)
		}
		r.CancelReason, r.Updated = reason, timeOf(max(t.now, r.last))
		if r.Status == storage.Running && t.lives(r.Owner) {
			r.CancelRequested = true
			r.Inbox++
			t.note(storage.Note{Tenant: tenant, Run: run, Inbox: true})
			return t.saveRun(r)
		}
		r.CancelRequested, r.Error = false, nil
		r.giveUp(storage.Cancelled)
		withdrawn, err := t.closeOpen(r.Number, storage.Withdrawn, r.Updated.UnixMicro())
		if err != nil {
			return err
		}
		t.note(storage.Note{Tenant: tenant, Run: run, Questions: withdrawn > 0})
		return t.saveRun(r)
	})
	if err != nil {
		return storage.Run{}, err
	}
	return r.Run, nil
}

// Acquire makes a member the owner of one run, or queues it for any.
func (b *Backend) Acquire(ctx context.Context, a storage.Acquire) (storage.Run, error) {
	var r *runRow
	err := b.write(ctx, "acquire a run", func(t *tx) (err error) {
		if !a.Member.IsZero() && !t.lives(a.Member) {
			return left(a.Member)
		}
		if r, err = findRun(t.conn, a.Tenant, a.Run); err != nil {
			return err
		}
		latest, err := latestRun(t.conn, a.Tenant, r.Thread)
		if err != nil {
			return err
		}
		switch {
		case latest.Number != r.Number:
			return t.busy(latest)
		case !slices.Contains(a.From, r.Status),
			r.Status == storage.Running && r.Owner != a.Member && r.Owner != a.Owner && t.lives(r.Owner):
			return t.busy(r)
		}
		if !a.Member.IsZero() {
			return t.acquire(r, a.Member)
		}
		if !t.lives(r.Owner) {
			t.bury(r)
		}
		if err := t.clearEnd(r); err != nil {
			return err
		}
		r.giveUp(storage.Queued)
		r.Token++
		r.Updated = timeOf(max(t.now, r.last))
		r.ready = r.Updated.UnixMicro()
		t.note(storage.Note{Tenant: r.Tenant, Run: r.ID, Queued: true})
		return t.saveRun(r)
	})
	if err != nil {
		return storage.Run{}, err
	}
	return r.Run, nil
}

// runRow is a run with what only this backend knows of it.
type runRow struct {
	storage.Run
	base    int64 // LastSeq when the run was last taken or given up
	ready   int64 // queued: since when the run may be taken, in microseconds; else 0
	last    int64 // the time of its last change or record: no later one bears an earlier time
	tail    []byte
	spilled bool
}

const runColumns = `n, id, tenant, thread, entrypoint, source, status, token, seq, inbox, step, crashes, fork, spilled,
	created, updated, owner, due, ready, cancelling, cancel, parent, parent_end, previous, metadata, tail, input, config, result, saved, error, copied`

// scanRun reads a row of runColumns. The caller completes it with finishRun, when the query is closed.
func scanRun(q *query) (*runRow, error) {
	r := &runRow{Run: storage.Run{
		Number: q.colInt(0), ID: q.colID(1), Tenant: q.colText(2), Thread: q.colText(3), Entrypoint: q.colText(4),
		Source: storage.Source(q.colInt(5)), Status: storage.Status(q.colInt(6)), Token: q.colInt(7),
		Inbox: q.colInt(9), Step: q.colInt(10), Crashes: int(q.colInt(11)), ForkSeq: q.colInt(12),
		Created: q.colTime(14), Updated: q.colTime(15), Owner: q.colID(16), Due: q.colTime(17),
		CancelRequested: q.colBool(19), CancelReason: q.colText(20),
		Parent:   storage.Checkpoint{Run: q.colID(21), End: q.colBool(22)},
		Previous: q.colID(23), Input: q.colBlob(26), Config: q.colBlob(27),
		Result: q.colBlob(28), Saved: q.colBlob(29), Error: q.colBlob(30),
	}}
	r.base, r.spilled, r.ready, r.tail = q.colInt(8), q.colBool(13), q.colInt(18), q.colBlob(25)
	r.LastSeq, r.last = r.base, q.colInt(15)
	err := q.colJSON(24, &r.Metadata)
	if err == nil {
		r.Copied, err = storage.UnpackParts(q.colBlob(31))
	}
	return r, err
}

// oneRun runs a query for runColumns that has at most one row; nil if there is none.
func oneRun(c *conn, q *query) (r *runRow, err error) {
	var scanErr error
	found, err := q.first(func(q *query) { r, scanErr = scanRun(q) })
	if err == nil {
		err = scanErr
	}
	if err != nil || !found {
		return nil, err
	}
	return r, finishRun(c, r)
}

// manyRuns runs a query for runColumns.
func manyRuns(c *conn, q *query) (rows []*runRow, err error) {
	for {
		more, err := q.next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		r, err := scanRun(q)
		if err != nil {
			q.close()
			return nil, err
		}
		rows = append(rows, r)
	}
	for _, r := range rows {
		if err := finishRun(c, r); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// finishRun fills in what isn't in the run's row.
func finishRun(c *conn, r *runRow) error {
	var seq, at int64
	if f := c.fences.get(r.Tenant, r.ID); f != nil {
		seq, at = f.seq, f.last
	} else {
		var err error
		if seq, at, err = lastUnit(c, r.Number); err != nil {
			return err
		}
	}
	if seq > r.LastSeq {
		r.LastSeq = seq
		if r.Status == storage.Running {
			r.Crashes = 0 // this owner has appended
		}
	}
	if at > r.last {
		r.last, r.Updated = at, timeOf(at)
	}
	if !r.spilled {
		return nil
	}
	found, err := c.query("SELECT input, config FROM spill WHERE n = ?").int(r.Number).first(func(q *query) {
		r.Input, r.Config = q.colBlob(0), q.colBlob(1)
	})
	if err == nil && !found {
		err = fmt.Errorf("sqlite: %w: the input of run %s is missing", storage.ErrCorrupt, r.ID)
	}
	return err
}

// lastUnit returns the address and the time of the last row of the run's log
// table; zeros if there is none. Units elsewhere are known to the run's row.
func lastUnit(c *conn, n int64) (seq, at int64, err error) {
	_, err = c.query("SELECT k, at FROM log WHERE k > ? AND k < ? ORDER BY k DESC LIMIT 1").
		int(n << seqBits).int((n + 1) << seqBits).first(func(q *query) {
		seq, at = q.colInt(0)&maxSeq, q.colInt(1)
	})
	return seq, at, err
}

// lookupRun returns nil if there is no such run.
func lookupRun(c *conn, tenant string, id storage.ID) (*runRow, error) {
	return oneRun(c, c.query("SELECT "+runColumns+" FROM run WHERE id = ? AND tenant = ?").blob(id[:]).text(tenant))
}

func findRun(c *conn, tenant string, id storage.ID) (*runRow, error) {
	r, err := lookupRun(c, tenant, id)
	if err == nil && r == nil {
		err = notFound("run", id, tenant)
	}
	return r, err
}

func runByNumber(c *conn, n int64) (*runRow, error) {
	r, err := oneRun(c, c.query("SELECT "+runColumns+" FROM run WHERE n = ?").int(n))
	if err == nil && r == nil {
		err = fmt.Errorf("sqlite: %w: run number %d is missing", storage.ErrCorrupt, n)
	}
	return r, err
}

// latestRun returns nil if the thread has no run.
func latestRun(c *conn, tenant, thread string) (*runRow, error) {
	return oneRun(c, c.query("SELECT "+runColumns+" FROM run WHERE tenant = ? AND thread = ? ORDER BY n DESC LIMIT 1").
		text(tenant).text(thread))
}

// saveRun writes what may change in a run's life.
func (t *tx) saveRun(r *runRow) error {
	t.fences.putRun(r)
	return t.write(t.query(`UPDATE run SET status = ?, token = ?, seq = ?, inbox = ?, crashes = ?, updated = ?, owner = ?, due = ?, ready = ?,
		cancelling = ?, cancel = ?, tail = ?, result = ?, saved = ?, error = ? WHERE n = ?`).
		int(int64(r.Status)).int(r.Token).int(r.base).int(r.Inbox).int(int64(r.Crashes)).int(r.Updated.UnixMicro()).
		id(r.Owner).time(r.Due).optInt(r.ready).bool(r.CancelRequested).optText(r.CancelReason).
		blob(r.tail).blob(r.Result).blob(r.Saved).blob(r.Error).int(r.Number))
}

// giveUp sets a status in which nobody owns the run.
func (r *runRow) giveUp(s storage.Status) {
	r.Status, r.Owner, r.Due = s, storage.ID{}, noTime
	r.base, r.ready = r.LastSeq, 0
}

// acquire makes member the owner of r, and saves it.
func (t *tx) acquire(r *runRow, member storage.ID) error {
	if r.Owner != member && !t.lives(r.Owner) {
		t.bury(r)
	}
	if err := t.clearEnd(r); err != nil {
		return err
	}
	r.Status, r.Owner, r.Due, r.ready = storage.Running, member, noTime, 0
	r.Token++
	r.base = r.LastSeq
	r.Updated = timeOf(max(t.now, r.last))
	t.note(storage.Note{Tenant: r.Tenant, Run: r.ID})
	return t.saveRun(r)
}

// bury counts the death of the run's owner, if it was running. An owner that
// appended has already set the count back: see finishRun.
func (t *tx) bury(r *runRow) {
	if r.Status == storage.Running && r.LastSeq == r.base {
		r.Crashes++
	}
}

// clearEnd takes back what the run's last end left. The unit that ended it moves from its row to the log.
func (t *tx) clearEnd(r *runRow) error {
	if !r.Status.Active() {
		r.CancelRequested, r.CancelReason = false, ""
	}
	if r.Status == storage.Running || r.Status == storage.Queued || r.Status == storage.Interrupted {
		return nil
	}
	r.Result, r.Saved, r.Error = nil, nil, nil
	if r.tail == nil {
		return nil
	}
	tail := r.tail
	r.tail = nil
	return t.write(t.query("INSERT INTO log (k, at, unit) VALUES (?, ?, ?)").
		int(r.Number<<seqBits | r.LastSeq).int(r.Updated.UnixMicro()).blob(tail))
}

// left returns the error for a member that doesn't live.
func left(member storage.ID) error {
	return fmt.Errorf("sqlite: member %s has left: %w", member, storage.ErrClosed)
}

// lives is members.lives, asked once per transaction.
func (t *tx) lives(id storage.ID) bool {
	if alive, ok := t.alive[id]; ok {
		return alive
	}
	if t.alive == nil {
		t.alive = map[storage.ID]bool{}
	}
	alive := t.b.members.lives(id)
	t.alive[id] = alive
	return alive
}

// busy returns the error that names r as the run in the way.
func (t *tx) busy(r *runRow) error {
	open, err := countOpen(t.conn, r.Number)
	if err != nil {
		return err
	}
	return &storage.BusyError{Run: r.Run, Alive: r.Status == storage.Running && t.lives(r.Owner), Open: open}
}
