package sqlite

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

const (
	seqBits = 24
	maxSeq  = 1<<seqBits - 1
	maxRun  = 1<<(63-questionBits) - 1
)

// Append commits units: one row each, two if the unit opens a question and
// gives the run up, one if it finishes the run.
func (b *Backend) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	type key struct {
		tenant string
		run    storage.ID
	}
	if len(units) == 0 {
		return nil, b.check(ctx)
	}
	if len(units) > 1 {
		seen := make(map[key]bool, len(units))
		for i := range units {
			k := key{units[i].Tenant, units[i].Run}
			if seen[k] {
				return nil, invalid("append: two units of run %s in one call", k.run)
			}
			seen[k] = true
		}
	}
	results := make([]storage.Committed, len(units))
	err := b.write(ctx, "append", func(t *tx) error {
		for i := range units {
			committed, err := t.append(&units[i])
			if err != nil {
				if !isRefusal(err) {
					return err
				}
				committed = storage.Committed{Err: err}
			}
			results[i] = committed
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// append commits one unit. An error that is a refusal means that nothing of it was written.
func (t *tx) append(u *storage.Unit) (storage.Committed, error) {
	none := storage.Committed{}
	if err := checkUnit(u); err != nil {
		return none, err
	}
	f, err := t.fenceOf(u.Tenant, u.Run)
	if err != nil {
		return none, err
	}
	last := u.First + int64(len(u.Records)) - 1
	if err := t.admit(u, f); err != nil {
		return none, err
	}
	if err := t.checkQuestions(u, f); err != nil {
		return none, err
	}

	at := max(t.now, f.last)
	c := storage.Committed{At: timeOf(at), Inbox: f.inbox}
	c.Kept = (u.Status == storage.Queued || u.Status == storage.Interrupted) && f.inbox > u.SeenInbox
	t.units++
	unit := packUnit(f.token, u.Records)
	plain := u.Status == 0 || c.Kept
	note := storage.Note{Tenant: u.Tenant, Run: u.Run, Questions: len(u.Questions)+len(u.Close) > 0}

	inLog := plain || len(u.Questions) == 0 && u.Status != storage.Finished || len(unit) > spillAt
	if inLog {
		if err := t.write(t.query("INSERT INTO log (k, at, unit) VALUES (?, ?, ?)").int(f.n<<seqBits | last).int(at).blob(unit)); err != nil {
			return none, err
		}
		unit = nil
	}
	if len(u.Close) > 0 {
		if err := t.closeQuestions(u, f, at); err != nil {
			return none, err
		}
	}
	if len(u.Questions) > 0 {
		first := unit
		if u.Status == storage.Finished {
			first = nil
		}
		if err := t.openQuestions(u, f, at, last, first); err != nil {
			return none, err
		}
		for i := range u.Questions {
			note.Queued = note.Queued || !u.Questions[i].Deadline.IsZero() // Poll keeps the deadline
		}
	}
	if !plain {
		if u.Status == storage.Queued || u.Status == storage.Interrupted && !u.Due.IsZero() {
			note.Queued = true
		}
		if u.Status != storage.Finished {
			unit = nil
		}
		if err := t.giveUp(u, f, at, last, unit); err != nil {
			return none, err
		}
	}
	f.seq, f.last = last, at
	if !plain {
		f.status = u.Status
	}
	t.note(note)
	return c, nil
}

func checkUnit(u *storage.Unit) error {
	switch {
	case len(u.Records) == 0:
		return invalid("append: a unit of run %s has no records", u.Run)
	case u.First < 1:
		return invalid("append: a unit of run %s begins at %d", u.Run, u.First)
	case u.First+int64(len(u.Records))-1 > maxSeq:
		return invalid("append: run %s would have more than %d records: end it, and go on in a new one", u.Run, maxSeq)
	case u.Status > storage.Cancelled || u.Status == storage.Running:
		return invalid("append: a unit can't make run %s %s", u.Run, u.Status)
	case len(u.Close) > 0 && u.CloseState != storage.Withdrawn && u.CloseState != storage.SupersededQuestion:
		return invalid("append: a unit of run %s can't make questions %s", u.Run, u.CloseState)
	}
	for i := range u.Questions {
		q := &u.Questions[i]
		if q.Seq < u.First || q.Seq >= u.First+int64(len(u.Records)) {
			return invalid("append: question %s of run %s is at record %d, outside of its unit", q.ID, u.Run, q.Seq)
		}
		if q.ID.IsZero() {
			return invalid("append: a question of run %s has no id", u.Run)
		}
	}
	return nil
}

// admit decides whether the unit is the run's next one, from its owner.
func (t *tx) admit(u *storage.Unit, f *fence) error {
	if u.Token == f.token && f.status == storage.Running && u.First == f.seq+1 {
		return nil
	}
	if u.First <= f.seq && u.First > f.fork {
		there, err := unitAt(t.conn, f.n, u.First)
		if err != nil {
			return err
		}
		if there != nil && there.first == u.First && there.token == u.Token {
			return fmt.Errorf("sqlite: append: %w: records %d to %d of run %s", storage.ErrDuplicate, u.First, there.last, u.Run)
		}
	}
	switch {
	case u.Token != f.token:
		return fmt.Errorf("sqlite: append: %w: run %s has token %d, the unit has %d", storage.ErrStale, u.Run, f.token, u.Token)
	case f.status != storage.Running:
		return fmt.Errorf("sqlite: append: %w: nobody owns run %s, which is %s", storage.ErrStale, u.Run, f.status)
	case u.First <= f.seq:
		return fmt.Errorf("sqlite: append: %w: run %s has %d records, the unit begins at %d", storage.ErrStale, u.Run, f.seq, u.First)
	}
	return invalid("append: run %s has %d records, a unit that begins at %d would leave a gap", u.Run, f.seq, u.First)
}

// giveUp updates the run's row for a unit that ends the ownership. unit, if not nil, is kept in that row.
func (t *tx) giveUp(u *storage.Unit, f *fence, at, last int64, unit []byte) error {
	due, ready := noTime, int64(0)
	switch u.Status {
	case storage.Interrupted:
		due = u.Due
	case storage.Queued:
		due, ready = u.Due, max(at, readyAt(u.Due))
	}
	ended := !u.Status.Active()
	if ended {
		if _, err := t.closeOpen(f.n, storage.Withdrawn, at); err != nil {
			return err
		}
	}
	var result, saved, failure []byte
	switch u.Status {
	case storage.Finished:
		result, saved = u.Result, u.Saved
	case storage.Failed, storage.Parked, storage.Cancelled:
		failure = u.Error
	}
	return t.write(t.query(`UPDATE run SET status = ?, seq = ?, crashes = 0, updated = ?, owner = NULL, due = ?, ready = ?,
		cancelling = cancelling AND ?, tail = ?, result = ?, saved = ?, error = ? WHERE n = ?`).
		int(int64(u.Status)).int(last).int(at).time(due).optInt(ready).bool(!ended).
		blob(unit).blob(result).blob(saved).blob(failure).int(f.n))
}

// packUnit joins a unit's token and records.
func packUnit(token int64, records [][]byte) []byte {
	packed := storage.PackRecords(records)
	unit := make([]byte, 0, binary.MaxVarintLen64+len(packed))
	return append(binary.AppendUvarint(unit, uint64(token)), packed...)
}

// storedUnit is a unit as it is in the file.
type storedUnit struct {
	first, last int64
	token       int64
	at          time.Time
	records     [][]byte
}

// unpackUnit is the inverse of packUnit. The unit ends at sequence last.
func unpackUnit(unit []byte, last int64, at time.Time) (storedUnit, error) {
	token, n := binary.Uvarint(unit)
	if n <= 0 {
		return storedUnit{}, fmt.Errorf("sqlite: %w: a unit that ends at record %d has no token", storage.ErrCorrupt, last)
	}
	records, err := storage.UnpackRecords(unit[n:])
	if err != nil {
		return storedUnit{}, err
	}
	return storedUnit{first: last - int64(len(records)) + 1, last: last, token: int64(token), at: at, records: records}, nil
}
