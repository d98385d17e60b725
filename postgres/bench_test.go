package postgres_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/combine"
	"github.com/fermata-go/fermata/internal/pgtest"
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

// BenchmarkCallers compares what many callers get through the backend with the least that it can cost: as many
// callers whose records one connection inserts with unnest, a transaction for whatever is queued. The phases take turns.
func BenchmarkCallers(b *testing.B) {
	const callers = 64
	dsn := pgtest.DSN(b)
	backend := open(b, dsn, nil)
	conn := connect(b, dsn)
	execute(b, conn, "CREATE TABLE raw (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data bytea)")
	queue := combine.New(func(batch [][]byte) {
		execute(b, conn, "INSERT INTO raw (data) SELECT data FROM unnest($1::bytea[]) AS rows (data)", batch)
	})
	m := join(b, backend)
	runs := make([]storage.Run, callers)
	for i := range runs {
		runs[i] = running(b, backend, m)
	}
	record := make([]byte, 200)
	phases := []struct {
		name string
		ops  int // of the kinds that the name says, per step
		step func(i int)
		done int
		time time.Duration
	}{
		{"raw-records/s", 1, func(int) {
			if err := queue.Do(b.Context(), record); err != nil {
				b.Error(err)
			}
		}, 0, 0},
		{"appends/s", 1, func(i int) { appended(b, backend, &runs[i], storage.Unit{Records: [][]byte{record}}) }, 0, 0},
		{"seed-appends+settles/s", 5, func(int) { seed(b, backend, m) }, 0, 0},
	}
	for b.Loop() {
		for p := range phases {
			phase := &phases[p]
			var done atomic.Int64
			began := time.Now()
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					for time.Since(began) < 300*time.Millisecond {
						phase.step(i)
						done.Add(int64(phase.ops))
					}
				})
			}
			wg.Wait()
			phase.time += time.Since(began)
			phase.done += int(done.Load())
		}
	}
	rate := func(p int) float64 { return float64(phases[p].done) / phases[p].time.Seconds() }
	for p := range phases {
		b.ReportMetric(rate(p), phases[p].name)
	}
	b.ReportMetric(rate(0)/rate(1), "raw/appends")
	b.ReportMetric(0, "ns/op")
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
