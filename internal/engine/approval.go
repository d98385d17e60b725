package engine

import (
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Grant is the right to make one call, given by the answer to a question. It is
// of one run, and of no use in another: also not in a fork or a copy of it, or the call would be made in both.
type Grant struct {
	run     storage.ID
	claim   int64 // of the question
	foreign bool  // the question is of the run that this one is a fork or a copy of
	expires time.Time
}

// Grant makes the answer a right that ends at a time; zero: it doesn't.
func (r *Reply) Grant(expires time.Time) *Grant {
	run := &r.scope.pass.run
	foreign := r.Question.Run != run.ID || len(run.Copied) > 0 && r.Question.Seq <= run.Copied[len(run.Copied)-1].Seq
	return &Grant{run: run.ID, claim: r.claim, foreign: foreign, expires: expires}
}

// Codes of failures that a call without a right gets as its outcome.
const (
	codeApprovalStale   = "fermata.stale_approval"
	codeApprovalUsed    = "fermata.approval_used"
	codeApprovalExpired = "fermata.approval_expired"
)

// check refuses a grant of another run before anything is claimed.
func (g *Grant) check(s *Scope) error {
	if g.run == s.pass.run.ID {
		return nil
	}
	return s.error(ErrStaleApproval, "an approval is for the run that asked for it: ask again")
}

// spend uses the grant up for a claim that has no outcome, durably, before the function runs. A
// grant that is another run's or used by another claim, or has expired, gives the claim a failure instead. A call that
// began in time goes on after a crash or a pause; one that is made again after a failure begins anew.
func (f *Future) spend(g *Grant, name string) error {
	p := f.scope.pass
	now := time.Time{}
	if !g.expires.IsZero() {
		var err error
		if now, err = p.engine.backend.Now(p.ctx); err != nil {
			return p.lose(err)
		}
	}
	p.mu.Lock()
	on, used := p.history.used[g.claim]
	code, message := "", ""
	switch {
	case g.foreign:
		code, message = codeApprovalStale, "the approval is for the run that this one is a fork or a copy of: fork before its question"
	case used && on != f.claim.seq:
		code, message = codeApprovalUsed, "the approval was already used"
	case !f.claim.begun && !g.expires.IsZero() && !g.expires.After(now):
		code, message = codeApprovalExpired, fmt.Sprintf("the approval expired at %s: approve again with another call, or fork the run before its question", moment(g.expires))
	case !f.claim.begun:
		p.history.spend(g.claim, f.claim.seq)
	}
	begun := f.claim.begun
	f.claim.begun = code == ""
	p.mu.Unlock()
	if code != "" {
		failure := &Failure{Task: name, Path: f.opener.path, Message: message, Attempts: 1, Codes: []string{code}}
		r := record{kind: recordOutcome, claim: f.claim.seq, failed: true, data: failure.encode(), at: p.clock()}
		_, batch := p.journal.add(r)
		if err := p.journal.settle(batch); err != nil {
			return p.lose(err)
		}
		f.finish(r)
		return nil
	}
	if begun {
		return nil
	}
	_, batch := p.journal.add(record{kind: recordUsed, claim: g.claim, at: f.claim.seq})
	if err := p.journal.write(batch); err != nil {
		return p.lose(err)
	}
	return nil
}
