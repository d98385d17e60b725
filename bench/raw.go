package main

import (
	zsqlite "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// rawSQLite commits one row of 200 bytes at a time, with nothing else around it.
type rawSQLite struct{ conn *zsqlite.Conn }

func newRawSQLite(path string) (*rawSQLite, error) {
	conn, err := zsqlite.OpenConn(path, zsqlite.OpenReadWrite, zsqlite.OpenCreate, zsqlite.OpenWAL)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{"PRAGMA synchronous=FULL", "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)"} {
		if err := sqlitex.ExecuteTransient(conn, statement, nil); err != nil {
			return nil, err
		}
	}
	return &rawSQLite{conn}, nil
}

var row = make([]byte, 200)

func (r *rawSQLite) commit() error {
	stmt, err := r.conn.Prepare("INSERT INTO t (data) VALUES (?)")
	if err != nil {
		return err
	}
	stmt.BindBytes(1, row)
	if _, err := stmt.Step(); err != nil {
		return err
	}
	return stmt.Reset()
}

func (r *rawSQLite) close() { _ = r.conn.Close() }
