package memory

import (
	"bytes"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

type question struct {
	slot
	timed bool // it is in Backend.deadlines

	row storage.Question
	run *run
}

func (q *question) snapshot() storage.Question { return copyQuestion(q.row) }

func copyQuestion(q storage.Question) storage.Question {
	q.Users, q.Groups, q.NotBy, q.Tags = slices.Clone(q.Users), slices.Clone(q.Groups), slices.Clone(q.NotBy), slices.Clone(q.Tags)
	q.By.Groups = slices.Clone(q.By.Groups)
	for _, data := range []*[]byte{&q.Payload, &q.Digest, &q.Schema, &q.Details, &q.Answer} {
		*data = bytes.Clone(*data)
	}
	return q
}

// Settle implements [storage.Questions].
func (b *Backend) Settle(ctx context.Context, settlements []storage.Settlement) ([]storage.Settled, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer b.end()
	results := make([]storage.Settled, len(settlements))
	for i := range settlements {
		results[i].Repeated, results[i].Err = b.attempt(&settlements[i], now)
	}
	for i := range settlements {
		s := &settlements[i]
		q := b.questions[questionKey{s.Tenant, s.Question}]
		if q == nil {
			continue
		}
		results[i].Question, results[i].Run = q.snapshot(), q.run.snapshot()
		results[i].Acquired = results[i].Err == nil && !s.Member.IsZero() && q.run.row.Owner == s.Member
	}
	return results, nil
}

// attempt is one compare-and-set.
func (b *Backend) attempt(s *storage.Settlement, now time.Time) (repeated bool, err error) {
	q := b.questions[questionKey{s.Tenant, s.Question}]
	switch {
	case s.State != storage.Answered && s.State != storage.Withdrawn:
		return false, fmt.Errorf("memory: settle question %s as %s: %w", s.Question, s.State, storage.ErrInvalid)
	case q == nil:
		return false, fmt.Errorf("memory: settle question %s: %w", s.Question, storage.ErrNotFound)
	case b.held[q.run.row.ID] > 0:
		return false, fmt.Errorf("memory: settle question %s: %w", s.Question, storage.ErrLocked)
	case q.row.State != storage.Open && s.Key != "" && s.Key == q.row.AnswerKey:
		return true, nil
	case q.row.State != storage.Open:
		return false, &storage.SettledError{Question: q.snapshot()}
	case q.overdue(now):
		b.expire(q, now)
		return false, &storage.SettledError{Question: q.snapshot()}
	}
	q.row.Answer, q.row.By, q.row.AnswerKey = bytes.Clone(s.Answer), s.By, s.Key
	q.row.By.Groups = slices.Clone(s.By.Groups)
	b.settle(q, s.State, now)
	if s.State == storage.Answered && q.row.Group != "" {
		for _, other := range q.run.questions {
			if other.row.State == storage.Open && other.row.Group == q.row.Group {
				b.settle(other, storage.Withdrawn, now)
			}
		}
	}
	b.wake(q.run, s.Member, now)
	return false, nil
}

func (q *question) overdue(now time.Time) bool {
	return !q.row.Deadline.IsZero() && !q.row.Deadline.After(now)
}

// expire settles a question whose deadline has passed.
func (b *Backend) expire(q *question, now time.Time) {
	q.row.By = storage.Principal{Kind: "timeout"}
	b.settle(q, storage.Expired, now)
	b.wake(q.run, storage.ID{}, now)
}

// settle gives an open question its final state. What it says to the run is the caller's.
func (b *Backend) settle(q *question, state storage.QuestionState, now time.Time) {
	q.row.State, q.row.Settled = state, now
	q.run.open--
	b.open.remove(q)
	if q.row.Unique != "" {
		delete(b.unique, uniqueKey{q.row.Tenant, q.row.Name, q.row.Unique})
	}
	b.untime(q)
	b.changed(q)
}

func (b *Backend) untime(q *question) {
	if q.timed {
		heap.Remove(b.deadlines, q.index)
		q.timed = false
	}
}

// wake tells a run that something came from outside: a waiting one goes to the member or, if
// that is zero or dead, is queued.
func (b *Backend) wake(r *run, member storage.ID, now time.Time) {
	r.row.Inbox++
	r.row.Updated = now
	if r.row.Status == storage.Interrupted || r.row.Status == storage.Queued {
		if b.members[member] != nil {
			b.give(r, member, now)
		} else {
			r.row.Status, r.row.Due = storage.Queued, time.Time{}
		}
		b.place(r, now)
	}
	b.note(r, storage.Note{Inbox: true, Questions: true})
}

// Extend implements [storage.Questions].
func (b *Backend) Extend(ctx context.Context, tenant string, id storage.ID, deadline time.Time) (storage.Question, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return storage.Question{}, err
	}
	defer b.end()
	q := b.questions[questionKey{tenant, id}]
	if q == nil {
		return storage.Question{}, fmt.Errorf("memory: extend question %s: %w", id, storage.ErrNotFound)
	}
	if q.row.State == storage.Open && q.overdue(now) {
		b.expire(q, now)
	}
	if q.row.State != storage.Open {
		return storage.Question{}, &storage.SettledError{Question: q.snapshot()}
	}
	b.untime(q)
	b.open.remove(q)
	q.row.Deadline = cut(deadline)
	b.open.add(q)
	b.changed(q)
	if !deadline.IsZero() {
		q.at, q.tie, q.timed = q.row.Deadline, q.row.Change, true
		heap.Push(b.deadlines, q)
	}
	return q.snapshot(), nil
}

// Question implements [storage.Questions].
func (b *Backend) Question(ctx context.Context, tenant string, id storage.ID) (storage.Question, error) {
	if _, err := b.begin(ctx); err != nil {
		return storage.Question{}, err
	}
	defer b.end()
	q := b.questions[questionKey{tenant, id}]
	if q == nil {
		return storage.Question{}, fmt.Errorf("memory: question %s: %w", id, storage.ErrNotFound)
	}
	return q.snapshot(), nil
}
