package pgtest_test

import (
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fermata-go/fermata/internal/pgtest"
)

func TestDSN(t *testing.T) {
	t.Parallel()
	a, b := pgtest.DSN(t), pgtest.DSN(t)
	if a == b {
		t.Errorf("two databases of one name: %s", a)
	}
	conn, err := pgx.Connect(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		var value string
		if err := conn.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&value); err != nil || value != "on" {
			t.Errorf("%s is %q (%v), want on: the tests are about durability", setting, value, err)
		}
	}
}

func TestEveryTestFindsAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			run(t, pgtest.DSN(t), `CREATE TABLE left_behind (n int); CREATE SCHEMA own; CREATE TABLE own.left_behind (n int)`)
		})
	}
}

func TestKilledServerComesBack(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	dsn := s.Database(t)
	run(t, dsn, "CREATE TABLE kept (n int)")
	s.Kill(t)
	s.Restart(t)
	run(t, dsn, "INSERT INTO kept VALUES (1)")
	s.Stop(t)
	if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
		conn.Close(t.Context())
		t.Fatal("a stopped server accepts connections")
	}
	s.Restart(t)
	run(t, dsn, "INSERT INTO kept VALUES (2)")
}

func run(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}
