package storagetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var pollCases = []testCase{
	{"TakesQueuedRuns", pollQueued},
	{"LeavesOtherEntrypointsAlone", pollEntrypoints},
	{"LeavesExceptedRunsAlone", pollExcept},
	{"LimitAndMore", pollLimit},
	{"LimitZeroStillKeepsTime", pollZero},
	{"LongestWaitingFirst", pollOrder},
	{"DelayedStart", pollDelayed},
	{"NextIsTheEarliest", pollNext},
	{"ExpiresQuestions", pollExpires},
	{"ExpiryLeavesOwnersAndTheParkedAlone", pollExpiresElsewhere},
	{"TakesOverFromTheDead", pollDead},
	{"CountsCrashesInARow", pollCrashes},
	{"EveryTenant", pollTenants},
	{"NeverTwoOwners", pollConcurrently},
	{"NeverTwoOwnersOfWhatTheDeadLeft", pollConcurrentlyDead},
}

func pollQueued(w *world) {
	m := w.join()
	before := w.now()
	p := w.poll(m, 10)
	w.true(len(p.Runs) == 0 && !p.More && p.Next.IsZero(), "Poll of an empty database: %+v", p)
	w.true(!p.Now.Before(before), "Poll says it is %v, Now said %v", p.Now, before)
	r := w.start(storage.Start{Run: storage.Run{Config: []byte("config"), Metadata: map[string]string{"a": "b"}}})
	p = w.poll(m, 10)
	w.true(len(p.Runs) == 1 && !p.More, "%d runs, more %v; want 1", len(p.Runs), p.More)
	got := p.Runs[0]
	want := r
	want.Status, want.Owner, want.Token, want.Updated = storage.Running, m.ID(), got.Token, got.Updated
	same(w, "the run that was taken", got, want)
	w.true(got.Token > r.Token, "token %d after %d", got.Token, r.Token)
	same(w, "the run read again", w.run(r), got)
	w.true(len(w.poll(m, 10).Runs) == 0, "Poll gave a run twice")
	w.append(&got, storage.Unit{})
}

func pollEntrypoints(w *world) {
	m := w.join()
	start := func(entrypoint string) storage.Run {
		return w.start(storage.Start{Run: storage.Run{Entrypoint: entrypoint}})
	}
	a, b, c := start("a"), start("b"), start("c")
	w.true(len(w.poll(m, 10, "other").Runs) == 0, "Poll gave a run of an unknown entrypoint")
	p := w.poll(m, 10, []string{}...)
	w.true(len(p.Runs) == 0 && !p.More, "Poll for no entrypoint: %+v", p)
	p = w.poll(m, 10, "c", "a")
	same(w, "runs of a and c", ids(p.Runs), []storage.ID{a.ID, c.ID})
	w.true(!p.More, "more than all")
	w.status(b, storage.Queued)
	same(w, "runs of b", ids(w.poll(m, 10, "b").Runs), []storage.ID{b.ID})
}

func pollExcept(w *world) {
	dying, m := w.join(), w.join()
	dead := w.running(dying)
	w.kill(dying)
	runs := []storage.ID{dead.ID}
	for range 3 {
		runs = append(runs, w.start(storage.Start{}).ID)
	}
	poll := func(limit int, except ...storage.ID) storage.Polled {
		p, err := w.b.Poll(w.ctx, storage.Poll{Member: m.ID(), Entrypoints: []string{graph}, Limit: limit, Except: except})
		w.ok(err, "Poll")
		return p
	}
	p := poll(2, runs...)
	w.true(len(p.Runs) == 0 && !p.More, "%d runs, more: %v, of runs that are all excepted", len(p.Runs), p.More)
	p = poll(1, runs[0], runs[1], runs[3])
	same(w, "runs to take", ids(p.Runs), runs[2:3])
	w.true(!p.More, "there is more")
	p = poll(1, runs[1])
	w.true(len(p.Runs) == 1 && p.More, "%d runs, more: %v", len(p.Runs), p.More)
	p = poll(3)
	w.true(len(p.Runs) == 2 && !p.More, "%d runs, more: %v", len(p.Runs), p.More)
}

func pollLimit(w *world) {
	m := w.join()
	var want []storage.ID
	for range 5 {
		want = append(want, w.start(storage.Start{}).ID)
		w.clock.advance(time.Second)
	}
	w.start(storage.Start{Run: storage.Run{Entrypoint: "other"}})
	var got []storage.ID
	for _, step := range []struct {
		limit, n int
		more     bool
	}{{2, 2, true}, {2, 2, true}, {1, 1, false}, {1, 0, false}} {
		p := w.poll(m, step.limit)
		w.true(len(p.Runs) == step.n && p.More == step.more, "limit %d: %d runs, more %v; want %d, %v", step.limit, len(p.Runs), p.More, step.n, step.more)
		got = append(got, ids(p.Runs)...)
	}
	same(w, "runs in their order", got, want)
}

func pollZero(w *world) {
	m := w.join()
	r, q := w.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
	due := w.running(m)
	w.append(&due, storage.Unit{Status: storage.Interrupted, Due: w.in(2 * time.Hour)})
	p := w.poll(m, 0)
	w.true(!p.More && p.Next.Equal(q.Deadline), "more %v, next %v; want false, %v", p.More, p.Next, q.Deadline)
	w.clock.advance(3 * time.Hour)
	p = w.poll(m, 0)
	w.true(len(p.Runs) == 0 && p.More && p.Next.IsZero(), "%d runs, more %v, next %v", len(p.Runs), p.More, p.Next)
	w.state(q, storage.Expired)
	w.status(r, storage.Queued)
	due = w.status(due, storage.Queued)
	w.true(due.Due.IsZero(), "a run that was woken is due at %v", due.Due)
}

// pollOrder: a run waits since it was queued, not since it was made.
func pollOrder(w *world) {
	m := w.join()
	first, q := w.waiting(m, storage.Question{})
	released := w.running(m)
	delayed := w.start(storage.Start{Run: storage.Run{Due: w.in(90 * time.Second)}})
	queued := make([]storage.Run, 3)
	for i := range queued { // at 0, 1 and 2 minutes
		queued[i] = w.start(storage.Start{})
		w.clock.advance(time.Minute)
	}
	w.settle(answer(q, "yes"))
	w.clock.advance(time.Minute)
	w.append(&released, storage.Unit{Status: storage.Queued})
	want := []storage.ID{queued[0].ID, queued[1].ID, delayed.ID, queued[2].ID, first.ID, released.ID}
	same(w, "runs in the order of their waiting", ids(w.poll(m, 10).Runs), want)

	// The order is one for all entrypoints.
	entrypoint := func(name string, due time.Time) storage.ID {
		return w.start(storage.Start{Run: storage.Run{Entrypoint: name, Due: due}}).ID
	}
	late, early := entrypoint("a", w.in(2*time.Hour)), entrypoint("b", w.in(time.Hour))
	w.clock.advance(3 * time.Hour)
	now := entrypoint("a", time.Time{})
	want = []storage.ID{early, late, now}
	same(w, "runs of two entrypoints", ids(w.poll(m, 2, "a", "b").Runs), want[:2])
	same(w, "the last of them", ids(w.poll(m, 2, "b", "a").Runs), want[2:])
}

func pollDelayed(w *world) {
	m := w.join()
	due := w.in(time.Hour)
	r := w.start(storage.Start{Run: storage.Run{Due: due}})
	w.true(r.Status == storage.Queued && r.Due.Equal(due), "run is %s, due %v", r.Status, r.Due)
	p := w.poll(m, 1)
	w.true(len(p.Runs) == 0 && p.Next.Equal(due) && !p.More, "%d runs, next %v, more %v; want 0, %v, false", len(p.Runs), p.Next, p.More, due)
	w.advanceTo(due.Add(-time.Minute))
	w.true(len(w.poll(m, 1).Runs) == 0, "Poll took a run a minute before it was due")
	w.advanceTo(due)
	same(w, "runs to take", ids(w.poll(m, 1).Runs), []storage.ID{r.ID})
}

func pollNext(w *world) {
	m := w.join()
	at := func(d time.Duration) time.Time { return w.in(d) }
	next := func(want time.Time) {
		w.Helper()
		p := w.poll(m, 0)
		w.true(p.Next.Equal(want), "next %v, want %v", p.Next, want)
	}
	four, three, two, one := at(4*time.Hour), at(3*time.Hour), at(2*time.Hour), at(time.Hour)
	r := w.running(m)
	q := w.ask(&r, storage.Question{Deadline: four})[0]
	next(four)
	w.start(storage.Start{Run: storage.Run{Due: three}})
	next(three)
	waiting := w.running(m)
	w.append(&waiting, storage.Unit{Status: storage.Interrupted, Due: two})
	next(two)
	w.start(storage.Start{Run: storage.Run{Due: one, Entrypoint: "unknown to the member"}})
	next(one)
	w.advanceTo(one)
	next(two)
	_, err := w.b.Cancel(w.ctx, tenant, waiting.ID, "")
	w.ok(err, "Cancel")
	next(three)
	w.advanceTo(three)
	next(four)
	w.settle(answer(q, "yes"))
	next(time.Time{})
}

func pollExpires(w *world) {
	m := w.join()
	r, q := w.waiting(m, storage.Question{Deadline: w.in(time.Hour), Group: "g"})
	group := w.ask(new(w.acquire(r, m, storage.Interrupted)), storage.Question{Group: "g"}, storage.Question{Deadline: w.in(3 * time.Hour)})
	r = w.run(r)
	w.append(&r, storage.Unit{Status: storage.Interrupted})
	other, never := w.waiting(m, storage.Question{})
	w.advanceTo(q.Deadline.Add(-time.Second))
	w.true(len(w.poll(m, 10).Runs) == 0, "Poll woke a run before its question's deadline")
	w.state(q, storage.Open)

	w.advanceTo(q.Deadline)
	p := w.poll(m, 10)
	same(w, "runs to take", ids(p.Runs), []storage.ID{r.ID})
	w.true(p.Runs[0].Inbox > r.Inbox, "inbox %d after %d", p.Runs[0].Inbox, r.Inbox)
	w.true(p.Next.Equal(group[1].Deadline), "next %v, want %v", p.Next, group[1].Deadline)
	got := w.state(q, storage.Expired)
	want := q
	want.State, want.Settled, want.Change, want.By = storage.Expired, got.Settled, got.Change, storage.Principal{Kind: "timeout"}
	same(w, "the expired question", got, want)
	w.true(!got.Settled.Before(q.Deadline) && got.Change > q.Change, "settled %v, change %d", got.Settled, got.Change)
	w.state(group[0], storage.Open) // an expiry is no answer: the group stays
	w.state(group[1], storage.Open)
	w.state(never, storage.Open)
	w.status(other, storage.Interrupted)
	w.true(len(w.poll(m, 10).Runs) == 0, "Poll gave a run twice")
}

func pollExpiresElsewhere(w *world) {
	m, other := w.join(), w.join()
	running := w.running(m)
	one := w.ask(&running, storage.Question{Deadline: w.in(time.Hour)})[0]
	parked := w.running(m)
	two := w.askAs(&parked, storage.Unit{Status: storage.Parked}, storage.Question{Deadline: w.in(time.Hour)})[0]
	w.clock.advance(2 * time.Hour)
	w.true(len(w.poll(other, 10).Runs) == 0, "Poll took a run that is not to be taken")
	w.state(one, storage.Expired)
	w.state(two, storage.Expired)
	r := w.status(running, storage.Running)
	w.true(r.Inbox > running.Inbox && r.Owner == m.ID() && r.Token == running.Token, "inbox %d, owner %s", r.Inbox, r.Owner)
	c := w.append(&r, storage.Unit{Status: storage.Interrupted, SeenInbox: running.Inbox})
	w.true(c.Kept, "the owner could give the run up without having seen the expiry")
	r = w.status(parked, storage.Parked)
	w.true(r.Inbox > parked.Inbox, "inbox %d after %d", r.Inbox, parked.Inbox)
}

func pollDead(w *world) {
	dying, m := w.join(), w.join()
	r := w.running(dying)
	w.append(&r, storage.Unit{})
	q := w.ask(&r, storage.Question{})[0]
	foreign := w.start(storage.Start{Run: storage.Run{Owner: dying.ID(), Entrypoint: "other"}})
	w.true(len(w.poll(m, 10).Runs) == 0, "Poll took a living owner's run")
	w.kill(dying)
	p := w.poll(m, 10)
	same(w, "runs to take over", ids(p.Runs), []storage.ID{r.ID})
	got := p.Runs[0]
	w.true(got.Owner == m.ID() && got.Token > r.Token && got.LastSeq == r.LastSeq, "owner %s, token %d, last record %d", got.Owner, got.Token, got.LastSeq)
	w.is(w.tryAppend(unit(r, storage.Unit{})).Err, storage.ErrStale, "Append by the dead owner")
	w.state(q, storage.Open)
	w.status(foreign, storage.Running)
	same(w, "runs of the other entrypoint", ids(w.poll(m, 10, "other").Runs), []storage.ID{foreign.ID})
}

func pollCrashes(w *world) {
	m := w.join()
	dying := w.join()
	r := w.running(dying)
	takeover := func(want int) {
		w.Helper()
		w.kill(dying)
		dying = w.join()
		p := w.poll(dying, 1)
		same(w, "runs to take over", ids(p.Runs), []storage.ID{r.ID})
		r = p.Runs[0]
		w.true(r.Crashes == want && w.run(r).Crashes == want, "%d crashes, want %d", r.Crashes, want)
	}
	takeover(1)
	takeover(2)
	takeover(3)
	w.append(&r, storage.Unit{})
	w.true(r.Crashes == 0, "%d crashes after a new record", r.Crashes)
	takeover(0) // the owner that died had made a record
	takeover(1)
	// Acquire counts as Poll does.
	w.kill(dying)
	r = w.acquire(r, m, storage.Running)
	w.true(r.Crashes == 2, "%d crashes, want 2", r.Crashes)
	// A member that takes its own run again has not crashed.
	r = w.acquire(r, m, storage.Running)
	w.true(r.Crashes == 2, "%d crashes, want 2", r.Crashes)
	w.append(&r, storage.Unit{Status: storage.Queued})
	r = w.poll(m, 1).Runs[0]
	w.true(r.Crashes == 0, "%d crashes after a release", r.Crashes)
}

func pollTenants(w *world) {
	m := w.join()
	var want []storage.ID
	for _, tenant := range []string{"one", "two", "three"} {
		want = append(want, w.start(storage.Start{Run: storage.Run{Tenant: tenant}}).ID)
		w.clock.advance(time.Second)
	}
	same(w, "runs of all tenants", ids(w.poll(m, 10).Runs), want)
}

func pollConcurrently(w *world) {
	const n = 60
	var want []storage.Run
	m := w.join()
	for i := range n {
		switch i % 3 {
		case 0:
			want = append(want, w.start(storage.Start{}))
		case 1:
			r, q := w.waiting(m, storage.Question{Deadline: w.in(time.Minute)})
			_ = q
			want = append(want, r)
		case 2:
			r := w.running(m)
			w.append(&r, storage.Unit{Status: storage.Interrupted, Due: w.in(time.Minute)})
			want = append(want, r)
		}
	}
	w.clock.advance(time.Hour)
	w.takenOnce(want)
}

func pollConcurrentlyDead(w *world) {
	dying := w.join()
	var want []storage.Run
	for range 40 {
		want = append(want, w.running(dying))
	}
	w.kill(dying)
	w.takenOnce(want)
}

// takenOnce polls with 8 members at once until nothing is left, and checks that each run was given
// to one of them.
func (w *world) takenOnce(want []storage.Run) {
	w.Helper()
	const pollers = 8
	members := make([]storage.Membership, pollers)
	for i := range members {
		members[i] = w.join()
	}
	var mu sync.Mutex
	owners := map[storage.ID][]storage.ID{}
	taken := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(owners)
	}
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	concurrently(w, pollers, func(i int) (int, error) {
		// An empty answer may mean that others are at work on what is left: only the
		// number of runs taken says that all is done.
		for taken() < len(want) && ctx.Err() == nil {
			p, err := w.b.Poll(ctx, storage.Poll{Member: members[i].ID(), Entrypoints: []string{graph}, Limit: 7})
			if err != nil {
				return 0, err
			}
			mu.Lock()
			for _, r := range p.Runs {
				owners[r.ID] = append(owners[r.ID], r.Owner)
				if r.Owner != members[i].ID() {
					mu.Unlock()
					return 0, fmt.Errorf("poller %d was given a run of %s", i, r.Owner)
				}
			}
			mu.Unlock()
		}
		return 0, ctx.Err()
	})
	for _, r := range want {
		list := owners[r.ID]
		w.true(len(list) == 1, "run %s was given to %d members", r.ID, len(list))
		got := w.status(r, storage.Running)
		w.true(got.Owner == list[0], "run %s is owned by %s, was given to %s", r.ID, got.Owner, list[0])
	}
	for _, m := range members {
		w.true(len(w.poll(m, 10).Runs) == 0, "a run was given once more")
	}
}
