package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/fermata-go/fermata/storage"
)

// ListQuestions returns one page of questions.
func (b *Backend) ListQuestions(ctx context.Context, f storage.QuestionFilter) ([]storage.Question, error) {
	var list []storage.Question
	err := b.read(ctx, "list questions", func(c *conn) error {
		s := &search{ctx: ctx, conn: c, b: b, f: &f}
		keys, err := s.page(limitOr100(f.Limit))
		if err != nil {
			return err
		}
		list, err = b.questionsAt(c, keys)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// CountQuestions counts questions per state.
func (b *Backend) CountQuestions(ctx context.Context, f storage.QuestionFilter) (map[storage.QuestionState]int, error) {
	counts := map[storage.QuestionState]int{}
	f.After, f.Order = nil, storage.ByAsked
	err := b.read(ctx, "count questions", func(c *conn) error {
		s := &search{ctx: ctx, conn: c, b: b, f: &f}
		if s.plain() {
			return s.countPlain(counts)
		}
		return s.each(func(hit *hit) bool {
			counts[hit.state]++
			return true
		})
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}

// plain reports whether the filter asks for nothing that is not in the indexes of all open or all settled questions.
func (s *search) plain() bool {
	f := s.f
	if f.Thread != "" || !f.Run.IsZero() || f.Entrypoint != "" || f.Name != "" || f.Key != "" || len(f.Tags) > 1 {
		return false
	}
	if f.For != nil && (f.For.Subject == "" || f.For.OnBehalfOf != "") {
		return false // more than one exclusion may count
	}
	if f.MinPriority != nil && !f.DueBefore.IsZero() || f.For != nil && (len(f.Tags) > 0 || !s.onlyOpen()) {
		return false
	}
	return s.onlyOpen() || len(f.Tags) == 0 && f.DueBefore.IsZero() && f.MinPriority == nil
}

// countPlain counts what a plain filter selects.
func (s *search) countPlain(counts map[storage.QuestionState]int) error {
	if s.wantsOpen() {
		n, err := s.countOpen()
		if err != nil {
			return err
		}
		if n > 0 {
			counts[storage.Open] = n
		}
	}
	if s.onlyOpen() {
		return nil
	}
	_, err := s.query("SELECT sum(state = 2), sum(state = 3), sum(state = 4), sum(state = 5) FROM question INDEXED BY question_past WHERE tenant = ? AND state <> 1").
		text(s.f.Tenant).first(func(q *query) {
		for i, state := range [...]storage.QuestionState{storage.Answered, storage.Expired, storage.Withdrawn, storage.SupersededQuestion} {
			if n := q.colInt(i); n > 0 && (len(s.f.States) == 0 || slices.Contains(s.f.States, state)) {
				counts[state] = int(n)
			}
		}
	})
	return err
}

// countOpen counts the open questions that a plain filter selects. Only of those that are restricted to a
// principal and others the rows are read: he may be in the audience twice, or excluded.
func (s *search) countOpen() (n int, err error) {
	lists := s.openLists()
	if s.f.For != nil {
		all, err := lists[0].count(s)
		if err != nil {
			return 0, err
		}
		excluded, err := openList{label: "n" + s.f.For.Subject}.count(s)
		if err != nil {
			return 0, err
		}
		n = all - excluded
		err = s.eachOf(lists[1:], func(*hit) bool { n++; return true })
		return n, err
	}
	for _, l := range lists {
		some, err := l.count(s)
		if err != nil {
			return 0, err
		}
		n += some
	}
	return n, nil
}

// QuestionChanges returns the questions that changed after a change, in the order of the changes.
func (b *Backend) QuestionChanges(ctx context.Context, tenant string, after int64, limit int) ([]storage.Question, error) {
	var list []storage.Question
	err := b.read(ctx, "read the changes of questions", func(c *conn) error {
		q := c.query("SELECT k FROM question WHERE change > ? AND tenant = ? ORDER BY change LIMIT ?").
			int(after).text(tenant).int(int64(limitOr100(limit)))
		var keys []int64
		for {
			more, err := q.next()
			if err != nil {
				return err
			}
			if !more {
				break
			}
			keys = append(keys, q.colInt(0))
		}
		var err error
		list, err = b.questionsAt(c, keys)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// questionsAt reads questions by their addresses.
func (b *Backend) questionsAt(c *conn, keys []int64) ([]storage.Question, error) {
	list := make([]storage.Question, 0, len(keys))
	for _, k := range keys {
		rows, err := b.manyQuestions(c, c.query("SELECT "+questionColumns+" FROM question WHERE k = ?").int(k))
		if err == nil && len(rows) == 0 {
			err = fmt.Errorf("sqlite: %w: an index has a question that is not in its table", storage.ErrCorrupt)
		}
		if err == nil {
			err = addRuns(c, rows)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, rows[0].Question)
	}
	return list, nil
}

// search finds the questions that a filter selects. What is open is found in
// the indexes of open questions, in the order asked for, as far as the page goes. What is
// settled and of no thread or run is found by reading all questions.
type search struct {
	ctx context.Context
	*conn
	b    *Backend
	f    *storage.QuestionFilter
	seen int
	runs map[int64]*storage.Run
}

// hit is a question as far as a filter and an order look at it.
type hit struct {
	k        int64
	id       storage.ID
	state    storage.QuestionState
	asked    int64
	deadline int64
	timed    bool // there is a deadline
	priority int64
}

const hitColumns = "k, id, state, asked, deadline, priority, name, key, audience, tags"

// page returns the addresses of the first limit questions after f.After, in order.
func (s *search) page(limit int) (keys []int64, err error) {
	if s.f.Thread == "" && s.f.Run.IsZero() && (s.onlyOpen() || s.f.Order == storage.ByAsked) {
		if few, err := s.fewDue(); err != nil || !few {
			if err != nil {
				return nil, err
			}
			return s.merged(limit)
		}
	}
	var best []hit // the first limit ones so far, in order
	err = s.each(func(h *hit) bool {
		if s.f.After != nil && s.compare(h, s.after()) <= 0 {
			return true
		}
		i, _ := slices.BinarySearchFunc(best, h, func(a hit, b *hit) int { return s.compare(&a, b) })
		if i < limit {
			best = slices.Insert(best, i, *h)
			best = best[:min(len(best), limit)]
		}
		return true
	})
	for _, h := range best {
		keys = append(keys, h.k)
	}
	return keys, err
}

func (s *search) onlyOpen() bool {
	return len(s.f.States) > 0 && !slices.ContainsFunc(s.f.States, func(st storage.QuestionState) bool { return st != storage.Open })
}

func (s *search) after() *hit {
	q := s.f.After
	h := &hit{id: q.ID, asked: q.Asked.UnixMicro(), priority: int64(q.Priority), timed: !q.Deadline.IsZero()}
	if h.timed {
		h.deadline = q.Deadline.UnixMicro()
	}
	return h
}

func (s *search) wantsOpen() bool {
	return len(s.f.States) == 0 || slices.Contains(s.f.States, storage.Open)
}

// fewDue reports whether the list asked for is best found by the deadlines that are
// before the filter's, though its order is another.
func (s *search) fewDue() (bool, error) {
	const few = 2000
	if s.f.DueBefore.IsZero() || s.f.Order == storage.ByDeadline || !s.onlyOpen() {
		return false, nil
	}
	n, err := s.query("SELECT count(*) FROM (SELECT 1 FROM question INDEXED BY question_due WHERE deadline < ? AND deadline IS NOT NULL AND state = 1 LIMIT ?)").
		int(s.f.DueBefore.UnixMicro()).int(few + 1).firstInt()
	return n <= few, err
}

// compare is the order of the filter.
func (s *search) compare(a, b *hit) int {
	first := cmp.Compare(a.asked, b.asked)
	switch s.f.Order {
	case storage.ByDeadline:
		switch {
		case a.timed && b.timed:
			first = cmp.Compare(a.deadline, b.deadline)
		case a.timed:
			first = -1
		case b.timed:
			first = 1
		default:
			first = 0
		}
	case storage.ByPriority:
		first = cmp.Compare(b.priority, a.priority)
	}
	return cmp.Or(first, bytes.Compare(a.id[:], b.id[:]))
}

// each calls f with every question that the filter selects, in no order, until it returns false.
func (s *search) each(f func(*hit) bool) error {
	switch {
	case !s.f.Run.IsZero():
		r, err := lookupRun(s.conn, s.f.Tenant, s.f.Run)
		if err != nil || r == nil {
			return err
		}
		_, err = s.scan(s.ofRun(r.Number), f)
		return err
	case s.f.Thread != "":
		numbers, err := runNumbers(s.conn, s.f.Tenant, s.f.Thread)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			if more, err := s.scan(s.ofRun(n), f); err != nil || !more {
				return err
			}
		}
		return nil
	case s.onlyOpen():
		return s.eachOf(s.openLists(), f)
	}
	_, err := s.scan(s.query("SELECT "+hitColumns+" FROM question WHERE tenant = ?").text(s.f.Tenant), f)
	return err
}

// eachOf is each for the questions of lists, each question once.
func (s *search) eachOf(lists []openList, f func(*hit) bool) error {
	seen := map[int64]bool{}
	for _, list := range lists {
		for _, p := range list.all(s.f) {
			more, err := s.scan(p.rows(s), func(h *hit) bool {
				if list.label != "" {
					if seen[h.k] {
						return true
					}
					seen[h.k] = true
				}
				return f(h)
			})
			if err != nil || !more {
				return err
			}
		}
	}
	return nil
}

func (s *search) ofRun(n int64) *query {
	return s.query("SELECT " + hitColumns + " FROM question WHERE k > ? AND k < ? ORDER BY k").int(n << questionBits).int((n + 1) << questionBits)
}

// labelsOf are the labels of the questions that are restricted to a principal and others.
func labelsOf(p *storage.Principal) []string {
	labels := []string{"u" + p.Subject}
	for _, group := range p.Groups {
		labels = append(labels, "g"+group)
	}
	return labels
}

// scan calls f with the rows of a query for hitColumns that the filter selects, until it returns false.
func (s *search) scan(q *query, f func(*hit) bool) (more bool, err error) {
	for {
		row, err := q.next()
		if err != nil {
			return false, err
		}
		if !row {
			return true, nil
		}
		if s.seen++; s.seen%256 == 0 && s.ctx.Err() != nil {
			q.close()
			return false, s.ctx.Err()
		}
		h, err := s.match(q)
		if err != nil {
			q.close()
			return false, err
		}
		if h != nil && !f(h) {
			q.close()
			return false, nil
		}
	}
}

// match returns the question in a row of hitColumns if the filter selects it.
func (s *search) match(q *query) (*hit, error) {
	f := s.f
	h := &hit{k: q.colInt(0), id: q.colID(1), state: storage.QuestionState(q.colInt(2)), asked: q.colInt(3),
		deadline: q.colInt(4), timed: !q.colNull(4), priority: q.colInt(5)}
	if len(f.States) > 0 && !slices.Contains(f.States, h.state) ||
		f.Name != "" && q.colText(6) != f.Name ||
		f.Key != "" && q.colText(7) != f.Key ||
		!f.DueBefore.IsZero() && (!h.timed || h.deadline >= f.DueBefore.UnixMicro()) ||
		f.MinPriority != nil && h.priority < int64(*f.MinPriority) {
		return nil, nil
	}
	if f.For != nil && !q.colNull(8) {
		var who audience
		if err := q.colJSON(8, &who); err != nil {
			return nil, err
		}
		if !who.admits(f.For) {
			return nil, nil
		}
	}
	if len(f.Tags) > 0 {
		var tags []string
		if err := q.colJSON(9, &tags); err != nil {
			return nil, err
		}
		for _, tag := range f.Tags {
			if !slices.Contains(tags, tag) {
				return nil, nil
			}
		}
	}
	return s.matchRun(h)
}

// matchRun checks what the filter says of the question's run.
func (s *search) matchRun(h *hit) (*hit, error) {
	if s.f.Entrypoint == "" && s.f.Thread == "" && s.f.Run.IsZero() {
		return h, nil
	}
	n := h.k >> questionBits
	r := s.runs[n]
	if r == nil {
		r = &storage.Run{}
		_, err := s.query("SELECT id, thread, entrypoint FROM run WHERE n = ?").int(n).first(func(q *query) {
			r.ID, r.Thread, r.Entrypoint = q.colID(0), q.colText(1), q.colText(2)
		})
		if err != nil {
			return nil, err
		}
		if s.runs == nil || len(s.runs) > 1024 {
			s.runs = map[int64]*storage.Run{}
		}
		s.runs[n] = r
	}
	if s.f.Entrypoint != "" && r.Entrypoint != s.f.Entrypoint ||
		s.f.Thread != "" && r.Thread != s.f.Thread ||
		!s.f.Run.IsZero() && r.ID != s.f.Run {
		return nil, nil
	}
	return h, nil
}

// admits reports whether a principal may answer.
func (a *audience) admits(p *storage.Principal) bool {
	if len(a.NotBy) > 0 && (p.Subject == "" || slices.Contains(a.NotBy, p.Subject) || slices.Contains(a.NotBy, p.OnBehalfOf)) {
		return false
	}
	return len(a.Users)+len(a.Groups) == 0 || slices.Contains(a.Users, p.Subject) ||
		slices.ContainsFunc(p.Groups, func(g string) bool { return slices.Contains(a.Groups, g) })
}
