package memory

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Append implements [storage.Runs].
func (b *Backend) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer b.end()
	if len(units) > 1 {
		seen := make(map[runKey]struct{}, len(units))
		for i := range units {
			k := runKey{units[i].Tenant, units[i].Run}
			if _, twice := seen[k]; twice {
				return nil, fmt.Errorf("memory: append: %w: two units of run %s", storage.ErrInvalid, k.id)
			}
			seen[k] = struct{}{}
		}
	}
	committed := make([]storage.Committed, len(units))
	for i := range units {
		u := &units[i]
		r, err := b.admit(u)
		if err != nil {
			committed[i].Err = fmt.Errorf("memory: append to run %s: %w", u.Run, err)
			continue
		}
		kept := b.commit(r, u, now)
		committed[i] = storage.Committed{At: now, Inbox: r.row.Inbox, Kept: kept}
	}
	return committed, nil
}

// admit checks everything that can refuse a unit; it changes nothing.
func (b *Backend) admit(u *storage.Unit) (*run, error) {
	if err := check(u); err != nil {
		return nil, err
	}
	r := b.runs[runKey{u.Tenant, u.Run}]
	switch {
	case r == nil:
		return nil, storage.ErrNotFound
	case b.held[u.Run] > 0:
		return nil, storage.ErrLocked
	case u.First <= r.row.LastSeq:
		i, found := slices.BinarySearchFunc(r.units, u.First, func(c unit, first int64) int { return cmp.Compare(c.first, first) })
		if found && r.units[i].token == u.Token {
			return nil, storage.ErrDuplicate
		}
		return nil, fmt.Errorf("%w: unit begins at %d, the log has %d", storage.ErrStale, u.First, r.row.LastSeq)
	case r.row.Status != storage.Running || r.row.Token != u.Token:
		return nil, fmt.Errorf("%w: token %d, the run is %s with token %d", storage.ErrStale, u.Token, r.row.Status, r.row.Token)
	case u.First > r.row.LastSeq+1:
		return nil, fmt.Errorf("%w: unit begins at %d, the log ends at %d", storage.ErrInvalid, u.First, r.row.LastSeq)
	}
	return r, b.admitQuestions(r, u)
}

func check(u *storage.Unit) error {
	switch u.Status {
	case 0, storage.Queued, storage.Interrupted, storage.Parked, storage.Finished, storage.Failed, storage.Cancelled:
	default:
		return fmt.Errorf("%w: a unit can't make a run %s", storage.ErrInvalid, u.Status)
	}
	switch {
	case len(u.Records) == 0:
		return fmt.Errorf("%w: no record", storage.ErrInvalid)
	case u.First < 1:
		return fmt.Errorf("%w: unit begins at %d", storage.ErrInvalid, u.First)
	case len(u.Close) > 0 && u.CloseState != storage.Withdrawn && u.CloseState != storage.SupersededQuestion:
		return fmt.Errorf("%w: a unit can't close questions as %s", storage.ErrInvalid, u.CloseState)
	}
	for i := range u.Questions {
		q := &u.Questions[i]
		if q.ID.IsZero() || q.Seq < u.First || q.Seq >= u.First+int64(len(u.Records)) {
			return fmt.Errorf("%w: question %s has record %d, the unit %d to %d",
				storage.ErrInvalid, q.ID, q.Seq, u.First, u.First+int64(len(u.Records))-1)
		}
	}
	return nil
}

func (b *Backend) admitQuestions(r *run, u *storage.Unit) error {
	for i := range u.Questions {
		q := &u.Questions[i]
		if b.questions[questionKey{u.Tenant, q.ID}] != nil {
			return fmt.Errorf("%w: question %s exists", storage.ErrInvalid, q.ID)
		}
		for _, other := range u.Questions[:i] {
			if other.ID == q.ID {
				return fmt.Errorf("%w: question %s is there twice", storage.ErrInvalid, q.ID)
			}
			if q.Unique != "" && other.Name == q.Name && other.Unique == q.Unique {
				return &storage.UniqueError{Question: other.ID, Name: q.Name, Key: q.Unique}
			}
		}
		if q.Unique == "" {
			continue
		}
		holder := b.unique[uniqueKey{u.Tenant, q.Name, q.Unique}]
		if holder != nil && (holder.run != r || !slices.Contains(u.Close, holder.row.ID)) {
			return &storage.UniqueError{Question: holder.row.ID, Name: q.Name, Key: q.Unique}
		}
	}
	return nil
}

// commit does what an admitted unit says and reports whether the owner keeps the run.
func (b *Backend) commit(r *run, u *storage.Unit, now time.Time) (kept bool) {
	for _, data := range u.Records {
		r.row.LastSeq++
		r.records = append(r.records, storage.Record{Seq: r.row.LastSeq, At: now, Data: data})
	}
	r.units = append(r.units, unit{u.First, u.Token})
	r.row.Updated, r.row.Crashes = now, 0
	b.note(r, storage.Note{})
	for _, id := range u.Close {
		if q := b.questions[questionKey{u.Tenant, id}]; q != nil && q.run == r && q.row.State == storage.Open {
			b.settle(q, u.CloseState, now)
		}
	}
	b.ask(r, u.Questions, now)
	switch u.Status {
	case 0:
	case storage.Queued, storage.Interrupted:
		if r.row.Inbox > u.SeenInbox {
			return true
		}
		b.disown(r)
		r.row.Status, r.row.Due = u.Status, cut(u.Due)
		b.place(r, now)
	case storage.Parked:
		b.disown(r)
		r.row.Status, r.row.Error = u.Status, u.Error
		b.place(r, now)
	default:
		b.finish(r, u.Status, storage.Withdrawn, now)
		if u.Status == storage.Finished {
			r.row.Result, r.row.Saved = u.Result, u.Saved
		} else {
			r.row.Error = u.Error
		}
	}
	return false
}

// ask opens questions.
func (b *Backend) ask(r *run, questions []storage.Question, now time.Time) {
	before := len(r.questions)
	for i := range questions {
		q := &question{run: r, row: copyQuestion(questions[i])}
		row := &q.row
		row.Tenant, row.Thread, row.Run, row.Entrypoint = r.row.Tenant, r.row.Thread, r.row.ID, r.row.Entrypoint
		row.State, row.Asked, row.Deadline = storage.Open, now, cut(row.Deadline)
		row.Settled, row.Answer, row.By, row.AnswerKey = time.Time{}, nil, storage.Principal{}, ""
		b.questions[questionKey{row.Tenant, row.ID}] = q
		b.open.add(q)
		r.questions = append(r.questions, q)
		r.open++
		if row.Unique != "" {
			b.unique[uniqueKey{row.Tenant, row.Name, row.Unique}] = q
		}
		b.changed(q)
		if !row.Deadline.IsZero() {
			q.at, q.tie, q.timed = row.Deadline, row.Change, true
			heap.Push(b.deadlines, q)
		}
	}
	// Those of earlier units have smaller records.
	slices.SortStableFunc(r.questions[before:], func(a, b *question) int { return cmp.Compare(a.row.Seq, b.row.Seq) })
}
