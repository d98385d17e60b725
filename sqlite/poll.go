package sqlite

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// pollChunk bounds what one transaction of Poll expires or wakes: others wait for it.
const pollChunk = 500

// Poll keeps time – questions expire, runs wake – and takes runs.
func (b *Backend) Poll(ctx context.Context, p storage.Poll) (storage.Polled, error) {
	for {
		var polled storage.Polled
		late := false // there is more to expire or to wake
		err := b.write(ctx, "poll", func(t *tx) (err error) {
			polled, late = storage.Polled{}, false
			if p.Limit > 0 && !t.lives(p.Member) {
				return left(p.Member)
			}
			if late, err = t.tick(); err != nil || late {
				return err
			}
			polled, err = t.poll(&p)
			return err
		})
		if err != nil {
			return storage.Polled{}, err
		}
		if !late {
			return polled, nil
		}
	}
}

// tick does what time has brought. It reports whether there is more to do.
func (t *tx) tick() (more bool, err error) {
	rows, err := t.b.manyQuestions(t.conn, t.query("SELECT "+questionColumns+` FROM question INDEXED BY question_due
		WHERE deadline <= ? AND deadline IS NOT NULL AND state = 1 ORDER BY deadline LIMIT ?`).int(t.now).int(pollChunk))
	if err != nil {
		return false, err
	}
	if err := addRuns(t.conn, rows); err != nil {
		return false, err
	}
	for _, row := range rows {
		r, err := runByNumber(t.conn, row.run())
		if err == nil {
			err = t.expire(row, r)
		}
		if err != nil {
			return false, err
		}
	}
	due, err := manyRuns(t.conn, t.query("SELECT "+runColumns+` FROM run INDEXED BY run_due
		WHERE due <= ? AND due IS NOT NULL AND +status = 3 ORDER BY due LIMIT ?`).int(t.now).int(pollChunk))
	if err != nil {
		return false, err
	}
	for _, r := range due {
		r.Status, r.ready = storage.Queued, r.Due.UnixMicro() // it waits since then
		r.Due, r.Updated = noTime, timeOf(max(t.now, r.last))
		t.note(storage.Note{Tenant: r.Tenant, Run: r.ID, Queued: true})
		if err := t.saveRun(r); err != nil {
			return false, err
		}
	}
	return len(rows) == pollChunk || len(due) == pollChunk, nil
}

// candidate is a run that may be taken.
type candidate struct {
	n     int64
	since int64 // for how long it waits, as far as the file knows
}

func (t *tx) poll(p *storage.Poll) (polled storage.Polled, err error) {
	polled.Now = timeOf(t.now)
	if polled.Next, err = t.nextDue(); err != nil {
		return polled, err
	}
	limit := max(p.Limit, 0)
	found, err := t.candidates(p.Entrypoints, p.Except, limit+1)
	if err != nil {
		return polled, err
	}
	polled.More = len(found) > limit
	for _, f := range found[:min(len(found), limit)] {
		r, err := runByNumber(t.conn, f.n)
		if err == nil {
			err = t.acquire(r, p.Member)
		}
		if err != nil {
			return polled, err
		}
		polled.Runs = append(polled.Runs, r.Run)
	}
	return polled, nil
}

// candidates returns the first limit runs that may be taken: queued ones, and
// running ones whose owner is dead.
func (t *tx) candidates(entrypoints []string, except []storage.ID, limit int) (found []candidate, err error) {
	read := int64(limit + len(except))
	collect := func(q *query) error {
		for {
			more, err := q.next()
			if err != nil || !more {
				return err
			}
			if len(except) == 0 || !slices.Contains(except, q.colID(2)) {
				found = append(found, candidate{n: q.colInt(0), since: q.colInt(1)})
			}
		}
	}
	var dead []storage.ID
	if err := eachOwner(t.conn, func(id storage.ID) {
		if !t.lives(id) {
			dead = append(dead, id)
		}
	}); err != nil {
		return nil, err
	}
	for i, entrypoint := range entrypoints {
		if slices.Contains(entrypoints[:i], entrypoint) {
			continue
		}
		err := collect(t.query("SELECT n, ready, id FROM run INDEXED BY run_queued WHERE entrypoint = ? AND ready <= ? AND status = 1 ORDER BY ready, n LIMIT ?").
			text(entrypoint).int(t.now).int(read))
		if err != nil {
			return nil, err
		}
		for _, id := range dead {
			err := collect(t.query("SELECT n, updated, id FROM run INDEXED BY run_owned WHERE owner = ? AND entrypoint = ? AND status = 2 ORDER BY n LIMIT ?").
				blob(id[:]).text(entrypoint).int(read))
			if err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.n, b.n)) })
	return found[:min(len(found), limit)], nil
}

// nextDue returns when tick, or a queued run, is due next.
func (t *tx) nextDue() (next time.Time, err error) {
	for _, q := range [...]*query{
		t.query("SELECT due FROM run INDEXED BY run_due WHERE due > ? AND due IS NOT NULL ORDER BY due LIMIT 1").int(t.now),
		t.query("SELECT deadline FROM question INDEXED BY question_due WHERE deadline > ? AND deadline IS NOT NULL AND state = 1 ORDER BY deadline LIMIT 1").int(t.now),
	} {
		_, err := q.first(func(q *query) {
			if at := q.colTime(0); next.IsZero() || at.Before(next) {
				next = at
			}
		})
		if err != nil {
			return next, err
		}
	}
	return next, nil
}
