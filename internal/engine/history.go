package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// history is a run's log, arranged for replay.
type history struct {
	scopes   map[int64]*pastScope
	claims   map[int64]*pastClaim
	sites    sites
	last     int64           // sequence of the last record
	paused   int64           // sequence of the last pause
	made     []storage.Part  // see recording
	origin   time.Time       // see recording
	versions map[string]int  // of changes
	body     *record         // the recordReturn, if the body's value was announced already
	used     map[int64]int64 // claim of an approval to the claim that it was spent on
}

// pastScope is what a scope did so far.
type pastScope struct {
	calls   []*pastClaim          // by position
	keyed   map[string]*pastClaim // by key
	attempt int                   // number of the running attempt; 0 and 1 are the first
	spent   int                   // attempts before it that the retry policy doesn't count
	active  int64                 // last record that says something of this scope or of one below
	nested  int                   // nested entrypoints called in the running attempt
}

// pastClaim is a claimed call with what became of it.
type pastClaim struct {
	record
	seq      int64
	at       time.Time
	parent   *pastClaim
	done     bool // there is an outcome
	failed   bool
	cached   bool
	data     []byte // of the outcome
	doneAt   time.Time
	asked    int64             // the record of the last question of this claim, as it was read
	question *storage.Question // the last one asked by this claim
	taken    bool
	reminded int64   // reminders of the question that were due
	refusal  *record // why the question was not asked; then the claim is done, and failed
	accepted bool    // by a repair: it isn't compared
	begun    bool    // an approval was spent on it, and no failure has come of it since
	live     bool    // made in this pass
	nth      int     // of a nested entrypoint: how many its scope called before
}

// readHistory arranges what the backend loaded. Records that make no sense: [storage.ErrCorrupt].
func readHistory(loaded *recording) (*history, error) {
	h := &history{
		scopes: map[int64]*pastScope{},
		claims: make(map[int64]*pastClaim, len(loaded.Records)/2),
		made:   loaded.made,
		origin: loaded.origin,
	}
	slab := make([]pastClaim, 0, len(loaded.Records))
	for _, stored := range loaded.Records {
		r, err := decodeRecord(stored.Data, &h.sites)
		if err == nil && stored.Seq != h.last+1 {
			err = fmt.Errorf("%w: record %d follows record %d", storage.ErrCorrupt, stored.Seq, h.last)
		}
		if err == nil {
			h.last = stored.Seq
			if r.kind == recordClaim {
				slab = append(slab, pastClaim{record: r, seq: stored.Seq, at: stored.At, asked: stored.Seq})
				err = h.claim(&slab[len(slab)-1])
			} else {
				err = h.apply(r, stored)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("run %s, record %d: %w", loaded.Run.ID, stored.Seq, err)
		}
	}
	for i := range loaded.Questions {
		q := &loaded.Questions[i]
		if q.Seq > h.last {
			return nil, fmt.Errorf("run %s: %w: question %s is of record %d, the last is %d", loaded.Run.ID, storage.ErrCorrupt, q.ID, q.Seq, h.last)
		}
		c := h.claims[q.Seq]
		if c == nil || c.call != KindQuestion || q.Seq != c.asked {
			continue
		}
		// Of what the run shares with the one it is a fork of, answers count that
		// the code had been handed by then; other questions are asked anew.
		if q.Run == loaded.Run.ID || c.taken {
			c.question = q
		}
	}
	return h, nil
}

func (h *history) scope(id int64) *pastScope {
	s := h.scopes[id]
	if s == nil {
		s = &pastScope{}
		h.scopes[id] = s
	}
	return s
}

// claim adds a claim to its scope.
func (h *history) claim(c *pastClaim) error {
	if c.scope != 0 {
		if c.parent = h.claims[c.scope]; c.parent == nil {
			return fmt.Errorf("%w: claim in the unknown scope %d", storage.ErrCorrupt, c.scope)
		}
	}
	h.claims[c.seq] = c
	h.number(c)
	s := h.scope(c.scope)
	if c.key == "" {
		s.calls = append(s.calls, c)
	} else {
		if s.keyed == nil {
			s.keyed = map[string]*pastClaim{}
		}
		s.keyed[c.key] = c
	}
	h.touch(c.seq, c)
	return nil
}

// number counts a nested entrypoint among those of its scope.
func (h *history) number(c *pastClaim) {
	if c.call == KindEntrypoint {
		s := h.scope(c.scope)
		c.nth = s.nested
		s.nested++
	}
}

// touch notes that record seq was about the scope of c.
func (h *history) touch(seq int64, c *pastClaim) {
	for ; c != nil; c = c.parent {
		h.scope(c.scope).active = seq
	}
}

func (h *history) apply(r record, stored storage.Record) error {
	var c *pastClaim
	switch r.kind {
	case recordOutcome, recordAsk, recordTaken, recordAccept, recordRefusal, recordRemind, recordUsed:
		if c = h.claims[r.claim]; c == nil {
			return fmt.Errorf("%w: record of the unknown claim %d", storage.ErrCorrupt, r.claim)
		}
		if r.kind != recordRemind {
			h.touch(stored.Seq, c)
		}
	}
	switch r.kind {
	case recordOutcome:
		c.done, c.failed, c.cached, c.data, c.doneAt = true, r.failed, r.cached, r.data, h.origin.Add(time.Duration(r.at)*time.Millisecond)
	case recordAsk:
		// The question that was asked anew bears the sequence of this record.
		h.claims[stored.Seq] = c
		c.asked, c.question, c.taken, c.reminded = stored.Seq, nil, false, 0
	case recordTaken:
		c.taken = true
	case recordRefusal:
		if r.name != "" {
			c.refuse(r)
		}
	case recordRemind:
		c.reminded = r.at
	case recordUsed:
		h.spend(r.claim, r.at)
		if on := h.claims[r.at]; on != nil {
			on.begun = true
		}
	case recordAccept:
		c.accepted = true
	case recordPause:
		h.paused = stored.Seq
	case recordVersion:
		if h.versions == nil {
			h.versions = map[string]int{}
		}
		h.versions[r.name] = int(r.at)
	case recordReturn:
		h.body = &r
	case recordAttempt:
		h.supersede(r)
	}
	return nil
}

// refuse notes that the question of the claim was not asked.
func (c *pastClaim) refuse(r record) {
	c.refusal, c.done, c.failed = &r, true, true
}

// spend notes that an approval was spent on a claim.
func (h *history) spend(approval, on int64) {
	if h.used == nil {
		h.used = map[int64]int64{}
	}
	h.used[approval] = on
}

// reopen lists the records that open a new attempt of a scope that ended in f,
// and of each failed call found in f, down to where the failure came from: what is
// repeated must not replay the very failure that it is repeated for. The policies of these calls count from there anew;
// that of the scope itself doesn't count its first spent attempts.
func (h *history) reopen(e *Engine, scope int64, attempt, spent int, f *Failure) ([]record, error) {
	records := []record{{kind: recordAttempt, claim: scope, attempt: attempt, spent: spent, retry: f.Retry, cut: f.cut()}}
	below := func(scope int64, f *Failure) error {
		s := h.scopes[scope]
		if s == nil || len(s.calls)+len(s.keyed) == 0 && s.attempt == 0 {
			return nil // no durable calls: nothing of its own to supersede
		}
		made := max(1, s.attempt)
		inner, err := h.reopen(e, scope, made+1, made, f)
		records = append(records, inner...)
		return err
	}
	for _, branch := range f.Branches {
		if branch == nil || branch.Branch <= scope {
			return nil, fmt.Errorf("%w: a failure of scope %d has a branch that is none of it", storage.ErrCorrupt, scope)
		}
		if err := below(branch.Branch, branch); err != nil {
			return nil, err
		}
	}
	for _, seq := range f.Retry {
		c := h.claims[seq]
		if c == nil || !c.failed {
			continue
		}
		if seq <= scope {
			return nil, fmt.Errorf("%w: record %d is a call of the later scope %d", storage.ErrCorrupt, seq, scope)
		}
		inner, err := e.decodeFailure(c.data, seq)
		if err != nil {
			return nil, fmt.Errorf("%w: outcome of record %d: %w", storage.ErrCorrupt, seq, err)
		}
		if err := below(seq, inner); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// supersede opens a new attempt: outcomes of r.retry are forgotten, and what
// the scope claimed after r.cut.
func (h *history) supersede(r record) {
	s := h.scope(r.claim)
	s.attempt, s.spent = r.attempt, r.spent
	for i, c := range s.calls {
		if c.seq > r.cut {
			s.calls = s.calls[:i]
			break
		}
	}
	for key, c := range s.keyed {
		if c.seq > r.cut {
			delete(s.keyed, key)
		}
	}
	s.nested = 0
	for _, c := range s.inOrder() {
		if c.call == KindEntrypoint {
			s.nested++
		}
	}
	for _, seq := range r.retry {
		if c := h.claims[seq]; c != nil {
			c.done, c.failed, c.data, c.begun = false, false, nil, false
		}
	}
	if r.claim == 0 {
		h.body = nil
	}
}

// blocked reports whether the scope that c opened can't go on: when the run
// last paused, all that it still waited for were questions, they
// are open, and nothing has happened in it since.
func (h *history) blocked(c *pastClaim) bool {
	s := h.scopes[c.seq]
	if s == nil || s.active > h.paused {
		return false
	}
	waits := false
	wait := func(inner *pastClaim) bool {
		switch {
		case inner.done:
			return true
		case inner.call == KindQuestion:
			if inner.question != nil && inner.question.State != storage.Open {
				return inner.taken
			}
			waits = true
			return inner.question != nil
		default:
			waits = true
			return h.blocked(inner)
		}
	}
	for _, inner := range s.calls {
		if !wait(inner) {
			return false
		}
	}
	for _, inner := range s.keyed {
		if !wait(inner) {
			return false
		}
	}
	return waits
}

// openQuestions appends the open questions below the scope that c opened, in call order.
func (h *history) openQuestions(c *pastClaim, to []*pastClaim) []*pastClaim {
	s := h.scopes[c.seq]
	if s == nil {
		return to
	}
	visit := func(inner *pastClaim) {
		switch {
		case inner.done:
		case inner.call == KindQuestion:
			if inner.question != nil && inner.question.State == storage.Open {
				to = append(to, inner)
			}
		default:
			to = h.openQuestions(inner, to)
		}
	}
	for _, inner := range s.inOrder() {
		visit(inner)
	}
	return to
}

// inOrder lists the calls of the scope, with a key or without, in the order of their claims.
func (s *pastScope) inOrder() []*pastClaim {
	if len(s.keyed) == 0 {
		return s.calls
	}
	all := slices.AppendSeq(slices.Clone(s.calls), maps.Values(s.keyed))
	slices.SortFunc(all, func(a, b *pastClaim) int { return cmp.Compare(a.seq, b.seq) })
	return all
}

// openAfter lists the open questions of what the scope claimed after cut.
func (h *history) openAfter(scope, cut int64) []storage.ID {
	s := h.scopes[scope]
	if s == nil {
		return nil
	}
	var open []*pastClaim
	visit := func(c *pastClaim) {
		if c.seq <= cut || c.done {
			return
		}
		if c.call == KindQuestion && c.question != nil && c.question.State == storage.Open {
			open = append(open, c)
		}
		open = h.openQuestions(c, open)
	}
	for _, c := range s.calls {
		visit(c)
	}
	for _, c := range s.keyed {
		visit(c)
	}
	ids := make([]storage.ID, len(open))
	for i, c := range open {
		ids[i] = c.question.ID
	}
	slices.SortFunc(ids, storage.ID.Compare)
	return ids
}
