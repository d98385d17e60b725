package postgres

import (
	"context"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

// DeleteThread implements [storage.Threads].
func (b *Backend) DeleteThread(ctx context.Context, tenant, thread string) error {
	what := fmt.Sprintf("delete thread %.80q", thread)
	var run storage.Run
	var busy storage.BusyError
	answer, err := b.write(ctx, what, func(bool) *call {
		c := b.call("SELECT o_code, o_run, o_alive, o_open FROM SCHEMA.delete_thread_1($1, $2, $3)")
		c.text(b.instance)
		c.text(tenant)
		c.text(thread)
		return c
	}, func(r *row) (code, error) { return readBusyAnswer(r, &run, &busy) })
	if err != nil {
		return err
	}
	if answer == codeBusy {
		return fmt.Errorf("postgres: %s: %w", what, &busy)
	}
	b.deliver(anything)
	return nil
}

// readBusyAnswer is readRunAnswer for functions that return a run only if it is in the way.
func readBusyAnswer(r *row, run *storage.Run, busy *storage.BusyError) (code, error) {
	if len(r.fields) > 0 {
		peek := *r
		if answer := code(peek.int2()); answer != codeBusy {
			return answer, peek.err
		}
	}
	return readRunAnswer(r, run, busy)
}

// PruneThread implements [storage.Threads]. If the answer of the server was
// lost and the call repeated, the number lacks what the first attempt removed.
func (b *Backend) PruneThread(ctx context.Context, tenant, thread string) (int, error) {
	removed := 0
	_, err := b.write(ctx, fmt.Sprintf("prune thread %.80q", thread), func(bool) *call {
		c := b.call("SELECT o_code, o_removed FROM SCHEMA.prune_thread_1($1, $2, $3)")
		c.text(b.instance)
		c.text(tenant)
		c.text(thread)
		return c
	}, func(r *row) (code, error) {
		answer := code(r.int2())
		removed = r.int4()
		return answer, r.err
	})
	if err == nil && removed > 0 {
		b.deliver(anything)
	}
	return removed, err
}

// CopyThread implements [storage.Threads].
func (b *Backend) CopyThread(ctx context.Context, tenant, from, to string) error {
	what, attempt := fmt.Sprintf("copy thread %.80q", from), newAttempt()
	if err := checkThread(storage.Thread{Tenant: tenant, ID: to}); err != nil {
		return fmt.Errorf("postgres: %s to %.80q: %w", what, to, err)
	}
	var run storage.Run
	var busy storage.BusyError
	answer, err := b.write(ctx, what, func(bool) *call {
		c := b.call("SELECT o_code, o_run, o_alive, o_open FROM SCHEMA.copy_thread_1($1, $2, $3, $4, $5, $6)")
		c.int8(b.offset())
		c.text(b.instance)
		c.text(tenant)
		c.text(from)
		c.text(to)
		c.int8(attempt)
		return c
	}, func(r *row) (code, error) { return readBusyAnswer(r, &run, &busy) })
	switch {
	case err != nil:
		return err
	case answer == codeBusy:
		return fmt.Errorf("postgres: %s to %.80q: %w", what, to, &busy)
	case answer == codeNotFound:
		return fmt.Errorf("postgres: %s: %w", what, storage.ErrNotFound)
	}
	b.deliver(anything)
	return nil
}
