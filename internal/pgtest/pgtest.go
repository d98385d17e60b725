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

// DSN returns the address of an empty database on the shared server, made for
// this test and dropped when it ends. Without PostgreSQL the test is skipped.
func DSN(t testing.TB) string {
	t.Helper()
	if dsn := os.Getenv("FERMATA_TEST_POSTGRES"); dsn != "" {
		return newDatabase(t, dsn)
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

// Addr is the host and port that the server listens on.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Database makes an empty database, dropped when the test ends, and returns its DSN.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	return newDatabase(t, s.adminDSN())
}

func (s *Server) adminDSN() string {
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", superuser, s.Addr())
}

func newDatabase(t testing.TB, admin string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := "fermata_" + strings.ToLower(rand.Text()[:12])
	dsn, err := url.Parse(admin)
	if err != nil || dsn.Scheme == "" {
		t.Fatalf("pgtest: FERMATA_TEST_POSTGRES must be a URL like postgres://user@host:5432/postgres, it is %q", admin)
	}
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		t.Fatalf("pgtest: connect: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("pgtest: create a database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, admin)
		if err != nil {
			return // the test stopped its server, and the database goes with it
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Logf("pgtest: drop database %s: %v", name, err)
		}
	})
	dsn.Path = "/" + name
	return dsn.String()
}
