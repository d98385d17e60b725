package sqlite

import (
	"context"

	"github.com/fermata-go/fermata/storage"
)

// DeleteThread removes a thread with all that is its.
func (b *Backend) DeleteThread(ctx context.Context, tenant, thread string) error {
	return b.write(ctx, "delete a thread", func(t *tx) error {
		latest, err := latestRun(t.conn, tenant, thread)
		if err != nil {
			return err
		}
		if latest != nil && t.lives(latest.Owner) { // only the latest may have an owner
			return t.busy(latest)
		}
		numbers, err := runNumbers(t.conn, tenant, thread)
		if err != nil {
			return err
		}
		if err := t.removeRuns(numbers); err != nil {
			return err
		}
		return t.write(t.query("DELETE FROM thread WHERE tenant = ? AND id = ?").text(tenant).text(thread))
	})
}

// PruneThread removes the runs that the thread's present doesn't need.
func (b *Backend) PruneThread(ctx context.Context, tenant, thread string) (int, error) {
	removed := 0
	err := b.write(ctx, "prune a thread", func(t *tx) error {
		removed = 0
		latest, err := latestRun(t.conn, tenant, thread)
		if err != nil || latest == nil {
			return err
		}
		keep := map[int64]bool{}
		if err := t.keep(keep, latest); err != nil {
			return err
		}
		if latest.Status != storage.Finished && !latest.Previous.IsZero() {
			previous, err := lookupRun(t.conn, tenant, latest.Previous)
			if err == nil && previous != nil {
				err = t.keep(keep, previous)
			}
			if err != nil {
				return err
			}
		}
		numbers, err := runNumbers(t.conn, tenant, thread)
		if err != nil {
			return err
		}
		var gone []int64
		for _, n := range numbers {
			if !keep[n] {
				gone = append(gone, n)
			}
		}
		if removed = len(gone); removed == 0 {
			return nil
		}
		// The thread is as old as before: without its first run only a row of its own can say so.
		th, err := findThread(t.conn, tenant, thread)
		if err != nil {
			return err
		}
		if err := t.putThread(tenant, thread, th.Metadata, th.Created.UnixMicro(), th.Updated.UnixMicro()); err != nil {
			return err
		}
		return t.removeRuns(gone)
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// keep marks a run and those whose records it shares.
func (t *tx) keep(marked map[int64]bool, r *runRow) error {
	for r != nil && !marked[r.Number] {
		marked[r.Number] = true
		if r.ForkSeq == 0 {
			return nil
		}
		parent, err := lookupRun(t.conn, r.Tenant, r.Parent.Run)
		if err != nil {
			return err
		}
		r = parent
	}
	return nil
}

// removeRuns removes runs with their logs and questions. Their numbers, and
// those of their questions' changes, are never given again: a reader of changes would miss the later ones.
func (t *tx) removeRuns(numbers []int64) error {
	if len(numbers) == 0 {
		return nil
	}
	t.note(storage.Note{Queued: true, Inbox: true, Questions: true})
	t.fences.clear()
	for _, text := range [...]string{
		"UPDATE counter SET value = max(value, coalesce((SELECT max(n) FROM run), 0)) WHERE name = 'run'",
		"UPDATE counter SET value = max(value, coalesce((SELECT max(change) FROM question), 0)) WHERE name = 'change'",
	} {
		if err := t.write(t.query(text)); err != nil {
			return err
		}
	}
	for _, n := range numbers {
		open, err := t.b.manyQuestions(t.conn, t.query("SELECT "+questionColumns+" FROM question WHERE k > ? AND k < ? AND +state = 1").
			int(n<<questionBits).int((n+1)<<questionBits))
		if err != nil {
			return err
		}
		for _, q := range open {
			if err := t.unlabel(q); err != nil {
				return err
			}
		}
		for _, d := range [...]struct {
			text string
			bits int
		}{
			{"DELETE FROM question WHERE k > ? AND k < ?", questionBits},
			{"DELETE FROM log WHERE k > ? AND k < ?", seqBits},
		} {
			if err := t.write(t.query(d.text).int(n << d.bits).int((n + 1) << d.bits)); err != nil {
				return err
			}
		}
		for _, text := range [...]string{"DELETE FROM spill WHERE n = ?", "DELETE FROM run WHERE n = ?"} {
			if err := t.write(t.query(text).int(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// CopyThread copies a thread with all that is its, under new ids.
func (b *Backend) CopyThread(ctx context.Context, tenant, from, to string) error {
	if to == "" {
		return invalid("copy thread %.80q: the copy has no id", from)
	}
	return b.write(ctx, "copy a thread", func(t *tx) error {
		source, err := findThread(t.conn, tenant, from)
		if err != nil {
			return err
		}
		if source == nil {
			return noThread(tenant, from)
		}
		latest, err := latestRun(t.conn, tenant, to)
		if err != nil {
			return err
		}
		if latest != nil {
			return t.busy(latest)
		}
		target, err := findThread(t.conn, tenant, to)
		if err != nil {
			return err
		}
		created := t.now
		if target != nil {
			created = target.Created.UnixMicro()
		}
		if err := t.putThread(tenant, to, source.Metadata, created, t.now); err != nil {
			return err
		}
		numbers, err := runNumbers(t.conn, tenant, from)
		if err != nil {
			return err
		}
		ids := map[storage.ID]storage.ID{}
		for _, n := range numbers {
			r, err := runByNumber(t.conn, n)
			if err == nil {
				err = t.copyRun(r, to, ids)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// copyRun copies a run to another thread. ids are the copies of the thread's older runs, by their originals.
func (t *tx) copyRun(r *runRow, thread string, ids map[storage.ID]storage.ID) (err error) {
	c := *r
	c.ID, c.Thread = storage.NewID(timeOf(t.now)), thread
	ids[r.ID] = c.ID
	c.Parent.Run, c.Previous = ids[r.Parent.Run], ids[r.Previous]
	c.Copied = append(c.Copied, storage.Part{Run: r.ID, Seq: r.LastSeq})
	if c.Number, err = t.nextRun(); err != nil {
		return err
	}
	active := r.Status.Active()
	if active {
		c.giveUp(storage.Cancelled)
		c.Result, c.Saved, c.Error, c.CancelRequested = nil, nil, nil, false
		c.Updated = timeOf(max(t.now, r.last))
	}
	if err := t.insertRun(&c); err != nil {
		return err
	}
	err = t.write(t.query("INSERT INTO log (k, at, unit) SELECT k + ?, at, unit FROM log WHERE k > ? AND k < ?").
		int((c.Number - r.Number) << seqBits).int(r.Number << seqBits).int((r.Number + 1) << seqBits))
	if err != nil {
		return err
	}
	questions, err := t.b.manyQuestions(t.conn, t.query("SELECT "+questionColumns+" FROM question WHERE k > ? AND k < ? ORDER BY k").
		int(r.Number<<questionBits).int((r.Number+1)<<questionBits))
	if err != nil {
		return err
	}
	for _, q := range questions {
		var unit []byte
		if _, err := t.query("SELECT unit FROM question WHERE k = ?").int(q.k).first(func(q *query) { unit = q.colBlob(0) }); err != nil {
			return err
		}
		q.ID, q.k = storage.NewID(timeOf(t.now)), q.k+(c.Number-r.Number)<<questionBits
		if q.State == storage.Open {
			q.State, q.Settled = storage.Withdrawn, timeOf(max(t.now, r.last))
		}
		if err := t.insertQuestion(q, unit); err != nil {
			return err
		}
	}
	t.note(storage.Note{Tenant: c.Tenant, Run: c.ID, Questions: len(questions) > 0})
	return nil
}
