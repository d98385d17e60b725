package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-go/fermata/storage"
)

// Head implements [storage.Threads].
func (b *Backend) Head(ctx context.Context, tenant, thread string) (storage.Head, error) {
	c := b.call("SELECT o_now, o_run, o_alive, o_last, o_question, o_schema FROM SCHEMA.head_1($1, $2, $3)")
	c.hot = true
	c.int8(b.offset())
	c.text(tenant)
	c.text(thread)
	var h storage.Head
	err := b.readTogether(ctx, fmt.Sprintf("read thread %.80q", thread), func() { h = storage.Head{} }, func(r *row) error {
		now, run, alive, last, question, schema := r.time(), r.composite(), r.bool(), r.composite(), r.composite(), r.bytes()
		if r.err != nil {
			return r.err
		}
		if question != nil {
			q, err := readQuestion(question)
			q.Run, q.Thread, q.Entrypoint, q.Schema = h.Run.ID, h.Run.Thread, h.Run.Entrypoint, schema
			h.Open = append(h.Open, q)
			return err
		}
		h.Now = now
		if run == nil {
			return nil
		}
		latest, err := readRun(run)
		if err != nil {
			return err
		}
		h.Run, h.Alive = &latest.Run, alive
		switch {
		case last != nil:
			previous, err := readRun(last)
			h.Last = &previous.Run
			return err
		case latest.Status == storage.Finished:
			same := latest.Run
			h.Last = &same
		}
		return nil
	}, c)
	if err != nil {
		return storage.Head{}, err
	}
	return h, nil
}

// PutThread implements [storage.Threads].
func (b *Backend) PutThread(ctx context.Context, t storage.Thread) error {
	if err := checkThread(t); err != nil {
		return fmt.Errorf("postgres: put thread %.80q: %w", t.ID, err)
	}
	// A thread that exists by its runs is as old as the first of them.
	c := b.call(`INSERT INTO SCHEMA.thread AS t (tenant, id, created, updated, metadata)
		SELECT $1, $2, coalesce((SELECT min(r.created) FROM SCHEMA.run r WHERE r.tenant = $1 AND r.thread = $2), now.at), now.at, $3::text::jsonb
		FROM (SELECT clock_timestamp() + $4 * interval '1 microsecond' AS at) now
		ON CONFLICT (tenant, id) DO UPDATE SET metadata = excluded.metadata, updated = greatest(t.updated, excluded.updated)`)
	c.text(t.Tenant)
	c.text(t.ID)
	c.optionalText(metadataText(t.Metadata))
	c.int8(b.offset())
	return b.do(ctx, fmt.Sprintf("put thread %.80q", t.ID), func(ctx context.Context, pg *pgconn.PgConn) error {
		return b.exec(ctx, pg, func(int, *row) error { return nil }, b.durable(), c)
	})
}

func checkThread(t storage.Thread) error {
	if t.ID == "" {
		return fmt.Errorf("%w: no id", storage.ErrInvalid)
	}
	if err := checkName("tenant", t.Tenant); err != nil {
		return err
	}
	if err := checkName("thread", t.ID); err != nil {
		return err
	}
	for k, v := range t.Metadata {
		if err := checkText("metadata", k); err != nil {
			return err
		}
		if err := checkText("metadata", v); err != nil {
			return err
		}
	}
	return nil
}

// GetThread implements [storage.Threads].
func (b *Backend) GetThread(ctx context.Context, tenant, thread string) (t storage.Thread, err error) {
	what, found := fmt.Sprintf("read thread %.80q", thread), false
	c := b.call("SELECT o_id, o_created, o_updated, o_metadata FROM SCHEMA.thread_1($1, $2)")
	c.text(tenant)
	c.text(thread)
	err = b.read(ctx, what, func() { found = false }, func(_ int, r *row) (err error) {
		t, err = readThread(r, tenant)
		found = true
		return err
	}, c)
	return t, orNotFound(what, found, err)
}

func readThread(r *row, tenant string) (storage.Thread, error) {
	t := storage.Thread{Tenant: tenant, ID: r.text(), Created: r.time(), Updated: r.time(), Metadata: readMetadata(r)}
	return t, r.err
}

// ListThreads implements [storage.Threads]. Statuses that aren't all active, and an entrypoint, are
// looked for in all runs of the tenant until the page is full.
func (b *Backend) ListThreads(ctx context.Context, f storage.ThreadFilter) (list []storage.Thread, err error) {
	c := b.call("SELECT o_id, o_created, o_updated, o_metadata FROM SCHEMA.threads_1($1, $2, $3, $4, $5, $6, $7)")
	c.text(f.Tenant)
	c.text(f.After)
	c.optionalText(f.Entrypoint)
	active := len(f.Statuses) > 0
	statuses := smallsArg(f.Statuses)
	for _, s := range f.Statuses {
		active = active && s.Active()
	}
	if len(f.Statuses) == 0 {
		statuses.value = nil
	}
	c.add(statuses.oid, statuses.value)
	c.bool(active)
	c.optionalText(metadataText(f.Metadata))
	c.int8(pageSize(f.Limit))
	err = b.read(ctx, "list threads", func() { list = nil }, func(_ int, r *row) error {
		t, err := readThread(r, f.Tenant)
		list = append(list, t)
		return err
	}, c)
	return list, err
}

// durable is the first statement of a transaction that changes something outside of our functions.
func (b *Backend) durable() *call { return b.call("SELECT SCHEMA.durable_1()") }
