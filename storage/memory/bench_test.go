package memory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// filled is a backend that has 20,000 runs, half of them waiting with a question, so
// that a benchmark shows if a call looks at all of them.
func filled(b *testing.B) (*memory.Backend, storage.Membership) {
	b.Helper()
	db := memory.New(nil)
	m, err := db.Join(b.Context(), "member")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 20_000 {
		r := start(b, db, m, fmt.Sprint("old ", i))
		u := storage.Unit{Run: r.ID, Token: r.Token, First: 1, Records: [][]byte{[]byte("record")}, Status: storage.Finished}
		if i%2 == 0 {
			u.Status = storage.Interrupted
			u.Questions = []storage.Question{{ID: storage.NewID(time.Now()), Seq: 1, Deadline: time.Now().Add(time.Hour)}}
		}
		appendUnit(b, db, u)
	}
	return db, m
}

func start(b *testing.B, db *memory.Backend, m storage.Membership, thread string) storage.Run {
	b.Helper()
	started, err := db.Start(b.Context(), storage.Start{Run: storage.Run{
		ID: storage.NewID(time.Now()), Thread: thread, Entrypoint: "graph", Owner: m.ID(), Input: []byte("input"),
	}})
	if err != nil {
		b.Fatal(err)
	}
	return started.Run
}

func appendUnit(b *testing.B, db *memory.Backend, u storage.Unit) {
	b.Helper()
	list, err := db.Append(b.Context(), []storage.Unit{u})
	if err == nil {
		err = list[0].Err
	}
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkStart(b *testing.B) {
	db, m := filled(b)
	i := 0
	for b.Loop() {
		i++
		start(b, db, m, fmt.Sprint("thread ", i))
	}
}

func BenchmarkAppend(b *testing.B) {
	db, m := filled(b)
	r := start(b, db, m, "thread")
	u := storage.Unit{Run: r.ID, Token: r.Token, First: 1, Records: [][]byte{[]byte("record")}}
	for b.Loop() {
		appendUnit(b, db, u)
		u.First++
	}
}

// BenchmarkPause is a question's whole life: asked, answered by a member that takes the run.
func BenchmarkPause(b *testing.B) {
	db, m := filled(b)
	r := start(b, db, m, "thread")
	u := storage.Unit{Run: r.ID, Token: r.Token, First: 1, Records: [][]byte{[]byte("record")}, Status: storage.Interrupted}
	for b.Loop() {
		q := storage.Question{ID: storage.NewID(time.Now()), Seq: u.First}
		u.Questions = []storage.Question{q}
		appendUnit(b, db, u)
		list, err := db.Settle(b.Context(), []storage.Settlement{{Question: q.ID, State: storage.Answered, Member: m.ID()}})
		if err != nil || !list[0].Acquired {
			b.Fatal(list, err)
		}
		u.First++
		u.Token, u.SeenInbox = list[0].Run.Token, list[0].Run.Inbox
	}
}

func BenchmarkPoll(b *testing.B) {
	db, m := filled(b)
	for b.Loop() {
		if _, err := db.Poll(b.Context(), storage.Poll{Member: m.ID(), Entrypoints: []string{"graph"}, Limit: 10}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHead(b *testing.B) {
	db, _ := filled(b)
	for b.Loop() {
		if _, err := db.Head(b.Context(), "", "old 100"); err != nil {
			b.Fatal(err)
		}
	}
}
