package model

import (
	"cmp"
	"maps"
	"slices"
)

// Run is the model's record of one run.
type Run struct {
	attempt int // of the body
	spent   int // attempts that its policy doesn't count: those before the run was continued
	input   int
	root    *record
	seq     int // of the last claim
	failure *Failure
	asked   int // questions
	results map[Result]int
	// Former says of the n-th call of a task with a former body whether that is what ran, and its
	// outcome stands. Nil: never.
	Former func(n int) bool
	former int // calls that it was asked of

	// successes of leaves, by site
	successes map[string]int
}

// Result is a recorded success of a task.
type Result struct {
	Path  string
	Value int
}

// Results are all recorded successes so far, superseded ones too, with how often each came.
func (r *Run) Results() map[Result]int { return r.results }

// Asked is the number of questions so far.
func (r *Run) Asked() int { return r.asked }

// NewRun makes the record of a run that has done nothing.
func NewRun(input int) *Run {
	return &Run{input: input, root: &record{}, results: map[Result]int{}, successes: map[string]int{}}
}

// record is what a scope did so far.
type record struct {
	calls []*entry
	keyed map[string]*entry
}

func (r *record) empty() bool { return len(r.calls) == 0 && len(r.keyed) == 0 }

// all returns the entries in the order of their claims.
func (r *record) all() []*entry {
	all := slices.Clone(r.calls)
	for _, e := range r.keyed {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	return all
}

// entry is a claimed call and what became of it.
type entry struct {
	seq      int
	callee   Callee
	key      string
	input    int
	done     bool
	value    int
	failure  *Failure // done, and it failed; of a branch: how it failed last
	attempt  int
	spent    int     // attempts that the retry policy doesn't count: those before what is around was repeated
	body     []Stmt  // that runs, once it is known
	inner    *record // of the scope that it opened
	question *Question
}

// Callee names what is called.
type Callee struct {
	Kind string // "task", "entrypoint", "branch" or "question"
	Name string
}

// Question as the model sees it.
type Question struct {
	Path     string // of the scope that asks
	Payload  int
	Answered bool
	Answer   int
	// withdrawn with the end of the run: if the run goes on it is asked anew.
	withdrawn bool
	// ID is for who compares: the question's id outside.
	ID string
}

// Failure is how a scope ended in error.
type Failure struct {
	// Tasks that the failure came through, outermost first; without the entrypoint.
	Tasks []string
	Panic bool // of the outermost

	entry  *entry   // that failed; nil: the run
	retry  []*entry // of the own scope, found in the error
	cut    int      // the last claim before the first of them was handed over
	hidden bool     // failures were handed over, and none of them is in the error
}

// Hidden reports whether a new attempt would know of nothing to repeat.
func (f *Failure) Hidden() bool { return f.hidden }

// supersede opens a new attempt of the scope that ended in f: what is in its error
// is forgotten, down to where it came from, and what was claimed since it was known.
func (r *record) supersede(f *Failure) {
	if len(f.retry) == 0 {
		return
	}
	r.calls = slices.DeleteFunc(r.calls, func(e *entry) bool { return e.seq > f.cut })
	for key, e := range r.keyed {
		if e.seq > f.cut {
			delete(r.keyed, key)
		}
	}
	for _, e := range f.retry {
		below := e.failure
		e.done, e.failure = false, nil
		if e.inner != nil && !e.inner.empty() || e.attempt > 1 {
			e.spent = e.attempt
			e.attempt++
		}
		if e.inner != nil && below != nil {
			e.inner.supersede(below)
		}
	}
}

// Continue opens a new attempt of a failed run. It reports false if there is nothing to repeat.
func (r *Run) Continue() bool {
	if r.failure == nil || r.failure.hidden {
		return false
	}
	r.root.supersede(r.failure)
	r.failure, r.spent = nil, r.attempt
	return true
}

// withdraw ends the questions that changed code has not come to.
func (r *Run) withdraw() {
	for _, q := range r.Questions() {
		q.withdrawn = true
	}
}

// Questions lists the open questions of the run in call order, whoever waits for them. Changed
// code may have gone past one without asking it.
func (r *Run) Questions() []*Question { return openQuestions(r.root, true, nil) }

// openQuestions lists those below a scope, with gone also those of calls that have an outcome.
func openQuestions(r *record, gone bool, to []*Question) []*Question {
	if r == nil {
		return to
	}
	for _, e := range r.all() {
		switch {
		case e.question != nil:
			if !e.question.Answered && !e.question.withdrawn {
				to = append(to, e.question)
			}
		case gone || !e.done:
			to = openQuestions(e.inner, gone, to)
		}
	}
	return to
}

// blocked reports whether all that the scope of e can do is wait for open questions.
func (e *entry) blocked() bool {
	if e.inner == nil {
		return false
	}
	waits := false
	for _, inner := range e.inner.all() {
		switch {
		case inner.done:
		case inner.question != nil:
			if inner.question.Answered || inner.question.withdrawn {
				return false
			}
			waits = true
		case inner.blocked():
			waits = true
		default:
			return false
		}
	}
	return waits
}

// Clone copies a run, but for its questions, which both runs share.
func (r *Run) Clone() *Run {
	c := cloner{entries: map[*entry]*entry{}}
	out := *r
	out.root, out.results, out.successes = c.record(r.root), maps.Clone(r.results), maps.Clone(r.successes)
	out.failure = c.failure(r.failure)
	return &out
}

type cloner struct{ entries map[*entry]*entry }

func (c *cloner) record(r *record) *record {
	if r == nil {
		return nil
	}
	out := &record{calls: make([]*entry, len(r.calls))}
	for i, e := range r.calls {
		out.calls[i] = c.entry(e)
	}
	for key, e := range r.keyed {
		if out.keyed == nil {
			out.keyed = map[string]*entry{}
		}
		out.keyed[key] = c.entry(e)
	}
	return out
}

func (c *cloner) entry(e *entry) *entry {
	if e == nil {
		return nil
	}
	if known := c.entries[e]; known != nil {
		return known
	}
	out := *e
	c.entries[e] = &out
	out.inner = c.record(e.inner)
	out.failure = c.failure(e.failure)
	return &out
}

func (c *cloner) failure(f *Failure) *Failure {
	if f == nil {
		return nil
	}
	out := *f
	out.entry = c.entry(f.entry)
	out.retry = make([]*entry, len(f.retry))
	for i, e := range f.retry {
		out.retry[i] = c.entry(e)
	}
	return &out
}
