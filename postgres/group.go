package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-go/fermata/internal/combine"
	"github.com/fermata-go/fermata/storage"
)

// Starts, units and settlements of all callers share commits. Callers queue
// what they want in one of a few lanes; a lane has one commit under way at a
// time, and what is queued meanwhile is the next. A commit is one
// transaction and one round trip: up to three calls, one for each kind.

const (
	// maxGroup and maxGroupBytes bound one commit, so that no caller waits for too many others.
	maxGroup      = 256
	maxGroupBytes = 4 << 20
	// commitTimeout is when the answer to one commit counts as lost.
	commitTimeout = 15 * time.Second
	// lockedTries is how often an op that found its run locked is tried again, after 0, 1, 2, … ms.
	lockedTries = 4
)

// op is one thing to commit: exactly one of start, unit and settlement is set.
type op struct {
	start      *storage.Start
	unit       *storage.Unit
	settlement *storage.Settlement

	packed  []byte // unit: its records
	schemas []int  // unit: the numbers of its questions' schemas
	// attempt marks what this op writes, so that it knows its own work again after a lost answer.
	attempt  int64
	repeated bool // it was sent before, and the answer was lost

	done       bool
	fault      error // why it is not done, or the error of the whole call
	code       code
	started    storage.Started
	superseded storage.ID
	busy       storage.BusyError
	committed  storage.Committed
	settled    storage.Settled
}

// work is what one caller waits for.
type work struct{ ops []*op }

func newAttempt() int64 { return rand.Int64() }

// key is what no two ops of one commit may share: each sees the database without the other.
func (o *op) key() string {
	switch {
	case o.unit != nil:
		return string(o.unit.Run[:])
	case o.start != nil:
		return o.start.Run.Tenant + "\x00" + o.start.Run.Thread
	}
	return ""
}

func (o *op) size() int {
	switch {
	case o.unit != nil:
		n := len(o.packed) + len(o.unit.Result) + len(o.unit.Saved) + len(o.unit.Error)
		for i := range o.unit.Questions {
			n += len(o.unit.Questions[i].Payload) + len(o.unit.Questions[i].Details) + 500
		}
		return n + 100
	case o.start != nil:
		return len(o.start.Run.Input) + len(o.start.Run.Config) + len(o.start.Run.Result) + len(o.start.Run.Saved) + 300
	}
	return len(o.settlement.Answer) + 200
}

func (b *Backend) lane(hash uint32) *combine.Queue[*work] { return b.lanes[hash%uint32(len(b.lanes))] }

// commit queues w and returns when all its ops are done. An op whose outcome
// was lost is sent again; it finds out by itself what became of it. One that is alone and finds its
// run locked is tried a few times more: mostly it is another commit of ours, and over in no time.
func (b *Backend) commit(ctx context.Context, what string, hash uint32, w *work) error {
	var patience patience
	for again := 0; ; {
		if b.ctx.Err() != nil {
			return fmt.Errorf("postgres: %s: %w", what, storage.ErrClosed)
		}
		if err := b.lane(hash).Do(ctx, w); err != nil {
			if errors.Is(err, combine.ErrClosed) {
				err = storage.ErrClosed
			}
			return b.failed(ctx, what, err)
		}
		var left []*op
		var fault error
		for _, o := range w.ops {
			if !o.done {
				left, fault = append(left, o), o.fault
			} else if o.fault != nil {
				return b.failed(ctx, what, o.fault)
			}
		}
		if o := w.ops[0]; len(left) == 0 && len(w.ops) == 1 && o.code == codeLocked && again < lockedTries && patience.wait(ctx, b.options.RetryTimeout) {
			again++
			o.done = false
			continue
		}
		if len(left) == 0 {
			return nil
		}
		if !patience.wait(ctx, b.options.RetryTimeout) {
			if !errors.Is(fault, errHeld) {
				fault = fmt.Errorf("whether it was committed is not known: %w", fault)
			}
			return b.failed(ctx, what, fault)
		}
		w = &work{ops: left}
	}
}

// runGroup is the batch function of a lane.
func (b *Backend) runGroup(batch []*work) {
	var ops []*op
	for _, w := range batch {
		ops = append(ops, w.ops...)
	}
	for len(ops) > 0 {
		var group []*op
		group, ops = cutGroup(ops)
		b.commitGroup(group)
	}
	for _, w := range batch {
		b.announce(w.ops)
	}
}

// cutGroup takes what may be one commit from the front of ops.
func cutGroup(ops []*op) (group, rest []*op) {
	if len(ops) == 1 {
		return ops, nil
	}
	size := 0
	keys := make(map[string]struct{}, len(ops))
	for i, o := range ops {
		size += o.size()
		if len(group) == maxGroup || len(group) > 0 && size > maxGroupBytes {
			return group, append(rest, ops[i:]...)
		}
		if taken := o.claim(keys); !taken {
			rest = append(rest, o)
			continue
		}
		group = append(group, o)
	}
	return group, rest
}

// claim reports whether none of the keys of o was there, and adds them if so.
func (o *op) claim(keys map[string]struct{}) bool {
	if k := o.key(); k != "" {
		if _, taken := keys[k]; taken {
			return false
		}
		keys[k] = struct{}{}
	}
	if o.unit == nil {
		return true
	}
	for i := range o.unit.Questions {
		q := &o.unit.Questions[i]
		if q.Unique == "" {
			continue
		}
		k := o.unit.Tenant + "\x00" + q.Name + "\x00" + q.Unique
		if _, taken := keys[k]; taken {
			return false
		}
		keys[k] = struct{}{}
	}
	return true
}

// commitGroup commits ops in one transaction. A fault that may pass leaves them
// undone; another one that is one op's doesn't spoil the others: each is tried alone.
func (b *Backend) commitGroup(ops []*op) {
	ctx, cancel := context.WithTimeout(b.ctx, commitTimeout)
	defer cancel()
	err := b.once(ctx, func(ctx context.Context, pg *pgconn.PgConn) error { return b.send(ctx, pg, ops) })
	if err != nil && !transient(err) && len(ops) > 1 {
		for i := range ops {
			b.commitGroup(ops[i : i+1])
		}
		return
	}
	for _, o := range ops {
		o.fault = err
		switch {
		case err == nil:
			o.done = true
			// A start waits for whoever works on its thread. Whatever was sent before
			// can't say "nothing was written" without having looked.
			if o.code == codeLocked && (o.start != nil || o.repeated) {
				o.done, o.fault = false, errHeld
			}
		case transient(err):
			o.repeated = true
		default:
			o.done = true
		}
	}
}

var errHeld = fmt.Errorf("%w: another transaction is holding it", storage.ErrLocked)

// send makes one round trip of a group.
func (b *Backend) send(ctx context.Context, pg *pgconn.PgConn, ops []*op) error {
	var starts, units, settlements []*op
	for _, o := range ops {
		switch {
		case o.start != nil:
			starts = append(starts, o)
		case o.unit != nil:
			units = append(units, o)
		default:
			settlements = append(settlements, o)
		}
	}
	var calls []*call
	var readers []func(*row) error
	add := func(c *call, read func(*row) error) {
		calls, readers = append(calls, c), append(readers, read)
	}
	if len(starts) > 0 {
		add(b.startCall(starts, false), func(r *row) error { return readStart(r, starts) })
	}
	if len(units) > 0 {
		c := b.appendCall(units)
		add(c, func(r *row) error { return readAppend(r, units) })
	}
	if len(settlements) > 0 {
		add(b.settleCall(settlements), func(r *row) error { return readSettle(r, settlements) })
	}
	return b.exec(ctx, pg, func(i int, r *row) error { return readers[i](r) }, calls...)
}

// announce tells this process' watchers what its own commits changed, and, if an answer was lost, that these may have
// changed anything: what comes back from the server with this process as its sender is ignored.
func (b *Backend) announce(ops []*op) {
	if !b.watched() {
		return
	}
	if slices.ContainsFunc(ops, func(o *op) bool { return o.repeated }) {
		b.deliver(anything)
	}
	for _, o := range ops {
		if !o.done || o.fault != nil || o.code != codeDone && o.code != codeSettled {
			continue
		}
		switch {
		case o.unit != nil:
			b.deliver(unitNote(o.unit))
		case o.start != nil:
			b.deliver(storage.Note{Tenant: o.start.Run.Tenant, Run: o.started.Run.ID, Queued: o.started.Run.Status == storage.Queued})
			if !o.superseded.IsZero() {
				b.deliver(storage.Note{Tenant: o.start.Run.Tenant, Run: o.superseded, Questions: true})
			}
		default:
			r := &o.settled.Run
			b.deliver(storage.Note{Tenant: r.Tenant, Run: r.ID, Queued: r.Status == storage.Queued, Inbox: true, Questions: true})
		}
	}
}

func unitNote(u *storage.Unit) storage.Note {
	ends := u.Status == storage.Finished || u.Status == storage.Failed || u.Status == storage.Cancelled
	return storage.Note{
		Tenant: u.Tenant, Run: u.Run, Queued: u.Status == storage.Queued,
		Questions: len(u.Questions) > 0 || len(u.Close) > 0 || ends,
	}
}

func hashText(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum64()
}

func hashID(id storage.ID) uint32 {
	return uint32(id[15]) | uint32(id[14])<<8 | uint32(id[13])<<16
}

// duplicates reports whether two of the ids are equal.
func duplicates(ids []storage.ID) (storage.ID, bool) {
	sorted := slices.SortedFunc(slices.Values(ids), storage.ID.Compare)
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return sorted[i], true
		}
	}
	return storage.ID{}, false
}
