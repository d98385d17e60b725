package storagetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// world is a fresh database and what a test does with it. Its methods end the
// test if the backend does not do as told; those that begin with try return the error instead.
type world struct {
	tb
	t     *testing.T // the harness's
	h     Harness
	b     storage.Backend
	ctx   context.Context
	clock *clock
	names *atomic.Int64
}

// tb is what a test and one check of a property test have in common.
type tb interface {
	Helper()
	Log(args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Skip(args ...any)
	Cleanup(f func())
}

// patience is how long a test waits for what must happen. It is never waited out by a
// backend that passes.
const patience = 30 * time.Second

const tenant, graph = "acme", "graph"

func newWorld(t *testing.T, h Harness) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	t.Cleanup(cancel)
	w := &world{tb: t, t: t, h: h, ctx: ctx, clock: &clock{}, names: &atomic.Int64{}}
	w.b = h.New(t, w.options())
	t.Cleanup(func() {
		if err := w.b.Close(); err != nil && !errors.Is(err, storage.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

func (w *world) options() Options { return Options{Offset: w.clock.offset} }

// on returns the same world seen through another handle.
func (w *world) on(b storage.Backend) *world {
	other := *w
	other.b = b
	return &other
}

// second opens another handle on the database, or skips the test.
func (w *world) second() *world {
	w.Helper()
	if w.h.Second == nil {
		w.Skip("the harness has no Second")
	}
	b := w.h.Second(w.t, w.b, w.options())
	w.Cleanup(func() {
		if err := b.Close(); err != nil && !errors.Is(err, storage.ErrClosed) {
			w.Errorf("close of the second handle: %v", err)
		}
	})
	return w.on(b)
}

// clock moves the time of the backends of a world.
type clock struct{ nanos atomic.Int64 }

func (c *clock) offset() time.Duration { return time.Duration(c.nanos.Load()) }

func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// advanceTo moves time to an instant, or to a moment after it.
func (w *world) advanceTo(at time.Time) {
	w.Helper()
	if d := at.Sub(w.now()); d > 0 {
		w.clock.advance(d)
	}
}

func (w *world) now() time.Time {
	w.Helper()
	now, err := w.b.Now(w.ctx)
	w.ok(err, "Now")
	return now
}

// in returns a time from now, as exact as the contract keeps it.
func (w *world) in(d time.Duration) time.Time {
	w.Helper()
	return w.now().Add(d).Truncate(time.Microsecond)
}

func (w *world) name(prefix string) string { return fmt.Sprintf("%s-%d", prefix, w.names.Add(1)) }

func (w *world) ok(err error, what string) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// is ends the test unless err matches want.
func (w *world) is(err, want error, what string) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("%s: error %v, want one that matches %q", what, err, want)
	}
}

// same ends the test unless got equals want. Empty lists and maps equal absent
// ones, but for byte slices.
func same[T any](w *world, what string, got, want T) {
	w.Helper()
	if diff := cmp.Diff(want, got, equalities); diff != "" {
		w.Fatalf("%s: (-want +got)\n%s", what, diff)
	}
}

var equalities = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type() != reflect.TypeFor[[]byte]() }, cmpopts.EquateEmpty()),
	cmp.Comparer(sameBytes),
	cmpopts.EquateErrors(),
}

func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && string(a) == string(b) }

func (w *world) true(ok bool, format string, args ...any) {
	w.Helper()
	if !ok {
		w.Fatalf(format, args...)
	}
}

func (w *world) newID() storage.ID { return storage.NewID(time.Now()) }

// Members.

func (w *world) join() storage.Membership {
	w.Helper()
	m, err := w.b.Join(w.ctx, w.name("member"))
	w.ok(err, "Join")
	w.true(!m.ID().IsZero(), "Join: the membership has no id")
	return m
}

func (w *world) kill(m storage.Membership) {
	w.Helper()
	if w.h.Kill != nil {
		w.h.Kill(w.t, m)
		return
	}
	w.ok(m.Leave(w.ctx), "Leave")
}

// Runs.

// start starts a run; what is not given is filled in: a fresh id, a fresh thread, the
// entrypoint "graph", an input.
func (w *world) start(s storage.Start) storage.Run {
	w.Helper()
	started, err := w.tryStart(s)
	w.ok(err, "Start")
	w.true(!started.Existing, "Start: a fresh run is Existing")
	return started.Run
}

func (w *world) tryStart(s storage.Start) (storage.Started, error) {
	w.Helper()
	return w.b.Start(w.ctx, w.filled(s))
}

func (w *world) filled(s storage.Start) storage.Start {
	if s.Run.ID.IsZero() {
		s.Run.ID = w.newID()
	}
	if s.Run.Tenant == "" {
		s.Run.Tenant = tenant
	}
	if s.Run.Thread == "" {
		s.Run.Thread = w.name("thread")
	}
	if s.Run.Entrypoint == "" {
		s.Run.Entrypoint = graph
	}
	if s.Run.Input == nil {
		s.Run.Input = []byte(`"foo"`)
	}
	return s
}

// running starts a run on a fresh thread that m owns.
func (w *world) running(m storage.Membership) storage.Run {
	w.Helper()
	return w.start(storage.Start{Run: storage.Run{Owner: m.ID()}})
}

// next starts another run on the thread of r, owned by m.
func (w *world) next(r storage.Run, m storage.Membership) storage.Run {
	w.Helper()
	return w.start(storage.Start{Run: storage.Run{Thread: r.Thread, Owner: m.ID()}})
}

// unit completes a unit of the run as r knows it: with one record if it has none.
func unit(r storage.Run, u storage.Unit) storage.Unit {
	u.Tenant, u.Run, u.Token, u.First = r.Tenant, r.ID, r.Token, r.LastSeq+1
	if u.Records == nil {
		u.Records = records(fmt.Sprintf("record %d", u.First))
	}
	for i := range u.Questions {
		if u.Questions[i].Seq == 0 {
			u.Questions[i].Seq = u.First
		}
	}
	return u
}

func records(data ...string) [][]byte {
	list := make([][]byte, len(data))
	for i, d := range data {
		list[i] = []byte(d)
	}
	return list
}

// append commits a unit of the run as r knows it, and reads the run into r.
func (w *world) append(r *storage.Run, u storage.Unit) storage.Committed {
	w.Helper()
	c := w.tryAppend(unit(*r, u))
	w.ok(c.Err, "Append")
	*r = w.run(*r)
	return c
}

// tryAppend sends one unit as it is.
func (w *world) tryAppend(u storage.Unit) storage.Committed {
	w.Helper()
	list, err := w.b.Append(w.ctx, []storage.Unit{u})
	w.ok(err, "Append")
	w.true(len(list) == 1, "Append: %d results for 1 unit", len(list))
	return list[0]
}

// finish ends a run with a result.
func (w *world) finish(r *storage.Run, result string) {
	w.Helper()
	w.append(r, storage.Unit{Status: storage.Finished, Result: []byte(result)})
}

// run reads a run again.
func (w *world) run(r storage.Run) storage.Run {
	w.Helper()
	now, err := w.b.Run(w.ctx, r.Tenant, r.ID)
	w.ok(err, "Run")
	return now
}

func (w *world) load(r storage.Run) storage.Loaded {
	w.Helper()
	l, err := w.b.Load(w.ctx, r.Tenant, r.ID)
	w.ok(err, "Load")
	return l
}

func (w *world) head(thread string) storage.Head {
	w.Helper()
	head, err := w.b.Head(w.ctx, tenant, thread)
	w.ok(err, "Head")
	return head
}

// data is the log of a run as strings.
func (w *world) data(r storage.Run) []string {
	w.Helper()
	return texts(w.load(r).Records)
}

func texts(records []storage.Record) []string {
	var list []string
	for _, r := range records {
		list = append(list, string(r.Data))
	}
	return list
}

// status ends the test unless the run is in that state now; it returns the run.
func (w *world) status(r storage.Run, want storage.Status) storage.Run {
	w.Helper()
	now := w.run(r)
	w.true(now.Status == want, "run is %s, want %s", now.Status, want)
	if want != storage.Running {
		w.true(now.Owner.IsZero(), "a run that is %s has the owner %s", want, now.Owner)
	}
	return now
}

func (w *world) acquire(r storage.Run, m storage.Membership, from ...storage.Status) storage.Run {
	w.Helper()
	got, err := w.tryAcquire(r, m, from...)
	w.ok(err, "Acquire")
	return got
}

// tryAcquire asks for a run, for no member if m is nil.
func (w *world) tryAcquire(r storage.Run, m storage.Membership, from ...storage.Status) (storage.Run, error) {
	w.Helper()
	a := storage.Acquire{Tenant: r.Tenant, Run: r.ID, From: from}
	if m != nil {
		a.Member = m.ID()
	}
	return w.b.Acquire(w.ctx, a)
}

func (w *world) poll(m storage.Membership, limit int, entrypoints ...string) storage.Polled {
	w.Helper()
	if entrypoints == nil {
		entrypoints = []string{graph}
	}
	p, err := w.b.Poll(w.ctx, storage.Poll{Member: m.ID(), Entrypoints: entrypoints, Limit: limit})
	w.ok(err, "Poll")
	w.true(len(p.Runs) <= limit, "Poll: %d runs for the limit %d", len(p.Runs), limit)
	return p
}

// busy ends the test unless err is a *BusyError about this run; it returns that.
func (w *world) busy(err error, run storage.ID, what string) *storage.BusyError {
	w.Helper()
	w.is(err, storage.ErrBusy, what)
	var busy *storage.BusyError
	w.true(errors.As(err, &busy), "%s: %v is not a *BusyError", what, err)
	w.true(busy.Run.ID == run, "%s: the run in the way is %s, want %s", what, busy.Run.ID, run)
	return busy
}

func ids(runs []storage.Run) []storage.ID {
	var list []storage.ID
	for _, r := range runs {
		list = append(list, r.ID)
	}
	return list
}

// Questions.

// ask opens questions in a unit of its own and returns them as they are.
func (w *world) ask(r *storage.Run, questions ...storage.Question) []storage.Question {
	w.Helper()
	return w.askAs(r, storage.Unit{}, questions...)
}

// pause opens questions and gives the run up for their answers.
func (w *world) pause(r *storage.Run, questions ...storage.Question) []storage.Question {
	w.Helper()
	return w.askAs(r, storage.Unit{Status: storage.Interrupted, SeenInbox: r.Inbox}, questions...)
}

func (w *world) askAs(r *storage.Run, u storage.Unit, questions ...storage.Question) []storage.Question {
	w.Helper()
	for i := range questions {
		if questions[i].ID.IsZero() {
			questions[i].ID = w.newID()
		}
	}
	u.Questions = questions
	w.append(r, u)
	opened := make([]storage.Question, len(questions))
	for i, q := range questions {
		opened[i] = w.question(q)
	}
	return opened
}

// waiting makes an interrupted run with one open question.
func (w *world) waiting(m storage.Membership, q storage.Question) (storage.Run, storage.Question) {
	w.Helper()
	r := w.running(m)
	return r, w.pause(&r, q)[0]
}

// question reads a question again.
func (w *world) question(q storage.Question) storage.Question {
	w.Helper()
	now, err := w.b.Question(w.ctx, tenant, q.ID)
	w.ok(err, "Question")
	return now
}

func (w *world) state(q storage.Question, want storage.QuestionState) storage.Question {
	w.Helper()
	now := w.question(q)
	w.true(now.State == want, "question is %s, want %s", now.State, want)
	w.true(now.Settled.IsZero() == (want == storage.Open), "a question that is %s was settled at %v", want, now.Settled)
	return now
}

// answer is the settlement of q by an answer.
func answer(q storage.Question, value string) storage.Settlement {
	return storage.Settlement{
		Tenant: tenant, Question: q.ID, State: storage.Answered, Answer: []byte(value),
		By: storage.Principal{Kind: "person", Subject: "ada"},
	}
}

func (w *world) settle(s storage.Settlement) storage.Settled {
	w.Helper()
	got := w.trySettle(s)
	w.ok(got.Err, "Settle")
	return got
}

func (w *world) trySettle(s storage.Settlement) storage.Settled {
	w.Helper()
	list, err := w.b.Settle(w.ctx, []storage.Settlement{s})
	w.ok(err, "Settle")
	w.true(len(list) == 1, "Settle: %d results for 1 settlement", len(list))
	return list[0]
}

// settled ends the test unless err is a *SettledError of a question in that state.
func (w *world) settled(err error, state storage.QuestionState, what string) storage.Question {
	w.Helper()
	w.is(err, storage.ErrSettled, what)
	var settled *storage.SettledError
	w.true(errors.As(err, &settled), "%s: %v is not a *SettledError", what, err)
	w.true(settled.Question.State == state, "%s: question is %s, want %s", what, settled.Question.State, state)
	return settled.Question
}
