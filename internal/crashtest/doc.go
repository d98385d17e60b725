// Package crashtest kills real processes. Its tests run the test binary again as
// a child that works on a SQLite file or in PostgreSQL, end or stop the child by a signal at a known or a
// random moment, and look at what the next one does: which tasks run again, by
// the lines that they left in a file, and what the run comes to.
//
// FERMATA_LOAD=full makes the tests under load as large as the promises: 100,000
// parked runs, and workers and servers that are killed for minutes.
//
// What a storage call may do at its crash is tested call by call, in one
// process, by package simulation; here it is the operating system that takes
// the process away.
package crashtest
