package postgres

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fermata-go/fermata/storage"
)

// A call is one statement with its parameters in the binary format. Types are
// given, not asked for: so an unnamed statement, too, needs one round trip only.
type call struct {
	hot    bool // worth preparing
	sql    string
	values [][]byte
	types  []uint32
}

// allBinary is the format of every parameter and every result.
var allBinary = []int16{1}

func (c *call) add(oid uint32, value []byte) {
	c.types = append(c.types, oid)
	c.values = append(c.values, value)
}

func (c *call) int8(v int64) {
	c.add(pgtype.Int8OID, binary.BigEndian.AppendUint64(nil, uint64(v)))
}

func (c *call) int4(v int) {
	c.add(pgtype.Int4OID, binary.BigEndian.AppendUint32(nil, uint32(v)))
}

func (c *call) text(s string) { c.add(pgtype.TextOID, append([]byte{}, s...)) }

// optionalText adds a text, NULL if it is empty.
func (c *call) optionalText(s string) {
	if s == "" {
		c.add(pgtype.TextOID, nil)
		return
	}
	c.text(s)
}

func (c *call) bytes(b []byte) { c.add(pgtype.ByteaOID, b) }

func (c *call) bool(v bool) { c.add(pgtype.BoolOID, wireBool(v)) }

// uuid adds an id, NULL if it is zero.
func (c *call) uuid(id storage.ID) {
	if id.IsZero() {
		c.add(pgtype.UUIDOID, nil)
		return
	}
	c.add(pgtype.UUIDOID, id[:])
}

// time adds a time, NULL if it is zero.
func (c *call) time(t time.Time) { c.add(pgtype.TimestamptzOID, wireTime(t)) }

func wireBool(v bool) []byte {
	if v {
		return []byte{1}
	}
	return []byte{0}
}

// epoch is where PostgreSQL's microseconds begin: 2000-01-01.
const epoch = 946684800_000_000

func wireTime(t time.Time) []byte {
	if t.IsZero() {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixMicro()-epoch))
}

// array builds a one-dimensional array.
type array struct {
	oid, element uint32
	body         []byte
	n            int
	nulls        bool
}

func newArray(oid, element uint32, n, size int) *array {
	a := &array{oid: oid, element: element, body: make([]byte, 20, 20+n*(4+size))}
	return a
}

func (a *array) null() {
	a.n++
	a.nulls = true
	a.body = append(a.body, 0xff, 0xff, 0xff, 0xff)
}

func (a *array) bytes(b []byte) {
	a.n++
	a.body = binary.BigEndian.AppendUint32(a.body, uint32(len(b)))
	a.body = append(a.body, b...)
}

func (a *array) text(s string) {
	a.n++
	a.body = binary.BigEndian.AppendUint32(a.body, uint32(len(s)))
	a.body = append(a.body, s...)
}

func (a *array) int8(v int64) {
	a.n++
	a.body = append(a.body, 0, 0, 0, 8)
	a.body = binary.BigEndian.AppendUint64(a.body, uint64(v))
}

func (a *array) int4(v int) {
	a.n++
	a.body = append(a.body, 0, 0, 0, 4)
	a.body = binary.BigEndian.AppendUint32(a.body, uint32(v))
}

func (a *array) int2(v int) {
	a.n++
	a.body = append(a.body, 0, 0, 0, 2)
	a.body = binary.BigEndian.AppendUint16(a.body, uint16(v))
}

func (a *array) finish() []byte {
	if a.n == 0 {
		head := binary.BigEndian.AppendUint32(nil, 0)
		head = binary.BigEndian.AppendUint32(head, 0)
		return binary.BigEndian.AppendUint32(head, a.element)
	}
	head := a.body[:0:20]
	head = binary.BigEndian.AppendUint32(head, 1)
	head = append(head, 0, 0, 0, 0)
	if a.nulls {
		head[7] = 1
	}
	head = binary.BigEndian.AppendUint32(head, a.element)
	head = binary.BigEndian.AppendUint32(head, uint32(a.n))
	binary.BigEndian.AppendUint32(head, 1)
	return a.body
}

func (c *call) array(a *array) { c.add(a.oid, a.finish()) }

func newTexts(n, size int) *array {
	return newArray(pgtype.TextArrayOID, pgtype.TextOID, n, size)
}

func (c *call) texts(list []string) {
	a := newTexts(len(list), 16)
	for _, s := range list {
		a.text(s)
	}
	c.array(a)
}

func (c *call) uuids(list []storage.ID) {
	a := newArray(pgtype.UUIDArrayOID, pgtype.UUIDOID, len(list), 16)
	for _, id := range list {
		a.bytes(id[:])
	}
	c.array(a)
}

func (c *call) int2s(list []int) {
	a := newArray(pgtype.Int2ArrayOID, pgtype.Int2OID, len(list), 2)
	for _, v := range list {
		a.int2(v)
	}
	c.array(a)
}

// The columns of a group of things, one array each. A value that is absent is NULL.

func textColumn[T any](c *call, rows []T, get func(T) string) {
	a := newTexts(len(rows), 16)
	for i := range rows {
		a.text(get(rows[i]))
	}
	c.array(a)
}

// optionalColumn is textColumn with NULL for the empty string.
func optionalColumn[T any](c *call, rows []T, get func(T) string) {
	a := newTexts(len(rows), 16)
	for i := range rows {
		if s := get(rows[i]); s != "" {
			a.text(s)
		} else {
			a.null()
		}
	}
	c.array(a)
}

func bytesColumn[T any](c *call, rows []T, get func(T) []byte) {
	size := 0
	for i := range rows {
		size += len(get(rows[i]))
	}
	a := newArray(pgtype.ByteaArrayOID, pgtype.ByteaOID, len(rows), size/max(1, len(rows))+1)
	for i := range rows {
		if b := get(rows[i]); b != nil {
			a.bytes(b)
		} else {
			a.null()
		}
	}
	c.array(a)
}

func idColumn[T any](c *call, rows []T, get func(T) storage.ID) {
	a := newArray(pgtype.UUIDArrayOID, pgtype.UUIDOID, len(rows), 16)
	for i := range rows {
		if id := get(rows[i]); !id.IsZero() {
			a.bytes(id[:])
		} else {
			a.null()
		}
	}
	c.array(a)
}

func timeColumn[T any](c *call, rows []T, get func(T) time.Time) {
	a := newArray(pgtype.TimestamptzArrayOID, pgtype.TimestamptzOID, len(rows), 8)
	for i := range rows {
		if t := wireTime(get(rows[i])); t != nil {
			a.bytes(t)
		} else {
			a.null()
		}
	}
	c.array(a)
}

func boolColumn[T any](c *call, rows []T, get func(T) bool) {
	a := newArray(pgtype.BoolArrayOID, pgtype.BoolOID, len(rows), 1)
	for i := range rows {
		a.bytes(wireBool(get(rows[i])))
	}
	c.array(a)
}

func int8Column[T any](c *call, rows []T, get func(T) int64) {
	a := newArray(pgtype.Int8ArrayOID, pgtype.Int8OID, len(rows), 8)
	for i := range rows {
		a.int8(get(rows[i]))
	}
	c.array(a)
}

// positiveColumn is int8Column with NULL for zero.
func positiveColumn[T any](c *call, rows []T, get func(T) int64) {
	a := newArray(pgtype.Int8ArrayOID, pgtype.Int8OID, len(rows), 8)
	for i := range rows {
		if v := get(rows[i]); v != 0 {
			a.int8(v)
		} else {
			a.null()
		}
	}
	c.array(a)
}

func int4Column[T any](c *call, rows []T, get func(T) int) {
	a := newArray(pgtype.Int4ArrayOID, pgtype.Int4OID, len(rows), 4)
	for i := range rows {
		a.int4(get(rows[i]))
	}
	c.array(a)
}

// optionalInt4Column is int4Column with NULL for zero.
func optionalInt4Column[T any](c *call, rows []T, get func(T) int) {
	a := newArray(pgtype.Int4ArrayOID, pgtype.Int4OID, len(rows), 4)
	for i := range rows {
		if v := get(rows[i]); v != 0 {
			a.int4(v)
		} else {
			a.null()
		}
	}
	c.array(a)
}

func int2Column[T any](c *call, rows []T, get func(T) int) {
	a := newArray(pgtype.Int2ArrayOID, pgtype.Int2OID, len(rows), 2)
	for i := range rows {
		a.int2(get(rows[i]))
	}
	c.array(a)
}

// A row is the columns of a result, or the fields of a composite value, in the
// binary format, read one after the other. The first fault sticks.
type row struct {
	fields [][]byte
	err    error
}

func (r *row) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", storage.ErrCorrupt, what)
	}
}

func (r *row) next() []byte {
	if len(r.fields) == 0 {
		r.fail("a row has too few columns")
		return nil
	}
	f := r.fields[0]
	r.fields = r.fields[1:]
	return f
}

func (r *row) sized(n int, what string) []byte {
	f := r.next()
	if f != nil && len(f) != n {
		r.fail("a value is not " + what)
		return nil
	}
	return f
}

func (r *row) int8() int64 {
	if f := r.sized(8, "a bigint"); f != nil {
		return int64(binary.BigEndian.Uint64(f))
	}
	return 0
}

func (r *row) int4() int {
	if f := r.sized(4, "an integer"); f != nil {
		return int(int32(binary.BigEndian.Uint32(f)))
	}
	return 0
}

func (r *row) int2() int {
	if f := r.sized(2, "a smallint"); f != nil {
		return int(int16(binary.BigEndian.Uint16(f)))
	}
	return 0
}

func (r *row) bool() bool {
	f := r.sized(1, "a boolean")
	return f != nil && f[0] != 0
}

func (r *row) text() string { return string(r.next()) }

// bytes returns a copy: what the connection hands out is overwritten by the next row.
func (r *row) bytes() []byte {
	f := r.next()
	if f == nil {
		return nil
	}
	return append([]byte{}, f...)
}

func (r *row) uuid() (id storage.ID) {
	copy(id[:], r.sized(16, "a uuid"))
	return id
}

func (r *row) time() time.Time {
	f := r.sized(8, "a timestamptz")
	if f == nil {
		return time.Time{}
	}
	us := int64(binary.BigEndian.Uint64(f))
	if us == math.MaxInt64 || us == math.MinInt64 {
		r.fail("a time is infinite")
		return time.Time{}
	}
	return time.UnixMicro(us + epoch).UTC()
}

// jsonb returns the text of a jsonb value, nil for NULL.
func (r *row) jsonb() []byte {
	f := r.next()
	if f == nil {
		return nil
	}
	if len(f) == 0 || f[0] != 1 {
		r.fail("a value is not a jsonb")
		return nil
	}
	return f[1:]
}

// texts reads a text array, nil for NULL.
func (r *row) texts() []string {
	f := r.next()
	if f == nil {
		return nil
	}
	if len(f) < 12 {
		r.fail("a value is not an array")
		return nil
	}
	if binary.BigEndian.Uint32(f) == 0 {
		return []string{}
	}
	if binary.BigEndian.Uint32(f) != 1 || len(f) < 20 {
		r.fail("a value is not an array of one dimension")
		return nil
	}
	n := int(binary.BigEndian.Uint32(f[12:]))
	f = f[20:]
	list := make([]string, 0, min(n, len(f)/4))
	for range n {
		element, rest, ok := cutValue(f)
		if !ok || element == nil {
			r.fail("an array ends early")
			return nil
		}
		list = append(list, string(element))
		f = rest
	}
	return list
}

// composite reads a composite value's fields. It is nil for NULL.
func (r *row) composite() *row {
	f := r.next()
	if f == nil {
		return nil
	}
	if len(f) < 4 {
		r.fail("a value is not a row")
		return nil
	}
	n := int(binary.BigEndian.Uint32(f))
	f = f[4:]
	inner := &row{fields: make([][]byte, 0, min(n, len(f)/8))}
	for range n {
		if len(f) < 4 {
			r.fail("a composite value ends early")
			return nil
		}
		field, rest, ok := cutValue(f[4:]) // behind the type of the field
		if !ok {
			r.fail("a composite value ends early")
			return nil
		}
		inner.fields = append(inner.fields, field)
		f = rest
	}
	return inner
}

// cutValue cuts one value with its length in front; nil is NULL.
func cutValue(b []byte) (value, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	if n < 0 {
		return nil, b, n == -1
	}
	if int(n) > len(b) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}
