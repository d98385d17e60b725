package storage

import (
	"context"
	"time"
)

// Backend is the whole contract. It is safe for use by many goroutines, and,
// unless it says otherwise, by many processes on one database.
type Backend interface {
	Runs
	Questions
	Threads
	Items

	// Join makes the caller a living member, until Leave, Close or the death of
	// the process. Owners are members.
	Join(ctx context.Context, name string) (Membership, error)

	// Watch calls fn after every change of a run or a question that the backend learns of, made by
	// this process or another, until stop is called; also when a member leaves runs behind. fn must not block, may
	// be called from several goroutines, and before Watch has returned. Notes may be merged, never
	// lost for good: what was missed (a lost connection, say) ends in a note with a zero Run.
	Watch(fn func(Note)) (stop func())

	// Now is the backend's time.
	Now(ctx context.Context) (time.Time, error)

	// Close frees everything. Calls under way and later ones get ErrClosed.
	Close() error
}

// Note says that something changed. A zero Run means: anything may have.
type Note struct {
	Tenant string
	Run    ID
	// Queued: there may be work for Poll.
	Queued bool
	// Inbox: the run's inbox number was raised.
	Inbox bool
	// Questions: a question was opened or settled.
	Questions bool
}

// Membership is a living member.
type Membership interface {
	ID() ID
	// Lost is closed when others may think this member dead, after Leave and Close too: its runs
	// may have been taken over and it must stop them.
	Lost() <-chan struct{}
	// Leave ends the membership; what it still owns is as a dead member's. A second Leave is no error.
	Leave(ctx context.Context) error
}

// Thread is a line of runs. It exists from its first run or PutThread on, until DeleteThread.
type Thread struct {
	Tenant   string
	ID       string
	Metadata map[string]string // nil if none
	Created  time.Time         // the backend's to fill, as Updated
	Updated  time.Time
}

// Head is the present of a thread.
type Head struct {
	// Run is the latest run; nil if the thread never had one.
	Run *Run
	// Last is the run that holds the thread's value: Run if that is Finished, else the run Run.Previous; nil if none.
	// The value is its Saved, or, if that is nil, its Result.
	Last *Run
	// Open are the open questions of Run, in the order of Seq.
	Open []Question
	// Alive says whether Run's owner, if it has one, lives.
	Alive bool
	Now   time.Time
}

// ThreadFilter selects threads by their latest run; zero fields don't restrict.
type ThreadFilter struct {
	Tenant     string // always restricts
	Entrypoint string
	Statuses   []Status
	Metadata   map[string]string // of the thread
	After      string            // thread id; for paging
	Limit      int               // 0 means 100
}

// Threads is the part of the contract about lines of runs.
type Threads interface {
	// Head reads the present of a thread. A thread without a run has a nil Run; that is no error.
	Head(ctx context.Context, tenant, thread string) (Head, error)
	// PutThread sets the metadata of a thread, all of it, and creates the thread if need be. An empty id: ErrInvalid.
	PutThread(ctx context.Context, t Thread) error
	// GetThread reads it. Error: ErrNotFound.
	GetThread(ctx context.Context, tenant, thread string) (Thread, error)
	// ListThreads returns threads in the order of their ids.
	ListThreads(ctx context.Context, f ThreadFilter) ([]Thread, error)
	// DeleteThread removes a thread with its runs, logs and questions, or, with a run of a
	// living owner, nothing: *BusyError. An unknown thread is no error.
	DeleteThread(ctx context.Context, tenant, thread string) error
	// CopyThread copies runs, logs, questions and metadata to a new thread, under new ids. An active run is
	// copied as Cancelled, open questions as Withdrawn. The copies keep Created, and have a last part of Copied more. What was in the target's metadata is replaced. Errors: ErrNotFound; *BusyError if the target has a run.
	CopyThread(ctx context.Context, tenant, from, to string) error
	// PruneThread removes what the thread's present doesn't need: all runs but the latest, the one that holds
	// "previous" (see Head.Last), and those whose records a kept fork shares, with their questions. It says how
	// many runs it removed; of an unknown thread, none.
	PruneThread(ctx context.Context, tenant, thread string) (int, error)
}
