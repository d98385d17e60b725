package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// exampleLog has a record of each kind, as a run writes them.
func exampleLog() [][]byte {
	var s sites
	var log [][]byte
	for _, r := range []record{
		{kind: recordClaim, call: KindTask, name: "step", witness: []byte("\x011"), site: "flow.go:12"},
		{kind: recordOutcome, claim: 1, at: 5, data: []byte("2")},
		{kind: recordClaim, call: KindTask, name: "outer", key: "k", witness: []byte("\x01{}"), site: "flow.go:13"},
		{kind: recordClaim, scope: 3, call: KindQuestion, witness: []byte("\x01\"?\""), site: "flow.go:14"},
		{kind: recordPause, open: []int64{4}},
		{kind: recordTaken, claim: 4},
		{kind: recordOutcome, claim: 3, failed: true, data: []byte(`{"task":"outer","message":"boom","retry":[4]}`)},
		{kind: recordAttempt, claim: 3, attempt: 2, cut: 3, retry: []int64{4}, spent: 1},
		{kind: recordVersion, name: "change", at: -1},
		{kind: recordAsk, claim: 4},
		{kind: recordRefusal, claim: 4, name: "unique", data: []byte("x")},
		{kind: recordRemind, claim: 4, at: 2},
		{kind: recordUsed, claim: 4, at: 3},
		{kind: recordAccept, claim: 3},
		{kind: recordRepair, name: "accept", data: []byte("{}")},
		{kind: recordClaim, call: KindEntrypoint, name: "child", witness: []byte("\x011"), site: "flow.go:12"},
		{kind: recordClaim, scope: 16, call: KindTask, name: "inner", witness: []byte("\x011"), site: "flow.go:20"},
		{kind: recordReturn, data: []byte("3")},
		{kind: recordEnd, status: storage.Finished},
	} {
		log = append(log, r.encode(&s))
	}
	return log
}

// joined is a log as the bytes of a fuzzer's input; apart is the inverse, of whatever comes.
func joined(log [][]byte) []byte {
	var b []byte
	for _, r := range log {
		b = appendString(b, string(r))
	}
	return b
}

func apart(b []byte) (log [][]byte) {
	for len(b) > 0 && len(log) < 1000 {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return log
		}
		b = b[size:]
		n = min(n, uint64(len(b)))
		log, b = append(log, b[:n:n]), b[n:]
	}
	return log
}

// allocates fails the test if fn takes much more memory than what it is about.
func allocates(t *testing.T, limit int, fn func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > uint64(limit) {
		t.Errorf("%d bytes were allocated, want %d at most", got, limit)
	}
}

// FuzzDecodeRecord: bytes are a record, which comes back as it is, or corrupt.
func FuzzDecodeRecord(f *testing.F) {
	for _, r := range exampleLog() {
		f.Add(r)
	}
	f.Add([]byte{})
	f.Add([]byte("\x05\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		known := sites{}
		known.add("flow.go:12")
		allocates(t, 1<<20+64*len(data), func() {
			r, err := decodeRecord(data, &known)
			if err != nil {
				if !errors.Is(err, storage.ErrCorrupt) {
					t.Fatalf("error %v is not of a kind", err)
				}
				return
			}
			first := sites{}
			first.add("flow.go:12")
			encoded := r.encode(&first)
			second := sites{}
			second.add("flow.go:12")
			again, err := decodeRecord(encoded, &second)
			if err != nil {
				t.Fatalf("%q, written again as %q: %v", data, encoded, err)
			}
			third := sites{}
			third.add("flow.go:12")
			if twice := again.encode(&third); !bytes.Equal(encoded, twice) {
				t.Fatalf("%q is written as %q, and that as %q", data, encoded, twice)
			}
		})
	})
}

// damagedLog is a backend that has one run with one log, and nothing else.
type damagedLog struct {
	storage.Backend
	run     storage.Run
	records []storage.Record
}

func (b *damagedLog) Log(_ context.Context, _ string, _ storage.ID, after int64, limit int) (storage.Run, []storage.Record, error) {
	rest := b.records[max(0, min(int64(len(b.records)), after)):]
	return b.run, rest[:min(len(rest), limit)], nil
}

func (b *damagedLog) Run(context.Context, string, storage.ID) (storage.Run, error) { return b.run, nil }

func (b *damagedLog) ListQuestions(context.Context, storage.QuestionFilter) ([]storage.Question, error) {
	return []storage.Question{{ID: storage.ID{4}, Run: b.run.ID, Seq: 4}, {ID: storage.ID{5}, Run: b.run.ID, Seq: 10}}, nil
}

// FuzzHistory: whatever a log holds, it is read, or refused as corrupt: for replay, by readers of events, and when it
// is asked what waits and what a new attempt would make again.
func FuzzHistory(f *testing.F) {
	log := exampleLog()
	f.Add(joined(log))
	for i := range log {
		f.Add(joined(log[:i]))
		f.Add(joined(slices.Delete(slices.Clone(log), i, i+1)))
	}
	f.Add(joined([][]byte{
		log[0], (&record{kind: recordOutcome, claim: 1, failed: true, data: []byte(`{"retry":[1],"branches":[{"branch":1,"retry":[1]}]}`)}).encode(nil),
		(&record{kind: recordClaim, scope: 1, call: KindTask, name: "in", site: "flow.go:12"}).encode(&sites{index: map[string]int{"flow.go:12": 0}, names: []string{"flow.go:12"}}),
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		backend := &damagedLog{run: storage.Run{ID: storage.ID{1}, Thread: "t", Entrypoint: "flow", Status: storage.Failed, Created: time.Unix(1, 0)}}
		for i, r := range apart(data) {
			backend.records = append(backend.records, storage.Record{Seq: int64(i + 1), Data: r})
		}
		backend.run.LastSeq = int64(len(backend.records))
		questions, _ := backend.ListQuestions(t.Context(), storage.QuestionFilter{})
		e := &Engine{backend: backend}
		allocates(t, 4<<20+4096*len(data), func() {
			h, err := readHistory(&recording{Loaded: storage.Loaded{Run: backend.run, Records: backend.records, Questions: questions}})
			if err != nil {
				if !errors.Is(err, storage.ErrCorrupt) {
					t.Fatalf("error %v is not of a kind", err)
				}
			} else {
				for _, c := range h.claims {
					h.blocked(c)
					h.openQuestions(c, nil)
					h.openAfter(c.scope, 0)
					if !c.failed || c.refusal != nil {
						continue
					}
					failure, err := e.decodeFailure(c.data, c.seq)
					if err != nil {
						continue
					}
					if _, err := h.reopen(e, c.seq, 2, 0, failure); err != nil && !errors.Is(err, storage.ErrCorrupt) {
						t.Fatalf("error %v is not of a kind", err)
					}
				}
			}
			if _, err := e.OpenQuestions(t.Context(), "", backend.run.ID); err != nil {
				t.Fatal(err)
			}
			for _, after := range []int64{0, min(3, backend.run.LastSeq)} {
				last := int64(0)
				for event, err := range (&Handle{engine: e, Run: backend.run, after: after, all: after == 0}).Events(t.Context()) {
					if err != nil {
						if !errors.Is(err, storage.ErrCorrupt) {
							t.Fatalf("error %v is not of a kind", err)
						}
						break
					}
					if event.Seq < last {
						t.Fatalf("event %d comes after event %d", event.Seq, last)
					}
					last = event.Seq
				}
			}
		})
	})
}

// FuzzPlaces: texts that name a place in a list or a thread are what their String gives, or refused.
func FuzzPlaces(f *testing.F) {
	f.Add(Revision{Run: storage.ID{1}, Seq: 7}.String())
	f.Add(cursor{ID: storage.ID{2}, Asked: 5_000_000, Priority: 3}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRevision(text); err == nil && r.String() != text || err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("revision %v, error %v", r, err)
		}
		for _, order := range []storage.QuestionOrder{storage.ByAsked, storage.ByDeadline, storage.ByPriority} {
			q, err := parseCursor(text, order)
			if err != nil {
				if !errors.Is(err, ErrInvalid) {
					t.Fatalf("error %v is not of a kind", err)
				}
				continue
			}
			if again := cursorAt(order, q); again.String() != text {
				t.Fatalf("cursor %s, written again %s", text, again)
			}
		}
	})
}
