package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fermata-go/fermata/internal/combine"
	"github.com/fermata-go/fermata/storage"
	driver "zombiezen.com/go/sqlite"
)

// fault turns an error of the driver, met while doing what op says, into one
// that names the file, says what to do and matches a sentinel of the contract
// where there is one. Errors that are the contract's own pass unchanged.
func (b *Backend) fault(op string, err error) error {
	switch {
	case err == nil, isContract(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, combine.ErrClosed):
		return b.closedError()
	}
	return describe(op, b.path, err)
}

func (b *Backend) closedError() error {
	return fmt.Errorf("sqlite: %s: %w", b.path, storage.ErrClosed)
}

// describe is fault for errors of a file that is not open yet.
func describe(op, path string, err error) error {
	advice, sentinel := classify(err)
	if sentinel == nil {
		return fmt.Errorf("sqlite: %s: %s: %w", op, path, err)
	}
	return fmt.Errorf("sqlite: %s: %s: %w: %s (%v)", op, path, sentinel, advice, err)
}

// classify says which error of the contract the driver's error is, and what to do about it.
func classify(err error) (advice string, sentinel error) {
	const damaged = "stop using the file, keep a copy of it and of its -wal file, and restore a backup"
	switch driver.ErrCode(err).ToPrimary() {
	case driver.ResultFull:
		return "free space on its disk and try again", storage.ErrFull
	case driver.ResultReadOnly, driver.ResultPerm:
		return "let this process write the file and the directory it is in", storage.ErrReadOnly
	case driver.ResultCorrupt, driver.ResultNotADB:
		return damaged, storage.ErrCorrupt
	case driver.ResultConstraint, driver.ResultMismatch:
		return damaged, storage.ErrCorrupt // what is written was checked before against the rows that were found
	case driver.ResultError:
		if text := err.Error(); strings.Contains(text, "no such ") || strings.Contains(text, "malformed") {
			return damaged, storage.ErrCorrupt // the statements are constants, and fit the tables of a sound file
		}
	case driver.ResultBusy:
		return "another process held the file's write lock for longer than Options.BusyTimeout; see what it is doing", storage.ErrLocked
	}
	return "", nil
}

// refusals are the errors of the contract that are an operation's answer: what
// it was asked can't be done now, and nothing is wrong with the database.
var refusals = []error{
	storage.ErrInvalid, storage.ErrNotFound, storage.ErrBusy, storage.ErrConflict, storage.ErrStale,
	storage.ErrDuplicate, storage.ErrSettled, storage.ErrUnique, storage.ErrClosed, storage.ErrUnsupported,
}

// faults are those that say what is wrong with it.
var faults = []error{
	storage.ErrCorrupt, storage.ErrFull, storage.ErrReadOnly, storage.ErrLocked, storage.ErrForeign, storage.ErrSchemaTooNew,
}

func isRefusal(err error) bool { return matchesAny(err, refusals) }

// isContract reports whether err already matches an error of the contract.
func isContract(err error) bool { return matchesAny(err, refusals) || matchesAny(err, faults) }

func matchesAny(err error, sentinels []error) bool {
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}
