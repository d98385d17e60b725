package storagetest

import (
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var releaseCases = []testCase{
	{"EndsWithResult", releaseFinished},
	{"EndsWithError", releaseError},
	{"EndWithdrawsOpenQuestions", releaseEnds},
	{"WaitKeepsOpenQuestions", releaseWaits},
	{"KeptIfTheInboxIsNewer", releaseKept},
	{"EndIsNotKept", releaseNotKept},
	{"QueuedGoesToAnyMember", releaseQueued},
	{"DueWakes", releaseDue},
	{"QuestionsAndWaitInOneUnit", releaseAsks},
}

func releaseFinished(w *world) {
	m := w.join()
	r := w.running(m)
	before := r
	c := w.append(&r, storage.Unit{Status: storage.Finished, Result: []byte("result"), Saved: []byte("saved")})
	want := before
	want.Status, want.Owner, want.LastSeq, want.Updated = storage.Finished, storage.ID{}, 1, c.At
	want.Result, want.Saved, want.Token = []byte("result"), []byte("saved"), r.Token
	same(w, "finished run", r, want)
	head := w.head(r.Thread)
	same(w, "Head", head, storage.Head{Run: &r, Last: &r, Now: head.Now})
}

func releaseError(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Failed, storage.Cancelled, storage.Parked} {
		r := w.running(m)
		w.append(&r, storage.Unit{Status: status, Error: []byte("what went wrong")})
		now := w.status(r, status)
		same(w, "error", now.Error, []byte("what went wrong"))
		same(w, "result", now.Result, nil)
		w.true(len(w.poll(m, 1).Runs) == 0, "Poll took a run that is %s", status)
	}
}

func releaseEnds(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Finished, storage.Failed, storage.Cancelled} {
		r := w.running(m)
		asked := w.ask(&r, storage.Question{}, storage.Question{}, storage.Question{Deadline: w.in(time.Hour)})
		w.settle(answer(asked[0], "yes"))
		c := w.append(&r, storage.Unit{Status: status, SeenInbox: 0})
		w.state(asked[0], storage.Answered)
		for _, q := range asked[1:] {
			got := w.state(q, storage.Withdrawn)
			w.true(got.Settled.Equal(c.At) && got.Change > q.Change, "settled at %v, change %d", got.Settled, got.Change)
		}
		w.true(len(w.head(r.Thread).Open) == 0, "Head has open questions of a run that is %s", status)
		w.settled(w.trySettle(answer(asked[1], "late")).Err, storage.Withdrawn, "late answer")
		w.status(r, status)
	}
}

func releaseWaits(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Queued, storage.Interrupted, storage.Parked} {
		r := w.running(m)
		q := w.ask(&r, storage.Question{})[0]
		w.append(&r, storage.Unit{Status: status, Due: w.in(time.Hour)})
		w.status(r, status)
		same(w, "the question of a run that is "+status.String(), w.question(q), q)
		same(w, "open questions", w.head(r.Thread).Open, []storage.Question{q})
	}
}

func releaseKept(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Queued, storage.Interrupted} {
		r := w.running(m)
		asked := w.ask(&r, storage.Question{}, storage.Question{})
		seen := r.Inbox
		w.settle(answer(asked[0], "yes"))
		c := w.append(&r, storage.Unit{Status: status, SeenInbox: seen, Due: w.in(time.Hour), Questions: []storage.Question{{ID: w.newID()}}})
		w.true(c.Kept && c.Inbox > seen, "kept %v, inbox %d; seen was %d", c.Kept, c.Inbox, seen)
		w.true(r.Status == storage.Running && r.Owner == m.ID() && r.Token == 1, "run is %s, owner %s, token %d", r.Status, r.Owner, r.Token)
		w.true(r.LastSeq == 2 && r.Due.IsZero(), "last record %d, due %v", r.LastSeq, r.Due)
		w.true(len(w.head(r.Thread).Open) == 2, "the question of the kept unit is not open")

		// Having seen it, the owner gives the run up.
		c = w.append(&r, storage.Unit{Status: status, SeenInbox: c.Inbox, Due: w.in(time.Hour)})
		w.true(!c.Kept, "kept with nothing new")
		w.status(r, status)
	}
}

func releaseNotKept(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Parked, storage.Finished, storage.Failed, storage.Cancelled} {
		r := w.running(m)
		q := w.ask(&r, storage.Question{})[0]
		w.settle(answer(q, "yes"))
		c := w.append(&r, storage.Unit{Status: status})
		w.true(!c.Kept, "a run that became %s is kept", status)
		w.true(c.Inbox > 0, "inbox is %d", c.Inbox)
		w.status(r, status)
	}
}

func releaseQueued(w *world) {
	m, other := w.join(), w.join()
	r := w.running(m)
	w.append(&r, storage.Unit{Status: storage.Queued})
	w.status(r, storage.Queued)
	p := w.poll(other, 1)
	w.true(len(p.Runs) == 1 && p.Runs[0].ID == r.ID && p.Runs[0].Owner == other.ID(), "Poll took %v", ids(p.Runs))
	w.true(p.Runs[0].Token > r.Token, "token %d after %d", p.Runs[0].Token, r.Token)
}

func releaseDue(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Queued, storage.Interrupted} {
		r := w.running(m)
		due := w.in(time.Hour)
		w.append(&r, storage.Unit{Status: status, Due: due})
		r = w.status(r, status)
		w.true(r.Due.Equal(due), "due %v, want %v", r.Due, due)
		p := w.poll(m, 1)
		w.true(len(p.Runs) == 0 && p.Next.Equal(due), "Poll took %v, next %v; want nothing, next %v", ids(p.Runs), p.Next, due)
		w.status(r, status)
		w.advanceTo(due)
		p = w.poll(m, 1)
		same(w, fmt.Sprintf("runs to take once a run that is %s is due", status), ids(p.Runs), []storage.ID{r.ID})
		w.true(p.Runs[0].Due.IsZero(), "a running run is due at %v", p.Runs[0].Due)
		w.true(p.Next.IsZero(), "next %v", p.Next)
	}
}

func releaseAsks(w *world) {
	m := w.join()
	r := w.running(m)
	asked := w.pause(&r, storage.Question{}, storage.Question{})
	w.true(len(asked) == 2, "%d questions", len(asked))
	for _, q := range asked {
		w.state(q, storage.Open)
	}
	now := w.status(r, storage.Interrupted)
	w.true(now.Due.IsZero(), "due %v", now.Due)
	w.true(len(w.poll(m, 1).Runs) == 0, "Poll took a waiting run")
	head := w.head(r.Thread)
	same(w, "Head", head, storage.Head{Run: &now, Open: asked, Now: head.Now})
}
