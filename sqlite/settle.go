package sqlite

import (
	"context"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

// Settle answers or withdraws questions: the question's row and the run's, for each.
func (b *Backend) Settle(ctx context.Context, settlements []storage.Settlement) ([]storage.Settled, error) {
	if len(settlements) == 0 {
		return nil, b.check(ctx)
	}
	results := make([]storage.Settled, len(settlements))
	err := b.write(ctx, "settle questions", func(t *tx) error {
		runs := map[int64]*runRow{} // one copy of each run for all settlements of the call
		rows := make([]*questionRow, len(settlements))
		for i := range settlements {
			row, repeated, err := t.settle(&settlements[i], runs)
			if err != nil && !isRefusal(err) {
				return err
			}
			rows[i], results[i] = row, storage.Settled{Err: err, Repeated: repeated}
		}
		// The results show what all settlements of the call have led to.
		for i, row := range rows {
			if row == nil {
				continue
			}
			if len(settlements) > 1 {
				var err error
				if row, err = b.findQuestion(t.conn, row.Tenant, row.ID); err != nil {
					return err
				}
			}
			r, member := runs[row.run()], settlements[i].Member
			results[i].Question, results[i].Run = row.Question, r.Run
			results[i].Acquired = results[i].Err == nil && !member.IsZero() && r.Owner == member
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// settle is one compare-and-set. It returns the question, if there is one.
func (t *tx) settle(s *storage.Settlement, runs map[int64]*runRow) (row *questionRow, repeated bool, err error) {
	if row, err = t.b.findQuestionRow(t.conn, s.Tenant, s.Question); err != nil {
		return nil, false, err
	}
	r := runs[row.run()]
	if r == nil {
		if r, err = runByNumber(t.conn, row.run()); err != nil {
			return nil, false, err
		}
		runs[row.run()] = r
	}
	row.of(&r.Run)
	switch {
	case s.State != storage.Answered && s.State != storage.Withdrawn:
		return row, false, invalid("settle: a question can't be made %s", s.State)
	case row.State != storage.Open && s.Key != "" && s.Key == row.AnswerKey:
		return row, true, nil
	case row.State != storage.Open:
		return row, false, &storage.SettledError{Question: row.Question}
	case row.overdue(t.now):
		if err := t.expire(row, r); err != nil {
			return row, false, err
		}
		return row, false, &storage.SettledError{Question: row.Question}
	}
	row.Answer, row.By, row.AnswerKey = s.Answer, s.By, s.Key
	if err := t.closeRow(row, s.State, max(t.now, r.last)); err != nil {
		return row, false, err
	}
	if s.State == storage.Answered && row.Group != "" {
		if err := t.closeGroup(row, r); err != nil {
			return row, false, err
		}
	}
	return row, false, t.wake(r, s.Member)
}

// expire settles a question whose deadline has passed.
func (t *tx) expire(row *questionRow, r *runRow) error {
	row.By = storage.Principal{Kind: "timeout"}
	if err := t.closeRow(row, storage.Expired, max(t.now, r.last)); err != nil {
		return err
	}
	return t.wake(r, storage.ID{})
}

// wake tells a run that something came from outside: it raises the inbox, and
// gives a run that waits to member, or queues it if member is zero or dead.
func (t *tx) wake(r *runRow, member storage.ID) error {
	at := max(t.now, r.last)
	r.Inbox++
	r.Updated = timeOf(at)
	note := storage.Note{Tenant: r.Tenant, Run: r.ID, Inbox: true, Questions: true}
	if r.Status == storage.Interrupted || r.Status == storage.Queued {
		if !member.IsZero() && t.lives(member) {
			t.note(note)
			return t.acquire(r, member)
		}
		if r.Status == storage.Interrupted || r.ready > at {
			r.ready = at // else it keeps its place in the line
		}
		r.Status, r.Due = storage.Queued, noTime
		note.Queued = true
	}
	t.note(note)
	return t.saveRun(r)
}

// closeRow writes the final state of an open question. What is said of the settler is in row.
func (t *tx) closeRow(row *questionRow, state storage.QuestionState, at int64) (err error) {
	row.State, row.Settled = state, timeOf(at)
	if row.Change, err = t.nextChange(); err != nil {
		return err
	}
	err = t.write(t.query("UPDATE question SET state = ?, settled = ?, change = ?, answer = ?, settler = ?, answer_key = ? WHERE k = ?").
		int(int64(state)).int(at).int(row.Change).blob(row.Answer).json(row.By, isZeroPrincipal(row.By)).text(row.AnswerKey).int(row.k))
	if err != nil {
		return err
	}
	return t.unlabel(row)
}

// unlabel removes the labels of a question that is not open any more.
func (t *tx) unlabel(row *questionRow) error {
	return t.eachLabel(row, func(label string) error {
		return t.write(t.query("DELETE FROM label WHERE tenant = ? AND label = ? AND asked = ? AND id = ?").
			text(row.Tenant).text(label).int(row.Asked.UnixMicro()).blob(row.ID[:]))
	})
}

// closeRows gives all questions that a query for questionColumns returns a final state, and says how many there were.
func (t *tx) closeRows(q *query, state storage.QuestionState, at int64) (int, error) {
	rows, err := t.b.manyQuestions(t.conn, q)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if err := t.closeRow(row, state, at); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}

// closeGroup withdraws the open questions of the group of one that was answered.
func (t *tx) closeGroup(row *questionRow, r *runRow) error {
	_, err := t.closeRows(t.query("SELECT "+questionColumns+" FROM question WHERE grp = ? AND k > ? AND k < ? AND state = 1 AND grp <> '' ORDER BY k").
		text(row.Group).int(r.Number<<questionBits).int((r.Number+1)<<questionBits), storage.Withdrawn, max(t.now, r.last))
	return err
}

// closeOpen gives all open questions of a run a final state.
func (t *tx) closeOpen(n int64, state storage.QuestionState, at int64) (int, error) {
	return t.closeRows(t.query("SELECT "+questionColumns+" FROM question WHERE k > ? AND k < ? AND +state = 1 ORDER BY k").
		int(n<<questionBits).int((n+1)<<questionBits), state, at)
}

// closeQuestions settles what a unit closes; questions that are not open, or not of the run, are left alone.
func (t *tx) closeQuestions(u *storage.Unit, f *fence, at int64) error {
	for _, id := range u.Close {
		for _, where := range [...]string{openByID, restrictedByID} {
			_, err := t.closeRows(t.query("SELECT "+questionColumns+" FROM question "+where+" AND k > ? AND k < ?").
				text(u.Tenant).blob(id[:]).int(f.n<<questionBits).int((f.n+1)<<questionBits), u.CloseState, at)
			if err != nil {
				return fmt.Errorf("close question %s: %w", id, err)
			}
		}
	}
	return nil
}
