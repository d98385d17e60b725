package sqlite

import (
	"math"
	"slices"
	"strings"

	"github.com/fermata-go/fermata/storage"
)

// merged returns a page of questions of all threads. It takes a page's worth of each list that
// together they are in, and puts them together: of open ones those of a tag; or what everybody may
// answer and what is restricted – for somebody who asks what he may answer: one list for each of his labels.
func (s *search) merged(limit int) ([]int64, error) {
	from := &begin
	if s.f.After != nil {
		from = s.after()
	}
	var found []hit
	if s.wantsOpen() {
		for _, l := range s.openLists() {
			end := len(found) + limit
			for _, p := range l.spans(s.f, from) {
				if err := s.collect(&found, end, p.rows(s)); err != nil {
					return nil, err
				}
			}
		}
	}
	if !s.onlyOpen() {
		q := s.query("SELECT " + hitColumns + " FROM question INDEXED BY question_past WHERE tenant = ? AND (asked, id) > (?, ?) AND state <> 1 ORDER BY asked, id")
		if err := s.collect(&found, len(found)+limit, q.text(s.f.Tenant).int(from.asked).blob(from.id[:])); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b hit) int { return s.compare(&a, &b) })
	found = slices.CompactFunc(found, func(a, b hit) bool { return a.k == b.k })
	found = found[:min(len(found), limit)]
	keys := make([]int64, len(found))
	for i, h := range found {
		keys[i] = h.k
	}
	return keys, nil
}

// begin is before all questions in the orders of asking and of deadlines. None is before the highest priority.
var begin = hit{asked: math.MinInt64, deadline: math.MinInt64, timed: true}

// collect appends hits of a query until there are end of them.
func (s *search) collect(found *[]hit, end int, q *query) error {
	if len(*found) >= end {
		return nil
	}
	_, err := s.scan(q, func(h *hit) bool {
		*found = append(*found, *h)
		return len(*found) < end
	})
	return err
}

// openLists returns the lists in which all open questions are that the filter may select.
// One of them may be in several lists with a label.
func (s *search) openLists() []openList {
	if len(s.f.Tags) > 0 {
		return []openList{{label: "t" + s.f.Tags[0]}}
	}
	lists := []openList{{restricted: 0}}
	if s.f.For == nil {
		return append(lists, openList{restricted: 1})
	}
	for _, label := range labelsOf(s.f.For) {
		lists = append(lists, openList{label: label})
	}
	return lists
}

// openList is open questions that have an index for each order: those with a
// label or, if that is "", the restricted ones of the table, or the others.
type openList struct {
	label      string
	restricted int64
}

// span is a part of an open list, in the order of an index of the table of questions, or of that of labels.
type span struct {
	openList
	index string
	where string // of the table x, whose columns are the same in both tables
	order string
	bind  func(*query) *query
}

var (
	columnsOfX = "SELECT x." + strings.ReplaceAll(hitColumns, ", ", ", x.")
	columnsOfQ = "SELECT q." + strings.ReplaceAll(hitColumns, ", ", ", q.")
)

// rows is the query for what hits are made of.
func (p *span) rows(s *search) *query {
	if p.label == "" {
		return p.query(s, columnsOfX, "", " ORDER BY "+p.order)
	}
	return p.query(s, columnsOfQ, " CROSS JOIN question q ON q.k = x.k", " ORDER BY "+p.order)
}

// count needs no rows, only the index.
func (p *span) count(s *search) (int64, error) {
	return p.query(s, "SELECT count(*)", "", "").firstInt()
}

func (p *span) query(s *search, columns, join, order string) *query {
	if p.label == "" {
		return p.bind(s.query(columns + " FROM question x INDEXED BY question_" + p.index + join +
			" WHERE x.tenant = ? AND x.restricted = ? AND x.state = 1 AND " + p.where + order).text(s.f.Tenant).int(p.restricted))
	}
	table := " FROM label x"
	if p.index != "asked" { // the key
		table += " INDEXED BY label_" + p.index
	}
	return p.bind(s.query(columns + table + join + " WHERE x.tenant = ? AND x.label = ? AND " + p.where + order).text(s.f.Tenant).text(p.label))
}

// all is the whole list, or as much of it as one index can tell that the filter may select.
func (l openList) all(f *storage.QuestionFilter) []span {
	switch {
	case !f.DueBefore.IsZero():
		return []span{l.timed(f, &begin)}
	case f.MinPriority != nil:
		return l.byPriority(f, &begin)
	}
	return []span{{l, "asked", "TRUE", "x.asked, x.id", func(q *query) *query { return q }}}
}

// count counts all of it that a plain filter selects.
func (l openList) count(s *search) (n int, err error) {
	for _, p := range l.all(s.f) {
		some, err := p.count(s)
		if err != nil {
			return 0, err
		}
		n += int(some)
	}
	return n, nil
}

// spans returns the spans that, one after the other, are all questions of the list
// after from in the order of the filter.
func (l openList) spans(f *storage.QuestionFilter, from *hit) []span {
	switch f.Order {
	case storage.ByDeadline:
		return l.byDeadline(f, from)
	case storage.ByPriority:
		return l.byPriority(f, from)
	}
	return []span{l.asked(from)}
}

func (l openList) asked(from *hit) span {
	return span{
		l, "asked", "(x.asked, x.id) > (?, ?)", "x.asked, x.id",
		func(q *query) *query { return q.int(from.asked).blob(from.id[:]) },
	}
}

// timed is what has a deadline, after from, as far as the filter goes.
func (l openList) timed(f *storage.QuestionFilter, from *hit) span {
	until := int64(math.MaxInt64)
	if !f.DueBefore.IsZero() {
		until = f.DueBefore.UnixMicro()
	}
	return span{
		l, "deadline", "(x.deadline, x.id) > (?, ?) AND x.deadline < ? AND x.deadline IS NOT NULL", "x.deadline, x.id",
		func(q *query) *query { return q.int(from.deadline).blob(from.id[:]).int(until) },
	}
}

// byDeadline: first what has one, then the others in the order of their ids.
func (l openList) byDeadline(f *storage.QuestionFilter, from *hit) (list []span) {
	after := []byte{}
	if from.timed {
		list = append(list, l.timed(f, from))
	} else {
		after = from.id[:]
	}
	if !f.DueBefore.IsZero() {
		return list
	}
	return append(list, span{l, "id", "x.id > ? AND x.deadline IS NULL", "x.id", func(q *query) *query { return q.blob(after) }})
}

// byPriority: the questions without a priority, most of them, are in no
// index by priority, but between those above and those below zero in the order of their ids.
func (l openList) byPriority(f *storage.QuestionFilter, from *hit) (list []span) {
	highest, lowest := int64(math.MaxInt64), int64(math.MinInt64)
	if f.MinPriority != nil {
		lowest = int64(*f.MinPriority)
	}
	after := []byte{}
	if from != &begin {
		if from.priority == math.MinInt64 {
			highest, lowest = 0, 1 // nothing is below
		} else {
			highest = from.priority - 1
		}
		if from.priority != 0 {
			list = append(list, span{
				l, "priority", "x.priority = ? AND x.id > ? AND x.priority <> 0", "x.id",
				func(q *query) *query { return q.int(from.priority).blob(from.id[:]) },
			})
		} else {
			highest, after = 0, from.id[:]
		}
	}
	between := func(high, low int64) {
		if low = max(low, lowest); high >= low {
			list = append(list, span{
				l, "priority", "x.priority <= ? AND x.priority >= ? AND x.priority <> 0", "x.priority DESC, x.id",
				func(q *query) *query { return q.int(high).int(low) },
			})
		}
	}
	between(highest, 1)
	if highest >= 0 && lowest <= 0 {
		list = append(list, span{l, "id", "x.id > ? AND x.priority = 0", "x.id", func(q *query) *query { return q.blob(after) }})
	}
	between(min(highest, -1), math.MinInt64)
	return list
}
