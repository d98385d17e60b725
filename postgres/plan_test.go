package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/storage"
)

// rowsRead is how many rows and index entries of questions the server has read so far. It
// counts what a connection has read when that ends.
func rowsRead(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	execute(t, conn, "SELECT pg_stat_clear_snapshot()")
	return value[int](t, conn, "SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes WHERE relname = 'question'") +
		value[int](t, conn, "SELECT sum(seq_tup_read)::int FROM pg_stat_user_tables WHERE relname = 'question'")
}

// TestPagesOfOpenQuestionsAreReadFromAnIndex: in every order, wherever the page begins, and for one of many users.
func TestPagesOfOpenQuestionsAreReadFromAnIndex(t *testing.T) {
	t.Parallel()
	const questions, limit = 1000, 10
	dsn := pgtest.DSN(t)
	b := open(t, dsn, nil)
	m := join(t, b)
	conn := connect(t, dsn)
	execute(t, conn, "ALTER TABLE fermata.question SET (autovacuum_enabled = false)")
	r := running(t, b, m)
	asked := make([]storage.Question, questions)
	for i := range asked {
		asked[i] = storage.Question{Priority: i%3 - 1}
		if i%3 == 0 {
			asked[i].Users = []string{fmt.Sprint("user", i/3%60)}
		}
		if i%2 == 0 {
			asked[i].Deadline = time.Now().Add(time.Duration(i%7+1) * time.Hour)
		}
	}
	appended(t, b, &r, storage.Unit{Questions: asked, Status: storage.Interrupted})
	// list returns questions, and how many rows the server read for them.
	list := func(f storage.QuestionFilter) ([]storage.Question, int) {
		before := rowsRead(t, conn)
		reader := open(t, dsn, nil)
		page, err := reader.ListQuestions(t.Context(), f)
		if err != nil || len(page) != f.Limit {
			t.Fatalf("%d questions, error %v", len(page), err)
		}
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server counts", func() bool { return rowsRead(t, conn) >= before+f.Limit })
		return page, rowsRead(t, conn) - before
	}
	for _, state := range []string{"not analyzed", "analyzed"} {
		if state == "analyzed" {
			execute(t, conn, "ANALYZE fermata.question")
		}
		for _, order := range []storage.QuestionOrder{storage.ByAsked, storage.ByDeadline, storage.ByPriority} {
			f := storage.QuestionFilter{States: []storage.QuestionState{storage.Open}, Order: order, Limit: questions}
			all, _ := list(f)
			f.Limit = limit
			for _, after := range []*storage.Question{nil, &all[questions/3], &all[questions*2/3]} {
				f.After = after
				if _, read := list(f); read > 5*limit {
					t.Errorf("%s, order %d: %d rows were read for a page of %d", state, order, read, limit)
				}
			}
			f.After, f.For = nil, &storage.Principal{Subject: "user7"}
			if _, read := list(f); read > 10*limit && state == "analyzed" {
				t.Errorf("%s, order %d, of a user: %d rows were read for a page of %d", state, order, read, limit)
			}
		}
	}
}

// TestQuestionsOfOneRunAreNotSearchedAmongAll: what a run asks is found by the run, though
// a table that nobody has analyzed yet makes all indexes look the same to the planner.
func TestQuestionsOfOneRunAreNotSearchedAmongAll(t *testing.T) {
	t.Parallel()
	const runs, reads = 200, 20
	dsn := pgtest.DSN(t)
	b := open(t, dsn, nil)
	m := join(t, b)
	conn := connect(t, dsn)
	execute(t, conn, "ALTER TABLE fermata.question SET (autovacuum_enabled = false)")
	execute(t, conn, "ALTER TABLE fermata.run SET (autovacuum_enabled = false)")
	list := make([]storage.Run, runs)
	for i := range list {
		list[i], _ = waiting(t, b, m)
	}
	for name, filter := range map[string]func(r storage.Run) storage.QuestionFilter{
		"by run":    func(r storage.Run) storage.QuestionFilter { return storage.QuestionFilter{Run: r.ID} },
		"by thread": func(r storage.Run) storage.QuestionFilter { return storage.QuestionFilter{Thread: r.Thread} },
		"open, by run": func(r storage.Run) storage.QuestionFilter {
			return storage.QuestionFilter{Run: r.ID, States: []storage.QuestionState{storage.Open}, Limit: 1 << 20}
		},
	} {
		rows := func() int { return rowsRead(t, conn) }
		before := rows()
		reader := open(t, dsn, nil)
		for i := range reads {
			questions, err := reader.ListQuestions(t.Context(), filter(list[i*runs/reads]))
			if err != nil || len(questions) != 1 {
				t.Fatalf("%s: %d questions, error %v", name, len(questions), err)
			}
		}
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server counts", func() bool { return rows() >= before+reads })
		if read := rows() - before; read > 5*reads {
			t.Errorf("%s: %d rows were read for %d questions, one at a time", name, read, reads)
		}
	}
}
