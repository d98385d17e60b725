package engine

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata/internal/goroutine"
	"github.com/fermata-go/fermata/internal/witness"
	"github.com/fermata-go/fermata/storage"
)

// Scope is what positions are counted in: the body of an entrypoint, of a task
// or of a branch, while it runs. It belongs to one goroutine.
type Scope struct {
	pass  *pass
	id    int64 // the claim that opened it; 0 is the entrypoint's body
	path  string
	place string // see opener
	order []int  // of the call that opened it, among all calls of the run
	past  *pastScope

	keep bool // calls made now may be replayed by a later attempt of this pass
	// future is the call that opened the scope; nil: the entrypoint's body.
	future  *Future
	witness []byte
	attempt int
	pulse   *pulse // nil: no idle timeout
	owner   uintptr
	ended   atomic.Bool
	quiet   atomic.Bool // what the code emits now was emitted before

	// What follows is the owner's.
	next      int             // position of the next call
	calls     int             // calls made, keyed ones too
	lastClaim int64           // sequence of the last claim
	now       time.Time       // of the last record that was handed to the code
	keys      map[string]bool // used in this pass
	draws     uint64          // random values drawn
	suspended bool            // waits for a person, itself or below
	refused   bool            // a durable call was refused because the run stops
	waits     bool            // a recorded call had no outcome, and nothing new was handed to the code since
	late      error           // that the time of an attempt around is over was handed to the code
	delivered map[int64]int64 // failed claims handed to the code: lastClaim at that time
	running   []*Future       // calls that were not recorded before
}

type scopeKey struct{}

// From returns the scope that ctx belongs to. Without one: [ErrOutsideRun].
func From(ctx context.Context) (*Scope, error) {
	s, ok := ctx.Value(scopeKey{}).(*Scope)
	if !ok {
		return nil, &Error{Reason: ErrOutsideRun, Hint: "call it from an entrypoint or a task, with the context that was handed to it"}
	}
	return s, nil
}

// opener is what a scope takes from the call that opened it.
type opener struct {
	claim *pastClaim // nil: the entrypoint's body
	path  string
	// place is the call's place in the program: the positions and keys from the body down. Unlike
	// the claim's sequence it is the same though a crash came before the claim was recorded.
	place string
	now   time.Time
}

// opening describes the scope that a call just claimed will open.
func (s *Scope) opening(c *pastClaim) opener {
	place := "#" + c.key
	if c.key == "" {
		place = strconv.Itoa(s.next)
	}
	return opener{claim: c, path: s.path + "/" + c.name, place: s.place + "/" + place, now: s.now}
}

// newScope opens a scope.
func (p *pass) newScope(o opener, order []int, keep bool) *Scope {
	s := &Scope{pass: p, path: o.path, place: o.place, order: order, keep: keep, now: o.now}
	if o.claim != nil {
		s.id, s.witness = o.claim.seq, o.claim.witness
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.past = p.history.scopes[s.id]; s.past == nil && keep {
		s.past = p.history.scope(s.id)
	}
	s.quiet.Store(s.replaying())
	return s
}

// own binds the scope to the running goroutine.
func (s *Scope) own(ctx context.Context) context.Context {
	s.owner = goroutine.ID()
	s.pulse, _ = ctx.Value(pulseKey{}).(*pulse)
	return context.WithValue(ctx, scopeKey{}, s)
}

// Path names the scope for people, as "graph/human_feedback".
func (s *Scope) Path() string { return s.path }

// Run returns the run that the scope belongs to, as it was when this process took it.
func (s *Scope) Run() *storage.Run { return &s.pass.run }

// Name is that of the task or the entrypoint whose code the scope is.
func (s *Scope) Name() string {
	if s.future == nil {
		return s.pass.entry.Name
	}
	return s.future.claim.name
}

// Body reports whether the scope is of the code of an entrypoint, not of a task.
func (s *Scope) Body() bool {
	for f := s.future; f != nil; f = f.scope.future {
		if f.claim.call == KindTask {
			return false
		}
	}
	return true
}

// entry is the nearest entrypoint around.
func (s *Scope) entry() *Entry {
	for f := s.future; f != nil; f = f.scope.future {
		if f.entry != nil {
			return f.entry
		}
	}
	return s.pass.entry
}

// defaults is the policy of a task that is called in the scope, given its own.
func (s *Scope) defaults(own *Policy) *Policy {
	for f := s.future; f != nil; f = f.scope.future {
		if f.entry != nil {
			own = own.or(f.entry.Policy)
		}
	}
	return own.or(s.pass.entry.Policy)
}

// Values returns the Options.Values of the engine.
func (s *Scope) Values() any { return s.pass.engine.options.Values }

// Previous returns what the thread's last finished run saved; nil if there is none.
func (s *Scope) Previous() []byte { return s.pass.previous }

// Reject parks the run because a stored value can't be decoded as what the code now wants.
func (s *Scope) Reject(err error) error {
	s.refused = true
	return s.pass.park(s.path, err)
}

// enter begins a durable call: it says whether the scope may make one.
func (s *Scope) enter() error {
	if s.ended.Load() {
		return s.error(ErrScopeEnded, "the function that was handed this context has returned")
	}
	if goroutine.ID() != s.owner {
		return s.error(ErrConcurrentScope, "each task and branch makes durable calls on its own goroutine with its own context; use Go for parallel work")
	}
	if s.suspended {
		return s.error(ErrPaused, "")
	}
	if s.late != nil {
		return s.late // what the code calls now may not be what the next attempt calls
	}
	if err := s.pass.halted(); err != nil {
		s.refused = true
		return err
	}
	s.pulse.beat(false)
	return s.withdrawn()
}

// withdrawn says whether the scope belongs to a call that lost against another.
func (s *Scope) withdrawn() error {
	for f := s.future; f != nil; f = f.scope.future {
		if f.withdrawn.Load() {
			s.refused = true
			return s.error(ErrWithdrawn, "another call was first")
		}
	}
	return nil
}

func (s *Scope) error(reason error, hint string) error {
	return &Error{Run: s.pass.run.ID, Thread: s.pass.run.Thread, Path: s.path, Reason: reason, Hint: hint}
}

// suspend makes the scope wait: all later durable calls on it return [ErrPaused].
func (s *Scope) suspend() error {
	s.suspended = true
	return s.error(ErrPaused, "")
}

// call is a durable call about to be claimed.
type call struct {
	kind  Kind
	name  string
	key   string
	input []byte
}

// claim finds the record of a call, or makes one. The second result says where
// the call stands among all of the run. A call that is not the recorded one stops the run.
func (s *Scope) claim(c call) (*pastClaim, []int, error) {
	past, order, fresh, err := s.find(c)
	if err != nil || past != nil {
		return past, order, err
	}
	fresh.site = callSite()
	fresh.seq, _ = s.pass.journal.add(fresh.record)
	s.made(fresh)
	return fresh, order, nil
}

// find is claim without its effect: where there is no record it returns the fresh one to make.
func (s *Scope) find(c call) (past *pastClaim, order []int, fresh *pastClaim, err error) {
	if err := s.enter(); err != nil {
		return nil, nil, nil, err
	}
	seen := witness.Of(c.input)
	if key := s.pass.engine.options.WitnessKey; key != nil {
		seen = witness.OfKeyed(key, c.input)
	}
	order = append(slices.Clip(s.order), s.calls)
	s.calls++
	if past, err = s.recorded(c); err != nil {
		return nil, nil, nil, err
	}
	if past != nil && !past.accepted && (past.call != c.kind || past.name != c.name || !witness.Equal(past.witness, seen)) {
		if past, err = s.mismatch(past, c); err != nil {
			return nil, nil, nil, err
		}
	}
	if past != nil {
		s.waits = s.waits || !past.live && !past.settled()
		s.quiet.Store(s.replaying() || s.waits)
		s.lastClaim = max(s.lastClaim, past.seq)
		return past, order, nil, nil
	}
	s.news()
	if s.pass.verify {
		return nil, nil, nil, s.unexpected(c)
	}
	return nil, order, &pastClaim{record: record{
		kind: recordClaim, scope: s.id, call: c.kind, name: c.name, key: c.key, witness: seen,
	}}, nil
}

// made notes that a fresh claim is in the journal.
func (s *Scope) made(fresh *pastClaim) {
	s.lastClaim = fresh.seq
	if fresh.call == KindTask || fresh.call == KindEntrypoint {
		s.pass.writeLater()
	}
	s.pass.mu.Lock()
	s.pass.history.number(fresh)
	s.pass.mu.Unlock()
	if s.keep {
		s.pass.remember(s, fresh)
	}
}

// mismatch is for a call that isn't the recorded one: it parks the run. A
// lenient entrypoint does as LangGraph does instead: the record of a call of the same name stands, and
// else it and all later ones of the scope are forgotten.
func (s *Scope) mismatch(past *pastClaim, c call) (*pastClaim, error) {
	p := s.pass
	if !s.entry().Lenient {
		s.refused = true
		return nil, p.diverge(&Divergence{
			Path: s.path, Position: s.position(c), Key: c.key, Scope: s.id, Claim: past.seq,
			Recorded: &CallInfo{Kind: past.call.String(), Name: past.name, Site: past.site},
			Current:  &CallInfo{Kind: c.kind.String(), Name: c.name, Site: callSite()},
			Fields:   s.differences(past, c),
		})
	}
	if past.call == c.kind && past.name == c.name {
		return past, nil
	}
	p.mu.Lock()
	closing := p.history.openAfter(s.id, past.seq-1)
	p.mu.Unlock()
	r := p.supersede(s.id, max(1, p.attempt(s.id)), nil, past.seq-1)
	p.journal.addAll([]record{r}, closing)
	return nil, nil
}

// position is that of a call, from 1; 0 if it has a key.
func (s *Scope) position(c call) int {
	if c.key != "" {
		return 0
	}
	return s.next
}

// recorded finds the claim at the call's key or, without one, at the next position; nil is the frontier.
func (s *Scope) recorded(c call) (*pastClaim, error) {
	if c.key != "" {
		if s.keys[c.key] {
			return nil, s.error(ErrInvalid, fmt.Sprintf("key %q is used twice in this scope; keys tell calls apart", c.key))
		}
		if s.keys == nil {
			s.keys = map[string]bool{}
		}
		s.keys[c.key] = true
		if s.past == nil {
			return nil, nil
		}
		return s.past.keyed[c.key], nil
	}
	s.next++
	if s.past == nil || s.next > len(s.past.calls) {
		return nil, nil
	}
	return s.past.calls[s.next-1], nil
}

// replaying reports whether the record holds calls that the scope has yet to make.
func (s *Scope) replaying() bool { return s.past != nil && s.next < len(s.past.calls) }

// news notes that the code goes where no earlier pass has been: it makes a new call, or is handed what was not known then.
func (s *Scope) news() {
	s.waits = false
	s.quiet.Store(s.replaying())
}

// settled reports whether a claim has come to what its caller waits for.
func (c *pastClaim) settled() bool {
	return c.done || c.question != nil && c.question.State > storage.Open
}

// wait calls fn, which waits for another call. A task gives its slot away meanwhile; the body has none.
func (s *Scope) wait(fn func()) {
	if s.future == nil {
		fn()
		return
	}
	s.pass.slots.yield(fn)
}

// rest waits for the calls that the scope, whose function has returned err, started and didn't await. One that
// is suspended suspends the scope, one that was stopped stops it; but neither excuses
// that the function returned without a recorded call.
func (s *Scope) rest(err error) {
	_ = s.end(err)
	for _, f := range s.running {
		if f.done != nil {
			s.wait(func() { <-f.done })
		}
		if f.lost == nil {
			s.suspended = s.suspended || f.suspended
			s.refused = s.refused || f.err != nil
			if f.late != nil {
				s.late = f.late
			}
		}
	}
}

// end closes the scope, whose function returned err. A scope that ended of itself must have made all recorded calls.
func (s *Scope) end(err error) error {
	s.ended.Store(true)
	if s.suspended || s.refused || s.late != nil || !s.replaying() || s.entry().Lenient {
		return nil
	}
	missing := s.past.calls[s.next]
	if missing.accepted {
		return nil
	}
	s.refused = true
	d := &Divergence{
		Path: s.path, Position: s.next + 1, Scope: s.id, Claim: missing.seq,
		Recorded: &CallInfo{Kind: missing.call.String(), Name: missing.name, Site: missing.site},
	}
	if err != nil {
		f := s.newFailure("", 0, err)
		d.Failure, d.Panic, d.Stack = f.Message, f.Panic, f.Stack
	}
	return s.pass.diverge(d)
}

func (s *Scope) differences(past *pastClaim, c call) []witness.Difference {
	if past.call != c.kind || past.name != c.name {
		return nil
	}
	return witness.DiffInput(past.witness, s.pass.engine.options.WitnessKey, c.input)
}

// siteOf caches the call site of a program counter; "" is a frame of fermata's own.
var siteOf sync.Map

// callSite names the place in the user's code that made the durable call, as "refund.go:41".
func callSite() string {
	var pcs [8]uintptr // more than there are frames of fermata's own
	n := runtime.Callers(3, pcs[:])
	for _, pc := range pcs[:n] {
		site, ok := siteOf.Load(pc)
		if !ok {
			site = describe(pc)
			siteOf.Store(pc, site)
		}
		if site != "" {
			return site.(string)
		}
	}
	return ""
}

const module = "github.com/fermata-go/fermata"

// describe names the first frame at pc that isn't fermata's own; several functions may be inlined there.
func describe(pc uintptr) string {
	frames := runtime.CallersFrames([]uintptr{pc})
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		function, own := strings.CutPrefix(frame.Function, module)
		own = own && (strings.HasPrefix(function, ".") || strings.HasPrefix(function, "/internal/engine.")) &&
			!strings.HasSuffix(frame.File, "_test.go")
		if !own && frame.File != "" {
			return fmt.Sprintf("%s:%d", frame.File[strings.LastIndexByte(frame.File, '/')+1:], frame.Line)
		}
	}
	return ""
}
