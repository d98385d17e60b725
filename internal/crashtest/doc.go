// Package crashtest kills real processes. Its tests run the test binary again as
// a child that works on a SQLite file, end the child with SIGKILL at a known or a
// random moment, and look at what the next one does: which tasks run again, by
// the lines that they left in a file, and what the run comes to.
//
// What a storage call may do at its crash is tested call by call, in one
// process, by package simulation; here it is the operating system that takes
// the process away.
package crashtest
