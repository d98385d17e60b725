// Package engine runs entrypoints: it replays what their log holds, records
// what is new, suspends at questions and recovers from the death of processes.
// It moves bytes and ids and knows no type of its users; package fermata is its
// typed face, and package storage keeps what it records.
//
// # Identity
//
// A run's log is a sequence of records. A call is claimed in its scope – the
// body of an entrypoint, of a task or of a branch – on the goroutine that owns the scope, before
// anything starts: the claim's sequence number is the identity of the call, and
// of the scope that the call opens. The n-th claim of a scope is its n-th call; on replay the n-th
// call must be the same as the n-th claim says: kind, name, key and witness of the input.
//
// # Commits
//
// Claims wait in the run's journal and travel with the next append. An outcome
// is appended before the code that waits for it sees it. Many outcomes of one
// run share a unit; units of many runs share the backend's commit.
//
// # Suspension
//
// A question is recorded, then the asking scope is suspended: every later
// durable call on it returns [ErrPaused] at once, and the same happens to every scope that awaits it. The
// run ends by what the records say, whatever the user's functions returned: if
// a scope is suspended when all have come to rest, the run is interrupted.
package engine
