package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// statement puts the schema's name into sql, which names it "SCHEMA.".
func (b *Backend) statement(sql string) string {
	if s, ok := b.statements.Load(sql); ok {
		return s.(string)
	}
	s := b.place(sql)
	b.statements.Store(sql, s)
	return s
}

// place is statement for what is said only once.
func (b *Backend) place(sql string) string {
	return strings.NewReplacer("SCHEMA.", `"`+b.options.Schema+`".`, "NAMESPACE", b.options.Schema, "CHANNEL", b.channel()).Replace(sql)
}

// call begins a statement.
func (b *Backend) call(sql string) *call { return &call{sql: b.statement(sql)} }

// exec sends calls in one round trip, as one transaction, and hands each row of
// each result to read. After an error nothing of it has been committed, unless the error is transient.
func (b *Backend) exec(ctx context.Context, pg *pgconn.PgConn, read func(result int, r *row) error, calls ...*call) error {
	batch := &pgconn.Batch{}
	for _, c := range calls {
		if !c.hot || b.unnamed.Load() {
			batch.ExecParams(c.sql, c.values, c.types, allBinary, allBinary)
			continue
		}
		statement, err := prepare(ctx, pg, c)
		if err != nil {
			return err
		}
		batch.ExecStatement(statement, c.values, allBinary, allBinary)
	}
	results := pg.ExecBatch(ctx, batch)
	var fault error
	for i := 0; results.NextResult(); i++ {
		reader := results.ResultReader()
		for reader.NextRow() {
			if fault == nil {
				fault = read(i, &row{fields: reader.Values()})
			}
		}
		if _, err := reader.Close(); err != nil {
			_ = results.Close() // says the same again
			return b.forgetful(err)
		}
	}
	if err := results.Close(); err != nil {
		return b.forgetful(err)
	}
	return fault
}

// prepare makes the statement of a hot call known to the server under a name,
// once per connection: that spares a tenth of the server's work.
func prepare(ctx context.Context, pg *pgconn.PgConn, c *call) (*pgconn.StatementDescription, error) {
	name := "fermata_" + strconv.FormatUint(hashText(c.sql), 36)
	known := pg.CustomData()
	if s, ok := known[name]; ok {
		return s.(*pgconn.StatementDescription), nil
	}
	s, err := pg.Prepare(ctx, name, c.sql, c.types)
	var there *pgconn.PgError
	if errors.As(err, &there) && there.Code == "42P05" {
		s, err = &pgconn.StatementDescription{Name: name}, nil // a proxy gave us a session that we have had before
	}
	if err == nil {
		known[name] = s
	}
	return s, err
}

// forgetful looks whether err says that the server doesn't know a name that was made known to it: a
// proxy lends another session to every transaction. From then on nothing has a name.
func (b *Backend) forgetful(err error) error {
	var unknown *pgconn.PgError
	if errors.As(err, &unknown) && unknown.Code == unknownStatement {
		b.unnamed.Store(true)
	}
	return err
}

const unknownStatement = "26000"

// do runs f, which may safely be run twice, on a connection of the pool. If that
// fails in a way that may pass, it is run again until Options.RetryTimeout is over.
func (b *Backend) do(ctx context.Context, what string, f func(ctx context.Context, pg *pgconn.PgConn) error) error {
	if err := b.usable(ctx, what); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	var patience patience
	for {
		err := b.once(ctx, f)
		if err == nil {
			return nil
		}
		if !transient(err) || !patience.wait(ctx, b.options.RetryTimeout) {
			return b.failed(ctx, what, err)
		}
	}
}

// once runs f on a connection of the pool, one time.
func (b *Backend) once(ctx context.Context, f func(ctx context.Context, pg *pgconn.PgConn) error) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return f(ctx, conn.Conn().PgConn())
}

// silent reports whether a connection of our own pool, taken from it after a pause, is dead. One that doesn't even
// answer was forgotten on the way to the server, and so were the others that are idle: none of them is tried.
func silent(ctx context.Context, pool *pgxpool.Pool, p pgxpool.ShouldPingParams) bool {
	if p.IdleDuration < time.Second {
		return false
	}
	ping, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if p.Conn.Ping(ping) != nil && ctx.Err() == nil && ping.Err() != nil {
		pool.Reset()
	}
	return p.Conn.IsClosed() // then the pool's own ping fails at once
}

// pingTimeout is how long a connection that was idle may take to answer.
const pingTimeout = 3 * time.Second

// patience spaces repeated attempts: the first repetition comes at once,
// for the pool may have handed out a connection that was long dead.
type patience struct {
	since time.Time
	delay time.Duration
}

// wait pauses before another attempt. It reports false if there should be none.
func (p *patience) wait(ctx context.Context, limit time.Duration) bool {
	now := time.Now()
	if p.since.IsZero() {
		p.since = now
		return ctx.Err() == nil
	}
	if now.Sub(p.since) >= limit {
		return false
	}
	p.delay = min(max(2*p.delay, time.Millisecond), 250*time.Millisecond)
	return sleep(ctx, p.delay)
}

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// read runs calls that may be made twice, in one round trip. begin is called before each attempt.
func (b *Backend) read(ctx context.Context, what string, begin func(), read func(result int, r *row) error, calls ...*call) error {
	return b.do(ctx, what, func(ctx context.Context, pg *pgconn.PgConn) error {
		begin()
		return b.exec(ctx, pg, read, calls...)
	})
}

// write runs one call of a function that changes one thing, which answers with
// one row, or several, and knows by the number of the attempt what it has done
// already. A row that another transaction has locked is waited for.
//
// If the answer was lost, ctx doesn't end the repetition any more: a run that was
// given to a member must not get lost on the way. Only Close does, or Options.RetryTimeout.
func (b *Backend) write(ctx context.Context, what string, build func(repeated bool) *call, read func(r *row) (code, error)) (code, error) {
	var patience patience
	until := ctx
	repeated := false
	defer func() {
		if repeated {
			b.deliver(anything) // what the lost answer would have had told
		}
	}()
	for {
		if err := b.usable(until, what); err != nil {
			return 0, err
		}
		sent := false
		var answer code
		err := b.once(until, func(_ context.Context, pg *pgconn.PgConn) error {
			sent = true
			ctx, cancel := context.WithTimeout(b.ctx, commitTimeout)
			defer cancel()
			return b.exec(ctx, pg, func(_ int, r *row) (err error) {
				answer, err = read(r)
				return err
			}, build(repeated))
		})
		switch {
		case err == nil && answer != codeLocked:
			return answer, nil
		case err == nil:
			err = errHeld
		case !transient(err):
			return 0, b.failed(until, what, err)
		case sent:
			repeated, until = true, b.ctx
		}
		if !patience.wait(until, b.options.RetryTimeout) {
			return 0, b.failed(until, what, err)
		}
	}
}

// errNothing: a function of ours came back without a row.
var errNothing = errors.New("the server sent no answer")
