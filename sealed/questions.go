package sealed

import (
	"context"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// sealQuestion returns what the backend gets to see of a new question. Keys are found by
// equality; a unique key counts per name.
func (b *Backend) sealQuestion(tenant string, q storage.Question) storage.Question {
	place := string(q.ID[:])
	seal := func(kind string, data []byte) []byte { return b.ring.current.seal(spot{kind, tenant}, place, data) }
	q.Payload, q.Digest, q.Details = seal("payload", q.Payload), seal("digest", q.Digest), seal("details", q.Details)
	q.Key = b.ring.token(spot{"key of a question", tenant}, "", q.Key)
	q.Unique = b.ring.token(spot{"unique key", tenant}, "", q.Unique)
	return q
}

func (b *Backend) openQuestion(q *storage.Question) error {
	if q.ID.IsZero() {
		return nil
	}
	for _, f := range []struct {
		kind string
		data *[]byte
	}{{"payload", &q.Payload}, {"digest", &q.Digest}, {"details", &q.Details}, {"answer", &q.Answer}} {
		if err := b.openBytes(f.kind, q.Tenant, f.data); err != nil {
			return fmt.Errorf("question %s: %w", q.ID, err)
		}
	}
	for _, f := range []struct {
		kind string
		text *string
	}{{"key of a question", &q.Key}, {"unique key", &q.Unique}} {
		plain, err := b.ring.openText(spot{f.kind, q.Tenant}, *f.text)
		if err != nil {
			return fmt.Errorf("question %s: %w", q.ID, err)
		}
		*f.text = plain
	}
	return nil
}

func (b *Backend) openQuestions(questions []storage.Question) error {
	for i := range questions {
		if err := b.openQuestion(&questions[i]); err != nil {
			return err
		}
	}
	return nil
}

// Settle implements [storage.Questions].
func (b *Backend) Settle(ctx context.Context, settlements []storage.Settlement) ([]storage.Settled, error) {
	hidden := make([]storage.Settlement, len(settlements))
	for i, s := range settlements {
		s.Answer = b.ring.current.seal(spot{"answer", s.Tenant}, string(s.Question[:]), s.Answer)
		hidden[i] = s
	}
	settled, err := b.Backend.Settle(ctx, hidden)
	if err != nil {
		return nil, err
	}
	for i := range settled {
		s := &settled[i]
		if s.Err != nil {
			s.Err = b.failure(settlements[i].Tenant, s.Err)
		}
		fault := b.openQuestion(&s.Question)
		if fault == nil && !s.Run.ID.IsZero() {
			fault = b.openRun(&s.Run)
		}
		if fault != nil {
			*s = storage.Settled{Err: fmt.Errorf("settled, but not to be read: %w", fault)}
		}
	}
	return settled, nil
}

// Extend implements [storage.Questions].
func (b *Backend) Extend(ctx context.Context, tenant string, question storage.ID, deadline time.Time) (storage.Question, error) {
	q, err := b.Backend.Extend(ctx, tenant, question, deadline)
	return b.oneQuestion(tenant, q, err)
}

// oneQuestion opens a question that the backend gave, or the error.
func (b *Backend) oneQuestion(tenant string, q storage.Question, err error) (storage.Question, error) {
	if err == nil {
		err = b.openQuestion(&q)
	} else {
		err = b.failure(tenant, err)
	}
	if err != nil {
		return storage.Question{}, err
	}
	return q, nil
}

// Question implements [storage.Questions].
func (b *Backend) Question(ctx context.Context, tenant string, question storage.ID) (storage.Question, error) {
	q, err := b.Backend.Question(ctx, tenant, question)
	return b.oneQuestion(tenant, q, err)
}

// sealFilter turns what is looked for into what the backend holds.
func (b *Backend) sealFilter(f storage.QuestionFilter) storage.QuestionFilter {
	f.Key = b.ring.token(spot{"key of a question", f.Tenant}, "", f.Key)
	return f
}

// ListQuestions implements [storage.Questions].
func (b *Backend) ListQuestions(ctx context.Context, f storage.QuestionFilter) ([]storage.Question, error) {
	questions, err := b.Backend.ListQuestions(ctx, b.sealFilter(f))
	if err == nil {
		err = b.openQuestions(questions)
	}
	if err != nil {
		return nil, err
	}
	return questions, nil
}

// CountQuestions implements [storage.Questions].
func (b *Backend) CountQuestions(ctx context.Context, f storage.QuestionFilter) (map[storage.QuestionState]int, error) {
	return b.Backend.CountQuestions(ctx, b.sealFilter(f))
}

// QuestionChanges implements [storage.Questions].
func (b *Backend) QuestionChanges(ctx context.Context, tenant string, after int64, limit int) ([]storage.Question, error) {
	questions, err := b.Backend.QuestionChanges(ctx, tenant, after, limit)
	if err == nil {
		err = b.openQuestions(questions)
	}
	if err != nil {
		return nil, err
	}
	return questions, nil
}
