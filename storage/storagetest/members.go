package storagetest

import (
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var memberCases = []testCase{
	{"LiveUntilTheyLeave", membersLive},
	{"LeaveGivesUpTheRuns", membersLeave},
	{"NothingIsLostToTheDead", membersDead},
}

var secondCases = []testCase{
	{"SeesWhatTheOtherWrote", secondSees},
	{"MembersLiveForBoth", secondMembers},
	{"CloseOfOneEndsItsMembers", secondClose},
	{"OneWinnerAcrossHandles", secondSettle},
	{"OneActiveRunAcrossHandles", secondStart},
	{"OneOwnerAcrossHandles", secondPoll},
}

var reopenCases = []testCase{
	{"KeepsEverything", reopenKeeps},
	{"RunsOfTheEarlierLifeAreTakenOver", reopenTakesOver},
	{"CountersGoOn", reopenCounts},
}

func membersLive(w *world) {
	a, b := w.join(), w.join()
	w.true(a.ID() != b.ID(), "two members have one id")
	for _, m := range []storage.Membership{a, b} {
		select {
		case <-m.Lost():
			w.Fatal("a living member is lost")
		default:
		}
	}
	w.clock.advance(1000 * time.Hour) // the offset makes nobody older
	r := w.running(a)
	w.true(w.head(r.Thread).Alive, "the owner is not alive")
	w.ok(a.Leave(w.ctx), "Leave")
	w.lost(a)
	w.ok(a.Leave(w.ctx), "Leave again")
	w.true(!w.head(r.Thread).Alive, "a member that left is alive")
	select {
	case <-b.Lost():
		w.Fatal("a member is lost because another left")
	default:
	}
	w.running(b)
}

func membersLeave(w *world) {
	a, b := w.join(), w.join()
	var want []storage.ID
	for range 5 {
		want = append(want, w.running(a).ID)
		w.clock.advance(time.Second)
	}
	kept := w.running(b)
	finished := w.inStatus(a, storage.Finished)
	w.ok(a.Leave(w.ctx), "Leave")
	got := map[storage.ID]bool{}
	for _, r := range w.poll(b, 10).Runs {
		got[r.ID] = true
	}
	for _, id := range want {
		w.true(got[id], "a run that was left is not taken over")
	}
	w.true(len(got) == len(want), "%d runs were taken over, want %d", len(got), len(want))
	w.append(&kept, storage.Unit{})
	w.status(finished, storage.Finished)
}

// membersDead: what is given to a member that left is refused, or goes to the next that lives.
func membersDead(w *world) {
	gone, m := w.join(), w.join()
	polled, acquired := w.start(storage.Start{}), w.inStatus(m, storage.Interrupted)
	settled, q := w.waiting(m, storage.Question{})
	w.ok(gone.Leave(w.ctx), "Leave")
	if _, err := w.b.Poll(w.ctx, storage.Poll{Member: gone.ID(), Entrypoints: []string{graph}, Limit: 1}); err != nil {
		w.is(err, storage.ErrClosed, "Poll by a member that left")
	}
	refused := false
	if _, err := w.tryAcquire(acquired, gone, storage.Interrupted); err != nil {
		w.is(err, storage.ErrClosed, "Acquire by a member that left")
		refused = true
	}
	s := answer(q, "yes")
	s.Member = gone.ID()
	w.settle(s)

	w.poll(m, 10)
	for what, r := range map[string]storage.Run{"polled": polled, "acquired": acquired, "settled": settled} {
		now := w.run(r)
		if what == "acquired" && refused {
			same(w, "the run whose Acquire was refused", now, acquired)
			continue
		}
		w.true(now.Status == storage.Running && now.Owner == m.ID(), "the run that was %s is %s, owner %s", what, now.Status, now.Owner)
	}
}

func secondSees(w *world) {
	other := w.second()
	m := w.join()
	r, q := w.waiting(m, storage.Question{Schema: []byte("{}"), Deadline: w.in(time.Hour)})
	w.put(item("v", "k", "n"))
	same(w, "everything", other.everything(), w.everything())
	s := other.settle(answer(q, "yes"))
	same(w, "the question", w.question(q), s.Question)
	w.status(r, storage.Queued)
	r = other.acquire(r, other.join(), storage.Queued)
	other.append(&r, storage.Unit{Records: records("by the other")})
	other.finish(&r, "done")
	same(w, "everything", w.everything(), other.everything())
	a, b := w.now(), other.now()
	w.true(b.Sub(a).Abs() < patience, "one handle says it is %v, the other %v", a, b)
}

func secondMembers(w *world) {
	other := w.second()
	mine, theirs := w.join(), other.join()
	w.true(mine.ID() != theirs.ID(), "two members have one id")
	r := w.running(mine)
	w.true(other.head(r.Thread).Alive, "the other handle takes a living member for dead")
	w.true(len(other.poll(theirs, 10).Runs) == 0, "the other handle took a living member's run")
	_, err := other.tryAcquire(r, theirs, storage.Running)
	w.busy(err, r.ID, "Acquire")
	w.append(&r, storage.Unit{})

	w.kill(mine)
	w.true(!other.head(r.Thread).Alive, "the other handle takes a dead member for living")
	p := other.poll(theirs, 10)
	same(w, "runs to take over", ids(p.Runs), []storage.ID{r.ID})
	w.is(w.tryAppend(unit(r, storage.Unit{})).Err, storage.ErrStale, "Append by the dead owner")
	other.append(&p.Runs[0], storage.Unit{})
}

func secondClose(w *world) {
	other := w.second()
	mine, theirs := w.join(), other.join()
	r := other.running(theirs)
	w.true(w.head(r.Thread).Alive, "the owner is not alive")
	w.ok(other.b.Close(), "Close")
	w.lost(theirs)
	w.true(!w.head(r.Thread).Alive, "a member of a closed handle is alive")
	same(w, "runs to take over", ids(w.poll(mine, 10).Runs), []storage.ID{r.ID})
}

func secondSettle(w *world) {
	handles := []*world{w, w.second()}
	m := w.join()
	for range 5 {
		_, q := w.waiting(m, storage.Question{})
		won := 0
		for _, err := range concurrently(w, 16, func(i int) (error, error) {
			for {
				list, err := handles[i%2].b.Settle(w.ctx, []storage.Settlement{answer(q, "yes")})
				if err != nil || !again(list[0].Err) {
					return list[0].Err, err
				}
			}
		}) {
			if err == nil {
				won++
			} else {
				w.settled(err, storage.Answered, "a loser")
			}
		}
		w.true(won == 1, "%d of 16 attempts won", won)
	}
}

func secondStart(w *world) {
	handles := []*world{w, w.second()}
	for range 5 {
		thread := w.name("thread")
		won := 0
		for _, err := range concurrently(w, 8, func(i int) (error, error) {
			_, err := handles[i%2].tryStart(storage.Start{Run: storage.Run{Thread: thread}})
			return err, nil
		}) {
			if err == nil {
				won++
			} else {
				w.is(err, storage.ErrBusy, "Start")
			}
		}
		w.true(won == 1, "%d of 8 starts on one thread were accepted", won)
	}
}

func secondPoll(w *world) {
	handles := []*world{w, w.second()}
	members := []storage.Membership{w.join(), handles[1].join(), w.join(), handles[1].join()}
	const n = 40
	for range n {
		w.start(storage.Start{})
	}
	var mu sync.Mutex
	owners := map[storage.ID]int{}
	taken := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(owners)
	}
	concurrently(w, len(members), func(i int) (int, error) {
		for taken() < n && w.ctx.Err() == nil {
			p, err := handles[i%2].b.Poll(w.ctx, storage.Poll{Member: members[i].ID(), Entrypoints: []string{graph}, Limit: 3})
			if err != nil {
				return 0, err
			}
			mu.Lock()
			for _, r := range p.Runs {
				owners[r.ID]++
			}
			mu.Unlock()
		}
		return 0, w.ctx.Err()
	})
	for id, times := range owners {
		w.true(times == 1, "run %s was given away %d times", id, times)
	}
}

// reopen closes the database and opens it again, or skips the test.
func (w *world) reopen() {
	w.Helper()
	if w.h.Reopen == nil {
		w.Skip("the harness has no Reopen")
	}
	w.b = w.h.Reopen(w.t, w.b, w.options())
}

func reopenKeeps(w *world) {
	m := w.join()
	runs := w.history(m)
	fork := w.start(storage.Start{Run: storage.Run{Thread: runs[0].Thread, Owner: m.ID()}, From: &storage.Checkpoint{Run: runs[1].ID}, ForkSeq: 2})
	w.append(&fork, storage.Unit{Status: storage.Parked, Error: []byte("diagnosis")})
	r, q := w.waiting(m, storage.Question{
		Name: "n", Key: "k", Path: "graph/ask", Payload: []byte("payload"), Digest: []byte("digest"), Schema: []byte("{}"), Details: []byte{},
		Users: []string{"ada"}, Groups: []string{"ops"}, NotBy: []string{"eve"}, Tags: []string{"t"}, Priority: 3, Unique: "u", Group: "g",
		Deadline: w.in(time.Hour),
	})
	_, answered := w.waiting(m, storage.Question{Schema: []byte("{}")})
	won := answer(answered, "yes")
	won.Key = "attempt"
	w.settle(won)
	due := w.start(storage.Start{Run: storage.Run{Due: w.in(2 * time.Hour), Metadata: map[string]string{"a": "b"}, Config: []byte("c")}})
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: "thread", Metadata: map[string]string{"a": "b"}}), "PutThread")
	vectors := item("v", "k", "n", "m")
	vectors.Vectors, vectors.TTL = [][]float32{{1, 2}}, 9*time.Hour
	w.put(vectors, item("", "empty", "n"))
	before := w.everything()
	changes := w.changes(0, 100)

	w.reopen()
	same(w, "everything", w.everything(), before)
	same(w, "the feed", w.changes(0, 100), changes)
	w.true(w.settle(won).Repeated, "the winning key is forgotten")
	m = w.join()
	p := w.poll(m, 0)
	w.true(p.Next.Equal(q.Deadline), "next %v, want %v", p.Next, q.Deadline)
	c := w.acquire(fork, m, storage.Parked)
	bad := w.tryAppend(unit(c, storage.Unit{Questions: []storage.Question{{ID: w.newID(), Name: "n", Unique: "u"}}}))
	w.is(bad.Err, storage.ErrUnique, "a second question with the key")
	w.clock.advance(3 * time.Hour)
	got := map[storage.ID]bool{}
	for _, taken := range w.poll(m, 10).Runs {
		got[taken.ID] = true
	}
	w.true(got[r.ID] && got[due.ID] && got[answered.Run] && len(got) == 3, "Poll took %v", got)
	w.state(q, storage.Expired)
}

func reopenTakesOver(w *world) {
	r := w.running(w.join())
	first := unit(r, storage.Unit{})
	w.ok(w.tryAppend(first).Err, "Append")
	w.reopen()
	w.true(!w.head(r.Thread).Alive, "a member of the earlier life is alive")
	m := w.join()
	p := w.poll(m, 10)
	same(w, "runs to take over", ids(p.Runs), []storage.ID{r.ID})
	w.is(w.tryAppend(first).Err, storage.ErrDuplicate, "Append of a unit of the earlier life again")
	late := first
	late.First++
	w.is(w.tryAppend(late).Err, storage.ErrStale, "Append with the token of the earlier life")
	w.append(&p.Runs[0], storage.Unit{})
}

func reopenCounts(w *world) {
	m := w.join()
	r, q := w.waiting(m, storage.Question{})
	w.reopen()
	m = w.join()
	next, asked := w.waiting(m, storage.Question{})
	w.true(next.Number > r.Number, "the number %d follows %d", next.Number, r.Number)
	w.true(asked.Change > q.Change, "the change %d follows %d", asked.Change, q.Change)
	started := w.acquire(r, m, storage.Interrupted)
	w.true(started.Token > r.Token, "the token %d follows %d", started.Token, r.Token)
}
