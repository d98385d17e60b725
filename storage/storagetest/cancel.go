package storagetest

import (
	"time"

	"github.com/fermata-go/fermata/storage"
)

var cancelCases = []testCase{
	{"EndsARunThatNobodyOwns", cancelUnowned},
	{"EndsTheRunOfADeadOwner", cancelDead},
	{"AsksALivingOwner", cancelLiving},
	{"IsNotLostWhenTheOwnerDies", cancelOwnerDies},
	{"EndedRunIsBusy", cancelEnded},
	{"UnknownRunIsNotFound", cancelUnknown},
	{"MayBeContinued", cancelContinued},
	{"RacesWithTheRelease", cancelRaces},
}

func (w *world) cancel(r storage.Run, reason string) storage.Run {
	w.Helper()
	got, err := w.b.Cancel(w.ctx, r.Tenant, r.ID, reason)
	w.ok(err, "Cancel")
	same(w, "the run read again", w.run(r), got)
	return got
}

func cancelUnowned(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Queued, storage.Interrupted, storage.Parked} {
		r := w.running(m)
		asked := w.askAs(&r, storage.Unit{Status: status, Due: w.in(time.Hour), Error: []byte("error")}, storage.Question{}, storage.Question{})
		got := w.cancel(r, "not needed")
		w.status(r, storage.Cancelled)
		w.true(got.CancelReason == "not needed" && !got.CancelRequested, "reason %q, requested %v", got.CancelReason, got.CancelRequested)
		w.true(got.Due.IsZero() && got.Error == nil, "due %v, error %q", got.Due, got.Error)
		for _, q := range asked {
			now := w.state(q, storage.Withdrawn)
			w.true(now.Change > q.Change, "change %d after %d", now.Change, q.Change)
			w.settled(w.trySettle(answer(q, "late")).Err, storage.Withdrawn, "late answer")
		}
	}
	queued := w.start(storage.Start{})
	w.cancel(queued, "")
	w.clock.advance(2 * time.Hour)
	p := w.poll(m, 10)
	w.true(len(p.Runs) == 0 && p.Next.IsZero(), "Poll took %v, next %v", ids(p.Runs), p.Next)
}

func cancelDead(w *world) {
	dying, m := w.join(), w.join()
	r := w.running(dying)
	q := w.ask(&r, storage.Question{})[0]
	w.kill(dying)
	w.cancel(r, "gone")
	w.status(r, storage.Cancelled)
	w.state(q, storage.Withdrawn)
	w.is(w.tryAppend(unit(r, storage.Unit{})).Err, storage.ErrStale, "Append by the dead owner")
	w.true(len(w.poll(m, 10).Runs) == 0, "Poll took a cancelled run")
}

func cancelLiving(w *world) {
	m := w.join()
	r := w.running(m)
	q := w.ask(&r, storage.Question{})[0]
	got := w.cancel(r, "not needed")
	w.true(got.Status == storage.Running && got.Owner == m.ID() && got.Token == r.Token, "run is %s, owner %s, token %d", got.Status, got.Owner, got.Token)
	w.true(got.CancelRequested && got.CancelReason == "not needed" && got.Inbox > r.Inbox, "requested %v, reason %q, inbox %d", got.CancelRequested, got.CancelReason, got.Inbox)
	w.state(q, storage.Open)
	c := w.append(&r, storage.Unit{Status: storage.Interrupted, SeenInbox: 0})
	w.true(c.Kept && c.Inbox == got.Inbox, "kept %v, inbox %d", c.Kept, c.Inbox)
	w.append(&r, storage.Unit{Status: storage.Cancelled, Error: []byte("cancelled"), SeenInbox: c.Inbox})
	end := w.status(r, storage.Cancelled)
	w.true(!end.CancelRequested && end.CancelReason == "not needed", "requested %v, reason %q", end.CancelRequested, end.CancelReason)
	same(w, "error", end.Error, []byte("cancelled"))
	w.state(q, storage.Withdrawn)
}

func cancelOwnerDies(w *world) {
	dying, m := w.join(), w.join()
	r := w.running(dying)
	w.cancel(r, "not needed")
	w.kill(dying)
	p := w.poll(m, 1)
	same(w, "runs to take over", ids(p.Runs), []storage.ID{r.ID})
	w.true(p.Runs[0].CancelRequested && p.Runs[0].CancelReason == "not needed", "the request died with the owner")
	w.finish(&p.Runs[0], "finished first")
	end := w.status(r, storage.Finished)
	w.true(!end.CancelRequested, "cancellation of a finished run is still asked for")
}

func cancelEnded(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Finished, storage.Failed, storage.Cancelled} {
		r := w.inStatus(m, status)
		_, err := w.b.Cancel(w.ctx, tenant, r.ID, "late")
		busy := w.busy(err, r.ID, "Cancel of a run that is "+status.String())
		same(w, "the run in the way", busy.Run, r)
		same(w, "the run", w.run(r), r)
	}
	r := w.inStatus(m, storage.Interrupted)
	w.start(storage.Start{Run: storage.Run{Thread: r.Thread}, Supersede: true})
	_, err := w.b.Cancel(w.ctx, tenant, r.ID, "late")
	w.busy(err, r.ID, "Cancel of a superseded run")
}

func cancelUnknown(w *world) {
	_, err := w.b.Cancel(w.ctx, tenant, w.newID(), "")
	w.is(err, storage.ErrNotFound, "Cancel")
}

func cancelContinued(w *world) {
	m := w.join()
	r, q := w.waiting(m, storage.Question{})
	w.cancel(r, "by mistake")
	r = w.acquire(r, m, storage.Cancelled)
	w.true(!r.CancelRequested && r.CancelReason == "", "requested %v, reason %q", r.CancelRequested, r.CancelReason)
	w.state(q, storage.Withdrawn)
	w.finish(&r, "after all")
}

// cancelRaces: a cancellation and the owner's release, at once, end in a
// cancelled run or in an owner that knows.
func cancelRaces(w *world) {
	m := w.join()
	for i := range 20 {
		r := w.running(m)
		u := unit(r, storage.Unit{Status: storage.Interrupted})
		var kept bool
		concurrently(w, 2, func(i int) (int, error) {
			if i == 0 {
				_, err := w.b.Cancel(w.ctx, tenant, r.ID, "race")
				return 0, err
			}
			for {
				list, err := w.b.Append(w.ctx, []storage.Unit{u})
				if err != nil {
					return 0, err
				}
				if again(list[0].Err) {
					continue
				}
				kept = list[0].Kept
				return 0, list[0].Err
			}
		})
		now := w.run(r)
		if kept {
			w.true(now.Status == storage.Running && now.CancelRequested, "round %d: kept, but the run is %s, requested %v", i, now.Status, now.CancelRequested)
		} else {
			w.true(now.Status == storage.Cancelled, "round %d: not kept, but the run is %s", i, now.Status)
		}
	}
}
