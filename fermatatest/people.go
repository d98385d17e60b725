package fermatatest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/fermata-go/fermata"
)

// Questions waits until the runs rest and returns the open questions of all
// threads, in the order in which they were asked.
func (h *Harness) Questions() []fermata.Question {
	h.t.Helper()
	return h.questions("")
}

// Question is Questions when there must be exactly one.
func (h *Harness) Question() fermata.Question {
	h.t.Helper()
	return h.only(h.questions(""))
}

// Answer answers a question. An answer that is not accepted fails the test; to test that, use [fermata.Engine.Answer].
func (h *Harness) Answer(q fermata.Question, value any, options ...fermata.AnswerOption) {
	h.t.Helper()
	p := h.living()
	for _, tenant := range h.knownTenants() {
		_, err := p.engine.Tenant(tenant).Answer(h.t.Context(), q.ID, value, options...)
		if errors.Is(err, fermata.ErrUnknownQuestion) {
			continue
		}
		if err != nil {
			h.t.Fatalf("fermatatest: answer %s: %v", describe(q), err)
		}
		return
	}
	h.t.Fatalf("fermatatest: answer %s: there is no such question", describe(q))
}

// AnswerAll waits until the runs rest and gives all open questions the same answer. Questions that are
// asked later, because of that, stay open.
func (h *Harness) AnswerAll(value any, options ...fermata.AnswerOption) {
	h.t.Helper()
	for _, q := range h.Questions() {
		h.Answer(q, value, options...)
	}
}

// Match selects questions.
type Match func(fermata.Question) bool

// Anything matches every question.
func Anything(fermata.Question) bool { return true }

// Payload matches questions that show this, compared as JSON.
func Payload(want any) Match {
	return func(q fermata.Question) bool {
		data, err := json.Marshal(want)
		return err == nil && bytes.Equal(compact(data), compact(q.Payload))
	}
}

// Asks matches questions that show a text which contains this.
func Asks(part string) Match {
	return func(q fermata.Question) bool {
		var text string
		return json.Unmarshal(q.Payload, &text) == nil && strings.Contains(text, part)
	}
}

// Path matches questions by the path of the function that asks, as "graph/human_feedback".
func Path(path string) Match {
	return func(q fermata.Question) bool { return q.Path == path }
}

func compact(data []byte) []byte {
	var v any
	if json.Unmarshal(data, &v) != nil {
		return data
	}
	out, _ := json.Marshal(v) // what was read can be written; keys come out sorted
	return out
}

// OnQuestion hires somebody who answers every question that matches, whenever the runs rest. The answer
// is a value, or a func([fermata.Question]) any that makes it. Of several people the first one hired answers.
func (h *Harness) OnQuestion(match Match, answer any, options ...fermata.AnswerOption) {
	h.scripts = append(h.scripts, script{match, answer, options})
}

type script struct {
	match   Match
	answer  any
	options []fermata.AnswerOption
}

// play lets the scripts answer what is open, and reports whether one did.
func (h *Harness) play(ctx context.Context, p *process, thread string) (played bool) {
	h.t.Helper()
	if len(h.scripts) == 0 {
		return false
	}
	list, err := h.open(ctx, p, thread)
	if err != nil {
		h.t.Fatalf("fermatatest: list the questions: %v", err)
	}
	for _, q := range list {
		for _, s := range h.scripts {
			if !s.match(q.Question) {
				continue
			}
			answer := s.answer
			if fn, ok := answer.(func(fermata.Question) any); ok {
				answer = fn(q.Question)
			}
			if _, err := q.engine.Answer(ctx, q.ID, answer, s.options...); err != nil {
				h.t.Fatalf("fermatatest: the script's answer to %s: %v", describe(q.Question), err)
			}
			played = true
			break
		}
	}
	return played
}

func (h *Harness) questions(thread string) []fermata.Question {
	h.t.Helper()
	h.wait(thread)
	list, err := h.open(h.t.Context(), h.living(), thread)
	if err != nil {
		h.t.Fatalf("fermatatest: list the questions: %v", err)
	}
	questions := make([]fermata.Question, len(list))
	for i, q := range list {
		questions[i] = q.Question
	}
	return questions
}

func (h *Harness) only(questions []fermata.Question) fermata.Question {
	h.t.Helper()
	if len(questions) != 1 {
		h.t.Fatalf("fermatatest: %d questions are open, want 1:%s", len(questions), listed(questions))
	}
	return questions[0]
}

func listed(questions []fermata.Question) string {
	var b strings.Builder
	for _, q := range questions {
		b.WriteString("\n\t" + describe(q))
	}
	return b.String()
}

func describe(q fermata.Question) string {
	return fmt.Sprintf("question %.120s of thread %.40q at %s", q.Payload, q.Thread, q.Path)
}
