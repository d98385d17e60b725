package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fermata-go/fermata/storage"
)

// What the engine's calls return. Each is documented where package fermata exports it.
var (
	ErrPaused          = errors.New("run paused")
	ErrOutsideRun      = errors.New("called outside a run")
	ErrConcurrentScope = errors.New("scope used by another goroutine")
	ErrScopeEnded      = errors.New("scope has ended")
	ErrDivergence      = errors.New("replay diverged from the record")
	ErrDraining        = errors.New("engine is draining")
	ErrClosed          = errors.New("engine closed")
	ErrLost            = errors.New("run taken over by another owner")
	ErrCancelled       = errors.New("run cancelled")
	ErrParked          = errors.New("run parked")
	ErrDefinition      = errors.New("invalid definition")
	ErrUnknownEntry    = errors.New("entrypoint not known to this engine")

	ErrInvalid         = errors.New("invalid request")
	ErrThreadBusy      = errors.New("thread has a running run")
	ErrQuestionOpen    = errors.New("thread has an open question")
	ErrNoQuestion      = errors.New("no open question")
	ErrAmbiguous       = errors.New("several questions are open")
	ErrStaleRevision   = errors.New("thread changed since it was read")
	ErrUnknownThread   = errors.New("unknown thread")
	ErrUnknownRun      = errors.New("unknown run")
	ErrUnknownQuestion = errors.New("unknown question")
	ErrAlreadyAnswered = errors.New("question already answered")
	ErrExpired         = errors.New("question expired")
	ErrWithdrawn       = errors.New("question withdrawn")
	ErrSuperseded      = errors.New("superseded by a newer input")
	ErrInvalidAnswer   = errors.New("answer does not fit the question")
	ErrNotAllowed      = errors.New("principal may not answer this question")
	ErrIDRequired      = errors.New("answers need the question's id")
	ErrNotUnique       = errors.New("an open question has this unique key")
	ErrUnsatisfiable   = errors.New("nobody could answer this question")
	ErrStaleApproval   = errors.New("approval is not for this action")
	ErrApprovalUsed    = errors.New("approval already used")
	ErrApprovalExpired = errors.New("approval expired")
	ErrRunConflict     = errors.New("run id already used for another start")
	ErrRunEnded        = errors.New("run has ended")
	ErrNothingToRetry  = errors.New("nothing to retry")
	ErrStorage         = errors.New("storage failed")
)

// Error says what went wrong, where, and what to do next.
type Error struct {
	Op     string // the verb, as "start"
	Thread string
	Run    storage.ID
	Path   string // of the call, as "graph/human_feedback"
	// Reason is one of the sentinels of this package.
	Reason error
	// Hint says what to do next.
	Hint string
	// Err is the cause underneath; nil if Reason says it all.
	Err error
	// Questions concerned: the open ones, or the settled one.
	Questions []storage.Question
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("fermata: ")
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(e.Reason.Error())
	var where []string
	if e.Thread != "" {
		where = append(where, fmt.Sprintf("thread %s", quoteID(e.Thread)))
	}
	if !e.Run.IsZero() {
		where = append(where, "run "+e.Run.String())
	}
	if e.Path != "" {
		where = append(where, "at "+e.Path)
	}
	if len(where) > 0 {
		b.WriteString(" (" + strings.Join(where, ", ") + ")")
	}
	if e.Err != nil {
		// Where the cause names the reason too, once is enough.
		b.WriteString(": " + strings.Replace(e.Err.Error(), e.Reason.Error()+": ", "", 1))
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap gives the reason and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// quoteID quotes an id that a user gave, and cuts a long one.
func quoteID(id string) string {
	const most = 80
	if len(id) > most {
		return fmt.Sprintf("%q… (%d bytes)", id[:most], len(id))
	}
	return fmt.Sprintf("%q", id)
}

// runError is storageError for the reading of a run, which may be gone, or have never come to be.
func runError(op, thread string, run storage.ID, err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return &Error{
			Op: op, Thread: thread, Run: run, Reason: ErrUnknownRun,
			Hint: "its thread was deleted, or the transaction that started it isn't committed",
		}
	}
	return storageError(op, thread, run, err)
}

// storageError gives an error of the backend its place in this package's errors.
func storageError(op, thread string, run storage.ID, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Thread: thread, Run: run, Reason: ErrStorage, Err: err}
	switch {
	case errors.Is(err, storage.ErrClosed):
		e.Hint = "the backend was closed; nothing of this call was kept. Close the engine before its backend"
	case errors.Is(err, storage.ErrFull):
		e.Hint = "free space; what was recorded before is intact, and the run goes on from there"
	case errors.Is(err, storage.ErrReadOnly):
		e.Hint = "make the database writable"
	case errors.Is(err, storage.ErrCorrupt):
		e.Hint = "restore the database from a backup; nothing was changed"
	case errors.Is(err, storage.ErrInvalid):
		e.Reason = ErrInvalid
	}
	return e
}
