package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

func TestOpenersMigrateOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	running := open(t, dsn, &postgres.Options{Schema: "other"}) // a program that is at work meanwhile
	m := join(t, running)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			b, err := postgres.Open(t.Context(), dsn, &postgres.Options{Connections: 2})
			if err != nil {
				t.Error(err)
				return
			}
			defer b.Close()
			if _, err := b.Start(t.Context(), start(nil)); err != nil {
				t.Error(err)
			}
		})
	}
	for range 20 {
		if _, err := running.Start(t.Context(), start(m)); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	conn := connect(t, dsn)
	if n := value[int](t, conn, "SELECT count(*) FROM fermata.fermata_version"); n != 1 {
		t.Errorf("%d versions were migrated, want 1", n)
	}
	if n := value[int](t, conn, "SELECT count(*) FROM fermata.run"); n != 8 {
		t.Errorf("the schema has %d runs, want 8", n)
	}
	if n := value[int](t, conn, "SELECT count(*) FROM other.run"); n != 20 {
		t.Errorf("the other schema has %d runs, want 20", n)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare string
		options postgres.Options
		want    error
		says    string
	}{
		"newer":     {"CREATE SCHEMA fermata; CREATE TABLE fermata.fermata_version (version int); INSERT INTO fermata.fermata_version VALUES (1), (1000)", postgres.Options{}, storage.ErrSchemaTooNew, "1000"},
		"foreign":   {"CREATE SCHEMA fermata; CREATE TABLE fermata.users (name text)", postgres.Options{}, storage.ErrForeign, "fermata"},
		"functions": {"CREATE SCHEMA fermata; CREATE FUNCTION fermata.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", postgres.Options{}, storage.ErrForeign, "Options.Schema"},
		"name":      {"", postgres.Options{Schema: `a"b`}, storage.ErrInvalid, "schema"},
		"system":    {"", postgres.Options{Schema: "pg_catalog"}, storage.ErrInvalid, "schema"},
		"long":      {"", postgres.Options{Schema: strings.Repeat("a", 41)}, storage.ErrInvalid, "schema"},
		"timeout":   {"", postgres.Options{Heartbeat: 10, MemberTimeout: 15}, storage.ErrInvalid, "MemberTimeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.DSN(t)
			if c.prepare != "" {
				execute(t, connect(t, dsn), c.prepare)
			}
			b, err := postgres.Open(t.Context(), dsn, &c.options)
			if err == nil {
				b.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v that mentions %s", err, c.want, c.says)
			}
		})
	}
}

// TestOpenRefusesSettings: and says so at once.
func TestOpenRefusesSettings(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	for name, value := range map[string]string{
		"default_transaction_isolation": "serializable", "standard_conforming_strings": "off", "client_encoding": "LATIN1",
	} {
		_, err := postgres.Open(t.Context(), dsn+"&"+name+"="+value, &postgres.Options{RetryTimeout: time.Hour})
		if !errors.Is(err, storage.ErrUnsupported) || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want ErrUnsupported that mentions %s", err, name)
		}
	}
}

func TestOpenUsesAnEmptySchema(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	execute(t, connect(t, dsn), `CREATE SCHEMA "order"`) // a name that needs quotes
	b := open(t, dsn, &postgres.Options{Schema: "order"})
	r := running(t, b, join(t, b))
	appended(t, b, &r, storage.Unit{})
}

// Settings that a role may have don't weaken what is promised.
func TestCommitsAreDurableWhateverTheDefault(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	b := open(t, dsn, nil)
	conn := connect(t, dsn+"&synchronous_commit=off")
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := b.In(tx).Start(t.Context(), start(nil)); err != nil {
		t.Fatal(err)
	}
	if got := value[string](t, conn, "SHOW synchronous_commit"); got != "on" {
		t.Errorf("synchronous_commit is %s in a transaction with a start, want on", got)
	}
}
