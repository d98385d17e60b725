package sqlite

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fermata-go/fermata/storage"
	driver "zombiezen.com/go/sqlite"
)

// applicationID marks a file as fermata's: "frma".
const applicationID = 0x66726d61

// pageSize is chosen by measurement (BenchmarkPageSize): a commit of one small
// row writes one page per table it touches, so small pages make small commits;
// below 4 KiB the tree gets deeper and large values slower.
const pageSize = 4096

// cacheSize is 16 MiB for the writer.
const cacheSize = "PRAGMA cache_size = -16384"

// migrations bring a file from version i to version i+1. They are never edited
// once released; a change of the schema is a new one.
var migrations = []string{schemaV1}

//go:embed schema.sql
var schemaV1 string

// resolve returns the absolute path without symbolic links: the members' files
// must have the same names in every process.
func resolve(path string) (string, error) {
	switch {
	case path == "":
		return "", fmt.Errorf("sqlite: %w: no path: name a file, or use package storage/memory for work that needn't last", storage.ErrInvalid)
	case strings.HasPrefix(path, ":memory:"), strings.HasPrefix(path, "file:") && strings.Contains(path, "memory"):
		return "", fmt.Errorf("sqlite: %w: %q is in memory, where nothing lasts: use package storage/memory", storage.ErrUnsupported, path)
	case strings.HasPrefix(path, "file:"):
		return "", fmt.Errorf("sqlite: %w: %q is a URI: name the file by its plain path", storage.ErrInvalid, path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("sqlite: %w: %v", storage.ErrInvalid, err)
	}
	if resolved, err := filepath.EvalSymlinks(abs); err == nil {
		return resolved, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", fmt.Errorf("sqlite: %w: the directory of %s can't be used, make it first: %w", storage.ErrInvalid, abs, err)
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

// present looks whether the path still means the file that is open. If not, what is written goes where nobody will find
// it: from then on all calls fail, also if the file comes back, for others may have worked on without what was written here.
func (b *Backend) present() error {
	if gone := b.gone.Load(); gone != nil {
		return *gone
	}
	what := "replaced by another one"
	info, err := os.Stat(b.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		what = "moved or removed"
	case err != nil || os.SameFile(info, b.file):
		return nil
	}
	err = fmt.Errorf("sqlite: %s: %w: the file was %s while it was open: put it in its place, if need be from a backup, and open it anew",
		b.path, storage.ErrCorrupt, what)
	b.gone.CompareAndSwap(nil, &err)
	return *b.gone.Load()
}

// openWriter opens the file for writing, after a look at it, and brings its tables up to date.
func openWriter(path string, o Options) (*driver.Conn, error) {
	if err := inspect(path, o.BusyTimeout); err != nil {
		return nil, err
	}
	raw, err := driver.OpenConn(path, driver.OpenReadWrite|driver.OpenCreate)
	if err != nil {
		return nil, describeOpen(path, err)
	}
	raw.SetBusyTimeout(0)
	if err := prepareFile(&conn{raw: raw, queries: map[string]*query{}}, path, o); err != nil {
		raw.Close()
		return nil, err
	}
	return raw, nil
}

// inspect refuses a file that isn't ours, without a change to it: it reads
// through a read-only connection. It never opens the file by itself: to close
// such a descriptor would free the locks that other connections of this
// process hold on the file.
func inspect(path string, wait time.Duration) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("sqlite: open %s: %w", path, err)
	case info.IsDir():
		return fmt.Errorf("sqlite: open %s: %w: it is a directory: name a file in it", path, storage.ErrInvalid)
	case info.Size() == 0:
		return nil
	case info.Size() < 512: // SQLite would take it for an empty database, and overwrite it
		return describe("open", path, driver.ResultNotADB.ToError())
	}
	raw, err := driver.OpenConn(path, driver.OpenReadOnly)
	if err != nil {
		return describeOpen(path, err)
	}
	defer raw.Close()
	raw.SetBusyTimeout(wait)
	c := &conn{raw: raw}
	if err := c.run("BEGIN"); err != nil {
		return describeOpen(path, err)
	}
	_, err = version(c, path)
	_ = c.run("ROLLBACK")
	return err
}

// version returns how many migrations the file has seen, or why it can't be
// used. It asks more than once, so it needs a transaction: another process may be about to make the tables.
func version(c *conn, path string) (int, error) {
	application, err := c.value("PRAGMA application_id")
	if err != nil {
		return 0, describeOpen(path, err)
	}
	tables, err := c.value("SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return 0, describeOpen(path, err)
	}
	switch {
	case application == 0 && tables == 0:
		return 0, nil
	case application != applicationID:
		return 0, fmt.Errorf("sqlite: open %s: %w: it has %d tables and indexes of another program (application id %#x): choose another path",
			path, storage.ErrForeign, tables, application)
	}
	v, err := c.value("SELECT max(version) FROM migration")
	if err != nil {
		return 0, describeOpen(path, err)
	}
	if int(v) > len(migrations) {
		return 0, fmt.Errorf("sqlite: open %s: %w: the file is at version %d, this program knows %d: upgrade this program",
			path, storage.ErrSchemaTooNew, v, len(migrations))
	}
	return int(v), nil
}

// prepareFile sets the connection up and applies the migrations that are missing.
// Several processes may do so at once: each repeats under the write lock what it saw before.
func prepareFile(c *conn, path string, o Options) error {
	synchronous, flush := "FULL", "ON"
	if o.Synchronous == Normal {
		synchronous, flush = "NORMAL", "OFF"
	}
	for _, pragma := range []string{
		fmt.Sprintf("PRAGMA page_size = %d", o.pageSize), // of a file that is yet to be written; else without effect
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = " + synchronous,
		"PRAGMA fullfsync = " + flush, // on macOS an fsync alone leaves the data in the drive's cache
		"PRAGMA checkpoint_fullfsync = " + flush,
		fmt.Sprintf("PRAGMA wal_autocheckpoint = %d", o.CheckpointPages),
		fmt.Sprintf("PRAGMA journal_size_limit = %d", 2*pageSize*o.CheckpointPages),
		cacheSize,
		"PRAGMA temp_store = MEMORY",
		"PRAGMA trusted_schema = OFF",
	} {
		if err := patiently(o.BusyTimeout, nil, nil, func() error { return c.run(pragma) }); err != nil {
			return describeOpen(path, err)
		}
	}
	if err := patiently(o.BusyTimeout, nil, nil, func() error { return c.run("BEGIN IMMEDIATE") }); err != nil {
		return describeOpen(path, err)
	}
	v, err := version(c, path)
	if err == nil && v < len(migrations) {
		err = migrate(c, v)
	}
	if err != nil {
		_ = c.run("ROLLBACK")
		return describeOpen(path, err)
	}
	if err := c.run("COMMIT"); err != nil {
		_ = c.run("ROLLBACK")
		return describeOpen(path, err)
	}
	return nil
}

// migrate applies the migrations after version v, in the transaction that is open.
func migrate(c *conn, v int) error {
	if v == 0 {
		if err := c.run("CREATE TABLE migration (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL)"); err != nil {
			return err
		}
		if err := c.run(fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return err
		}
	}
	for ; v < len(migrations); v++ {
		if err := c.script(migrations[v]); err != nil {
			return fmt.Errorf("migration %d: %w", v+1, err)
		}
		if err := c.run(fmt.Sprintf("INSERT INTO migration (version, applied) VALUES (%d, %d)", v+1, time.Now().UnixMicro())); err != nil {
			return err
		}
	}
	return nil
}

// script runs the statements of text one after the other.
func (c *conn) script(text string) error {
	for strings.TrimSpace(text) != "" {
		stmt, trailing, err := c.raw.PrepareTransient(text)
		if err != nil {
			return err
		}
		if _, err := stmt.Step(); err != nil {
			stmt.Finalize()
			return err
		}
		stmt.Finalize()
		text = text[len(text)-trailing:]
	}
	return nil
}

// describeOpen is describe for the faults of Open.
func describeOpen(path string, err error) error {
	if isContract(err) {
		return err
	}
	if driver.ErrCode(err).ToPrimary() == driver.ResultCantOpen {
		return fmt.Errorf("sqlite: open %s: %w: let this process write the directory, where SQLite keeps two files beside this one (%v)",
			path, storage.ErrReadOnly, err)
	}
	return describe("open", path, err)
}
