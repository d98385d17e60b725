package sqlite

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// rows returns how many rows f writes.
func rows(t *testing.T, b *Backend, f func()) int64 {
	t.Helper()
	before, err := b.writer.value("SELECT total_changes()")
	if err != nil {
		t.Fatal(err)
	}
	f()
	after, err := b.writer.value("SELECT total_changes()")
	if err != nil {
		t.Fatal(err)
	}
	return after - before
}

func TestRowBudget(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := open(t, nil)
	member := join(t, b)
	warm := ownedRun(t, b, member)
	pause(t, b, &warm) // interns the schema
	var r storage.Run
	var q storage.Question
	for _, step := range []struct {
		name string
		want int64
		do   func()
	}{
		{"start", 1, func() { r = ownedRun(t, b, member) }},
		{"append", 1, func() { appendTo(t, b, &r, storage.Unit{Records: [][]byte{record, record}}) }},
		{"pause", 2, func() { q = pause(t, b, &r) }},
		{"settle", 2, func() {
			s, err := b.Settle(ctx, []storage.Settlement{{Question: q.ID, State: storage.Answered, Answer: []byte("1"), Member: member}})
			if err != nil || !s[0].Acquired {
				t.Fatal(s, err)
			}
			r = s[0].Run
		}},
		{"append", 1, func() { appendTo(t, b, &r, storage.Unit{}) }},
		{"end", 1, func() { appendTo(t, b, &r, storage.Unit{Status: storage.Finished, Result: record}) }},
		{"poll", 0, func() {
			if _, err := b.Poll(ctx, storage.Poll{Member: member, Entrypoints: []string{"graph"}, Limit: 9}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		if got := rows(t, b, step.do); got != step.want {
			t.Errorf("%s wrote %d rows, want %d", step.name, got, step.want)
		}
	}
	if got := texts(t, b, r.ID); len(got) != 5 {
		t.Errorf("records %q", got)
	}
}

// fileSize is the size of the database when all of it is in its file.
func fileSize(t testing.TB, b *Backend) int64 {
	t.Helper()
	if err := b.writer.run("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(b.Path())
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestSizeBudget(t *testing.T) {
	t.Parallel()
	b := open(t, &Options{Synchronous: Normal})
	member := join(t, b)
	const parked, steps = 3000, 5000
	empty := fileSize(t, b)
	for range parked {
		r := ownedRun(t, b, member)
		appendTo(t, b, &r, storage.Unit{Records: [][]byte{record[:40]}})
		pause(t, b, &r)
	}
	full := fileSize(t, b)
	if got := (full - empty) / parked; got > 600 {
		t.Errorf("a parked run takes %d bytes, want 600 at most", got)
	} else {
		t.Logf("a parked run takes %d bytes", got)
	}
	r := ownedRun(t, b, member)
	for range steps {
		appendTo(t, b, &r, storage.Unit{Records: [][]byte{record[:30]}})
	}
	if got := (fileSize(t, b) - full) / steps; got > 60 {
		t.Errorf("a step with 30 bytes takes %d bytes, want 60 at most", got)
	} else {
		t.Logf("a step with 30 bytes takes %d bytes", got)
	}
}

// TestPlans looks at the plans of all statements that a tour through the
// contract has prepared: each finds its rows by a key.
func TestPlans(t *testing.T) {
	t.Parallel()
	b := open(t, &Options{ReadConns: 1, Synchronous: Normal})
	tour(t, b)
	reader := <-b.pool.free
	defer func() { b.pool.free <- reader }()
	for _, c := range []*conn{b.writer.conn, reader} {
		for text := range c.queries {
			if word, _, _ := strings.Cut(text, " "); !slices.Contains([]string{"SELECT", "UPDATE", "DELETE", "INSERT"}, word) {
				continue
			}
			stmt, _, err := c.raw.PrepareTransient("EXPLAIN QUERY PLAN " + text)
			if err != nil {
				t.Fatal(err)
			}
			for {
				more, err := stmt.Step()
				if err != nil {
					t.Fatal(err)
				}
				if !more {
					break
				}
				plan := stmt.ColumnText(3)
				scans := strings.HasPrefix(plan, "SCAN") && plan != "SCAN CONSTANT ROW" || strings.Contains(plan, "TEMP B-TREE")
				if scans && !slices.ContainsFunc(mayScan, func(s string) bool { return strings.HasSuffix(text, s) }) {
					t.Errorf("%s\n\t%s", plan, text)
				}
			}
			stmt.Finalize()
		}
	}
}

// mayScan are the ends of the statements that read a table, each with its reason.
var mayScan = []string{
	" FROM question WHERE tenant = ?",                                                                   // a list of settled questions of all threads
	"WHERE deadline < ? AND deadline IS NOT NULL AND state = 1 LIMIT ?)",                                // of a subquery, which has found them by a key
	"SELECT max(coalesce((SELECT max(n) FROM run), 0), (SELECT value FROM counter WHERE name = 'run'))", // a plan says SCAN for a look at an index's end
	"SELECT max(coalesce((SELECT max(change) FROM question), 0), (SELECT value FROM counter WHERE name = 'change'))",
	"SET value = max(value, coalesce((SELECT max(n) FROM run), 0)) WHERE name = 'run'",
	"SET value = max(value, coalesce((SELECT max(change) FROM question), 0)) WHERE name = 'change'",
}

// tour calls every method, with everything that changes what is asked of the database.
func tour(t *testing.T, b *Backend) {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	member := join(t, b)
	everybody := &storage.Principal{Subject: "ada", Groups: []string{"ops"}}
	r := ownedRun(t, b, member)
	questions := []storage.Question{question(&r), question(&r), question(&r), question(&r)}
	questions[0].Deadline = time.Now().Add(time.Hour)
	questions[1].Group, questions[1].Unique, questions[1].Tags = "g", "u", []string{"t"}
	questions[2].Users, questions[2].Priority = []string{"ada"}, 3
	questions[3].Group = "g"
	appendTo(t, b, &r, storage.Unit{Questions: questions})
	appendTo(t, b, &r, storage.Unit{Close: []storage.ID{questions[2].ID}, CloseState: storage.Withdrawn})
	_, err := b.Extend(ctx, "", questions[0].ID, time.Now().Add(2*time.Hour))
	must(err)
	for _, order := range []storage.QuestionOrder{storage.ByAsked, storage.ByDeadline, storage.ByPriority} {
		for _, after := range []*storage.Question{nil, {Priority: 2}, {Priority: -2}, {Deadline: time.Now()}} {
			for _, who := range []*storage.Principal{nil, everybody} {
				for _, tags := range [][]string{nil, {"t"}} {
					_, err := b.ListQuestions(ctx, storage.QuestionFilter{States: []storage.QuestionState{storage.Open}, Order: order, After: after, For: who, Tags: tags})
					must(err)
				}
			}
		}
	}
	for _, f := range []storage.QuestionFilter{{}, {States: []storage.QuestionState{storage.Answered}}, {DueBefore: time.Now(), States: []storage.QuestionState{storage.Open}}, {MinPriority: new(-3), States: []storage.QuestionState{storage.Open}}, {Thread: r.Thread}, {Run: r.ID}, {Tags: []string{"t"}, States: []storage.QuestionState{storage.Open}},
		{Entrypoint: "graph", States: []storage.QuestionState{storage.Open}}, {For: everybody, States: []storage.QuestionState{storage.Open}}} {
		_, err := b.ListQuestions(ctx, f)
		must(err)
		_, err = b.CountQuestions(ctx, f)
		must(err)
	}
	_, err = b.Settle(ctx, []storage.Settlement{{Question: questions[1].ID, State: storage.Answered}, {Question: questions[1].ID, State: storage.Answered}})
	must(err)
	_, err = b.QuestionChanges(ctx, "", 0, 0)
	must(err)
	_, err = b.Question(ctx, "", questions[3].ID)
	must(err)
	unit := unitOf(&r, storage.Unit{Status: storage.Interrupted, Due: time.Now().Add(time.Hour), SeenInbox: 9})
	for range 2 {
		_, err = b.Append(ctx, []storage.Unit{unit})
		must(err)
	}
	_, err = b.Poll(ctx, storage.Poll{Member: member, Entrypoints: []string{"graph"}, Limit: 9})
	must(err)
	_, err = b.Acquire(ctx, storage.Acquire{Run: r.ID, Member: member, From: []storage.Status{storage.Interrupted}})
	must(err)
	_, err = b.Cancel(ctx, "", r.ID, "")
	must(err)
	_, _, err = b.Log(ctx, "", r.ID, 1, 1)
	must(err)
	_, err = b.Load(ctx, "", r.ID)
	must(err)
	_, err = b.Head(ctx, "", r.Thread)
	must(err)
	must(b.read(ctx, "load", func(c *conn) error {
		row, err := findRun(c, "", r.ID)
		if err == nil {
			_, err = readLog(ctx, c, row, 0, 0)
		}
		return err
	}))
	other := ownedRun(t, b, member)
	appendTo(t, b, &other, storage.Unit{Status: storage.Finished})
	for range 2 {
		_, err = b.Start(ctx, storage.Start{From: &storage.Checkpoint{Run: other.ID}, ForkSeq: 1, Supersede: true,
			Run: storage.Run{ID: storage.NewID(time.Now()), Thread: other.Thread, Entrypoint: "graph", Input: make([]byte, 9000)}})
		must(err)
	}
	must(b.PutThread(ctx, storage.Thread{ID: other.Thread}))
	_, err = b.ListThreads(ctx, storage.ThreadFilter{Entrypoint: "graph"})
	must(err)
	_, err = b.ListRuns(ctx, storage.RunFilter{})
	must(err)
	_, err = b.ListRuns(ctx, storage.RunFilter{Tenant: "acme"})
	must(err)
	_, err = b.ListRuns(ctx, storage.RunFilter{Thread: other.Thread})
	must(err)
	must(b.CopyThread(ctx, "", other.Thread, "copy"))
	_, err = b.PruneThread(ctx, "", other.Thread)
	must(err)
	must(b.DeleteThread(ctx, "", "copy"))
	item := storage.Item{Namespace: []string{"a"}, Key: "k", Value: []byte("v"), TTL: time.Hour}
	must(b.PutItems(ctx, []storage.Item{item, {Namespace: []string{"a"}, Key: "gone"}}))
	_, err = b.GetItem(ctx, "", []string{"a"}, "k", true)
	must(err)
	_, err = b.ListItems(ctx, storage.ItemFilter{Prefix: []string{"a"}, After: &item})
	must(err)
	_, err = b.ListNamespaces(ctx, "", nil)
	must(err)
	_, err = b.SweepItems(ctx, 9)
	must(err)
}
