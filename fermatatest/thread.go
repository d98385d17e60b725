package fermatatest

import (
	"context"

	"github.com/fermata-go/fermata"
)

// Thread is a thread of one entrypoint, seen through the harness' present process.
type Thread[I, O any] struct {
	h          *Harness
	entrypoint *fermata.Entrypoint[I, O]
	id         string
}

// On returns the thread with this id.
func On[I, O any](h *Harness, entrypoint *fermata.Entrypoint[I, O], id string) *Thread[I, O] {
	return &Thread[I, O]{h: h, entrypoint: entrypoint, id: id}
}

// Handle is a fresh handle of the thread on the present engine, for what must be seen to go wrong.
func (t *Thread[I, O]) Handle() *fermata.Thread[I, O] {
	return t.entrypoint.On(t.h.Engine()).Thread(t.id)
}

// Start begins a run.
func (t *Thread[I, O]) Start(in I, options ...fermata.StartOption) {
	t.h.t.Helper()
	if _, err := t.Handle().Start(t.ctx(), in, options...); err != nil {
		t.h.t.Fatalf("fermatatest: %v", err)
	}
}

// Continue goes on with the latest run: see [fermata.Thread.Continue].
func (t *Thread[I, O]) Continue() {
	t.h.t.Helper()
	if _, err := t.Handle().Continue(t.ctx()); err != nil {
		t.h.t.Fatalf("fermatatest: %v", err)
	}
}

// Questions waits until the thread rests and returns its open questions, in the order in which the code asked them.
func (t *Thread[I, O]) Questions() []fermata.Question {
	t.h.t.Helper()
	return t.State().Questions
}

// Question is Questions when there must be exactly one.
func (t *Thread[I, O]) Question() fermata.Question {
	t.h.t.Helper()
	s := t.State()
	if len(s.Questions) == 0 {
		t.h.t.Fatalf("fermatatest: thread %.40q asks nothing%s", t.id, situation(s))
	}
	return t.h.only(s.Questions)
}

// Answer answers the one open question of the thread.
func (t *Thread[I, O]) Answer(value any, options ...fermata.AnswerOption) {
	t.h.t.Helper()
	t.h.Answer(t.Question(), value, options...)
}

// Wait returns when the thread rests: see [Harness.Wait].
func (t *Thread[I, O]) Wait() {
	t.h.t.Helper()
	t.h.wait(t.id)
}

// State waits until the thread rests and reads it.
func (t *Thread[I, O]) State() *fermata.State[O] {
	t.h.t.Helper()
	t.Wait()
	s, err := t.Handle().State(t.ctx())
	if err != nil {
		t.h.t.Fatalf("fermatatest: %v", err)
	}
	return s
}

// Result waits until the thread rests and returns the result of its latest run, which must have finished.
func (t *Thread[I, O]) Result() O {
	t.h.t.Helper()
	s := t.State()
	if s.Status != fermata.Finished {
		t.h.t.Fatalf("fermatatest: thread %.40q has no result%s", t.id, situation(s))
	}
	return s.Value
}

// Err waits until the thread rests and returns why its latest run failed, is parked or was cancelled;
// nil if it finished or waits for a person.
func (t *Thread[I, O]) Err() error {
	t.h.t.Helper()
	return t.State().Err
}

func (t *Thread[I, O]) ctx() context.Context { return t.h.t.Context() }

// situation says how a thread stands, for a message.
func situation[O any](s *fermata.State[O]) string {
	switch {
	case s.Run.IsZero():
		return ": no run was started on it"
	case s.Err != nil:
		return ": " + s.Err.Error()
	case len(s.Questions) > 0:
		return ": it is interrupted, and waits for the answer to" + listed(s.Questions)
	}
	return ": it is " + s.Status.String()
}
