package storage

import (
	"context"
	"time"
)

// Status is the state of a run.
type Status uint8

// The states of a run. Queued, Running, Interrupted and Parked are active: a
// thread has at most one active run, and it is the thread's latest.
const (
	// Queued: durable, to be taken by any member that knows the entrypoint,
	// once Due has come.
	Queued Status = iota + 1
	// Running: owned by a member, which may be dead.
	Running
	// Interrupted: waits for an answer or for its due time; nobody owns it.
	Interrupted
	// Parked: stopped with a diagnosis; goes on only when told to.
	Parked
	// Finished: ended with a result.
	Finished
	// Failed: ended with an error; may be continued.
	Failed
	// Cancelled: ended by a cancellation; may be continued.
	Cancelled
	// Superseded: given up for a newer input on its thread.
	Superseded
)

var statusNames = [...]string{"", "queued", "running", "interrupted", "parked", "finished", "failed", "cancelled", "superseded"}

// String returns the lower-case name of the status.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown"
}

// Active reports whether a run in this state occupies its thread.
func (s Status) Active() bool { return s >= Queued && s <= Parked }

// Source says how a run came about; LangGraph's checkpoint metadata has the same words.
type Source uint8

// The sources of a run.
const (
	// Input: a new input.
	Input Source = iota
	// Update: the state was set from outside; such a run is born Finished.
	Update
	// Fork: started from an earlier point of the thread.
	Fork
)

var sourceNames = [...]string{"input", "update", "fork"}

// String returns LangGraph's name of the source.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return "unknown"
}

// Checkpoint is a point of a thread's history: before a run (End false) or
// after it (End true). The zero Checkpoint is the beginning of the thread.
type Checkpoint struct {
	Run ID
	End bool
}

// Run is one execution of an entrypoint on a thread.
// Byte fields are encoded by the engine; nil means absent.
type Run struct {
	ID         ID
	Tenant     string
	Thread     string
	Entrypoint string
	Source     Source
	Status     Status

	Input    []byte
	Config   []byte            // run-scoped configuration
	Metadata map[string]string // searchable; nil if none

	// Parent is the checkpoint this run descends from. If ForkSeq > 0 the log
	// of this run begins with the records 1 to ForkSeq of Parent.Run.
	Parent  Checkpoint
	ForkSeq int64
	// Copied says which of the records are copies, and whose, of a run that [Threads.CopyThread] made: oldest
	// first, the last part up to the LastSeq that the original had. Nil: this run is no copy.
	Copied []Part
	// Previous is the run whose Saved value this run sees as "previous", or zero.
	Previous ID
	// Step numbers the checkpoint before the run as LangGraph does: -1 for the
	// first of a thread, else one more than the parent checkpoint's. The
	// checkpoint after the run is Step+1. A run that was born Finished has only
	// the checkpoint after it, so its Step is the parent's own (-1 without a parent).
	Step int64

	Owner   ID // zero if nobody owns it
	Token   int64
	LastSeq int64 // of the last record of the log, with the shared ones of a fork
	Inbox   int64 // raised by everything that comes from outside
	// Due: a Queued run is not taken, an Interrupted one is woken, when it has come. Zero: no such
	// time; also in every other state, and from the moment on that the run is woken.
	Due time.Time
	// CancelRequested: cancellation was asked for and the owner, or the next one, has yet to obey.
	// CancelReason stays after the run has ended, until somebody takes it again.
	CancelRequested bool
	CancelReason    string
	// Crashes counts owners that died in a row without a new record, each when Poll or Acquire takes
	// the run from it. A record starts the count at 0 again, so an owner that made one doesn't count.
	Crashes int

	Result []byte // what was returned; Finished only
	Saved  []byte // what the next run sees as previous; nil: the same as Result
	Error  []byte // Failed, Parked and Cancelled

	Created time.Time
	Updated time.Time // of the last change of the run's row
	Number  int64     // grows with every run of the backend; orders the runs of a thread
}

// Part is a part of a copied run's log: the records from after the part before it up to Seq, which Run made.
type Part struct {
	Run ID
	Seq int64
}

// Record is an entry of a run's log.
type Record struct {
	Seq  int64
	At   time.Time // of the commit, in the backend's time
	Data []byte
}

// Start asks for a new run.
type Start struct {
	// Run gives ID, Tenant, Thread and Entrypoint, which are never empty but for the tenant,
	// and Source, Input, Config, Metadata and Due. With Owner set the run starts Running, owned with token
	// 1; with Status Finished it is born finished with Result and Saved; else it
	// starts Queued. Everything else is the backend's to fill.
	Run Run
	// From is the checkpoint of the thread to descend from; nil means the thread's latest: after
	// its latest run if that is Finished, else before it. Every run has a checkpoint before it,
	// and a Finished one a checkpoint after it. ForkSeq > 0 shares that many records of From.Run.
	From    *Checkpoint
	ForkSeq int64
	// Supersede gives up an interrupted, parked or queued run of the thread:
	// it becomes Superseded, and its open questions with it.
	Supersede bool
}

// Started is the answer to a [Start].
type Started struct {
	Run Run
	// Existing: a run with this id was already there; nothing was changed.
	Existing bool
	// Previous is the Saved value of Run.Previous, nil if there is none.
	Previous []byte
}

// Unit is an atomic addition to one run by its owner. What it closes is closed
// before its questions are opened.
type Unit struct {
	Tenant string
	Run    ID
	Token  int64
	// First is the sequence of Records[0]: the run's LastSeq + 1. There is at least one record.
	First   int64
	Records [][]byte
	// Questions are opened by this unit. Seq of each lies within the unit; State, Asked and Change,
	// and what is the run's (Tenant, Thread, Run, Entrypoint), are the backend's to fill.
	Questions []Question
	// Close settles questions of this run that are still open (others are left alone) as
	// Withdrawn or SupersededQuestion.
	Close      []ID
	CloseState QuestionState

	// Status, if not zero, is the run's new status, and gives the run up; it is neither Running nor Superseded.
	// With Queued and Interrupted the run is kept (Committed.Kept) if its inbox
	// number is above SeenInbox: the unit is committed, the status is Running, the owner stays.
	// With Finished, Failed and Cancelled open questions of the run become Withdrawn; a Parked
	// run keeps them.
	Status    Status
	SeenInbox int64
	Due       time.Time // with Queued and Interrupted: wake not later than this; zero: no such time
	Result    []byte
	Saved     []byte
	Error     []byte
}

// Committed is the answer to one [Unit].
type Committed struct {
	// Err is nil if the unit was committed; else one of ErrStale, ErrDuplicate,
	// ErrLocked, ErrNotFound, ErrUnique, ErrInvalid, and nothing of the unit was written.
	// ErrDuplicate: a unit with this First and Token is in the run's log, whoever owns the run now; it says
	// nothing of what became of the run, which is to be read. ErrStale: the run isn't
	// owned with this token, or First is not above LastSeq. A gap before First: ErrInvalid.
	Err error
	// At is the time of the commit, which the unit's records bear.
	At time.Time
	// Inbox is the run's inbox number. Kept: see Unit.Status.
	Inbox int64
	Kept  bool
}

// Acquire asks for the ownership of one run.
type Acquire struct {
	Tenant string
	Run    ID
	// Member becomes the owner. Zero: the run becomes Queued instead, for any member.
	Member ID
	// Owner, if not zero, gives up the run that it owns, though it lives; this is no crash.
	Owner ID
	// From lists the statuses the run may be taken from. Running means: its
	// owner is dead, or is Member itself, or Owner. A run that is not the latest of its
	// thread can't be taken: the *BusyError names the latest.
	From []Status
}

// Poll asks for work.
type Poll struct {
	Member ID
	// Entrypoints that the member can run; others are left alone.
	Entrypoints []string
	// Limit is the highest number of runs to take; 0 takes none, but time is still kept.
	Limit int
	// Except are runs to leave alone.
	Except []ID
}

// Polled is the answer to a [Poll].
type Polled struct {
	// Runs now owned by the member, longest waiting first: since they were queued, or
	// since Due.
	Runs []Run
	// Next is when a run, of any entrypoint, or a question's deadline is due next, later than Now; zero if nothing is.
	Next time.Time
	Now  time.Time
	// More says that the limit cut the list short: there are more runs to take now.
	More bool
}

// Loaded is all that a replay needs, of one moment.
type Loaded struct {
	Run      Run
	Previous []byte // the Saved value of Run.Previous
	Records  []Record
	// Questions of the run's own log (not those of a fork's parent) in the order of Seq, settled ones too.
	Questions []Question
}

// RunFilter selects runs; zero fields don't restrict.
type RunFilter struct {
	Tenant     string // always restricts
	Thread     string
	Entrypoint string
	Statuses   []Status
	Sources    []Source
	Metadata   map[string]string // all must be equal
	Before     int64             // only runs with a smaller Number; 0: all
	Limit      int               // 0 means 100
}

// Runs is the part of the contract that runs work.
type Runs interface {
	// Start makes a run. It is durable when Start returns.
	//
	// If a run with this id exists: its thread, entrypoint and input are
	// compared, and it is returned as Existing, or the error is ErrConflict.
	// If the thread has an active run: with Supersede an interrupted, parked or
	// queued one is given up (also one that is running with a dead owner);
	// else the error is a *BusyError.
	// If Start.From names no run of the thread: ErrNotFound. If it is a checkpoint
	// that doesn't exist yet, or ForkSeq is more than its run's LastSeq: ErrInvalid.
	Start(ctx context.Context, s Start) (Started, error)

	// Append commits units, each accepted or refused alone, in one commit
	// together with whatever else is waiting. There is one result per unit, in
	// order. The error is about all of them: nothing is known of any.
	// No two units of one call are of the same run: else the error is ErrInvalid, and none is committed.
	Append(ctx context.Context, units []Unit) ([]Committed, error)

	// Acquire makes a member the owner of one run: status Running, token
	// raised; what its last end left (Result, Saved, Error, a cancellation) is cleared. Errors: ErrNotFound, *BusyError.
	Acquire(ctx context.Context, a Acquire) (Run, error)

	// Poll settles questions whose deadline has passed as Expired, wakes the runs
	// concerned and those that are due, and makes the member the
	// owner of queued runs and of running runs whose owner is dead.
	// It is safe and cheap to call at any time, by any number of members: no run is given to two.
	Poll(ctx context.Context, p Poll) (Polled, error)

	// Cancel ends a run that nobody owns, or whose owner is dead, as Cancelled with CancelReason and
	// without an Error, its open questions as Withdrawn. A run with a living owner gets CancelRequested and a
	// raised inbox; the owner ends it. A run that has ended: *BusyError.
	Cancel(ctx context.Context, tenant string, run ID, reason string) (Run, error)

	// Run reads one run. Error: ErrNotFound.
	Run(ctx context.Context, tenant string, run ID) (Run, error)

	// Load reads one run with its log and its questions, of one moment.
	// Records of a fork's parent are in place. Error: ErrNotFound.
	Load(ctx context.Context, tenant string, run ID) (Loaded, error)

	// Log reads up to limit records with Seq > after (limit 0: all), in order,
	// and the run as it was at that moment. Error: ErrNotFound.
	Log(ctx context.Context, tenant string, run ID, after int64, limit int) (Run, []Record, error)

	// ListRuns returns runs, newest first.
	ListRuns(ctx context.Context, f RunFilter) ([]Run, error)
}
