package storagetest

import (
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var copyCases = []testCase{
	{"CopiesRunsLogsAndMetadata", copyThread},
	{"CopiesForks", copyForks},
	{"ActiveRunIsCopiedAsCancelled", copyActive},
	{"CopiesQuestions", copyQuestions},
	{"CopyIsIndependent", copyIndependent},
	{"CopySaysWhoseItsRecordsAre", copyParts},
	{"TargetWithARunIsBusy", copyBusy},
	{"UnknownIsNotFound", copyUnknown},
}

func (w *world) copied(from, to string) []storage.Run {
	w.Helper()
	w.ok(w.b.CopyThread(w.ctx, tenant, from, to), "CopyThread")
	return w.listRuns(storage.RunFilter{Thread: to})
}

func copyThread(w *world) {
	m := w.join()
	runs := w.history(m)
	from := runs[0].Thread
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: from, Metadata: map[string]string{"a": "b"}}), "PutThread")
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: "to", Metadata: map[string]string{"c": "d"}}), "PutThread")
	before := w.listRuns(storage.RunFilter{Thread: from})
	copies := w.copied(from, "to")
	w.true(len(copies) == len(before), "%d runs, want %d", len(copies), len(before))
	name := map[storage.ID]storage.ID{} // of each run in the copy
	for i, c := range copies {
		name[before[i].ID] = c.ID
	}
	for i, c := range copies {
		old := before[i]
		w.true(c.ID != old.ID && c.Number > before[0].Number, "copy has the id %s and the number %d", c.ID, c.Number)
		want := old
		want.ID, want.Thread, want.Number = c.ID, "to", c.Number
		want.Previous, want.Parent.Run = name[old.Previous], name[old.Parent.Run]
		want.Copied = []storage.Part{{Run: old.ID, Seq: old.LastSeq}}
		want.Token, want.Inbox, want.Updated = c.Token, c.Inbox, c.Updated
		same(w, "copied run", c, want)
		got, wanted := w.load(c), w.load(old)
		same(w, "copied records", texts(got.Records), texts(wanted.Records))
		same(w, "copied previous", got.Previous, wanted.Previous)
	}
	same(w, "copied metadata", w.thread("to").Metadata, map[string]string{"a": "b"})
	same(w, "the source", w.listRuns(storage.RunFilter{Thread: from}), before)

	// A thread of metadata alone has a copy, too.
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: "empty", Metadata: map[string]string{"e": "f"}}), "PutThread")
	w.true(len(w.copied("empty", "empty copy")) == 0, "the copy of an empty thread has runs")
	same(w, "copied metadata", w.thread("empty copy").Metadata, map[string]string{"e": "f"})
}

func copyForks(w *world) {
	m := w.join()
	runs := w.history(m)
	from := runs[0].Thread
	a := w.start(storage.Start{Run: storage.Run{Thread: from, Owner: m.ID()}, From: &storage.Checkpoint{Run: runs[1].ID}, ForkSeq: 2})
	w.append(&a, storage.Unit{Records: records("c")})
	w.finish(&a, "a")
	b := w.start(storage.Start{Run: storage.Run{Thread: from, Owner: m.ID()}, From: &storage.Checkpoint{Run: a.ID}, ForkSeq: 3})
	w.append(&b, storage.Unit{Records: records("d")})
	w.finish(&b, "b")
	copies := w.copied(from, "to")
	w.true(len(copies) == 5, "%d runs, want 5", len(copies))
	// The copy stands alone.
	w.ok(w.b.DeleteThread(w.ctx, tenant, from), "DeleteThread")
	same(w, "records", w.data(copies[0]), []string{"a2", "b2", "c", "d", "record 5"})
	same(w, "records", w.data(copies[1]), []string{"a2", "b2", "c", "record 4"})
	w.true(copies[0].Parent.Run == copies[1].ID && copies[0].ForkSeq == 3, "parent %v, fork %d", copies[0].Parent, copies[0].ForkSeq)
	same(w, "runs removed", w.prune("to"), 2)
	same(w, "records", w.data(copies[0]), []string{"a2", "b2", "c", "d", "record 5"})
}

func copyActive(w *world) {
	dying, m := w.join(), w.join()
	for _, make := range []func() storage.Run{
		func() storage.Run { return w.start(storage.Start{Run: storage.Run{Due: w.in(time.Hour)}}) },
		func() storage.Run { return w.running(m) },
		func() storage.Run { return w.running(dying) },
		func() storage.Run { return w.inStatus(m, storage.Interrupted) },
		func() storage.Run { return w.inStatus(m, storage.Parked) },
	} {
		r := make()
		to := w.name("copy")
		copies := w.copied(r.Thread, to)
		w.true(len(copies) == 1, "%d runs", len(copies))
		c := w.status(copies[0], storage.Cancelled)
		w.true(c.Due.IsZero() && c.LastSeq == r.LastSeq, "due %v, last record %d", c.Due, c.LastSeq)
		same(w, "the source", w.run(r), r)
		w.start(storage.Start{Run: storage.Run{Thread: to, Status: storage.Finished}})
	}
	w.kill(dying)
	w.clock.advance(2 * time.Hour)
	for _, r := range w.poll(m, 10).Runs {
		w.true(r.Thread[:4] != "copy", "Poll took a run of a copy")
	}
}

func copyQuestions(w *world) {
	m := w.join()
	r := w.running(m)
	asked := w.pause(&r, storage.Question{Name: "answered", Payload: []byte("p")},
		storage.Question{Name: "open", Unique: "u", Deadline: w.in(time.Hour)})
	w.settle(answer(asked[0], "yes"))
	r = w.run(r)
	last := w.question(asked[0]).Change
	c := w.copied(r.Thread, "to")[0]
	got := w.load(c).Questions
	w.true(len(got) == 2, "%d questions, want 2", len(got))
	for i, want := range w.load(r).Questions {
		q := got[i]
		w.true(q.ID != want.ID && q.Change > last, "copied question has the id %s and the change %d", q.ID, q.Change)
		if want.State == storage.Open {
			want.State, want.Settled = storage.Withdrawn, q.Settled
			w.true(!q.Settled.IsZero(), "a withdrawn question has no time")
		}
		want.ID, want.Thread, want.Run, want.Change = q.ID, "to", c.ID, q.Change
		same(w, "copied question", q, want)
	}
	w.state(asked[1], storage.Open)
	w.true(len(w.changes(last, 10)) == 2, "the copies are not in the feed")
}

func copyIndependent(w *world) {
	m := w.join()
	r := w.running(m)
	for range 9 {
		w.append(&r, storage.Unit{})
	}
	w.append(&r, storage.Unit{Status: storage.Failed})
	c := w.copied(r.Thread, "to")[0]
	before := w.data(r)
	r, c = w.acquire(r, m, storage.Failed), w.acquire(c, m, storage.Failed)
	w.append(&r, storage.Unit{Records: records("source")})
	w.append(&c, storage.Unit{Records: records("copy 1", "copy 2")})
	same(w, "records of the source", w.data(r), append(slices.Clone(before), "source"))
	same(w, "records of the copy", w.data(c), append(slices.Clone(before), "copy 1", "copy 2"))
}

func copyParts(w *world) {
	m := w.join()
	r := w.running(m)
	w.append(&r, storage.Unit{Records: records("1", "2")})
	first := w.copied(r.Thread, "first")[0]
	want := []storage.Part{{Run: r.ID, Seq: 2}}
	same(w, "the copy's parts", first.Copied, want)
	first = w.acquire(first, m, storage.Cancelled)
	w.append(&first, storage.Unit{Records: records("3"), Status: storage.Failed})
	same(w, "the parts of the copy that went on", first.Copied, want)
	w.append(&r, storage.Unit{Records: records("3", "4"), Status: storage.Failed})

	fork := w.start(storage.Start{Run: storage.Run{Thread: "first", Owner: m.ID()}, From: &storage.Checkpoint{Run: first.ID}, ForkSeq: 1})
	w.true(fork.Copied == nil, "a fork has the parts %v", fork.Copied)
	copies := w.copied("first", "second")
	same(w, "the parts of a copy's copy", copies[1].Copied, append(want, storage.Part{Run: first.ID, Seq: 3}))
	same(w, "the parts of a copied fork", copies[0].Copied, []storage.Part{{Run: fork.ID, Seq: 1}})
	same(w, "the same read alone", w.run(copies[1]).Copied, copies[1].Copied)
	same(w, "the original's parts", w.run(r).Copied, nil)
}

func copyBusy(w *world) {
	m := w.join()
	from, to := w.running(m), w.running(m)
	w.finish(&to, "done")
	w.busy(w.b.CopyThread(w.ctx, tenant, from.Thread, to.Thread), to.ID, "CopyThread")
	w.busy(w.b.CopyThread(w.ctx, tenant, from.Thread, from.Thread), from.ID, "CopyThread onto itself")
	same(w, "runs of the target", w.runsOf(to.Thread), []storage.ID{to.ID})
}

func copyUnknown(w *world) {
	w.is(w.b.CopyThread(w.ctx, tenant, "nowhere", "to"), storage.ErrNotFound, "CopyThread")
	_, err := w.b.GetThread(w.ctx, tenant, "to")
	w.is(err, storage.ErrNotFound, "GetThread")
}
