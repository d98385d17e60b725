package sqlite

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
	driver "zombiezen.com/go/sqlite"
)

// conn is one connection to the file, used by one goroutine at a time.
type conn struct {
	raw     *driver.Conn
	queries map[string]*query
	fences  *fences // of the writer; nil for readers
}

// query returns the prepared statement of text, a constant: statements live as
// long as the connection. A text that can't be prepared, because the file's
// schema is damaged, say, is reported by the first step.
func (c *conn) query(text string) *query {
	if q := c.queries[text]; q != nil {
		q.bound = 0
		return q
	}
	stmt, err := c.raw.Prepare(text)
	if err != nil {
		return &query{err: err}
	}
	q := &query{stmt: stmt}
	c.queries[text] = q
	return q
}

// run executes a statement without parameters, now and then.
func (c *conn) run(text string) error {
	_, err := c.value(text)
	return err
}

// value executes a statement without parameters, now and then, and returns the
// integer in its first row, such as a pragma's.
func (c *conn) value(text string) (int64, error) {
	stmt, _, err := c.raw.PrepareTransient(text)
	if err != nil {
		return 0, err
	}
	defer stmt.Finalize()
	row, err := stmt.Step()
	if err != nil || !row {
		return 0, err
	}
	value := stmt.ColumnInt64(0)
	for row && err == nil {
		row, err = stmt.Step()
	}
	return value, err
}

// rollback ends the transaction, if one is open. SQLite ends it itself after
// some errors.
func (c *conn) rollback() {
	if !c.raw.AutocommitEnabled() {
		_ = c.query("ROLLBACK").exec()
	}
}

// query is a prepared statement. Parameters are bound in their order, by the
// methods named after types. A query that was stepped through row by row is
// closed before the transaction ends.
type query struct {
	stmt  *driver.Stmt
	bound int
	err   error
}

func (q *query) int(v int64) *query {
	if q.err == nil {
		q.bound++
		q.stmt.BindInt64(q.bound, v)
	}
	return q
}

func (q *query) bool(v bool) *query {
	if v {
		return q.int(1)
	}
	return q.int(0)
}

func (q *query) null() *query {
	if q.err == nil {
		q.bound++
		q.stmt.BindNull(q.bound)
	}
	return q
}

func (q *query) text(v string) *query {
	if q.err == nil {
		q.bound++
		q.stmt.BindText(q.bound, v)
	}
	return q
}

// optText binds NULL for an empty text.
func (q *query) optText(v string) *query {
	if v == "" {
		return q.null()
	}
	return q.text(v)
}

// blob binds NULL for nil, which is not the same as no bytes.
func (q *query) blob(v []byte) *query {
	if v == nil {
		return q.null()
	}
	if q.err == nil {
		q.bound++
		q.stmt.BindBytes(q.bound, v)
	}
	return q
}

// id binds NULL for the zero ID.
func (q *query) id(v storage.ID) *query {
	if v.IsZero() {
		return q.null()
	}
	return q.blob(v[:])
}

// time binds NULL for the zero time.
func (q *query) time(v time.Time) *query {
	if v.IsZero() {
		return q.null()
	}
	return q.int(v.UnixMicro())
}

// optInt binds NULL for zero.
func (q *query) optInt(v int64) *query {
	if v == 0 {
		return q.null()
	}
	return q.int(v)
}

// next steps to the next row. After the last one, and after an error, the query is closed.
func (q *query) next() (bool, error) {
	if q.err != nil {
		return false, q.err
	}
	row, err := q.stmt.Step()
	if err != nil || !row {
		q.close()
	}
	return row, err
}

// exec runs a query without results.
func (q *query) exec() error {
	_, err := q.next()
	return err
}

// one steps to the only row and reports whether there is one; the caller closes the query.
func (q *query) close() {
	if q.err == nil {
		q.stmt.Reset()
	}
}

// first runs a query of one row and hands it to scan; it reports whether there was a row.
func (q *query) first(scan func(*query)) (bool, error) {
	row, err := q.next()
	if !row || err != nil {
		return false, err
	}
	if scan != nil {
		scan(q)
	}
	q.close()
	return true, nil
}

// firstInt runs a query of at most one row and returns its first column, or 0.
func (q *query) firstInt() (int64, error) {
	row, err := q.next()
	if !row || err != nil {
		return 0, err
	}
	v := q.colInt(0)
	q.close()
	return v, nil
}

func (q *query) colInt(i int) int64 { return q.stmt.ColumnInt64(i) }

func (q *query) colBool(i int) bool { return q.stmt.ColumnInt64(i) != 0 }

func (q *query) colText(i int) string { return q.stmt.ColumnText(i) }

func (q *query) colNull(i int) bool { return q.stmt.ColumnIsNull(i) }

// colBlob returns a copy; nil for NULL.
func (q *query) colBlob(i int) []byte {
	n := q.stmt.ColumnLen(i)
	if n == 0 {
		if q.stmt.ColumnIsNull(i) {
			return nil
		}
		return []byte{}
	}
	b := make([]byte, n)
	q.stmt.ColumnBytes(i, b)
	return b
}

// colID returns the zero ID for NULL.
func (q *query) colID(i int) (id storage.ID) {
	q.stmt.ColumnBytes(i, id[:])
	return id
}

// colTime returns the zero time for NULL.
func (q *query) colTime(i int) time.Time {
	if q.stmt.ColumnIsNull(i) {
		return time.Time{}
	}
	return timeOf(q.stmt.ColumnInt64(i))
}

// colJSON decodes a text column that this package encoded; NULL leaves v alone.
func (q *query) colJSON(i int, v any) error {
	if q.stmt.ColumnIsNull(i) {
		return nil
	}
	if err := json.Unmarshal([]byte(q.stmt.ColumnText(i)), v); err != nil {
		return fmt.Errorf("%w: column %d of a row is not the JSON it should be: %v", storage.ErrCorrupt, i, err)
	}
	return nil
}

// json binds NULL if v is empty, as told by the caller.
func (q *query) json(v any, empty bool) *query {
	if empty {
		return q.null()
	}
	text, err := json.Marshal(v)
	if err != nil && q.err == nil {
		panic(fmt.Sprintf("sqlite: %T can't be JSON: %v", v, err)) // strings and their maps and slices always can
	}
	return q.text(string(text))
}

// timeOf is the inverse of time.Time.UnixMicro.
func timeOf(micros int64) time.Time { return time.UnixMicro(micros).UTC() }
