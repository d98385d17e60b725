package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-go/fermata/storage"
)

// transient reports whether a call that failed with err may succeed if it is
// made again: the connection or the server went away, or the transaction was
// chosen to fail for others' sake. Whether it was committed is not known.
func transient(err error) bool {
	if sentinel(err) {
		return false
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true // no word from the server: a fault of the connection
	}
	switch pg.Code {
	case "40001", "40P01", // serialization failure, deadlock
		"55P03",                            // lock not available
		"57P01", "57P02", "57P03", "57P05", // shut down, crashed, starting up, idle session ended
		"53300",          // too many connections
		unknownStatement: // it is sent again without names
		return true
	}
	return strings.HasPrefix(pg.Code, "08")
}

// sentinel reports whether err is one that the contract names.
func sentinel(err error) bool {
	for _, s := range []error{
		storage.ErrInvalid, storage.ErrNotFound, storage.ErrBusy, storage.ErrConflict, storage.ErrStale, storage.ErrDuplicate,
		storage.ErrLocked, storage.ErrSettled, storage.ErrUnique, storage.ErrClosed, storage.ErrSchemaTooNew, storage.ErrForeign,
		storage.ErrCorrupt, storage.ErrReadOnly, storage.ErrFull, storage.ErrUnsupported,
	} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// explain gives an error of the server the sentinel that it is a case of and says what can be done about it.
func explain(err error) error {
	var pg *pgconn.PgError
	if err == nil || sentinel(err) || !errors.As(err, &pg) {
		return err
	}
	switch pg.Code {
	case "53100":
		return fmt.Errorf("%w: the server's disk is full: free space there and try again: %w", storage.ErrFull, err)
	case "25006":
		return fmt.Errorf("%w: the server is a standby, or the role's transactions are read-only: use the primary's address: %w", storage.ErrReadOnly, err)
	case "42501":
		return fmt.Errorf("%w: the role lacks a privilege on fermata's schema: grant it, or connect as the schema's owner: %w", storage.ErrReadOnly, err)
	case "XX001", "XX002":
		return fmt.Errorf("%w: the server found damaged data: restore from a backup: %w", storage.ErrCorrupt, err)
	case "3F000", "42P01", "42883", "42703", "42704":
		return fmt.Errorf("%w: tables or functions of fermata are missing: were they dropped while the program ran? %w", storage.ErrForeign, err)
	case "22021", "22P05", "22P02":
		return fmt.Errorf("%w: PostgreSQL keeps texts in UTF-8 without NUL: %w", storage.ErrInvalid, err)
	case "54000":
		if strings.Contains(pg.Routine, "Notify") { // texts are translated, names of routines are not
			return fmt.Errorf("%w: the server's queue of notifications is full: a session that listens doesn't end its transaction; end the session: %w", storage.ErrFull, err)
		}
		return fmt.Errorf("%w: a name is too long for PostgreSQL: %w", storage.ErrInvalid, err)
	case "22008":
		return fmt.Errorf("%w: a time is out of PostgreSQL's range: %w", storage.ErrInvalid, err)
	case "23505":
		return fmt.Errorf("%w: an id is already in use: %w", storage.ErrInvalid, err)
	}
	return err
}

// failed words the error of an operation for the caller.
func (b *Backend) failed(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case b.ctx.Err() != nil:
		return fmt.Errorf("postgres: %s: %w", what, storage.ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("postgres: %s: %w", what, context.Cause(ctx))
	}
	return fmt.Errorf("postgres: %s: %w", what, explain(err))
}
