package sqlite

import (
	"math"
	"slices"

	"github.com/fermata-go/fermata/storage"
)

// openPage returns a page of open questions. It takes a page's worth of what
// everybody may answer, and one of what is restricted – for somebody who asks
// what he may answer: one for each of his labels – and puts them together.
func (s *search) openPage(limit int) ([]int64, error) {
	from := &hit{asked: math.MinInt64, deadline: math.MinInt64, timed: true, priority: math.MaxInt64}
	if s.f.After != nil {
		from = s.after()
	}
	var found []hit
	err := s.collect(&found, limit, s.ranges(from, 0))
	switch {
	case err != nil:
	case s.f.For == nil:
		err = s.collect(&found, limit, s.ranges(from, 1))
	default:
		for _, label := range labelsOf(s.f.For) {
			if err == nil {
				err = s.collectLabel(&found, limit, label, from)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b hit) int { return s.compare(&a, &b) })
	found = slices.CompactFunc(found, func(a, b hit) bool { return a.k == b.k })
	keys := make([]int64, 0, limit)
	for _, h := range found[:min(len(found), limit)] {
		keys = append(keys, h.k)
	}
	return keys, nil
}

// collect appends the first limit hits of ranges that follow each other.
func (s *search) collect(found *[]hit, limit int, ranges []span) error {
	end := len(*found) + limit
	for _, r := range ranges {
		q := s.query("SELECT " + hitColumns + " FROM question " + r.text).text(s.f.Tenant).int(r.restricted)
		more, err := s.scan(r.bind(q), func(h *hit) bool {
			*found = append(*found, *h)
			return len(*found) < end
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// collectLabel appends the first limit hits of a label: in the order of asking
// as far as they go, in another order after a look at all of them.
func (s *search) collectLabel(found *[]hit, limit int, label string, from *hit) error {
	begin := len(*found)
	text, asked, id := "SELECT k FROM label WHERE tenant = ? AND label = ? AND (asked, id) > (?, ?) ORDER BY asked, id", from.asked, from.id[:]
	if s.f.Order != storage.ByAsked {
		asked = math.MinInt64
	}
	for {
		var keys []int64
		q := s.query(text + " LIMIT 256").text(s.f.Tenant).text(label).int(asked).blob(id)
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
		for _, k := range keys {
			_, err := s.scan(s.query("SELECT "+hitColumns+" FROM question WHERE k = ?").int(k), func(h *hit) bool {
				asked, id = h.asked, h.id[:]
				if s.compare(h, from) > 0 {
					*found = append(*found, *h)
				}
				return true
			})
			if err != nil {
				return err
			}
			if s.f.Order == storage.ByAsked && len(*found)-begin >= limit {
				return nil
			}
		}
		if len(keys) < 256 {
			break
		}
		// The next ones: after the last one, whether the filter selected it or not.
		_, err := s.query("SELECT asked, id FROM question WHERE k = ?").int(keys[len(keys)-1]).first(func(q *query) {
			asked, id = q.colInt(0), q.colBlob(1)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// span is a range of an index of open questions, in the index's order. Its
// first two parameters are the tenant and restricted, bind binds the others.
type span struct {
	text       string
	restricted int64
	bind       func(*query) *query
}

// ranges returns the ranges that, one after the other, are all open questions
// after from in the order of the filter.
func (s *search) ranges(from *hit, restricted int64) []span {
	switch s.f.Order {
	case storage.ByDeadline:
		byID := span{restricted: restricted, bind: func(q *query) *query { return q.blob([]byte{}) },
			text: "INDEXED BY question_open WHERE tenant = ? AND restricted = ? AND id > ? AND deadline IS NULL AND state = 1 ORDER BY id"}
		if !from.timed {
			byID.bind = func(q *query) *query { return q.blob(from.id[:]) }
			return []span{byID}
		}
		return []span{{restricted: restricted, bind: func(q *query) *query { return q.int(from.deadline).blob(from.id[:]) },
			text: "INDEXED BY question_deadline WHERE tenant = ? AND restricted = ? AND (deadline, id) > (?, ?) AND deadline IS NOT NULL AND state = 1 ORDER BY deadline, id",
		}, byID}
	case storage.ByPriority:
		return s.rangesByPriority(from, restricted)
	}
	return []span{{restricted: restricted, bind: func(q *query) *query { return q.int(from.asked).blob(from.id[:]) },
		text: "INDEXED BY question_asked WHERE tenant = ? AND restricted = ? AND (asked, id) > (?, ?) AND state = 1 ORDER BY asked, id"}}
}

// rangesByPriority: the questions without a priority, most of them, are in no
// index by priority, but between those above and those below zero in the order of their ids.
func (s *search) rangesByPriority(from *hit, restricted int64) (list []span) {
	between := func(below, above int64) {
		list = append(list, span{restricted: restricted, bind: func(q *query) *query { return q.int(below).int(above) },
			text: "INDEXED BY question_priority WHERE tenant = ? AND restricted = ? AND priority < ? AND priority > ? AND priority <> 0 AND state = 1 ORDER BY priority DESC, id"})
	}
	zero := func(after []byte) {
		list = append(list, span{restricted: restricted, bind: func(q *query) *query { return q.blob(after) },
			text: "INDEXED BY question_open WHERE tenant = ? AND restricted = ? AND id > ? AND priority = 0 AND state = 1 ORDER BY id"})
	}
	if from.priority != 0 && from.priority != math.MaxInt64 {
		list = append(list, span{restricted: restricted, bind: func(q *query) *query { return q.int(from.priority).blob(from.id[:]) },
			text: "INDEXED BY question_priority WHERE tenant = ? AND restricted = ? AND priority = ? AND id > ? AND priority <> 0 AND state = 1 ORDER BY id"})
	}
	switch {
	case from.priority > 0:
		between(from.priority, 0)
		zero([]byte{})
		between(0, math.MinInt64)
	case from.priority == 0:
		zero(from.id[:])
		between(0, math.MinInt64)
	default:
		between(from.priority, math.MinInt64)
	}
	return list
}
