package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fermata-go/fermata/storage"
)

// migrations are files named <version>_<part>.sql. The files of a version are
// run in the order of their names. What was released is never changed: a new version adds, and
// a function whose signature changes gets a new name, for programs of the old version go on calling the old one.
//
//go:embed migrations/*.sql
var migrations embed.FS

// leastServer is the oldest server whose SQL suffices.
const leastServer = 140000

type migration struct {
	version int
	sql     string
}

// readMigrations returns one migration per version, in order.
func readMigrations() ([]migration, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var list []migration
	for _, name := range names {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if n := len(list); n == 0 || list[n-1].version != version {
			list = append(list, migration{version: version})
		}
		list[len(list)-1].sql += string(text)
	}
	return list, nil
}

// migrate makes the schema what this version of the program needs. Programs
// that open the database at the same time wait for one another; those that are
// running aren't disturbed.
func (b *Backend) migrate(ctx context.Context) error {
	list, err := readMigrations()
	if err != nil {
		return fmt.Errorf("postgres: read the migrations: %w", err)
	}
	newest := list[len(list)-1].version
	var patience patience
	for {
		err = b.migrateOnce(ctx, list, newest)
		// Whether a lost migration was committed shows when it is looked at again.
		if err == nil || !transient(err) || isUnreachable(err) || !patience.wait(ctx, b.options.RetryTimeout) {
			break
		}
	}
	if err != nil {
		return b.failed(ctx, fmt.Sprintf("open schema %q", b.options.Schema), err)
	}
	return nil
}

// isUnreachable reports whether not even a connection was made: a program that starts with a wrong address wants to know.
func isUnreachable(err error) bool {
	var connect interface{ SafeToRetry() bool }
	return errors.As(err, &connect)
}

func (b *Backend) migrateOnce(ctx context.Context, list []migration, newest int) error {
	return b.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		// The simple protocol: many statements at once, and nothing prepared.
		mode := pgx.QueryExecModeSimpleProtocol
		if err := b.checkServer(ctx, conn.Conn(), mode); err != nil {
			return err
		}
		version, err := b.version(ctx, conn.Conn(), mode)
		if err != nil || version == newest {
			return err
		}
		return pgx.BeginFunc(ctx, conn.Conn(), func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", mode, "fermata migration "+b.options.Schema); err != nil {
				return err
			}
			version, err := b.version(ctx, conn.Conn(), mode) // another may have been faster
			if err != nil || version == newest {
				return err
			}
			if version == 0 {
				if _, err := tx.Exec(ctx, b.place(createSQL), mode); err != nil {
					return err
				}
			}
			for _, m := range list {
				if m.version <= version {
					continue
				}
				if _, err := tx.Exec(ctx, b.place(m.sql), mode); err != nil {
					return fmt.Errorf("migration %d: %w", m.version, err)
				}
				if _, err := tx.Exec(ctx, b.place("INSERT INTO SCHEMA.fermata_version (version) VALUES ($1)"), mode, m.version); err != nil {
					return fmt.Errorf("migration %d: %w", m.version, err)
				}
			}
			return nil
		})
	})
}

const createSQL = `
DO $$ BEGIN
	IF to_regnamespace('"NAMESPACE"') IS NULL THEN
		CREATE SCHEMA "NAMESPACE";
	END IF;
END $$;
CREATE TABLE SCHEMA.fermata_version (version integer PRIMARY KEY, migrated timestamptz NOT NULL DEFAULT now());
`

func (b *Backend) checkServer(ctx context.Context, conn *pgx.Conn, mode pgx.QueryExecMode) error {
	// pgx refuses the simple protocol without these two before it asks the server, which would look like a lost connection.
	for name, want := range map[string]string{"standard_conforming_strings": "on", "client_encoding": "UTF8"} {
		if is := conn.PgConn().ParameterStatus(name); is != want {
			return fmt.Errorf("%w: %s is %q for this role, database or address; fermata needs %q: ALTER ROLE … SET %[2]s", storage.ErrUnsupported, name, is, want)
		}
	}
	var number int
	var isolation string
	err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('default_transaction_isolation')", mode).Scan(&number, &isolation)
	switch {
	case err != nil:
		return err
	case number < leastServer:
		return fmt.Errorf("%w: the server is version %d, 14 is the oldest that will do", storage.ErrUnsupported, number/10000)
	case isolation != "read committed":
		return fmt.Errorf("%w: default_transaction_isolation is %q for this role and database; fermata needs \"read committed\": ALTER ROLE … SET default_transaction_isolation",
			storage.ErrUnsupported, isolation)
	}
	return nil
}

// version is the version of the schema, 0 if it is empty or missing.
func (b *Backend) version(ctx context.Context, conn *pgx.Conn, mode pgx.QueryExecMode) (int, error) {
	var ours bool
	var others int
	err := conn.QueryRow(ctx, `SELECT
		EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'fermata_version'),
		(SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1)
		+ (SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1)`,
		mode, b.options.Schema).Scan(&ours, &others)
	switch {
	case err != nil:
		return 0, err
	case !ours && others > 0:
		return 0, fmt.Errorf("%w: schema %q holds something else: name another with Options.Schema", storage.ErrForeign, b.options.Schema)
	case !ours:
		return 0, nil
	}
	var version int
	if err := conn.QueryRow(ctx, b.place("SELECT coalesce(max(version), 0) FROM SCHEMA.fermata_version"), mode).Scan(&version); err != nil {
		return 0, err
	}
	list, err := readMigrations()
	if err != nil {
		return 0, err
	}
	if newest := list[len(list)-1].version; version > newest {
		return 0, fmt.Errorf("%w: schema %q has version %d, this program knows %d: update the program", storage.ErrSchemaTooNew, b.options.Schema, version, newest)
	}
	return version, nil
}
