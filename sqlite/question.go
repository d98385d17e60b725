package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

const (
	placeBits    = 8 // questions of one record
	maxPlace     = 1<<placeBits - 1
	questionBits = seqBits + placeBits
)

// Question reads one question.
func (b *Backend) Question(ctx context.Context, tenant string, question storage.ID) (storage.Question, error) {
	var row *questionRow
	err := b.readSoon(ctx, "read a question", func(c *conn) (err error) {
		row, err = b.findQuestion(c, tenant, question)
		return err
	})
	if err != nil {
		return storage.Question{}, err
	}
	return row.Question, nil
}

// Extend sets the deadline of an open question.
func (b *Backend) Extend(ctx context.Context, tenant string, question storage.ID, deadline time.Time) (storage.Question, error) {
	var row *questionRow
	err := b.write(ctx, "extend a question", func(t *tx) (err error) {
		if row, err = b.findQuestion(t.conn, tenant, question); err != nil {
			return err
		}
		if row.State == storage.Open && row.overdue(t.now) {
			r, err := runByNumber(t.conn, row.run())
			if err == nil {
				err = t.expire(row, r)
			}
			if err != nil {
				return err
			}
		}
		if row.State != storage.Open {
			return &storage.SettledError{Question: row.Question}
		}
		row.Deadline = micros(deadline)
		if row.Change, err = t.nextChange(); err != nil {
			return err
		}
		t.note(storage.Note{Tenant: tenant, Run: row.Run, Queued: !deadline.IsZero(), Questions: true})
		err = t.write(t.query("UPDATE question SET deadline = ?, change = ? WHERE k = ?").time(row.Deadline).int(row.Change).int(row.k))
		if err != nil {
			return err
		}
		return t.eachLabel(row, func(label string) error {
			return t.write(t.query("UPDATE label SET deadline = ? WHERE tenant = ? AND label = ? AND asked = ? AND id = ?").
				time(row.Deadline).text(tenant).text(label).int(row.Asked.UnixMicro()).blob(row.ID[:]))
		})
	})
	if err != nil {
		return storage.Question{}, err
	}
	return row.Question, nil
}

// questionRow is a question with what only this backend knows of it.
type questionRow struct {
	storage.Question
	k      int64
	schema int64
}

func (row *questionRow) run() int64 { return row.k >> questionBits }

func (row *questionRow) overdue(now int64) bool {
	return !row.Deadline.IsZero() && row.Deadline.UnixMicro() <= now
}

// audience is the column of that name.
type audience struct {
	Users  []string `json:"u,omitempty"`
	Groups []string `json:"g,omitempty"`
	NotBy  []string `json:"n,omitempty"`
}

const questionColumns = `k, id, tenant, state, priority, change, asked, settled, deadline, schema, name, key, grp, uniq, answer_key, path,
	tags, audience, settler, digest, payload, details, answer`

// scanQuestion reads a row of questionColumns. What is the run's, and the schema, come later: see completeQuestion.
func scanQuestion(q *query) (*questionRow, error) {
	row := &questionRow{k: q.colInt(0), schema: q.colInt(9), Question: storage.Question{
		ID: q.colID(1), Tenant: q.colText(2), State: storage.QuestionState(q.colInt(3)), Priority: int(q.colInt(4)), Change: q.colInt(5),
		Asked: q.colTime(6), Settled: q.colTime(7), Deadline: q.colTime(8), Name: q.colText(10), Key: q.colText(11),
		Group: q.colText(12), Unique: q.colText(13), AnswerKey: q.colText(14), Path: q.colText(15),
		Digest: q.colBlob(19), Payload: q.colBlob(20), Details: q.colBlob(21), Answer: q.colBlob(22),
	}}
	row.Seq = row.k >> placeBits & maxSeq
	if err := q.colJSON(16, &row.Tags); err != nil {
		return nil, err
	}
	var who audience
	if err := q.colJSON(17, &who); err != nil {
		return nil, err
	}
	row.Users, row.Groups, row.NotBy = who.Users, who.Groups, who.NotBy
	return row, q.colJSON(18, &row.By)
}

// of fills in what the question has from its run.
func (row *questionRow) of(r *storage.Run) *questionRow {
	row.Run, row.Thread, row.Entrypoint = r.ID, r.Thread, r.Entrypoint
	return row
}

// manyQuestions runs a query for questionColumns. The rows are without what is their run's.
func (b *Backend) manyQuestions(c *conn, q *query) (rows []*questionRow, err error) {
	for {
		more, err := q.next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		row, err := scanQuestion(q)
		if err != nil {
			q.close()
			return nil, err
		}
		rows = append(rows, row)
	}
	for _, row := range rows {
		shared, err := b.bodies.get(c, row.schema)
		if err != nil {
			return nil, err
		}
		row.Schema = bytes.Clone(shared)
	}
	return rows, nil
}

// addRuns fills in what questions have from their runs.
func addRuns(c *conn, rows []*questionRow) error {
	var r storage.Run
	for _, row := range rows {
		if r.Number != row.run() {
			found, err := c.query("SELECT id, thread, entrypoint FROM run WHERE n = ?").int(row.run()).first(func(q *query) {
				r = storage.Run{Number: row.run(), ID: q.colID(0), Thread: q.colText(1), Entrypoint: q.colText(2)}
			})
			if err != nil {
				return err
			}
			if !found {
				return fmt.Errorf("sqlite: %w: the run of question %s, number %d, is missing", storage.ErrCorrupt, row.ID, row.run())
			}
		}
		row.of(&r)
	}
	return nil
}

// Where the id of a question may be. An IN for the first two would cost as much as the statement.
const (
	openByID       = "INDEXED BY question_id WHERE tenant = ? AND restricted = 0 AND id = ? AND state = 1"
	restrictedByID = "INDEXED BY question_id WHERE tenant = ? AND restricted = 1 AND id = ? AND state = 1"
	settledByID    = "INDEXED BY question_settled WHERE tenant = ? AND id = ? AND state <> 1"
)

// findQuestion reads one question.
func (b *Backend) findQuestion(c *conn, tenant string, id storage.ID) (*questionRow, error) {
	row, err := b.findQuestionRow(c, tenant, id)
	if err != nil {
		return nil, err
	}
	return row, addRuns(c, []*questionRow{row})
}

// findQuestionRow is findQuestion without what the question has from its run.
func (b *Backend) findQuestionRow(c *conn, tenant string, id storage.ID) (*questionRow, error) {
	for _, where := range [...]string{openByID, settledByID, restrictedByID} {
		rows, err := b.manyQuestions(c, c.query("SELECT "+questionColumns+" FROM question "+where).text(tenant).blob(id[:]))
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			return rows[0], nil
		}
	}
	return nil, notFound("question", id, tenant)
}

// questionsOf returns the questions of a run in the order of Seq.
func (b *Backend) questionsOf(c *conn, r *runRow, onlyOpen bool) ([]storage.Question, error) {
	text := "SELECT " + questionColumns + " FROM question WHERE k > ? AND k < ? ORDER BY k"
	if onlyOpen {
		text = "SELECT " + questionColumns + " FROM question WHERE k > ? AND k < ? AND +state = 1 ORDER BY k"
	}
	rows, err := b.manyQuestions(c, c.query(text).int(r.Number<<questionBits).int((r.Number+1)<<questionBits))
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	list := make([]storage.Question, len(rows))
	for i, row := range rows {
		list[i] = row.of(&r.Run).Question
	}
	return list, nil
}

func countOpen(c *conn, n int64) (int, error) {
	count, err := c.query("SELECT count(*) FROM question WHERE k > ? AND k < ? AND +state = 1").
		int(n << questionBits).int((n + 1) << questionBits).firstInt()
	return int(count), err
}

// checkQuestions refuses a unit whose questions can't be opened.
func (t *tx) checkQuestions(u *storage.Unit, f *fence) error {
	if len(u.Questions) == 0 {
		return nil
	}
	type unique struct{ name, key string }
	ids, uniques, places := map[storage.ID]bool{}, map[unique]storage.ID{}, map[int64]int{}
	for i := range u.Questions {
		q := &u.Questions[i]
		if places[q.Seq]++; places[q.Seq] > maxPlace {
			return invalid("append: record %d of run %s asks more than %d questions", q.Seq, u.Run, maxPlace)
		}
		if ids[q.ID] {
			return invalid("append: question %s is there twice", q.ID)
		}
		ids[q.ID] = true
		exists, err := t.query("SELECT 1 FROM question " + openByID + " UNION ALL SELECT 1 FROM question " + restrictedByID +
			" UNION ALL SELECT 1 FROM question " + settledByID).
			text(u.Tenant).blob(q.ID[:]).text(u.Tenant).blob(q.ID[:]).text(u.Tenant).blob(q.ID[:]).first(nil)
		if err != nil {
			return err
		}
		if exists {
			return invalid("append: question %s exists", q.ID)
		}
		if q.Unique != "" {
			if other, taken := uniques[unique{q.Name, q.Unique}]; taken {
				return &storage.UniqueError{Question: other, Name: q.Name, Key: q.Unique}
			}
			uniques[unique{q.Name, q.Unique}] = q.ID
		}
		if err := t.checkUnique(u, f, q); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) checkUnique(u *storage.Unit, f *fence, q *storage.Question) error {
	if q.Unique == "" {
		return nil
	}
	var holder storage.ID
	var k int64
	found, err := t.query("SELECT id, k FROM question WHERE tenant = ? AND name = ? AND uniq = ? AND state = 1 AND uniq <> ''").
		text(u.Tenant).text(q.Name).text(q.Unique).first(func(q *query) { holder, k = q.colID(0), q.colInt(1) })
	if err != nil || !found {
		return err
	}
	if k>>questionBits == f.n && slices.Contains(u.Close, holder) {
		return nil // closed before this one is opened
	}
	return &storage.UniqueError{Question: holder, Name: q.Name, Key: q.Unique}
}

// openQuestions writes the questions of a unit that ends at record last; the first keeps unit, if that is not nil.
func (t *tx) openQuestions(u *storage.Unit, f *fence, at, last int64, unit []byte) error {
	places := map[int64]int64{}
	for i := range u.Questions {
		q := &u.Questions[i]
		row := &questionRow{Question: *q}
		row.Tenant, row.State, row.Asked, row.Deadline = u.Tenant, storage.Open, timeOf(at), micros(q.Deadline)
		row.Settled, row.Answer, row.By, row.AnswerKey = noTime, nil, storage.Principal{}, ""
		row.k = f.n<<questionBits | q.Seq<<placeBits | places[q.Seq]
		places[q.Seq]++
		var packed []byte
		if i == 0 && unit != nil {
			packed = packQuestionUnit(unit, last)
		}
		if err := t.insertQuestion(row, packed); err != nil {
			return err
		}
	}
	return nil
}

// insertQuestion writes a question, of whatever state, and gives it a change number.
func (t *tx) insertQuestion(row *questionRow, unit []byte) (err error) {
	if row.Change, err = t.nextChange(); err != nil {
		return err
	}
	if row.schema, err = t.intern(row.Schema); err != nil {
		return err
	}
	who := audience{row.Users, row.Groups, row.NotBy}
	restricted := len(row.Users)+len(row.Groups) > 0
	err = t.write(t.query(`INSERT INTO question (k, id, tenant, state, restricted, priority, change, asked, settled, deadline, schema,
			name, key, grp, uniq, answer_key, path, tags, audience, settler, digest, unit, payload, details, answer)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`).
		int(row.k).blob(row.ID[:]).text(row.Tenant).int(int64(row.State)).bool(restricted).int(int64(row.Priority)).
		int(row.Change).int(row.Asked.UnixMicro()).time(row.Settled).time(row.Deadline).optInt(row.schema).
		text(row.Name).text(row.Key).text(row.Group).text(row.Unique).text(row.AnswerKey).text(row.Path).
		json(row.Tags, len(row.Tags) == 0).json(who, !restricted && len(row.NotBy) == 0).json(row.By, isZeroPrincipal(row.By)).
		blob(row.Digest).blob(unit).blob(row.Payload).blob(row.Details).blob(row.Answer))
	if err != nil || row.State != storage.Open {
		return err
	}
	return t.eachLabel(row, func(label string) error {
		return t.write(t.query("INSERT OR IGNORE INTO label (tenant, label, asked, id, k, deadline, priority) VALUES (?, ?, ?, ?, ?, ?, ?)").
			text(row.Tenant).text(label).int(row.Asked.UnixMicro()).blob(row.ID[:]).int(row.k).time(row.Deadline).int(int64(row.Priority)))
	})
}

// eachLabel calls f with the labels of a question.
func (t *tx) eachLabel(row *questionRow, f func(label string) error) error {
	excluded := row.NotBy
	if len(row.Users)+len(row.Groups) > 0 {
		excluded = nil
	}
	for i, names := range [...][]string{row.Users, row.Groups, row.Tags, excluded} {
		for _, name := range names {
			if err := f("ugtn"[i:i+1] + name); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextChange gives the number of a change.
func (t *tx) nextChange() (int64, error) {
	if t.lastChange < 0 {
		n, err := t.query("SELECT max(coalesce((SELECT max(change) FROM question), 0), (SELECT value FROM counter WHERE name = 'change'))").firstInt()
		if err != nil {
			return 0, err
		}
		t.lastChange = n
	}
	t.lastChange++
	return t.lastChange, nil
}

// intern returns the number of a schema, which is written once; 0 for nil.
func (t *tx) intern(body []byte) (n int64, err error) {
	if body == nil {
		return 0, nil
	}
	hash := sha256.Sum256(body)
	if n = t.b.bodies.number(hash); n != 0 {
		return n, nil
	}
	if n = t.schemas[hash]; n != 0 {
		return n, nil
	}
	found, err := t.query("SELECT n FROM schema WHERE hash = ?").blob(hash[:]).first(func(q *query) { n = q.colInt(0) })
	if err != nil {
		return 0, err
	}
	if found {
		t.b.bodies.put(n, hash, body) // committed by somebody, and never removed
		return n, nil
	}
	if err := t.write(t.query("INSERT INTO schema (hash, body) VALUES (?, ?)").blob(hash[:]).blob(body)); err != nil {
		return 0, err
	}
	n = t.raw.LastInsertRowID()
	if t.schemas == nil {
		t.schemas = map[[sha256.Size]byte]int64{}
	}
	t.schemas[hash] = n
	return n, nil
}

// bodies remembers schemas that are in the file.
type bodies struct {
	mu      sync.RWMutex
	byN     map[int64][]byte
	numbers map[[sha256.Size]byte]int64
}

func (s *bodies) number(hash [sha256.Size]byte) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.numbers[hash]
}

func (s *bodies) put(n int64, hash [sha256.Size]byte, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byN == nil || len(s.byN) >= 4096 { // programs have few; a program that makes them up doesn't fill the memory
		s.byN, s.numbers = map[int64][]byte{}, map[[sha256.Size]byte]int64{}
	}
	s.byN[n], s.numbers[hash] = body, n
}

// get returns the schema of a number; nil for 0.
func (s *bodies) get(c *conn, n int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	s.mu.RLock()
	body, ok := s.byN[n]
	s.mu.RUnlock()
	if ok {
		return body, nil
	}
	found, err := c.query("SELECT body FROM schema WHERE n = ?").int(n).first(func(q *query) { body = q.colBlob(0) })
	if err == nil && !found {
		err = fmt.Errorf("sqlite: %w: schema %d is missing", storage.ErrCorrupt, n)
	}
	if err == nil && c.fences == nil { // what the writer sees may yet be undone
		s.put(n, sha256.Sum256(body), body)
	}
	return body, err
}

func isZeroPrincipal(p storage.Principal) bool {
	return p.Kind == "" && p.Subject == "" && len(p.Groups) == 0 && p.Method == "" && p.OnBehalfOf == ""
}
