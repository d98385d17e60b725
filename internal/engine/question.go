package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Ask is a question as the code puts it.
type Ask struct {
	Def      any    // the identity of a declared question
	Name     string // of a declared question; "" for an inline one
	Key      string // "" takes the next position
	Payload  []byte
	Schema   []byte
	Details  Details
	Unique   string
	Deadline time.Duration   // from now; zero: none
	Remind   []time.Duration // from now, ascending
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
	// Expire says what an expiry gives to the code.
	Expire Expiry `json:"expire,omitempty"`
	// Default is the answer of ExpireDefault.
	Default []byte `json:"default,omitempty"`
	// Remind says when people are to be reminded, ascending.
	Remind []time.Time `json:"remind,omitempty"`
}

// Expiry is what the end of a question's time means to the code.
type Expiry string

// The kinds of expiry.
const (
	ExpireError   Expiry = ""        // an error that matches [ErrExpired]
	ExpireDefault Expiry = "default" // a default answer
	ExpireFail    Expiry = "fail"    // the run fails
)

// DetailsOf reads the details of a stored question.
func DetailsOf(q *storage.Question) (Details, error) {
	var d Details
	if len(q.Details) == 0 {
		return d, nil
	}
	if err := json.Unmarshal(q.Details, &d); err != nil {
		return Details{}, fmt.Errorf("%w: details of question %s: %w", storage.ErrCorrupt, q.ID, err)
	}
	return d, nil
}

// Reply is a settled question, as the code gets it.
type Reply struct {
	Value    []byte
	Question *storage.Question
	// Stale: the question showed other bytes than the code now asks with.
	Stale bool
	scope *Scope
	claim int64
}

// Outcome is how one of several questions ended: a reply, or an error that matches
// [ErrExpired], [ErrWithdrawn], [ErrNotUnique] or [ErrUnsatisfiable].
type Outcome struct {
	Reply *Reply
	Err   error
}

// Interrupt asks a question, or finds its answer. Errors: [ErrPaused] while it
// is open, those of [Outcome], and those of the run's stop.
func Interrupt(ctx context.Context, ask *Ask) (*Reply, error) {
	outcomes, err := InterruptAll(ctx, []*Ask{ask})
	if err != nil {
		return nil, err
	}
	return outcomes[0].Reply, outcomes[0].Err
}

// InterruptAll asks several questions at once. While one of them is open the scope is suspended.
func InterruptAll(ctx context.Context, asks []*Ask) ([]Outcome, error) {
	s, asked, err := put(ctx, asks, false)
	if err != nil {
		return nil, err
	}
	for i := range asked {
		if asked[i].claim.open() {
			if err := s.overdue(asks, asked); err != nil {
				return nil, err
			}
			return nil, s.suspend()
		}
	}
	outcomes := make([]Outcome, len(asked))
	for i := range asked {
		s.take(asked[i].claim)
		outcomes[i].Reply, outcomes[i].Err = s.reply(asks[i], asked[i].claim)
		if err := s.pass.stopped(); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// InterruptAny asks several questions of which one is to be answered: the answer of one withdraws the
// others in the same commit. If all end without an answer, the outcome is the
// first default, or else the error of the first. The scope is suspended until then.
func InterruptAny(ctx context.Context, asks []*Ask) (int, *Reply, error) {
	s, asked, err := put(ctx, asks, true)
	if err != nil {
		return 0, nil, err
	}
	winner, open := -1, false
	for i := range asked {
		q := asked[i].claim.question
		open = open || asked[i].claim.open()
		if q != nil && q.State == storage.Answered {
			winner = i
		}
	}
	if winner < 0 {
		if err := s.overdue(asks, asked); err != nil {
			return 0, nil, err
		}
		if open {
			return 0, nil, s.suspend()
		}
	}
	for i := range asked {
		s.take(asked[i].claim)
	}
	if winner >= 0 {
		reply, err := s.reply(asks[winner], asked[winner].claim)
		return winner, reply, err
	}
	var first error
	for i := range asked {
		reply, err := s.reply(asks[i], asked[i].claim)
		if err == nil {
			return i, reply, nil
		}
		if first == nil {
			first = err
		}
	}
	return 0, nil, first
}

// overdue ends the run if the time of one of the questions is over, and was the run's too.
func (s *Scope) overdue(asks []*Ask, asked []asked) error {
	for i := range asked {
		c := asked[i].claim
		if c.question == nil || c.question.State != storage.Expired {
			continue
		}
		if details, err := DetailsOf(c.question); err == nil && details.Expire == ExpireFail {
			s.take(c)
			_, err := s.reply(asks[i], c)
			return err
		}
	}
	return nil
}

// open reports whether the claim's question waits for an answer.
func (c *pastClaim) open() bool {
	return c.question != nil && (c.question.State == storage.Open || c.question.State == 0)
}

// asked is a question that the scope has come to.
type asked struct {
	claim *pastClaim
	order []int
	again bool // an earlier claim's question has to be asked anew
}

// put finds the claims of questions, and opens those that are new in one unit. The scope waits for the open ones,
// but is not suspended yet.
func put(ctx context.Context, asks []*Ask, oneAnswer bool) (*Scope, []asked, error) {
	s, err := From(ctx)
	if err != nil {
		return nil, nil, err
	}
	p := s.pass
	if len(asks) == 0 {
		return nil, nil, s.error(ErrInvalid, "ask at least one question")
	}
	for _, ask := range asks {
		if err := ask.check(); err != nil {
			return nil, nil, p.error(s.path, ErrInvalid, err, "give it texts in UTF-8 without NUL, and short names")
		}
		if ask.Def != nil {
			if err := p.engine.define(KindQuestion, ask.Name, ask.Def); err != nil {
				return nil, nil, err
			}
		}
	}
	all := make([]asked, len(asks))
	group, decided := "", false
	for i, ask := range asks {
		past, order, fresh, err := s.find(call{kind: KindQuestion, name: ask.Name, key: ask.Key, input: ask.Payload})
		if err != nil {
			return nil, nil, err
		}
		all[i] = asked{claim: past, order: order}
		if past == nil {
			fresh.site = callSite()
			all[i].claim = fresh
			continue
		}
		if q := past.question; q != nil && q.Group != "" {
			group, decided = q.Group, decided || q.State == storage.Answered
		}
	}
	var fresh []*asked
	var records []record
	var questions []*storage.Question
	var refusals []error
	for i, ask := range asks {
		a := &all[i]
		a.again = a.claim.seq != 0
		if a.again && (a.claim.refusal != nil || a.claim.question != nil && (decided || !askAgain(a.claim.question))) {
			continue
		}
		if a.again && p.verify {
			return nil, nil, s.unexpected(call{kind: KindQuestion, name: ask.Name, key: ask.Key})
		}
		q, err := s.question(ask)
		if err != nil {
			return nil, nil, err
		}
		if oneAnswer && group == "" {
			group = q.ID.String()
		}
		if oneAnswer {
			q.Group = group
		}
		r := a.claim.record
		if a.again {
			r = record{kind: recordAsk, claim: a.claim.seq}
		}
		fresh, records, questions = append(fresh, a), append(records, r), append(questions, q)
		refusals = append(refusals, p.engine.satisfiable(ctx, p.run.Tenant, ask))
	}
	p.asking.Lock()
	defer p.asking.Unlock()
	if err := s.withdrawn(); err != nil {
		return nil, nil, err
	}
	if err := s.open(fresh, records, questions, refusals); err != nil {
		return nil, nil, err
	}
	waits := false
	for i := range all {
		if c := all[i].claim; c.open() && !decided {
			waits = true
			p.waitFor(all[i].order, s.place, c)
		}
	}
	if waits {
		p.writeSoon()
	}
	return s, all, nil
}

// open records new questions. Those with a refusal are not asked, and so are those whose unique key is taken.
func (s *Scope) open(fresh []*asked, records []record, questions []*storage.Question, refusals []error) error {
	if len(fresh) == 0 {
		return nil
	}
	p := s.pass
	var asking []record
	var rows []*storage.Question
	unique := false
	for i := range fresh {
		if refusals[i] == nil {
			asking, rows = append(asking, records[i]), append(rows, questions[i])
			unique = unique || questions[i].Unique != ""
		}
	}
	batch := p.journal.ask(asking, rows)
	for i, a := range fresh {
		if refusals[i] == nil {
			a.claim.question, a.claim.taken, a.claim.reminded = questions[i], false, 0
			if !a.again {
				a.claim.seq = questions[i].Seq
			}
		} else {
			if !a.again {
				a.claim.seq, _ = p.journal.add(records[i])
			}
			r := record{kind: recordRefusal, claim: a.claim.seq, name: refusedUnsatisfiable, data: []byte(refusals[i].Error())}
			p.journal.add(r)
			a.claim.refuse(r)
		}
		if !a.again {
			s.made(a.claim)
		}
	}
	if !unique {
		return nil
	}
	if err := p.journal.write(batch); err != nil {
		return p.lose(err)
	}
	for i, a := range fresh {
		if r, refused := batch.refused[questions[i].ID]; refused {
			a.claim.question = nil
			a.claim.refuse(r)
		}
	}
	return nil
}

// Why a question was not asked, in a recordRefusal.
const (
	refusedUnique        = "unique"
	refusedUnsatisfiable = "unsatisfiable"
)

// askAgain reports whether q ended without anybody's word on it: its run was cancelled or given up.
func askAgain(q *storage.Question) bool {
	return q.State == storage.SupersededQuestion || q.State == storage.Withdrawn && q.By.Kind == ""
}

// question makes the row for a new question.
func (s *Scope) question(ask *Ask) (*storage.Question, error) {
	if ask.Deadline > 0 || len(ask.Remind) > 0 {
		// Times that others will hold against the backend's clock are taken from it.
		if err := s.pass.engine.syncClock(s.pass.ctx); err != nil {
			return nil, s.pass.lose(err)
		}
	}
	now := s.pass.engine.now()
	details := ask.Details
	for _, after := range ask.Remind {
		details.Remind = append(details.Remind, now.Add(after).UTC().Truncate(time.Millisecond))
	}
	data, err := json.Marshal(details)
	if err != nil {
		return nil, fmt.Errorf("encode the details of a question: %w", err)
	}
	if string(data) == "{}" {
		data = nil
	}
	run := &s.pass.run
	digest := sha256.Sum256(ask.Payload)
	q := &storage.Question{
		ID: storage.NewID(now), Tenant: run.Tenant, Thread: run.Thread, Run: run.ID, Entrypoint: run.Entrypoint,
		Path: s.path, Name: ask.Name, Key: ask.Key, Payload: ask.Payload, Digest: digest[:],
		Schema: ask.Schema, Details: data, Unique: ask.Unique,
		Users: ask.Users, Groups: ask.Groups, NotBy: ask.NotBy, Priority: ask.Priority, Tags: ask.Tags,
	}
	if ask.Deadline > 0 {
		q.Deadline = now.Add(ask.Deadline)
	}
	return q, nil
}

// take notes that the end of a question is handed to the code.
func (s *Scope) take(c *pastClaim) {
	if c.refusal != nil {
		return
	}
	if !c.taken {
		c.taken = true
		s.news()
		s.pass.journal.add(record{kind: recordTaken, claim: c.seq})
	}
	s.seen(c.question.Settled)
}

// reply is what the end of a question gives to the code.
func (s *Scope) reply(ask *Ask, c *pastClaim) (*Reply, error) {
	if r := c.refusal; r != nil {
		return nil, s.refusal(r)
	}
	q := c.question
	// What runs after an approval is the stored payload: it must be what was asked.
	if digest := sha256.Sum256(q.Payload); !bytes.Equal(digest[:], q.Digest) {
		s.refused = true
		return nil, s.pass.park(s.path, fmt.Errorf("%w: question %s holds another payload than was asked", storage.ErrCorrupt, q.ID))
	}
	reply := &Reply{Value: q.Answer, Question: q, Stale: !bytes.Equal(ask.Payload, q.Payload), scope: s, claim: c.seq}
	switch q.State {
	case storage.Answered:
		return reply, nil
	case storage.Expired:
		details, err := DetailsOf(q)
		if err != nil {
			s.refused = true
			return nil, s.pass.park(s.path, err)
		}
		switch details.Expire {
		case ExpireDefault:
			reply.Value = details.Default
			return reply, nil
		case ExpireFail:
			return nil, s.failExpired(q)
		}
		return nil, s.settledError(ErrExpired, q)
	default:
		return nil, s.settledError(ErrWithdrawn, q)
	}
}

// refusal is the error of a question that was not asked, the same on every replay.
func (s *Scope) refusal(r *record) error {
	e := &Error{Thread: s.pass.run.Thread, Run: s.pass.run.ID, Path: s.path}
	switch r.name {
	case refusedUnique:
		e.Reason, e.Hint = ErrNotUnique, "wait for that question, or withdraw it"
		e.Err = fmt.Errorf("question %s", r.data)
		if id, err := storage.ParseID(string(r.data)); err == nil {
			e.Questions = []storage.Question{{ID: id}}
		}
	default:
		e.Reason, e.Err, e.Hint = ErrUnsatisfiable, fmt.Errorf("%s", r.data), "widen the audience, or exclude fewer"
	}
	return e
}

// failExpired ends the run because a question's time is over.
func (s *Scope) failExpired(q *storage.Question) error {
	s.refused = true
	err := s.settledError(ErrExpired, q)
	return s.pass.halt(&stop{err: err, status: storage.Failed, report: &Failure{
		Task: s.pass.entry.Name, Path: s.path, Attempts: max(1, s.pass.attempt(0)), Codes: []string{"fermata.expired"}, Hidden: true,
		Message: fmt.Sprintf("question %s expired at %s", q.ID, moment(q.Deadline)),
	}})
}

func (s *Scope) settledError(reason error, q *storage.Question) error {
	return &Error{Thread: q.Thread, Run: q.Run, Path: s.path, Reason: reason, Questions: []storage.Question{*q}}
}

// Reject parks the run because the answer can't be decoded as what the code now wants. The answer is kept.
func (r *Reply) Reject(err error) error {
	r.scope.refused = true
	return r.scope.pass.park(r.scope.path, fmt.Errorf("answer to question %s: %w", r.Question.ID, err))
}

// checkAnswers parks the run, before its body runs, if an answer that
// another process accepted is not one that this process can take. The answer is kept.
func (p *pass) checkAnswers() {
	check := p.engine.options.CheckAnswer
	if check == nil {
		return
	}
	for _, c := range p.history.claims {
		q := c.question
		if q == nil || c.taken || q.State != storage.Answered {
			continue
		}
		if err := check(q, q.Answer); err != nil {
			_ = p.park(q.Path, fmt.Errorf("answer to question %s: %w", q.ID, err))
			return
		}
	}
}

// remind calls for those whose answers the pass waits for, and says when the next reminder is due; zero: none is.
func (p *pass) remind() (next time.Time) {
	now := p.engine.now()
	for _, w := range p.waiting {
		c := w.claim
		details, err := DetailsOf(c.question)
		if err != nil {
			continue // it is found when the question is settled
		}
		due := c.reminded
		for due < int64(len(details.Remind)) && !details.Remind[due].After(now) {
			due++
		}
		if due > c.reminded {
			c.reminded = due
			if remind := p.engine.options.Remind; remind != nil {
				if err := guard(func() error { return remind(p.ctx, c.question) }); err != nil {
					p.engine.log.Error("reminder failed", "question", c.question.ID, "thread", p.run.Thread, "error", err)
				}
			}
			p.journal.add(record{kind: recordRemind, claim: c.seq, at: due})
		}
		if due < int64(len(details.Remind)) && (next.IsZero() || details.Remind[due].Before(next)) {
			next = details.Remind[due]
		}
	}
	return next
}
