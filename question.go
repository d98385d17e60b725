package fermata

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// QuestionState is the state of a question. All but Open are final.
type QuestionState = storage.QuestionState

// The states of a question.
const (
	QuestionOpen       = storage.Open
	QuestionAnswered   = storage.Answered
	QuestionExpired    = storage.Expired
	QuestionWithdrawn  = storage.Withdrawn
	QuestionSuperseded = storage.SupersededQuestion
)

// Question is what a person is asked. It has a life of its own: it is durable,
// found and answered by its id, and takes exactly one answer.
type Question struct {
	ID         ID
	Thread     string
	Run        ID
	Entrypoint string
	// Path of the function that asked, as "graph/human_feedback".
	Path string
	// Name of a declared question; "" for [Interrupt].
	Name string
	Key  string
	// Payload is what is shown, as JSON.
	Payload json.RawMessage
	// Schema is the JSON Schema of the answer.
	Schema   json.RawMessage
	State    QuestionState
	Asked    time.Time
	Deadline time.Time // zero: none
	// What settled it; zero while it is open.
	Settled time.Time
	Answer  json.RawMessage
	By      Principal
}

// Decode stores the payload in the variable that into points to.
func (q *Question) Decode(into any) error {
	if err := json.Unmarshal(q.Payload, into); err != nil {
		return fmt.Errorf("payload of question %s: %w", q.ID, err)
	}
	return nil
}

func newQuestion(q *storage.Question) Question {
	return Question{
		ID: q.ID, Thread: q.Thread, Run: q.Run, Entrypoint: q.Entrypoint, Path: q.Path, Name: q.Name, Key: q.Key,
		Payload: q.Payload, Schema: q.Schema, State: q.State, Asked: q.Asked, Deadline: q.Deadline,
		Settled: q.Settled, Answer: q.Answer, By: q.By,
	}
}

// question is newQuestion with values as JSON, whatever the engine's codec.
func (e *Engine) question(q *storage.Question) Question {
	out := newQuestion(q)
	if payload, err := e.values.json(q.Payload); err == nil {
		out.Payload = payload
	}
	if answer, err := e.values.json(q.Answer); err == nil {
		out.Answer = answer
	}
	return out
}
