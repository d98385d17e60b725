package storagetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var threadCases = []testCase{
	{"HeadOfNothing", headOfNothing},
	{"HeadFollowsTheLatestRun", headFollows},
	{"HeadHasTheRunThatHoldsTheValue", headLast},
	{"PutSetsMetadata", threadPut},
	{"GetOfAThreadThatOnlyHasRuns", threadOfRuns},
	{"ListsByID", threadList},
	{"ListFilters", threadFilters},
	{"ListRuns", runsListed},
	{"ListRunsByPage", runsPaged},
	{"DeleteRemovesEverything", threadDelete},
	{"DeleteSparesALivingOwner", threadDeleteBusy},
	{"PruneKeepsThePresent", threadPrune},
	{"PruneKeepsWhatAForkShares", threadPruneForks},
	{"PruneOfAWaitingThread", threadPruneWaiting},
}

func headOfNothing(w *world) {
	before := w.now()
	head := w.head("nowhere")
	w.true(!head.Now.Before(before), "Head says it is %v, Now said %v", head.Now, before)
	same(w, "Head of an unknown thread", head, storage.Head{Now: head.Now})
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: "empty"}), "PutThread")
	head = w.head("empty")
	same(w, "Head of a thread without a run", head, storage.Head{Now: head.Now})
}

func headFollows(w *world) {
	dying, m := w.join(), w.join()
	first := w.running(dying)
	head := w.head(first.Thread)
	same(w, "Head of a running run", head, storage.Head{Run: &first, Alive: true, Now: head.Now})
	w.kill(dying)
	head = w.head(first.Thread)
	same(w, "Head of a dead owner's run", head, storage.Head{Run: &first, Now: head.Now})
	r := w.acquire(first, m, storage.Running)
	asked := w.ask(&r, storage.Question{Seq: 1}, storage.Question{Seq: 1, Name: "answered"})
	later := w.ask(&r, storage.Question{Name: "later"})
	w.settle(answer(asked[1], "yes"))
	r = w.run(r)
	head = w.head(r.Thread)
	same(w, "Head with open questions", head, storage.Head{Run: &r, Open: []storage.Question{asked[0], later[0]}, Alive: true, Now: head.Now})
	w.finish(&r, "done")
	next := w.next(r, m)
	head = w.head(r.Thread)
	same(w, "Head of the next run", head, storage.Head{Run: &next, Last: &r, Alive: true, Now: head.Now})
}

func headLast(w *world) {
	m := w.join()
	r := w.running(m)
	w.append(&r, storage.Unit{Status: storage.Failed})
	w.true(w.head(r.Thread).Last == nil, "a failed run holds the thread's value")
	one := w.next(r, m)
	w.append(&one, storage.Unit{Status: storage.Finished, Result: []byte("result"), Saved: []byte("saved")})
	last := w.head(r.Thread).Last
	w.true(last != nil, "nothing holds the thread's value")
	same(w, "Head.Last", *last, one)
	failed := w.next(one, m)
	w.append(&failed, storage.Unit{Status: storage.Failed})
	same(w, "Head.Last after a failed run", *w.head(r.Thread).Last, one)
	// A run that started from an earlier point holds what it started with.
	back := w.start(storage.Start{Run: storage.Run{Thread: r.Thread, Owner: m.ID()}, From: &storage.Checkpoint{Run: one.ID}})
	w.true(w.head(r.Thread).Last == nil, "the thread's value is not that of before the first result")
	w.finish(&back, "back")
	same(w, "Head.Last", *w.head(r.Thread).Last, back)
}

func (w *world) thread(id string) storage.Thread {
	w.Helper()
	t, err := w.b.GetThread(w.ctx, tenant, id)
	w.ok(err, "GetThread")
	return t
}

func threadPut(w *world) {
	_, err := w.b.GetThread(w.ctx, tenant, "one")
	w.is(err, storage.ErrNotFound, "GetThread")
	w.is(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant}), storage.ErrInvalid, "PutThread without an id")
	before := w.now()
	put := storage.Thread{Tenant: tenant, ID: "one", Metadata: map[string]string{"a": "1", "b": "2"}}
	w.ok(w.b.PutThread(w.ctx, put), "PutThread")
	got := w.thread("one")
	w.true(!got.Created.Before(before) && got.Updated.Equal(got.Created), "created %v, updated %v", got.Created, got.Updated)
	put.Created, put.Updated = got.Created, got.Updated
	same(w, "thread", got, put)

	w.clock.advance(time.Hour)
	put.Metadata = map[string]string{"b": "3"}
	w.ok(w.b.PutThread(w.ctx, put), "PutThread again")
	again := w.thread("one")
	w.true(again.Created.Equal(got.Created) && again.Updated.After(got.Updated), "created %v, updated %v", again.Created, again.Updated)
	same(w, "metadata", again.Metadata, put.Metadata)
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: "one"}), "PutThread of no metadata")
	w.true(w.thread("one").Metadata == nil, "metadata %v", w.thread("one").Metadata)
}

func threadOfRuns(w *world) {
	m := w.join()
	r := w.running(m)
	got := w.thread(r.Thread)
	same(w, "thread", got, storage.Thread{Tenant: tenant, ID: r.Thread, Created: got.Created, Updated: got.Updated})
	w.true(!got.Created.After(r.Created) && !got.Updated.Before(got.Created), "created %v, updated %v; its run %v", got.Created, got.Updated, r.Created)
	w.finish(&r, "done")
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: r.Thread, Metadata: map[string]string{"a": "b"}}), "PutThread")
	w.true(w.thread(r.Thread).Created.Equal(got.Created), "PutThread changed Created")
	same(w, "the run", *w.head(r.Thread).Run, r)
}

func (w *world) listThreads(f storage.ThreadFilter) []string {
	w.Helper()
	f.Tenant = tenant
	list, err := w.b.ListThreads(w.ctx, f)
	w.ok(err, "ListThreads")
	var ids []string
	for _, t := range list {
		ids = append(ids, t.ID)
		same(w, "thread as GetThread reads it", t, w.thread(t.ID))
	}
	return ids
}

func threadList(w *world) {
	// Bytes order the ids, no language does.
	want := []string{" ", "-", "A", "B", "Z", "a", "a b", "a-b", "ab", "b", "é", "日本", "🎵"}
	for i, id := range slices.Backward(want) {
		if i%2 == 0 {
			w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: id}), "PutThread")
		} else {
			w.start(storage.Start{Run: storage.Run{Thread: id}})
		}
	}
	same(w, "threads", w.listThreads(storage.ThreadFilter{}), want)
	paged := byPages(w, 4, func(last *string) []string {
		f := storage.ThreadFilter{Limit: 4}
		if last != nil {
			f.After = *last
		}
		return w.listThreads(f)
	})
	same(w, "threads by pages", paged, want)
	same(w, "threads after one that is not there", w.listThreads(storage.ThreadFilter{After: "Y"}), want[4:])
}

func threadFilters(w *world) {
	m := w.join()
	put := func(id string, metadata map[string]string) {
		w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: id, Metadata: metadata}), "PutThread")
	}
	put("a", map[string]string{"user": "bob", "team": "x"})
	a := w.start(storage.Start{Run: storage.Run{Thread: "a", Owner: m.ID()}})
	w.finish(&a, "done")
	b := w.start(storage.Start{Run: storage.Run{Thread: "b", Owner: m.ID(), Metadata: map[string]string{"user": "bob"}}})
	w.pause(&b, storage.Question{})
	put("c", map[string]string{"user": "bob"})
	w.start(storage.Start{Run: storage.Run{Thread: "d", Entrypoint: "other"}})
	put("d", map[string]string{"user": "bobby", "": ""})
	// A thread whose latest run is another than its first.
	e := w.start(storage.Start{Run: storage.Run{Thread: "e", Entrypoint: "other", Owner: m.ID()}})
	w.finish(&e, "done")
	e = w.next(e, m)
	w.append(&e, storage.Unit{Status: storage.Failed})
	for _, c := range []struct {
		name string
		f    storage.ThreadFilter
		want []string
	}{
		{"all", storage.ThreadFilter{}, []string{"a", "b", "c", "d", "e"}},
		{"entrypoint", storage.ThreadFilter{Entrypoint: "other"}, []string{"d"}},
		{"entrypoint of latest", storage.ThreadFilter{Entrypoint: graph}, []string{"a", "b", "e"}},
		{"finished", storage.ThreadFilter{Statuses: []storage.Status{storage.Finished}}, []string{"a"}},
		{"two statuses", storage.ThreadFilter{Statuses: []storage.Status{storage.Failed, storage.Interrupted}}, []string{"b", "e"}},
		{"metadata", storage.ThreadFilter{Metadata: map[string]string{"user": "bob"}}, []string{"a", "c"}},
		{"two of metadata", storage.ThreadFilter{Metadata: map[string]string{"user": "bob", "team": "x"}}, []string{"a"}},
		{"empty metadata", storage.ThreadFilter{Metadata: map[string]string{"": ""}}, []string{"d"}},
		{"absent metadata", storage.ThreadFilter{Metadata: map[string]string{"team": ""}}, nil},
		{"all of them", storage.ThreadFilter{Entrypoint: graph, Statuses: []storage.Status{storage.Finished}, Metadata: map[string]string{"team": "x"}, After: "Z", Limit: 1}, []string{"a"}},
		{"after and limit", storage.ThreadFilter{After: "b", Limit: 2}, []string{"c", "d"}},
	} {
		same(w, c.name, w.listThreads(c.f), c.want)
	}
}

func (w *world) listRuns(f storage.RunFilter) []storage.Run {
	w.Helper()
	f.Tenant = tenant
	list, err := w.b.ListRuns(w.ctx, f)
	w.ok(err, "ListRuns")
	for _, r := range list {
		same(w, "run as Run reads it", r, w.run(r))
	}
	return list
}

func runsListed(w *world) {
	m := w.join()
	a := w.start(storage.Start{Run: storage.Run{Thread: "one", Owner: m.ID(), Metadata: map[string]string{"user": "bob", "k": "v"}}})
	w.finish(&a, "a")
	b := w.start(storage.Start{Run: storage.Run{Thread: "two", Entrypoint: "other", Metadata: map[string]string{"user": "bob"}}})
	c := w.start(storage.Start{Run: storage.Run{Thread: "one", Source: storage.Update, Status: storage.Finished, Result: []byte("c")}})
	d := w.start(storage.Start{Run: storage.Run{Thread: "one", Source: storage.Fork, Owner: m.ID()}})
	w.pause(&d, storage.Question{})
	for _, x := range []struct {
		name string
		f    storage.RunFilter
		want []storage.ID
	}{
		{"all", storage.RunFilter{}, []storage.ID{d.ID, c.ID, b.ID, a.ID}},
		{"thread", storage.RunFilter{Thread: "one"}, []storage.ID{d.ID, c.ID, a.ID}},
		{"unknown thread", storage.RunFilter{Thread: "three"}, nil},
		{"entrypoint", storage.RunFilter{Entrypoint: "other"}, []storage.ID{b.ID}},
		{"status", storage.RunFilter{Statuses: []storage.Status{storage.Finished}}, []storage.ID{c.ID, a.ID}},
		{"two statuses", storage.RunFilter{Statuses: []storage.Status{storage.Queued, storage.Interrupted}}, []storage.ID{d.ID, b.ID}},
		{"the source input", storage.RunFilter{Sources: []storage.Source{storage.Input}}, []storage.ID{b.ID, a.ID}},
		{"two sources", storage.RunFilter{Sources: []storage.Source{storage.Update, storage.Fork}}, []storage.ID{d.ID, c.ID}},
		{"metadata", storage.RunFilter{Metadata: map[string]string{"user": "bob"}}, []storage.ID{b.ID, a.ID}},
		{"two of metadata", storage.RunFilter{Metadata: map[string]string{"user": "bob", "k": "v"}}, []storage.ID{a.ID}},
		{"absent metadata", storage.RunFilter{Metadata: map[string]string{"k": ""}}, nil},
		{"before", storage.RunFilter{Before: c.Number}, []storage.ID{b.ID, a.ID}},
		{"before and limit", storage.RunFilter{Before: d.Number, Limit: 1}, []storage.ID{c.ID}},
		{"thread and status", storage.RunFilter{Thread: "one", Statuses: []storage.Status{storage.Interrupted}}, []storage.ID{d.ID}},
	} {
		same(w, x.name, ids(w.listRuns(x.f)), x.want)
	}
}

func runsPaged(w *world) {
	var want []storage.ID
	for range 105 {
		want = append(want, w.start(storage.Start{}).ID)
	}
	slices.Reverse(want)
	list := w.listRuns(storage.RunFilter{})
	w.true(len(list) == 100, "%d runs without a limit, want 100", len(list))
	paged := byPages(w, 25, func(last *storage.Run) []storage.Run {
		f := storage.RunFilter{Limit: 25}
		if last != nil {
			f.Before = last.Number
		}
		return w.listRuns(f)
	})
	same(w, "runs by pages", ids(paged), want)
}

func threadDelete(w *world) {
	dying, m := w.join(), w.join()
	other := w.running(m)
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: "gone", Metadata: map[string]string{"a": "b"}}), "PutThread")
	first := w.start(storage.Start{Run: storage.Run{Thread: "gone", Owner: m.ID()}})
	w.finish(&first, "done")
	fork := w.start(storage.Start{Run: storage.Run{Thread: "gone", Owner: dying.ID()}, From: &storage.Checkpoint{Run: first.ID}, ForkSeq: 1})
	q := w.ask(&fork, storage.Question{Name: "n", Unique: "u", Deadline: w.in(time.Hour)})[0]
	w.kill(dying)
	waiting, _ := w.waiting(m, storage.Question{Deadline: w.in(time.Hour)})
	w.ok(w.b.DeleteThread(w.ctx, tenant, "gone"), "DeleteThread")
	w.ok(w.b.DeleteThread(w.ctx, tenant, waiting.Thread), "DeleteThread of a waiting thread")

	for _, r := range []storage.Run{first, fork} {
		_, err := w.b.Run(w.ctx, tenant, r.ID)
		w.is(err, storage.ErrNotFound, "Run")
		_, err = w.b.Load(w.ctx, tenant, r.ID)
		w.is(err, storage.ErrNotFound, "Load")
		_, _, err = w.b.Log(w.ctx, tenant, r.ID, 0, 0)
		w.is(err, storage.ErrNotFound, "Log")
		w.is(w.tryAppend(unit(r, storage.Unit{})).Err, storage.ErrNotFound, "Append")
	}
	_, err := w.b.Question(w.ctx, tenant, q.ID)
	w.is(err, storage.ErrNotFound, "Question")
	w.is(w.trySettle(answer(q, "late")).Err, storage.ErrNotFound, "Settle")
	_, err = w.b.GetThread(w.ctx, tenant, "gone")
	w.is(err, storage.ErrNotFound, "GetThread")
	w.true(w.head("gone").Run == nil, "Head has a run")
	w.true(len(w.list(storage.QuestionFilter{})) == 0, "the question is still listed")
	for range 2 { // before and after what would be due
		p := w.poll(m, 10)
		w.true(len(p.Runs) == 0 && p.Next.IsZero(), "Poll took %v, next %v", ids(p.Runs), p.Next)
		w.clock.advance(2 * time.Hour)
	}
	w.status(other, storage.Running)
	w.ok(w.b.DeleteThread(w.ctx, tenant, "gone"), "DeleteThread again")

	// The thread, the run's id and the unique key are free.
	again := w.start(storage.Start{Run: storage.Run{ID: first.ID, Thread: "gone", Owner: m.ID()}})
	w.true(again.Step == -1 && again.Previous.IsZero() && again.LastSeq == 0, "run %+v", again)
	w.ask(&again, storage.Question{Name: "n", Unique: "u"})
	w.true(w.thread("gone").Metadata == nil, "the metadata is still there")
}

func threadDeleteBusy(w *world) {
	m := w.join()
	r := w.running(m)
	q := w.ask(&r, storage.Question{})[0]
	busy := w.busy(w.b.DeleteThread(w.ctx, tenant, r.Thread), r.ID, "DeleteThread")
	w.true(busy.Alive && busy.Open == 1, "alive %v, open %d", busy.Alive, busy.Open)
	w.state(q, storage.Open)
	w.append(&r, storage.Unit{Status: storage.Interrupted})
	w.ok(w.b.DeleteThread(w.ctx, tenant, r.Thread), "DeleteThread of a waiting thread")
}

func (w *world) prune(thread string) int {
	w.Helper()
	n, err := w.b.PruneThread(w.ctx, tenant, thread)
	w.ok(err, "PruneThread")
	return n
}

func (w *world) runsOf(thread string) []storage.ID {
	w.Helper()
	return ids(w.listRuns(storage.RunFilter{Thread: thread}))
}

func threadPrune(w *world) {
	m := w.join()
	same(w, "runs removed from an unknown thread", w.prune("nowhere"), 0)
	runs := w.history(m)
	thread := runs[0].Thread
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: thread, Metadata: map[string]string{"a": "b"}}), "PutThread")
	same(w, "runs removed", w.prune(thread), 2)
	same(w, "runs that are left", w.runsOf(thread), []storage.ID{runs[2].ID})
	_, err := w.b.Load(w.ctx, tenant, runs[0].ID)
	w.is(err, storage.ErrNotFound, "Load of a removed run")
	same(w, "runs removed again", w.prune(thread), 0)
	same(w, "the latest run", w.run(runs[2]), runs[2])
	same(w, "its records", w.data(runs[2]), []string{"a3", "b3", "end3"})
	same(w, "metadata", w.thread(thread).Metadata, map[string]string{"a": "b"})
	next, err := w.tryStart(storage.Start{Run: storage.Run{Thread: thread}})
	w.ok(err, "Start")
	same(w, "previous", next.Previous, []byte("3"))
	w.true(next.Run.Step == runs[2].Step+2, "step %d, want %d", next.Run.Step, runs[2].Step+2)
}

func threadPruneForks(w *world) {
	m := w.join()
	runs := w.history(m)
	thread := runs[0].Thread
	fork := func(from storage.Run, seq int64) storage.Run {
		r := w.start(storage.Start{Run: storage.Run{Thread: thread, Owner: m.ID()}, From: &storage.Checkpoint{Run: from.ID}, ForkSeq: seq})
		w.append(&r, storage.Unit{Records: records("own")})
		w.append(&r, storage.Unit{Status: storage.Failed})
		return r
	}
	a := fork(runs[2], 2)
	b := fork(a, 3)
	// b holds what it began with, the result of runs[1]; it shares records of a, and through it of runs[2].
	same(w, "runs removed", w.prune(thread), 1)
	same(w, "runs that are left", w.runsOf(thread), []storage.ID{b.ID, a.ID, runs[2].ID, runs[1].ID})
	same(w, "records of the fork", w.data(b), []string{"a3", "b3", "own", "own", "record 5"})
	last := w.head(thread).Last
	w.true(last != nil && last.ID == runs[1].ID, "the thread's value is gone")
	// A fork that shares nothing keeps nobody.
	r := w.start(storage.Start{Run: storage.Run{Thread: thread, Owner: m.ID()}, From: &storage.Checkpoint{Run: runs[1].ID, End: true}})
	w.finish(&r, "done")
	same(w, "runs removed", w.prune(thread), 4)
	same(w, "runs that are left", w.runsOf(thread), []storage.ID{r.ID})
}

func threadPruneWaiting(w *world) {
	m := w.join()
	first := w.running(m)
	old := w.ask(&first, storage.Question{})[0]
	w.finish(&first, "1")
	failed := w.next(first, m)
	w.append(&failed, storage.Unit{Status: storage.Failed})
	gone := w.ask(new(w.acquire(failed, m, storage.Failed)), storage.Question{})[0]
	failed = w.run(failed)
	w.append(&failed, storage.Unit{Status: storage.Failed})
	r := w.next(failed, m)
	q := w.pause(&r, storage.Question{})[0]
	same(w, "runs removed", w.prune(r.Thread), 1)
	same(w, "runs that are left", w.runsOf(r.Thread), []storage.ID{r.ID, first.ID})
	_, err := w.b.Question(w.ctx, tenant, gone.ID)
	w.is(err, storage.ErrNotFound, "Question of a removed run")
	w.state(old, storage.Withdrawn)
	same(w, "previous", w.load(r).Previous, []byte("1"))
	s := answer(q, "yes")
	s.Member = m.ID()
	r = w.settle(s).Run
	w.finish(&r, "2")
	same(w, "runs removed", w.prune(r.Thread), 1)
	same(w, fmt.Sprint("questions of ", r.Thread), questionIDs(w.list(storage.QuestionFilter{Thread: r.Thread})), []storage.ID{q.ID})
}
