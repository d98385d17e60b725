package storagetest

import (
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
