package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/fermata-go/fermata/storage"
)

// Head reads the present of a thread.
func (b *Backend) Head(ctx context.Context, tenant, thread string) (storage.Head, error) {
	var head storage.Head
	err := b.readSoon(ctx, "read the head of a thread", func(c *conn) error {
		head = storage.Head{Now: timeOf(b.micros())}
		r, err := latestRun(c, tenant, thread)
		if err != nil || r == nil {
			return err
		}
		if c.fences != nil && r.LastSeq > shortLog {
			return errLong
		}
		head.Run = &r.Run
		head.Alive = b.members.lives(r.Owner)
		if r.Status == storage.Finished {
			last := r.Run
			head.Last = &last
		} else if !r.Previous.IsZero() {
			last, err := lookupRun(c, tenant, r.Previous)
			if err != nil {
				return err
			}
			if last != nil {
				head.Last = &last.Run
			}
		}
		head.Open, err = b.questionsOf(c, r, true)
		return err
	})
	if err != nil {
		return storage.Head{}, err
	}
	return head, nil
}

// PutThread sets the metadata of a thread.
func (b *Backend) PutThread(ctx context.Context, in storage.Thread) error {
	if in.ID == "" {
		return invalid("put a thread: it has no id")
	}
	return b.write(ctx, "put a thread", func(t *tx) error {
		th, err := findThread(t.conn, in.Tenant, in.ID)
		if err != nil {
			return err
		}
		created := t.now
		if th != nil {
			created = th.Created.UnixMicro()
		}
		return t.putThread(in.Tenant, in.ID, in.Metadata, created, t.now)
	})
}

// GetThread reads a thread.
func (b *Backend) GetThread(ctx context.Context, tenant, thread string) (storage.Thread, error) {
	var th *storage.Thread
	err := b.read(ctx, "read a thread", func(c *conn) (err error) {
		th, err = findThread(c, tenant, thread)
		if err == nil && th == nil {
			err = noThread(tenant, thread)
		}
		return err
	})
	if err != nil {
		return storage.Thread{}, err
	}
	return *th, nil
}

// ListThreads returns threads in the order of their ids.
func (b *Backend) ListThreads(ctx context.Context, f storage.ThreadFilter) ([]storage.Thread, error) {
	limit := limitOr100(f.Limit)
	var list []storage.Thread
	err := b.read(ctx, "list threads", func(c *conn) error {
		for after := f.After; len(list) < limit; {
			if err := ctx.Err(); err != nil {
				return err
			}
			id, err := nextThread(c, f.Tenant, after)
			if err != nil || id == "" {
				return err
			}
			after = id
			th, err := selectThread(c, &f, id)
			if err != nil {
				return err
			}
			if th != nil {
				list = append(list, *th)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// nextThread returns the id of the thread after another; "" if there is none.
// A thread is in the table of runs, of threads, or in both.
func nextThread(c *conn, tenant, after string) (next string, err error) {
	for _, text := range [...]string{
		"SELECT thread FROM run WHERE tenant = ? AND thread > ? ORDER BY thread LIMIT 1",
		"SELECT id FROM thread WHERE tenant = ? AND id > ? ORDER BY id LIMIT 1",
	} {
		_, err := c.query(text).text(tenant).text(after).first(func(q *query) {
			if id := q.colText(0); next == "" || id < next {
				next = id
			}
		})
		if err != nil {
			return "", err
		}
	}
	if next != "" && next <= after {
		return "", fmt.Errorf("sqlite: %w: thread %.80q comes after thread %.80q", storage.ErrCorrupt, next, after)
	}
	return next, nil
}

// selectThread returns the thread if the filter selects it.
func selectThread(c *conn, f *storage.ThreadFilter, id string) (*storage.Thread, error) {
	if f.Entrypoint != "" || len(f.Statuses) > 0 {
		var entrypoint string
		var status storage.Status
		found, err := c.query("SELECT entrypoint, status FROM run WHERE tenant = ? AND thread = ? ORDER BY n DESC LIMIT 1").
			text(f.Tenant).text(id).first(func(q *query) { entrypoint, status = q.colText(0), storage.Status(q.colInt(1)) })
		if err != nil || !found ||
			f.Entrypoint != "" && entrypoint != f.Entrypoint ||
			len(f.Statuses) > 0 && !slices.Contains(f.Statuses, status) {
			return nil, err
		}
	}
	th, err := findThread(c, f.Tenant, id)
	if err != nil || th == nil || !contains(th.Metadata, f.Metadata) {
		return nil, err
	}
	return th, nil
}

// findThread returns nil if there is no such thread.
func findThread(c *conn, tenant, id string) (*storage.Thread, error) {
	th := &storage.Thread{Tenant: tenant, ID: id}
	var jsonErr error
	exists, err := c.query("SELECT metadata, created, updated FROM thread WHERE tenant = ? AND id = ?").text(tenant).text(id).first(func(q *query) {
		jsonErr = q.colJSON(0, &th.Metadata)
		th.Created, th.Updated = q.colTime(1), q.colTime(2)
	})
	if err == nil {
		err = jsonErr
	}
	if err != nil {
		return nil, err
	}
	if !exists {
		hasRun, err := c.query("SELECT created FROM run WHERE tenant = ? AND thread = ? ORDER BY n LIMIT 1").text(tenant).text(id).
			first(func(q *query) { th.Created = q.colTime(0) })
		if err != nil || !hasRun {
			return nil, err
		}
	}
	n, updated := int64(0), int64(0)
	_, err = c.query("SELECT n, updated FROM run WHERE tenant = ? AND thread = ? ORDER BY n DESC LIMIT 1").text(tenant).text(id).
		first(func(q *query) { n, updated = q.colInt(0), q.colInt(1) })
	if err != nil || n == 0 {
		return th, err
	}
	_, at, err := lastUnit(c, n)
	if latest := timeOf(max(updated, at)); latest.After(th.Updated) {
		th.Updated = latest
	}
	return th, err
}

// putThread writes the row of a thread.
func (t *tx) putThread(tenant, id string, metadata map[string]string, created, updated int64) error {
	return t.write(t.query(`INSERT INTO thread (tenant, id, metadata, created, updated) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (tenant, id) DO UPDATE SET metadata = excluded.metadata, updated = excluded.updated`).
		text(tenant).text(id).json(metadata, len(metadata) == 0).int(created).int(updated))
}

func noThread(tenant, thread string) error {
	if tenant == "" {
		return fmt.Errorf("sqlite: %w: thread %.80q", storage.ErrNotFound, thread)
	}
	return fmt.Errorf("sqlite: %w: thread %.80q of tenant %.80q", storage.ErrNotFound, thread, tenant)
}

// runNumbers returns the numbers of the runs of a thread, oldest first.
func runNumbers(c *conn, tenant, thread string) (numbers []int64, err error) {
	q := c.query("SELECT n FROM run WHERE tenant = ? AND thread = ? ORDER BY n").text(tenant).text(thread)
	for {
		more, err := q.next()
		if err != nil || !more {
			return numbers, err
		}
		numbers = append(numbers, q.colInt(0))
	}
}

// contains reports whether all of want is in have.
func contains(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// ListRuns returns runs, newest first.
func (b *Backend) ListRuns(ctx context.Context, f storage.RunFilter) ([]storage.Run, error) {
	limit := limitOr100(f.Limit)
	before := f.Before
	if before <= 0 {
		before = maxRun + 1
	}
	var list []storage.Run
	err := b.read(ctx, "list runs", func(c *conn) error {
		numbers, err := b.selectRuns(ctx, c, &f, before, limit)
		if err != nil {
			return err
		}
		list = make([]storage.Run, 0, len(numbers))
		for _, n := range numbers {
			r, err := runByNumber(c, n)
			if err != nil {
				return err
			}
			list = append(list, r.Run)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// selectRuns returns the numbers of the first limit runs below a number that the filter selects.
func (b *Backend) selectRuns(ctx context.Context, c *conn, f *storage.RunFilter, before int64, limit int) (numbers []int64, err error) {
	const columns = "SELECT n, entrypoint, status, source, metadata FROM run "
	q := c.query(columns + "WHERE n < ? AND +tenant = ? ORDER BY n DESC").int(before).text(f.Tenant)
	switch {
	case f.Thread != "":
		q = c.query(columns + "WHERE tenant = ? AND thread = ? AND n < ? ORDER BY n DESC").text(f.Tenant).text(f.Thread).int(before)
	case f.Tenant != "":
		q = c.query(columns + "INDEXED BY run_tenant WHERE tenant = ? AND n < ? AND tenant <> '' ORDER BY n DESC").text(f.Tenant).int(before)
	}
	for seen := 1; len(numbers) < limit; seen++ {
		more, err := q.next()
		if err != nil || !more {
			return numbers, err
		}
		if seen%256 == 0 && ctx.Err() != nil {
			q.close()
			return nil, ctx.Err()
		}
		if f.Entrypoint != "" && q.colText(1) != f.Entrypoint ||
			len(f.Statuses) > 0 && !slices.Contains(f.Statuses, storage.Status(q.colInt(2))) ||
			len(f.Sources) > 0 && !slices.Contains(f.Sources, storage.Source(q.colInt(3))) {
			continue
		}
		if len(f.Metadata) > 0 {
			var metadata map[string]string
			if !q.colNull(4) {
				if err := json.Unmarshal([]byte(q.colText(4)), &metadata); err != nil {
					q.close()
					return nil, fmt.Errorf("sqlite: %w: the metadata of run number %d", storage.ErrCorrupt, q.colInt(0))
				}
			}
			if !contains(metadata, f.Metadata) {
				continue
			}
		}
		numbers = append(numbers, q.colInt(0))
	}
	q.close()
	return numbers, nil
}
