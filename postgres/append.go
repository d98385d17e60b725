package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fermata-go/fermata/storage"
)

// Append implements [storage.Runs].
func (b *Backend) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	results := make([]storage.Committed, len(units))
	if len(units) > 1 {
		runs := make([]storage.ID, len(units))
		for i := range units {
			runs[i] = units[i].Run
		}
		if id, twice := duplicates(runs); twice {
			return nil, fmt.Errorf("postgres: append: %w: two units of run %s", storage.ErrInvalid, id)
		}
	}
	own := append([]storage.Unit(nil), units...) // a caller that gives up may use its slice again
	w := &work{ops: make([]*op, 0, len(own))}
	places := make([]int, 0, len(own))
	for i := range own {
		u := &own[i]
		if err := checkUnit(u); err != nil {
			results[i].Err = fmt.Errorf("postgres: append to run %s: %w", u.Run, err)
			continue
		}
		schemas, err := b.intern(ctx, u.Questions)
		if err != nil {
			return nil, err
		}
		w.ops = append(w.ops, &op{unit: u, packed: storage.PackRecords(u.Records), schemas: schemas})
		places = append(places, i)
	}
	if len(w.ops) == 0 {
		return results, b.usable(ctx, "append")
	}
	if err := b.commit(ctx, "append", hashID(w.ops[0].unit.Run), w); err != nil {
		return nil, err
	}
	for i, o := range w.ops {
		results[places[i]] = o.outcome()
	}
	return results, nil
}

// outcome is what the caller of Append is told about one unit.
func (o *op) outcome() storage.Committed {
	c := o.committed
	switch o.code {
	case codeDone:
		return c
	case codeDuplicate:
		if o.repeated {
			return c // it was this very call that wrote it, and its answer was lost
		}
		c.Err = storage.ErrDuplicate
	case codeNotFound:
		c.Err = storage.ErrNotFound
	case codeStale:
		c.Err = fmt.Errorf("%w: token %d, records from %d on", storage.ErrStale, o.unit.Token, o.unit.First)
	case codeInvalid:
		c.Err = fmt.Errorf("%w: the records before %d are missing", storage.ErrInvalid, o.unit.First)
	case codeUnique:
		// c.Err is set
	default:
		c.Err = storage.ErrLocked
	}
	return storage.Committed{Err: fmt.Errorf("postgres: append to run %s: %w", o.unit.Run, c.Err)}
}

func checkUnit(u *storage.Unit) error {
	switch u.Status {
	case 0, storage.Queued, storage.Interrupted, storage.Parked, storage.Finished, storage.Failed, storage.Cancelled:
	default:
		return fmt.Errorf("%w: a unit can't make a run %s", storage.ErrInvalid, u.Status)
	}
	switch {
	case len(u.Records) == 0:
		return fmt.Errorf("%w: no record", storage.ErrInvalid)
	case u.First < 1:
		return fmt.Errorf("%w: the unit begins at record %d", storage.ErrInvalid, u.First)
	case len(u.Close) > 0 && u.CloseState != storage.Withdrawn && u.CloseState != storage.SupersededQuestion:
		return fmt.Errorf("%w: a unit can't close questions as %s", storage.ErrInvalid, u.CloseState)
	}
	if err := errors.Join(checkText("tenant", u.Tenant), checkTime(u.Due)); err != nil {
		return err
	}
	last := u.First + int64(len(u.Records)) - 1
	for i := range u.Questions {
		q := &u.Questions[i]
		if q.ID.IsZero() || q.Seq < u.First || q.Seq > last {
			return fmt.Errorf("%w: question %s has record %d, the unit has %d to %d", storage.ErrInvalid, q.ID, q.Seq, u.First, last)
		}
		if err := checkQuestion(q); err != nil {
			return fmt.Errorf("question %s: %w", q.ID, err)
		}
		for j := range u.Questions[:i] {
			other := &u.Questions[j]
			if other.ID == q.ID {
				return fmt.Errorf("%w: question %s is there twice", storage.ErrInvalid, q.ID)
			}
			if q.Unique != "" && q.Unique == other.Unique && q.Name == other.Name {
				return &storage.UniqueError{Question: other.ID, Name: q.Name, Key: q.Unique}
			}
		}
	}
	return nil
}

// asked is a question with the position of its unit.
type asked struct {
	*storage.Question
	unit, schema int
}

// closed is a question to close with the position of its unit.
type closed struct {
	id    storage.ID
	unit  int
	state storage.QuestionState
}

// appendOneCall is appendCall for a single unit that is plain.
func (b *Backend) appendOneCall(o *op) *call {
	c := b.call("SELECT o_unit, o_code, o_at, o_inbox, o_kept, o_other, o_name, o_key FROM SCHEMA.append_one_1($1, $2, $3, $4, $5, $6, $7, $8, $9)")
	c.hot = true
	c.int8(b.offset())
	c.text(b.instance)
	c.text(unitLines([]*op{o}))
	c.uuid(o.unit.Run)
	c.text(o.unit.Tenant)
	c.int8(o.unit.Token)
	c.int8(o.unit.First)
	c.int8(o.unit.First + int64(len(o.unit.Records)) - 1)
	c.bytes(o.packed)
	return c
}

// plain reports whether a unit only adds records.
func plain(u *storage.Unit) bool {
	return u.Status == 0 && len(u.Questions) == 0 && len(u.Close) == 0
}

func (b *Backend) appendCall(ops []*op) *call {
	if len(ops) == 1 && plain(ops[0].unit) {
		return b.appendOneCall(ops[0])
	}
	c := b.call(`SELECT o_unit, o_code, o_at, o_inbox, o_kept, o_other, o_name, o_key FROM SCHEMA.append_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
		$14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35)`)
	c.hot = true
	c.int8(b.offset())
	c.text(b.instance)
	c.text(unitLines(ops))
	idColumn(c, ops, func(o *op) storage.ID { return o.unit.Run })
	textColumn(c, ops, func(o *op) string { return o.unit.Tenant })
	int8Column(c, ops, func(o *op) int64 { return o.unit.Token })
	int8Column(c, ops, func(o *op) int64 { return o.unit.First })
	int8Column(c, ops, func(o *op) int64 { return o.unit.First + int64(len(o.unit.Records)) - 1 })
	bytesColumn(c, ops, func(o *op) []byte { return o.packed })
	int2Column(c, ops, func(o *op) int { return int(o.unit.Status) })
	int8Column(c, ops, func(o *op) int64 { return o.unit.SeenInbox })
	timeColumn(c, ops, func(o *op) time.Time { return o.unit.Due })
	bytesColumn(c, ops, func(o *op) []byte { return o.unit.Result })
	bytesColumn(c, ops, func(o *op) []byte { return o.unit.Saved })
	bytesColumn(c, ops, func(o *op) []byte { return o.unit.Error })

	var closes []closed
	var questions []asked
	for i, o := range ops {
		for _, id := range o.unit.Close {
			closes = append(closes, closed{id, i + 1, o.unit.CloseState})
		}
		for j := range o.unit.Questions {
			questions = append(questions, asked{&o.unit.Questions[j], i + 1, o.schemas[j]})
		}
	}
	if closes == nil {
		c.add(pgtype.Int4ArrayOID, nil)
		c.add(pgtype.UUIDArrayOID, nil)
		c.add(pgtype.Int2ArrayOID, nil)
	} else {
		int4Column(c, closes, func(q closed) int { return q.unit })
		idColumn(c, closes, func(q closed) storage.ID { return q.id })
		int2Column(c, closes, func(q closed) int { return int(q.state) })
	}
	if questions == nil {
		for _, oid := range questionTypes {
			c.add(oid, nil)
		}
		return c
	}
	int4Column(c, questions, func(q asked) int { return q.unit })
	idColumn(c, questions, func(q asked) storage.ID { return q.ID })
	int8Column(c, questions, func(q asked) int64 { return q.Seq })
	int8Column(c, questions, func(q asked) int64 { return int64(q.Priority) })
	optionalInt4Column(c, questions, func(q asked) int { return q.schema })
	timeColumn(c, questions, func(q asked) time.Time { return q.Deadline })
	textColumn(c, questions, func(q asked) string { return q.Path })
	textColumn(c, questions, func(q asked) string { return q.Name })
	optionalColumn(c, questions, func(q asked) string { return q.Key })
	optionalColumn(c, questions, func(q asked) string { return q.Group })
	optionalColumn(c, questions, func(q asked) string { return q.Unique })
	optionalColumn(c, questions, func(q asked) string { return textsJSON(audience(q.Users, q.Groups)) })
	optionalColumn(c, questions, func(q asked) string { return textsJSON(q.NotBy) })
	optionalColumn(c, questions, func(q asked) string { return textsJSON(q.Tags) })
	bytesColumn(c, questions, func(q asked) []byte { return q.Payload })
	bytesColumn(c, questions, func(q asked) []byte { return q.Digest })
	bytesColumn(c, questions, func(q asked) []byte { return q.Details })
	return c
}

// questionTypes are the types of the columns of questions in append_1, for a group without any.
var questionTypes = []uint32{
	pgtype.Int4ArrayOID, pgtype.UUIDArrayOID, pgtype.Int8ArrayOID, pgtype.Int8ArrayOID, pgtype.Int4ArrayOID, pgtype.TimestamptzArrayOID,
	pgtype.TextArrayOID, pgtype.TextArrayOID, pgtype.TextArrayOID, pgtype.TextArrayOID, pgtype.TextArrayOID,
	pgtype.TextArrayOID, pgtype.TextArrayOID, pgtype.TextArrayOID, pgtype.ByteaArrayOID, pgtype.ByteaArrayOID, pgtype.ByteaArrayOID,
}

func readAppend(r *row, ops []*op) error {
	i := r.int4() - 1
	if i < 0 || i >= len(ops) {
		return fmt.Errorf("%w: an answer for unit %d of %d", storage.ErrCorrupt, i+1, len(ops))
	}
	o := ops[i]
	o.code = code(r.int2())
	o.committed = storage.Committed{At: r.time(), Inbox: r.int8(), Kept: r.bool()}
	other, name, key := r.uuid(), r.text(), r.text()
	if o.code == codeUnique {
		o.committed.Err = &storage.UniqueError{Question: other, Name: name, Key: key}
	}
	return r.err
}

// unitLines are the notes about units for the other processes, as note_1 writes them.
func unitLines(ops []*op) string {
	var lines strings.Builder
	for _, o := range ops {
		note := unitNote(o.unit)
		flags := byte('0')
		if note.Queued {
			flags |= 1
		}
		if note.Questions {
			flags |= 4
		}
		lines.WriteByte('\n')
		lines.WriteByte(flags)
		lines.WriteString(note.Run.String())
		lines.WriteString(hex.EncodeToString([]byte(note.Tenant)))
	}
	return lines.String()
}
