package fermata

import (
	"context"
	"iter"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// QuestionOrder is the order of a list of questions; ties are ordered by id.
type QuestionOrder = storage.QuestionOrder

// The orders of a list of questions.
const (
	// ByAsked: oldest first.
	ByAsked = storage.ByAsked
	// ByDeadline: earliest deadline first, those without one last.
	ByDeadline = storage.ByDeadline
	// ByPriority: highest first.
	ByPriority = storage.ByPriority
)

// QuestionFilter selects questions of all threads and entrypoints. Zero fields don't restrict.
type QuestionFilter struct {
	_ [0]func()
	// States: any of these. To list what waits for people, give QuestionOpen.
	States     []QuestionState
	Thread     string
	Run        ID
	Entrypoint string
	Name       string   // of a declared question
	Key        string   // see [Key]
	Tags       []string // all of them
	DueBefore  time.Time
	// MinPriority: of this priority or a higher one, as new(5); nil: of any.
	MinPriority *int
	// For: only what this principal may answer. Subject, Groups and OnBehalfOf count.
	For   *Principal
	Order QuestionOrder
}

func (f *QuestionFilter) storage(tenant string) storage.QuestionFilter {
	return storage.QuestionFilter{
		Tenant: tenant, States: f.States, Thread: f.Thread, Run: f.Run, Entrypoint: f.Entrypoint, Name: f.Name, Key: f.Key,
		Tags: f.Tags, DueBefore: f.DueBefore, MinPriority: f.MinPriority, For: f.For, Order: f.Order,
	}
}

// Page says which part of a list is wanted.
type Page struct {
	// After is the Next of the page before, in the same order; "": the first page.
	After string
	// Limit is the highest number of questions; more than 1,000 means 1,000. Default: 100.
	Limit int
}

// QuestionPage is a part of a list of questions.
type QuestionPage struct {
	Questions []Question
	// Next continues the list; "": this was the end.
	Next string
}

// Questions lists questions. Pages are by key: what is asked or settled
// meanwhile neither repeats nor hides another question.
// Errors: [ErrInvalid] for an After that is none; [ErrStorage].
func (e *Engine) Questions(ctx context.Context, filter QuestionFilter, page Page) (*QuestionPage, error) {
	f := filter.storage(e.tenant)
	f.Limit = page.Limit
	questions, next, err := e.core.Questions(ctx, f, page.After)
	if err != nil {
		return nil, public(err)
	}
	out := &QuestionPage{Questions: make([]Question, len(questions)), Next: next}
	for i := range questions {
		out.Questions[i] = e.question(&questions[i])
	}
	return out, nil
}

// CountQuestions counts the questions that the filter selects, by their
// states. States without any are absent.
func (e *Engine) CountQuestions(ctx context.Context, filter QuestionFilter) (map[QuestionState]int, error) {
	counts, err := e.core.CountQuestions(ctx, filter.storage(e.tenant))
	return counts, public(err)
}

// Question reads one question, in any state. Errors: [ErrUnknownQuestion]; [ErrStorage].
func (e *Engine) Question(ctx context.Context, id ID) (Question, error) {
	q, err := e.core.Question(ctx, e.tenant, id)
	if err != nil {
		return Question{}, public(err)
	}
	return e.question(&q), nil
}

// QuestionChanges yields every question that was asked, settled or extended after the
// position after, as it is when it is read, and then goes on with what changes, in any process. It ends
// with an error: that of ctx, [ErrClosed], or [ErrStorage].
//
// The position is [Question].Change of the last one that was handled. 0 is the
// beginning; kept over a restart it misses no final state of any question. Changes of one question that come fast may
// merge into one. On PostgreSQL a change waits for earlier ones whose transactions are still open.
func (e *Engine) QuestionChanges(ctx context.Context, after int64) iter.Seq2[Question, error] {
	return func(yield func(Question, error) bool) {
		for q, err := range e.core.QuestionChanges(ctx, e.tenant, after) {
			if err != nil {
				yield(Question{}, public(err))
				return
			}
			if !yield(e.question(&q), nil) {
				return
			}
		}
	}
}
