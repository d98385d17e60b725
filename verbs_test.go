package fermata_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the files that tests compare with, instead of comparing")

// verb is something that one does to a thread, or to a question of it.
type verb struct {
	name string // as the documentation has it
	do   func(s *stage) (*fermata.Run[string], error)
}

var verbs = []verb{
	{"Start", func(s *stage) (*fermata.Run[string], error) { return s.thread.Start(s.ctx, "next") }},
	{"Start, Supersede", func(s *stage) (*fermata.Run[string], error) {
		return s.thread.Start(s.ctx, "next", fermata.Supersede())
	}},
	{"Start, same run id", func(s *stage) (*fermata.Run[string], error) {
		return s.thread.Start(s.ctx, s.input, fermata.WithRunID(s.run))
	}},
	{"Resume", func(s *stage) (*fermata.Run[string], error) { return s.thread.Resume(s.ctx, "yes") }},
	{"Answer", func(s *stage) (*fermata.Run[string], error) {
		_, err := s.engine.Answer(s.ctx, s.question, "yes")
		return nil, err
	}},
	{"Withdraw", func(s *stage) (*fermata.Run[string], error) {
		return nil, s.engine.Withdraw(s.ctx, s.question, fermata.Principal{})
	}},
	{"Continue", func(s *stage) (*fermata.Run[string], error) { return s.thread.Continue(s.ctx) }},
	{"Cancel", func(s *stage) (*fermata.Run[string], error) { return s.thread.Cancel(s.ctx, "not wanted") }},
	{"Repair", func(s *stage) (*fermata.Run[string], error) {
		return s.thread.Repair(s.ctx, fermata.AcceptRecorded, fermata.Principal{}, "")
	}},
	{"State", func(s *stage) (*fermata.Run[string], error) {
		_, err := s.thread.State(s.ctx)
		return nil, err
	}},
}

// cell is what a verb does to a thread in some state.
type cell struct {
	text string // as the documentation has it
	err  error  // nil: the verb does its work
	run  which
	// end is the state that the thread comes to afterwards, when tasks are no longer held
	// and a process is there that takes up what is left.
	end fermata.Status
	// anew: it asks again, by a new question.
	anew bool
	// stops: tasks end though they are held.
	stops bool
}

// which run a verb returns.
type which uint8

const (
	none which = iota
	fresh
	same
)

// no is a refusal: nothing moves.
func no(name string, err error) cell { return cell{text: "`" + name + "`", err: err} }

// begins is a new run, which comes to its question.
var begins = cell{text: "a new run", run: fresh, end: fermata.Interrupted, anew: true}

// found is the run that is there already; nothing moves.
var found = cell{text: "the run, as it is", run: same}

// read is the thread's present; nothing moves.
func read(status string) cell { return cell{text: status} }

// does is a change of the run that is there.
func does(text string, end fermata.Status) cell { return cell{text: text, run: same, end: end} }

// stops is the end of tasks under way.
func stops(text string) cell {
	return cell{text: text, run: same, end: fermata.Cancelled, stops: true}
}

// settles is a change of the question.
func settles(text string, end fermata.Status) cell { return cell{text: text, end: end} }

// The refusals.
var (
	unknownThread   = no("ErrUnknownThread", fermata.ErrUnknownThread)
	unknownQuestion = no("ErrUnknownQuestion", fermata.ErrUnknownQuestion)
	busy            = no("ErrThreadBusy", fermata.ErrThreadBusy)
	asks            = no("ErrQuestionOpen", fermata.ErrQuestionOpen)
	noQuestion      = no("ErrNoQuestion", fermata.ErrNoQuestion)
	answered        = no("ErrAlreadyAnswered", fermata.ErrAlreadyAnswered)
	withdrawn       = no("ErrWithdrawn", fermata.ErrWithdrawn)
	ended           = no("ErrRunEnded", fermata.ErrRunEnded)
	parked          = no("ErrParked", fermata.ErrParked)
	closed          = no("ErrClosed", fermata.ErrClosed)
	notParked       = no("ErrInvalid", fermata.ErrInvalid)
)

// state is one that a thread may be in, and what each verb does there.
type state struct {
	name string
	make func(*stage)
	// is what State says of the run, end what it comes to by itself.
	is, end fermata.Status
	cells   [10]cell // in the order of verbs
}

const (
	queued      = fermata.Queued
	running     = fermata.Running
	interrupted = fermata.Interrupted
	finished    = fermata.Finished
	failed      = fermata.Failed
	cancelled   = fermata.Cancelled
)

var states = []state{
	{"new: it never had a run", (*stage).new, 0, 0, [...]cell{
		begins, begins, begins, unknownThread, unknownQuestion, unknownQuestion, unknownThread, unknownThread, unknownThread, read("zero"),
	}},
	{"running here", (*stage).runningHere, running, interrupted, [...]cell{
		busy, busy, found, busy,
		settles("accepted; the run goes on with it", finished), settles("accepted; the code gets `ErrWithdrawn`", failed),
		busy, stops("its tasks are cancelled"), notParked, read("`Running`"),
	}},
	{"running elsewhere", (*stage).runningElsewhere, running, interrupted, [...]cell{
		busy, busy, found, busy,
		settles("accepted; the run goes on with it, there", finished), settles("accepted; the code gets `ErrWithdrawn`, there", failed),
		busy, stops("its tasks are cancelled, there"), notParked, read("`Running`"),
	}},
	{"running, owner dead", (*stage).ownerDead, running, interrupted, [...]cell{
		busy, begins, found, busy,
		settles("accepted; for whoever takes the run over", finished), settles("accepted; for whoever takes the run over", failed),
		does("taken over, here", interrupted), does("cancelled", cancelled), notParked, read("`Running`"),
	}},
	{"interrupted: it asks", (*stage).interrupted, interrupted, interrupted, [...]cell{
		asks, begins, found, does("answered; goes on, here", finished),
		settles("accepted; goes on, here", finished), settles("accepted; goes on, here: the code gets `ErrWithdrawn`", failed),
		does("runs up to the same question", interrupted), does("cancelled; the question is withdrawn", cancelled), notParked, read("`Interrupted`"),
	}},
	{"asleep, until a set time", (*stage).asleep, queued, queued, [...]cell{
		busy, begins, found, busy, answered, answered, busy, does("cancelled", cancelled), notParked, read("`Queued`"),
	}},
	{"queued", (*stage).queued, queued, interrupted, [...]cell{
		busy, begins, found, busy, unknownQuestion, unknownQuestion, busy, does("cancelled", cancelled), notParked, read("`Queued`"),
	}},
	{"queued, by an engine that closed", (*stage).givenBack, queued, interrupted, [...]cell{
		busy, begins, found, busy,
		settles("accepted; goes on, here", finished), settles("accepted; goes on, here: the code gets `ErrWithdrawn`", failed),
		busy, does("cancelled; the question is withdrawn", cancelled), notParked, read("`Queued`"),
	}},
	{"running here, the engine is closing", (*stage).draining, running, interrupted, [...]cell{
		closed, closed, closed, busy, closed, closed, busy, stops("its tasks are cancelled"), notParked, read("`Running`"),
	}},
	{"interrupted, the engine is closed", (*stage).closed, interrupted, interrupted, [...]cell{
		closed, closed, closed, closed, closed, closed, closed, does("cancelled; the question is withdrawn", cancelled), notParked, read("`Interrupted`"),
	}},
	{"parked", (*stage).parked, fermata.Parked, fermata.Parked, [...]cell{
		parked, begins, found, parked,
		settles("accepted; kept for when it goes on", fermata.Parked), settles("accepted; kept for when it goes on", fermata.Parked),
		does("replayed by the code of now", interrupted), does("cancelled; the question is withdrawn", cancelled),
		does("replayed, as was decided", interrupted), read("`Parked`"),
	}},
	{"failed", (*stage).failed, failed, failed, [...]cell{
		begins, begins, found, noQuestion, answered, answered, does("a new attempt; what failed runs again", finished), ended, notParked, read("`Failed`"),
	}},
	{"cancelled", (*stage).cancelled, cancelled, cancelled, [...]cell{
		begins, begins, found, noQuestion, withdrawn, withdrawn,
		{text: "goes on; asks anew", run: same, end: interrupted, anew: true}, ended, notParked, read("`Cancelled`"),
	}},
	{"finished", (*stage).finished, finished, finished, [...]cell{
		begins, begins, found, noQuestion, answered, answered, found, ended, notParked, read("`Finished`"),
	}},
}

func TestEveryVerbInEveryState(t *testing.T) {
	t.Parallel()
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) {
		for _, state := range states {
			for i, verb := range verbs {
				name := strings.ReplaceAll(state.name+"/"+verb.name, ", ", "_")
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					s := newStage(t, open, name)
					state.make(s)
					s.check(state, verb, state.cells[i])
				})
			}
		}
	})
}

// check uses the verb and holds it to the cell.
func (s *stage) check(state state, verb verb, want cell) {
	before := s.state()
	if before.Status != state.is {
		s.Fatalf("the run is %v, want %v", before.Status, state.is)
	}
	run, err := verb.do(s)
	moves := want.end != 0
	if !errors.Is(err, want.err) {
		s.Fatalf("error %v, want %v", err, want.err)
	}
	if want.err != nil {
		s.checkRefusal(err)
	}
	if !moves {
		if diff := cmp.Diff(before, s.state(), sameText); diff != "" {
			s.Errorf("nothing was to move (-before +after):\n%s", diff)
		}
		want.end = state.end
	}
	switch {
	case want.run == none && run != nil, want.run != none && run == nil:
		s.Fatalf("handle %v", run)
	case want.run == same && run.ID() != s.run:
		s.Errorf("the handle is of another run")
	case want.run == fresh && run.ID() == before.Run:
		s.Errorf("the handle is of the old run")
	}

	if want.stops {
		select {
		case <-s.halted:
		case <-s.ctx.Done():
			s.Fatal("its tasks are not cancelled")
		}
	} else {
		s.letGo()
	}
	if strings.Contains(want.text, ", here") { // nobody else is there yet
		awaitStatus(s.T, s.backend, s.name, want.end)
	}
	later := fermatatest.On(s.other(s.workflow), s.workflow, s.name)
	after := later.State()
	if after.Status != want.end {
		s.Fatalf("in the end the run is %v (%v), want %v", after.Status, after.Err, want.end)
	}
	wantRun := before.Run
	if want.run == fresh {
		wantRun = run.ID()
	}
	if after.Run != wantRun {
		s.Errorf("in the end the thread's run is %s, want %s", after.Run, wantRun)
	}
	if after.Status == interrupted {
		q := later.Question().ID
		if s.asks && (q == s.question) == want.anew {
			s.Errorf("in the end question %s is open; it was %s, to be asked anew: %t", q, s.question, want.anew)
		}
	}
	if after.Status == finished && !strings.HasSuffix(after.Value, ": yes") {
		s.Errorf("in the end the result is %q", after.Value)
	}
	if after.Run == before.Run && s.worked.Load() > 1 {
		s.Errorf("work was done %d times", s.worked.Load())
	}
	if run != nil {
		s.checkHandle(run, after)
	}
}

// sameText compares errors by what they say.
var sameText = cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) })

// checkRefusal: an error says what, where, and what to do next.
func (s *stage) checkRefusal(err error) {
	s.Helper()
	var e *fermata.Error
	if !errors.As(err, &e) {
		s.Fatalf("%v is not a *fermata.Error", err)
	}
	if e.Op == "" || e.Reason == nil || e.Hint == "" && e.Err == nil {
		s.Errorf("%q says too little", e)
	}
}

// checkHandle: what the verb returned tells the end, whoever brought it about.
func (s *stage) checkHandle(run *fermata.Run[string], after *fermata.State[string]) {
	s.Helper()
	want := map[fermata.Status]error{
		interrupted: fermata.ErrPaused, cancelled: fermata.ErrCancelled, fermata.Parked: fermata.ErrParked,
	}[after.Status]
	ctx, cancel := context.WithCancel(s.ctx)
	if after.Status == fermata.Queued {
		cancel() // it rests, but not for good
		want = context.Canceled
	}
	defer cancel()
	out, err := run.Result(ctx)
	var failure *fermata.RunError
	switch {
	case after.Status == failed && !errors.As(err, &failure),
		after.Status != failed && !errors.Is(err, want) && !errors.Is(err, fermata.ErrClosed):
		s.Errorf("the handle's result is %q, %v; the run is %s", out, err, after.Status)
	case after.Status == finished && out != after.Value:
		s.Errorf("the handle's result is %q, the thread's value %q", out, after.Value)
	}
}

// The table in the documentation is this test's.
func TestVerbsDocument(t *testing.T) {
	t.Parallel()
	const file = "docs/verbs.md"
	want := verbsDocument()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not the table of verbs_test.go; run go test -run TestVerbsDocument . -update (-want +got):\n%s", file, diff)
	}
}

func verbsDocument() []byte {
	var b bytes.Buffer
	fmt.Fprint(&b, `# Every verb in every state

What a verb does to a thread depends on the state of the thread's latest run. There is no silent default: each
cell is a result, or an error that `+"`errors.Is`"+` finds, and after an error nothing has changed.

This page is written by `+"`go test -run TestVerbsDocument . -update`"+` from the table in `+"`verbs_test.go`"+`, which holds every
cell on every backend.

`)
	for _, v := range verbs {
		fmt.Fprintf(&b, "## %s\n\n| the run is | then |\n| --- | --- |\n", v.name)
		for _, s := range states {
			for i := range verbs {
				if verbs[i].name == v.name {
					fmt.Fprintf(&b, "| %s | %s |\n", s.name, s.cells[i].text)
				}
			}
		}
		b.WriteString("\n")
	}
	return b.Bytes()
}
