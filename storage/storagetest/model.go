package storagetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
	"pgregory.net/rapid"
)

var modelCases = []testCase{
	{"RandomHistories", modelHistories},
}

// modelHistories compares the backend with a model of the contract that is as small as
// it can be: lists, a clock of whole minutes, and no code of any backend. Every history has a
// tenant and an entrypoint of its own in one database.
func modelHistories(w *world) {
	n := 0
	rapid.Check(w.t, func(rt *rapid.T) {
		n++
		checked := *w
		checked.tb, checked.ctx = rt, w.t.Context()
		m := &model{w: &checked, rt: rt, base: w.now(), tenant: fmt.Sprint("tenant ", n), entrypoint: fmt.Sprint("entrypoint ", n)}
		m.join()
		m.join()
		rt.Repeat(map[string]func(*rapid.T){
			"start":   m.start,
			"append":  m.append,
			"repeat":  m.repeat,
			"settle":  m.settle,
			"acquire": m.acquire,
			"poll":    m.poll,
			"cancel":  m.cancel,
			"kill":    m.kill,
			"advance": m.advance,
			"":        m.checkTouched,
		})
		m.checkAll()
	})
}

type model struct {
	w                  *world
	rt                 *rapid.T
	tenant, entrypoint string

	base    time.Time
	minute  int // it is between base+minute and a minute later
	members []*modelMember
	runs    []*modelRun // oldest first
	touched []*modelRun
}

type modelMember struct {
	storage.Membership
	living bool
}

type modelRun struct {
	id       storage.ID
	thread   string
	status   storage.Status
	owner    *modelMember
	log      []string
	parent   storage.Checkpoint
	fork     int
	step     int64
	previous *modelRun
	value    string
	due      int // a minute; 0 is none
	crashes  int
	recorded bool // by the present owner
	cancel   bool
	units    []storage.Unit

	// Numbers that the contract only says to grow: the last seen, and whether they must have grown.
	token, inbox int64
	taken, told  bool

	questions []*modelQuestion
}

type modelQuestion struct {
	id       storage.ID
	run      *modelRun
	state    storage.QuestionState
	answer   string
	key      string
	group    string
	deadline int // a minute; 0 is none
}

func (m *model) touch(r *modelRun) {
	if !slices.Contains(m.touched, r) {
		m.touched = append(m.touched, r)
	}
}

func (m *model) at(minute int) time.Time {
	if minute == 0 {
		return time.Time{}
	}
	return m.base.Add(time.Duration(minute) * time.Minute)
}

func (m *model) latest(thread string) *modelRun {
	for _, r := range slices.Backward(m.runs) {
		if r.thread == thread {
			return r
		}
	}
	return nil
}

func (r *modelRun) alive() bool { return r.owner != nil && r.owner.living }

func (r *modelRun) active() bool {
	switch r.status {
	case storage.Queued, storage.Running, storage.Interrupted, storage.Parked:
		return true
	}
	return false
}

func (r *modelRun) open() (list []*modelQuestion) {
	for _, q := range r.questions {
		if q.state == storage.Open {
			list = append(list, q)
		}
	}
	return list
}

// end ends a run, or gives it up for a newer one.
func (m *model) end(r *modelRun, status storage.Status, questions storage.QuestionState) {
	r.status, r.owner, r.due, r.cancel = status, nil, 0, false
	for _, q := range r.open() {
		q.state = questions
	}
	m.touch(r)
}

// own makes a member the owner; nil queues the run.
func (m *model) own(r *modelRun, member *modelMember) {
	if r.owner != nil && !r.owner.living && !r.recorded {
		r.crashes++
	}
	r.status, r.owner, r.due, r.recorded, r.taken, r.value = storage.Running, member, 0, false, true, ""
	if member == nil {
		r.status, r.taken = storage.Queued, false
	}
	m.touch(r)
}

// tell is what happens to a run when something comes from outside.
func (m *model) tell(r *modelRun, member *modelMember) {
	r.told = true
	m.touch(r)
	if r.status != storage.Interrupted && r.status != storage.Queued {
		return
	}
	if member != nil {
		m.own(r, member)
		return
	}
	r.status, r.due = storage.Queued, 0
}

func (m *model) expire(q *modelQuestion) {
	q.state = storage.Expired
	m.tell(q.run, nil)
}

func (m *model) overdue(q *modelQuestion) bool {
	return q.state == storage.Open && q.deadline > 0 && q.deadline <= m.minute
}

// Drawing.

func (m *model) drawThread() string {
	return rapid.SampledFrom([]string{"x", "y", "z"}).Draw(m.rt, "thread")
}

func (m *model) drawRun() *modelRun {
	if len(m.runs) == 0 {
		m.rt.Skip("no run yet")
	}
	// Mostly a thread's latest run.
	if rapid.IntRange(0, 3).Draw(m.rt, "which") > 0 {
		if r := m.latest(m.drawThread()); r != nil {
			return r
		}
	}
	return rapid.SampledFrom(m.runs).Draw(m.rt, "run")
}

func (m *model) drawMember() *modelMember {
	var living []*modelMember
	for _, member := range m.members {
		if member.living {
			living = append(living, member)
		}
	}
	return rapid.SampledFrom(living).Draw(m.rt, "member")
}

func (m *model) drawMinute(what string) int {
	if rapid.Bool().Draw(m.rt, "has "+what) {
		return m.minute + rapid.IntRange(1, 4).Draw(m.rt, what)
	}
	return 0
}

func memberID(member *modelMember) storage.ID {
	if member == nil {
		return storage.ID{}
	}
	return member.ID()
}

// Actions.

func (m *model) join() { m.members = append(m.members, &modelMember{m.w.join(), true}) }

func (m *model) kill(*rapid.T) {
	member := m.drawMember()
	m.w.kill(member.Membership)
	member.living = false
	m.join()
	for _, r := range m.runs {
		if r.owner == member {
			m.touch(r)
		}
	}
}

func (m *model) advance(*rapid.T) {
	m.minute += rapid.IntRange(1, 2).Draw(m.rt, "minutes")
	// In the middle of the minute, so that the real time that passes meanwhile doesn't matter.
	m.w.advanceTo(m.base.Add(time.Duration(m.minute)*time.Minute + 30*time.Second))
}

func (m *model) start(*rapid.T) {
	r := &modelRun{id: m.w.newID(), thread: m.drawThread(), status: storage.Queued, step: -1}
	latest := m.latest(r.thread)
	s := storage.Start{
		Run:       storage.Run{ID: r.id, Tenant: m.tenant, Thread: r.thread, Entrypoint: m.entrypoint},
		Supersede: rapid.Bool().Draw(m.rt, "supersede"),
	}
	var parent *modelRun
	end := false
	if latest != nil {
		parent, end = latest, latest.status == storage.Finished
	}
	if latest != nil && rapid.IntRange(0, 3).Draw(m.rt, "from") == 0 {
		for _, other := range m.runs {
			if other.thread == r.thread && rapid.Bool().Draw(m.rt, "this") {
				parent = other
			}
		}
		end = parent.status == storage.Finished && rapid.Bool().Draw(m.rt, "end")
		r.fork = rapid.IntRange(0, len(parent.log)).Draw(m.rt, "fork")
		s.From, s.ForkSeq = &storage.Checkpoint{Run: parent.id, End: end}, int64(r.fork)
	}
	if parent != nil {
		r.parent = storage.Checkpoint{Run: parent.id, End: end}
		r.log = slices.Clone(parent.log[:r.fork])
		r.step, r.previous = parent.step+1, parent.previous
		if end {
			r.step, r.previous = parent.step+2, parent
		}
	}
	switch rapid.IntRange(0, 2).Draw(m.rt, "how") {
	case 0:
		r.due = m.drawMinute("due")
		s.Run.Due = m.at(r.due)
	case 1:
		r.status, r.owner, r.taken = storage.Running, m.drawMember(), true
		s.Run.Owner = r.owner.ID()
	case 2:
		r.status, r.value = storage.Finished, "value "+r.id.String()
		s.Run.Status, s.Run.Result = storage.Finished, []byte(r.value)
		if r.parent.Run != (storage.ID{}) {
			r.step--
		}
	}
	started, err := m.w.b.Start(m.w.ctx, s)
	if latest != nil && latest.active() {
		if !s.Supersede || latest.alive() {
			busy := m.w.busy(err, latest.id, "Start")
			m.w.true(busy.Alive == latest.alive() && busy.Open == len(latest.open()), "Alive %v, Open %d", busy.Alive, busy.Open)
			return
		}
		m.end(latest, storage.Superseded, storage.SupersededQuestion)
	}
	m.w.ok(err, "Start")
	previous := ""
	if r.previous != nil {
		previous = r.previous.value
	}
	same(m.w, "Started.Previous", string(started.Previous), previous)
	m.runs = append(m.runs, r)
	m.touch(r)
}

func (m *model) append(*rapid.T) {
	r := m.drawRun()
	u := storage.Unit{Tenant: m.tenant, Run: r.id, Token: r.token, First: int64(len(r.log)) + 1}
	stale := r.status != storage.Running
	if rapid.IntRange(0, 9).Draw(m.rt, "old token") == 0 {
		u.Token--
		stale = true
	}
	for i := range rapid.IntRange(1, 2).Draw(m.rt, "records") {
		u.Records = append(u.Records, fmt.Appendf(nil, "%s %d", r.id, u.First+int64(i)))
	}
	var asked []*modelQuestion
	for range rapid.IntRange(0, 2).Draw(m.rt, "questions") {
		q := &modelQuestion{
			id: m.w.newID(), run: r, state: storage.Open, deadline: m.drawMinute("deadline"),
			group: rapid.SampledFrom([]string{"", "g"}).Draw(m.rt, "group"),
		}
		asked = append(asked, q)
		u.Questions = append(u.Questions, storage.Question{ID: q.id, Seq: u.First, Group: q.group, Deadline: m.at(q.deadline)})
	}
	u.Status = rapid.SampledFrom([]storage.Status{
		0, 0, storage.Interrupted, storage.Interrupted, storage.Queued, storage.Parked, storage.Finished, storage.Failed, storage.Cancelled,
	}).Draw(m.rt, "status")
	u.SeenInbox = r.inbox
	if r.inbox > 0 && rapid.Bool().Draw(m.rt, "unseen") {
		u.SeenInbox--
	}
	due := m.drawMinute("due")
	u.Due, u.Result = m.at(due), []byte("value "+r.id.String())

	c := m.w.tryAppend(u)
	if stale {
		m.w.is(c.Err, storage.ErrStale, "Append")
		return
	}
	m.w.ok(c.Err, "Append")
	for _, data := range u.Records {
		r.log = append(r.log, string(data))
	}
	r.questions = append(r.questions, asked...)
	r.units = append(r.units, u)
	r.recorded, r.crashes = true, 0
	m.touch(r)
	kept := false
	switch u.Status {
	case 0:
	case storage.Interrupted, storage.Queued:
		if kept = r.inbox > u.SeenInbox; !kept {
			r.status, r.owner, r.due = u.Status, nil, due
		}
	case storage.Parked:
		r.status, r.owner = u.Status, nil
	default:
		m.end(r, u.Status, storage.Withdrawn)
		if u.Status == storage.Finished {
			r.value = string(u.Result)
		}
	}
	m.w.true(c.Kept == kept, "kept %v, want %v", c.Kept, kept)
}

// repeat sends a committed unit again.
func (m *model) repeat(*rapid.T) {
	r := m.drawRun()
	if len(r.units) == 0 {
		m.rt.Skip("no unit yet")
	}
	u := rapid.SampledFrom(r.units).Draw(m.rt, "unit")
	m.w.is(m.w.tryAppend(u).Err, storage.ErrDuplicate, "Append again")
	m.touch(r)
}

func (m *model) settle(*rapid.T) {
	r := m.drawRun()
	if len(r.questions) == 0 {
		m.rt.Skip("no question yet")
	}
	q := rapid.SampledFrom(r.questions).Draw(m.rt, "question")
	s := storage.Settlement{
		Tenant: m.tenant, Question: q.id,
		State:  rapid.SampledFrom([]storage.QuestionState{storage.Answered, storage.Answered, storage.Withdrawn}).Draw(m.rt, "state"),
		Answer: fmt.Appendf(nil, "answer in minute %d", m.minute),
		Key:    rapid.SampledFrom([]string{"", "k", "l"}).Draw(m.rt, "key"),
	}
	var member *modelMember
	if rapid.Bool().Draw(m.rt, "with member") {
		member = m.drawMember()
		s.Member = member.ID()
	}
	got := m.w.trySettle(s)
	m.touch(r)
	switch {
	case m.overdue(q):
		m.expire(q)
		m.w.settled(got.Err, storage.Expired, "Settle")
	case q.state != storage.Open && s.Key != "" && s.Key == q.key:
		m.w.ok(got.Err, "Settle again")
		m.w.true(got.Repeated, "not Repeated")
	case q.state != storage.Open:
		m.w.settled(got.Err, q.state, "Settle")
	default:
		m.w.ok(got.Err, "Settle")
		q.state, q.answer, q.key = s.State, string(s.Answer), s.Key
		if s.State == storage.Answered && q.group != "" {
			for _, other := range r.open() {
				if other.group == q.group {
					other.state = storage.Withdrawn
				}
			}
		}
		m.tell(r, member)
	}
	m.w.true(got.Acquired == (got.Err == nil && member != nil && r.owner == member), "acquired %v", got.Acquired)
}

func (m *model) acquire(*rapid.T) {
	r := m.drawRun()
	a := storage.Acquire{Tenant: m.tenant, Run: r.id}
	for s := storage.Queued; s <= storage.Cancelled; s++ {
		if rapid.IntRange(0, 2).Draw(m.rt, s.String()) > 0 {
			a.From = append(a.From, s)
		}
	}
	var member *modelMember
	if rapid.IntRange(0, 3).Draw(m.rt, "queue") > 0 {
		member = m.drawMember()
		a.Member = member.ID()
	}
	_, err := m.w.b.Acquire(m.w.ctx, a)
	if latest := m.latest(r.thread); latest != r {
		m.w.busy(err, latest.id, "Acquire")
		return
	}
	if !slices.Contains(a.From, r.status) || r.alive() && r.owner != member {
		m.w.busy(err, r.id, "Acquire")
		return
	}
	m.w.ok(err, "Acquire")
	m.own(r, member)
}

func (m *model) poll(*rapid.T) {
	member, limit := m.drawMember(), rapid.IntRange(0, 4).Draw(m.rt, "limit")
	p := m.w.poll(member.Membership, limit, m.entrypoint)
	var ready []*modelRun
	for _, r := range m.runs {
		for _, q := range r.questions {
			if m.overdue(q) {
				m.expire(q)
			}
		}
		if r.status == storage.Interrupted && r.due > 0 && r.due <= m.minute {
			r.status, r.due = storage.Queued, 0
			m.touch(r)
		}
		if r.status == storage.Queued && r.due <= m.minute || r.status == storage.Running && !r.alive() {
			ready = append(ready, r)
		}
	}
	m.w.true(len(p.Runs) == min(limit, len(ready)), "Poll took %d of %d runs for the limit %d", len(p.Runs), len(ready), limit)
	m.w.true(p.More == (len(ready) > limit), "More is %v: %d runs, limit %d", p.More, len(ready), limit)
	for _, taken := range p.Runs {
		i := slices.IndexFunc(ready, func(r *modelRun) bool { return r.id == taken.ID })
		m.w.true(i >= 0, "Poll took %s, which is not to be taken or was taken before", taken.ID)
		m.own(ready[i], member)
		ready = slices.Delete(ready, i, i+1)
	}
}

func (m *model) cancel(*rapid.T) {
	r := m.drawRun()
	_, err := m.w.b.Cancel(m.w.ctx, m.tenant, r.id, "reason")
	switch {
	case !r.active():
		m.w.busy(err, r.id, "Cancel")
	case r.alive():
		m.w.ok(err, "Cancel")
		r.cancel, r.told = true, true
		m.touch(r)
	default:
		m.w.ok(err, "Cancel")
		m.end(r, storage.Cancelled, storage.Withdrawn)
	}
}

// Comparing.

func (m *model) checkTouched(*rapid.T) {
	for _, r := range m.touched {
		m.check(r)
	}
	m.touched = nil
}

func (m *model) checkAll() {
	for _, r := range m.runs {
		m.check(r)
	}
}

func (m *model) check(r *modelRun) {
	w := m.w
	w.Helper()
	l := w.load(storage.Run{Tenant: m.tenant, ID: r.id})
	got := l.Run
	type state struct {
		Status          storage.Status
		Owner           storage.ID
		LastSeq         int64
		Due             time.Time
		Parent          storage.Checkpoint
		ForkSeq, Step   int64
		Previous        storage.ID
		Crashes         int
		CancelRequested bool
		Result          string
		Log             []string
	}
	want := state{
		r.status, memberID(r.owner), int64(len(r.log)), m.at(r.due), r.parent, int64(r.fork), r.step, storage.ID{}, r.crashes, r.cancel, r.value, r.log,
	}
	if r.previous != nil {
		want.Previous = r.previous.id
	}
	if r.status == storage.Queued && r.due <= m.minute {
		want.Due = got.Due // it has come: nobody cares any more
	}
	same(w, "run", state{
		got.Status, got.Owner, got.LastSeq, got.Due, got.Parent, got.ForkSeq, got.Step, got.Previous, got.Crashes, got.CancelRequested, string(got.Result), texts(l.Records),
	}, want)
	w.true(got.Inbox == r.inbox && !r.told || got.Inbox > r.inbox && r.told, "inbox %d, before %d, told %v", got.Inbox, r.inbox, r.told)
	w.true(got.Token >= r.token && (got.Token > r.token || !r.taken), "token %d, before %d, taken %v", got.Token, r.token, r.taken)
	w.true(got.Token == r.token || r.status != storage.Running || r.taken, "token %d, before %d, of an owner that stayed", got.Token, r.token)
	r.inbox, r.token, r.told, r.taken = got.Inbox, got.Token, false, false

	states, wantStates := map[storage.ID]string{}, map[storage.ID]string{}
	for _, q := range l.Questions {
		states[q.ID] = fmt.Sprintf("%s %s", q.State, q.Answer)
	}
	for _, q := range r.questions {
		wantStates[q.id] = fmt.Sprintf("%s %s", q.state, q.answer)
	}
	same(w, "questions", states, wantStates)
	if m.latest(r.thread) != r {
		return
	}
	head, err := w.b.Head(w.ctx, m.tenant, r.thread)
	w.ok(err, "Head")
	w.true(head.Run != nil && head.Run.ID == r.id, "Head does not show the latest run")
	w.true(head.Alive == r.alive() && len(head.Open) == len(r.open()), "Head: alive %v, %d open", head.Alive, len(head.Open))
	last := r.previous
	if r.status == storage.Finished {
		last = r
	}
	w.true((head.Last == nil) == (last == nil) && (last == nil || head.Last.ID == last.id), "Head: the wrong run holds the value")
}
