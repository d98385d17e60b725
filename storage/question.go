package storage

import (
	"context"
	"time"
)

// QuestionState is the state of a question. All but Open are final.
type QuestionState uint8

// The states of a question.
const (
	Open QuestionState = iota + 1
	Answered
	Expired
	Withdrawn
	// SupersededQuestion: its run was given up for a newer input, or the call that asked was undone.
	SupersededQuestion
)

var questionStateNames = [...]string{"", "open", "answered", "expired", "withdrawn", "superseded"}

// String returns the lower-case name of the state.
func (s QuestionState) String() string {
	if int(s) < len(questionStateNames) {
		return questionStateNames[s]
	}
	return "unknown"
}

// Question is what a person is asked.
// Byte fields are encoded by the engine; nil means absent.
type Question struct {
	ID         ID
	Tenant     string
	Thread     string
	Run        ID
	Entrypoint string
	// Seq is the record of the run's log that made the call; Path names the
	// asking call for people, outermost first, as "graph/human_feedback".
	Seq  int64
	Path string

	Name    string // of a declared question; "" for an inline one
	Key     string // given by the author; "" if none
	Payload []byte
	Digest  []byte // of the payload
	// Schema is the JSON Schema of the answer; backends store equal ones once.
	Schema []byte
	// Details is what only the engine reads: title, description, what happens at expiry.
	Details []byte

	// Group: settling one question as Answered withdraws, in the same commit, the open
	// questions of the same run and group. "" is no group.
	Group string
	// Unique: at most one open question per tenant, name and unique key. "" doesn't restrict.
	Unique   string
	Deadline time.Time // zero: none
	Users    []string  // who may answer; Users and Groups empty: everyone
	Groups   []string
	NotBy    []string // who may not, whatever else holds
	Priority int      // higher is more urgent
	Tags     []string

	State QuestionState
	Asked time.Time
	// What settled it; zero while open. By is zero if no Settle won, but for an Expired
	// question, whose By.Kind is "timeout".
	Settled time.Time
	Answer  []byte
	By      Principal
	// AnswerKey is the idempotency key of the winning answer.
	AnswerKey string
	// Change grows with every change of any question of the backend.
	Change int64
}

// Principal is who settled a question, as the caller asserts it.
type Principal struct {
	// Kind is "person", "policy" or "timeout".
	Kind    string   `json:"kind,omitempty"`
	Subject string   `json:"subject,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	// Method says how the identity was established.
	Method string `json:"method,omitempty"`
	// OnBehalfOf is the subject that the principal acted for.
	OnBehalfOf string `json:"on_behalf_of,omitempty"`
}

// Settlement is one attempt to settle a question.
type Settlement struct {
	Tenant   string
	Question ID
	State    QuestionState // Answered or Withdrawn
	Answer   []byte
	By       Principal
	// Key makes the attempt repeatable: a settled question whose AnswerKey
	// equals a non-empty Key is returned as Repeated, not as an error.
	Key string
	// Member, if not zero, becomes the owner of the run if the run is
	// Interrupted or Queued, in the same commit. If it is zero such a run becomes Queued, its Due zero.
	Member ID
}

// Settled is the answer to one [Settlement].
type Settled struct {
	// Err is nil if this attempt won or repeats the winner; else a
	// *SettledError, ErrNotFound, ErrInvalid or ErrLocked, and nothing was changed – but a
	// question whose deadline has passed has become Expired, and its run woken: Queued, if it
	// was Interrupted, whatever Member is.
	Err      error
	Question Question // as it is after the call, like Run; both zero if not found
	Run      Run
	Repeated bool
	// Acquired: Err is nil and Settlement.Member is now the owner of Run – by this
	// settlement, by another of the same call, or since before.
	Acquired bool
}

// QuestionOrder is the order of a list of questions.
type QuestionOrder uint8

// The orders.
const (
	// ByAsked: oldest first. (Ties, in every order: by ID.)
	ByAsked QuestionOrder = iota
	// ByDeadline: earliest deadline first, those without one last.
	ByDeadline
	// ByPriority: highest first.
	ByPriority
)

// QuestionFilter selects questions; zero fields don't restrict.
type QuestionFilter struct {
	Tenant     string // always restricts
	States     []QuestionState
	Thread     string
	Run        ID
	Entrypoint string
	Name       string
	Key        string
	Tags       []string // all must be there
	DueBefore  time.Time
	// MinPriority: this priority or a higher one; nil: any.
	MinPriority *int
	// For lists what this principal may answer: no audience, or one that has
	// the subject or one of the groups; and no NotBy, or a subject, and neither it nor OnBehalfOf is in NotBy.
	For *Principal

	Order QuestionOrder
	// After is the last question of the page before. Paging is by key:
	// what is added or settled meanwhile neither repeats nor hides another.
	After *Question
	Limit int // 0 means 100
}

// Questions is the part of the contract that people use.
type Questions interface {
	// Settle answers or withdraws questions, each alone, in one commit. It is
	// a compare-and-set: of all attempts on one question, from any number of
	// processes, and its expiry, exactly one wins. A winner raises the run's inbox, and wakes the
	// run: see Settlement.Member. Settlements of one call take effect in their order.
	// A question whose deadline is not after the backend's now is expired instead.
	// An answer to a question of a Parked run is kept; the run stays parked.
	Settle(ctx context.Context, s []Settlement) ([]Settled, error)

	// Extend sets the deadline of an open question; zero removes it. It is a compare-and-set as Settle: one whose
	// deadline has passed is expired instead. The question is as the call left it. Errors: ErrNotFound, *SettledError.
	Extend(ctx context.Context, tenant string, question ID, deadline time.Time) (Question, error)

	// Question reads one. Error: ErrNotFound.
	Question(ctx context.Context, tenant string, question ID) (Question, error)

	// ListQuestions returns one page.
	ListQuestions(ctx context.Context, f QuestionFilter) ([]Question, error)

	// CountQuestions counts per state. Order, After and Limit are ignored.
	CountQuestions(ctx context.Context, f QuestionFilter) (map[QuestionState]int, error)

	// QuestionChanges returns up to limit (0 means 100) questions with Change > after, in the order of Change, as they are now. A
	// reader that passes the highest Change it has seen misses no final state of any question.
	QuestionChanges(ctx context.Context, tenant string, after int64, limit int) ([]Question, error)
}
