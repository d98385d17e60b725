package storagetest

import (
	"github.com/fermata-go/fermata/storage"
)

var forkCases = []testCase{
	{"FromBeforeARun", forkBefore},
	{"FromAfterARun", forkAfter},
	{"FromTheBeginning", forkBeginning},
	{"FromWhatIsNotThere", forkUnknown},
	{"SharesRecords", forkShares},
	{"OfAFork", forkOfFork},
	{"GrowsApart", forkGrowsApart},
	{"FromTheRunItSupersedes", forkSupersedes},
	{"BornFinishedAtACheckpoint", forkBornFinished},
}

// history makes a thread with three finished runs, of two records and the end each.
func (w *world) history(m storage.Membership) []storage.Run {
	w.Helper()
	var runs []storage.Run
	thread := w.name("history")
	for _, result := range []string{"1", "2", "3"} {
		r := w.start(storage.Start{Run: storage.Run{Thread: thread, Owner: m.ID()}})
		w.append(&r, storage.Unit{Records: records("a"+result, "b"+result)})
		w.append(&r, storage.Unit{Records: records("end" + result), Status: storage.Finished, Result: []byte(result)})
		runs = append(runs, r)
	}
	return runs
}

func forkBefore(w *world) {
	runs := w.history(w.join())
	at := storage.Checkpoint{Run: runs[1].ID}
	s, err := w.tryStart(storage.Start{Run: storage.Run{Thread: runs[0].Thread, Source: storage.Fork}, From: &at})
	w.ok(err, "Start")
	r := s.Run
	w.true(r.Source == storage.Fork && r.Parent == at && r.ForkSeq == 0 && r.LastSeq == 0, "source %s, parent %v, fork %d, last %d", r.Source, r.Parent, r.ForkSeq, r.LastSeq)
	w.true(r.Step == runs[1].Step+1, "step %d, want %d", r.Step, runs[1].Step+1)
	w.true(r.Previous == runs[0].ID, "previous is %s, want the first run", r.Previous)
	same(w, "Started.Previous", s.Previous, []byte("1"))
	same(w, "records", w.data(r), nil)
	w.true(w.head(r.Thread).Run.ID == r.ID, "the fork is not the thread's latest run")
}

func forkAfter(w *world) {
	runs := w.history(w.join())
	at := storage.Checkpoint{Run: runs[0].ID, End: true}
	s, err := w.tryStart(storage.Start{Run: storage.Run{Thread: runs[0].Thread}, From: &at})
	w.ok(err, "Start")
	r := s.Run
	w.true(r.Parent == at, "parent %v, want %v", r.Parent, at)
	w.true(r.Step == runs[0].Step+2, "step %d, want %d", r.Step, runs[0].Step+2)
	w.true(r.Previous == runs[0].ID, "previous is %s, want the first run", r.Previous)
	same(w, "Started.Previous", s.Previous, []byte("1"))
}

func forkBeginning(w *world) {
	runs := w.history(w.join())
	s, err := w.tryStart(storage.Start{Run: storage.Run{Thread: runs[0].Thread}, From: &storage.Checkpoint{}})
	w.ok(err, "Start")
	r := s.Run
	w.true(r.Parent == storage.Checkpoint{} && r.Step == -1 && r.Previous.IsZero(), "parent %v, step %d, previous %s", r.Parent, r.Step, r.Previous)
	same(w, "Started.Previous", s.Previous, nil)
}

func forkUnknown(w *world) {
	m := w.join()
	runs := w.history(m)
	thread := runs[0].Thread
	failed := w.next(runs[2], m)
	w.append(&failed, storage.Unit{Status: storage.Failed})
	elsewhere := w.running(m)
	w.finish(&elsewhere, "elsewhere")
	for _, c := range []struct {
		name string
		from *storage.Checkpoint
		seq  int64
		want error
	}{
		{"an unknown run", &storage.Checkpoint{Run: w.newID()}, 0, storage.ErrNotFound},
		{"a run of another thread", &storage.Checkpoint{Run: elsewhere.ID, End: true}, 0, storage.ErrNotFound},
		{"the end of a failed run", &storage.Checkpoint{Run: failed.ID, End: true}, 0, storage.ErrInvalid},
		{"more records than there are", &storage.Checkpoint{Run: runs[0].ID}, runs[0].LastSeq + 1, storage.ErrInvalid},
		{"records of the beginning", &storage.Checkpoint{}, 1, storage.ErrInvalid},
		{"records of nothing", nil, 1, storage.ErrInvalid},
		{"a negative number of records", &storage.Checkpoint{Run: runs[0].ID}, -1, storage.ErrInvalid},
	} {
		_, err := w.tryStart(storage.Start{Run: storage.Run{Thread: thread}, From: c.from, ForkSeq: c.seq})
		w.is(err, c.want, "Start from "+c.name)
	}
	w.true(w.head(thread).Run.ID == failed.ID, "a refused start made a run")
}

func forkShares(w *world) {
	m := w.join()
	runs := w.history(m)
	parent := runs[1]
	r := w.start(storage.Start{
		Run:  storage.Run{Thread: parent.Thread, Owner: m.ID(), Source: storage.Fork},
		From: &storage.Checkpoint{Run: parent.ID}, ForkSeq: 2,
	})
	w.true(r.ForkSeq == 2 && r.LastSeq == 2, "fork %d, last %d; want 2, 2", r.ForkSeq, r.LastSeq)
	same(w, "records of the fork", w.load(r).Records, w.load(parent).Records[:2])
	w.append(&r, storage.Unit{Records: records("c", "d")})
	w.true(r.LastSeq == 4, "last record is %d, want 4", r.LastSeq)
	same(w, "records of the fork", w.data(r), []string{"a2", "b2", "c", "d"})
	same(w, "records of the parent", w.data(parent), []string{"a2", "b2", "end2"})
	for _, c := range []struct {
		after int64
		limit int
		want  []string
	}{
		{0, 0, []string{"a2", "b2", "c", "d"}},
		{0, 1, []string{"a2"}},
		{0, 3, []string{"a2", "b2", "c"}},
		{1, 2, []string{"b2", "c"}},
		{2, 0, []string{"c", "d"}},
		{3, 5, []string{"d"}},
		{4, 0, nil},
		{9, 0, nil},
	} {
		run, list, err := w.b.Log(w.ctx, tenant, r.ID, c.after, c.limit)
		w.ok(err, "Log")
		same(w, "run of Log", run, r)
		same(w, "Log", texts(list), c.want)
		for i, rec := range list {
			w.true(rec.Seq == c.after+int64(i)+1, "record %d after %d has the number %d", i, c.after, rec.Seq)
		}
	}
}

func forkOfFork(w *world) {
	m := w.join()
	runs := w.history(m)
	parent := runs[2]
	from := func(r storage.Run, seq int64) storage.Run {
		return w.start(storage.Start{
			Run:  storage.Run{Thread: parent.Thread, Owner: m.ID()},
			From: &storage.Checkpoint{Run: r.ID}, ForkSeq: seq,
		})
	}
	child := from(parent, 2)
	w.append(&child, storage.Unit{Records: records("c3", "c4")})
	w.finish(&child, "child")
	// Beyond the child's own fork: records of both.
	beyond := from(child, 3)
	w.append(&beyond, storage.Unit{Records: records("d4")})
	same(w, "fork beyond a fork", w.data(beyond), []string{"a3", "b3", "c3", "d4"})
	w.true(beyond.Step == child.Step+1 && child.Step == parent.Step+1, "steps %d, %d, %d", parent.Step, child.Step, beyond.Step)
	w.true(beyond.Previous == runs[1].ID, "previous is %s, want that of the first parent", beyond.Previous)
	w.finish(&beyond, "beyond")
	// Within what the child shares itself: records of the parent only.
	within := from(child, 1)
	w.append(&within, storage.Unit{Records: records("e2", "e3", "e4")})
	same(w, "fork within a fork", w.data(within), []string{"a3", "e2", "e3", "e4"})
	w.finish(&within, "within")
	same(w, "fork of three", w.data(from(within, 4)), []string{"a3", "e2", "e3", "e4"})
	same(w, "the first fork", w.data(child), []string{"a3", "b3", "c3", "c4", "record 5"})
}

func forkGrowsApart(w *world) {
	m := w.join()
	parent := w.running(m)
	w.append(&parent, storage.Unit{Records: records("a", "b")})
	q := w.ask(&parent, storage.Question{})[0]
	w.append(&parent, storage.Unit{Status: storage.Failed})
	fork := w.start(storage.Start{
		Run:  storage.Run{Thread: parent.Thread, Owner: m.ID()},
		From: &storage.Checkpoint{Run: parent.ID}, ForkSeq: 3,
	})
	w.true(len(w.load(fork).Questions) == 0, "the fork has its parent's questions")
	same(w, "questions of the parent", w.load(parent).Questions, []storage.Question{w.question(q)})
	w.append(&fork, storage.Unit{Records: records("fork")})
	same(w, "records of the parent", w.data(parent), []string{"a", "b", "record 3", "record 4"})
	same(w, "records of the fork", w.data(fork), []string{"a", "b", "record 3", "fork"})
	w.is(w.tryAppend(unit(parent, storage.Unit{})).Err, storage.ErrStale, "Append to the parent")
	// The parent's unit that the fork shares is not a unit of the fork.
	u := unit(fork, storage.Unit{})
	u.First = 1
	w.is(w.tryAppend(u).Err, storage.ErrStale, "Append of shared records")
}

func forkSupersedes(w *world) {
	m := w.join()
	r := w.running(m)
	w.append(&r, storage.Unit{Records: records("a")})
	q := w.pause(&r, storage.Question{})[0]
	fork := w.start(storage.Start{
		Run:  storage.Run{Thread: r.Thread, Owner: m.ID(), Source: storage.Fork},
		From: &storage.Checkpoint{Run: r.ID}, ForkSeq: 1, Supersede: true,
	})
	w.status(r, storage.Superseded)
	w.state(q, storage.SupersededQuestion)
	w.true(fork.Step == r.Step+1, "step %d, want %d", fork.Step, r.Step+1)
	same(w, "records of the fork", w.data(fork), []string{"a"})
}

func forkBornFinished(w *world) {
	runs := w.history(w.join())
	fork := w.start(storage.Start{
		Run:  storage.Run{Thread: runs[0].Thread, Source: storage.Fork, Status: storage.Finished, Result: []byte("1")},
		From: &storage.Checkpoint{Run: runs[0].ID, End: true},
	})
	// Its one checkpoint is the parent's and one.
	w.true(fork.Step+1 == runs[0].Step+1+1, "step %d, the parent's %d", fork.Step, runs[0].Step)
	head := w.head(fork.Thread)
	w.true(head.Last != nil && head.Last.ID == fork.ID, "the fork does not hold the thread's value")
}
