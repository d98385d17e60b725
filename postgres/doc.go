// Package postgres keeps fermata's work in PostgreSQL 14 or newer, for any
// number of processes on one database.
//
//	backend, err := postgres.Open(ctx, "postgres://app@db/app", nil)
//
// Everything is in one schema of the database, which [Open] creates and
// migrates, also while older programs run. Acknowledged means durable: commits wait for the server's
// disk whatever synchronous_commit is set to.
//
// # Commits
//
// Starts, units and settlements of all goroutines share commits, over one
// connection, with one round trip each. Nobody waits for another transaction's row: a run that
// somebody else has locked is answered with [storage.ErrLocked]. If a connection or the
// server is lost in the middle, what was under way is sent again, and finds out
// by itself whether it had been committed.
//
// # Proxies
//
// Every statement is unnamed and no state is left in a session, so the pool
// may go through a proxy that lends sessions per transaction (PgBouncer in pool_mode transaction). Only LISTEN
// needs a session: give Options.ListenDSN the server's own address, or set Options.NoListen.
//
// # Members
//
// A member lives as long as its heartbeat, a row that its process renews, is
// younger than Options.MemberTimeout by the server's clock. Once dead it stays
// dead, and Lost of its membership is closed, at the latest when it would have been found dead: a process
// that was stopped and goes on has lost its runs, and what it still writes is refused.
package postgres
