package storagetest

import (
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var acquireCases = []testCase{
	{"TakesFromTheListedStatuses", acquireListed},
	{"RefusesOtherStatuses", acquireRefuses},
	{"RunningOfALivingOwnerIsBusy", acquireLiving},
	{"TakesWhatTheLivingGiveUp", acquireGivenUp},
	{"RunningOfADeadOwner", acquireDead},
	{"RunningOfItself", acquireItself},
	{"NotTheLatestIsBusy", acquireNotLatest},
	{"NoMemberQueues", acquireQueues},
	{"NoMemberQueuesTheRunOfADeadOwner", acquireQueuesDead},
	{"UnknownRunIsNotFound", acquireUnknown},
	{"OneWinnerUnderConcurrency", acquireConcurrently},
	{"ContinuesTheLog", acquireContinues},
	{"DoesNotWaitForDue", acquireEarly},
}

// in makes a run, with one record and an open question where there may be one, of the status.
func (w *world) inStatus(m storage.Membership, status storage.Status) storage.Run {
	w.Helper()
	r := w.running(m)
	u := storage.Unit{Status: status}
	switch status {
	case storage.Finished:
		u.Result, u.Saved = []byte("result"), []byte("saved")
	case storage.Failed, storage.Cancelled, storage.Parked:
		u.Error = []byte("error")
	case storage.Interrupted:
		u.Questions = []storage.Question{{ID: w.newID()}}
	case storage.Running:
		u.Status = 0
	}
	w.append(&r, u)
	return w.status(r, status)
}

var settledStatuses = []storage.Status{
	storage.Queued, storage.Interrupted, storage.Parked, storage.Finished, storage.Failed, storage.Cancelled,
}

func acquireListed(w *world) {
	m, other := w.join(), w.join()
	for _, status := range settledStatuses {
		before := w.inStatus(m, status)
		r := w.acquire(before, other, storage.Running, status)
		w.true(r.Status == storage.Running && r.Owner == other.ID(), "run is %s, owner %s", r.Status, r.Owner)
		w.true(r.Token > before.Token, "token %d after %d", r.Token, before.Token)
		w.true(r.Error == nil && r.Result == nil && r.Saved == nil, "error %q, result %q, saved %q of a running run", r.Error, r.Result, r.Saved)
		same(w, "the run read again", w.run(r), r)
		w.true(r.LastSeq == before.LastSeq && r.Inbox == before.Inbox && r.Crashes == 0, "run %+v, before %+v", r, before)
		w.true(w.head(r.Thread).Alive, "the owner of the run is not alive")
	}
}

func acquireRefuses(w *world) {
	m, other := w.join(), w.join()
	for _, status := range append([]storage.Status{storage.Running}, settledStatuses...) {
		r := w.inStatus(m, status)
		var others []storage.Status
		for s := storage.Queued; s <= storage.Superseded; s++ {
			if s != status {
				others = append(others, s)
			}
		}
		for _, member := range []storage.Membership{other, nil} {
			_, err := w.tryAcquire(r, member, others...)
			busy := w.busy(err, r.ID, "Acquire of a run that is "+status.String())
			same(w, "the run in the way", busy.Run, r)
			w.true(busy.Alive == (status == storage.Running), "Alive is %v", busy.Alive)
			w.true(busy.Open == len(w.head(r.Thread).Open), "Open is %d", busy.Open)
		}
		_, err := w.tryAcquire(r, other)
		w.busy(err, r.ID, "Acquire from no status")
		same(w, "the run", w.run(r), r)
	}
}

func acquireLiving(w *world) {
	m, other := w.join(), w.join()
	r := w.running(m)
	for _, member := range []storage.Membership{other, nil} {
		_, err := w.tryAcquire(r, member, storage.Running)
		busy := w.busy(err, r.ID, "Acquire of a living owner's run")
		w.true(busy.Alive, "the owner is not alive")
	}
	w.append(&r, storage.Unit{})
}

func acquireGivenUp(w *world) {
	m, other := w.join(), w.join()
	for _, member := range []storage.Membership{nil, other} {
		r := w.running(m)
		a := storage.Acquire{Tenant: r.Tenant, Run: r.ID, Owner: other.ID(), From: []storage.Status{storage.Running}}
		if member != nil {
			a.Member = member.ID()
		}
		_, err := w.b.Acquire(w.ctx, a)
		w.busy(err, r.ID, "Acquire of what somebody else owns")
		a.Owner = m.ID()
		got, err := w.b.Acquire(w.ctx, a)
		w.ok(err, "Acquire of what its owner gives up")
		w.true(got.Owner == a.Member && got.Token > r.Token && got.Crashes == 0, "owner %s, token %d, crashes %d", got.Owner, got.Token, got.Crashes)
		w.is(w.tryAppend(unit(r, storage.Unit{})).Err, storage.ErrStale, "Append by the owner that gave up")
		if member == nil {
			w.true(got.Status == storage.Queued, "run is %s", got.Status)
			p := w.poll(other, 1)
			same(w, "runs to take", ids(p.Runs), []storage.ID{r.ID})
			got = p.Runs[0]
		}
		w.true(got.Crashes == 0, "%d crashes", got.Crashes)
		w.append(&got, storage.Unit{})
	}
}

func acquireDead(w *world) {
	dying, m := w.join(), w.join()
	r := w.running(dying)
	w.append(&r, storage.Unit{})
	w.kill(dying)
	w.true(!w.head(r.Thread).Alive, "the dead owner is alive")
	got := w.acquire(r, m, storage.Running)
	w.true(got.Owner == m.ID() && got.Status == storage.Running && got.Token > r.Token, "run is %s, owner %s, token %d", got.Status, got.Owner, got.Token)
}

func acquireItself(w *world) {
	m := w.join()
	r := w.running(m)
	w.append(&r, storage.Unit{})
	got := w.acquire(r, m, storage.Running)
	w.true(got.Owner == m.ID() && got.Token > r.Token && got.Crashes == 0, "owner %s, token %d, crashes %d", got.Owner, got.Token, got.Crashes)
	w.is(w.tryAppend(unit(r, storage.Unit{})).Err, storage.ErrStale, "Append with the old token")
	w.append(&got, storage.Unit{})
}

func acquireNotLatest(w *world) {
	m := w.join()
	r := w.inStatus(m, storage.Failed)
	next := w.next(r, m)
	_, err := w.tryAcquire(r, m, storage.Failed)
	busy := w.busy(err, next.ID, "Acquire of an earlier run")
	w.true(busy.Alive, "the owner of the latest run is not alive")
	w.finish(&next, "done")
	_, err = w.tryAcquire(r, m, storage.Failed)
	w.busy(err, next.ID, "Acquire of an earlier run, the latest being finished")
	w.status(r, storage.Failed)
}

func acquireQueues(w *world) {
	m, other := w.join(), w.join()
	for _, status := range settledStatuses {
		before := w.inStatus(m, status)
		r, err := w.tryAcquire(before, nil, status)
		w.ok(err, "Acquire")
		w.true(r.Status == storage.Queued && r.Owner.IsZero(), "run is %s, owner %s", r.Status, r.Owner)
		same(w, "the run read again", w.run(r), r)
		p := w.poll(other, 1)
		same(w, "runs to take", ids(p.Runs), []storage.ID{r.ID})
		w.true(p.Runs[0].Token > before.Token, "token %d after %d", p.Runs[0].Token, before.Token)
	}
}

func acquireQueuesDead(w *world) {
	dying, m := w.join(), w.join()
	r := w.running(dying)
	w.kill(dying)
	got, err := w.tryAcquire(r, nil, storage.Running)
	w.ok(err, "Acquire")
	w.true(got.Status == storage.Queued && got.Owner.IsZero(), "run is %s, owner %s", got.Status, got.Owner)
	w.is(w.tryAppend(unit(r, storage.Unit{})).Err, storage.ErrStale, "Append by the dead owner")
	p := w.poll(m, 1)
	same(w, "runs to take", ids(p.Runs), []storage.ID{r.ID})
	w.true(p.Runs[0].Crashes == 1, "%d crashes, want 1", p.Runs[0].Crashes)
	w.is(w.tryAppend(unit(r, storage.Unit{})).Err, storage.ErrStale, "Append by the dead owner")
}

func acquireUnknown(w *world) {
	m := w.join()
	_, err := w.tryAcquire(storage.Run{Tenant: tenant, ID: w.newID()}, m, storage.Queued)
	w.is(err, storage.ErrNotFound, "Acquire")
}

func acquireConcurrently(w *world) {
	const n = 8
	m := w.join()
	members := make([]storage.Membership, n)
	for i := range members {
		members[i] = w.join()
	}
	for round := range 5 {
		r := w.inStatus(m, storage.Interrupted)
		won := 0
		for i, err := range concurrently(w, n, func(i int) (error, error) {
			_, err := w.tryAcquire(r, members[i], storage.Interrupted)
			return err, nil
		}) {
			if err == nil {
				won++
			} else {
				w.is(err, storage.ErrBusy, fmt.Sprintf("round %d, member %d", round, i))
			}
		}
		w.true(won == 1, "%d of %d acquired the run", won, n)
	}
}

func acquireContinues(w *world) {
	m := w.join()
	r := w.inStatus(m, storage.Failed)
	r = w.acquire(r, m, storage.Failed)
	w.append(&r, storage.Unit{Records: records("continued")})
	same(w, "records", w.data(r), []string{"record 1", "continued"})
	w.finish(&r, "done")
	next := w.next(r, m)
	w.true(next.Previous == r.ID, "previous is %s, want the continued run", next.Previous)
}

func acquireEarly(w *world) {
	m := w.join()
	for _, status := range []storage.Status{storage.Queued, storage.Interrupted} {
		r := w.running(m)
		w.append(&r, storage.Unit{Status: status, Due: w.in(time.Hour)})
		got := w.acquire(r, m, status)
		w.true(got.Due.IsZero(), "a running run is due at %v", got.Due)
		w.append(&got, storage.Unit{Status: storage.Interrupted, Due: w.in(time.Hour)})
		got, err := w.tryAcquire(got, nil, storage.Interrupted)
		w.ok(err, "Acquire without a member")
		w.true(got.Due.IsZero(), "a woken run is due at %v", got.Due)
		p := w.poll(m, 1)
		same(w, "runs to take", ids(p.Runs), []storage.ID{r.ID})
		w.true(p.Next.IsZero(), "next %v", p.Next)
	}
}
