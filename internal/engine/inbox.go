package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// A page has defaultPage questions if nothing is said, and at most maxPage.
const (
	defaultPage = 100
	maxPage     = 1000
)

// latest is the last time that a deadline may have: encoding/json writes none that is later.
var latest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// cursor is where a page of questions ended: the key of its last one. Its times are in microseconds, as backends keep them.
type cursor struct {
	Order    storage.QuestionOrder `json:"o,omitempty"`
	ID       storage.ID            `json:"i"`
	Asked    int64                 `json:"a"`
	Deadline *int64                `json:"d,omitempty"`
	Priority int                   `json:"p,omitempty"`
}

func cursorAt(order storage.QuestionOrder, q *storage.Question) cursor {
	c := cursor{Order: order, ID: q.ID, Asked: q.Asked.UnixMicro(), Priority: q.Priority}
	if !q.Deadline.IsZero() {
		c.Deadline = new(q.Deadline.UnixMicro())
	}
	return c
}

func (c cursor) question() *storage.Question {
	q := &storage.Question{ID: c.ID, Asked: time.UnixMicro(c.Asked).UTC(), Priority: c.Priority}
	if c.Deadline != nil {
		q.Deadline = time.UnixMicro(*c.Deadline).UTC()
	}
	return q
}

func (c cursor) String() string {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // numbers always encode
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func parseCursor(s string, order storage.QuestionOrder) (*storage.Question, error) {
	var c cursor
	data, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		err = d.Decode(&c)
	}
	switch {
	case err != nil:
	case c.ID.IsZero() || cursorAt(c.Order, c.question()).String() != s:
		err = errors.New("it was not made by a page")
	case c.Order != order:
		err = errors.New("it is of a list in another order")
	}
	if err != nil {
		return nil, &Error{Op: "questions", Reason: ErrInvalid, Err: fmt.Errorf("bad cursor %.40q: %w", s, err), Hint: "pass the cursor of the page before, with the same order"}
	}
	return c.question(), nil
}

// Questions returns a page of questions and the cursor of the next one; "" is the end.
func (e *Engine) Questions(ctx context.Context, f storage.QuestionFilter, after string) ([]storage.Question, string, error) {
	if after != "" {
		last, err := parseCursor(after, f.Order)
		if err != nil {
			return nil, "", err
		}
		f.After = last
	}
	if f.Limit <= 0 {
		f.Limit = defaultPage
	}
	limit := min(f.Limit, maxPage)
	f.Limit = limit + 1 // one more tells whether there is a next page
	f.DueBefore = bounded(f.DueBefore)
	questions, err := e.backend.ListQuestions(ctx, f)
	if err != nil {
		return nil, "", storageError("questions", "", storage.ID{}, err)
	}
	if len(questions) <= limit {
		return questions, "", nil
	}
	questions = questions[:limit]
	return questions, cursorAt(f.Order, &questions[limit-1]).String(), nil
}

// bounded is a time before which deadlines may lie, as one that every backend knows. The zero time stays.
func bounded(t time.Time) time.Time {
	switch first := time.Unix(0, 0).UTC(); {
	case t.IsZero():
		return t
	case t.Before(first):
		return first
	case t.After(latest):
		return latest.Add(time.Microsecond)
	}
	return t
}

// CountQuestions counts questions by their states.
func (e *Engine) CountQuestions(ctx context.Context, f storage.QuestionFilter) (map[storage.QuestionState]int, error) {
	f.DueBefore = bounded(f.DueBefore)
	counts, err := e.backend.CountQuestions(ctx, f)
	return counts, storageError("count questions", "", storage.ID{}, err)
}

// Question reads one question.
func (e *Engine) Question(ctx context.Context, tenant string, id storage.ID) (storage.Question, error) {
	q, err := e.backend.Question(ctx, tenant, id)
	if err != nil {
		return storage.Question{}, questionError("question", id, err)
	}
	return q, nil
}

// QuestionChanges yields questions that were opened, settled or extended after position after, each as it is
// when it is read, and goes on with what changes, until ctx ends.
func (e *Engine) QuestionChanges(ctx context.Context, tenant string, after int64) iter.Seq2[storage.Question, error] {
	return func(yield func(storage.Question, error) bool) {
		const op = "question changes"
		news, unsubscribe := e.hub.subscribe(anyQuestion)
		defer unsubscribe()
		// A change that is held back by an earlier one, whose transaction then rolls back, has no news of its own: the
		// feed looks again, soon after news and later ever more rarely.
		pause := e.options.Tick
		for {
			changed, err := e.backend.QuestionChanges(ctx, tenant, after, defaultPage)
			if err != nil {
				if ended := ctx.Err(); ended != nil {
					err = ended
				} else {
					err = storageError(op, "", storage.ID{}, err)
				}
				yield(storage.Question{}, err)
				return
			}
			for _, q := range changed {
				after = q.Change
				if !yield(q, nil) {
					return
				}
			}
			if len(changed) > 0 {
				pause = e.options.Tick
				continue
			}
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
				pause = min(2*pause, 64*e.options.Tick)
			case _, open := <-news:
				timer.Stop()
				pause = e.options.Tick
				if !open {
					yield(storage.Question{}, &Error{Op: op, Reason: ErrClosed, Hint: "go on from the last position with another engine"})
					return
				}
			case <-ctx.Done():
				timer.Stop()
				yield(storage.Question{}, ctx.Err())
				return
			}
		}
	}
}
