package storagetest

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var valueCases = []testCase{
	{"NilIsAbsentAndEmptyIsNot", valuesNil},
	{"BytesComeBackUnchanged", valuesBytes},
	{"BigValues", valuesBig},
	{"UnicodeNames", valuesUnicode},
	{"TimesToTheMicrosecond", valuesTimes},
	{"MetadataIsTheBackendsOwn", valuesMetadata},
	{"QuestionsAreTheCallersOwn", valuesQuestions},
	{"ManyRecordsInOneUnit", valuesManyRecords},
}

func valuesNil(w *world) {
	m := w.join()
	for name, v := range map[string][]byte{"nil": nil, "empty": {}, "bytes": {0}} {
		s := w.filled(storage.Start{Run: storage.Run{Config: v, Owner: m.ID()}})
		s.Run.Input = v
		started, err := w.b.Start(w.ctx, s)
		w.ok(err, "Start")
		r := started.Run
		same(w, name+" input", w.run(r).Input, v)
		same(w, name+" config", w.run(r).Config, v)
		q := w.ask(&r, storage.Question{Payload: v, Digest: v, Schema: v, Details: v})[0]
		for what, got := range map[string][]byte{"payload": q.Payload, "digest": q.Digest, "schema": q.Schema, "details": q.Details} {
			same(w, name+" "+what, got, v)
		}
		a := answer(q, "")
		a.Answer = v
		w.settle(a)
		same(w, name+" answer", w.question(q).Answer, v)
		w.append(&r, storage.Unit{Status: storage.Finished, Result: v, Saved: v})
		same(w, name+" result", r.Result, v)
		same(w, name+" saved", r.Saved, v)
		failed := w.running(m)
		w.append(&failed, storage.Unit{Status: storage.Failed, Error: v})
		same(w, name+" error", failed.Error, v)
		same(w, name+" error as listed", w.listRuns(storage.RunFilter{Thread: failed.Thread})[0].Error, v)
	}
}

func valuesBytes(w *world) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	m := w.join()
	r := w.start(storage.Start{Run: storage.Run{Input: all, Config: all, Owner: m.ID()}})
	q := w.ask(&r, storage.Question{Payload: all, Digest: all, Schema: all, Details: all})[0]
	a := answer(q, string(all))
	w.settle(a)
	w.append(&r, storage.Unit{Records: [][]byte{all, nil, all}})
	w.append(&r, storage.Unit{Status: storage.Finished, Result: all, Saved: all})
	l := w.load(r)
	for i, data := range [][]byte{l.Run.Input, l.Run.Config, l.Run.Result, l.Run.Saved, l.Records[1].Data, l.Records[3].Data,
		l.Questions[0].Payload, l.Questions[0].Digest, l.Questions[0].Schema, l.Questions[0].Details, l.Questions[0].Answer} {
		w.true(bytes.Equal(data, all), "value %d is %d bytes: %x", i, len(data), data)
	}
	w.true(len(l.Records[2].Data) == 0, "an empty record has %d bytes", len(l.Records[2].Data))
	w.put(item(string(all), "k", "n"))
	w.true(bytes.Equal(w.get("k", "n").Value, all), "the item's value has changed")
}

func valuesBig(w *world) {
	const size = 2 << 20
	big := func(b byte) []byte { return bytes.Repeat([]byte{b, 0xff, 0}, size/3+1)[:size] }
	m := w.join()
	r := w.start(storage.Start{Run: storage.Run{Input: big(1), Config: big(2), Owner: m.ID()}})
	asked := w.askAs(&r, storage.Unit{Records: [][]byte{big(3), []byte("small"), big(4)}}, storage.Question{Payload: big(5), Schema: big(6)})
	w.settle(answer(asked[0], string(big(7))))
	w.append(&r, storage.Unit{Status: storage.Finished, Result: big(8), Saved: big(9)})
	l := w.load(r)
	q := l.Questions[0]
	for i, got := range [][]byte{l.Run.Input, l.Run.Config, l.Records[0].Data, l.Records[2].Data, q.Payload, q.Schema, q.Answer, l.Run.Result, l.Run.Saved} {
		w.true(bytes.Equal(got, big(byte(i+1))), "value %d of 2 MiB came back as %d bytes", i+1, len(got))
	}
	_, list, err := w.b.Log(w.ctx, tenant, r.ID, 1, 2)
	w.ok(err, "Log")
	w.true(len(list) == 2 && string(list[0].Data) == "small" && bytes.Equal(list[1].Data, big(4)), "Log of big records")
	fork := w.start(storage.Start{Run: storage.Run{Thread: r.Thread, Owner: m.ID()}, From: &storage.Checkpoint{Run: r.ID}, ForkSeq: 2})
	w.true(bytes.Equal(w.load(fork).Records[0].Data, big(3)), "a big record of a fork")
	failed := w.running(m)
	w.append(&failed, storage.Unit{Status: storage.Failed, Error: big(10)})
	w.true(bytes.Equal(w.run(failed).Error, big(10)), "a big error")
	w.put(item(string(big(11)), "k", "n"))
	w.true(bytes.Equal(w.get("k", "n").Value, big(11)), "a big item")
}

func valuesUnicode(w *world) {
	m := w.join()
	for _, name := range []string{
		"日本語", "Ünïcödé", "🎵🎶", "a\u0301", "right\u202eleft", `quo"te'`, `back\slash`, "per%cent_", "new\nline\ttab", " space ", "--", "null", "$1", "?1", strings.Repeat("长", 500),
	} {
		in := storage.Run{
			ID: w.newID(), Tenant: "tenant " + name, Thread: name, Entrypoint: name, Owner: m.ID(),
			Metadata: map[string]string{name: name},
		}
		started, err := w.b.Start(w.ctx, storage.Start{Run: in})
		w.ok(err, "Start")
		r := started.Run
		w.true(r.Tenant == in.Tenant && r.Thread == name && r.Entrypoint == name && r.Metadata[name] == name, "run of %q: %+v", name, r)
		q := storage.Question{
			ID: w.newID(), Path: name, Name: name, Key: name, Group: name, Unique: name,
			Users: []string{name}, Groups: []string{name, "x"}, NotBy: []string{"y", name + "y"}, Tags: []string{name},
		}
		c := w.tryAppend(unit(r, storage.Unit{Questions: []storage.Question{q}}))
		w.ok(c.Err, "Append")
		by := storage.Principal{Kind: name, Subject: name, Groups: []string{name}, Method: name, OnBehalfOf: name}
		list, err := w.b.ListQuestions(w.ctx, storage.QuestionFilter{
			Tenant: in.Tenant, Thread: name, Entrypoint: name, Name: name, Key: name, Tags: []string{name}, For: &by,
		})
		w.ok(err, "ListQuestions")
		w.true(len(list) == 1, "%d questions of %q", len(list), name)
		want := q
		want.Tenant, want.Thread, want.Run, want.Entrypoint, want.Seq = in.Tenant, name, r.ID, name, 1
		want.State, want.Asked, want.Change = storage.Open, c.At, list[0].Change
		same(w, "question of "+name, list[0], want)
		s := w.trySettle(storage.Settlement{Tenant: in.Tenant, Question: q.ID, State: storage.Answered, By: by, Key: name})
		w.ok(s.Err, "Settle")
		same(w, "who answered", s.Question.By, by)
		same(w, "key", s.Question.AnswerKey, name)
		cancelled, err := w.b.Cancel(w.ctx, in.Tenant, r.ID, name)
		w.ok(err, "Cancel")
		w.true(cancelled.CancelReason == name, "reason %q", cancelled.CancelReason)
		runs, err := w.b.ListRuns(w.ctx, storage.RunFilter{Tenant: in.Tenant, Thread: name, Entrypoint: name, Metadata: in.Metadata})
		w.ok(err, "ListRuns")
		w.true(len(runs) == 1, "%d runs of %q", len(runs), name)
		threads, err := w.b.ListThreads(w.ctx, storage.ThreadFilter{Tenant: in.Tenant, Entrypoint: name})
		w.ok(err, "ListThreads")
		w.true(len(threads) == 1 && threads[0].ID == name, "threads of %q: %v", name, threads)
		stored := storage.Item{Tenant: in.Tenant, Namespace: []string{name, name}, Key: name, Value: []byte(name)}
		w.ok(w.b.PutItems(w.ctx, []storage.Item{stored}), "PutItems")
		got, err := w.b.GetItem(w.ctx, in.Tenant, []string{name, name}, name, false)
		w.ok(err, "GetItem")
		same(w, "namespace", got.Namespace, []string{name, name})
	}
	w.true(len(w.poll(m, 10, "日本語").Runs) == 0, "Poll took a living owner's run")
}

func valuesTimes(w *world) {
	m := w.join()
	at := w.in(time.Hour).Truncate(time.Millisecond).Add(123 * time.Microsecond)
	r := w.start(storage.Start{Run: storage.Run{Due: at}})
	w.true(w.run(r).Due.Equal(at), "due %v, want %v", w.run(r).Due, at)
	far := time.Date(2999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	elsewhere := at.In(time.FixedZone("elsewhere", 5*3600))
	running := w.running(m)
	for _, want := range []time.Time{at, far, elsewhere} {
		q := w.ask(&running, storage.Question{Deadline: want})[0]
		w.true(q.Deadline.Equal(want), "deadline %v, want %v", q.Deadline, want)
		got := w.extend(q, want.Add(time.Microsecond))
		w.true(got.Deadline.Equal(want.Add(time.Microsecond)), "deadline %v, want %v", got.Deadline, want.Add(time.Microsecond))
	}
	long := item("v", "k", "n")
	long.TTL = 90*24*time.Hour + time.Microsecond
	w.put(long)
	got := w.get("k", "n")
	w.true(got.TTL == long.TTL && got.Expires.Equal(got.Updated.Add(long.TTL)), "TTL %v, expires %v after %v", got.TTL, got.Expires, got.Expires.Sub(got.Updated))
}

// valuesMetadata: maps, unlike byte slices, may be changed by the caller, before and after.
func valuesMetadata(w *world) {
	in := map[string]string{"a": "1"}
	r := w.start(storage.Start{Run: storage.Run{Metadata: in}})
	in["a"] = "changed"
	r.Metadata["a"] = "changed"
	same(w, "metadata of the run", w.run(r).Metadata, map[string]string{"a": "1"})
	in = map[string]string{"a": "1"}
	w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: "t", Metadata: in}), "PutThread")
	in["a"] = "changed"
	w.thread("t").Metadata["a"] = "changed"
	same(w, "metadata of the thread", w.thread("t").Metadata, map[string]string{"a": "1"})
	bare := w.start(storage.Start{Run: storage.Run{Metadata: map[string]string{}}})
	w.true(w.run(bare).Metadata == nil, "no metadata is %#v, want nil", w.run(bare).Metadata)
}

// Whoever shows a question may write in what was handed out: what is stored stays what was asked.
func valuesQuestions(w *world) {
	m := w.join()
	r := w.running(m)
	fresh := func() []byte { return []byte("asked") }
	q := w.ask(&r, storage.Question{Payload: fresh(), Digest: fresh(), Schema: fresh(), Details: fresh(), Users: []string{"asked"}})[0]
	w.settle(answer(q, "asked"))
	spoil := func(q *storage.Question) {
		for _, data := range [][]byte{q.Payload, q.Digest, q.Schema, q.Details, q.Answer} {
			copy(data, "wrong")
		}
		q.Users[0] = "wrong"
	}
	spoil(&w.load(r).Questions[0])
	spoil(&w.list(storage.QuestionFilter{Thread: r.Thread})[0])
	spoil(&w.changes(0, 100)[0])
	repeated := w.question(q)
	spoil(&repeated)
	q = w.question(q)
	for _, data := range [][]byte{q.Payload, q.Digest, q.Schema, q.Details, q.Answer, []byte(q.Users[0])} {
		same(w, "what is stored", string(data), "asked")
	}
}

func valuesManyRecords(w *world) {
	const n = 1000
	r := w.running(w.join())
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint("record ", i))
	}
	w.append(&r, storage.Unit{Records: records(want...)})
	w.append(&r, storage.Unit{Records: records("last")})
	same(w, "records", w.data(r), append(want, "last"))
	_, list, err := w.b.Log(w.ctx, tenant, r.ID, 500, 3)
	w.ok(err, "Log")
	same(w, "records from the middle", texts(list), want[500:503])
}
