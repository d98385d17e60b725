package fermata

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/internal/schema"
	"github.com/fermata-go/fermata/storage"
)

// asking is a question as its options add up to.
type asking struct {
	engine.Ask
	answer reflect.Type
	values *values                                                   // nil while a definition is checked
	check  func(v *values, q *storage.Question, answer []byte) error // of a declared question
	// Of an approval:
	edit  bool
	valid time.Duration
}

// AskOption is an option of one question. Its texts are UTF-8 without NUL, and keys, tags, users and groups have at
// most 1,000 bytes each: asking with others returns [ErrInvalid], and asks nothing.
type AskOption interface {
	ApproveOption
	applyAsk(*asking) error
}

// QuestionOption is an option of a declared question: it holds for each time it
// is asked, before the options of the call.
type QuestionOption interface {
	AskOption
	applyQuestion()
}

// askOption fits one question, sharedOption its definition too.
type (
	askOption    func(*asking) error
	sharedOption func(*asking) error
)

func (o askOption) applyAsk(a *asking) error        { return o(a) }
func (o askOption) applyApprove(a *asking) error    { return o(a) }
func (o sharedOption) applyAsk(a *asking) error     { return o(a) }
func (o sharedOption) applyApprove(a *asking) error { return o(a) }
func (o sharedOption) applyQuestion()               {}

func invalidOption(format string, args ...any) error {
	return &Error{Reason: ErrInvalid, Err: fmt.Errorf("option of a question: "+format, args...)}
}

// Title is a line that says to people what is asked.
func Title(title string) QuestionOption {
	return sharedOption(func(a *asking) error {
		a.Details.Title = title
		return nil
	})
}

// Description says more than [Title], in Markdown.
func Description(markdown string) QuestionOption {
	return sharedOption(func(a *asking) error {
		a.Details.Description = markdown
		return nil
	})
}

// Users may answer, by their [Principal].Subject. With neither Users nor [Groups] everyone may.
func Users(subjects ...string) QuestionOption {
	return sharedOption(func(a *asking) error { return addNames(&a.Users, "Users", subjects) })
}

// Groups may answer: each principal who is in one of them, see [Principal].Groups.
func Groups(groups ...string) QuestionOption {
	return sharedOption(func(a *asking) error { return addNames(&a.Groups, "Groups", groups) })
}

// NotBy excludes principals by their Subject, whatever else holds: the requester, those who approved
// before. An audience of which nobody is left is refused with [ErrUnsatisfiable]. An empty name excludes nobody.
func NotBy(subjects ...string) QuestionOption {
	subjects = slices.DeleteFunc(slices.Clone(subjects), func(s string) bool { return s == "" })
	return sharedOption(func(a *asking) error { return addNames(&a.NotBy, "NotBy", subjects) })
}

// addNames adds to a set that may also be a definition's.
func addNames(to *[]string, option string, names []string) error {
	if slices.Contains(names, "") {
		// Left out, it would open the question to everyone.
		return invalidOption("%s with an empty name", option)
	}
	*to = slices.Concat(*to, names)
	return nil
}

// Priority orders lists of questions; higher is more urgent. Default: 0.
func Priority(priority int) QuestionOption {
	return sharedOption(func(a *asking) error {
		a.Priority = priority
		return nil
	})
}

// Tags are for finding the question; see [QuestionFilter].
func Tags(tags ...string) QuestionOption {
	return sharedOption(func(a *asking) error { return addNames(&a.Tags, "Tags", tags) })
}

// Unique is a business key: while a question of the same name (for [Interrupt]: none) and key is open
// on any thread, another is not asked, and its code gets [ErrNotUnique].
func Unique(key string) AskOption {
	return askOption(func(a *asking) error {
		if key == "" {
			return invalidOption("Unique with an empty key")
		}
		a.Unique = key
		return nil
	})
}

// Remind sets times, counted from when the question is asked, at which people
// are to be reminded of it, as long as it is open. When one has come, some live process that has the
// entrypoint takes up the run and calls Options.Remind: the run's code runs again up to the question.
func Remind(after ...time.Duration) QuestionOption {
	return sharedOption(func(a *asking) error {
		for _, d := range after {
			if d <= 0 {
				return invalidOption("reminder after %s: must be greater than 0", d)
			}
		}
		a.Remind = slices.Concat(a.Remind, after)
		slices.Sort(a.Remind)
		return nil
	})
}

// Deadline bounds the time for an answer, counted from when the question is
// asked. An answer that comes later is refused, whatever was down meanwhile. then says what the code
// gets: [Default] or [FailRun]; without it an error that matches [ErrExpired], which is not a refusal.
func Deadline(d time.Duration, then ...Expiry) QuestionOption {
	return sharedOption(func(a *asking) error {
		if d <= 0 {
			return invalidOption("deadline after %s: must be greater than 0", d)
		}
		if len(then) > 1 {
			return invalidOption("deadline with %d outcomes: one at most", len(then))
		}
		a.Deadline, a.Details.Expire, a.Details.Default = d, engine.ExpireError, nil
		for _, outcome := range then {
			return outcome.applyExpiry(a)
		}
		return nil
	})
}

// Expiry says what the end of a question's time means to the code; see [Deadline].
type Expiry interface{ applyExpiry(*asking) error }

type expiry func(*asking) error

func (e expiry) applyExpiry(a *asking) error { return e(a) }

// Default gives the code an answer when the deadline has passed. A is the
// question's answer type; another is refused ([ErrInvalid]; in a definition [ErrDefinition]), as is an answer that
// a person could not give: by the schema, or by its Validate and ValidateFor methods. Who answered is then a
// [Principal] of the kind "timeout".
func Default[A any](answer A) Expiry {
	return expiry(func(a *asking) error {
		if a.answer != reflect.TypeFor[A]() {
			return invalidOption("default of type %s, the answer is %s", reflect.TypeFor[A](), a.answer)
		}
		if err := validate(&answer); err != nil {
			return invalidOption("default: %w", err)
		}
		a.Details.Expire = engine.ExpireDefault
		if a.values == nil {
			return nil
		}
		data, err := a.values.encode(answer)
		if err != nil {
			return invalidOption("default: %w", err)
		}
		a.Details.Default = data
		return nil
	})
}

// FailRun makes the run fail when the deadline has passed, whatever its code
// does, with an error that matches [ErrExpired]. Other questions of the same [AskAll] may still be open then; one of an
// [AskAny] fails the run unless another was answered.
func FailRun() Expiry {
	return expiry(func(a *asking) error {
		a.Details.Expire = engine.ExpireFail
		return nil
	})
}

// Asking is a question about to be asked, for [AskAll] and [AskAny].
type Asking[A any] struct {
	prepare func(*engine.Scope) (*engine.Ask, error)
	check   func(*values, *engine.Reply, *A) error
}

// Inline is the question that [Interrupt] would ask.
func Inline[A any](payload any, options ...AskOption) Asking[A] {
	return Asking[A]{
		prepare: func(s *engine.Scope) (*engine.Ask, error) {
			form, err := schemaOf(reflect.TypeFor[A]())
			if err != nil {
				return nil, err
			}
			a := asking{Ask: engine.Ask{Schema: form}, answer: reflect.TypeFor[A](), values: valuesOf(s)}
			for _, option := range options {
				if err := option.applyAsk(&a); err != nil {
					return nil, err
				}
			}
			return a.finish(payload)
		},
	}
}

// finish encodes the payload, and checks the default as an answer to it.
func (a *asking) finish(payload any) (*engine.Ask, error) {
	var err error
	if a.Payload, err = a.values.encode(payload); err != nil {
		return nil, fmt.Errorf("payload of a question: %w", err)
	}
	if a.Details.Default == nil {
		return &a.Ask, nil
	}
	plain, err := a.values.json(a.Details.Default)
	if err == nil {
		err = schema.Validate(a.Schema, plain)
	}
	if err == nil && a.check != nil {
		err = a.check(a.values, &storage.Question{Payload: a.Payload}, a.Details.Default)
	}
	if err != nil {
		return nil, invalidOption("default: %w", public(err))
	}
	return &a.Ask, nil
}

// read makes the code's value of a reply. One that today's code can't take parks the run.
func (a Asking[A]) read(s *engine.Scope, reply *engine.Reply) (A, error) {
	var answer A
	v := valuesOf(s)
	err := v.decode(reply.Value, &answer)
	if err == nil && a.check != nil {
		err = a.check(v, reply, &answer)
	}
	if err != nil {
		var zero A
		return zero, public(reply.Reject(err))
	}
	return answer, nil
}

// ask asks one question.
func (a Asking[A]) ask(ctx context.Context) (A, error) {
	answer, _, err := a.reply(ctx)
	return answer, err
}

func (a Asking[A]) reply(ctx context.Context) (A, *engine.Reply, error) {
	var zero A
	s, err := engine.From(ctx)
	if err != nil {
		return zero, nil, public(err)
	}
	ask, err := a.prepare(s)
	if err != nil {
		return zero, nil, err
	}
	reply, err := engine.Interrupt(ctx, ask)
	if err != nil {
		return zero, nil, public(err)
	}
	answer, err := a.read(s, reply)
	return answer, reply, err
}

func prepareAll[A any](ctx context.Context, asks []Asking[A]) (*engine.Scope, []*engine.Ask, error) {
	s, err := engine.From(ctx)
	if err != nil {
		return nil, nil, public(err)
	}
	if len(asks) == 0 {
		return nil, nil, &Error{Path: s.Path(), Reason: ErrInvalid, Err: errors.New("no question to ask")}
	}
	all := make([]*engine.Ask, len(asks))
	for i, a := range asks {
		if a.prepare == nil {
			return nil, nil, &Error{Path: s.Path(), Reason: ErrInvalid, Err: fmt.Errorf("question %d is the zero Asking", i), Hint: "make it with QuestionType.With or Inline"}
		}
		if all[i], err = a.prepare(s); err != nil {
			return nil, nil, err
		}
	}
	return s, all, nil
}

// AskAll asks several questions at once and returns their answers in order. All can be
// answered at once, in any order; while one is open AskAll returns an error that matches [ErrPaused]. Answered ones are
// never asked again. Of questions that ended otherwise, the error is that of the first; see [Interrupt].
func AskAll[A any](ctx context.Context, asks ...Asking[A]) ([]A, error) {
	s, all, err := prepareAll(ctx, asks)
	if err != nil {
		return nil, err
	}
	outcomes, err := engine.InterruptAll(ctx, all)
	if err != nil {
		return nil, public(err)
	}
	answers := make([]A, len(asks))
	for i, o := range outcomes {
		if o.Err != nil && err == nil {
			err = public(o.Err)
		}
		if o.Err == nil && err == nil {
			answers[i], err = asks[i].read(s, o.Reply)
		}
	}
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// AskAny asks several questions of which one is to be answered, and returns its index and its answer. The
// answer of one withdraws the others in the same transaction: whoever answers another gets [ErrWithdrawn]. If all
// end without an answer it returns the first [Default] in order, or else the error of the first.
func AskAny[A any](ctx context.Context, asks ...Asking[A]) (int, A, error) {
	var zero A
	s, all, err := prepareAll(ctx, asks)
	if err != nil {
		return 0, zero, err
	}
	winner, reply, err := engine.InterruptAny(ctx, all)
	if err != nil {
		return 0, zero, public(err)
	}
	answer, err := asks[winner].read(s, reply)
	return winner, answer, err
}
