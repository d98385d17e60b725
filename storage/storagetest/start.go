package storagetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var startCases = []testCase{
	{"IsDurable", startIsDurable},
	{"QueuedWithoutOwner", startQueued},
	{"RunningWithOwner", startRunning},
	{"BornFinished", startBornFinished},
	{"InvalidIsRefused", startInvalid},
	{"RepeatedIsExisting", startRepeated},
	{"OtherStartWithTheIDConflicts", startConflict},
	{"RepeatedConcurrentlyMakesOneRun", startConcurrently},
	{"ActiveRunIsBusy", startBusy},
	{"OneActiveRunUnderConcurrency", startOneActive},
	{"SupersedeGivesUpAWaitingRun", startSupersedeWaiting},
	{"SupersedeGivesUpAQueuedRun", startSupersedeQueued},
	{"SupersedeGivesUpAParkedRun", startSupersedeParked},
	{"SupersedeGivesUpTheRunOfADeadOwner", startSupersedeDead},
	{"SupersedeSparesALivingOwner", startSupersedeLiving},
	{"StepsCountCheckpoints", startSteps},
	{"PreviousIsTheLastFinishedRun", startPrevious},
	{"PreviousIsSavedElseResult", startPreviousValue},
	{"NumbersGrow", startNumbers},
	{"OwnerThatDoesNotLive", startDeadOwner},
}

func startIsDurable(w *world) {
	before := w.now()
	in := storage.Run{
		ID: w.newID(), Tenant: tenant, Thread: "thread", Entrypoint: graph, Source: storage.Input,
		Input: []byte(`"foo"`), Config: []byte("config"), Metadata: map[string]string{"user": "bob", "": "empty"},
	}
	started, err := w.b.Start(w.ctx, storage.Start{Run: in})
	w.ok(err, "Start")
	r := started.Run
	w.true(!r.Created.Before(before) && !r.Updated.Before(r.Created), "created %v, updated %v; the test began at %v", r.Created, r.Updated, before)
	want := in
	want.Status, want.Step = storage.Queued, -1
	want.Created, want.Updated, want.Number, want.Token = r.Created, r.Updated, r.Number, r.Token
	same(w, "started run", r, want)
	same(w, "the run read again", w.run(r), r)
	l := w.load(r)
	same(w, "the run loaded", l, storage.Loaded{Run: r})
	same(w, "Started.Previous", started.Previous, nil)
}

func startQueued(w *world) {
	m := w.join()
	r := w.start(storage.Start{})
	w.status(r, storage.Queued)
	p := w.poll(m, 1)
	w.true(len(p.Runs) == 1 && p.Runs[0].ID == r.ID, "Poll took %v, want the queued run", ids(p.Runs))
}

func startRunning(w *world) {
	m, other := w.join(), w.join()
	r := w.running(m)
	w.true(r.Status == storage.Running && r.Owner == m.ID() && r.Token == 1, "run is %s, owner %s, token %d; want running, %s, 1", r.Status, r.Owner, r.Token, m.ID())
	same(w, "the run read again", w.run(r), r)
	due := w.start(storage.Start{Run: storage.Run{Owner: m.ID(), Due: w.in(time.Hour)}})
	w.true(due.Due.IsZero() && w.run(due).Due.IsZero(), "a running run is due at %v", due.Due)
	w.true(w.head(r.Thread).Alive, "Head: the owner is not alive")
	w.true(len(w.poll(other, 1).Runs) == 0, "Poll took the run of a living owner")
}

func startBornFinished(w *world) {
	for _, c := range []struct {
		name          string
		result, saved []byte
		want          []byte
	}{
		{"result", []byte("result"), nil, []byte("result")},
		{"saved", []byte("result"), []byte("saved"), []byte("saved")},
		{"empty saved", []byte("result"), []byte{}, []byte{}},
		{"neither", nil, nil, nil},
	} {
		m := w.join()
		r := w.start(storage.Start{Run: storage.Run{
			Source: storage.Update, Status: storage.Finished, Result: c.result, Saved: c.saved,
		}})
		w.true(r.Source == storage.Update, "source is %s", r.Source)
		now := w.status(r, storage.Finished)
		same(w, c.name+": the run read again", now, r)
		same(w, c.name+": result", now.Result, c.result)
		same(w, c.name+": saved", now.Saved, c.saved)
		w.true(len(w.poll(m, 1).Runs) == 0, "Poll took a finished run")
		next, err := w.tryStart(storage.Start{Run: storage.Run{Thread: r.Thread, Owner: m.ID()}})
		w.ok(err, "Start after it")
		same(w, c.name+": previous", next.Previous, c.want)
		w.true(next.Run.Previous == r.ID, "the next run's Previous is %s, want %s", next.Run.Previous, r.ID)
	}
}

func startInvalid(w *world) {
	whole := storage.Run{ID: w.newID(), Tenant: tenant, Thread: "thread", Entrypoint: graph}
	for name, spoil := range map[string]func(*storage.Run){
		"no id":         func(r *storage.Run) { r.ID = storage.ID{} },
		"no thread":     func(r *storage.Run) { r.Thread = "" },
		"no entrypoint": func(r *storage.Run) { r.Entrypoint = "" },
	} {
		r := whole
		spoil(&r)
		_, err := w.b.Start(w.ctx, storage.Start{Run: r})
		w.is(err, storage.ErrInvalid, "Start with "+name)
	}
	w.true(w.head("thread").Run == nil, "a refused start made a run")
}

func startRepeated(w *world) {
	m := w.join()
	first := w.running(m)
	w.finish(&first, "one")
	second := storage.Start{Run: storage.Run{ID: w.newID(), Tenant: tenant, Thread: first.Thread, Entrypoint: graph, Input: []byte("in"), Owner: m.ID()}}
	r := w.start(second)
	again, err := w.tryStart(second)
	w.ok(err, "Start again")
	same(w, "Start again", again, storage.Started{Run: r, Existing: true, Previous: []byte("one")})

	w.finish(&r, "two")
	again, err = w.tryStart(second)
	w.ok(err, "Start of a finished run again")
	same(w, "Start of a finished run again", again, storage.Started{Run: r, Existing: true, Previous: []byte("one")})

	third := w.next(r, m)
	again, err = w.tryStart(second)
	w.ok(err, "Start again, the thread having an active run")
	w.true(again.Existing && again.Run.ID == r.ID, "Start again, the thread having an active run: %+v", again)
	w.status(third, storage.Running)
}

func startConflict(w *world) {
	r := w.start(storage.Start{})
	whole := storage.Run{ID: r.ID, Tenant: tenant, Thread: r.Thread, Entrypoint: r.Entrypoint, Input: r.Input}
	for name, spoil := range map[string]func(*storage.Run){
		"another thread":     func(r *storage.Run) { r.Thread = "another" },
		"another entrypoint": func(r *storage.Run) { r.Entrypoint = "another" },
		"another input":      func(r *storage.Run) { r.Input = []byte("another") },
	} {
		other := whole
		spoil(&other)
		_, err := w.b.Start(w.ctx, storage.Start{Run: other, Supersede: true})
		w.is(err, storage.ErrConflict, "Start with "+name)
	}
	same(w, "the run", w.run(r), r)
	w.true(w.head("another").Run == nil, "a refused start made a run")
}

func startConcurrently(w *world) {
	s := w.filled(storage.Start{})
	started := concurrently(w, 16, func(int) (storage.Started, error) { return w.b.Start(w.ctx, s) })
	fresh := 0
	for _, got := range started {
		w.true(got.Run.ID == s.Run.ID, "Start returned the run %s", got.Run.ID)
		if !got.Existing {
			fresh++
		}
	}
	w.true(fresh == 1, "%d of 16 equal starts made a run", fresh)
}

func startBusy(w *world) {
	m := w.join()
	for _, c := range []struct {
		name   string
		make   func() storage.Run
		status storage.Status
		alive  bool
		open   int
	}{
		{"queued", func() storage.Run { return w.start(storage.Start{}) }, storage.Queued, false, 0},
		{"running", func() storage.Run { return w.running(m) }, storage.Running, true, 0},
		{"dead", func() storage.Run {
			dying := w.join()
			r := w.running(dying)
			w.kill(dying)
			return r
		}, storage.Running, false, 0},
		{"interrupted", func() storage.Run {
			r := w.running(m)
			w.pause(&r, storage.Question{}, storage.Question{})
			return r
		}, storage.Interrupted, false, 2},
		{"parked", func() storage.Run {
			r := w.running(m)
			w.askAs(&r, storage.Unit{Status: storage.Parked}, storage.Question{})
			return r
		}, storage.Parked, false, 1},
	} {
		r := w.run(c.make())
		_, err := w.tryStart(storage.Start{Run: storage.Run{Thread: r.Thread}})
		busy := w.busy(err, r.ID, c.name)
		same(w, c.name+": the run in the way", busy.Run, r)
		w.true(busy.Run.Status == c.status, "%s: run is %s", c.name, busy.Run.Status)
		w.true(busy.Alive == c.alive, "%s: Alive is %v", c.name, busy.Alive)
		w.true(busy.Open == c.open, "%s: %d open questions, want %d", c.name, busy.Open, c.open)
		same(w, c.name+": the run after the refusal", w.run(r), r)
	}
}

func startOneActive(w *world) {
	type outcome struct {
		run storage.Run
		err error
	}
	got := concurrently(w, 16, func(i int) (outcome, error) {
		s, err := w.b.Start(w.ctx, storage.Start{Run: storage.Run{
			ID: w.newID(), Tenant: tenant, Thread: "thread", Entrypoint: graph, Input: []byte(fmt.Sprint(i)),
		}})
		return outcome{s.Run, err}, nil
	})
	won := 0
	for _, o := range got {
		if o.err == nil {
			won++
			continue
		}
		w.is(o.err, storage.ErrBusy, "Start")
	}
	w.true(won == 1, "%d of 16 starts on one thread were accepted, want 1", won)
}

func startSupersedeWaiting(w *world) {
	m := w.join()
	first := w.running(m)
	w.finish(&first, "one")
	old := w.next(first, m)
	asked := w.pause(&old, storage.Question{}, storage.Question{Unique: "u", Name: "n", Deadline: w.in(time.Hour)})
	answered := asked[0]
	w.settle(answer(answered, "yes"))
	// The answer woke the run: take it and let it wait again.
	old = w.acquire(old, m, storage.Queued)
	w.append(&old, storage.Unit{Status: storage.Interrupted, SeenInbox: old.Inbox})

	started, err := w.tryStart(storage.Start{Run: storage.Run{Thread: old.Thread}, Supersede: true})
	w.ok(err, "Start with Supersede")
	w.status(old, storage.Superseded)
	w.state(answered, storage.Answered)
	w.state(asked[1], storage.SupersededQuestion)
	r := started.Run
	w.true(r.Step == old.Step+1 && r.Parent == storage.Checkpoint{Run: old.ID}, "step %d, parent %v", r.Step, r.Parent)
	w.true(r.Previous == first.ID, "Previous is %s, want the last finished run", r.Previous)
	same(w, "Started.Previous", started.Previous, []byte("one"))
	w.settled(w.trySettle(answer(asked[1], "late")).Err, storage.SupersededQuestion, "answer to a superseded question")
	w.status(old, storage.Superseded)
	same(w, "log of the superseded run", len(w.data(old)), 2)

	// Its unique key is free again.
	r = w.acquire(r, m, storage.Queued)
	w.ask(&r, storage.Question{Unique: "u", Name: "n"})
}

func startSupersedeQueued(w *world) {
	m := w.join()
	old := w.start(storage.Start{Run: storage.Run{Due: w.in(time.Hour)}})
	r := w.start(storage.Start{Run: storage.Run{Thread: old.Thread}, Supersede: true})
	old = w.status(old, storage.Superseded)
	w.true(old.Due.IsZero(), "a superseded run is due at %v", old.Due)
	w.advanceTo(w.in(2 * time.Hour))
	same(w, "runs to take", ids(w.poll(m, 10).Runs), []storage.ID{r.ID})
}

func startSupersedeParked(w *world) {
	m := w.join()
	old := w.running(m)
	q := w.askAs(&old, storage.Unit{Status: storage.Parked, Error: []byte("diagnosis")}, storage.Question{})[0]
	w.start(storage.Start{Run: storage.Run{Thread: old.Thread}, Supersede: true})
	w.status(old, storage.Superseded)
	w.state(q, storage.SupersededQuestion)
}

func startSupersedeDead(w *world) {
	dying, m := w.join(), w.join()
	old := w.running(dying)
	q := w.ask(&old, storage.Question{})[0]
	w.kill(dying)
	r := w.start(storage.Start{Run: storage.Run{Thread: old.Thread, Owner: m.ID()}, Supersede: true})
	w.status(old, storage.Superseded)
	w.state(q, storage.SupersededQuestion)
	w.is(w.tryAppend(unit(old, storage.Unit{})).Err, storage.ErrStale, "Append to a superseded run")
	w.status(r, storage.Running)
	w.true(len(w.poll(m, 1).Runs) == 0, "Poll took a superseded run")
}

func startSupersedeLiving(w *world) {
	m := w.join()
	old := w.running(m)
	q := w.ask(&old, storage.Question{})[0]
	_, err := w.tryStart(storage.Start{Run: storage.Run{Thread: old.Thread}, Supersede: true})
	busy := w.busy(err, old.ID, "Start with Supersede")
	w.true(busy.Alive && busy.Open == 1, "Alive %v, Open %d", busy.Alive, busy.Open)
	w.state(q, storage.Open)
	w.append(&old, storage.Unit{})
}

func startSteps(w *world) {
	m := w.join()
	thread := "steps"
	start := func(s storage.Start) storage.Run {
		s.Run.Thread = thread
		if s.Run.Status == 0 {
			s.Run.Owner = m.ID()
		}
		return w.start(s)
	}
	check := func(r storage.Run, step int64, parent storage.Checkpoint) {
		w.Helper()
		w.true(r.Step == step, "step %d, want %d", r.Step, step)
		w.true(r.Parent == parent, "parent %v, want %v", r.Parent, parent)
	}
	// As LangGraph numbers: input -1, its result 0, input 1, result 2, …
	one := start(storage.Start{})
	check(one, -1, storage.Checkpoint{})
	w.finish(&one, "1")
	two := start(storage.Start{})
	check(two, 1, storage.Checkpoint{Run: one.ID, End: true})
	// A failed run has no result checkpoint: the next input is one more than its input.
	w.append(&two, storage.Unit{Status: storage.Failed, Error: []byte("error")})
	three := start(storage.Start{})
	check(three, 2, storage.Checkpoint{Run: two.ID})
	w.append(&three, storage.Unit{Status: storage.Interrupted})
	four := start(storage.Start{Supersede: true})
	check(four, 3, storage.Checkpoint{Run: three.ID})
	w.append(&four, storage.Unit{Status: storage.Cancelled})
	five := start(storage.Start{})
	check(five, 4, storage.Checkpoint{Run: four.ID})
	w.finish(&five, "5")
	// A run that was born finished has one checkpoint, the one after it: 6.
	six := start(storage.Start{Run: storage.Run{Source: storage.Update, Status: storage.Finished, Result: []byte("6")}})
	check(six, 5, storage.Checkpoint{Run: five.ID, End: true})
	seven := start(storage.Start{})
	check(seven, 7, storage.Checkpoint{Run: six.ID, End: true})

	// On an empty thread its checkpoint is 0.
	thread = "update first"
	first := start(storage.Start{Run: storage.Run{Source: storage.Update, Status: storage.Finished, Result: []byte("u")}})
	check(first, -1, storage.Checkpoint{})
	check(start(storage.Start{}), 1, storage.Checkpoint{Run: first.ID, End: true})
}

func startPrevious(w *world) {
	m := w.join()
	one := w.running(m)
	w.true(one.Previous.IsZero(), "the first run of a thread has the previous %s", one.Previous)
	w.append(&one, storage.Unit{Status: storage.Failed})
	two := w.next(one, m)
	w.true(two.Previous.IsZero(), "after a failed first run: previous is %s", two.Previous)
	w.finish(&two, "two")
	last := two
	for _, status := range []storage.Status{storage.Failed, storage.Cancelled, storage.Interrupted} {
		s, err := w.tryStart(storage.Start{Run: storage.Run{Thread: one.Thread, Owner: m.ID()}})
		w.ok(err, "Start")
		w.true(s.Run.Previous == two.ID, "previous is %s, want the last finished run %s", s.Run.Previous, two.ID)
		same(w, "Started.Previous", s.Previous, []byte("two"))
		same(w, "Loaded.Previous", w.load(s.Run).Previous, []byte("two"))
		last = s.Run
		w.append(&last, storage.Unit{Status: status})
	}
	s := w.start(storage.Start{Run: storage.Run{Thread: one.Thread}, Supersede: true})
	w.true(s.Previous == two.ID, "after an interrupted run: previous is %s, want %s", s.Previous, two.ID)
}

func startPreviousValue(w *world) {
	m := w.join()
	for _, c := range []struct {
		name                string
		result, saved, want []byte
	}{
		{"saved", []byte("result"), []byte("saved"), []byte("saved")},
		{"result", []byte("result"), nil, []byte("result")},
		{"empty saved", []byte("result"), []byte{}, []byte{}},
		{"empty result", []byte{}, nil, []byte{}},
		{"neither", nil, nil, nil},
	} {
		r := w.running(m)
		w.append(&r, storage.Unit{Status: storage.Finished, Result: c.result, Saved: c.saved})
		next, err := w.tryStart(storage.Start{Run: storage.Run{Thread: r.Thread}})
		w.ok(err, "Start")
		same(w, c.name+": Started.Previous", next.Previous, c.want)
		same(w, c.name+": Loaded.Previous", w.load(next.Run).Previous, c.want)
	}
}

func startNumbers(w *world) {
	var last int64
	for i := range 5 {
		r := w.start(storage.Start{Run: storage.Run{Thread: fmt.Sprint("thread ", i%2)}, Supersede: true})
		w.true(r.Number > last, "the number %d follows %d", r.Number, last)
		last = r.Number
	}
}

// startDeadOwner: an owner that left is refused, or is taken for what it is.
func startDeadOwner(w *world) {
	gone, m := w.join(), w.join()
	w.ok(gone.Leave(w.ctx), "Leave")
	s, err := w.tryStart(storage.Start{Run: storage.Run{Owner: gone.ID()}})
	if err != nil {
		w.is(err, storage.ErrClosed, "Start by a member that left")
		return
	}
	w.true(!w.head(s.Run.Thread).Alive, "the owner that left is alive")
	same(w, "runs to take over", ids(w.poll(m, 1).Runs), []storage.ID{s.Run.ID})
}

// concurrently calls fn n times at once and returns the results in the order of i.
func concurrently[T any](w *world, n int, fn func(i int) (T, error)) []T {
	w.Helper()
	results, errs := make([]T, n), make([]error, n)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			results[i], errs[i] = fn(i)
		})
	}
	close(begin)
	wg.Wait()
	for i, err := range errs {
		w.ok(err, fmt.Sprintf("concurrent call %d", i))
	}
	return results
}
