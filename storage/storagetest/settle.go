package storagetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var settleCases = []testCase{
	{"AnswersAndQueues", settleAnswers},
	{"Withdraws", settleWithdraws},
	{"GivesTheRunToTheMember", settleAcquires},
	{"WhileRunningRaisesTheInbox", settleRunning},
	{"ParkedStaysParked", settleParked},
	{"WakesADelayedRun", settleDelayed},
	{"OneWinner", settleOneWinner},
	{"RepeatedByKey", settleRepeated},
	{"RepeatedByKeyConcurrently", settleRepeatedConcurrently},
	{"DeadlineIsPartOfTheCondition", settleDeadline},
	{"DeadlineWakesTheRun", settleDeadlineWakes},
	{"DeadlineAndAnswerRace", settleDeadlineRaces},
	{"AnswerWithdrawsTheGroup", settleGroup},
	{"GroupHasOneWinner", settleGroupRaces},
	{"BatchHasAResultPerItem", settleBatch},
	{"BatchOfOneRun", settleBatchOneRun},
	{"InvalidState", settleInvalid},
	{"UnknownIsNotFound", settleUnknown},
	{"NoWakeIsLost", settleNoLostWake},
	{"NoSettlements", settleNone},
}

// again reports whether a unit or settlement was refused only because another
// transaction was at work on the run.
func again(err error) bool { return errors.Is(err, storage.ErrLocked) }

func settleAnswers(w *world) {
	m := w.join()
	r, q := w.waiting(m, storage.Question{Schema: []byte("{}"), Payload: []byte("payload")})
	by := storage.Principal{Kind: "person", Subject: "ada", Groups: []string{"ops", "dev"}, Method: "sso", OnBehalfOf: "bob"}
	before := w.now()
	got := w.settle(storage.Settlement{Tenant: tenant, Question: q.ID, State: storage.Answered, Answer: []byte("yes"), By: by, Key: "k"})
	want := q
	want.State, want.Answer, want.By, want.AnswerKey = storage.Answered, []byte("yes"), by, "k"
	want.Settled, want.Change = got.Question.Settled, got.Question.Change
	same(w, "Settled.Question", got.Question, want)
	w.true(!got.Question.Settled.Before(before) && got.Question.Change > q.Change, "settled %v, change %d", got.Question.Settled, got.Question.Change)
	same(w, "the question read again", w.question(q), got.Question)
	w.true(!got.Repeated && !got.Acquired, "repeated %v, acquired %v", got.Repeated, got.Acquired)
	now := w.status(r, storage.Queued)
	same(w, "Settled.Run", got.Run, now)
	w.true(now.Inbox > r.Inbox && now.LastSeq == r.LastSeq, "inbox %d, last record %d", now.Inbox, now.LastSeq)
	same(w, "questions of Load", w.load(r).Questions, []storage.Question{got.Question})
	same(w, "runs to take", ids(w.poll(m, 10).Runs), []storage.ID{r.ID})
}

func settleWithdraws(w *world) {
	m := w.join()
	r, q := w.waiting(m, storage.Question{})
	got := w.settle(storage.Settlement{Tenant: tenant, Question: q.ID, State: storage.Withdrawn, By: storage.Principal{Kind: "policy"}})
	w.true(got.Question.State == storage.Withdrawn && got.Question.Answer == nil && got.Question.By.Kind == "policy", "question %+v", got.Question)
	w.status(r, storage.Queued)
	w.settled(w.trySettle(answer(q, "late")).Err, storage.Withdrawn, "late answer")
}

func settleAcquires(w *world) {
	m, other := w.join(), w.join()
	for _, status := range []storage.Status{storage.Interrupted, storage.Queued} {
		r := w.running(m)
		q := w.askAs(&r, storage.Unit{Status: status, Due: w.in(time.Hour)}, storage.Question{})[0]
		s := answer(q, "yes")
		s.Member = other.ID()
		got := w.settle(s)
		w.true(got.Acquired, "a run that was %s is not acquired", status)
		now := w.run(r)
		same(w, "Settled.Run", got.Run, now)
		w.true(now.Status == storage.Running && now.Owner == other.ID() && now.Token > r.Token, "run is %s, owner %s, token %d", now.Status, now.Owner, now.Token)
		w.true(now.Inbox > r.Inbox && now.Due.IsZero(), "inbox %d, due %v", now.Inbox, now.Due)
		w.append(&now, storage.Unit{})
		w.clock.advance(2 * time.Hour)
		w.true(len(w.poll(m, 10).Runs) == 0, "Poll took a living owner's run")
	}
}

func settleRunning(w *world) {
	m, other := w.join(), w.join()
	r := w.running(m)
	asked := w.ask(&r, storage.Question{}, storage.Question{})
	last := r.Inbox
	for i, member := range []storage.ID{{}, other.ID()} {
		s := answer(asked[i], "yes")
		s.Member = member
		got := w.settle(s)
		w.true(!got.Acquired, "a living owner's run is acquired by another")
		w.true(got.Run.Status == storage.Running && got.Run.Owner == m.ID() && got.Run.Token == r.Token, "run is %s, owner %s", got.Run.Status, got.Run.Owner)
		w.true(got.Run.Inbox > last, "inbox %d after %d", got.Run.Inbox, last)
		last = got.Run.Inbox
	}
	c := w.append(&r, storage.Unit{})
	w.true(c.Inbox == last && !c.Kept, "inbox %d, want %d", c.Inbox, last)
}

func settleParked(w *world) {
	m := w.join()
	r := w.running(m)
	asked := w.askAs(&r, storage.Unit{Status: storage.Parked, Error: []byte("diagnosis")}, storage.Question{}, storage.Question{})
	for i, member := range []storage.ID{{}, m.ID()} {
		s := answer(asked[i], "yes")
		s.Member = member
		got := w.settle(s)
		w.true(!got.Acquired && got.Run.Inbox > r.Inbox, "acquired %v, inbox %d", got.Acquired, got.Run.Inbox)
		now := w.status(r, storage.Parked)
		same(w, "error", now.Error, []byte("diagnosis"))
	}
	w.true(len(w.poll(m, 10).Runs) == 0, "Poll took a parked run")
	r = w.acquire(r, m, storage.Parked)
	for _, q := range w.load(r).Questions {
		same(w, "the kept answer", q.Answer, []byte("yes"))
	}
}

func settleDelayed(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Interrupted, storage.Queued} {
		r := w.running(m)
		q := w.askAs(&r, storage.Unit{Status: status, Due: w.in(time.Hour)}, storage.Question{})[0]
		got := w.settle(answer(q, "yes"))
		w.true(got.Run.Status == storage.Queued && got.Run.Due.IsZero(), "run is %s, due %v", got.Run.Status, got.Run.Due)
		p := w.poll(m, 10)
		same(w, "runs to take", ids(p.Runs), []storage.ID{r.ID})
		w.true(p.Next.IsZero(), "next %v", p.Next)
	}
}

func settleOneWinner(w *world) {
	const n = 64
	m := w.join()
	members := make([]storage.Membership, n)
	for i := range members {
		members[i] = w.join()
	}
	for _, acquire := range []bool{false, true} {
		r, q := w.waiting(m, storage.Question{})
		results := concurrently(w, n, func(i int) (storage.Settled, error) {
			s := answer(q, fmt.Sprint("answer ", i))
			s.By.Subject = fmt.Sprint("person ", i)
			if acquire {
				s.Member = members[i].ID()
			}
			for {
				list, err := w.b.Settle(w.ctx, []storage.Settlement{s})
				if err != nil || !again(list[0].Err) {
					return list[0], err
				}
			}
		})
		winner := -1
		for i, s := range results {
			if s.Err == nil {
				w.true(winner < 0, "attempts %d and %d both won", winner, i)
				winner = i
			}
		}
		w.true(winner >= 0, "nobody of %d won", n)
		final := w.state(q, storage.Answered)
		same(w, "the winning answer", string(final.Answer), fmt.Sprint("answer ", winner))
		for i, s := range results {
			same(w, "the question as attempt saw it", s.Question, final)
			w.true(s.Acquired == (acquire && i == winner), "attempt %d: acquired %v", i, s.Acquired)
			if i != winner {
				w.settled(s.Err, storage.Answered, "a loser")
			}
		}
		now := w.run(r)
		if acquire {
			w.true(now.Owner == members[winner].ID(), "run is owned by %s, not by the winner", now.Owner)
		} else {
			w.true(now.Status == storage.Queued, "run is %s", now.Status)
		}
		won := results[winner].Run.Inbox
		w.true(won > r.Inbox && now.Inbox == won, "inbox %d, %d after the winner, %d before", now.Inbox, won, r.Inbox)
	}
}

func settleRepeated(w *world) {
	m := w.join()
	_, q := w.waiting(m, storage.Question{})
	s := answer(q, "yes")
	s.Key, s.Member = "attempt 1", m.ID()
	first := w.settle(s)
	w.true(first.Acquired, "the run is not acquired")
	again := w.settle(s)
	w.true(again.Repeated, "the repetition is not Repeated")
	w.true(again.Acquired, "the repetition does not say that the run is the member's")
	same(w, "the question", again.Question, first.Question)
	same(w, "the run", again.Run, first.Run)

	r := first.Run
	w.finish(&r, "done")
	again = w.settle(s)
	w.true(again.Repeated && !again.Acquired && again.Run.Status == storage.Finished, "repeated %v, acquired %v, run %s", again.Repeated, again.Acquired, again.Run.Status)

	s.Key = "attempt 2"
	w.settled(w.trySettle(s).Err, storage.Answered, "another key")
	s.Key = ""
	w.settled(w.trySettle(s).Err, storage.Answered, "no key")

	// No key is no key: two attempts without one are not the same attempt.
	_, bare := w.waiting(m, storage.Question{})
	w.settle(answer(bare, "yes"))
	got := w.trySettle(answer(bare, "yes"))
	w.settled(got.Err, storage.Answered, "the same answer without a key")
	w.true(!got.Repeated && !got.Acquired, "repeated %v, acquired %v", got.Repeated, got.Acquired)
}

func settleRepeatedConcurrently(w *world) {
	r, q := w.waiting(w.join(), storage.Question{})
	s := answer(q, "yes")
	s.Key = "attempt"
	fresh, inbox := 0, w.run(r).Inbox
	for _, got := range concurrently(w, 16, func(int) (storage.Settled, error) {
		for {
			list, err := w.b.Settle(w.ctx, []storage.Settlement{s})
			if err != nil || !again(list[0].Err) {
				return list[0], err
			}
		}
	}) {
		w.ok(got.Err, "Settle")
		if !got.Repeated {
			fresh++
			inbox = got.Run.Inbox
		}
	}
	w.true(fresh == 1, "%d of 16 equal attempts were the first", fresh)
	w.true(w.run(r).Inbox == inbox && inbox > r.Inbox, "inbox %d, %d after the first attempt, %d before", w.run(r).Inbox, inbox, r.Inbox)
}

func settleDeadline(w *world) {
	m := w.join()
	_, early := w.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
	r, late := w.waiting(m, storage.Question{Deadline: w.in(2 * time.Hour)})
	w.advanceTo(early.Deadline.Add(-time.Minute))
	w.settle(answer(early, "in time"))
	// No job for the deadline runs: the answer itself finds out.
	w.advanceTo(late.Deadline)
	got := w.trySettle(answer(late, "late"))
	w.settled(got.Err, storage.Expired, "an answer at the deadline")
	same(w, "Settled.Question", got.Question, w.state(late, storage.Expired))
	w.true(got.Question.Answer == nil && got.Question.By.Kind == "timeout" && got.Question.AnswerKey == "", "the late answer is in the question: %+v", got.Question)
	w.status(r, storage.Queued)

	// A deadline that is now has passed.
	running := w.running(m)
	q := w.ask(&running, storage.Question{Deadline: w.now()})[0]
	w.settled(w.trySettle(answer(q, "late")).Err, storage.Expired, "an answer now, the deadline being now")
	// A withdrawal comes too late as well.
	q = w.ask(&running, storage.Question{Deadline: w.now()})[0]
	w.settled(w.trySettle(storage.Settlement{Tenant: tenant, Question: q.ID, State: storage.Withdrawn}).Err, storage.Expired, "a late withdrawal")
}

func settleDeadlineWakes(w *world) {
	m := w.join()
	overdue := func(status storage.Status) (storage.Run, storage.Question) {
		r := w.running(m)
		q := w.askAs(&r, storage.Unit{Status: status}, storage.Question{Deadline: w.in(time.Hour)})[0]
		return r, q
	}
	for _, c := range []struct{ status, want storage.Status }{
		{storage.Interrupted, storage.Queued},
		{storage.Queued, storage.Queued},
		{storage.Parked, storage.Parked},
		{0, storage.Running},
	} {
		r, q := overdue(c.status)
		w.clock.advance(2 * time.Hour)
		s := answer(q, "late")
		s.Member, s.Key = w.join().ID(), "key"
		got := w.trySettle(s)
		w.settled(got.Err, storage.Expired, "a late answer")
		w.true(!got.Acquired && got.Run.Status == c.want && got.Run.Inbox > r.Inbox, "run was %s: acquired %v, run is %s, inbox %d after %d", r.Status, got.Acquired, got.Run.Status, got.Run.Inbox, r.Inbox)
		same(w, "Settled.Run", got.Run, w.run(r))
		// The attempt lost: repeating it is no success.
		w.settled(w.trySettle(s).Err, storage.Expired, "the late answer again")
		w.true(w.run(r).Inbox == got.Run.Inbox, "a lost attempt raised the inbox")
	}
}

// settleDeadlineRaces: pollers and answers at the deadline; each question ends once.
func settleDeadlineRaces(w *world) {
	const n = 20
	m := w.join()
	var asked []storage.Question
	for range n {
		_, q := w.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
		asked = append(asked, q)
	}
	w.advanceTo(asked[0].Deadline)
	results := concurrently(w, n+4, func(i int) (storage.Settled, error) {
		if i >= n {
			_, err := w.b.Poll(w.ctx, storage.Poll{Member: m.ID()})
			return storage.Settled{}, err
		}
		for {
			list, err := w.b.Settle(w.ctx, []storage.Settlement{answer(asked[i], "photo finish")})
			if err != nil || !again(list[0].Err) {
				return list[0], err
			}
		}
	})
	for i, q := range asked {
		got := w.question(q)
		if results[i].Err == nil {
			w.true(got.State == storage.Answered && got.Settled.Before(got.Deadline), "won, but the question is %s, settled %v, deadline %v", got.State, got.Settled, got.Deadline)
			continue
		}
		w.settled(results[i].Err, storage.Expired, "a late answer")
		w.true(got.State == storage.Expired, "lost against the deadline, but the question is %s", got.State)
		w.status(storage.Run{Tenant: tenant, ID: q.Run}, storage.Queued)
	}
}

func settleGroup(w *world) {
	m := w.join()
	r, other := w.running(m), w.running(m)
	asked := w.pause(&r, storage.Question{Group: "g"}, storage.Question{Group: "g"}, storage.Question{Group: "h"}, storage.Question{},
		storage.Question{Group: "g", Name: "n", Unique: "u"})
	elsewhere := w.pause(&other, storage.Question{Group: "g"})[0]
	// A withdrawal says nothing about the group.
	w.settle(storage.Settlement{Tenant: tenant, Question: asked[1].ID, State: storage.Withdrawn})
	w.state(asked[0], storage.Open)

	got := w.settle(answer(asked[0], "yes"))
	sibling := w.state(asked[4], storage.Withdrawn)
	w.true(sibling.Settled.Equal(got.Question.Settled) && sibling.Change > asked[4].Change, "settled %v, change %d", sibling.Settled, sibling.Change)
	same(w, "who settled the sibling", sibling.By, storage.Principal{})
	w.state(asked[2], storage.Open)
	w.state(asked[3], storage.Open)
	w.state(elsewhere, storage.Open)
	w.settled(w.trySettle(answer(asked[4], "late")).Err, storage.Withdrawn, "answer to a sibling")
	// No group is no group.
	w.settle(answer(asked[3], "yes"))
	w.state(asked[2], storage.Open)
	run := w.acquire(other, m, storage.Interrupted)
	w.ask(&run, storage.Question{Name: "n", Unique: "u"})
}

func settleGroupRaces(w *world) {
	m := w.join()
	for range 5 {
		r := w.running(m)
		var group []storage.Question
		for range 8 {
			group = append(group, storage.Question{Group: "g"})
		}
		asked := w.pause(&r, group...)
		won := 0
		for _, err := range concurrently(w, len(asked), func(i int) (error, error) {
			for {
				list, err := w.b.Settle(w.ctx, []storage.Settlement{answer(asked[i], fmt.Sprint(i))})
				if err != nil || !again(list[0].Err) {
					return list[0].Err, err
				}
			}
		}) {
			if err == nil {
				won++
			} else {
				w.settled(err, storage.Withdrawn, "a loser")
			}
		}
		w.true(won == 1, "%d answers to one group won", won)
	}
}

func settleBatch(w *world) {
	m := w.join()
	var batch []storage.Settlement
	var runs []storage.Run
	for i := range 10 {
		r, q := w.waiting(m, storage.Question{})
		if i%3 == 1 {
			w.settle(answer(q, "before"))
		}
		s := answer(q, fmt.Sprint("answer ", i))
		s.Member = m.ID()
		batch, runs = append(batch, s), append(runs, r)
	}
	results, err := w.b.Settle(w.ctx, batch)
	w.ok(err, "Settle")
	for i, s := range results {
		same(w, "the run", s.Run, w.run(runs[i]))
		if i%3 == 1 {
			w.settled(s.Err, storage.Answered, "an answered question")
			w.true(!s.Acquired && s.Run.Status == storage.Queued, "item %d: acquired %v, run is %s", i, s.Acquired, s.Run.Status)
			continue
		}
		w.ok(s.Err, fmt.Sprint("item ", i))
		w.true(s.Acquired && s.Run.Owner == m.ID(), "item %d: acquired %v, owner %s", i, s.Acquired, s.Run.Owner)
		same(w, "answer", string(s.Question.Answer), fmt.Sprint("answer ", i))
	}
}

// batchOneRun: results tell what is after the call, in which items took effect in their order.
func settleBatchOneRun(w *world) {
	m := w.join()
	r := w.running(m)
	asked := w.pause(&r, storage.Question{}, storage.Question{Group: "g"}, storage.Question{Group: "g"}, storage.Question{})
	var batch []storage.Settlement
	for _, q := range asked {
		s := answer(q, "yes")
		s.Member = m.ID()
		batch = append(batch, s)
	}
	batch = append(batch, batch[0])
	batch[4].Answer = []byte("second thought")
	results, err := w.b.Settle(w.ctx, batch)
	w.ok(err, "Settle")
	now := w.run(r)
	w.true(now.Owner == m.ID() && now.Token > r.Token, "owner %s, token %d", now.Owner, now.Token)
	for i, want := range []storage.QuestionState{storage.Answered, storage.Answered, storage.Withdrawn, storage.Answered, storage.Answered} {
		same(w, "the run after the call", results[i].Run, now)
		w.true(results[i].Question.State == want, "item %d: question is %s, want %s", i, results[i].Question.State, want)
		refused := i == 2 || i == 4
		w.true((results[i].Err != nil) == refused, "item %d: error %v", i, results[i].Err)
		w.true(results[i].Acquired == !refused, "item %d: acquired %v", i, results[i].Acquired)
	}
	same(w, "the first answer", w.question(asked[0]).Answer, []byte("yes"))
	w.append(&now, storage.Unit{})
}

func settleInvalid(w *world) {
	r, q := w.waiting(w.join(), storage.Question{})
	for _, state := range []storage.QuestionState{0, storage.Open, storage.Expired, storage.SupersededQuestion, 99} {
		s := answer(q, "x")
		s.State = state
		w.is(w.trySettle(s).Err, storage.ErrInvalid, fmt.Sprintf("Settle as %s", state))
	}
	same(w, "the question", w.question(q), q)
	same(w, "the run", w.run(r), r)
}

func settleUnknown(w *world) {
	got := w.trySettle(answer(storage.Question{ID: w.newID()}, "x"))
	w.is(got.Err, storage.ErrNotFound, "Settle")
	same(w, "the result", got, storage.Settled{Err: got.Err})
	_, err := w.b.Question(w.ctx, tenant, w.newID())
	w.is(err, storage.ErrNotFound, "Question")
}

// settleNoLostWake: an answer and the owner's release, at once. Either the owner keeps the
// run and knows, or the answer woke it; it never waits for what has come.
func settleNoLostWake(w *world) {
	m := w.join()
	for i := range 30 {
		r := w.running(m)
		q := w.ask(&r, storage.Question{})[0]
		u := unit(r, storage.Unit{Status: storage.Interrupted, SeenInbox: r.Inbox})
		var kept bool
		concurrently(w, 2, func(i int) (int, error) {
			for {
				var refused error
				if i == 0 {
					list, err := w.b.Settle(w.ctx, []storage.Settlement{answer(q, "yes")})
					if err != nil {
						return 0, err
					}
					refused = list[0].Err
				} else {
					list, err := w.b.Append(w.ctx, []storage.Unit{u})
					if err != nil {
						return 0, err
					}
					refused, kept = list[0].Err, list[0].Kept
				}
				if !again(refused) {
					return 0, refused
				}
			}
		})
		now := w.run(r)
		want := storage.Queued
		if kept {
			want = storage.Running
		}
		w.true(now.Status == want, "round %d: kept %v, and the run is %s", i, kept, now.Status)
		w.true(now.Inbox > r.Inbox, "round %d: inbox %d", i, now.Inbox)
	}
}

func settleNone(w *world) {
	list, err := w.b.Settle(w.ctx, nil)
	w.ok(err, "Settle of nothing")
	w.true(len(list) == 0, "%d results for no settlements", len(list))
}
