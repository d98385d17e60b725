package storagetest

import (
	"errors"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

var batchCases = []testCase{
	{"UnitsAreAcceptedOrRefusedAlone", batchAlone},
	{"EveryRefusalInOneCall", batchRefusals},
	{"UniqueKeyWithinABatch", batchUnique},
	{"TwoUnitsOfOneRunAreInvalid", batchTwice},
	{"ConcurrentBatchesOfManyRuns", batchConcurrent},
	{"SettlementsAreAcceptedOrRefusedAlone", batchSettle},
}

// batchAlone: of 64 units one is stale, one is a duplicate, and one is locked if the
// harness can do that. The others are committed by the one call.
func batchAlone(w *world) {
	const n, stale, duplicate, locked = 64, 5, 23, 47
	dying, m := w.join(), w.join()
	runs, units := make([]storage.Run, n), make([]storage.Unit, n)
	for i := range runs {
		owner := m
		if i == stale {
			owner = dying
		}
		runs[i] = w.running(owner)
		units[i] = unit(runs[i], storage.Unit{Records: records(fmt.Sprint("a", i), fmt.Sprint("b", i))})
	}
	w.kill(dying)
	w.acquire(runs[stale], m, storage.Running)
	w.ok(w.tryAppend(units[duplicate]).Err, "Append")
	want := map[int]error{stale: storage.ErrStale, duplicate: storage.ErrDuplicate}
	release := func() {}
	if w.h.HoldRun != nil {
		release = w.h.HoldRun(w.t, w.b, runs[locked].ID)
		want[locked] = storage.ErrLocked
	}
	results, err := w.b.Append(w.ctx, units)
	release()
	w.ok(err, "Append")
	w.true(len(results) == n, "%d results for %d units", len(results), n)
	committed := 0
	for i, c := range results {
		if !errors.Is(c.Err, want[i]) {
			w.Errorf("unit %d: error %v, want %v", i, c.Err, want[i])
			continue
		}
		log := w.data(runs[i])
		if c.Err == nil {
			committed++
			w.true(!c.At.IsZero(), "unit %d has no time", i)
		}
		if c.Err == nil || i == duplicate {
			same(w, fmt.Sprint("records of run ", i), log, []string{fmt.Sprint("a", i), fmt.Sprint("b", i)})
		} else {
			same(w, fmt.Sprint("records of run ", i), log, nil)
		}
	}
	w.true(committed == n-len(want), "%d units were committed, want %d", committed, n-len(want))
	if w.h.HoldRun != nil {
		w.ok(w.tryAppend(units[locked]).Err, "Append of the unit that was locked")
	}
}

func batchRefusals(w *world) {
	m := w.join()
	good, gone, broken, unique, ended := w.running(m), w.running(m), w.running(m), w.running(m), w.running(m)
	w.ask(&ended, storage.Question{Name: "n", Unique: "u"})
	holder := w.running(m)
	w.append(&ended, storage.Unit{Status: storage.Failed})
	w.ask(&holder, storage.Question{Name: "n", Unique: "u"})
	asked := storage.Question{ID: w.newID(), Seq: 1}
	units := []storage.Unit{
		unit(gone, storage.Unit{}), unit(broken, storage.Unit{Records: [][]byte{}}),
		unit(unique, storage.Unit{Questions: []storage.Question{{ID: w.newID(), Name: "n", Unique: "u"}}}),
		unit(ended, storage.Unit{}),
		unit(good, storage.Unit{Questions: []storage.Question{asked}, Status: storage.Interrupted}),
	}
	units[0].Run = w.newID()
	results, err := w.b.Append(w.ctx, units)
	w.ok(err, "Append")
	for i, want := range []error{storage.ErrNotFound, storage.ErrInvalid, storage.ErrUnique, storage.ErrStale, nil} {
		w.is(results[i].Err, want, fmt.Sprint("unit ", i))
	}
	w.status(good, storage.Interrupted)
	w.state(asked, storage.Open)
}

func batchUnique(w *world) {
	m := w.join()
	one, two, three := w.running(m), w.running(m), w.running(m)
	key := func() []storage.Question {
		return []storage.Question{{ID: w.newID(), Name: "n", Unique: "u"}}
	}
	first := key()
	results, err := w.b.Append(w.ctx, []storage.Unit{
		unit(one, storage.Unit{Questions: first}),
		unit(two, storage.Unit{Questions: key()}),
		unit(three, storage.Unit{}),
	})
	w.ok(err, "Append")
	w.ok(results[0].Err, "the first with the key")
	w.is(results[1].Err, storage.ErrUnique, "the second with the key")
	var unique *storage.UniqueError
	w.true(errors.As(results[1].Err, &unique) && unique.Question == first[0].ID, "error %v does not name the first question", results[1].Err)
	w.ok(results[2].Err, "a unit beside them")
	same(w, "records of the refused", w.data(two), nil)
}

func batchTwice(w *world) {
	m := w.join()
	r, other := w.running(m), w.running(m)
	first := unit(r, storage.Unit{})
	second := first
	second.First++
	_, err := w.b.Append(w.ctx, []storage.Unit{unit(other, storage.Unit{}), first, second})
	w.is(err, storage.ErrInvalid, "Append of two units of one run")
	same(w, "records", w.data(r), nil)
	same(w, "records of the other", w.data(other), nil)
}

// batchConcurrent: callers whose batches overlap in time, not in runs.
func batchConcurrent(w *world) {
	const callers, each, rounds = 8, 8, 5
	m := w.join()
	runs := make([][]storage.Run, callers)
	for i := range runs {
		for range each {
			runs[i] = append(runs[i], w.running(m))
		}
	}
	concurrently(w, callers, func(i int) (int, error) {
		for round := range rounds {
			units := make([]storage.Unit, each)
			for j, r := range runs[i] {
				r.LastSeq = int64(round)
				units[j] = unit(r, storage.Unit{})
			}
			results, err := w.b.Append(w.ctx, units)
			if err != nil {
				return 0, err
			}
			for _, c := range results {
				if c.Err != nil {
					return 0, c.Err
				}
			}
		}
		return 0, nil
	})
	for _, list := range runs {
		for _, r := range list {
			same(w, "records", w.data(r), []string{"record 1", "record 2", "record 3", "record 4", "record 5"})
		}
	}
}

func batchSettle(w *world) {
	m := w.join()
	good, q := w.waiting(m, storage.Question{})
	_, settled := w.waiting(m, storage.Question{})
	w.settle(answer(settled, "first"))
	repeat := answer(settled, "second")
	heldRun, held := w.waiting(m, storage.Question{})
	wrong := answer(held, "x")
	wrong.State = storage.Expired
	batch := []storage.Settlement{
		{Tenant: tenant, Question: w.newID(), State: storage.Answered},
		repeat,
		wrong,
		answer(q, "yes"),
		answer(q, "twice"),
	}
	want := []error{storage.ErrNotFound, storage.ErrSettled, storage.ErrInvalid, nil, storage.ErrSettled}
	release := func() {}
	if w.h.HoldRun != nil {
		release = w.h.HoldRun(w.t, w.b, heldRun.ID)
		batch, want = append(batch, answer(held, "locked")), append(want, storage.ErrLocked)
	}
	results, err := w.b.Settle(w.ctx, batch)
	release()
	w.ok(err, "Settle")
	w.true(len(results) == len(batch), "%d results for %d settlements", len(results), len(batch))
	for i, s := range results {
		w.is(s.Err, want[i], fmt.Sprint("settlement ", i))
	}
	same(w, "the answer that won", string(w.state(q, storage.Answered).Answer), "yes")
	w.state(held, storage.Open)
	w.status(good, storage.Queued)
	w.status(heldRun, storage.Interrupted)
	w.settle(answer(held, "yes"))
}
