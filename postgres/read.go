package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// What the engine reads of single runs and threads all the time shares round
// trips as commits do: on a busy server the trips cost as much as the reading.

// reading is a call whose rows one caller waits for. What read makes of them is the reading's own until it is done.
type reading struct {
	call  *call
	begin func()
	read  func(r *row) error
	fault error
}

// readingTimeout is after how long the callers of a slow round trip read alone, each as long as its context lets it.
const readingTimeout = 2 * time.Second

// maxReadings bounds one round trip, so that no caller waits for too many others.
const maxReadings = 16

// readTogether makes a call that gives little, with whatever others want to read. If
// that fails it is made alone, as read makes it. What begin and read write to must not be looked at after an error.
func (b *Backend) readTogether(ctx context.Context, what string, begin func(), read func(r *row) error, c *call) error {
	if err := b.usable(ctx, what); err != nil {
		return err
	}
	r := &reading{call: c, begin: begin, read: read}
	if err := b.readings.Do(ctx, r); err != nil {
		return b.failed(ctx, what, err)
	}
	if r.fault == nil {
		return nil
	}
	return b.read(ctx, what, begin, func(_ int, r *row) error { return read(r) }, c)
}

// runReadings is the batch function of the readings.
func (b *Backend) runReadings(all []*reading) {
	for len(all) > 0 {
		group := all[:min(len(all), maxReadings)]
		all = all[len(group):]
		calls := make([]*call, len(group))
		for i, r := range group {
			r.begin()
			calls[i] = r.call
		}
		ctx, cancel := context.WithTimeout(b.ctx, readingTimeout)
		err := b.once(ctx, func(ctx context.Context, pg *pgconn.PgConn) error {
			return b.exec(ctx, pg, func(i int, row *row) error {
				if r := group[i]; r.fault == nil {
					r.fault = r.read(row)
				}
				return nil
			}, calls...)
		})
		cancel()
		for _, r := range group {
			if err != nil {
				r.fault = err
			}
		}
	}
}
