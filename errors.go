package fermata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/fermata-go/fermata/internal/codec"
	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/internal/schema"
)

// What code of a run gets from durable calls. None of them is ever recorded as
// the outcome of a task: pass them up.
var (
	// ErrPaused: a person is asked. Whatever the code does now, the run ends
	// interrupted, and all later durable calls of this function return the same.
	ErrPaused = engine.ErrPaused
	// ErrParked: the run stops, with a diagnosis: the code is not the one that was recorded
	// (then the error is also a *[DivergenceError]), a stored value can't be decoded, the backend refuses what the
	// code would record, or the run was running in several processes in a row that died: it, or another run
	// beside it, may be the cause. [Thread.Continue] goes on with it.
	ErrParked = engine.ErrParked
	// ErrCancelled: the run was cancelled.
	ErrCancelled = engine.ErrCancelled
	// ErrDraining: the engine closes; another process goes on with the run.
	ErrDraining = engine.ErrDraining
	// ErrLost: another process has taken the run over.
	ErrLost = engine.ErrLost
	// ErrOutsideRun: a task was called, or a question asked, with a context that
	// is not of a run.
	ErrOutsideRun = engine.ErrOutsideRun
	// ErrConcurrentScope: a durable call was made on another goroutine than the
	// one the function was called on, or with the context of another function.
	ErrConcurrentScope = engine.ErrConcurrentScope
	// ErrScopeEnded: a durable call was made with the context of a function that has returned.
	ErrScopeEnded = engine.ErrScopeEnded
)

// What verbs return.
var (
	// ErrInvalid: the request itself is malformed, as an empty thread id.
	ErrInvalid = engine.ErrInvalid
	// ErrDefinition: a task or an entrypoint is ill-defined: no name, no
	// function, a type that can't be stored, or two of one name.
	ErrDefinition = engine.ErrDefinition
	// ErrUnknownEntrypoint: the entrypoint was not given to New.
	ErrUnknownEntrypoint = engine.ErrUnknownEntry
	// ErrClosed: the engine was closed.
	ErrClosed = engine.ErrClosed
	// ErrThreadBusy: the thread's run is queued or running.
	ErrThreadBusy = engine.ErrThreadBusy
	// ErrQuestionOpen: new input for a thread that waits for an answer.
	ErrQuestionOpen = engine.ErrQuestionOpen
	// ErrNoQuestion: an answer for a thread that asks nothing.
	ErrNoQuestion = engine.ErrNoQuestion
	// ErrAmbiguous: an answer without an id while several questions are open.
	ErrAmbiguous = engine.ErrAmbiguous
	// ErrStaleRevision: an answer without an id for a thread that the caller
	// has not read since it changed.
	ErrStaleRevision = engine.ErrStaleRevision
	// ErrUnknownThread: the thread never had a run.
	ErrUnknownThread = engine.ErrUnknownThread
	// ErrUnknownRun: there is no such run.
	ErrUnknownRun = engine.ErrUnknownRun
	// ErrUnknownQuestion: there is no such question.
	ErrUnknownQuestion = engine.ErrUnknownQuestion
	// ErrAlreadyAnswered: another answer has won.
	ErrAlreadyAnswered = engine.ErrAlreadyAnswered
	// ErrExpired: the question's deadline has passed. Also what the asking code gets.
	ErrExpired = engine.ErrExpired
	// ErrWithdrawn: the question was withdrawn. Also what the asking code gets.
	ErrWithdrawn = engine.ErrWithdrawn
	// ErrSuperseded: the question's run was given up for a newer input.
	ErrSuperseded = engine.ErrSuperseded
	// ErrInvalidAnswer: the answer doesn't fit the question, which stays open. The error is also an *[AnswerError].
	ErrInvalidAnswer = engine.ErrInvalidAnswer
	// ErrNotAllowed: the principal is not in the question's audience.
	ErrNotAllowed = engine.ErrNotAllowed
	// ErrIDRequired: an answer without an id, and the engine was told to refuse these.
	ErrIDRequired = engine.ErrIDRequired
	// ErrRunConflict: a run with this id was started with another thread, entrypoint or input.
	ErrRunConflict = engine.ErrRunConflict
	// ErrRunEnded: there is nothing to cancel.
	ErrRunEnded = engine.ErrRunEnded
	// ErrNothingToRetry: the run's error wraps none of the failures that its
	// body was handed, so a new attempt would only repeat it.
	ErrNothingToRetry = engine.ErrNothingToRetry
	// ErrStorage: the backend failed. What it said is wrapped; see the errors of package storage.
	ErrStorage = engine.ErrStorage
)

// What code gets that asks or acts on an answer, besides [ErrExpired] and [ErrWithdrawn]. All are the same live and on replay.
var (
	// ErrNotUnique: an open question of the same name has this [Unique] key. Its id is in [Error].Questions.
	ErrNotUnique = engine.ErrNotUnique
	// ErrUnsatisfiable: the question's audience has nobody who could answer.
	ErrUnsatisfiable = engine.ErrUnsatisfiable
	// ErrRejected: the action was rejected. The error is also a *[RejectedError].
	ErrRejected = errors.New("action rejected")
	// ErrStaleApproval: the approval is for another action, another run or another [Guarded].
	ErrStaleApproval = engine.ErrStaleApproval
	// ErrApprovalUsed: the approval has been used by another call.
	ErrApprovalUsed = engine.ErrApprovalUsed
	// ErrApprovalExpired: the time for which the approval was given is over.
	ErrApprovalExpired = engine.ErrApprovalExpired
)

// What becomes of values; see [ValueError].
var (
	// ErrLossy: a value would not come back from storage unchanged.
	ErrLossy = codec.ErrLossy
	// ErrTooLarge: a value is larger than Options.MaxValueSize.
	ErrTooLarge = codec.ErrTooLarge
	// ErrMismatch: a stored value doesn't fit the Go type of today.
	ErrMismatch = codec.ErrMismatch
)

// ErrTimeout: an attempt took longer than its [Timeout] or [IdleTimeout] allows.
var ErrTimeout = engine.ErrTimeout

// builtinErrors survive being recorded without being registered.
var builtinErrors = map[string]error{
	"fermata.expired":   ErrExpired,
	"fermata.withdrawn": ErrWithdrawn,
	"fermata.lossy":     ErrLossy,
	"fermata.too_large": ErrTooLarge,
	"fermata.timeout":   ErrTimeout,

	"fermata.not_unique":       ErrNotUnique,
	"fermata.unsatisfiable":    ErrUnsatisfiable,
	"fermata.rejected":         ErrRejected,
	"fermata.stale_approval":   ErrStaleApproval,
	"fermata.approval_used":    ErrApprovalUsed,
	"fermata.approval_expired": ErrApprovalExpired,
	"context.deadline":         context.DeadlineExceeded,
	"context.canceled":         context.Canceled,
}

func registeredErrors(own map[string]error) (map[string]error, error) {
	all := maps.Clone(builtinErrors)
	for code, err := range own {
		if code == "" || err == nil || all[code] != nil {
			return nil, &Error{Op: "new engine", Reason: ErrDefinition, Err: fmt.Errorf("registered error %q: %v", code, err), Hint: "give each an own code and an error; codes that begin with fermata. and context. are taken"}
		}
		all[code] = err
	}
	return all, nil
}

// Error says what went wrong, where, and what to do next.
type Error struct {
	Op     string // the verb, as "start"; "" within a run
	Thread string
	Run    ID
	Path   string // of the call, as "graph/human_feedback"
	// Reason is one of the Err… variables of this package; [errors.Is] finds it.
	Reason error
	// Hint says what to do next.
	Hint string
	// Err is the cause underneath, nil if Reason says it all.
	Err error
	// Questions concerned: the open ones, or the settled one with its winner.
	Questions []Question
	text      string
}

func (e *Error) Error() string {
	if e.text != "" {
		return e.text
	}
	return (&engine.Error{Op: e.Op, Thread: e.Thread, Run: e.Run, Path: e.Path, Reason: e.Reason, Hint: e.Hint, Err: e.Err}).Error()
}

// Unwrap gives Reason and Err.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// PausedError is what [Run.Result] returns while a person is asked. It matches [ErrPaused].
type PausedError struct {
	Thread string
	Run    ID
	// Questions are the open ones, in the order in which the code asked them.
	Questions []Question
}

func (e *PausedError) Error() string {
	ids := make([]string, len(e.Questions))
	for i, q := range e.Questions {
		ids[i] = q.ID.String()
	}
	return fmt.Sprintf("fermata: thread %q waits for a person (run %s): answer question %s", e.Thread, e.Run, strings.Join(ids, ", "))
}

// Is reports whether target is [ErrPaused].
func (e *PausedError) Is(target error) bool { return target == ErrPaused }

// TaskError is how a task failed, live and on replay. [errors.Is] finds in it
// the registered errors that the original matched; see [Options.Errors].
type TaskError struct {
	Task     string
	Path     string
	Message  string // of the original error
	Attempts int
	Panic    bool
	Stack    string // of a panic, of the attempt that was recorded
	failure  *engine.Failure
}

func (e *TaskError) Error() string { return e.failure.Error() }

// Unwrap gives the registered errors, and the *TaskError of a task below that this one passed on.
func (e *TaskError) Unwrap() []error {
	chain := []error{e.failure}
	if e.failure.Cause != nil {
		chain = append(chain, newTaskError(e.failure.Cause))
	}
	return chain
}

func newTaskError(f *engine.Failure) *TaskError {
	return &TaskError{Task: f.Task, Path: f.Path, Message: f.Message, Attempts: f.Attempts, Panic: f.Panic, Stack: f.Stack, failure: f}
}

// RunError is how a run failed: its entrypoint returned an error or panicked.
// [errors.As] finds in it the *[TaskError] that the entrypoint passed on, if it did.
type RunError struct {
	Thread     string
	Run        ID
	Entrypoint string
	Message    string // of the original error
	Panic      bool
	Stack      string // of a panic
	failure    *engine.Failure
}

func (e *RunError) Error() string {
	what := "failed"
	if e.Panic {
		what = "panicked"
	}
	return fmt.Sprintf("fermata: entrypoint %q %s (thread %q, run %s): %s", e.Entrypoint, what, e.Thread, e.Run, e.Message)
}

// Unwrap gives the registered errors and the *TaskError that the entrypoint passed on.
func (e *RunError) Unwrap() []error { return newTaskError(e.failure).Unwrap() }

// DivergenceError says how today's code differs from the recorded run. It
// comes wrapped in an [Error] with the reason [ErrParked].
type DivergenceError struct {
	// Path of the function that made the call, as "graph/review".
	Path string
	// Position of the call in it, from 1; 0 if it has a Key.
	Position int
	Key      string
	// Recorded is the call that the log has there; nil: none, the code calls on a
	// second pass what it did not call on the first ([Options.VerifyReplay]).
	Recorded *Callee
	// Current is the call that the code makes now; nil: the function ended without a call.
	Current *Callee
	// Fields lists what differs in the input, if only that does.
	Fields []FieldDifference
	// Failure is the text of the error or panic that the function ended with instead of the call; "": none. Stack is the panic's.
	Failure string
	Stack   string
	text    string
	// outline is the text without values.
	outline string
}

// Callee is one side of a divergence.
type Callee struct {
	Kind string // "task", "question", …
	Name string
	Site string // file and line of the call, as "refund.go:41"
}

// FieldDifference is a top-level field of an input that differs. Field is ""
// if it is the whole value; a value that the log doesn't hold whole is "differs".
type FieldDifference struct{ Field, Recorded, Current string }

func (e *DivergenceError) Error() string { return e.text }

func newDivergenceError(d *engine.Divergence) *DivergenceError {
	e := &DivergenceError{
		Path: d.Path, Position: d.Position, Key: d.Key, Failure: d.Failure, Stack: d.Stack, text: d.Error(), outline: d.Outline(),
	}
	if d.Recorded != nil {
		recorded := Callee(*d.Recorded)
		e.Recorded = &recorded
	}
	if d.Current != nil {
		current := Callee(*d.Current)
		e.Current = &current
	}
	for _, f := range d.Fields {
		e.Fields = append(e.Fields, FieldDifference{f.Field, f.Recorded, f.Current})
	}
	return e
}

// ValueError says why a value can't be written or read. It matches one of [ErrLossy], [ErrTooLarge] and [ErrMismatch].
type ValueError struct {
	Op   string // "encode", "decode" or "check"
	Type string // the Go type of the whole value
	Path string // JSON pointer of the part at fault; "" is the whole
	Err  error
}

func (e *ValueError) Error() string {
	return (&codec.Error{Op: e.Op, Type: e.Type, Path: e.Path, Err: e.Err}).Error()
}

// Unwrap gives Err.
func (e *ValueError) Unwrap() error { return e.Err }

// AnswerError lists what is wrong with an answer. It comes wrapped in an
// [Error] with the reason [ErrInvalidAnswer].
type AnswerError struct {
	Fields []FieldError
}

// FieldError is one fault of an answer.
type FieldError struct {
	// Pointer is the JSON pointer (RFC 6901) of the part at fault; "" is the whole answer.
	Pointer string `json:"pointer"`
	// Message says, for people, what is expected there.
	Message string `json:"message"`
}

func (e *AnswerError) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = strings.TrimPrefix(f.Pointer+": "+f.Message, ": ")
	}
	return strings.Join(parts, "; ")
}

// public gives an error of the layers below its place among the errors of this package.
func public(err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *engine.Error:
		out := &Error{
			Op: e.Op, Thread: e.Thread, Run: e.Run, Path: e.Path, Reason: e.Reason, Hint: e.Hint,
			Err: public(e.Err), text: e.Error(),
		}
		for i := range e.Questions {
			out.Questions = append(out.Questions, newQuestion(&e.Questions[i]))
		}
		return out
	case *engine.Failure:
		return newTaskError(e)
	case *engine.Divergence:
		return newDivergenceError(e)
	case *codec.Error:
		return &ValueError{Op: e.Op, Type: e.Type, Path: e.Path, Err: e.Err}
	case *schema.Error:
		out := &AnswerError{}
		for _, f := range e.Fields {
			out.Fields = append(out.Fields, FieldError(f))
		}
		return out
	}
	return err
}

// parkedError rebuilds why a run was parked from what was stored of it.
func parkedError(thread string, run ID, stored []byte) error {
	var parked engine.Parked
	if err := json.Unmarshal(stored, &parked); err != nil {
		parked.Message = string(stored)
	}
	e := &Error{
		Thread: thread, Run: run, Path: parked.Path, Reason: ErrParked, Err: errors.New(parked.Message),
		Hint: "mend the cause and continue the run; nothing of it is lost",
	}
	if parked.Divergence != nil {
		e.Err = newDivergenceError(parked.Divergence)
	}
	return e
}
