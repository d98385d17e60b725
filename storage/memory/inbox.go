package memory

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// ListQuestions implements [storage.Questions].
func (b *Backend) ListQuestions(ctx context.Context, f storage.QuestionFilter) ([]storage.Question, error) {
	if _, err := b.begin(ctx); err != nil {
		return nil, err
	}
	defer b.end()
	var list []storage.Question
	if onlyOpen(&f) {
		for q := range b.open.of(&f) {
			if len(list) == pageSize(f.Limit) {
				break
			}
			if match(&q.row, &f) {
				list = append(list, q.snapshot())
			}
		}
		return list, nil
	}
	var found []*question
	for q := range b.candidates(&f) {
		if match(&q.row, &f) && (f.After == nil || follows(&q.row, &f)) {
			found = append(found, q)
		}
	}
	slices.SortFunc(found, func(a, b *question) int { return compareIn(f.Order, &a.row, &b.row) })
	for _, q := range found[:min(len(found), pageSize(f.Limit))] {
		list = append(list, q.snapshot())
	}
	return list, nil
}

// follows reports whether q is not on the pages up to f.After.
func follows(q *storage.Question, f *storage.QuestionFilter) bool {
	last := *f.After
	last.Tenant = f.Tenant
	return compareIn(f.Order, q, &last) > 0
}

// onlyOpen reports whether f is about open questions of all threads.
func onlyOpen(f *storage.QuestionFilter) bool {
	return len(f.States) == 1 && f.States[0] == storage.Open && f.Run.IsZero() && f.Thread == ""
}

// CountQuestions implements [storage.Questions].
func (b *Backend) CountQuestions(ctx context.Context, f storage.QuestionFilter) (map[storage.QuestionState]int, error) {
	if _, err := b.begin(ctx); err != nil {
		return nil, err
	}
	defer b.end()
	f.After, f.Order = nil, storage.ByAsked
	switch { // An order that ends where nothing more is selected.
	case !f.DueBefore.IsZero():
		f.Order = storage.ByDeadline
	case f.MinPriority != nil:
		f.Order = storage.ByPriority
	}
	counts := map[storage.QuestionState]int{}
	for q := range b.candidates(&f) {
		if match(&q.row, &f) {
			counts[q.row.State]++
		}
	}
	return counts, nil
}

// candidates yields all questions that may match, in no order.
func (b *Backend) candidates(f *storage.QuestionFilter) iter.Seq[*question] {
	switch {
	case !f.Run.IsZero():
		r := b.runs[runKey{f.Tenant, f.Run}]
		if r == nil {
			return func(func(*question) bool) {}
		}
		return slices.Values(r.questions)
	case f.Thread != "":
		return func(yield func(*question) bool) {
			t := b.threads[threadKey{f.Tenant, f.Thread}]
			if t == nil {
				return
			}
			for _, r := range t.runs {
				for _, q := range r.questions {
					if !yield(q) {
						return
					}
				}
			}
		}
	case onlyOpen(f):
		return b.open.of(f)
	}
	return maps.Values(b.questions)
}

func match(q *storage.Question, f *storage.QuestionFilter) bool {
	return q.Tenant == f.Tenant &&
		(len(f.States) == 0 || slices.Contains(f.States, q.State)) &&
		(f.Thread == "" || q.Thread == f.Thread) &&
		(f.Run.IsZero() || q.Run == f.Run) &&
		(f.Entrypoint == "" || q.Entrypoint == f.Entrypoint) &&
		(f.Name == "" || q.Name == f.Name) &&
		(f.Key == "" || q.Key == f.Key) &&
		!slices.ContainsFunc(f.Tags, func(tag string) bool { return !slices.Contains(q.Tags, tag) }) &&
		isDue(q, f) &&
		isUrgent(q, f) &&
		(f.For == nil || mayAnswer(q, f.For))
}

func mayAnswer(q *storage.Question, p *storage.Principal) bool {
	if len(q.NotBy) > 0 && (p.Subject == "" || slices.Contains(q.NotBy, p.Subject) || slices.Contains(q.NotBy, p.OnBehalfOf)) {
		return false
	}
	return len(q.Users) == 0 && len(q.Groups) == 0 ||
		slices.Contains(q.Users, p.Subject) ||
		slices.ContainsFunc(p.Groups, func(g string) bool { return slices.Contains(q.Groups, g) })
}

func isDue(q *storage.Question, f *storage.QuestionFilter) bool {
	return f.DueBefore.IsZero() || !q.Deadline.IsZero() && q.Deadline.Before(f.DueBefore)
}

func isUrgent(q *storage.Question, f *storage.QuestionFilter) bool {
	return f.MinPriority == nil || q.Priority >= *f.MinPriority
}

func compareDeadlines(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

// QuestionChanges implements [storage.Questions].
func (b *Backend) QuestionChanges(ctx context.Context, tenant string, after int64, limit int) ([]storage.Question, error) {
	if _, err := b.begin(ctx); err != nil {
		return nil, err
	}
	defer b.end()
	var list []storage.Question
	for q := range b.feed.after(after) {
		if len(list) == pageSize(limit) {
			break
		}
		if q.row.Tenant == tenant {
			list = append(list, q.snapshot())
		}
	}
	return list, nil
}

// feed is the line of all questions in the order of their last change.
type feed struct {
	last    int64
	entries []change
	live    int // entries that are still the last change of an existing question
}

type change struct {
	number   int64
	question *question // its row.Change is number unless it was changed again
}

// changed gives a question the next change number.
func (b *Backend) changed(q *question) {
	f := &b.feed
	if q.row.Change == 0 {
		f.live++
	}
	f.last++
	q.row.Change = f.last
	f.entries = append(f.entries, change{f.last, q})
	if len(f.entries) > 2*f.live+1024 {
		f.entries = slices.DeleteFunc(f.entries, change.dead)
	}
	b.note(q.run, storage.Note{Questions: true})
}

func (c change) dead() bool { return c.question.row.Change != c.number }

// forget takes a removed question out of the feed.
func (f *feed) forget(q *question) {
	q.row.Change = -1
	f.live--
}

func (f *feed) after(number int64) iter.Seq[*question] {
	i, _ := slices.BinarySearchFunc(f.entries, number+1, func(c change, n int64) int { return cmp.Compare(c.number, n) })
	return func(yield func(*question) bool) {
		for _, c := range f.entries[i:] {
			if !c.dead() && !yield(c.question) {
				return
			}
		}
	}
}
