package sqlite

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Load reads one run with its log and its questions.
func (b *Backend) Load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	var l storage.Loaded
	err := b.readSoon(ctx, "load a run", func(c *conn) error {
		r, err := findRun(c, tenant, run)
		if err != nil {
			return err
		}
		if c.fences != nil && r.LastSeq > shortLog {
			return errLong
		}
		l = storage.Loaded{}
		l.Run = r.Run
		if l.Previous, err = savedBy(c, tenant, r.Previous); err != nil {
			return err
		}
		if l.Records, err = readLog(ctx, c, r, 0, 0); err != nil {
			return err
		}
		l.Questions, err = b.questionsOf(c, r, false)
		return err
	})
	if err != nil {
		return storage.Loaded{}, err
	}
	return l, nil
}

// shortLog is how many records the writer's connection reads at once at most.
const shortLog = 100

// Log reads a part of a run's log.
func (b *Backend) Log(ctx context.Context, tenant string, run storage.ID, after int64, limit int) (storage.Run, []storage.Record, error) {
	var r *runRow
	var records []storage.Record
	err := b.read(ctx, "read a log", func(c *conn) (err error) {
		if r, err = findRun(c, tenant, run); err != nil {
			return err
		}
		records, err = readLog(ctx, c, r, max(after, 0), max(limit, 0))
		return err
	})
	if err != nil {
		return storage.Run{}, nil, err
	}
	return r.Run, records, nil
}

// readLog reads up to limit records (0: all) after a sequence, those shared with ancestors too.
func readLog(ctx context.Context, c *conn, r *runRow, after int64, limit int) ([]storage.Record, error) {
	last := r.LastSeq
	if limit > 0 {
		last = min(last, after+int64(limit))
	}
	if after >= last {
		return nil, nil
	}
	l := &logReader{ctx: ctx, conn: c, records: make([]storage.Record, 0, min(last-after, 4096))}
	if err := l.read(r, after, last); err != nil {
		return nil, err
	}
	if n := int64(len(l.records)); n != last-after {
		return nil, fmt.Errorf("sqlite: %w: run %s: records %d to %d were asked for and %d are there", storage.ErrCorrupt, r.ID, after+1, last, n)
	}
	return l.records, nil
}

// logReader collects records in the order of their sequences.
type logReader struct {
	ctx context.Context
	*conn
	records []storage.Record
	memory  arena
}

// read collects the records after+1 to last of r.
func (l *logReader) read(r *runRow, after, last int64) error {
	if after < r.ForkSeq {
		parent, err := lookupRun(l.conn, r.Tenant, r.Parent.Run)
		if err != nil {
			return err
		}
		if parent == nil {
			return fmt.Errorf("sqlite: %w: run %s, whose records run %s shares, is missing", storage.ErrCorrupt, r.Parent.Run, r.ID)
		}
		if err := l.read(parent, after, min(last, r.ForkSeq)); err != nil {
			return err
		}
		after = r.ForkSeq
	}
	if after >= last {
		return nil
	}
	others, err := l.elsewhere(r, after, last)
	if err != nil {
		return err
	}
	q := l.query("SELECT k, at, unit FROM log WHERE k > ? AND k < ? ORDER BY k").
		int(r.Number<<seqBits | after).int((r.Number + 1) << seqBits)
	for n := 0; ; n++ {
		more, err := q.next()
		if err == nil && n%256 == 255 {
			err = l.ctx.Err()
		}
		if err != nil {
			q.close()
			return err
		}
		if !more {
			break
		}
		end := q.colInt(0) & maxSeq
		for len(others) > 0 && others[0].last < end {
			l.add(others[0], after, last)
			others = others[1:]
		}
		u, err := unpackUnit(l.memory.blob(q, 2), end, timeOf(q.colInt(1)))
		if err != nil {
			q.close()
			return err
		}
		l.add(u, after, last)
		if end >= last {
			q.close()
			break
		}
	}
	for _, u := range others {
		l.add(u, after, last)
	}
	return nil
}

// add collects the records of a unit that are in after+1 to last.
func (l *logReader) add(u storedUnit, after, last int64) {
	for i, data := range u.records {
		if seq := u.first + int64(i); seq > after && seq <= last {
			l.records = append(l.records, storage.Record{Seq: seq, At: u.at, Data: data})
		}
	}
}

// elsewhere returns the units of r's own log that are not in the log table and
// that may have one of the records after+1 to last.
func (l *logReader) elsewhere(r *runRow, after, last int64) ([]storedUnit, error) {
	var units []storedUnit
	// A unit is with a question of any of its records: that of the record after+1
	// may be with an earlier one, that of the last one with a later one.
	from := r.Number << questionBits
	if after > 0 {
		k, err := l.query("SELECT k FROM question WHERE k > ? AND k < ? AND unit IS NOT NULL ORDER BY k DESC LIMIT 1").
			int(from).int(r.Number<<questionBits + (after+1)<<placeBits).firstInt()
		if err != nil {
			return nil, err
		}
		from = max(from, k-1)
	}
	q := l.query("SELECT k, asked, unit FROM question WHERE k > ? AND k < ? AND unit IS NOT NULL ORDER BY k").
		int(from).int((r.Number + 1) << questionBits)
	for {
		more, err := q.next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		u, err := unpackQuestionUnit(l.memory.blob(q, 2), timeOf(q.colInt(1)))
		if err != nil {
			q.close()
			return nil, err
		}
		units = append(units, u)
		if u.last >= last {
			q.close()
			break
		}
	}
	if r.tail != nil {
		u, err := unpackUnit(r.tail, r.base, r.Updated)
		if err != nil {
			return nil, err
		}
		units = append(units, u)
	}
	slices.SortFunc(units, func(a, b storedUnit) int { return cmp.Compare(a.last, b.last) })
	return units, nil
}

// unitAt returns the unit of the run's own log that has a record, or nil.
func unitAt(c *conn, n, seq int64) (*storedUnit, error) {
	r, err := runByNumber(c, n)
	if err != nil {
		return nil, err
	}
	l := &logReader{ctx: context.Background(), conn: c}
	units, err := l.elsewhere(r, seq-1, seq)
	if err != nil {
		return nil, err
	}
	var k, at int64
	var unit []byte
	found, err := c.query("SELECT k, at, unit FROM log WHERE k >= ? AND k < ? ORDER BY k LIMIT 1").
		int(n<<seqBits | seq).int((n + 1) << seqBits).first(func(q *query) { k, at, unit = q.colInt(0), q.colInt(1), q.colBlob(2) })
	if err != nil {
		return nil, err
	}
	if found {
		u, err := unpackUnit(unit, k&maxSeq, timeOf(at))
		if err != nil {
			return nil, err
		}
		units = append(units, u)
	}
	for i := range units {
		if units[i].first <= seq && seq <= units[i].last {
			return &units[i], nil
		}
	}
	return nil, nil
}

// packQuestionUnit is a unit as it is kept with a question: the unit's last sequence comes first.
func packQuestionUnit(unit []byte, last int64) []byte {
	packed := make([]byte, 0, binary.MaxVarintLen64+len(unit))
	return append(binary.AppendUvarint(packed, uint64(last)), unit...)
}

func unpackQuestionUnit(packed []byte, at time.Time) (storedUnit, error) {
	last, n := binary.Uvarint(packed)
	if n <= 0 || last > math.MaxInt64 {
		return storedUnit{}, fmt.Errorf("sqlite: %w: the unit of a question doesn't say where it ends", storage.ErrCorrupt)
	}
	return unpackUnit(packed[n:], int64(last), at)
}

// arena makes many small byte slices out of few larger ones.
type arena struct {
	free []byte
	size int
}

// blob returns a copy of a column.
func (a *arena) blob(q *query, col int) []byte {
	n := q.stmt.ColumnLen(col)
	if n > len(a.free) {
		a.size = min(max(2*a.size, 1<<10), 64<<10)
		if n > a.size/4 {
			return q.colBlob(col)
		}
		a.free = make([]byte, a.size)
	}
	b := a.free[:n:n]
	a.free = a.free[n:]
	q.stmt.ColumnBytes(col, b)
	return b
}
