package postgres

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// query builds a SELECT whose conditions depend on a filter.
type query struct {
	b    *Backend
	text strings.Builder
	args call
	n    int // conditions so far
}

// arg is a parameter: its type, its value, and the cast that the SQL needs.
type arg struct {
	oid   uint32
	value []byte
	cast  string
}

func (b *Backend) query(text string) *query {
	q := &query{b: b}
	q.text.WriteString(text)
	return q
}

// begin adds the beginning of a SELECT, which has no conditions yet.
func (q *query) begin(text string) {
	q.text.WriteString(text)
	q.n = 0
}

func (q *query) param(a arg) {
	q.args.add(a.oid, a.value)
	q.text.WriteString("($" + strconv.Itoa(len(q.args.values)) + a.cast + ")")
}

// where adds a condition, which is text followed by a parameter; more text and parameters may follow.
func (q *query) where(text string, args ...any) {
	if q.n == 0 {
		q.text.WriteString(" WHERE (")
	} else {
		q.text.WriteString(" AND (")
	}
	q.n++
	q.end(text, args...)
	q.text.WriteString(")")
}

// end adds text and parameters as they are.
func (q *query) end(text string, args ...any) {
	q.text.WriteString(text)
	for _, a := range args {
		switch a := a.(type) {
		case arg:
			q.param(a)
		case string:
			q.text.WriteString(a)
		}
	}
}

func (q *query) call() *call {
	q.args.sql = q.b.statement(q.text.String())
	return &q.args
}

func textArg(s string) arg { return arg{oid: pgtype.TextOID, value: append([]byte{}, s...)} }

func int8Arg(n int64) arg {
	return arg{oid: pgtype.Int8OID, value: binary.BigEndian.AppendUint64(nil, uint64(n))}
}

// jsonArg is the text of a JSON value.
func jsonArg(text string) arg {
	return arg{oid: pgtype.TextOID, value: append([]byte{}, text...), cast: "::jsonb"}
}

func textsArg(list []string) arg {
	var c call
	c.texts(list)
	return arg{oid: c.types[0], value: c.values[0]}
}

func smallsArg[T ~uint8](list []T) arg {
	a := newArray(pgtype.Int2ArrayOID, pgtype.Int2OID, len(list), 2)
	for _, v := range list {
		a.int2(int(v))
	}
	return arg{oid: a.oid, value: a.finish()}
}
