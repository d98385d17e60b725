package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fermata-go/fermata/storage"
)

// Start implements [storage.Runs]. An owner that doesn't live: [storage.ErrClosed].
func (b *Backend) Start(ctx context.Context, s storage.Start) (storage.Started, error) {
	o, err := newStart(s)
	if err != nil {
		return storage.Started{}, err
	}
	if err := b.commit(ctx, "start", uint32(hashText(s.Run.Tenant+"\x00"+s.Run.Thread)), &work{ops: []*op{o}}); err != nil {
		return storage.Started{}, err
	}
	return o.startOutcome()
}

// Tx is a transaction of the program's own, in which runs can be started.
type Tx struct {
	b  *Backend
	tx pgx.Tx
}

// In returns the face of the backend inside a transaction of the program, on
// the same database: what is started there becomes true with everything else
// that the transaction does, or not at all. The transaction must be READ COMMITTED, PostgreSQL's default: with
// another isolation a start on it is refused as [storage.ErrUnsupported], and leaves it usable.
func (b *Backend) In(tx pgx.Tx) *Tx { return &Tx{b: b, tx: tx} }

// Start is [storage.Runs].Start as part of the transaction. Until that
// ends, other starts on the thread wait. A refusal (ErrBusy, ErrConflict, …) leaves the transaction usable.
// Once the transaction has ended: [storage.ErrInvalid] and [pgx.ErrTxClosed].
// Unless the run has an owner, any member takes it once the transaction is committed.
func (t *Tx) Start(ctx context.Context, s storage.Start) (storage.Started, error) {
	if err := t.b.usable(ctx, "start"); err != nil {
		return storage.Started{}, err
	}
	o, err := newStart(s)
	if err != nil {
		return storage.Started{}, err
	}
	if err := t.open(ctx); err != nil {
		return storage.Started{}, t.b.failed(ctx, "start in a transaction", err)
	}
	ops := []*op{o}
	err = t.b.exec(ctx, t.tx.Conn().PgConn(), func(_ int, r *row) error { return readStart(r, ops) }, t.b.startCall(ops, true))
	if err != nil {
		return storage.Started{}, t.b.failed(ctx, "start in a transaction", err)
	}
	return o.startOutcome()
}

// open finds out whether the transaction is still that of its connection, which may have gone back to a pool and
// be in use elsewhere. Only what is sent through the transaction itself tells.
func (t *Tx) open(ctx context.Context) error {
	_, err := t.tx.Exec(ctx, "")
	if err == nil && t.tx.Conn().PgConn().TxStatus() == 'I' {
		err = pgx.ErrTxClosed // by a COMMIT or ROLLBACK in SQL
	}
	if errors.Is(err, pgx.ErrTxClosed) {
		return fmt.Errorf("%w: the transaction has ended: %w", storage.ErrInvalid, err)
	}
	return err
}

func newStart(s storage.Start) (*op, error) {
	in := &s.Run
	switch {
	case in.ID.IsZero() || in.Thread == "" || in.Entrypoint == "":
		return nil, fmt.Errorf("postgres: start: %w: a run needs an id, a thread and an entrypoint", storage.ErrInvalid)
	case s.ForkSeq < 0 || s.ForkSeq > 0 && (s.From == nil || s.From.Run.IsZero()):
		return nil, fmt.Errorf("postgres: start run %s: %w: %d records of no run", in.ID, storage.ErrInvalid, s.ForkSeq)
	}
	err := errors.Join(checkName("tenant", in.Tenant), checkName("thread", in.Thread), checkName("entrypoint", in.Entrypoint), checkTime(in.Due))
	for k, v := range in.Metadata {
		err = errors.Join(err, checkText("metadata", k), checkText("metadata", v))
	}
	if err != nil {
		return nil, fmt.Errorf("postgres: start run %s: %w", in.ID, err)
	}
	return &op{start: &s, attempt: newAttempt()}, nil
}

func (b *Backend) startCall(ops []*op, inTx bool) *call {
	c := b.call(`SELECT o_start, o_code, o_run, o_previous, o_alive, o_open, o_superseded FROM SCHEMA.start_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
		$14, $15, $16, $17, $18, $19, $20, $21, $22)`)
	from := b.instance
	if inTx {
		from = "" // this process doesn't know when the transaction commits: it listens, too
	}
	run := func(get func(*storage.Run) string) func(*op) string {
		return func(o *op) string { return get(&o.start.Run) }
	}
	data := func(get func(*storage.Run) []byte) func(*op) []byte {
		return func(o *op) []byte { return get(&o.start.Run) }
	}
	c.hot = !inTx // an unknown name would end the program's transaction
	c.int8(b.offset())
	c.text(from)
	c.bool(inTx)
	idColumn(c, ops, func(o *op) storage.ID { return o.start.Run.ID })
	textColumn(c, ops, run(func(r *storage.Run) string { return r.Tenant }))
	textColumn(c, ops, run(func(r *storage.Run) string { return r.Thread }))
	textColumn(c, ops, run(func(r *storage.Run) string { return r.Entrypoint }))
	int2Column(c, ops, func(o *op) int { return int(o.start.Run.Source) })
	boolColumn(c, ops, func(o *op) bool { return o.start.Run.Status == storage.Finished })
	idColumn(c, ops, func(o *op) storage.ID { return o.start.Run.Owner })
	timeColumn(c, ops, func(o *op) time.Time { return o.start.Run.Due })
	bytesColumn(c, ops, data(func(r *storage.Run) []byte { return r.Input }))
	bytesColumn(c, ops, data(func(r *storage.Run) []byte { return r.Config }))
	optionalColumn(c, ops, run(func(r *storage.Run) string { return metadataText(r.Metadata) }))
	bytesColumn(c, ops, func(o *op) []byte { return o.ifFinished(o.start.Run.Result) })
	bytesColumn(c, ops, func(o *op) []byte { return o.ifFinished(o.start.Run.Saved) })
	boolColumn(c, ops, func(o *op) bool { return o.start.From == nil })
	idColumn(c, ops, func(o *op) storage.ID { return o.from().Run })
	boolColumn(c, ops, func(o *op) bool { return o.from().End })
	positiveColumn(c, ops, func(o *op) int64 { return o.start.ForkSeq })
	boolColumn(c, ops, func(o *op) bool { return o.start.Supersede })
	int8Column(c, ops, func(o *op) int64 { return o.attempt })
	return c
}

// from is the checkpoint that a start names, zero if it names none.
func (o *op) from() (c storage.Checkpoint) {
	if o.start.From != nil {
		c = *o.start.From
	}
	return c
}

func (o *op) ifFinished(value []byte) []byte {
	if o.start.Run.Status == storage.Finished {
		return value
	}
	return nil
}

func readStart(r *row, ops []*op) error {
	i := r.int4() - 1
	if i < 0 || i >= len(ops) {
		return fmt.Errorf("%w: an answer for start %d of %d", storage.ErrCorrupt, i+1, len(ops))
	}
	o := ops[i]
	o.code = code(r.int2())
	run := r.composite()
	previous, alive, open := r.bytes(), r.bool(), r.int4()
	o.superseded = r.uuid()
	if r.err != nil {
		return r.err
	}
	switch o.code {
	case codeDone, codeExisting, codeBusy:
		stored, err := readRun(run)
		if err != nil {
			return err
		}
		if o.code == codeBusy {
			o.busy = storage.BusyError{Run: stored.Run, Alive: alive, Open: open}
			break
		}
		if o.code == codeDone && stored.LastSeq == o.start.ForkSeq && stored.Input == nil {
			// A new run comes without what was sent a moment ago.
			in := &o.start.Run
			stored.Input, stored.Config = in.Input, in.Config
			stored.Metadata = cloneMetadata(in.Metadata)
			stored.Result, stored.Saved = o.ifFinished(in.Result), o.ifFinished(in.Saved)
		}
		o.started = storage.Started{Run: stored.Run, Existing: o.code == codeExisting, Previous: previous}
	}
	return nil
}

// startOutcome is what the caller of Start is told.
func (o *op) startOutcome() (storage.Started, error) {
	var err error
	switch o.code {
	case codeDone, codeExisting:
		return o.started, nil
	case codeBusy:
		err = &o.busy
	case codeConflict:
		err = storage.ErrConflict
	case codeNotFound:
		err = fmt.Errorf("from run %s: %w", o.from().Run, storage.ErrNotFound)
	case codeInvalid:
		err = fmt.Errorf("%w: from run %s, which has not ended or not that many records", storage.ErrInvalid, o.from().Run)
	case codeGone:
		err = fmt.Errorf("member %s is dead: %w", o.start.Run.Owner, storage.ErrClosed)
	case codeSnapshot:
		err = fmt.Errorf("%w: the transaction is REPEATABLE READ or SERIALIZABLE, and may not see the thread as it is: begin it READ COMMITTED", storage.ErrUnsupported)
	default:
		err = storage.ErrLocked
	}
	return storage.Started{}, fmt.Errorf("postgres: start run %s: %w", o.start.Run.ID, err)
}

func cloneMetadata(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	c := make(map[string]string, len(m))
	maps.Copy(c, m)
	return c
}
