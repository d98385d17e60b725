package postgres_test

import (
	"testing"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/storage"
)

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
		// The server counts what a connection has read when that ends.
		rows := func() int {
			execute(t, conn, "SELECT pg_stat_clear_snapshot()")
			return value[int](t, conn, "SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes WHERE relname = 'question'") +
				value[int](t, conn, "SELECT sum(seq_tup_read)::int FROM pg_stat_user_tables WHERE relname = 'question'")
		}
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
