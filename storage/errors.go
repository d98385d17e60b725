package storage

import (
	"errors"
	"fmt"
)

// The errors of the contract. A method documents which it returns and when.
var (
	// ErrInvalid: the request itself is malformed. Nothing was changed.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound: no such run, question, thread or item for this tenant.
	ErrNotFound = errors.New("not found")
	// ErrBusy: the thread has an active run, or the run is not in a state that
	// the request may take it from. The error is a *[BusyError].
	ErrBusy = errors.New("busy")
	// ErrConflict: a run with this id exists and was started with another
	// thread, entrypoint or input.
	ErrConflict = errors.New("run id already used for another start")
	// ErrStale: the token or the sequence is behind the run's: someone else owns it.
	ErrStale = errors.New("stale owner")
	// ErrDuplicate: this very unit is already committed. The caller may go on.
	ErrDuplicate = errors.New("unit already committed")
	// ErrLocked: another transaction holds the run's row; send the unit again.
	ErrLocked = errors.New("row locked by another transaction")
	// ErrSettled: the question is not open any more. The error is a *[SettledError].
	ErrSettled = errors.New("question settled")
	// ErrUnique: an open question with this unique key exists. The error is a *[UniqueError].
	ErrUnique = errors.New("an open question with this unique key exists")
	// ErrClosed: the backend, or the membership, is closed.
	ErrClosed = errors.New("storage closed")
	// ErrSchemaTooNew: the database was written by a newer version of fermata.
	ErrSchemaTooNew = errors.New("database written by a newer version")
	// ErrForeign: the database belongs to another program.
	ErrForeign = errors.New("not a fermata database")
	// ErrCorrupt: the database, or a row of it, can't be read as what it should be.
	ErrCorrupt = errors.New("database corrupt")
	// ErrUnopened: this process isn't set up to read a value, as without the key that sealed it. Another may be, so
	// an engine gives such a run back.
	ErrUnopened = errors.New("value can't be opened by this process")
	// ErrReadOnly: the database can't be written.
	ErrReadOnly = errors.New("database is read-only")
	// ErrFull: no room to write; nothing of the request was written.
	ErrFull = errors.New("no space left for the database")
	// ErrUnsupported: this backend can't do what was asked, and never will.
	ErrUnsupported = errors.New("not supported by this backend")
)

// BusyError says which run stood in the way. It matches [ErrBusy].
type BusyError struct {
	Run Run
	// Alive says whether the run's owner, if it has one, is a living member.
	Alive bool
	// Open is the number of open questions of the run.
	Open int
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("busy: run %s of thread %.80q is %s", e.Run.ID, e.Run.Thread, e.Run.Status)
}

// Is reports whether target is [ErrBusy].
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// SettledError carries the question as it is now. It matches [ErrSettled].
type SettledError struct{ Question Question }

func (e *SettledError) Error() string {
	return fmt.Sprintf("question %s is already %s", e.Question.ID, e.Question.State)
}

// Is reports whether target is [ErrSettled].
func (e *SettledError) Is(target error) bool { return target == ErrSettled }

// UniqueError names the open question that holds the key. It matches [ErrUnique].
type UniqueError struct {
	Question ID
	Name     string // of both questions
	Key      string
}

func (e *UniqueError) Error() string {
	return fmt.Sprintf("open question %s already holds the unique key %.80q of questions named %.80q", e.Question, e.Key, e.Name)
}

// Is reports whether target is [ErrUnique].
func (e *UniqueError) Is(target error) bool { return target == ErrUnique }
