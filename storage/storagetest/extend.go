package storagetest

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var extendCases = []testCase{
	{"SetsTheDeadline", extendSets},
	{"ZeroRemovesTheDeadline", extendRemoves},
	{"ToThePastExpires", extendPast},
	{"OverdueIsExpired", extendOverdue},
	{"SettledQuestion", extendSettled},
	{"UnknownIsNotFound", extendUnknown},
	{"AgainstAnswers", extendAgainstAnswers},
	{"AgainstExpiry", extendAgainstExpiry},
}

func (w *world) extend(q storage.Question, deadline time.Time) storage.Question {
	w.Helper()
	got, err := w.b.Extend(w.ctx, tenant, q.ID, deadline)
	w.ok(err, "Extend")
	same(w, "the question read again", w.question(q), got)
	return got
}

func extendSets(w *world) {
	m := w.join()
	r, q := w.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
	never := w.ask(new(w.acquire(r, m, storage.Interrupted)), storage.Question{})[0]
	later := w.in(3 * time.Hour)
	got := w.extend(q, later)
	want := q
	want.Deadline, want.Change = later, got.Change
	same(w, "extended question", got, want)
	w.true(got.Change > q.Change, "change %d after %d", got.Change, q.Change)
	w.extend(never, w.in(5*time.Hour))

	p := w.poll(m, 0)
	w.true(p.Next.Equal(later), "next %v, want %v", p.Next, later)
	w.advanceTo(q.Deadline.Add(time.Minute))
	w.poll(m, 0)
	w.state(q, storage.Open)
	sooner := w.in(time.Minute)
	w.extend(q, sooner)
	w.advanceTo(sooner)
	w.settled(w.trySettle(answer(q, "late")).Err, storage.Expired, "answer after the new deadline")
	w.clock.advance(5 * time.Hour)
	w.poll(m, 0)
	w.state(never, storage.Expired)
}

func extendRemoves(w *world) {
	m := w.join()
	_, q := w.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
	got := w.extend(q, time.Time{})
	w.true(got.Deadline.IsZero(), "deadline %v", got.Deadline)
	w.clock.advance(1000 * time.Hour)
	p := w.poll(m, 10)
	w.true(len(p.Runs) == 0 && p.Next.IsZero(), "Poll took %v, next %v", ids(p.Runs), p.Next)
	w.settle(answer(q, "at last"))
}

func extendPast(w *world) {
	m := w.join()
	r, q := w.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
	w.extend(q, w.in(-time.Minute))
	same(w, "runs to take", ids(w.poll(m, 1).Runs), []storage.ID{r.ID})
	w.state(q, storage.Expired)
}

func extendOverdue(w *world) {
	r, q := w.waiting(w.join(), storage.Question{Deadline: w.in(time.Hour)})
	w.advanceTo(q.Deadline)
	_, err := w.b.Extend(w.ctx, tenant, q.ID, w.in(time.Hour))
	got := w.settled(err, storage.Expired, "Extend of an overdue question")
	same(w, "the question", w.state(q, storage.Expired), got)
	now := w.status(r, storage.Queued)
	w.true(now.Inbox > r.Inbox, "inbox %d after %d", now.Inbox, r.Inbox)
}

func extendSettled(w *world) {
	m := w.join()
	_, q := w.waiting(m, storage.Question{})
	won := w.settle(answer(q, "yes"))
	_, err := w.b.Extend(w.ctx, tenant, q.ID, w.in(time.Hour))
	same(w, "the question", w.settled(err, storage.Answered, "Extend"), won.Question)
	same(w, "the question read again", w.question(q), won.Question)
}

func extendUnknown(w *world) {
	_, err := w.b.Extend(w.ctx, tenant, w.newID(), w.in(time.Hour))
	w.is(err, storage.ErrNotFound, "Extend")
}

// raced is what came of extensions and answers of one question at the same time.
type raced struct {
	extended []storage.Question
	settled  []error
}

func (w *world) race(q storage.Question) (all raced) {
	w.Helper()
	var mu sync.Mutex
	var callers sync.WaitGroup
	until := w.in(10 * time.Hour)
	call := func(wants storage.QuestionState, f func() (storage.Question, error)) {
		callers.Go(func() {
			got, err := f()
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && got.State == storage.Open && wants == storage.Open:
				all.extended = append(all.extended, got)
			case err == nil && got.State == wants || errors.Is(err, storage.ErrSettled):
				all.settled = append(all.settled, err)
			default:
				w.Errorf("unexpected: %v, question %s", err, got.State)
			}
		})
	}
	for i := range 4 {
		call(storage.Open, func() (storage.Question, error) {
			return w.b.Extend(w.ctx, tenant, q.ID, until.Add(time.Duration(i)*time.Hour))
		})
		call(storage.Answered, func() (storage.Question, error) {
			for {
				list, err := w.b.Settle(w.ctx, []storage.Settlement{answer(q, "yes")})
				if err != nil {
					return storage.Question{}, err
				}
				if !errors.Is(list[0].Err, storage.ErrLocked) { // another call has the run
					return list[0].Question, list[0].Err
				}
			}
		})
	}
	callers.Wait()
	return all
}

// extendAgainstAnswers: an extension is of an open question, or it is none.
func extendAgainstAnswers(w *world) {
	m := w.join()
	for range 10 {
		_, q := w.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
		all := w.race(q)
		won := 0
		for _, err := range all.settled {
			if err == nil {
				won++
			} else {
				w.settled(err, storage.Answered, "a late one")
			}
		}
		w.true(won == 1, "%d answers won", won)
		last := q
		for _, e := range all.extended {
			if e.Change > last.Change {
				last = e
			}
		}
		got := w.state(q, storage.Answered)
		w.true(got.Deadline.Equal(last.Deadline), "deadline %v, the last extension said %v", got.Deadline, last.Deadline)
		w.true(got.Change > last.Change, "change %d of the answer, %d of the last extension", got.Change, last.Change)
	}
}

// extendAgainstExpiry: a deadline that has passed is not extended, whoever looks first.
func extendAgainstExpiry(w *world) {
	m := w.join()
	for range 10 {
		_, q := w.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
		w.advanceTo(q.Deadline)
		all := w.race(q)
		w.true(len(all.extended) == 0 && !slices.Contains(all.settled, nil), "extended or answered after the deadline: %v, %v", all.extended, all.settled)
		for _, err := range all.settled {
			w.settled(err, storage.Expired, "a late one")
		}
		got := w.state(q, storage.Expired)
		w.true(got.Deadline.Equal(q.Deadline), "deadline %v, want %v", got.Deadline, q.Deadline)
	}
}
