package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fermata-go/fermata/storage"
)

// Acquire implements [storage.Runs]. A member that doesn't live: [storage.ErrClosed].
func (b *Backend) Acquire(ctx context.Context, a storage.Acquire) (storage.Run, error) {
	statuses := make([]int, len(a.From))
	for i, s := range a.From {
		statuses[i] = int(s)
	}
	what, attempt := fmt.Sprintf("acquire run %s", a.Run), newAttempt()
	var run storage.Run
	var busy storage.BusyError
	answer, err := b.write(ctx, what, func(bool) *call {
		c := b.call("SELECT o_code, o_run, o_alive, o_open FROM SCHEMA.acquire_1($1, $2, $3, $4, $5, $6, $7, $8)")
		c.int8(b.offset())
		c.text(b.instance)
		c.text(a.Tenant)
		c.uuid(a.Run)
		c.uuid(a.Member)
		c.uuid(a.Owner)
		c.int2s(statuses)
		c.int8(attempt)
		return c
	}, func(r *row) (code, error) { return readRunAnswer(r, &run, &busy) })
	if err != nil {
		return storage.Run{}, err
	}
	switch answer {
	case codeDone:
		b.deliver(storage.Note{Tenant: run.Tenant, Run: run.ID, Queued: run.Status == storage.Queued})
		return run, nil
	case codeBusy:
		err = &busy
	case codeGone:
		err = fmt.Errorf("member %s is dead: %w", a.Member, storage.ErrClosed)
	default:
		err = storage.ErrNotFound
	}
	return storage.Run{}, fmt.Errorf("postgres: %s: %w", what, err)
}

// readRunAnswer reads what acquire_1 and cancel_1 return.
func readRunAnswer(r *row, run *storage.Run, busy *storage.BusyError) (code, error) {
	answer := code(r.int2())
	stored, alive, open := r.composite(), r.bool(), r.int4()
	if r.err != nil || answer != codeDone && answer != codeBusy {
		return answer, r.err
	}
	s, err := readRun(stored)
	*run = s.Run
	*busy = storage.BusyError{Run: s.Run, Alive: alive, Open: open}
	return answer, err
}

// Cancel implements [storage.Runs].
func (b *Backend) Cancel(ctx context.Context, tenant string, id storage.ID, reason string) (storage.Run, error) {
	what := fmt.Sprintf("cancel run %s", id)
	if err := checkText("reason", reason); err != nil {
		return storage.Run{}, fmt.Errorf("postgres: %s: %w", what, err)
	}
	var run storage.Run
	var busy storage.BusyError
	answer, err := b.write(ctx, what, func(repeated bool) *call {
		c := b.call("SELECT o_code, o_run, o_alive, o_open FROM SCHEMA.cancel_1($1, $2, $3, $4, $5, $6)")
		c.int8(b.offset())
		c.text(b.instance)
		c.text(tenant)
		c.uuid(id)
		c.text(reason)
		c.bool(repeated)
		return c
	}, func(r *row) (code, error) { return readRunAnswer(r, &run, &busy) })
	if err != nil {
		return storage.Run{}, err
	}
	switch answer {
	case codeDone:
		b.deliver(storage.Note{Tenant: run.Tenant, Run: run.ID, Inbox: true, Questions: !run.Status.Active()})
		return run, nil
	case codeBusy:
		err = &busy
	default:
		err = storage.ErrNotFound
	}
	return storage.Run{}, fmt.Errorf("postgres: %s: %w", what, err)
}

// Poll implements [storage.Runs]. A member that doesn't live: [storage.ErrClosed].
func (b *Backend) Poll(ctx context.Context, p storage.Poll) (storage.Polled, error) {
	attempt := newAttempt()
	var polled storage.Polled
	for {
		unfinished, notes := false, ""
		limit := p.Limit - len(polled.Runs)
		var runs []storage.Run
		answer, err := b.write(ctx, "poll", func(repeated bool) *call {
			runs = nil
			c := b.call("SELECT o_code, o_run, o_now, o_next, o_more, o_unfinished, o_notes FROM SCHEMA.poll_1($1, $2, $3, $4, $5, $6, $7, $8)")
			c.int8(b.offset())
			c.text(b.instance)
			c.uuid(p.Member)
			c.texts(p.Entrypoints)
			c.uuids(p.Except)
			c.int4(limit)
			c.int8(attempt)
			c.bool(repeated)
			return c
		}, func(r *row) (code, error) {
			answer := code(r.int2())
			if run := r.composite(); run != nil {
				stored, err := readRun(run)
				runs = append(runs, stored.Run)
				return answer, err
			}
			polled.Now, polled.Next, polled.More, unfinished = r.time(), r.time(), r.bool(), r.bool()
			notes = r.text()
			return answer, r.err
		})
		if err != nil {
			return storage.Polled{}, err
		}
		if answer == codeGone {
			return storage.Polled{}, fmt.Errorf("postgres: poll: member %s is dead: %w", p.Member, storage.ErrClosed)
		}
		polled.Runs = append(polled.Runs, runs...)
		b.deliverLines(notes)
		if !unfinished {
			return polled, nil
		}
		attempt = newAttempt()
	}
}

// Run implements [storage.Runs].
func (b *Backend) Run(ctx context.Context, tenant string, id storage.ID) (run storage.Run, err error) {
	what, found := fmt.Sprintf("read run %s", id), false
	c := b.call("SELECT r FROM SCHEMA.run_1($1, $2) r")
	c.hot = true
	c.text(tenant)
	c.uuid(id)
	err = b.read(ctx, what, func() { found = false }, func(_ int, r *row) error {
		stored, err := readRun(r.composite())
		run, found = stored.Run, true
		return err
	}, c)
	return run, orNotFound(what, found, err)
}

// orNotFound turns "no row" into ErrNotFound.
func orNotFound(what string, found bool, err error) error {
	if err == nil && !found {
		return fmt.Errorf("postgres: %s: %w", what, storage.ErrNotFound)
	}
	return err
}

// Load implements [storage.Runs].
func (b *Backend) Load(ctx context.Context, tenant string, id storage.ID) (storage.Loaded, error) {
	what := fmt.Sprintf("load run %s", id)
	var l storage.Loaded
	found := false
	c := b.loadCall(tenant, id, 0, 0)
	c.bool(true)
	err := b.readTogether(ctx, what, func() { l, found = storage.Loaded{}, false }, func(r *row) (err error) {
		run, previous := r.composite(), r.bytes()
		if run != nil {
			var stored storedRun
			stored, err = readRun(run)
			l.Run, l.Previous, found = stored.Run, previous, true
			return err
		}
		l.Records, err = readLog(r, l.Records, 0, 0)
		question, schema := r.composite(), r.bytes()
		if question == nil || err != nil {
			return err
		}
		q, err := readQuestion(question)
		q.Run, q.Thread, q.Entrypoint, q.Schema = l.Run.ID, l.Run.Thread, l.Run.Entrypoint, schema
		l.Questions = append(l.Questions, q)
		return err
	}, c)
	if err != nil {
		return storage.Loaded{}, err
	}
	if err := orNotFound(what, found, nil); err != nil {
		return storage.Loaded{}, err
	}
	if int64(len(l.Records)) != l.Run.LastSeq {
		return storage.Loaded{}, fmt.Errorf("postgres: %s: %w: the log has %d records of %d", what, storage.ErrCorrupt, len(l.Records), l.Run.LastSeq)
	}
	return l, nil
}

// Log implements [storage.Runs].
func (b *Backend) Log(ctx context.Context, tenant string, id storage.ID, after int64, limit int) (run storage.Run, records []storage.Record, err error) {
	what, found := fmt.Sprintf("read the log of run %s", id), false
	after = max(after, 0)
	c := b.loadCall(tenant, id, after, limit)
	c.bool(false)
	err = b.read(ctx, what, func() { records, found = nil, false }, func(_ int, r *row) (err error) {
		stored := r.composite()
		_ = r.bytes() // previous
		if stored != nil {
			s, err := readRun(stored)
			run, found = s.Run, true
			return err
		}
		records, err = readLog(r, records, after, limit)
		return err
	}, c)
	if err = orNotFound(what, found, err); err != nil {
		return storage.Run{}, nil, err
	}
	return run, records, nil
}

// loadCall begins a call of load_1.
func (b *Backend) loadCall(tenant string, id storage.ID, after int64, limit int) *call {
	c := b.call("SELECT o_run, o_previous, o_first, o_upto, o_at, o_records, o_question, o_schema FROM SCHEMA.load_1($1, $2, $3, $4, $5)")
	c.hot = true
	c.text(tenant)
	c.uuid(id)
	c.int8(after)
	if limit > 0 {
		c.int8(int64(limit))
	} else {
		c.add(pgtype.Int8OID, nil)
	}
	return c
}

// readLog appends the records of a row of load_1 that are asked for.
func readLog(r *row, records []storage.Record, after int64, limit int) ([]storage.Record, error) {
	first, upto, at, packed := r.int8(), r.int8(), r.time(), r.bytes()
	if r.err != nil || packed == nil {
		return records, r.err
	}
	list, err := storage.UnpackRecords(packed)
	if err != nil {
		return records, fmt.Errorf("unit at record %d: %w", first, err)
	}
	for i, data := range list {
		seq := first + int64(i)
		if seq > upto || limit > 0 && len(records) == limit {
			break
		}
		if seq > after {
			records = append(records, storage.Record{Seq: seq, At: at, Data: data})
		}
	}
	return records, nil
}

// ListRuns implements [storage.Runs].
func (b *Backend) ListRuns(ctx context.Context, f storage.RunFilter) (list []storage.Run, err error) {
	q := b.query("SELECT r FROM SCHEMA.run r")
	q.where("r.tenant = ", textArg(f.Tenant))
	if f.Thread != "" {
		q.where("r.thread = ", textArg(f.Thread))
	}
	if f.Entrypoint != "" {
		q.where("r.entrypoint = ", textArg(f.Entrypoint))
	}
	if len(f.Statuses) > 0 {
		q.where("r.status = ANY ", smallsArg(f.Statuses))
	}
	if len(f.Sources) > 0 {
		q.where("r.source = ANY ", smallsArg(f.Sources))
	}
	if len(f.Metadata) > 0 {
		q.where("r.metadata @> ", jsonArg(metadataText(f.Metadata)))
	}
	if f.Before != 0 {
		q.where("r.n < ", int8Arg(f.Before))
	}
	q.end(" ORDER BY r.n DESC LIMIT ", int8Arg(pageSize(f.Limit)))
	err = b.read(ctx, "list runs", func() { list = nil }, func(_ int, r *row) error {
		stored, err := readRun(r.composite())
		list = append(list, stored.Run)
		return err
	}, q.call())
	return list, err
}

func pageSize(limit int) int64 {
	if limit <= 0 {
		return 100
	}
	return int64(limit)
}
