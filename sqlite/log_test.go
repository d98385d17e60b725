package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// TestLogFromAllPlaces: a log is one, wherever its units are kept: in the log table, with a question, in the run's row.
func TestLogFromAllPlaces(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := open(t, nil)
	member := join(t, b)
	r := ownedRun(t, b, member)
	var want []string
	var units []storage.Unit
	add := func(u storage.Unit, records int) {
		t.Helper()
		for i := range records {
			want = append(want, fmt.Sprintf("record %d", r.LastSeq+int64(i)+1))
			u.Records = append(u.Records, []byte(want[len(want)-1]))
		}
		for i := range u.Questions { // the asking record is not the first of its unit
			u.Questions[i].Seq = r.LastSeq + int64(records)
		}
		u.SeenInbox = 99
		units = append(units, unitOf(&r, u))
		appendTo(t, b, &r, u)
		if u.Status == 0 {
			return
		}
		var err error
		if r, err = b.Acquire(ctx, storage.Acquire{Run: r.ID, Member: member, From: []storage.Status{u.Status}}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func() []storage.Question { return []storage.Question{question(&r), question(&r)} }
	add(storage.Unit{}, 2)
	add(storage.Unit{Questions: ask(), Status: storage.Interrupted}, 3)
	add(storage.Unit{Questions: ask()}, 1)
	add(storage.Unit{Questions: ask(), Status: storage.Queued}, 1)
	add(storage.Unit{Status: storage.Interrupted}, 1)
	add(storage.Unit{Status: storage.Finished, Result: []byte("1")}, 4) // its row must give the unit up when it goes on
	add(storage.Unit{Questions: ask(), Status: storage.Parked, Error: []byte("1")}, 2)
	add(storage.Unit{Questions: ask(), Status: storage.Finished}, 2)
	add(storage.Unit{}, 1)
	last := storage.Unit{Status: storage.Finished}
	units = append(units, unitOf(&r, last))
	want = append(want, fmt.Sprintf("record %d", r.LastSeq+1))
	appendTo(t, b, &r, last)

	l, err := b.Load(ctx, "", r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, record := range l.Records {
		got = append(got, string(record.Data))
		if record.Seq != int64(i+1) || i > 0 && record.At.Before(l.Records[i-1].At) {
			t.Errorf("record %d has the sequence %d and the time %v", i+1, record.Seq, record.At)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("log %q\nwant %q", got, want)
	}
	if l.Run.LastSeq != int64(len(want)) || l.Run.Result != nil {
		t.Errorf("LastSeq %d, result %q; want %d and none", l.Run.LastSeq, l.Run.Result, len(want))
	}
	for after := range len(want) + 1 {
		for limit := range 6 {
			_, records, err := b.Log(ctx, "", r.ID, int64(after), limit)
			if err != nil {
				t.Fatal(err)
			}
			end := len(want)
			if limit > 0 {
				end = min(end, after+limit)
			}
			var got []string
			for _, record := range records {
				got = append(got, string(record.Data))
			}
			if !slices.Equal(got, want[after:end]) {
				t.Errorf("Log after %d, limit %d: %q, want %q", after, limit, got, want[after:end])
			}
		}
	}
	for i, u := range units {
		list, err := b.Append(ctx, []storage.Unit{u})
		if err != nil || !errors.Is(list[0].Err, storage.ErrDuplicate) {
			t.Errorf("unit %d again: %v %v, want ErrDuplicate", i, list, err)
		}
		u.Token += 50
		list, err = b.Append(ctx, []storage.Unit{u})
		if err != nil || !errors.Is(list[0].Err, storage.ErrStale) {
			t.Errorf("unit %d with another token: %v %v, want ErrStale", i, list, err)
		}
	}
}

// What is large doesn't live in rows that are written again and again.
func TestLargeValuesAreWrittenOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := open(t, nil)
	member := join(t, b)
	large := bytes.Repeat([]byte("large "), 50_000)
	id := storage.NewID(time.Now())
	started, err := b.Start(ctx, storage.Start{Run: storage.Run{ID: id, Thread: "t", Entrypoint: "graph", Owner: member, Input: large, Config: []byte{}}})
	if err != nil {
		t.Fatal(err)
	}
	r := started.Run
	commit := func() int64 {
		if err := b.writer.run("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			t.Fatal(err)
		}
		appendTo(t, b, &r, storage.Unit{Status: storage.Interrupted})
		if r, err = b.Acquire(ctx, storage.Acquire{Run: r.ID, Member: member, From: []storage.Status{storage.Interrupted}}); err != nil {
			t.Fatal(err)
		}
		var pages int64
		if _, err := b.writer.query("PRAGMA wal_checkpoint(PASSIVE)").first(func(q *query) { pages = q.colInt(1) }); err != nil {
			t.Fatal(err)
		}
		return pages
	}
	if pages := commit(); pages > 20 {
		t.Errorf("giving up and taking a run with a large input wrote %d pages", pages)
	}
	if !bytes.Equal(r.Input, large) || r.Config == nil || len(r.Config) != 0 {
		t.Errorf("input of %d bytes, config %v", len(r.Input), r.Config)
	}
}

// Numbers of runs and of changes are not given again, even if those that had the highest are gone.
func TestNumbersAreGivenOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := open(t, nil).Path()
	var number, change int64
	for range 3 {
		b := openAt(t, path, nil)
		for range 2 {
			r := ownedRun(t, b, join(t, b))
			if r.Number <= number {
				t.Errorf("run number %d after %d", r.Number, number)
			}
			q := pause(t, b, &r)
			asked, err := b.Question(ctx, "", q.ID)
			if err != nil {
				t.Fatal(err)
			}
			if asked.Change <= change {
				t.Errorf("change %d after %d", asked.Change, change)
			}
			number, change = r.Number, asked.Change
			if err := b.DeleteThread(ctx, "", r.Thread); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Readers of pages see all open questions once, in order, however they are spread over indexes.
func TestPagesOfOpenQuestions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := open(t, &Options{Synchronous: Normal})
	r := ownedRun(t, b, join(t, b))
	var all []storage.Question
	for i := range 60 {
		q := question(&r)
		q.Priority = i%5 - 2
		if i%3 == 0 {
			q.Deadline = time.Now().Add(time.Duration(1+i%4) * time.Hour)
		}
		switch i % 7 {
		case 1:
			q.Users = []string{"ada", "bob"}
		case 2:
			q.Groups = []string{"ops", "dev"}
		case 3:
			q.Users, q.Groups = []string{"ada"}, []string{"ops"}
		case 4:
			q.Users = []string{"eve"}
		case 5:
			q.NotBy = []string{"ada"}
		}
		if i%2 == 0 {
			q.Tags = []string{"t"}
		}
		all = append(all, q)
		if i%4 == 3 { // several of one time, several times
			appendTo(t, b, &r, storage.Unit{Questions: all[i-3 : i+1]})
			for _, q := range all[:i+1] {
				q.Seq = r.LastSeq + 1
			}
		}
		for j := range all[i/4*4:] {
			all[i/4*4+j].Seq = r.LastSeq + 1
		}
	}
	for _, f := range []storage.QuestionFilter{
		{}, {For: &storage.Principal{Subject: "ada", Groups: []string{"ops", "dev"}}}, {For: &storage.Principal{Subject: "bob"}},
		{For: &storage.Principal{}}, {Tags: []string{"t"}}, {Run: r.ID}, {Thread: r.Thread, For: &storage.Principal{Subject: "ada"}},
	} {
		for _, order := range []storage.QuestionOrder{storage.ByAsked, storage.ByDeadline, storage.ByPriority} {
			f.Order, f.States = order, []storage.QuestionState{storage.Open}
			f.After, f.Limit = nil, 1000
			whole, err := b.ListQuestions(ctx, f)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := b.CountQuestions(ctx, f); err != nil || n[storage.Open] != len(whole) {
				t.Errorf("%+v: count %v, error %v; the list has %d", f, n, err, len(whole))
			}
			s := &search{f: &f}
			for i := 1; i < len(whole); i++ {
				a, b := hitOf(&whole[i-1]), hitOf(&whole[i])
				if s.compare(a, b) >= 0 {
					t.Errorf("%+v: places %d and %d are in the wrong order", f, i-1, i)
				}
			}
			for _, size := range []int{1, 7} {
				var paged []storage.ID
				for f.After, f.Limit = nil, size; ; {
					page, err := b.ListQuestions(ctx, f)
					if err != nil {
						t.Fatal(err)
					}
					for _, q := range page {
						paged = append(paged, q.ID)
					}
					if len(page) < size {
						break
					}
					f.After = &page[len(page)-1]
				}
				var want []storage.ID
				for _, q := range whole {
					want = append(want, q.ID)
				}
				if !slices.Equal(paged, want) {
					t.Errorf("%+v by pages of %d: %d questions, want the %d of the whole list", f, size, len(paged), len(want))
				}
			}
		}
	}
}

func hitOf(q *storage.Question) *hit {
	return (&search{f: &storage.QuestionFilter{After: q}}).after()
}

func TestLogOfADamagedLength(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := open(t, nil)
	r := ownedRun(t, b, join(t, b))
	appendTo(t, b, &r, storage.Unit{Records: [][]byte{{1}}})
	err := b.write(ctx, "damage", func(t *tx) error { return t.write(t.query("UPDATE run SET seq = ?").int(1 << 50)) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(ctx, "", r.ID); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("error %v", err)
	}
}
