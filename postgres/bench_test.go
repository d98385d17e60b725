package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

// BenchmarkAppend compares one sequential append with the least that a durable
// step can cost on the same server at the same time: one prepared INSERT of as many bytes, committed by itself.
// The two take turns, so that neighbours on the machine disturb both alike.
func BenchmarkAppend(b *testing.B) {
	dsn := pgtest.DSN(b)
	backend := open(b, dsn, nil)
	conn := connect(b, dsn)
	execute(b, conn, "CREATE TABLE raw (n bigint PRIMARY KEY, data bytea)")
	execute(b, conn, "INSERT INTO raw VALUES ($1, $2)", -1, []byte{}) // prepared now
	r := running(b, backend, join(b, backend))
	record := make([]byte, 200)
	n, raw, ours := int64(0), time.Duration(0), time.Duration(0)
	for b.Loop() {
		began := time.Now()
		execute(b, conn, "INSERT INTO raw VALUES ($1, $2)", n, record)
		middle := time.Now()
		appended(b, backend, &r, storage.Unit{Records: [][]byte{record}})
		raw, ours, n = raw+middle.Sub(began), ours+time.Since(middle), n+1
	}
	b.ReportMetric(float64(raw.Microseconds())/float64(n), "raw-us")
	b.ReportMetric(float64(ours.Microseconds())/float64(n), "append-us")
	b.ReportMetric(float64(ours)/float64(raw), "append/raw")
}

// BenchmarkSeed runs the storage calls of the seed program: a start, a step, a
// question, an answer, two more steps, the last one with the end.
func BenchmarkSeed(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			backend := open(b, pgtest.DSN(b), &postgres.Options{Connections: 8})
			m := join(b, backend)
			var cycles atomic.Int64
			began := time.Now()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for cycles.Add(1) <= int64(b.N) {
						seed(b, backend, m)
					}
				})
			}
			wg.Wait()
			seconds := time.Since(began).Seconds()
			b.ReportMetric(float64(b.N)/seconds, "cycles/s")
			b.ReportMetric(5*float64(b.N)/seconds, "appends+settles/s")
		})
	}
}

func seed(tb testing.TB, backend storage.Backend, m storage.Membership) {
	tb.Helper()
	r := running(tb, backend, m)
	appended(tb, backend, &r, storage.Unit{Records: [][]byte{[]byte(`{"task":"step_1","result":"foo bar"}`)}})
	q := storage.Question{
		ID: storage.NewID(time.Now()), Path: "graph/human_feedback", Payload: []byte(`"Please provide feedback: foo bar"`),
		Digest: make([]byte, 32), Schema: []byte(`{"type":"string"}`),
	}
	appended(tb, backend, &r, storage.Unit{
		Records: [][]byte{[]byte(`{"task":"human_feedback"}`)}, Questions: []storage.Question{q}, Status: storage.Interrupted,
	})
	settled, err := backend.Settle(tb.Context(), []storage.Settlement{{
		Question: q.ID, State: storage.Answered, Answer: []byte(`"baz"`), Member: m.ID(),
		By: storage.Principal{Kind: "person", Subject: "ada"},
	}})
	if err != nil || !settled[0].Acquired {
		tb.Fatalf("settle: %v, %+v", err, settled)
	}
	r = settled[0].Run
	appended(tb, backend, &r, storage.Unit{Records: [][]byte{[]byte(`{"task":"human_feedback","result":"foo bar baz"}`)}})
	appended(tb, backend, &r, storage.Unit{
		Records: [][]byte{[]byte(`{"task":"step_3","result":"foo bar baz qux"}`)}, Status: storage.Finished, Result: []byte(`"foo bar baz qux"`),
	})
}
