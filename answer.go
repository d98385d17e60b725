package fermata

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/fermata-go/fermata/internal/codec"
	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/storage"
)

// Answer answers an open question by its id. If this engine has the question's entrypoint the
// run goes on here, unless the options say [Enqueue]; else it is left to a process that has it.
//
// value is checked before anything moves: against the schema that is stored with the
// question, and, if this process has declared the question with [NewQuestion], by the Validate method of its
// answer type. An answer that is JSON already is given as a [json.RawMessage].
//
// Exactly one answer of a question is accepted, before its deadline. Errors: [ErrUnknownQuestion];
// [ErrAlreadyAnswered], [ErrExpired], [ErrWithdrawn], [ErrSuperseded] if it is
// not open any more; [ErrInvalidAnswer] with an *[AnswerError], [ErrNotAllowed]: it stays open;
// [ErrInvalid] for a principal of another kind than "person" and "policy", or with texts that are not UTF-8 or have a
// NUL; [ErrClosed]; [ErrStorage]. Who won, when and with what is in [Error].Questions, if the principal is in the
// question's audience.
func (e *Engine) Answer(ctx context.Context, question ID, value any, options ...AnswerOption) (*Receipt, error) {
	result := e.AnswerMany(ctx, []Reply{{Question: question, Value: value, Options: options}})[0]
	return result.Receipt, result.Err
}

// Reply is one of several answers; see [Engine.Answer].
type Reply struct {
	Question ID
	Value    any
	Options  []AnswerOption
}

// ReplyResult is what became of a [Reply]: one of its fields is nil.
type ReplyResult struct {
	Receipt *Receipt
	Err     error
}

// AnswerMany answers several questions in one commit, each accepted or refused
// alone, as by [Engine.Answer]. There is one result per reply, in order.
func (e *Engine) AnswerMany(ctx context.Context, replies []Reply) []ReplyResult {
	results := make([]ReplyResult, len(replies))
	var answers []engine.Answer
	var of []int
	for i, r := range replies {
		a, err := e.answer("answer", r.Value, r.Options)
		if err != nil {
			results[i].Err = err
			continue
		}
		a.Question = r.Question
		answers, of = append(answers, a), append(of, i)
	}
	for n, answered := range e.core.AnswerMany(ctx, answers) {
		i, h := of[n], answered.Handle
		if answered.Err != nil {
			results[i].Err = e.public(answered.Err)
			continue
		}
		results[i].Receipt = &Receipt{
			Question: replies[i].Question, Thread: h.Run.Thread, Run: h.Run.ID, Repeated: h.Repeated, handle: h, engine: e,
		}
	}
	return results
}

// answer prepares an answer for the engine below.
func (e *Engine) answer(op string, value any, options []AnswerOption) (engine.Answer, error) {
	a := engine.Answer{Tenant: e.tenant, By: storage.Principal{Kind: "person"}}
	raw, isRaw := value.(json.RawMessage)
	plain := e.values.codec.Name() == "json"
	if isRaw && !plain {
		if err := json.Unmarshal(raw, &value); err != nil {
			return a, &Error{Op: op, Reason: ErrInvalidAnswer, Err: &AnswerError{Fields: []FieldError{{Message: err.Error()}}}}
		}
	}
	var err error
	if a.Value, err = e.values.encode(value); err == nil && !plain {
		if a.JSON, err = e.values.json(a.Value); err == nil && isRaw {
			// What is kept must be what was given: an any, which the codec is handed, holds numbers as float64.
			if lossy, ok := errors.AsType[*codec.Error](codec.SameJSON(raw, a.JSON)); ok {
				err = &AnswerError{Fields: []FieldError{{Pointer: lossy.Path, Message: lossy.Err.Error()}}}
			}
			a.JSON = raw
		}
	}
	if err != nil {
		return a, &Error{Op: op, Reason: ErrInvalidAnswer, Err: err}
	}
	for _, option := range options {
		option.applyAnswer(&a)
	}
	return a, nil
}

// Receipt says that an answer was accepted.
type Receipt struct {
	Question ID
	Thread   string
	Run      ID
	// Repeated: the same answer was given before, with the same [IdempotencyKey].
	Repeated bool
	handle   *engine.Handle
	engine   *Engine
}

// Wait waits until the run that asked rests again: ended, or waiting for a person. It
// returns what [Run.Result] would, as JSON.
func (r *Receipt) Wait(ctx context.Context) ([]byte, error) {
	data, err := r.engine.rest(ctx, r.handle, nil)
	if err != nil {
		return nil, err
	}
	return r.engine.values.json(data)
}

// Withdraw ends an open question without an answer: the code that asked gets [ErrWithdrawn]. Who may do that is the
// caller's to decide: by need not be in the question's audience. A by without a Kind is a person.
// Errors: as [Engine.Answer] for a principal that is none, and for a question that is not open.
func (e *Engine) Withdraw(ctx context.Context, question ID, by Principal) error {
	_, err := e.core.Withdraw(ctx, e.tenant, question, by)
	return e.public(err)
}

// ExtendDeadline sets the deadline of an open question, or removes it if
// deadline is zero, and returns the question as it is now. What happens at the deadline stays, and so do reminders.
// Errors: [ErrInvalid] for a time that has passed, or is after the year 9999; as [Engine.Answer] for a question that is not open.
func (e *Engine) ExtendDeadline(ctx context.Context, question ID, deadline time.Time) (Question, error) {
	q, err := e.core.Extend(ctx, e.tenant, question, deadline)
	if err != nil {
		return Question{}, e.public(err)
	}
	return e.question(&q), nil
}

// AnswerOption is an option of one answer.
type AnswerOption interface{ applyAnswer(*engine.Answer) }

type answerOption func(*engine.Answer)

func (o answerOption) applyAnswer(a *engine.Answer) { o(a) }

// Principal is who answers, as the caller asserts it: whoever holds the engine is trusted.
//
// Its Kind is "person" or "policy" (a rule that answers by itself); "timeout" is
// the engine's. Users and exclusions of a question are compared with Subject, its groups with Groups, all byte for byte:
// "Ada" is not "ada". Who acts for somebody that is excluded (OnBehalfOf) is excluded too. A question that excludes anybody is not answered without a Subject.
type Principal = storage.Principal

// By says who answers. Default: a person without a name.
func By(p Principal) AnswerOption {
	return answerOption(func(a *engine.Answer) {
		a.By = p
		if a.By.Kind == "" {
			a.By.Kind = "person"
		}
	})
}

// IdempotencyKey makes an answer repeatable: the same answer by the same
// principal (of the same Kind and Subject, on behalf of the same), sent again with the same key, gets the same [Receipt]. Another answer with the key is
// refused with [ErrAlreadyAnswered], as without it.
func IdempotencyKey(key string) AnswerOption {
	return answerOption(func(a *engine.Answer) { a.Key = key })
}

// Directory knows who is in a group; see Options.Directory.
type Directory interface {
	// Members lists the subjects of the principals in a group. An error is logged, and the question asked all the same.
	Members(ctx context.Context, tenant, group string) ([]string, error)
}

// public is public with the questions' values as JSON, whatever the engine's codec.
func (e *Engine) public(err error) error {
	inner, ok := err.(*engine.Error)
	out := public(err)
	if ok && e.values.codec.Name() != "json" {
		questions := out.(*Error).Questions
		for i := range inner.Questions {
			questions[i] = e.question(&inner.Questions[i])
		}
	}
	return out
}
