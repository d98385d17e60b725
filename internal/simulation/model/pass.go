package model

import "slices"

// World is what the model can't know by itself.
type World interface {
	// Epoch is raised when what was broken is mended.
	Epoch() int
	// Leaf returns what the n-th success (from 0) that was recorded of a leaf at a site was; false: there is none.
	Leaf(site, task string, input, n int) (int, bool)
}

// Status of a run at rest.
type Status uint8

// The states.
const (
	Finished Status = iota
	Failed
	Paused
	Parked
)

var statusNames = [...]string{"finished", "failed", "paused", "parked"}

func (s Status) String() string { return statusNames[s] }

// Outcome is how a pass ended.
type Outcome struct {
	Status  Status
	Value   int      // Finished
	Failure *Failure // Failed
	// Open are the questions that the pass came to, in call order.
	Open []*Question
	// Executed counts the executions of leaves by their sites, in this pass.
	Executed map[string]int
	// Reached are the IDs of the statements that the pass came to.
	Reached map[int]bool
	// Delivered are the results, but for failures, that the code was handed, by the sites of the calls. Those of an
	// earlier attempt count too.
	Delivered map[string][]int
	// Unknown are the sites of leaves that should have been executed, and were not.
	Unknown []string
	// Claims that the pass has made anew.
	Claims int
	// Divergences: Parked. An engine stops at one of them.
	Divergences []Divergence
}

// Divergence is a call that is not the recorded one.
type Divergence struct {
	Path     string
	Position int // from 1; 0 of a keyed call
	Key      string
	Recorded Callee
	Current  Callee // zero: the scope ended without the call
}

// Pass interprets the program once, and adds to the record. With skip, tasks
// that can only wait for their open questions again are not entered.
func (r *Run) Pass(p *Program, entrypoint string, w World, skip bool) *Outcome {
	m := &machine{run: r, program: p, world: w, skip: skip, out: &Outcome{
		Executed: map[string]int{}, Reached: map[int]bool{}, Delivered: map[string][]int{},
	}}
	var end ending
	for r.attempt++; ; r.attempt++ {
		m.out.Open = nil
		end = m.scope(r.root, entrypoint, "", p.Body, r.input)
		if end.state != normal || end.failure == nil || r.attempt-r.spent >= p.Attempts {
			break
		}
		r.root.supersede(end.failure)
	}
	if end.state != normal {
		r.attempt-- // it isn't over
	}
	switch {
	case len(m.out.Divergences) > 0:
		m.out.Status = Parked
	case end.state == suspended:
		m.out.Status = Paused
	case end.failure != nil:
		m.out.Status, m.out.Failure, r.failure = Failed, end.failure, end.failure
		r.withdraw()
	default:
		m.out.Status, m.out.Value = Finished, end.value
		r.withdraw()
	}
	return m.out
}

type machine struct {
	run     *Run
	program *Program
	world   World
	skip    bool
	out     *Outcome
}

type state uint8

const (
	normal state = iota
	suspended
	diverged
)

// ending is how a scope, or a call, ended.
type ending struct {
	state   state
	value   int
	failure *Failure
}

// frame is a scope that runs.
type frame struct {
	m         *machine
	rec       *record
	path      string
	site      string
	vars      [NumVars]int
	futures   [NumFutures]*future
	turns     []int
	next      int
	last      int // the last claim
	delivered map[*entry]int
	caught    []*Failure
	running   []*future
}

type future struct {
	entry *entry
	site  string
	ending
}

// scope runs a scope to its end.
func (m *machine) scope(rec *record, path, site string, body []Stmt, input int) ending {
	f := &frame{m: m, rec: rec, path: path, site: site, delivered: map[*entry]int{}}
	f.vars[0] = input
	return f.run(body)
}

// run runs the body of the scope to its end.
func (f *frame) run(body []Stmt) ending {
	end, stopped := f.block(body)
	if !stopped {
		end.value = Mix(f.vars[:]...)
	}
	if end.state == normal && f.next < len(f.rec.calls) {
		missing := f.rec.calls[f.next]
		f.m.out.Divergences = append(f.m.out.Divergences, Divergence{Path: f.path, Position: f.next + 1, Recorded: missing.callee})
		end.state = diverged
	}
	for _, future := range f.running {
		end.state = max(end.state, future.state)
	}
	return end
}

// block runs statements. It reports whether the scope has come to its end.
func (f *frame) block(block []Stmt) (ending, bool) {
	for i := range block {
		if end, stopped := f.stmt(&block[i]); stopped {
			return end, true
		}
	}
	return ending{}, false
}

func (f *frame) stmt(s *Stmt) (ending, bool) {
	f.m.out.Reached[s.ID] = true
	switch s.Op {
	case Let:
		f.vars[s.Var] = s.Arg.Eval(&f.vars)
	case Call:
		return f.settle(s, f.start(s, s.Arg.Eval(&f.vars)))
	case Go:
		future := f.start(s, s.Arg.Eval(&f.vars))
		f.futures[s.Future] = future
		if future.entry == nil {
			return future.ending, true
		}
	case Await:
		if f.futures[s.Future] != nil {
			return f.settle(s, f.futures[s.Future])
		}
	case Fan:
		return f.fan(s)
	case Group:
		return f.group(s)
	case Ask:
		return f.ask(s)
	case If:
		if s.Arg.Eval(&f.vars)%2 == 0 {
			return f.block(s.Body)
		}
		return f.block(s.Else)
	case Loop:
		f.turns = append(f.turns, 0)
		for turn := range s.N {
			f.turns[len(f.turns)-1] = turn
			if end, stopped := f.block(s.Body); stopped {
				return end, true
			}
			if f.vars[s.Var]%3 == 0 {
				break
			}
		}
		f.turns = f.turns[:len(f.turns)-1]
	case Fail:
		return ending{failure: f.fail(s.Wrap)}, true
	case Return:
		return ending{value: s.Arg.Eval(&f.vars)}, true
	}
	return ending{}, false
}

// deliver notes that the code was handed a failure.
func (f *frame) deliver(call *future) {
	if _, known := f.delivered[call.entry]; !known {
		f.delivered[call.entry] = f.last
	}
}

// settle hands the end of a call to the code.
func (f *frame) settle(s *Stmt, call *future) (ending, bool) {
	if call.state != normal {
		return ending{state: call.state}, true
	}
	if call.failure == nil {
		f.m.out.Delivered[call.site] = append(f.m.out.Delivered[call.site], call.value)
		f.vars[s.Var] = call.value
		return ending{}, false
	}
	f.deliver(call)
	if !s.Catch {
		return ending{failure: f.wrap([]*Failure{call.failure}, false)}, true
	}
	f.caught = append(f.caught, call.failure)
	f.vars[s.Var] = ValueOf(call.failure.Tasks)
	return ending{}, false
}

func (f *frame) fan(s *Stmt) (ending, bool) {
	futures := make([]*future, s.N)
	for i := range futures {
		f.turns = append(f.turns, i)
		futures[i] = f.start(s, Mix(s.Arg.Eval(&f.vars), i))
		f.turns = f.turns[:len(f.turns)-1]
		if futures[i].entry == nil {
			return futures[i].ending, true
		}
	}
	sum := 0
	for _, i := range s.Order {
		if end, stopped := f.settle(s, futures[i]); stopped {
			return end, true
		}
		sum = Mix(sum, f.vars[s.Var])
	}
	f.vars[s.Var] = sum
	return ending{}, false
}

// group runs branches. A branch has no outcome: it runs again with the scope around it.
func (f *frame) group(s *Stmt) (ending, bool) {
	branches := make([]*future, s.N)
	for i := range branches {
		e := f.claim(Callee{"branch", "branch"}, "", 0)
		if e == nil {
			return ending{state: diverged}, true
		}
		branches[i] = &future{entry: e}
		f.running = append(f.running, branches[i])
		if f.m.skip && e.blocked() {
			branches[i].state = suspended
			f.m.out.Open = openQuestions(e.inner, false, f.m.out.Open)
			continue
		}
		if e.inner == nil {
			e.inner = &record{}
		}
		inner := &frame{
			m: f.m, rec: e.inner, path: f.path + "/branch", site: Site(f.site, s.ID, append(f.turns, i)),
			vars: f.vars, delivered: map[*entry]int{},
		}
		inner.vars[0] = Mix(inner.vars[0], i)
		end := inner.run(s.Body)
		if end.failure != nil && end.state == normal {
			end.failure.entry = e
			end.failure.Tasks = append([]string{"branch"}, end.failure.Tasks...)
			e.failure = end.failure
		}
		branches[i].ending = end
	}
	sum := 0
	var failed *future
	for _, b := range branches {
		switch {
		case b.state != normal:
			return ending{state: b.state}, true
		case b.failure == nil:
			sum = Mix(sum, b.value)
		default:
			f.deliver(b)
			if failed == nil {
				failed = b
			}
		}
	}
	if failed != nil {
		return f.settle(s, failed)
	}
	f.vars[s.Var] = sum
	return ending{}, false
}

// fail makes the error of a Fail.
func (f *frame) fail(w Wrap) *Failure {
	switch {
	case w == Last && len(f.caught) > 0:
		return f.wrap(f.caught[len(f.caught)-1:], false)
	case w == All:
		return f.wrap(f.caught, false)
	}
	return f.wrap(nil, w == Panics)
}

// wrap makes the failure of this scope whose error wraps these.
func (f *frame) wrap(failures []*Failure, panics bool) *Failure {
	out := &Failure{Panic: panics, hidden: len(f.delivered) > 0 && len(failures) == 0}
	for i, inner := range failures {
		if i == 0 {
			out.Tasks = inner.Tasks
		}
		cut := f.delivered[inner.entry]
		if i == 0 || cut < out.cut {
			out.cut = cut
		}
		if !slices.Contains(out.retry, inner.entry) {
			out.retry = append(out.retry, inner.entry)
		}
	}
	return out
}

// claim finds the record of a call or makes one; nil: it diverged.
func (f *frame) claim(callee Callee, key string, input int) *entry {
	var past *entry
	position := 0
	if key != "" {
		past = f.rec.keyed[key]
	} else {
		if f.next < len(f.rec.calls) {
			past = f.rec.calls[f.next]
		}
		f.next++
		position = f.next
	}
	if past != nil {
		if past.callee != callee || past.input != input {
			f.m.out.Divergences = append(f.m.out.Divergences, Divergence{
				Path: f.path, Position: position, Key: key, Recorded: past.callee, Current: callee,
			})
			return nil
		}
		f.last = max(f.last, past.seq)
		return past
	}
	f.m.run.seq++
	f.m.out.Claims++
	e := &entry{seq: f.m.run.seq, callee: callee, key: key, input: input, attempt: 1}
	f.last = e.seq
	if key == "" {
		f.rec.calls = append(f.rec.calls, e)
		return e
	}
	if f.rec.keyed == nil {
		f.rec.keyed = map[string]*entry{}
	}
	f.rec.keyed[key] = e
	return e
}

func (f *frame) ask(s *Stmt) (ending, bool) {
	payload := s.Arg.Eval(&f.vars)
	e := f.claim(Callee{Kind: "question"}, s.Keyed(f.turns), payload)
	if e == nil {
		return ending{state: diverged}, true
	}
	if e.question == nil || e.question.withdrawn {
		e.question = &Question{Path: f.path, Payload: payload}
		f.m.run.asked++
	}
	if !e.question.Answered {
		f.m.out.Open = append(f.m.out.Open, e.question)
		return ending{state: suspended}, true
	}
	e.done = true
	f.vars[s.Var] = e.question.Answer
	return ending{}, false
}

// start calls a task; the call is over when it returns, since nothing
// that the caller does meanwhile can change how it ends.
func (f *frame) start(s *Stmt, input int) *future {
	task := f.m.program.Task(s.Task)
	callee := Callee{Kind: "task", Name: s.Task}
	if task.Nested {
		callee.Kind = "entrypoint"
	}
	e := f.claim(callee, s.Keyed(f.turns), input)
	if e == nil {
		return &future{ending: ending{state: diverged}}
	}
	site := Site(f.site, s.ID, f.turns)
	call := &future{entry: e, site: site}
	f.running = append(f.running, call)
	switch {
	case e.done:
		call.ending = ending{value: e.value, failure: e.failure}
	case f.m.skip && e.blocked():
		call.state = suspended
		f.m.out.Open = openQuestions(e.inner, false, f.m.out.Open)
	default:
		call.ending = f.perform(e, task, site)
	}
	return call
}

// perform runs a call through its attempts.
func (f *frame) perform(e *entry, task *Task, site string) ending {
	attempts := task.Attempts
	if attempts == 0 && !task.Nested {
		attempts = f.m.program.Attempts
	}
	for {
		end := f.try(e, task, site)
		if end.state != normal {
			return end
		}
		if end.failure != nil && e.attempt-e.spent < attempts {
			if e.inner != nil {
				e.inner.supersede(end.failure)
			}
			e.attempt++
			continue
		}
		if end.failure != nil {
			end.failure.entry = e
			end.failure.Tasks = append([]string{task.Name}, end.failure.Tasks...)
		}
		e.done, e.value, e.failure = true, end.value, end.failure
		if end.failure == nil {
			f.m.run.results[Result{f.path + "/" + task.Name, end.value}]++
		}
		return end
	}
}

// bodyOf is what runs in the scope of a call.
func (m *machine) bodyOf(e *entry, task *Task) []Stmt {
	if task.Former == nil || m.run.Former == nil {
		return task.Body
	}
	if e.body == nil {
		e.body = task.Body
		if m.run.Former(m.run.former) {
			e.body = task.Former
		}
		m.run.former++
	}
	return e.body
}

func (f *frame) try(e *entry, task *Task, site string) ending {
	if task.Body != nil {
		if e.inner == nil {
			e.inner = &record{}
		}
		return f.m.scope(e.inner, f.path+"/"+task.Name, site, f.m.bodyOf(e, task), e.input)
	}
	f.m.out.Executed[site]++
	if e.attempt <= task.FailFirst || f.m.world.Epoch() < task.Heals {
		return ending{failure: &Failure{Panic: task.Panics}}
	}
	value, known := f.m.world.Leaf(site, task.Name, e.input, f.m.run.successes[site])
	f.m.run.successes[site]++
	if !known {
		f.m.out.Unknown = append(f.m.out.Unknown, site)
	}
	return ending{value: value}
}
