package fermata

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/internal/schema"
	"github.com/fermata-go/fermata/internal/witness"
)

// Guarded is a task that only runs with an [Approval]: of the action that was
// shown to a person, or of that person's edit of it. Its function has no other caller.
//
//	approval, err := refund.Approve(ctx, action, fermata.NotBy(requester))
//	if err != nil {
//		return err // ErrPaused, ErrRejected, ErrExpired, …
//	}
//	receipt, err := refund.Run(ctx, approval)
type Guarded[Act, O any] struct {
	name     string
	fn       func(context.Context, Act) (O, error)
	task     *Task[Act, O]
	question *QuestionType[Act, Verdict[Act]]
	schemas  [2][]byte // without and with edits
	err      error
}

// NewGuarded defines a guarded task. Its name is that of its calls and of its
// questions. fn, Act, O and the options are as for [NewTask], but that nothing is [Cached].
// If Act has a method Validate() error, no action is shown, and no edit accepted, that doesn't pass it.
//
// An ill-defined task returns an error that matches [ErrDefinition] from each call.
func NewGuarded[Act, O any](name string, fn func(context.Context, Act) (O, error), options ...TaskOption) *Guarded[Act, O] {
	g := &Guarded[Act, O]{name: name, fn: fn}
	g.task = NewTask(name, fn, options...)
	g.question = &QuestionType[Act, Verdict[Act]]{name: name}
	if g.err = g.task.err; g.err != nil {
		return g
	}
	if g.task.policy != nil && g.task.policy.Cache != nil {
		g.err = definitionError("guarded task", name, errors.New("what is approved can't be cached"))
		return g
	}
	for edit := range g.schemas {
		if g.schemas[edit], g.err = verdictSchema(reflect.TypeFor[Verdict[Act]](), edit == 1); g.err != nil {
			return g
		}
		g.question.schema = g.schemas[edit]
		declare(declaration{name, reflect.TypeFor[Act](), reflect.TypeFor[Verdict[Act]]()}, rule{g.schemas[edit], checkStored[Act, Verdict[Act]]})
	}
	return g
}

// Name returns the name given to NewGuarded.
func (g *Guarded[Act, O]) Name() string { return g.name }

// Decision is what a person decides about an action.
type Decision string

// The decisions.
const (
	Approve Decision = "approve"
	Edit    Decision = "edit" // approve another action instead; see [AllowEdit]
	Reject  Decision = "reject"
)

// Verdict is the answer to the question of [Guarded.Approve].
type Verdict[Act any] struct {
	Decision Decision `json:"decision"`
	// Action replaces what was shown. It goes with Edit, and with nothing else: an approval
	// is of what was shown, whatever its answer says.
	Action *Act `json:"action,omitempty"`
	// Reason is for people and for the log.
	Reason string `json:"reason,omitempty"`
}

// Validate refuses a verdict that is none.
func (v *Verdict[Act]) Validate() error {
	switch v.Decision {
	case Approve, Reject:
		if v.Action != nil {
			return &AnswerError{Fields: []FieldError{{Pointer: "/action", Message: "goes only with the decision edit"}}}
		}
		return nil
	case Edit:
		if v.Action == nil {
			return &AnswerError{Fields: []FieldError{{Pointer: "/action", Message: "is missing: an edit needs the edited action"}}}
		}
		err := validate(v.Action)
		var fields *AnswerError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &fields):
			inner := &AnswerError{}
			for _, f := range fields.Fields {
				inner.Fields = append(inner.Fields, FieldError{Pointer: "/action" + f.Pointer, Message: f.Message})
			}
			return inner
		}
		return &AnswerError{Fields: []FieldError{{Pointer: "/action", Message: err.Error()}}}
	}
	return &AnswerError{Fields: []FieldError{{Pointer: "/decision", Message: "must be approve, edit or reject"}}}
}

// verdictSchema narrows the schema of a Verdict to those that can be given.
func verdictSchema(t reflect.Type, edit bool) ([]byte, error) {
	data, err := schemaOf(t)
	if err != nil {
		return nil, err
	}
	var s map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&s); err != nil {
		return nil, definitionError("answer", t.String(), err)
	}
	properties, ok := s["properties"].(map[string]any)
	if !ok {
		return nil, definitionError("answer", t.String(), errors.New("its schema has no properties"))
	}
	decisions := []Decision{Approve, Reject}
	if edit {
		decisions = []Decision{Approve, Edit, Reject}
		s["if"] = map[string]any{"properties": map[string]any{"decision": map[string]any{"const": Edit}}}
		s["then"] = map[string]any{"required": []string{"action"}}
		s["else"] = map[string]any{"properties": map[string]any{"action": false}}
	} else {
		delete(properties, "action")
	}
	properties["decision"] = map[string]any{"type": "string", "enum": decisions}
	if data, err = json.Marshal(s); err != nil {
		return nil, definitionError("answer", t.String(), err)
	}
	if err := schema.Validate(data, []byte(`{"decision":"approve"}`)); err != nil {
		return nil, definitionError("answer", t.String(), err)
	}
	return data, nil
}

// ApproveOption is an option of [Guarded.Approve]; every [AskOption] is one.
type ApproveOption interface{ applyApprove(*asking) error }

type approveOption func(*asking) error

func (o approveOption) applyApprove(a *asking) error { return o(a) }

// AllowEdit lets people approve another action instead of the one that is
// shown. Without it a verdict with an action is refused.
func AllowEdit() ApproveOption {
	return approveOption(func(a *asking) error {
		a.edit = true
		return nil
	})
}

// ValidFor bounds the time from the answer to the begin of [Guarded.Run]; then
// the approval has expired ([ErrApprovalExpired]). Default: no bound. A call that has begun goes on, also with another
// attempt of its own policy, or in a process that takes it over; one that is made again after it failed, as by
// [Thread.Continue], begins anew.
func ValidFor(d time.Duration) ApproveOption {
	return approveOption(func(a *asking) error {
		if d <= 0 {
			return invalidOption("approval valid for %s: must be greater than 0", d)
		}
		a.valid = d
		return nil
	})
}

// Approve asks for the approval of an action, or finds it. The question shows the
// action, and is answered with a [Verdict].
//
// Errors: those of [QuestionType.Ask]; [ErrRejected], as a *[RejectedError]; [ErrStaleApproval] if the verdict
// is on another action than this one (which is possible with [Lenient] replay, and after a [Repair]); [ErrInvalid] for an action
// that its own Validate method refuses. If the code drafts another action when it runs again, the run is
// parked: a verdict on one draft is never one on another.
func (g *Guarded[Act, O]) Approve(ctx context.Context, action Act, options ...ApproveOption) (*Approval[Act], error) {
	if g.err != nil {
		return nil, g.err
	}
	if err := validate(&action); err != nil {
		return nil, &Error{Reason: ErrInvalid, Err: fmt.Errorf("action of %q: %w", g.name, err), Hint: "show people only what may be done"}
	}
	var valid time.Duration
	ask := g.question.asking(action, func(a *asking) error {
		a.Def = g
		for _, option := range options {
			if err := option.applyApprove(a); err != nil {
				return err
			}
		}
		a.Schema, valid = g.schemas[0], a.valid
		if a.edit {
			a.Schema = g.schemas[1]
		}
		return nil
	})
	verdict, reply, err := ask.reply(ctx)
	if err != nil {
		return nil, err
	}
	s, err := engine.From(ctx)
	if err != nil {
		return nil, public(err)
	}
	v, q := valuesOf(s), reply.Question
	if reply.Stale {
		today, err := v.encode(action)
		if err != nil || !sameAction[Act](v, q.Payload, today) {
			return nil, &Error{Thread: q.Thread, Run: q.Run, Path: q.Path, Reason: ErrStaleApproval, Err: fmt.Errorf("question %s showed another action", q.ID), Hint: "ask again"}
		}
	}
	approval := &Approval[Act]{guard: g, values: v, data: q.Payload, edited: verdict.Decision == Edit, reason: verdict.Reason, by: q.By, question: q.ID}
	switch verdict.Decision {
	case Approve:
	case Edit:
		if approval.data, err = v.encode(*verdict.Action); err != nil {
			return nil, public(reply.Reject(err))
		}
	default:
		return nil, &RejectedError{Question: q.ID, Name: g.name, By: q.By, At: q.Settled, Reason: verdict.Reason}
	}
	if valid > 0 {
		approval.expires = q.Settled.Add(valid)
	}
	approval.grant = reply.Grant(approval.expires)
	return approval, nil
}

// Run does the approved action: fn is called with the stored one that was
// shown, or with the approved edit. An approval is used up by the first call that takes it, durably before fn
// is called; whatever becomes of that call, no other takes it.
//
// Errors: those of [Task.Call]; [ErrApprovalUsed] and [ErrApprovalExpired], as a *[TaskError]: this call has not called fn;
// [ErrStaleApproval] for an approval of another run, also of the one that this is a fork or a copy of, or of
// another Guarded; [ErrInvalid] for a nil one.
func (g *Guarded[Act, O]) Run(ctx context.Context, approval *Approval[Act], options ...CallOption) (O, error) {
	return g.Go(ctx, approval, options...).Result(ctx)
}

// RunAction is [Guarded.Run] for code that has the action at hand: an action that isn't
// exactly the approved one is refused with [ErrStaleApproval], and nothing is used up.
func (g *Guarded[Act, O]) RunAction(ctx context.Context, approval *Approval[Act], action Act, options ...CallOption) (O, error) {
	var zero O
	if err := g.check(approval); err != nil {
		return zero, err
	}
	data, err := approval.values.encode(action)
	if err != nil {
		return zero, fmt.Errorf("action of %q: %w", g.name, err)
	}
	if !sameAction[Act](approval.values, approval.data, data) {
		return zero, &Error{Reason: ErrStaleApproval, Err: fmt.Errorf("approved was %s, this is %s", approval.Digest(), digest(data)), Hint: "ask for the approval of this action"}
	}
	return g.Run(ctx, approval, options...)
}

// sameAction reports whether a stored action, written today, is the given one: a field that the type got since, and
// that is zero, makes no other action of it. A field that the type has lost does, unless it was zero.
func sameAction[Act any](v *values, stored, today []byte) bool {
	if bytes.Equal(stored, today) {
		return true
	}
	var action Act
	if v.decode(stored, &action) != nil {
		return false
	}
	again, err := v.encode(action)
	return err == nil && bytes.Equal(again, today) && witness.Equal(witness.Of(stored), witness.Of(today))
}

// Go starts [Guarded.Run] and returns at once.
func (g *Guarded[Act, O]) Go(ctx context.Context, approval *Approval[Act], options ...CallOption) *Future[O] {
	f, err := g.start(ctx, approval, options)
	if err != nil {
		return &Future[O]{err: public(err)}
	}
	return &Future[O]{call: f}
}

func (g *Guarded[Act, O]) check(approval *Approval[Act]) error {
	switch {
	case g.err != nil:
		return g.err
	case approval == nil || approval.grant == nil:
		return &Error{Reason: ErrInvalid, Err: fmt.Errorf("%q without an approval", g.name), Hint: "use what Approve returns, and heed its error"}
	case approval.guard != g:
		return &Error{Reason: ErrStaleApproval, Err: fmt.Errorf("it is not an approval of %q", g.name), Hint: "an approval is for the Guarded that asked for it"}
	}
	return nil
}

func (g *Guarded[Act, O]) start(ctx context.Context, approval *Approval[Act], options []CallOption) (*engine.Future, error) {
	if err := g.check(approval); err != nil {
		return nil, err
	}
	v := approval.values
	action, err := approval.decode()
	if err != nil {
		return nil, err
	}
	call := engine.Call{
		Def: g, Name: g.name, Input: approval.data, Value: action, Policy: g.task.policy, Grant: approval.grant,
		Do: func(ctx context.Context) ([]byte, error) {
			own, err := approval.decode() // fn may change what its copy points to
			if err != nil {
				return nil, err
			}
			out, err := g.fn(ctx, own)
			if err != nil {
				return nil, err
			}
			return v.encode(out)
		},
	}
	for _, option := range options {
		option.applyCall(&call)
	}
	return engine.Go(ctx, call)
}

// Approval is the right to run one approved action once, in the run that asked
// for it. Only [Guarded.Approve] makes one; it can't be stored, sent or answered.
type Approval[Act any] struct {
	guard    any
	values   *values
	data     []byte // the approved action
	edited   bool
	reason   string
	by       Principal
	question ID
	expires  time.Time
	grant    *engine.Grant
}

func (a *Approval[Act]) decode() (Act, error) {
	var action Act
	err := a.values.decode(a.data, &action)
	return action, err
}

// Action returns a copy of what was approved.
func (a *Approval[Act]) Action() (Act, error) {
	if a == nil || a.values == nil {
		var zero Act
		return zero, &Error{Reason: ErrInvalid, Hint: "an approval comes from Approve"}
	}
	return a.decode()
}

// Digest is the SHA-256 of the approved action as it is stored, in hex.
func (a *Approval[Act]) Digest() string { return digest(a.data) }

// Edited says whether the approved action is another than the one that was shown.
func (a *Approval[Act]) Edited() bool { return a.edited }

// Reason is what the verdict gives as its reason.
func (a *Approval[Act]) Reason() string { return a.reason }

// By is who approved; a [Default] is by a principal of the kind "timeout".
func (a *Approval[Act]) By() Principal { return a.by }

// Question is the id of the question.
func (a *Approval[Act]) Question() ID { return a.question }

// Expires is when it can't be used any more; zero: never.
func (a *Approval[Act]) Expires() time.Time { return a.expires }

// MarshalJSON refuses: an approval is not data.
func (a *Approval[Act]) MarshalJSON() ([]byte, error) {
	return nil, errors.New("an approval can't be stored or sent: approve and run in one function")
}

// UnmarshalJSON refuses, as MarshalJSON.
func (a *Approval[Act]) UnmarshalJSON([]byte) error {
	return errors.New("an approval can't be read from data: it comes from Approve")
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// RejectedError says who rejected an action, and why. It matches [ErrRejected].
type RejectedError struct {
	Question ID
	Name     string // of the [Guarded]
	By       Principal
	At       time.Time
	Reason   string
}

func (e *RejectedError) Error() string {
	s := fmt.Sprintf("fermata: %q was rejected", e.Name)
	if e.By.Subject != "" {
		s += " by " + e.By.Subject
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// Is reports whether target is [ErrRejected].
func (e *RejectedError) Is(target error) bool { return target == ErrRejected }
