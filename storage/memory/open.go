package memory

import (
	"cmp"
	"iter"
	"slices"
	"sort"
	"strings"

	"github.com/fermata-go/fermata/storage"
)

// openQuestions are the open questions of all tenants, once in each order of a list.
type openQuestions [3]sorted

func (o *openQuestions) add(q *question) {
	for order := range o {
		o[order].add(storage.QuestionOrder(order), q)
	}
}

// remove must come before a change of what a question is ordered by.
func (o *openQuestions) remove(q *question) {
	for order := range o {
		o[order].remove(storage.QuestionOrder(order), q)
	}
}

// of yields those of a tenant that f may select, in its order and after f.After.
func (o *openQuestions) of(f *storage.QuestionFilter) iter.Seq[*question] {
	before := func(q *question) bool { return q.row.Tenant < f.Tenant }
	if f.After != nil {
		last := *f.After
		last.Tenant = f.Tenant
		before = func(q *question) bool { return compareIn(f.Order, &q.row, &last) <= 0 }
	}
	list := &o[storage.ByAsked]
	if int(f.Order) < len(o) {
		list = &o[f.Order]
	}
	return func(yield func(*question) bool) {
		for q := range list.from(before) {
			end := q.row.Tenant != f.Tenant ||
				f.Order == storage.ByDeadline && !isDue(&q.row, f) || f.Order == storage.ByPriority && !isUrgent(&q.row, f)
			if end || !yield(q) {
				return
			}
		}
	}
}

// sorted is a list of questions in chunks, so that a change moves only a few of them.
type sorted struct{ chunks [][]*question } // none is empty

const chunkSize = 512

// find returns the place of the first entry that is not before something.
func (s *sorted) find(before func(*question) bool) (chunk, place int) {
	chunk = sort.Search(len(s.chunks), func(i int) bool { return !before(s.chunks[i][len(s.chunks[i])-1]) })
	if chunk < len(s.chunks) {
		place = sort.Search(len(s.chunks[chunk]), func(i int) bool { return !before(s.chunks[chunk][i]) })
	}
	return chunk, place
}

func (s *sorted) add(order storage.QuestionOrder, q *question) {
	c, i := s.find(func(other *question) bool { return compareIn(order, &other.row, &q.row) < 0 })
	if c == len(s.chunks) {
		if c == 0 {
			s.chunks = [][]*question{{q}}
			return
		}
		c--
		i = len(s.chunks[c])
	}
	chunk := slices.Insert(s.chunks[c], i, q)
	s.chunks[c] = chunk
	if half := len(chunk) / 2; len(chunk) > chunkSize {
		s.chunks[c] = slices.Clone(chunk[:half])
		s.chunks = slices.Insert(s.chunks, c+1, slices.Clone(chunk[half:]))
	}
}

func (s *sorted) remove(order storage.QuestionOrder, q *question) {
	c, i := s.find(func(other *question) bool { return compareIn(order, &other.row, &q.row) < 0 })
	if c == len(s.chunks) || s.chunks[c][i] != q {
		return
	}
	s.chunks[c] = slices.Delete(s.chunks[c], i, i+1)
	if len(s.chunks[c]) == 0 {
		s.chunks = slices.Delete(s.chunks, c, c+1)
	}
}

// from yields all entries from the first one that is not before something.
func (s *sorted) from(before func(*question) bool) iter.Seq[*question] {
	c, i := s.find(before)
	return func(yield func(*question) bool) {
		for ; c < len(s.chunks); c, i = c+1, 0 {
			for _, q := range s.chunks[c][i:] {
				if !yield(q) {
					return
				}
			}
		}
	}
}

// compareIn compares questions by tenant, by the order, and by id.
func compareIn(order storage.QuestionOrder, a, b *storage.Question) int {
	c := strings.Compare(a.Tenant, b.Tenant)
	if c == 0 {
		switch order {
		case storage.ByDeadline:
			c = compareDeadlines(a.Deadline, b.Deadline)
		case storage.ByPriority:
			c = cmp.Compare(b.Priority, a.Priority)
		default:
			c = a.Asked.Compare(b.Asked)
		}
	}
	if c == 0 {
		c = a.ID.Compare(b.ID)
	}
	return c
}
