package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata/storage"
	driver "zombiezen.com/go/sqlite"
)

// operation is one call that goes through the queue: it has one of the two functions.
//
// apply is called in a write transaction, perhaps more than once: each time it
// starts anew, with nothing of the time before left. It checks before its
// first write: an error of the contract is a refusal, and the transaction goes
// on to its commit; any other error undoes the transaction, which is then made
// without this operation.
//
// read is called in a transaction that ends before the write transaction
// begins, so its caller never waits for a commit that it has no part in.
//
// An operation with neither asks whether others have written.
type operation struct {
	apply func(*tx) error
	read  func(*conn) error
	err   error
}

// tx is the write transaction that an operation is part of. Operations of one
// transaction see each other's writes.
type tx struct {
	*conn
	b   *Backend
	now int64 // the time of the transaction, the same for all its operations

	writes int
	units  int
	notes  []storage.Note
	*numbers
	schemas map[[32]byte]int64 // interned by this transaction
	alive   map[storage.ID]bool
}

// numbers are the highest ones given; negative if not known.
type numbers struct{ lastRun, lastChange int64 }

// write runs op in the next transaction and returns when that is committed.
// What op leaves behind may only be read if there was no error: a caller
// whose context ended is gone before op is.
func (b *Backend) write(ctx context.Context, name string, op func(*tx) error) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	o := &operation{apply: op}
	if err := b.queue.Do(ctx, o); err != nil {
		return b.fault(name, err)
	}
	return b.fault(name, o.err)
}

// writer is the connection that writes. The leader of Backend.queue owns it.
type writer struct {
	*conn
	b           *Backend
	dataVersion int64
	numbers     numbers
	commits     int
	tx          tx // reused
	writes      []*operation
	foreign     atomic.Int64 // when another connection's commit was noticed last, in nanoseconds

	commitCount, opCount, unitCount, redoneCount, busyCount atomic.Int64
}

func newWriter(b *Backend, raw *driver.Conn) *writer {
	w := &writer{b: b, conn: &conn{raw: raw, queries: map[string]*query{}, fences: newFences()}, numbers: numbers{-1, -1}}
	w.dataVersion, _ = w.query("PRAGMA data_version").firstInt() // a fault will be met again
	return w
}

func (w *writer) stats() Stats {
	return Stats{
		Commits: w.commitCount.Load(), Operations: w.opCount.Load(), Units: w.unitCount.Load(),
		Redone: w.redoneCount.Load(), Busy: w.busyCount.Load(),
	}
}

// farewell makes a last transaction, after the queue was closed; it doesn't wait long.
func (w *writer) farewell(apply func(*tx) error) {
	if err := patiently(100*time.Millisecond, nil, nil, w.query("BEGIN IMMEDIATE").exec); err != nil {
		return
	}
	t := &w.tx
	t.reset(w)
	if apply(t) != nil || w.query("COMMIT").exec() != nil {
		w.abort()
	}
}

func (w *writer) close() error { return w.raw.Close() }

// batch does what the operations of a batch ask: first the reads, whose callers
// are let go, then the writes, in one transaction.
func (w *writer) batch(batch []*operation, finish func(int)) {
	ops := w.writes[:0]
	reads := 0
	for _, op := range batch {
		if op.apply != nil {
			ops = append(ops, op)
		} else if op.read != nil {
			reads++
		}
	}
	w.writes = ops
	defer clear(ops)
	if reads > 0 {
		w.read(batch, finish)
	}
	if len(ops) == 0 {
		if reads == 0 {
			_ = w.lookAround() // a fault is for those who want something of the file
		}
		return
	}
	w.opCount.Add(int64(len(ops)))
	// An operation that breaks the transaction is left out of the next attempt. If
	// that happens again and again – the disk is full, say – each gets a
	// transaction of its own, so that work stays proportional to the operations.
	const attempts = 3
	pending := ops
	for try := 0; len(pending) > 0; try++ {
		if try == attempts {
			for i := range pending {
				w.transact(pending[i : i+1])
			}
			return
		}
		broken := w.transact(pending)
		if broken < 0 {
			return
		}
		rest := make([]*operation, 0, len(pending)-1)
		pending = append(append(rest, pending[:broken]...), pending[broken+1:]...)
		w.redoneCount.Add(1)
	}
}

// read does the reads of a batch, all of one moment.
func (w *writer) read(batch []*operation, finish func(int)) {
	err := w.query("BEGIN").exec()
	if err == nil {
		err = w.lookAround()
	}
	for i, op := range batch {
		if op.read == nil {
			continue
		}
		if op.err = err; err == nil {
			op.err = contained(func() error { return op.read(w.conn) })
			if op.err != nil {
				w.reset()
			}
		}
		finish(i)
	}
	if w.query("COMMIT").exec() != nil {
		w.abort()
	}
}

// transact makes one transaction of ops and sets their errors. If one of them broke it, nothing is committed,
// and its index is returned; else -1.
func (w *writer) transact(ops []*operation) int {
	all := func(err error) {
		for _, op := range ops {
			op.err = err
		}
	}
	if err := w.begin(); err != nil {
		all(err)
		return -1
	}
	t := &w.tx
	t.reset(w)
	for i, op := range ops {
		op.err = contained(func() error { return op.apply(t) })
		if op.err != nil && !isRefusal(op.err) {
			w.abort()
			return i
		}
	}
	// Crash window: up to here nothing has happened. If the process dies within
	// the commit, its callers don't know; the transaction is there as a whole or
	// not at all, and they may repeat what the contract calls repeatable.
	if err := w.query("COMMIT").exec(); err != nil {
		w.abort()
		all(err)
		return -1
	}
	if t.writes > 0 {
		if err := w.b.present(); err != nil {
			all(err)
			return -1
		}
		w.commitCount.Add(1)
		w.unitCount.Add(int64(t.units))
		w.tendLog()
	}
	// Crash window: committed, and nobody was told. Watchers of other processes
	// see the change in the file; callers repeat.
	w.b.watchers.tell(t.notes...)
	return -1
}

// begin takes the write lock and notices what other connections did since the last time.
func (w *writer) begin() error {
	begin := w.query("BEGIN IMMEDIATE")
	if err := patiently(w.b.options.BusyTimeout, w.b.closing, &w.busyCount, begin.exec); err != nil {
		return err
	}
	if err := w.lookAround(); err != nil {
		w.abort()
		return err
	}
	return nil
}

// lookAround finds out whether another connection has written: then what is
// remembered of the file is worth nothing, and the watchers are told.
func (w *writer) lookAround() error {
	v, err := w.query("PRAGMA data_version").firstInt()
	if err != nil || v == w.dataVersion {
		return err
	}
	w.forget()
	w.foreign.Store(time.Now().UnixNano())
	w.b.watchers.tell(storage.Note{Queued: true, Inbox: true, Questions: true})
	w.dataVersion = v
	return nil
}

// alone reports whether no other connection was seen to write lately. Then the
// writer's pages are the file's, and it reads what is short faster than a
// reader, which loses its pages at each commit.
func (w *writer) alone() bool {
	return time.Since(time.Unix(0, w.foreign.Load())) > time.Second
}

// abort undoes the transaction.
func (w *writer) abort() {
	w.reset()
	w.rollback()
	w.forget()
}

// forget drops what is remembered of the file's content.
func (w *writer) forget() {
	w.fences.clear()
	w.numbers = numbers{-1, -1}
}

// reset frees the statements that an error has left in the middle.
func (w *writer) reset() {
	for _, q := range w.queries {
		q.close()
	}
}

// tendLog looks after the size of the write-ahead log, now and then.
func (w *writer) tendLog() {
	w.commits++
	if w.commits == growAfter && w.b.options.Synchronous == Full {
		w.growLog()
	}
	if w.commits%512 == 0 {
		w.limitLog()
	}
}

// growAfter is the number of commits after which a Backend is taken for one that will make many.
const growAfter = 32

func (w *writer) logSize() int64 {
	info, err := os.Stat(w.b.path + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}

// growLog makes the log as large as it will be at the first checkpoint. To sync
// a file that has grown takes about twice as long as one whose size stays, and so
// would each of the first some thousand commits. It lets SQLite write the pages of a large transaction
// before its end, and undoes it: what it leaves behind the log's end has no meaning.
func (w *writer) growLog() {
	missing := int64(w.b.options.CheckpointPages*pageSize) - w.logSize()
	if missing < 64*pageSize {
		return
	}
	// Errors don't matter: the log then grows as it is used.
	if w.run("PRAGMA cache_size = 10") == nil && w.query("BEGIN IMMEDIATE").exec() == nil {
		_ = w.query("INSERT INTO spill (n, input) VALUES (-1, zeroblob(?))").int(missing + 16*pageSize).exec() // the last pages stay in the cache
		w.rollback()
	}
	_ = w.run(cacheSize)
}

// limitLog keeps readers from making the log grow without end: it starts again
// at its beginning only at a moment when nobody reads from it, and if the
// automatic checkpoints never find one, this one waits for it. The next commit then cuts the file off.
func (w *writer) limitLog() {
	if w.logSize() <= int64(4*pageSize*w.b.options.CheckpointPages) {
		return
	}
	w.raw.SetBusyTimeout(100 * time.Millisecond)
	defer w.raw.SetBusyTimeout(0)
	_ = w.run("PRAGMA wal_checkpoint(RESTART)") // if it fails, a later one won't
}

// reset makes t the transaction that has just begun.
func (t *tx) reset(w *writer) {
	*t = tx{
		conn: w.conn, b: w.b, now: w.b.micros(), notes: t.notes[:0], numbers: &w.numbers,
		alive: t.alive, schemas: t.schemas,
	}
	clear(t.alive)
	clear(t.schemas)
}

// contained calls f; a panic of it is an error, with its stack.
func contained(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// write executes a statement that changes something.
func (t *tx) write(q *query) error {
	t.writes++
	return q.exec()
}

// note leaves a message for the watchers, for after the commit.
func (t *tx) note(n storage.Note) {
	if t.b.watchers.any() {
		t.notes = append(t.notes, n)
	}
}

// patiently repeats f while it finds the file locked by another process, at
// most for limit, or until stop is closed. The pauses are short and of random
// length. A busy process leaves the lock free for some ten microseconds between
// its commits, and whoever asks more often meets that moment sooner: so who has waited for long asks more often.
func patiently(limit time.Duration, stop <-chan struct{}, busy *atomic.Int64, f func() error) error {
	err := f()
	if driver.ErrCode(err).ToPrimary() != driver.ResultBusy {
		return err
	}
	begin := time.Now()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for try := 0; ; try++ {
		if busy != nil {
			busy.Add(1)
		}
		waited := time.Since(begin)
		if waited >= limit {
			return err
		}
		pause := 50 * time.Microsecond
		switch {
		case waited > time.Second:
			pause = time.Millisecond // this is no commit, but a long transaction
		case waited < 10*time.Millisecond:
			pause <<= min(try/4, 3)
		}
		timer.Reset(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-stop:
			return storage.ErrClosed
		}
		if err = f(); driver.ErrCode(err).ToPrimary() != driver.ResultBusy {
			return err
		}
	}
}
