// Package pgtest gives tests a PostgreSQL of their own: a private cluster,
// made from the binaries installed on the machine, with fsync on, on a free
// port of the loopback interface. It is started by the first test that asks
// for it and goes away with the test binary, however that ends.
//
// Two variables of the environment change this. FERMATA_TEST_POSTGRES holds the
// DSN of a running server to use instead; its user must be allowed to create
// databases. FERMATA_REQUIRE_POSTGRES=1 makes a test fail, not skip, when there
// is no PostgreSQL at all.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// DSN returns the address of an empty database on the shared server, for
// this test alone. Without PostgreSQL the test is skipped.
func DSN(t testing.TB) string {
	t.Helper()
	if dsn := os.Getenv("FERMATA_TEST_POSTGRES"); dsn != "" {
		return newDatabase(t, dsn, false)
	}
	shared.once.Do(func() { shared.server, shared.err = startServer() })
	if shared.err != nil {
		giveUp(t, shared.err)
	}
	return shared.server.Database(t)
}

var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// errAbsent: the machine has no PostgreSQL that could be started.
var errAbsent = errors.New("no PostgreSQL binaries found (looked at pg_config, /usr/lib/postgresql and PATH)")

func giveUp(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errAbsent) && os.Getenv("FERMATA_REQUIRE_POSTGRES") != "1" {
		t.Skip(err)
	}
	t.Fatalf("pgtest: start a private PostgreSQL: %v", err)
}

// Server is a private PostgreSQL that a test may stop, kill and start again.
type Server struct {
	tools tools
	dir   string
	port  int
	guard *os.File // what the watcher waits on
}

// Start starts a server for this test alone; it is gone when the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := startServer()
	if err != nil {
		giveUp(t, err)
	}
	t.Cleanup(s.remove)
	return s
}

// New starts a server for a program that is no test. It is gone after Close, and
// when the program ends.
func New() (*Server, error) { return startServer() }

// Close removes the server with all that is in it.
func (s *Server) Close() { s.remove() }

// DSN is the address of a database that is there from the start, empty.
func (s *Server) DSN() string { return s.adminDSN() }

// Addr is the host and port that the server listens on.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Database returns the address of an empty database, for this test alone.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	return newDatabase(t, s.adminDSN(), true)
}

func (s *Server) adminDSN() string {
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", superuser, s.Addr())
}

// databases are those that ended tests have left, empty again, by server: to
// empty one costs a tenth of making one.
var databases struct {
	mu   sync.Mutex
	free map[string][]string
}

// newDatabase returns an empty database. With reuse it stays for other tests, else it is dropped when the test ends.
func newDatabase(t testing.TB, admin string, reuse bool) string {
	t.Helper()
	dsn, err := url.Parse(admin)
	if err != nil || dsn.Scheme == "" {
		t.Fatalf("pgtest: FERMATA_TEST_POSTGRES must be a URL like postgres://user@host:5432/postgres, it is %q", admin)
	}
	databases.mu.Lock()
	name := ""
	if free := databases.free[admin]; len(free) > 0 {
		name = free[len(free)-1]
		databases.free[admin] = free[:len(free)-1]
	}
	databases.mu.Unlock()
	if name == "" {
		name = "fermata_" + strings.ToLower(rand.Text()[:12])
		if err := execute(admin, "CREATE DATABASE "+name); err != nil {
			t.Fatalf("pgtest: create a database: %v", err)
		}
	}
	dsn.Path = "/" + name
	t.Cleanup(func() {
		if !reuse {
			if err := execute(admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
				t.Logf("pgtest: drop database %s: %v", name, err)
			}
			return
		}
		// It fails if the test has stopped its server: then the database goes with that.
		if err := execute(dsn.String(), emptySQL); err == nil {
			databases.mu.Lock()
			defer databases.mu.Unlock()
			if databases.free == nil {
				databases.free = map[string][]string{}
			}
			databases.free[admin] = append(databases.free[admin], name)
		}
	})
	return dsn.String()
}

// emptySQL ends all other sessions of a database and removes what is in it.
const emptySQL = `DO $$
DECLARE
	name text;
BEGIN
	WHILE EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()) LOOP
		PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
		PERFORM pg_stat_clear_snapshot();
		PERFORM pg_sleep(0.001);
	END LOOP;
	FOR name IN SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema' LOOP
		EXECUTE format('DROP SCHEMA %I CASCADE', name);
	END LOOP;
	CREATE SCHEMA public;
	EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END $$`

func execute(dsn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}
