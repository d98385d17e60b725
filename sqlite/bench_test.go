package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
	driver "zombiezen.com/go/sqlite"
)

var record = make([]byte, 200)

func init() {
	for i := range record {
		record[i] = byte(rand.Uint32())
	}
}

// rawCommit is a commit of one row of 200 bytes by the bare driver: what this disk and this
// database can do at best for a caller who is alone.
func rawCommit(b *testing.B) func() {
	b.Helper()
	c, err := driver.OpenConn(filepath.Join(b.TempDir(), "raw.db"), driver.OpenReadWrite|driver.OpenCreate|driver.OpenWAL)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	raw := &conn{raw: c, queries: map[string]*query{}}
	for _, text := range []string{"PRAGMA synchronous = FULL", "CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)"} {
		if err := raw.run(text); err != nil {
			b.Fatal(err)
		}
	}
	return func() {
		if err := raw.query("INSERT INTO t (v) VALUES (?)").blob(record).exec(); err != nil {
			b.Fatal(err)
		}
	}
}

// rawAppend is an append to a file, and fdatasync.
func rawAppend(b *testing.B) func() {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return func() {
		if _, err := f.Write(record); err != nil {
			b.Fatal(err)
		}
		if err := fdatasync(f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendAlone measures a lone caller's append against the bare
// driver's commit and the disk's, turn by turn, so that all see the same minutes.
func BenchmarkAppendAlone(b *testing.B) {
	backend := open(b, nil)
	r := ownedRun(b, backend, join(b, backend))
	turns := []struct {
		name string
		do   func()
		took time.Duration
	}{
		{name: "append", do: func() { appendTo(b, backend, &r, storage.Unit{Records: [][]byte{record}}) }},
		{name: "rawcommit", do: rawCommit(b)},
		{name: "rawsync", do: rawAppend(b)},
	}
	for range 300 { // all logs are grown a bit
		for i := range turns {
			turns[i].do()
		}
	}
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		for i := range turns {
			turn := &turns[(n+i)%len(turns)]
			begin := time.Now()
			turn.do()
			turn.took += time.Since(begin)
		}
	}
	for _, turn := range turns {
		b.ReportMetric(float64(turn.took.Microseconds())/float64(b.N), turn.name+"-us/op")
	}
	b.ReportMetric(float64(turns[0].took)/float64(turns[1].took), "x-rawcommit")
}

// BenchmarkAppend64 measures 64 runs that append at the same time.
func BenchmarkAppend64(b *testing.B) {
	backend := open(b, nil)
	member := join(b, backend)
	runs := make([]storage.Run, 64)
	for i := range runs {
		runs[i] = ownedRun(b, backend, member)
	}
	before := backend.Stats()
	concurrently(b, 64, func(i int) { appendTo(b, backend, &runs[i], storage.Unit{Records: [][]byte{record}}) })
	after := backend.Stats()
	b.ReportMetric(float64(after.Units-before.Units)/float64(after.Commits-before.Commits), "units/commit")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
}

// concurrently calls f b.N times, from n goroutines that are told apart by their index.
func concurrently(b *testing.B, n int, f func(i int)) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	used := cpuTime()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				f(i)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-used).Microseconds())/float64(b.N), "cpu-us/op")
}

// seedCycle is what the seed program asks of a backend: start, a task, a
// question, its answer, loading, a task, a task and the end.
func seedCycle(t testing.TB, b *Backend, member storage.ID) {
	ctx := context.Background()
	r := ownedRun(t, b, member)
	appendTo(t, b, &r, storage.Unit{Records: [][]byte{record[:60]}})
	q := question(&r)
	c := appendTo(t, b, &r, storage.Unit{Records: [][]byte{record[:60]}, Questions: []storage.Question{q}, Status: storage.Interrupted})
	if c.Kept {
		t.Fatal("kept")
	}
	settled, err := b.Settle(ctx, []storage.Settlement{{Question: q.ID, State: storage.Answered, Answer: []byte(`"baz"`),
		By: storage.Principal{Kind: "person", Subject: "ada"}, Member: member}})
	if err != nil || !settled[0].Acquired {
		t.Fatal(err, settled)
	}
	loaded, err := b.Load(ctx, "", r.ID)
	if err != nil || len(loaded.Records) != 2 {
		t.Fatal(err, loaded)
	}
	r = loaded.Run
	appendTo(t, b, &r, storage.Unit{Records: [][]byte{record[:60]}})
	appendTo(t, b, &r, storage.Unit{Records: [][]byte{record[:60], record[:10]}, Status: storage.Finished, Result: []byte(`"foo bar baz qux"`)})
}

func BenchmarkSeed(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("threads=%d", n), func(b *testing.B) {
			backend := open(b, nil)
			member := join(b, backend)
			before := backend.Stats()
			concurrently(b, n, func(int) { seedCycle(b, backend, member) })
			after := backend.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
			b.ReportMetric(float64(after.Commits-before.Commits)/float64(b.N), "commits/cycle")
		})
	}
}

// parkMany parks n runs, 64 at a time, and returns their questions.
func parkMany(t testing.TB, b *Backend, member storage.ID, n int) []storage.ID {
	questions := make([]storage.ID, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				r := ownedRun(t, b, member)
				appendTo(t, b, &r, storage.Unit{Records: [][]byte{record[:60]}})
				q := question(&r)
				appendTo(t, b, &r, storage.Unit{Records: [][]byte{record[:60]}, Questions: []storage.Question{q}, Status: storage.Interrupted})
				questions[i] = q.ID
			}
		})
	}
	wg.Wait()
	return questions
}

// BenchmarkParked measures what a run that waits for an answer costs: on the
// disk, to find, and to wake. One operation is a run parked.
func BenchmarkParked(b *testing.B) {
	backend := open(b, &Options{Synchronous: Normal})
	member := join(b, backend)
	b.ResetTimer()
	questions := parkMany(b, backend, member, b.N)
	b.StopTimer()
	if err := backend.writer.run("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(backend.Path())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/float64(b.N), "bytes/run")
	ctx := context.Background()
	for _, order := range []storage.QuestionOrder{storage.ByAsked, storage.ByDeadline, storage.ByPriority} {
		begin := time.Now()
		const pages = 20
		for range pages {
			if _, err := backend.ListQuestions(ctx, storage.QuestionFilter{States: []storage.QuestionState{storage.Open}, Order: order, Limit: 20}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(time.Since(begin).Microseconds())/pages, fmt.Sprintf("page-by-%d-us", order))
	}
	begin := time.Now()
	n := min(len(questions), 100)
	for _, id := range questions[:n] {
		if s, err := backend.Settle(ctx, []storage.Settlement{{Question: id, State: storage.Answered, Member: member}}); err != nil || s[0].Err != nil {
			b.Fatal(err, s)
		}
	}
	b.ReportMetric(float64(time.Since(begin).Microseconds())/float64(n), "settle-us")
}

// BenchmarkStep measures the bytes of a step with a tiny record.
func BenchmarkStep(b *testing.B) {
	backend := open(b, &Options{Synchronous: Normal})
	member := join(b, backend)
	runs := make([]storage.Run, 64)
	for i := range runs {
		runs[i] = ownedRun(b, backend, member)
	}
	concurrently(b, 64, func(i int) { appendTo(b, backend, &runs[i], storage.Unit{Records: [][]byte{record[:30]}}) })
	backend.writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
	info, err := os.Stat(backend.Path())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/float64(b.N), "bytes/step")
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{3, 1000, 10_000} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			backend := open(b, &Options{Synchronous: Normal})
			r := ownedRun(b, backend, join(b, backend))
			for range n {
				appendTo(b, backend, &r, storage.Unit{Records: [][]byte{record[:60]}})
			}
			for b.Loop() {
				l, err := backend.Load(context.Background(), "", r.ID)
				if err != nil || len(l.Records) != n {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLargeRecord(b *testing.B) {
	backend := open(b, nil)
	r := ownedRun(b, backend, join(b, backend))
	large := make([]byte, 1<<20)
	b.SetBytes(int64(len(large)))
	for b.Loop() {
		appendTo(b, backend, &r, storage.Unit{Records: [][]byte{large}})
	}
}

// BenchmarkPageSize is what chose pageSize.
func BenchmarkPageSize(b *testing.B) {
	for _, size := range []int{1024, 2048, 4096, 8192} {
		b.Run(fmt.Sprintf("size=%d/seed", size), func(b *testing.B) {
			backend := open(b, &Options{pageSize: size, CheckpointPages: 2000 * 4096 / size})
			member := join(b, backend)
			concurrently(b, 64, func(int) { seedCycle(b, backend, member) })
		})
		b.Run(fmt.Sprintf("size=%d/append", size), func(b *testing.B) {
			backend := open(b, &Options{pageSize: size, CheckpointPages: 2000 * 4096 / size})
			member := join(b, backend)
			runs := make([]storage.Run, 64)
			for i := range runs {
				runs[i] = ownedRun(b, backend, member)
			}
			concurrently(b, 64, func(i int) { appendTo(b, backend, &runs[i], storage.Unit{Records: [][]byte{record}}) })
		})
		b.Run(fmt.Sprintf("size=%d/alone", size), func(b *testing.B) {
			backend := open(b, &Options{pageSize: size, CheckpointPages: 2000 * 4096 / size})
			r := ownedRun(b, backend, join(b, backend))
			concurrently(b, 1, func(int) { appendTo(b, backend, &r, storage.Unit{Records: [][]byte{record}}) })
		})
		b.Run(fmt.Sprintf("size=%d/large", size), func(b *testing.B) {
			backend := open(b, &Options{pageSize: size, CheckpointPages: 2000 * 4096 / size})
			r := ownedRun(b, backend, join(b, backend))
			large := make([]byte, 1<<20)
			b.SetBytes(int64(len(large)))
			concurrently(b, 1, func(int) { appendTo(b, backend, &r, storage.Unit{Records: [][]byte{large}}) })
		})
	}
}
