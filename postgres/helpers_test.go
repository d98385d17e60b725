package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

func open(tb testing.TB, dsn string, o *postgres.Options) *postgres.Backend {
	tb.Helper()
	backend, err := postgres.Open(tb.Context(), dsn, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := backend.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return backend
}

func connect(tb testing.TB, dsn string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func execute(tb testing.TB, conn *pgx.Conn, sql string, args ...any) {
	tb.Helper()
	if _, err := conn.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// value is the one value that a query returns.
func value[T any](tb testing.TB, conn *pgx.Conn, sql string, args ...any) (v T) {
	tb.Helper()
	if err := conn.QueryRow(tb.Context(), sql, args...).Scan(&v); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return v
}

// eventually waits until a condition holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			tb.Fatalf("it did not happen: %s", what)
		}
	}
}

func join(tb testing.TB, b storage.Backend) storage.Membership {
	tb.Helper()
	m, err := b.Join(tb.Context(), "test")
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// start makes a start on a fresh thread.
func start(owner storage.Membership) storage.Start {
	id := storage.NewID(time.Now())
	s := storage.Start{Run: storage.Run{ID: id, Thread: "thread " + id.String(), Entrypoint: "graph", Input: []byte(`"foo"`)}}
	if owner != nil {
		s.Run.Owner = owner.ID()
	}
	return s
}

// running starts a run on a fresh thread that m owns.
func running(tb testing.TB, b storage.Backend, m storage.Membership) storage.Run {
	tb.Helper()
	started, err := b.Start(tb.Context(), start(m))
	if err != nil {
		tb.Fatal(err)
	}
	return started.Run
}

// unit completes a unit of r.
func unit(r *storage.Run, u storage.Unit) storage.Unit {
	u.Tenant, u.Run, u.Token, u.First = r.Tenant, r.ID, r.Token, r.LastSeq+1
	if u.Records == nil {
		u.Records = [][]byte{fmt.Appendf(nil, "record %d", u.First)}
	}
	for i := range u.Questions {
		if u.Questions[i].ID.IsZero() {
			u.Questions[i].ID = storage.NewID(time.Now())
		}
		u.Questions[i].Seq = u.First
	}
	return u
}

// appended commits a unit of r and counts it in r.
func appended(tb testing.TB, b storage.Backend, r *storage.Run, u storage.Unit) storage.Committed {
	tb.Helper()
	u = unit(r, u)
	list, err := b.Append(tb.Context(), []storage.Unit{u})
	if err == nil {
		err = list[0].Err
	}
	if err != nil {
		tb.Fatal(err)
	}
	r.LastSeq += int64(len(u.Records))
	return list[0]
}

// waiting makes an interrupted run with one open question.
func waiting(tb testing.TB, b storage.Backend, m storage.Membership) (storage.Run, storage.Question) {
	tb.Helper()
	r := running(tb, b, m)
	asked := []storage.Question{{}}
	appended(tb, b, &r, storage.Unit{Questions: asked, Status: storage.Interrupted})
	return r, asked[0]
}

func answer(q storage.Question, value string) storage.Settlement {
	return storage.Settlement{
		Tenant: q.Tenant, Question: q.ID, State: storage.Answered, Answer: []byte(value),
		By: storage.Principal{Kind: "person", Subject: "ada"},
	}
}

func settled(tb testing.TB, b storage.Backend, s storage.Settlement) storage.Settled {
	tb.Helper()
	list, err := b.Settle(tb.Context(), []storage.Settlement{s})
	if err != nil {
		tb.Fatal(err)
	}
	return list[0]
}
