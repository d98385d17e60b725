package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-go/fermata/storage"
)

// Head implements [storage.Threads].
func (b *Backend) Head(ctx context.Context, tenant, thread string) (h storage.Head, err error) {
	const latest = "(SELECT r.n FROM SCHEMA.run r WHERE r.tenant = $1 AND r.thread = $2 ORDER BY r.n DESC LIMIT 1)"
	now := b.call("SELECT clock_timestamp() + $1 * interval '1 microsecond'")
	now.int8(b.offset())
	run := b.call(`SELECT r, r.owner IS NOT NULL AND SCHEMA.living_1(r.owner), p
		FROM SCHEMA.run r LEFT JOIN SCHEMA.run p ON r.status <> 5 AND p.id = r.previous AND (p.tenant = r.tenant) IS TRUE
		WHERE r.n = ` + latest)
	questions := b.call("SELECT " + questionColumns + " FROM " + questionTables + " WHERE q.run_n = " + latest + " AND q.settled IS NULL ORDER BY q.seq, q.change")
	for _, c := range []*call{run, questions} {
		c.text(tenant)
		c.text(thread)
	}
	err = b.read(ctx, fmt.Sprintf("read thread %.80q", thread), true, func() { h = storage.Head{} }, func(i int, r *row) error {
		switch i {
		case 0:
			h.Now = r.time()
		case 1:
			stored, err := readRun(r.composite())
			if err != nil {
				return err
			}
			h.Run, h.Alive = &stored.Run, r.bool()
			if last := r.composite(); last != nil {
				previous, err := readRun(last)
				if err != nil {
					return err
				}
				h.Last = &previous.Run
			} else if stored.Status == storage.Finished {
				same := stored.Run
				h.Last = &same
			}
		case 2:
			q, err := readFullQuestion(r)
			if err != nil {
				return err
			}
			h.Open = append(h.Open, q)
		}
		return r.err
	}, now, run, questions)
	return h, err
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
	return b.change(ctx, fmt.Sprintf("put thread %.80q", t.ID), func(ctx context.Context, pg *pgconn.PgConn, _ int) error {
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

// threadColumns makes a [storage.Thread] of a thread's row t, which may be missing, its first run f and its
// latest run l, which may be missing, too.
const threadColumns = `coalesce(t.created, f.created), greatest(t.updated, l.updated, f.created), t.metadata`

const firstRun = `(SELECT r.created FROM SCHEMA.run r WHERE r.tenant = x.tenant AND r.thread = x.id ORDER BY r.n LIMIT 1)`

const latestRun = `(SELECT r.updated, r.entrypoint, r.status FROM SCHEMA.run r WHERE r.tenant = x.tenant AND r.thread = x.id ORDER BY r.n DESC LIMIT 1)`

func readThread(r *row, tenant string) (storage.Thread, error) {
	t := storage.Thread{Tenant: tenant, ID: r.text(), Created: r.time(), Updated: r.time(), Metadata: readMetadata(r)}
	return t, r.err
}

// GetThread implements [storage.Threads].
func (b *Backend) GetThread(ctx context.Context, tenant, thread string) (t storage.Thread, err error) {
	what, found := fmt.Sprintf("read thread %.80q", thread), false
	c := b.call(`SELECT x.id, ` + threadColumns + ` FROM (SELECT $1 AS tenant, $2 AS id) x
		LEFT JOIN SCHEMA.thread t ON t.tenant = x.tenant AND t.id = x.id
		LEFT JOIN LATERAL ` + firstRun + ` f ON true LEFT JOIN LATERAL ` + latestRun + ` l ON true
		WHERE t.id IS NOT NULL OR l.status IS NOT NULL`)
	c.text(tenant)
	c.text(thread)
	err = b.read(ctx, what, false, func() { found = false }, func(_ int, r *row) (err error) {
		t, err = readThread(r, tenant)
		found = true
		return err
	}, c)
	return t, orNotFound(what, found, err)
}

// ListThreads implements [storage.Threads]. It walks the threads in order until the page is full: a filter that few
// threads match makes it walk far.
func (b *Backend) ListThreads(ctx context.Context, f storage.ThreadFilter) (list []storage.Thread, err error) {
	tenant, after := textArg(f.Tenant), textArg(f.After)
	q := b.query("SELECT x.id, " + threadColumns + " FROM (SELECT DISTINCT y.tenant, y.id FROM (")
	q.end("SELECT r.tenant, r.thread AS id FROM SCHEMA.run r WHERE r.tenant = ", tenant, " AND r.thread > ", after)
	q.end(" UNION ALL SELECT o.tenant, o.id FROM SCHEMA.thread o WHERE o.tenant = ", tenant, " AND o.id > ", after)
	q.end(") y) x LEFT JOIN SCHEMA.thread t ON t.tenant = x.tenant AND t.id = x.id LEFT JOIN LATERAL " + firstRun +
		" f ON true LEFT JOIN LATERAL " + latestRun + " l ON true")
	if f.Entrypoint != "" {
		q.where("l.entrypoint = ", textArg(f.Entrypoint))
	}
	if len(f.Statuses) > 0 {
		q.where("l.status = ANY ", smallsArg(f.Statuses))
	}
	if len(f.Metadata) > 0 {
		q.where("t.metadata @> ", jsonArg(metadataText(f.Metadata)))
	}
	q.end(" ORDER BY x.id LIMIT ", int8Arg(pageSize(f.Limit)))
	err = b.read(ctx, "list threads", false, func() { list = nil }, func(_ int, r *row) error {
		t, err := readThread(r, f.Tenant)
		list = append(list, t)
		return err
	}, q.call())
	return list, err
}

// change is [Backend.do] for what may safely be done twice.
func (b *Backend) change(ctx context.Context, what string, f func(ctx context.Context, pg *pgconn.PgConn, attempt int) error) error {
	return b.do(ctx, what, f)
}

// durable is the first statement of a transaction that changes something outside of our functions.
func (b *Backend) durable() *call { return b.call("SELECT SCHEMA.durable_1()") }
