package engine

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Ask is a question as the code puts it.
type Ask struct {
	Name     string // of a declared question; "" for an inline one
	Key      string // "" takes the next position
	Payload  []byte
	Schema   []byte
	Details  Details
	Group    string
	Unique   string
	Deadline time.Duration // from now; zero: none
	Users    []string
	Groups   []string
	NotBy    []string
	Priority int
	Tags     []string
}

// Details is what the engine alone reads of a question.
type Details struct {
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Expire says what an expiry gives to the code: "" an error that matches
	// [ErrExpired], "default" the value Default.
	Expire  string          `json:"expire,omitempty"`
	Default json.RawMessage `json:"default,omitempty"`
}

// Reply is a settled question, as the code gets it.
type Reply struct {
	Value    []byte
	Question *storage.Question
	scope    *Scope
}

// Interrupt asks a question, or finds its answer. Errors: [ErrPaused] while it
// is open, [ErrExpired] and [ErrWithdrawn] if it ended so, and those of the run's stop.
func Interrupt(ctx context.Context, ask *Ask) (*Reply, error) {
	s, err := From(ctx)
	if err != nil {
		return nil, err
	}
	q, err := s.question(ask)
	if err != nil {
		return nil, err
	}
	p := s.pass
	p.asking.Lock()
	defer p.asking.Unlock()
	past, order, err := s.claim(call{kind: KindQuestion, name: ask.Name, key: ask.Key, input: ask.Payload, ask: q})
	if err != nil {
		return nil, err
	}
	if asked := past.question; asked == nil || askAgain(asked) {
		past.question = q
		p.journal.ask(record{kind: recordAsk, claim: past.seq}, q)
	}
	if past.question.State == storage.Open || past.question.State == 0 {
		p.waitFor(order, s.place, past)
		p.writeSoon()
		return nil, s.suspend()
	}
	if !past.taken {
		past.taken = true
		p.journal.add(record{kind: recordTaken, claim: past.seq})
	}
	s.seen(past.question.Settled)
	return s.reply(past.question)
}

// askAgain reports whether q ended without anybody's word on it: its run was cancelled or given up.
func askAgain(q *storage.Question) bool {
	return q.State == storage.SupersededQuestion || q.State == storage.Withdrawn && q.By.Kind == ""
}

// question makes the row for a new question.
func (s *Scope) question(ask *Ask) (*storage.Question, error) {
	details, err := json.Marshal(ask.Details)
	if err != nil {
		return nil, fmt.Errorf("encode the details of a question: %w", err)
	}
	if string(details) == "{}" {
		details = nil
	}
	run := &s.pass.run
	digest := sha256.Sum256(ask.Payload)
	now := s.pass.engine.now()
	q := &storage.Question{
		ID: storage.NewID(now), Tenant: run.Tenant, Thread: run.Thread, Run: run.ID, Entrypoint: run.Entrypoint,
		Path: s.path, Name: ask.Name, Key: ask.Key, Payload: ask.Payload, Digest: digest[:],
		Schema: ask.Schema, Details: details, Group: ask.Group, Unique: ask.Unique,
		Users: ask.Users, Groups: ask.Groups, NotBy: ask.NotBy, Priority: ask.Priority, Tags: ask.Tags,
	}
	if ask.Deadline > 0 {
		q.Deadline = now.Add(ask.Deadline)
	}
	return q, nil
}

// reply is what a settled question gives to the code.
func (s *Scope) reply(q *storage.Question) (*Reply, error) {
	switch q.State {
	case storage.Answered:
		return &Reply{Value: q.Answer, Question: q, scope: s}, nil
	case storage.Expired:
		var details Details
		if err := json.Unmarshal(q.Details, &details); len(q.Details) > 0 && err != nil {
			return nil, s.pass.park(s.path, fmt.Errorf("details of question %s: %w", q.ID, err))
		}
		if details.Expire == "default" {
			return &Reply{Value: details.Default, Question: q, scope: s}, nil
		}
		return nil, s.settledError(ErrExpired, q)
	default:
		return nil, s.settledError(ErrWithdrawn, q)
	}
}

func (s *Scope) settledError(reason error, q *storage.Question) error {
	return &Error{Thread: q.Thread, Run: q.Run, Path: s.path, Reason: reason, Questions: []storage.Question{*q}}
}

// Reject parks the run because the answer can't be decoded as what the code now wants. The answer is kept.
func (r *Reply) Reject(err error) error {
	r.scope.refused = true
	return r.scope.pass.park(r.scope.path, fmt.Errorf("answer to question %s: %w", r.Question.ID, err))
}

// checkAudience says whether by may answer q.
func checkAudience(q *storage.Question, by storage.Principal) error {
	for _, subject := range q.NotBy {
		if subject == by.Subject {
			return fmt.Errorf("%q is excluded from it", by.Subject)
		}
	}
	if len(q.Users) == 0 && len(q.Groups) == 0 {
		return nil
	}
	for _, user := range q.Users {
		if user == by.Subject {
			return nil
		}
	}
	for _, group := range q.Groups {
		for _, of := range by.Groups {
			if group == of {
				return nil
			}
		}
	}
	return errors.New("not in its audience")
}
