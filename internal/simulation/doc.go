// Package simulation proves the engine: it runs programs that are data, crashes
// their processes at every step, loses replies, answers in any order and changes
// the code while runs wait, and compares what happens with package model. What the programs don't have – races,
// sleep, several people at several threads – are workflows in Go that meet the same
// faults. It has tests only.
//
// # Worlds
//
// A simulated world has one database, processes that come and go, and a ledger
// of what the leaf tasks did to the outside. Every call of the database and every effect is a step.
// In the random tests a scheduler holds all steps and lets one go at a time, in an order
// that the test case says: a case is data, so it can be repeated and made
// smaller. The world's time is that of a testing/synctest bubble; a run that doesn't come to rest
// is found at once, not waited for.
//
// # What holds
//
//   - A run comes to rest where the model says, with the value, the failure or
//     the questions that the model says, whatever crashed.
//   - A result that was handed over is never another one later, and a recorded
//     call is never executed again.
//   - A question keeps its id over crashes, is asked once, and its answer is used once.
//   - All readers of a run's events get one sequence.
//   - Several processes and people at several threads: a thread has one active run, a question one
//     winner, only the owner of a run has effects, and every run comes to an end.
//   - A program that isn't the recorded one gets the values of the calls that are
//     unchanged, or is parked with both sides named; nothing in between. With the comparison of
//     replay switched off the same checks find what then goes wrong.
//   - A race has one winner over all deaths, and a sleeper wakes when it said it would.
//
// # Running it
//
// The default run takes seconds. More:
//
//	go test ./internal/simulation -rapid.checks=10000
//	FERMATA_MUTATIONS=10000 go test ./internal/simulation -run TestMutations
//
// The tests of mutations print how often each kind of change was made where, and what became of
// the run. A failure prints the shrunk case, and the flags that run it again.
package simulation
