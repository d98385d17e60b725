package storagetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var appendCases = []testCase{
	{"WritesTheLog", appendWrites},
	{"TimesNeverGoBack", appendTimes},
	{"OldTokenIsStale", appendStaleToken},
	{"RunWithoutOwnerIsStale", appendUnowned},
	{"GapIsInvalid", appendGap},
	{"MalformedIsInvalid", appendInvalid},
	{"UnknownRunIsNotFound", appendUnknown},
	{"RepeatedIsDuplicate", appendDuplicate},
	{"RepeatedAfterATakeoverIsDuplicate", appendDuplicateTakenOver},
	{"RepeatedConcurrentlyIsWrittenOnce", appendConcurrently},
	{"OpensQuestions", appendQuestions},
	{"ClosesQuestions", appendClose},
	{"CloseLeavesOthersAlone", appendCloseOthers},
	{"UniqueKeyIsHeldByOneOpenQuestion", appendUnique},
	{"UniqueKeyIsFreedByEveryEnd", appendUniqueFreed},
	{"ClosesBeforeItOpens", appendUniqueReplaced},
	{"RefusedUnitWritesNothing", appendAtomic},
	{"NoUnits", appendNone},
}

func appendWrites(w *world) {
	m := w.join()
	r := w.running(m)
	before := w.now()
	c := w.append(&r, storage.Unit{Records: records("a", "", "c")})
	after := w.now()
	w.true(!c.At.Before(before) && !c.At.After(after), "committed at %v, between %v and %v", c.At, before, after)
	w.true(!c.Kept && c.Inbox == 0, "kept %v, inbox %d", c.Kept, c.Inbox)
	w.true(r.LastSeq == 3 && r.Status == storage.Running && r.Owner == m.ID() && r.Token == 1, "run %+v", r)
	l := w.load(r)
	same(w, "loaded run", l.Run, r)
	w.true(len(l.Records) == 3, "%d records, want 3", len(l.Records))
	for i, rec := range l.Records {
		w.true(rec.Seq == int64(i)+1, "record %d has the number %d", i, rec.Seq)
		w.true(rec.At.Equal(c.At), "record %d is of %v, the unit of %v", i, rec.At, c.At)
	}
	same(w, "records", texts(l.Records), []string{"a", "", "c"})

	w.append(&r, storage.Unit{Records: records("d")})
	same(w, "records", w.data(r), []string{"a", "", "c", "d"})
	now, list, err := w.b.Log(w.ctx, tenant, r.ID, 2, 1)
	w.ok(err, "Log")
	same(w, "run of Log", now, r)
	same(w, "one record after the second", list, w.load(r).Records[2:3])
}

func appendTimes(w *world) {
	m := w.join()
	r := w.running(m)
	var last time.Time
	for i := range 20 {
		if i == 10 {
			w.clock.advance(time.Hour)
		}
		c := w.append(&r, storage.Unit{})
		w.true(!c.At.Before(last), "unit %d is of %v, after one of %v", i, c.At, last)
		w.true(r.Updated.Equal(c.At), "run was updated at %v, the unit committed at %v", r.Updated, c.At)
		last = c.At
	}
	records := w.load(r).Records
	w.true(records[10].At.Sub(records[9].At) >= time.Hour, "the offset of an hour is not in the records' times")
}

func appendStaleToken(w *world) {
	dying, m := w.join(), w.join()
	old := w.running(dying)
	w.append(&old, storage.Unit{})
	w.kill(dying)
	r := w.acquire(old, m, storage.Running)
	w.true(r.Token > old.Token, "token %d after a change of owner, %d before", r.Token, old.Token)
	w.is(w.tryAppend(unit(old, storage.Unit{Status: storage.Finished})).Err, storage.ErrStale, "Append by the old owner")
	w.append(&r, storage.Unit{Records: records("new")})
	// Also where the sequence is behind: nothing of this owner is there.
	w.is(w.tryAppend(unit(old, storage.Unit{})).Err, storage.ErrStale, "Append by the old owner")
	same(w, "records", w.data(r), []string{"record 1", "new"})
	w.status(r, storage.Running)

	// A sequence that the owner's predecessor has written is behind, too.
	u := unit(r, storage.Unit{})
	u.First = 1
	w.is(w.tryAppend(u).Err, storage.ErrStale, "Append of an earlier sequence")
}

func appendUnowned(w *world) {
	m := w.join()
	for _, status := range []storage.Status{
		storage.Queued, storage.Interrupted, storage.Parked, storage.Finished, storage.Failed, storage.Cancelled,
	} {
		r := w.running(m)
		token := r.Token
		w.append(&r, storage.Unit{Status: status})
		w.status(r, status)
		u := unit(r, storage.Unit{})
		u.Token = token
		w.is(w.tryAppend(u).Err, storage.ErrStale, fmt.Sprintf("Append to a run that was given up as %s", status))
		same(w, "records", len(w.data(r)), 1)
	}
	queued := w.start(storage.Start{})
	w.is(w.tryAppend(unit(queued, storage.Unit{})).Err, storage.ErrStale, "Append to a queued run")
}

func appendGap(w *world) {
	r := w.running(w.join())
	w.append(&r, storage.Unit{})
	u := unit(r, storage.Unit{})
	u.First++
	w.is(w.tryAppend(u).Err, storage.ErrInvalid, "Append after a gap")
	same(w, "the run", w.run(r), r)
}

func appendInvalid(w *world) {
	m := w.join()
	r := w.running(m)
	q := w.ask(&r, storage.Question{})[0]
	r = w.run(r)
	for name, spoil := range map[string]func(*storage.Unit){
		"no record":                  func(u *storage.Unit) { u.Records = nil },
		"the status running":         func(u *storage.Unit) { u.Status = storage.Running },
		"the status superseded":      func(u *storage.Unit) { u.Status = storage.Superseded },
		"an unknown status":          func(u *storage.Unit) { u.Status = 99 },
		"a question before the unit": func(u *storage.Unit) { u.Questions = []storage.Question{{ID: w.newID(), Seq: u.First - 1}} },
		"a question after the unit":  func(u *storage.Unit) { u.Questions = []storage.Question{{ID: w.newID(), Seq: u.First + 1}} },
		"a question without an id":   func(u *storage.Unit) { u.Questions = []storage.Question{{Seq: u.First}} },
		"a closing without a state":  func(u *storage.Unit) { u.Close = []storage.ID{q.ID} },
		"a closing as answered":      func(u *storage.Unit) { u.Close, u.CloseState = []storage.ID{q.ID}, storage.Answered },
	} {
		u := unit(r, storage.Unit{})
		spoil(&u)
		w.is(w.tryAppend(u).Err, storage.ErrInvalid, "Append of a unit with "+name)
	}
	same(w, "the run", w.run(r), r)
	same(w, "the question", w.question(q), q)
}

func appendUnknown(w *world) {
	r := w.running(w.join())
	u := unit(r, storage.Unit{})
	u.Run = w.newID()
	w.is(w.tryAppend(u).Err, storage.ErrNotFound, "Append to an unknown run")
	u = unit(r, storage.Unit{})
	u.Tenant = "another"
	w.is(w.tryAppend(u).Err, storage.ErrNotFound, "Append with another tenant")
	same(w, "the run", w.run(r), r)
}

func appendDuplicate(w *world) {
	m := w.join()
	r := w.running(m)
	first := unit(r, storage.Unit{Records: records("a", "b"), Questions: []storage.Question{{ID: w.newID()}}})
	w.ok(w.tryAppend(first).Err, "Append")
	w.is(w.tryAppend(first).Err, storage.ErrDuplicate, "Append again")
	r = w.run(r)
	second := unit(r, storage.Unit{Records: records("c"), Status: storage.Finished, Result: []byte("result")})
	w.ok(w.tryAppend(second).Err, "Append")
	w.is(w.tryAppend(second).Err, storage.ErrDuplicate, "Append of the end again")
	w.is(w.tryAppend(first).Err, storage.ErrDuplicate, "Append of the first unit again")
	l := w.load(r)
	same(w, "records", texts(l.Records), []string{"a", "b", "c"})
	w.true(len(l.Questions) == 1, "%d questions, want 1", len(l.Questions))
	w.status(r, storage.Finished)
}

func appendDuplicateTakenOver(w *world) {
	m, other := w.join(), w.join()
	r := w.running(m)
	release := unit(r, storage.Unit{Status: storage.Interrupted, Questions: []storage.Question{{ID: w.newID()}}})
	w.ok(w.tryAppend(release).Err, "Append")
	w.settle(answer(release.Questions[0], "yes"))
	r = w.acquire(r, other, storage.Queued)
	w.is(w.tryAppend(release).Err, storage.ErrDuplicate, "Append of a committed unit after a takeover")
	w.append(&r, storage.Unit{})
	w.is(w.tryAppend(release).Err, storage.ErrDuplicate, "Append of a committed unit after a takeover and another unit")
	r = w.status(r, storage.Running)
	w.true(r.Owner == other.ID() && r.LastSeq == 2, "owner %s, last record %d", r.Owner, r.LastSeq)
}

func appendConcurrently(w *world) {
	r := w.running(w.join())
	u := unit(r, storage.Unit{Records: records("a", "b")})
	wrote := 0
	for _, err := range concurrently(w, 16, func(int) (error, error) {
		list, err := w.b.Append(w.ctx, []storage.Unit{u})
		if err != nil {
			return nil, err
		}
		return list[0].Err, nil
	}) {
		if err == nil {
			wrote++
		} else if !errors.Is(err, storage.ErrLocked) { // a reason to send it again, no more
			w.is(err, storage.ErrDuplicate, "Append")
		}
	}
	w.true(wrote == 1, "%d of 16 equal units were written", wrote)
	same(w, "records", w.data(r), []string{"a", "b"})
}

func appendQuestions(w *world) {
	m := w.join()
	r := w.running(m)
	w.append(&r, storage.Unit{})
	deadline := w.in(time.Hour)
	full := storage.Question{
		ID: w.newID(), Seq: 3, Path: "graph/human_feedback", Name: "approve", Key: "key",
		Payload: []byte(`{"a":1}`), Digest: []byte{0, 1, 2}, Schema: []byte(`{"type":"string"}`), Details: []byte("details"),
		Group: "group", Unique: "unique", Deadline: deadline,
		Users: []string{"ada", "bob"}, Groups: []string{"ops"}, NotBy: []string{"eve"}, Priority: -3, Tags: []string{"x", "y"},
	}
	bare := storage.Question{ID: w.newID(), Seq: 2}
	c := w.append(&r, storage.Unit{Records: records("b", "c"), Questions: []storage.Question{full, bare}})

	got := w.load(r).Questions
	w.true(len(got) == 2, "%d questions, want 2", len(got))
	for i, want := range []storage.Question{bare, full} { // in the order of Seq
		want.Tenant, want.Thread, want.Run, want.Entrypoint = r.Tenant, r.Thread, r.ID, r.Entrypoint
		want.State, want.Asked, want.Change = storage.Open, c.At, got[i].Change
		same(w, "question of Load", got[i], want)
		w.true(want.Change > 0, "question has no change number")
		same(w, "question", w.question(want), want)
	}
	same(w, "open questions of Head", w.head(r.Thread).Open, got)
	w.status(r, storage.Running)
	later := w.ask(&r, storage.Question{})[0]
	same(w, "open questions of Head", w.head(r.Thread).Open, append(got, later))
	w.true(later.Change > got[0].Change && later.Change > got[1].Change, "the change %d follows %d and %d", later.Change, got[0].Change, got[1].Change)
}

func appendClose(w *world) {
	m := w.join()
	for _, state := range []storage.QuestionState{storage.Withdrawn, storage.SupersededQuestion} {
		r := w.running(m)
		asked := w.ask(&r, storage.Question{Deadline: w.in(time.Hour)}, storage.Question{}, storage.Question{})
		c := w.append(&r, storage.Unit{Close: []storage.ID{asked[0].ID, asked[1].ID}, CloseState: state})
		for _, q := range asked[:2] {
			got := w.state(q, state)
			w.true(got.Settled.Equal(c.At), "settled at %v, the unit committed at %v", got.Settled, c.At)
			w.true(got.Change > q.Change, "change %d after %d", got.Change, q.Change)
			same(w, "answer", got.Answer, nil)
			same(w, "who", got.By, storage.Principal{})
			w.settled(w.trySettle(answer(q, "late")).Err, state, "answer to a closed question")
		}
		w.state(asked[2], storage.Open)
		w.true(c.Inbox == 0 && r.Inbox == 0, "the owner's own closing raised the inbox to %d", r.Inbox)
		w.clock.advance(2 * time.Hour)
		w.poll(m, 0)
		w.state(asked[0], state)
	}
}

func appendCloseOthers(w *world) {
	m := w.join()
	r, other := w.running(m), w.running(m)
	asked := w.ask(&r, storage.Question{}, storage.Question{})
	elsewhere := w.ask(&other, storage.Question{})[0]
	w.settle(answer(asked[0], "yes"))
	answered := w.question(asked[0])
	w.append(&r, storage.Unit{
		Close:      []storage.ID{asked[0].ID, elsewhere.ID, w.newID(), asked[1].ID},
		CloseState: storage.Withdrawn,
	})
	same(w, "the answered question", w.question(answered), answered)
	same(w, "the question of another run", w.question(elsewhere), elsewhere)
	w.state(asked[1], storage.Withdrawn)
}

func appendUnique(w *world) {
	m := w.join()
	r, other := w.running(m), w.running(m)
	held := w.ask(&r, storage.Question{Name: "approve", Unique: "order 1"})[0]
	for _, run := range []storage.Run{r, other} {
		before := w.run(run)
		c := w.tryAppend(unit(run, storage.Unit{Questions: []storage.Question{
			{ID: w.newID(), Name: "another"},
			{ID: w.newID(), Name: "approve", Unique: "order 1"},
		}}))
		w.is(c.Err, storage.ErrUnique, "a second open question with the key")
		var unique *storage.UniqueError
		w.true(errors.As(c.Err, &unique), "%v is not a *UniqueError", c.Err)
		w.true(unique.Question == held.ID && unique.Name == "approve" && unique.Key == "order 1",
			"the error names question %s, name %q and key %q", unique.Question, unique.Name, unique.Key)
		same(w, "the run", w.run(run), before)
	}
	// Nothing restricts another key, another name, another tenant, or no key.
	w.ask(&other,
		storage.Question{Name: "approve", Unique: "order 2"}, storage.Question{Name: "refuse", Unique: "order 1"},
		storage.Question{Name: "approve"}, storage.Question{Name: "approve"}, storage.Question{Unique: "order 1"})
	elsewhere := w.start(storage.Start{Run: storage.Run{Tenant: "another", Owner: m.ID()}})
	w.append(&elsewhere, storage.Unit{Questions: []storage.Question{{ID: w.newID(), Name: "approve", Unique: "order 1"}}})
	// Two of one unit are in each other's way.
	c := w.tryAppend(unit(w.run(other), storage.Unit{Questions: []storage.Question{
		{ID: w.newID(), Name: "approve", Unique: "order 3"},
		{ID: w.newID(), Name: "approve", Unique: "order 3"},
	}}))
	w.is(c.Err, storage.ErrUnique, "two questions of one unit with one key")
}

func appendUniqueFreed(w *world) {
	m := w.join()
	hold := func() (storage.Run, storage.Question) {
		r := w.running(m)
		return r, w.pause(&r, storage.Question{Name: "n", Unique: "u", Deadline: w.in(time.Hour)})[0]
	}
	for name, free := range map[string]func(storage.Run, storage.Question){
		"answer": func(_ storage.Run, q storage.Question) { w.settle(answer(q, "yes")) },
		"withdrawal": func(_ storage.Run, q storage.Question) {
			w.settle(storage.Settlement{Tenant: tenant, Question: q.ID, State: storage.Withdrawn})
		},
		"expiry": func(storage.Run, storage.Question) { w.clock.advance(2 * time.Hour); w.poll(m, 0) },
		"cancel": func(r storage.Run, _ storage.Question) {
			_, err := w.b.Cancel(w.ctx, tenant, r.ID, "")
			w.ok(err, "Cancel")
		},
		"delete": func(r storage.Run, _ storage.Question) {
			w.ok(w.b.DeleteThread(w.ctx, tenant, r.Thread), "DeleteThread")
		},
		"supersede": func(r storage.Run, _ storage.Question) {
			w.start(storage.Start{Run: storage.Run{Thread: r.Thread}, Supersede: true})
		},
	} {
		w.Log("freed by " + name)
		free(hold())
	}
	hold()
}

func appendUniqueReplaced(w *world) {
	r := w.running(w.join())
	old := w.ask(&r, storage.Question{Name: "n", Unique: "u"})[0]
	again := w.askAs(&r, storage.Unit{Close: []storage.ID{old.ID}, CloseState: storage.SupersededQuestion},
		storage.Question{Name: "n", Unique: "u"})[0]
	w.state(old, storage.SupersededQuestion)
	w.state(again, storage.Open)
	c := w.tryAppend(unit(r, storage.Unit{Questions: []storage.Question{{ID: w.newID(), Name: "n", Unique: "u"}}}))
	var unique *storage.UniqueError
	w.true(errors.As(c.Err, &unique) && unique.Question == again.ID, "the key is held by %s, error %v", again.ID, c.Err)
	// Another run can't close it, and so not replace it.
	other := w.running(w.join())
	c = w.tryAppend(unit(other, storage.Unit{
		Close: []storage.ID{again.ID}, CloseState: storage.Withdrawn,
		Questions: []storage.Question{{ID: w.newID(), Name: "n", Unique: "u"}},
	}))
	w.is(c.Err, storage.ErrUnique, "a key that another run's question holds")
	w.state(again, storage.Open)
}

func appendAtomic(w *world) {
	m := w.join()
	r, other := w.running(m), w.running(m)
	w.ask(&other, storage.Question{Name: "n", Unique: "u"})
	open := w.ask(&r, storage.Question{})[0]
	c := w.tryAppend(unit(r, storage.Unit{
		Records: records("x", "y"),
		Questions: []storage.Question{
			{ID: w.newID()},
			{ID: w.newID(), Name: "n", Unique: "u"},
		},
		Close: []storage.ID{open.ID}, CloseState: storage.Withdrawn,
		Status: storage.Finished, Result: []byte("result"),
	}))
	w.is(c.Err, storage.ErrUnique, "Append")
	same(w, "the run", w.load(r), storage.Loaded{
		Run: r, Records: w.load(r).Records[:1], Questions: []storage.Question{open},
	})
	// The very unit is no duplicate: it can be mended and sent again.
	w.finish(&r, "result")
}

func appendNone(w *world) {
	list, err := w.b.Append(w.ctx, nil)
	w.ok(err, "Append of nothing")
	w.true(len(list) == 0, "%d results for no units", len(list))
}
