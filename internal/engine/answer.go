package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/fermata-go/fermata/internal/schema"
	"github.com/fermata-go/fermata/storage"
)

// Answer is an answer to a question.
type Answer struct {
	Tenant   string
	Question storage.ID
	Value    []byte
	// JSON is Value as JSON, for the question's schema; nil: Value is JSON.
	JSON []byte
	By   storage.Principal
	Key  string // makes the answer repeatable
	// Enqueue leaves the run to whoever is free.
	Enqueue bool
	// Revision is for who calls [Engine.Resume]; the engine doesn't look at it.
	Revision *Revision

	question *storage.Question // as it was just read, open; nil: to be read
}

// Answered is what became of one [Answer]: a Handle of the run, or why it was refused.
type Answered struct {
	Handle *Handle
	Err    error
}

// Answer settles a question. The run goes on here if this engine knows its
// entrypoint; else it is left to a process that does.
func (e *Engine) Answer(ctx context.Context, a Answer) (*Handle, error) {
	answered := e.AnswerMany(ctx, []Answer{a})[0]
	return answered.Handle, answered.Err
}

// AnswerMany settles questions in one commit, each accepted or refused alone,
// in their order. There is one result per answer.
func (e *Engine) AnswerMany(ctx context.Context, answers []Answer) []Answered {
	const op = "answer"
	results := make([]Answered, len(answers))
	member, err := e.enter(op)
	if err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	defer e.leave()
	var settlements []storage.Settlement
	var of []int // settlement to answer
	entries := make([]*Entry, len(answers))
	runs := make([]storage.Run, len(answers)) // that asked, as far as they are needed here
	for i, a := range answers {
		q, err := e.checkAnswer(ctx, op, &a)
		if err != nil {
			results[i].Err = err
			continue
		}
		s := storage.Settlement{Tenant: a.Tenant, Question: a.Question, State: storage.Answered, Answer: a.Value, By: a.By, Key: a.Key}
		if entries[i] = e.entries[q.Entrypoint]; entries[i] != nil && !a.Enqueue {
			s.Member = member
		}
		runs[i] = storage.Run{ID: q.Run, Tenant: q.Tenant}
		settlements, of = append(settlements, s), append(of, i)
	}
	for n, settled := range e.settle(ctx, settlements) {
		i := of[n]
		if settled.Err != nil && entries[i] != nil {
			e.unsure(runs[i].Tenant, runs[i].ID, settled.Err)
		}
		a := &answers[i]
		if settled.Err == nil && settled.Repeated && (checkAudience(&settled.Question, a.By) != nil || !sameAnswer(&settled.Question, a)) {
			settled.Err = &storage.SettledError{Question: settled.Question}
		}
		if settled.Err != nil {
			results[i].Err = refuseAnswer(op, a, settled.Err)
			continue
		}
		results[i].Handle = e.follow(ctx, entries[i], member, settled)
	}
	return results
}

// sameAnswer reports whether a settled question was settled by this very answer: a key that
// somebody else used, or the same person for another answer, repeats nothing.
func sameAnswer(q *storage.Question, a *Answer) bool {
	if q.By.Kind != a.By.Kind || q.By.Subject != a.By.Subject || q.By.OnBehalfOf != a.By.OnBehalfOf {
		return false
	}
	if bytes.Equal(q.Answer, a.Value) {
		return true
	}
	var was, is any
	return a.JSON == nil && exactJSON(q.Answer, &was) == nil && exactJSON(a.Value, &is) == nil && reflect.DeepEqual(was, is)
}

func exactJSON(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(into)
}

// checkAnswer reads the question, and refuses an answer that it can't take. One
// that is settled already is left to the backend.
func (e *Engine) checkAnswer(ctx context.Context, op string, a *Answer) (*storage.Question, error) {
	if err := checkPrincipal(op, &a.By, a.Key); err != nil {
		return nil, err
	}
	q := a.question
	if q == nil {
		stored, err := e.backend.Question(ctx, a.Tenant, a.Question)
		if err != nil {
			return nil, refuseAnswer(op, a, err)
		}
		q = &stored
	}
	if err := storage.Unsealed(q.Payload); err != nil {
		return nil, questionError(op, q.ID, err)
	}
	if q.State != storage.Open {
		return q, nil
	}
	if err := checkAudience(q, a.By); err != nil {
		return nil, &Error{Op: op, Reason: ErrNotAllowed, Err: err, Hint: "the question stays open", Questions: []storage.Question{outside(q)}}
	}
	refusal := &Error{Op: op, Thread: q.Thread, Run: q.Run, Path: q.Path, Questions: []storage.Question{*q}}
	plain := a.JSON
	if plain == nil {
		plain = a.Value
	}
	err := schema.Validate(q.Schema, plain)
	if err == nil && e.options.CheckAnswer != nil {
		err = e.options.CheckAnswer(q, a.Value)
	}
	if err == nil {
		return q, nil
	}
	if !q.Deadline.IsZero() && !q.Deadline.After(e.now()) {
		refusal.Reason, refusal.Hint = ErrExpired, fmt.Sprintf("the deadline of question %s was %s", q.ID, moment(q.Deadline))
		return nil, refusal
	}
	refusal.Reason, refusal.Err, refusal.Hint = ErrInvalidAnswer, err, "the question stays open: answer again"
	return nil, refusal
}

// settle sends settlements, again those whose rows were locked.
func (e *Engine) settle(ctx context.Context, all []storage.Settlement) []storage.Settled {
	results := make([]storage.Settled, len(all))
	left := make([]int, len(all))
	for i := range all {
		left[i] = i
	}
	for pause := time.Millisecond; len(left) > 0; pause = min(2*pause, 100*time.Millisecond) {
		batch := make([]storage.Settlement, len(left))
		for n, i := range left {
			batch[n] = all[i]
		}
		settled, err := e.backend.Settle(ctx, batch)
		var locked []int
		for n, i := range left {
			if err != nil {
				results[i].Err = err
				continue
			}
			results[i] = settled[n]
			switch {
			case errors.Is(settled[n].Err, storage.ErrLocked):
				locked = append(locked, i)
			case settled[n].Err == nil && !settled[n].Repeated:
				e.observeQuestion(ctx, &results[i].Question)
			}
		}
		if left = locked; len(left) == 0 {
			break
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			for _, i := range left {
				results[i].Err = ctx.Err()
			}
			return results
		}
	}
	return results
}

// follow goes on with a run that a settlement gave to this engine.
func (e *Engine) follow(ctx context.Context, entry *Entry, member storage.ID, settled storage.Settled) *Handle {
	h := &Handle{engine: e, tenant: settled.Run.Tenant, Run: settled.Run, after: settled.Run.LastSeq, Repeated: settled.Repeated}
	if !settled.Acquired || settled.Repeated {
		h.execution = e.running(settled.Run.ID)
		return h
	}
	h.execution = e.execute(ctx, entry, member, settled.Run, true)
	return h
}

// refuseAnswer explains why an answer was not accepted: who won, and with what, only to those who might have answered.
func refuseAnswer(op string, a *Answer, err error) error {
	var settled *storage.SettledError
	if !errors.As(err, &settled) {
		return questionError(op, a.Question, err)
	}
	q := settled.Question
	insider := checkAudience(&q, a.By) == nil
	if !insider {
		q = outside(&q)
	}
	refusal := questionError(op, a.Question, &storage.SettledError{Question: q})
	var e *Error
	if errors.As(refusal, &e) && insider && a.Key != "" && a.Key == settled.Question.AnswerKey {
		e.Hint += "; this idempotency key was used for another answer"
	}
	return refusal
}

// outside is what of a question may be told to who is not in its audience.
func outside(q *storage.Question) storage.Question {
	return storage.Question{ID: q.ID, Tenant: q.Tenant, State: q.State}
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// questionError explains why a question could not be settled.
func questionError(op string, id storage.ID, err error) error {
	var settled *storage.SettledError
	switch {
	case errors.As(err, &settled):
		q := settled.Question
		refusal := &Error{Op: op, Thread: q.Thread, Run: q.Run, Path: q.Path, Questions: []storage.Question{q}}
		switch q.State {
		case storage.Answered:
			refusal.Reason, refusal.Hint = ErrAlreadyAnswered, fmt.Sprintf("question %s was answered", id)
			if !q.Settled.IsZero() {
				refusal.Hint += " at " + moment(q.Settled)
			}
			if q.By.Subject != "" {
				refusal.Hint += " by " + q.By.Subject
			}
		case storage.Expired:
			refusal.Reason, refusal.Hint = ErrExpired, fmt.Sprintf("question %s waits for nobody any more", id)
			if !q.Deadline.IsZero() {
				refusal.Hint = fmt.Sprintf("the deadline of question %s was %s", id, moment(q.Deadline))
			}
		case storage.SupersededQuestion:
			refusal.Reason, refusal.Hint = ErrSuperseded, "nobody waits for the answer any more: look at the open questions of the thread"
		default:
			refusal.Reason, refusal.Hint = ErrWithdrawn, "nobody waits for the answer any more: look at the open questions of the thread"
		}
		return refusal
	case errors.Is(err, storage.ErrNotFound):
		return &Error{Op: op, Reason: ErrUnknownQuestion, Err: fmt.Errorf("%s", id), Hint: "list the open questions"}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return storageError(op, "", storage.ID{}, err)
}

// Withdraw ends an open question without an answer; the code that asked gets [ErrWithdrawn].
func (e *Engine) Withdraw(ctx context.Context, tenant string, question storage.ID, by storage.Principal) (*Handle, error) {
	const op = "withdraw"
	if by.Kind == "" {
		by.Kind = "person"
	}
	if err := checkPrincipal(op, &by, ""); err != nil {
		return nil, err
	}
	member, err := e.enter(op)
	if err != nil {
		return nil, err
	}
	defer e.leave()
	q, err := e.backend.Question(ctx, tenant, question)
	if err != nil {
		return nil, questionError(op, question, err)
	}
	s := storage.Settlement{Tenant: tenant, Question: question, State: storage.Withdrawn, By: by}
	entry := e.entries[q.Entrypoint]
	if entry != nil {
		s.Member = member
	}
	settled := e.settle(ctx, []storage.Settlement{s})[0]
	if settled.Err != nil {
		if entry != nil {
			e.unsure(q.Tenant, q.Run, settled.Err)
		}
		return nil, refuseAnswer(op, &Answer{Question: question, By: by}, settled.Err)
	}
	return e.follow(ctx, entry, member, settled), nil
}

// Extend sets the deadline of an open question; the zero time removes it.
func (e *Engine) Extend(ctx context.Context, tenant string, question storage.ID, deadline time.Time) (storage.Question, error) {
	const op = "extend"
	if !deadline.IsZero() && !deadline.After(e.now()) {
		return storage.Question{}, &Error{Op: op, Reason: ErrInvalid, Err: fmt.Errorf("the deadline %s has passed", moment(deadline)), Hint: "to end a question now, withdraw it"}
	}
	if deadline.After(latest) {
		return storage.Question{}, &Error{Op: op, Reason: ErrInvalid, Err: errors.New("the deadline is after the year 9999"), Hint: "for no deadline, give the zero time"}
	}
	q, err := e.backend.Extend(ctx, tenant, question, deadline)
	if err != nil {
		return storage.Question{}, questionError(op, question, err)
	}
	return q, nil
}

// Revision is what a caller has read of a thread. The zero Revision: nothing yet.
type Revision struct {
	Run storage.ID
	Seq int64
}

// String is "" for the zero Revision; else the run's id, a dot and a number.
func (r Revision) String() string {
	if r.Run.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s.%d", r.Run, r.Seq)
}

// ParseRevision reads what [Revision.String] returns.
func ParseRevision(s string) (Revision, error) {
	id, seq, _ := strings.Cut(s, ".")
	run, err := storage.ParseID(id)
	r := Revision{Run: run}
	if err == nil {
		_, err = fmt.Sscanf(seq, "%d", &r.Seq)
	}
	if err != nil || r.String() != s {
		return Revision{}, &Error{Reason: ErrInvalid, Err: fmt.Errorf("%.80q is no revision", s), Hint: "take it from the state of the thread"}
	}
	return r, nil
}

// Resume answers the one open question of a thread, as the caller read it at revision seen.
func (e *Engine) Resume(ctx context.Context, tenant, thread string, seen Revision, a Answer) (*Handle, error) {
	const op = "resume"
	if e.options.RequireQuestionID {
		return nil, &Error{Op: op, Thread: thread, Reason: ErrIDRequired, Hint: "answer by the question's id"}
	}
	head, err := e.Head(ctx, op, tenant, thread)
	if err != nil {
		return nil, err
	}
	if head.Run == nil {
		return nil, &Error{Op: op, Thread: thread, Reason: ErrUnknownThread, Hint: "start a run on it first"}
	}
	refuse := func(reason error, hint string) (*Handle, error) {
		return nil, &Error{Op: op, Thread: thread, Run: head.Run.ID, Reason: reason, Hint: hint, Questions: e.inCallOrder(ctx, head)}
	}
	switch head.Run.Status {
	case storage.Interrupted:
	case storage.Running, storage.Queued:
		return refuse(ErrThreadBusy, "wait until it pauses, or answer by the question's id")
	case storage.Parked:
		return refuse(ErrParked, "mend the cause and continue the run; answers by the question's id are kept meanwhile")
	default:
		return refuse(ErrNoQuestion, fmt.Sprintf("the run is %s", head.Run.Status))
	}
	switch {
	case seen == Revision{}:
		return refuse(ErrStaleRevision, "this thread was not read yet: read its state and resume what was seen, or answer by the question's id")
	case seen != Revision{head.Run.ID, head.Run.LastSeq}:
		return refuse(ErrStaleRevision, "read its state again: the question may be another one, or answered")
	case len(head.Open) == 0:
		return refuse(ErrNoQuestion, "the run sleeps until a set time")
	case len(head.Open) > 1:
		return refuse(ErrAmbiguous, "answer by id: "+listIDs(e.inCallOrder(ctx, head)))
	}
	a.Tenant, a.Question, a.question = tenant, head.Open[0].ID, &head.Open[0]
	return e.Answer(ctx, a)
}

func listIDs(questions []storage.Question) string {
	ids := make([]string, len(questions))
	for i, q := range questions {
		ids[i] = q.ID.String()
	}
	return strings.Join(ids, ", ")
}
