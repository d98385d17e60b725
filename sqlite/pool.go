package sqlite

import (
	"context"
	"errors"
	"fmt"

	driver "zombiezen.com/go/sqlite"
)

// pool keeps the connections for reading. They are opened when first needed.
type pool struct {
	b    *Backend
	free chan *conn // one element per connection; nil: not opened yet
}

func newPool(b *Backend) *pool {
	p := &pool{b: b, free: make(chan *conn, b.options.ReadConns)}
	for range b.options.ReadConns {
		p.free <- nil
	}
	return p
}

// readSoon is read for what is short: f may be called with the writer's
// connection, between transactions. If it then finds that there is much to read
// it returns errLong, and is called again with a connection for reading.
func (b *Backend) readSoon(ctx context.Context, name string, f func(*conn) error) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	if b.writer.alone() {
		o := &operation{read: f}
		if err := b.queue.Do(ctx, o); err != nil {
			return b.fault(name, err)
		}
		if !errors.Is(o.err, errLong) {
			return b.fault(name, o.err)
		}
	}
	return b.read(ctx, name, f)
}

var errLong = errors.New("much to read")

// read calls f with a connection in a transaction: everything that f reads is of one moment.
func (b *Backend) read(ctx context.Context, name string, f func(*conn) error) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	var c *conn
	select {
	case c = <-b.pool.free:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closing:
		return b.closedError()
	}
	if c == nil {
		var err error
		if c, err = b.pool.open(); err != nil {
			b.pool.free <- nil
			return b.fault(name, err)
		}
	}
	defer func() { b.pool.free <- c }()
	if err := c.query("BEGIN").exec(); err != nil {
		return b.fault(name, err)
	}
	defer func() {
		if !c.raw.AutocommitEnabled() {
			if err := c.query("COMMIT").exec(); err != nil { // a statement was left in the middle by an error or a panic
				for _, q := range c.queries {
					q.close()
				}
				c.rollback()
			}
		}
	}()
	return b.fault(name, contained(func() error { return f(c) }))
}

func (p *pool) open() (*conn, error) {
	raw, err := driver.OpenConn(p.b.path, driver.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	// Readers only meet a lock while another process recovers the log.
	raw.SetBusyTimeout(p.b.options.BusyTimeout)
	c := &conn{raw: raw, queries: map[string]*query{}}
	for _, pragma := range []string{"PRAGMA query_only = ON", "PRAGMA cache_size = -4096", "PRAGMA temp_store = MEMORY", "PRAGMA trusted_schema = OFF"} {
		if err := c.run(pragma); err != nil {
			raw.Close()
			return nil, err
		}
	}
	return c, nil
}

// close waits for the reads under way and closes the connections.
func (p *pool) close() (err error) {
	for range cap(p.free) {
		if c := <-p.free; c != nil {
			if e := c.raw.Close(); e != nil {
				err = fmt.Errorf("a connection for reading: %w", e)
			}
		}
	}
	return err
}
