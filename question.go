package fermata

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
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
	// Title and Description are for people; the description is Markdown. "" if none was given.
	Title       string
	Description string
	// Payload is what is shown, as JSON.
	Payload json.RawMessage
	// Schema is the JSON Schema of the answer.
	Schema json.RawMessage
	// Users and Groups may answer, both empty: everyone; NotBy may not, whatever else holds.
	Users    []string
	Groups   []string
	NotBy    []string
	Priority int // higher is more urgent
	Tags     []string
	// Unique is the business key; "" if none.
	Unique string

	State    QuestionState
	Asked    time.Time
	Deadline time.Time // zero: none
	// OnExpiry says what the deadline means to the code: "" it gets [ErrExpired],
	// "default" it gets the answer Default, "fail" the run fails.
	OnExpiry string
	Default  json.RawMessage
	// Reminders are the times to remind people at, ascending.
	Reminders []time.Time

	// What settled it; zero while it is open. By.Kind is "timeout" if it expired.
	Settled time.Time
	Answer  json.RawMessage
	By      Principal

	// Change grows with every change of any question of the database; see [Engine.QuestionChanges].
	Change int64
}

// Decode stores the payload in the variable that into points to.
func (q *Question) Decode(into any) error {
	if err := json.Unmarshal(q.Payload, into); err != nil {
		return fmt.Errorf("payload of question %s: %w", q.ID, err)
	}
	return nil
}

func newQuestion(q *storage.Question) Question {
	out := Question{
		ID: q.ID, Thread: q.Thread, Run: q.Run, Entrypoint: q.Entrypoint, Path: q.Path, Name: q.Name, Key: q.Key,
		Payload: q.Payload, Schema: q.Schema, Users: q.Users, Groups: q.Groups, NotBy: q.NotBy, Priority: q.Priority,
		Tags: q.Tags, Unique: q.Unique, State: q.State, Asked: q.Asked, Deadline: q.Deadline,
		Settled: q.Settled, Answer: q.Answer, By: q.By, Change: q.Change,
	}
	// Details that can't be read park the run that asked; what is shown of the question does without them.
	if d, err := engine.DetailsOf(q); err == nil {
		out.Title, out.Description, out.OnExpiry, out.Default, out.Reminders = d.Title, d.Description, string(d.Expire), d.Default, d.Remind
	}
	return out
}

// question is newQuestion with values as JSON, whatever the engine's codec.
func (v *values) question(q *storage.Question) Question {
	out := newQuestion(q)
	for _, data := range []*json.RawMessage{&out.Payload, &out.Answer, &out.Default} {
		if plain, err := v.json(*data); err == nil {
			*data = plain
		}
	}
	return out
}

func (e *Engine) question(q *storage.Question) Question { return e.values.question(q) }
