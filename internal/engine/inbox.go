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

// defaultPage is how many questions a page has if nothing is said.
const defaultPage = 100

// cursor is where a page of questions ended: the key of its last one.
type cursor struct {
	Order    storage.QuestionOrder `json:"o,omitempty"`
	ID       storage.ID            `json:"i"`
	Asked    time.Time             `json:"a"`
	Deadline time.Time             `json:"d,omitzero"`
	Priority int                   `json:"p,omitempty"`
}

func (c cursor) String() string {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // times of a database always encode
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
	case c.ID.IsZero() || c.String() != s:
		err = errors.New("it was not made by a page")
	case c.Order != order:
		err = errors.New("it is of a list in another order")
	}
	if err != nil {
		return nil, &Error{Op: "questions", Reason: ErrInvalid, Err: fmt.Errorf("bad cursor %.40q: %w", s, err), Hint: "pass the cursor of the page before, with the same order"}
	}
	return &storage.Question{ID: c.ID, Asked: c.Asked, Deadline: c.Deadline, Priority: c.Priority}, nil
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
	limit := f.Limit
	f.Limit++ // one more tells whether there is a next page
	questions, err := e.backend.ListQuestions(ctx, f)
	if err != nil {
		return nil, "", storageError("questions", "", storage.ID{}, err)
	}
	if len(questions) <= limit {
		return questions, "", nil
	}
	questions = questions[:limit]
	last := &questions[limit-1]
	return questions, cursor{Order: f.Order, ID: last.ID, Asked: last.Asked, Deadline: last.Deadline, Priority: last.Priority}.String(), nil
}

// CountQuestions counts questions by their states.
func (e *Engine) CountQuestions(ctx context.Context, f storage.QuestionFilter) (map[storage.QuestionState]int, error) {
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
				continue
			}
			select {
			case _, open := <-news:
				if !open {
					yield(storage.Question{}, &Error{Op: op, Reason: ErrClosed, Hint: "go on from the last position with another engine"})
					return
				}
			case <-ctx.Done():
				yield(storage.Question{}, ctx.Err())
				return
			}
		}
	}
}
