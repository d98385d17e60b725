package sqlite

import (
	"context"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata/internal/combine"
	"github.com/fermata-go/fermata/storage"
)

// Synchronous says what a commit waits for.
type Synchronous uint8

const (
	// Full: a commit is on the disk when the call returns. It survives a power cut.
	Full Synchronous = iota
	// Normal: a commit is in the operating system's hands when the call returns. It
	// survives the death of the process; a power cut may take the last commits,
	// each as a whole, and leaves the file sound.
	Normal
)

// Options change how a database is opened. Nil, and the zero value of each
// field, mean the default.
type Options struct {
	_ [0]func()

	// Offset is added to the clock wherever the backend takes the time; tests move it. It is
	// called often, by any goroutine. Default: nothing is added.
	Offset func() time.Duration

	// Synchronous says what a commit waits for. Default: Full.
	Synchronous Synchronous

	// BusyTimeout is how long a write waits for other processes that hold the
	// file's write lock before it fails with [storage.ErrLocked]. Default: 30 seconds.
	BusyTimeout time.Duration

	// ReadConns is the highest number of connections for reading; they are
	// opened when needed. Default: 4.
	ReadConns int

	// PollInterval is how often, while somebody watches, the file is asked
	// whether another process changed it, and, every 20th time, whether an owner
	// of runs has died. One question costs a few microseconds. Default: 5 milliseconds.
	PollInterval time.Duration

	// CheckpointPages is the number of pages (of 4 KiB) that the write-ahead log may
	// grow to before it is copied into the file. A larger one makes fewer, longer
	// pauses and a larger -wal file. Default: 2000.
	CheckpointPages int

	pageSize int // of a new file; for the benchmark that chose it
}

// withDefaults returns a copy with every field filled.
func (o *Options) withDefaults() Options {
	var filled Options
	if o != nil {
		filled = *o
	}
	if filled.Offset == nil {
		filled.Offset = func() time.Duration { return 0 }
	}
	if filled.BusyTimeout <= 0 {
		filled.BusyTimeout = 30 * time.Second
	}
	if filled.ReadConns <= 0 {
		filled.ReadConns = 4
	}
	if filled.PollInterval <= 0 {
		filled.PollInterval = 5 * time.Millisecond
	}
	if filled.CheckpointPages <= 0 {
		filled.CheckpointPages = 2000
	}
	if filled.pageSize == 0 {
		filled.pageSize = pageSize
	}
	return filled
}

// Backend is a [storage.Backend] on one SQLite file. Make one with [Open].
type Backend struct {
	path    string
	options Options
	file    os.FileInfo           // of the file that is open
	gone    atomic.Pointer[error] // set once path means another file, or none

	queue  *combine.Queue[*operation] // of all writes, and of short reads
	writer *writer                    // only the queue's leader touches it
	pool   *pool
	bodies bodies

	watchers watchers
	members  members

	closing   chan struct{} // closed by Close
	closeOnce sync.Once
	closeErr  error
}

var _ storage.Backend = (*Backend)(nil)

// Open opens the database at path, a file on a local disk, and creates it and
// its tables if there is none. It may be open in any number of processes.
//
// A file that can't be used is left as it is: [storage.ErrForeign] if it
// belongs to another program, [storage.ErrSchemaTooNew], [storage.ErrCorrupt] if it is no
// database or a damaged one, [storage.ErrReadOnly]. An in-memory database is
// [storage.ErrUnsupported]; package storage/memory is one.
func Open(path string, options *Options) (*Backend, error) {
	b := &Backend{options: options.withDefaults(), closing: make(chan struct{})}
	var err error
	if b.path, err = resolve(path); err != nil {
		return nil, err
	}
	raw, err := openWriter(b.path, b.options)
	if err != nil {
		return nil, err
	}
	if b.file, err = os.Stat(b.path); err != nil {
		raw.Close()
		return nil, describeOpen(b.path, err)
	}
	b.writer = newWriter(b, raw)
	b.queue = combine.NewFinishing(b.writer.batch)
	b.pool = newPool(b)
	b.members.init(b)
	b.watchers.init(b)
	return b, nil
}

// Path returns the absolute path of the file, without symbolic links.
func (b *Backend) Path() string { return b.path }

// Stats counts what was done since [Open] by this Backend.
type Stats struct {
	_ [0]func()

	// Commits are the transactions that changed something; with [Full] each is one wait for the disk.
	Commits int64
	// Operations are the calls that write, whether they changed something or not.
	Operations int64
	// Units are the units committed by Append.
	Units int64
	// Redone are the transactions applied again without an operation that had failed.
	Redone int64
	// Busy counts the times that the write lock was found taken by another process.
	Busy int64
}

// Stats returns the counts of now.
func (b *Backend) Stats() Stats { return b.writer.stats() }

// Now is the clock's time and [Options.Offset].
func (b *Backend) Now(ctx context.Context) (time.Time, error) {
	if err := b.check(ctx); err != nil {
		return time.Time{}, err
	}
	return timeOf(b.micros()), nil
}

// Close waits for the transaction under way and frees everything: connections,
// memberships, goroutines. Calls that wait and later ones get [storage.ErrClosed].
func (b *Backend) Close() error {
	b.closeOnce.Do(func() {
		close(b.closing) // first: who is told that a member is gone is also told that the backend is closed
		left := b.members.leaveAll()
		b.watchers.close()
		b.queue.Close()
		b.closeErr = b.pool.close()
		if len(left) > 0 {
			b.writer.farewell(announce(left...))
		}
		if err := b.writer.close(); err != nil {
			b.closeErr = err
		}
	})
	return b.fault("close", b.closeErr)
}

// check reports why a call can't go on.
func (b *Backend) check(ctx context.Context) error {
	select {
	case <-b.closing:
		return b.closedError()
	default:
	}
	if gone := b.gone.Load(); gone != nil {
		return *gone
	}
	return ctx.Err()
}

// micros is the backend's time, in microseconds since 1970.
func (b *Backend) micros() int64 {
	return time.Now().Add(b.options.Offset()).UnixMicro()
}

// invalid returns an ErrInvalid.
func invalid(format string, args ...any) error {
	return fmt.Errorf("sqlite: %w: %s", storage.ErrInvalid, fmt.Sprintf(format, args...))
}

// notFound returns an ErrNotFound.
func notFound(what string, id storage.ID, tenant string) error {
	if tenant == "" {
		return fmt.Errorf("sqlite: %w: %s %s", storage.ErrNotFound, what, id)
	}
	return fmt.Errorf("sqlite: %w: %s %s of tenant %.80q", storage.ErrNotFound, what, id, tenant)
}

// limitOr100 is a page's size.
func limitOr100(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, math.MaxInt32)
}
