package fermata

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/storage"
)

// QuestionType is a declared question: what is shown is a P, what is answered an A.
type QuestionType[P, A any] struct {
	name    string
	schema  []byte
	options []QuestionOption
	err     error
}

// NewQuestion declares a question. The name tells its questions apart in the
// record and in lists: don't change it while runs wait.
//
// P and A must survive being stored, and every value that the JSON Schema of A
// admits must be an A: a type that reads JSON by a method of its own is refused unless it says what it reads, with a method
// JSONSchema() []byte on its zero value. Any other type may have that method, too, to narrow what it takes: a string type
// that returns {"enum": ["red", "blue"]}, say, and the screens that show the question can offer a choice. Answers are checked
// against the schema, and then, in every process in which NewQuestion was called with this name,
//
//   - by A's method Validate() error, if it has one;
//   - by A's method ValidateFor(P) error, if it has one, with what was shown.
//
// Both must depend on nothing but their values. They may return an *[AnswerError] to
// name fields. A process that is linked without the definition checks the schema alone; the one that wakes the
// run checks all again, before the body runs: an answer that doesn't pass there is kept, and the run parked.
//
// An ill-defined question (no name, such a type, an option that doesn't fit) returns
// an error that matches [ErrDefinition] each time it is asked.
func NewQuestion[P, A any](name string, options ...QuestionOption) *QuestionType[P, A] {
	q := &QuestionType[P, A]{name: name, options: options}
	answer := reflect.TypeFor[A]()
	if q.err = checkDefinition("question", name, false, reflect.TypeFor[P](), answer); q.err == nil {
		q.schema, q.err = schemaOf(answer)
	}
	probe := asking{answer: answer}
	for _, option := range options {
		if err := option.applyAsk(&probe); err != nil && q.err == nil {
			q.err = definitionError("question", name, err)
		}
	}
	if q.err == nil {
		declare(q.declaration(), rule{q.schema, checkStored[P, A]})
	}
	return q
}

// Name returns the name given to NewQuestion.
func (q *QuestionType[P, A]) Name() string { return q.name }

// Ask asks the question, or finds its answer; see [Interrupt]. Declared questions are also told apart by their
// names: within one engine a name belongs to one question.
func (q *QuestionType[P, A]) Ask(ctx context.Context, payload P, options ...AskOption) (A, error) {
	return q.With(payload, options...).ask(ctx)
}

// With prepares the question for [AskAll] and [AskAny].
func (q *QuestionType[P, A]) With(payload P, options ...AskOption) Asking[A] {
	return q.asking(payload, func(a *asking) error {
		for _, option := range options {
			if err := option.applyAsk(a); err != nil {
				return err
			}
		}
		return nil
	})
}

func (q *QuestionType[P, A]) asking(payload P, apply func(*asking) error) Asking[A] {
	return Asking[A]{
		prepare: func(s *engine.Scope) (*engine.Ask, error) {
			if q.err != nil {
				return nil, q.err
			}
			a := asking{
				Ask: engine.Ask{Def: q, Name: q.name, Schema: q.schema}, answer: reflect.TypeFor[A](), values: valuesOf(s), check: checkStored[P, A],
			}
			for _, option := range q.options {
				if err := option.applyAsk(&a); err != nil {
					return nil, err
				}
			}
			if err := apply(&a); err != nil {
				return nil, err
			}
			return a.finish(payload)
		},
		check: func(v *values, reply *engine.Reply, answer *A) error {
			return checkFor[P](v, reply.Question.Payload, answer)
		},
	}
}

// validate calls the answer's own check. answer is a pointer.
func validate(answer any) (err error) {
	v, ok := answer.(interface{ Validate() error })
	if !ok {
		return nil
	}
	return guarded("Validate", v.Validate)
}

// guarded makes a panic of the user's check an error: the check also runs where nobody else would catch it.
func guarded(what string, check func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("%s panicked: %v", what, value)
		}
	}()
	return check()
}

// checkFor checks an answer to what was shown.
func checkFor[P any](v *values, payload []byte, answer any) error {
	if err := validate(answer); err != nil {
		return answerError(err)
	}
	check, ok := answer.(interface{ ValidateFor(P) error })
	if !ok {
		return nil
	}
	var shown P
	if err := v.decode(payload, &shown); err != nil {
		return fmt.Errorf("payload of the question: %w", err)
	}
	return answerError(guarded("ValidateFor", func() error { return check.ValidateFor(shown) }))
}

// answerError gives what a check said the form of an [AnswerError].
func answerError(err error) error {
	var fields *AnswerError
	if err == nil || errors.As(err, &fields) {
		return err
	}
	return &AnswerError{Fields: []FieldError{{Message: err.Error()}}}
}

// checkStored is the check of an answer as it is stored. One that can't be written again could be no approved action.
func checkStored[P, A any](v *values, q *storage.Question, data []byte) error {
	var answer A
	err := v.decode(data, &answer)
	if err == nil {
		_, err = v.encode(answer)
	}
	if err != nil {
		if value, ok := errors.AsType[*ValueError](err); ok {
			return &AnswerError{Fields: []FieldError{{Pointer: value.Path, Message: value.Err.Error()}}}
		}
		return err
	}
	return checkFor[P](v, q.Payload, &answer)
}

// declaration is what tells declared questions apart in one process.
type declaration struct {
	name            string
	payload, answer reflect.Type
}

func (q *QuestionType[P, A]) declaration() declaration {
	return declaration{q.name, reflect.TypeFor[P](), reflect.TypeFor[A]()}
}

// rule is how the answers of a declared question are checked.
type rule struct {
	schema []byte
	check  func(v *values, q *storage.Question, answer []byte) error
}

// declared are the questions that this process knows. They depend on types alone, so that a question
// declared twice is one.
var declared struct {
	sync.RWMutex
	rules map[string]map[declaration]rule
}

func declare(d declaration, r rule) {
	declared.Lock()
	defer declared.Unlock()
	if declared.rules == nil {
		declared.rules = map[string]map[declaration]rule{}
	}
	if declared.rules[d.name] == nil {
		declared.rules[d.name] = map[declaration]rule{}
	}
	declared.rules[d.name][d] = r
}

// checkAnswer checks an answer by the declaration of its question, if this process has one. Where several have the
// name, that counts which this engine's code asks with; as long as it has not asked, all with the stored schema do, and
// where none of them has it, the only one that there is.
func (v *values) checkAnswer(q *storage.Question, answer []byte) error {
	if q.Name == "" {
		return nil
	}
	asked, _ := v.engine.core.Defined(engine.KindQuestion, q.Name).(interface{ declaration() declaration })
	declared.RLock()
	var rules, same []rule
	for d, r := range declared.rules[q.Name] {
		if asked != nil && d != asked.declaration() {
			continue
		}
		rules = append(rules, r)
		if slices.Equal(r.schema, q.Schema) {
			same = append(same, r)
		}
	}
	declared.RUnlock()
	if len(same) == 0 && len(rules) == 1 {
		same = rules
	}
	for _, r := range same {
		if err := r.check(v, q, answer); err != nil {
			return err
		}
	}
	return nil
}
