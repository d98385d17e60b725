// Package sqlite keeps fermata's work in one SQLite file. It is the backend for
// one machine: any number of processes may share the file, each with a
// [Backend] of its own.
//
//	backend, err := sqlite.Open("work.db", nil)
//
// # What is promised
//
// With [Full], the default, what a method reported as done is on the disk: it
// survives a power cut. The file is in WAL mode, so readers and the writer don't
// wait for each other. Beside it SQLite keeps a -wal and a -shm file; the
// three belong together, and a backup is taken with SQLite's own means (VACUUM
// INTO, or the backup command of its shell). A program that has the file open
// here must not open and close it by other means, not even to copy it: on Unix
// that frees the locks of the whole process.
//
// If the file is moved, removed or replaced while it is open, a write that ends after that, and within 20 of
// Options.PollInterval every call of a Backend that is watched, fails with [storage.ErrCorrupt] until the
// program opens the file anew. To restore a backup, end all programs that use the file first.
//
// # How writes work
//
// Each Backend writes through one connection. Calls that arrive while a commit
// is under way are applied together in the next transaction, and share its
// commit: a lone caller waits for one commit, and 64 callers too. A request that
// is refused undoes nothing of its neighbours. Several processes take turns by
// the file's own lock.
//
// # Who is alive
//
// A member holds an operating system lock on a small file beside the database,
// <database>-live-<member>. The kernel frees the lock when the process dies,
// however it dies, so its runs can be taken over at once: there are no
// heartbeats, and no clock decides. So the file must be on a local disk; over a
// network file system neither these locks nor SQLite's own can be relied on.
package sqlite
