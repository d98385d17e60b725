// Package storage is the contract between fermata's engine and the databases
// that keep its work. One [Backend] holds everything that must change together:
// threads, runs and their logs, questions and answers, due times, long-term
// items. Package storagetest holds the contract's conformance suite.
//
// # Records and units
//
// A run is a row and a log. The log is a sequence of [Record]s, numbered 1, 2,
// 3, … without a gap; to the backend a record is opaque bytes and the time of
// its commit. Only the run's owner appends, in [Unit]s: a unit is a few records
// with everything that must become true at the same moment (questions opened,
// the run's new status, its result). A unit is atomic. Units of different runs
// share one commit and are accepted or refused alone.
//
// # Ownership
//
// A process joins (see [Membership]) and owns runs while it lives. Every change of
// owner raises the run's token; a unit with an older token is refused with
// [ErrStale], so an old owner that wakes up can't write. Whoever is not the
// owner never touches the log: answers, expiry, withdrawal and cancellation go
// to the question's or the run's row and raise the run's inbox number. An owner
// that gives a run up says which inbox number it has seen; if there is a newer
// one it keeps the run and is told so. No message is lost between the two.
// Work for a member that doesn't live is refused with [ErrClosed], or is as what a
// dead member owns: the next living one takes it over.
//
// # Time
//
// Time is the backend's own. A deadline is part of the condition of
// [Questions.Settle], so it holds when no job for it ran. Times are kept to the
// microsecond; within a run, later commits never bear an earlier time.
//
// # Errors
//
// Every method returns an error that matches one of the sentinels of this
// package, or the context's error, or a fault of the database. After an error
// that is not one of the sentinels the caller doesn't know whether the change
// was made: repeating a call is safe for Start (by run id), Append (by run, first
// sequence and token) and Settle (by idempotency key).
// Byte slices passed in may be kept by the backend and must not be changed
// afterwards; slices that come out belong to the caller, who must not change them. Those
// of a [Question] may be changed: they end up with whoever shows it.
package storage
