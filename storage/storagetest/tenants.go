package storagetest

import (
	"time"

	"github.com/fermata-go/fermata/storage"
)

var tenantCases = []testCase{
	{"NothingOfAnotherTenant", tenantsApart},
	{"SameNamesInEveryTenant", tenantsSameNames},
	{"RunIDOfAnotherTenant", tenantsRunID},
	{"EmptyTenant", tenantsEmpty},
}

// tenantsApart: with the ids of one tenant, another reads and changes nothing.
func tenantsApart(w *world) {
	const other = "another"
	m := w.join()
	running, failed := w.running(m), w.inStatus(m, storage.Failed)
	waiting, q := w.waiting(m, storage.Question{Tags: []string{"t"}})
	thread := waiting.Thread
	w.put(item("v", "k", "n"))
	before := w.everything()

	notFound := map[string]func() error{
		"Append": func() error {
			u := unit(running, storage.Unit{Status: storage.Finished})
			u.Tenant = other
			return w.tryAppend(u).Err
		},
		"Acquire": func() error {
			_, err := w.b.Acquire(w.ctx, storage.Acquire{Tenant: other, Run: failed.ID, Member: m.ID(), From: []storage.Status{storage.Failed}})
			return err
		},
		"Cancel": func() error { _, err := w.b.Cancel(w.ctx, other, waiting.ID, ""); return err },
		"Run":    func() error { _, err := w.b.Run(w.ctx, other, waiting.ID); return err },
		"Load":   func() error { _, err := w.b.Load(w.ctx, other, waiting.ID); return err },
		"Log":    func() error { _, _, err := w.b.Log(w.ctx, other, waiting.ID, 0, 0); return err },
		"Settle": func() error {
			s := answer(q, "yes")
			s.Tenant, s.Member = other, m.ID()
			return w.trySettle(s).Err
		},
		"Extend":    func() error { _, err := w.b.Extend(w.ctx, other, q.ID, w.in(time.Hour)); return err },
		"Question":  func() error { _, err := w.b.Question(w.ctx, other, q.ID); return err },
		"GetThread": func() error { _, err := w.b.GetThread(w.ctx, other, thread); return err },
		"CopyThread": func() error {
			return w.b.CopyThread(w.ctx, other, thread, "copy")
		},
		"GetItem": func() error { _, err := w.b.GetItem(w.ctx, other, []string{"n"}, "k", true); return err },
		"StartFromAnothersCheckpoint": func() error {
			_, err := w.tryStart(storage.Start{
				Run:  storage.Run{Tenant: other, Thread: failed.Thread},
				From: &storage.Checkpoint{Run: failed.ID}, ForkSeq: 1,
			})
			return err
		},
	}
	for name, do := range notFound {
		w.is(do(), storage.ErrNotFound, name+" by another tenant")
	}

	empty := map[string]func() (int, error){
		"ListRuns": func() (int, error) {
			list, err := w.b.ListRuns(w.ctx, storage.RunFilter{Tenant: other, Thread: thread})
			return len(list), err
		},
		"ListRunsOfAll": func() (int, error) {
			list, err := w.b.ListRuns(w.ctx, storage.RunFilter{Tenant: other})
			return len(list), err
		},
		"ListQuestions": func() (int, error) {
			list, err := w.b.ListQuestions(w.ctx, storage.QuestionFilter{Tenant: other})
			return len(list), err
		},
		"ListQuestionsOfARun": func() (int, error) {
			list, err := w.b.ListQuestions(w.ctx, storage.QuestionFilter{Tenant: other, Run: waiting.ID})
			return len(list), err
		},
		"ListQuestionsOfAThread": func() (int, error) {
			list, err := w.b.ListQuestions(w.ctx, storage.QuestionFilter{Tenant: other, Thread: thread, Tags: []string{"t"}})
			return len(list), err
		},
		"CountQuestions": func() (int, error) {
			counts, err := w.b.CountQuestions(w.ctx, storage.QuestionFilter{Tenant: other})
			return counts[storage.Open], err
		},
		"QuestionChanges": func() (int, error) {
			list, err := w.b.QuestionChanges(w.ctx, other, 0, 100)
			return len(list), err
		},
		"ListThreads": func() (int, error) {
			list, err := w.b.ListThreads(w.ctx, storage.ThreadFilter{Tenant: other})
			return len(list), err
		},
		"PruneThread": func() (int, error) { return w.b.PruneThread(w.ctx, other, thread) },
		"DeleteThread": func() (int, error) {
			return 0, w.b.DeleteThread(w.ctx, other, thread)
		},
		"ListItems": func() (int, error) {
			list, err := w.b.ListItems(w.ctx, storage.ItemFilter{Tenant: other})
			return len(list), err
		},
		"ListNamespaces": func() (int, error) {
			list, err := w.b.ListNamespaces(w.ctx, other, nil)
			return len(list), err
		},
		"DeleteItem": func() (int, error) {
			return 0, w.b.PutItems(w.ctx, []storage.Item{{Tenant: other, Namespace: []string{"n"}, Key: "k"}})
		},
		"Head": func() (int, error) {
			head, err := w.b.Head(w.ctx, other, thread)
			if head.Run != nil || head.Last != nil || head.Open != nil {
				return 1, err
			}
			return 0, err
		},
	}
	for name, do := range empty {
		n, err := do()
		w.ok(err, name)
		w.true(n == 0, "%s by another tenant sees %d", name, n)
	}
	same(w, "everything, after another tenant had its way", w.everything(), before)
}

func tenantsSameNames(w *world) {
	m := w.join()
	for _, tenant := range []string{"one", "two", "One"} {
		start := storage.Start{Run: storage.Run{Tenant: tenant, Thread: "thread", Owner: m.ID(), Config: []byte(tenant)}}
		r := w.start(start)
		w.true(r.Step == -1 && r.Previous.IsZero(), "step %d, previous %s", r.Step, r.Previous)
		w.append(&r, storage.Unit{Questions: []storage.Question{{ID: w.newID(), Name: "n", Unique: "u"}}, Status: storage.Interrupted})
		w.ok(w.b.PutThread(w.ctx, storage.Thread{Tenant: tenant, ID: "thread", Metadata: map[string]string{"tenant": tenant}}), "PutThread")
		stored := item(tenant, "k", "n")
		stored.Tenant = tenant
		w.put(stored)
	}
	for _, tenant := range []string{"one", "two", "One"} {
		head, err := w.b.Head(w.ctx, tenant, "thread")
		w.ok(err, "Head")
		w.true(head.Run != nil && string(head.Run.Config) == tenant && len(head.Open) == 1 && head.Open[0].Tenant == tenant, "head of tenant %q: %+v", tenant, head)
		thread, err := w.b.GetThread(w.ctx, tenant, "thread")
		w.ok(err, "GetThread")
		w.true(thread.Metadata["tenant"] == tenant, "metadata %v of tenant %q", thread.Metadata, tenant)
		i, err := w.b.GetItem(w.ctx, tenant, []string{"n"}, "k", false)
		w.ok(err, "GetItem")
		w.true(string(i.Value) == tenant, "item %q of tenant %q", i.Value, tenant)
		counts, err := w.b.CountQuestions(w.ctx, storage.QuestionFilter{Tenant: tenant})
		w.ok(err, "CountQuestions")
		w.true(counts[storage.Open] == 1, "%d questions of tenant %q", counts[storage.Open], tenant)
	}
	w.ok(w.b.DeleteThread(w.ctx, "one", "thread"), "DeleteThread")
	head, err := w.b.Head(w.ctx, "two", "thread")
	w.ok(err, "Head")
	w.true(head.Run != nil, "DeleteThread removed another tenant's thread")
}

// tenantsRunID: a run id of another tenant is free or taken, but says nothing of its run.
func tenantsRunID(w *world) {
	r := w.start(storage.Start{})
	s := w.filled(storage.Start{Run: storage.Run{ID: r.ID, Tenant: "another", Thread: r.Thread, Input: r.Input}})
	started, err := w.b.Start(w.ctx, s)
	if err != nil {
		w.is(err, storage.ErrConflict, "Start with another tenant's run id")
	} else {
		w.true(!started.Existing && started.Run.Tenant == "another", "Start with another tenant's run id: %+v", started)
	}
	same(w, "the run", w.run(r), r)
}

func tenantsEmpty(w *world) {
	m := w.join()
	in := storage.Run{ID: w.newID(), Thread: "thread", Entrypoint: graph, Owner: m.ID()}
	started, err := w.b.Start(w.ctx, storage.Start{Run: in})
	w.ok(err, "Start")
	r := started.Run
	w.true(r.Tenant == "", "tenant %q", r.Tenant)
	q := storage.Question{ID: w.newID()}
	w.append(&r, storage.Unit{Questions: []storage.Question{q}, Status: storage.Interrupted})
	list, err := w.b.ListQuestions(w.ctx, storage.QuestionFilter{})
	w.ok(err, "ListQuestions")
	same(w, "questions of the empty tenant", questionIDs(list), []storage.ID{q.ID})
	// The empty tenant is one of many, not all of them.
	w.start(storage.Start{})
	w.waiting(m, storage.Question{})
	list, err = w.b.ListQuestions(w.ctx, storage.QuestionFilter{})
	w.ok(err, "ListQuestions")
	w.true(len(list) == 1, "%d questions of the empty tenant, want 1", len(list))
	runs, err := w.b.ListRuns(w.ctx, storage.RunFilter{})
	w.ok(err, "ListRuns")
	same(w, "runs of the empty tenant", ids(runs), []storage.ID{r.ID})
}
