package storagetest

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var listCases = []testCase{
	{"Filters", listFilters},
	{"Audience", listAudience},
	{"Orders", listOrders},
	{"Pages", listPages},
	{"PagesOfSome", listPagesOfSome},
	{"DefaultLimit", listDefaultLimit},
	{"PagesWhileOthersWork", listWhileChanging},
	{"PagesAfterAQuestionThatMoved", listAfterMoved},
	{"Counts", listCounts},
}

func (w *world) list(f storage.QuestionFilter) []storage.Question {
	w.Helper()
	if f.Tenant == "" {
		f.Tenant = tenant
	}
	list, err := w.b.ListQuestions(w.ctx, f)
	w.ok(err, "ListQuestions")
	return list
}

// pages reads all pages of a list, of n questions each.
func (w *world) pages(f storage.QuestionFilter, n int) []storage.Question {
	w.Helper()
	f.Limit = n
	return byPages(w, n, func(last *storage.Question) []storage.Question {
		f.After = last
		return w.list(f)
	})
}

// byPages reads pages of n until one is not full. read is given the last of the page before.
func byPages[T any](w *world, n int, read func(last *T) []T) []T {
	w.Helper()
	var all []T
	var last *T
	for range 1000 {
		page := read(last)
		w.true(len(page) <= n, "%d on a page for the limit %d", len(page), n)
		all = append(all, page...)
		if len(page) < n {
			return all
		}
		last = &page[n-1]
	}
	w.Fatal("the pages don't end")
	return nil
}

func questionNames(list []storage.Question) []string {
	var names []string
	for _, q := range list {
		names = append(names, q.Name)
	}
	return names
}

func questionIDs(list []storage.Question) []storage.ID {
	var ids []storage.ID
	for _, q := range list {
		ids = append(ids, q.ID)
	}
	return ids
}

// listed makes four questions of two runs, a to d, that differ in what a filter can select.
func (w *world) listed(m storage.Membership) (r, other storage.Run) {
	w.Helper()
	r = w.start(storage.Start{Run: storage.Run{Thread: "one", Owner: m.ID()}})
	other = w.start(storage.Start{Run: storage.Run{Thread: "two", Entrypoint: "other", Owner: m.ID()}})
	w.ask(&r, storage.Question{Name: "a", Key: "k", Tags: []string{"x", "y"}, Deadline: w.in(time.Hour), Priority: 1})
	w.clock.advance(time.Second)
	w.ask(&other, storage.Question{Name: "b", Key: "k", Tags: []string{"y"}, Deadline: w.in(30 * time.Minute), Priority: 5})
	w.clock.advance(time.Second)
	answered := w.ask(&r, storage.Question{Name: "c", Tags: []string{"x"}, Priority: -1})[0]
	w.settle(answer(answered, "yes"))
	w.clock.advance(time.Second)
	w.ask(&other, storage.Question{Name: "d", Key: "l", Deadline: w.in(2 * time.Hour)})
	r = w.run(r)
	return r, w.run(other)
}

func listFilters(w *world) {
	r, _ := w.listed(w.join())
	for _, c := range []struct {
		name string
		f    storage.QuestionFilter
		want []string
	}{
		{"all", storage.QuestionFilter{}, []string{"a", "b", "c", "d"}},
		{"open", storage.QuestionFilter{States: []storage.QuestionState{storage.Open}}, []string{"a", "b", "d"}},
		{"answered", storage.QuestionFilter{States: []storage.QuestionState{storage.Answered}}, []string{"c"}},
		{"two states", storage.QuestionFilter{States: []storage.QuestionState{storage.Answered, storage.Open}}, []string{"a", "b", "c", "d"}},
		{"expired", storage.QuestionFilter{States: []storage.QuestionState{storage.Expired}}, nil},
		{"thread", storage.QuestionFilter{Thread: "one"}, []string{"a", "c"}},
		{"unknown thread", storage.QuestionFilter{Thread: "three"}, nil},
		{"run", storage.QuestionFilter{Run: r.ID}, []string{"a", "c"}},
		{"unknown run", storage.QuestionFilter{Run: w.newID()}, nil},
		{"entrypoint", storage.QuestionFilter{Entrypoint: "other"}, []string{"b", "d"}},
		{"name", storage.QuestionFilter{Name: "b"}, []string{"b"}},
		{"key", storage.QuestionFilter{Key: "k"}, []string{"a", "b"}},
		{"one tag", storage.QuestionFilter{Tags: []string{"x"}}, []string{"a", "c"}},
		{"two tags", storage.QuestionFilter{Tags: []string{"y", "x"}}, []string{"a"}},
		{"unknown tag", storage.QuestionFilter{Tags: []string{"x", "z"}}, nil},
		{"due", storage.QuestionFilter{DueBefore: w.in(70 * time.Minute)}, []string{"a", "b"}},
		{"priority", storage.QuestionFilter{MinPriority: new(1)}, []string{"a", "b"}},
		{"priority of most", storage.QuestionFilter{MinPriority: new(0)}, []string{"a", "b", "d"}},
		{"any priority", storage.QuestionFilter{MinPriority: new(-5)}, []string{"a", "b", "c", "d"}},
		{"due long ago", storage.QuestionFilter{DueBefore: w.in(-time.Hour)}, nil},
		{"all of them", storage.QuestionFilter{
			States: []storage.QuestionState{storage.Open}, Thread: "one", Run: r.ID, Entrypoint: graph,
			Name: "a", Key: "k", Tags: []string{"x"}, DueBefore: w.in(2 * time.Hour), MinPriority: new(1), For: &storage.Principal{},
		}, []string{"a"}},
		{"run of another thread", storage.QuestionFilter{Thread: "two", Run: r.ID}, nil},
		{"limit", storage.QuestionFilter{Limit: 2}, []string{"a", "b"}},
	} {
		same(w, c.name, questionNames(w.list(c.f)), c.want)
	}
	for _, q := range w.list(storage.QuestionFilter{}) {
		same(w, "question "+q.Name+" as Question reads it", q, w.question(q))
	}
}

func listAudience(w *world) {
	r := w.running(w.join())
	w.ask(&r,
		storage.Question{Seq: 1, Name: "everyone"},
		storage.Question{Seq: 1, Name: "ada and bob", Users: []string{"ada", "bob"}},
		storage.Question{Seq: 1, Name: "ops", Groups: []string{"ops", "admins"}},
		storage.Question{Seq: 1, Name: "eve or ops", Users: []string{"eve"}, Groups: []string{"ops"}},
		storage.Question{Seq: 1, Name: "everyone but ada", NotBy: []string{"ada"}},
		storage.Question{Seq: 1, Name: "ops but eve", Groups: []string{"ops"}, NotBy: []string{"eve", "mallory"}},
	)
	for _, c := range []struct {
		who  storage.Principal
		want []string
	}{
		{storage.Principal{Subject: "ada"}, []string{"ada and bob", "everyone"}},
		{storage.Principal{Subject: "bob"}, []string{"ada and bob", "everyone", "everyone but ada"}},
		{storage.Principal{Subject: "carol"}, []string{"everyone", "everyone but ada"}},
		{storage.Principal{Subject: "carol", Groups: []string{"dev", "ops"}}, []string{"eve or ops", "everyone", "everyone but ada", "ops", "ops but eve"}},
		{storage.Principal{Subject: "eve", Groups: []string{"ops"}}, []string{"eve or ops", "everyone", "everyone but ada", "ops"}},
		{storage.Principal{Subject: "eve"}, []string{"eve or ops", "everyone", "everyone but ada"}},
		{storage.Principal{Groups: []string{"admins"}}, []string{"everyone", "ops"}},
		{storage.Principal{Subject: "ops"}, []string{"everyone", "everyone but ada"}},
		{storage.Principal{Groups: []string{"ada"}}, []string{"everyone"}},
		{storage.Principal{}, []string{"everyone"}},
		{storage.Principal{Subject: "bob", OnBehalfOf: "ada"}, []string{"ada and bob", "everyone"}},
		{storage.Principal{Subject: "bob", OnBehalfOf: "eve", Groups: []string{"ops"}}, []string{"ada and bob", "eve or ops", "everyone", "everyone but ada", "ops"}},
		{storage.Principal{OnBehalfOf: "bob"}, []string{"everyone"}},
	} {
		for _, states := range [][]storage.QuestionState{nil, {storage.Open}} {
			f := storage.QuestionFilter{States: states, For: &c.who}
			names := questionNames(w.list(f))
			slices.Sort(names)
			same(w, fmt.Sprintf("for %q of %q on behalf of %q in states %v", c.who.Subject, c.who.Groups, c.who.OnBehalfOf, states), names, c.want)
			f.Tenant = tenant
			counts, err := w.b.CountQuestions(w.ctx, f)
			w.ok(err, "CountQuestions")
			w.true(counts[storage.Open] == len(c.want), "count %d, want %d", counts[storage.Open], len(c.want))
		}
	}
}

func listOrders(w *world) {
	w.listed(w.join())
	for order, want := range map[storage.QuestionOrder][]string{
		storage.ByAsked:    {"a", "b", "c", "d"},
		storage.ByDeadline: {"b", "a", "d", "c"},
		storage.ByPriority: {"b", "a", "d", "c"},
	} {
		same(w, fmt.Sprintf("order %d", order), questionNames(w.list(storage.QuestionFilter{Order: order})), want)
		same(w, fmt.Sprintf("order %d by pages", order), questionNames(w.pages(storage.QuestionFilter{Order: order}, 1)), want)
	}
}

// many makes n open questions with equal and different places in every order.
func (w *world) many(m storage.Membership, n int) []storage.Question {
	w.Helper()
	var all []storage.Question
	for len(all) < n {
		r := w.running(m)
		var batch []storage.Question
		for i := range min(7, n-len(all)) {
			q := storage.Question{Priority: i%3 - 1}
			if i%2 == 0 {
				q.Deadline = w.in(time.Duration(i%4) * time.Hour).Truncate(time.Hour).Add(time.Hour)
			}
			batch = append(batch, q)
		}
		all = append(all, w.pause(&r, batch...)...)
		w.clock.advance(time.Second)
	}
	return all
}

// sorted is the order of the contract, written down once more.
func sorted(list []storage.Question, order storage.QuestionOrder) []storage.Question {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b storage.Question) int {
		first := 0
		switch order {
		case storage.ByAsked:
			first = a.Asked.Compare(b.Asked)
		case storage.ByPriority:
			first = cmp.Compare(b.Priority, a.Priority)
		case storage.ByDeadline:
			switch never := time.Unix(1<<40, 0); {
			case a.Deadline.IsZero() && b.Deadline.IsZero():
			case a.Deadline.IsZero():
				first = never.Compare(b.Deadline)
			case b.Deadline.IsZero():
				first = a.Deadline.Compare(never)
			default:
				first = a.Deadline.Compare(b.Deadline)
			}
		}
		return cmp.Or(first, a.ID.Compare(b.ID))
	})
	return list
}

func listPages(w *world) {
	all := w.many(w.join(), 50)
	for _, order := range []storage.QuestionOrder{storage.ByAsked, storage.ByDeadline, storage.ByPriority} {
		want := sorted(all, order)
		for _, n := range []int{1, 7, 25, 50, 100} {
			same(w, fmt.Sprintf("order %d by pages of %d", order, n), questionIDs(w.pages(storage.QuestionFilter{Order: order}, n)), questionIDs(want))
		}
	}
}

// listPagesOfSome: a filter takes questions out of the pages of every order, and changes nothing else.
func listPagesOfSome(w *world) {
	m := w.join()
	var all []storage.Question
	for len(all) < 48 {
		r := w.running(m)
		var batch []storage.Question
		for i := range 8 {
			q := storage.Question{Priority: (len(all)+i)%5 - 2}
			switch len(all) + i {
			case 13:
				q.Priority = math.MaxInt
			case 14:
				q.Priority = math.MinInt
			}
			if i%3 > 0 {
				q.Deadline = w.in(time.Duration((len(all)+5*i)%7+1) * time.Hour)
			}
			if i%2 == 0 {
				q.Tags = []string{"even", fmt.Sprint(len(all) % 3)}
			}
			switch i % 5 {
			case 0:
				q.NotBy = []string{"bob", "mallory", "bob"}[:min(i, 3)]
			case 1:
				q.Users = []string{"ada", "bob"}
			case 2:
				q.Groups, q.NotBy = []string{"ops", "dev"}, []string{"bob"}
			case 3:
				q.Users, q.Groups = []string{"eve"}, []string{"ops"}
			}
			batch = append(batch, q)
		}
		asked := w.pause(&r, batch...)
		all = append(all, asked...)
		w.settle(answer(asked[0], "yes"))
		w.clock.advance(time.Second)
	}
	all[1] = w.extend(all[1], w.in(150*time.Minute))
	all[2] = w.extend(all[2], time.Time{})
	for i := range all {
		all[i] = w.question(all[i])
	}
	open, due := []storage.QuestionState{storage.Open}, w.in(4*time.Hour)
	for name, f := range map[string]storage.QuestionFilter{
		"all open":        {States: open},
		"settled":         {States: []storage.QuestionState{storage.Answered, storage.Withdrawn}},
		"a tag":           {Tags: []string{"even"}},
		"open, a tag":     {States: open, Tags: []string{"even"}},
		"open, tags":      {States: open, Tags: []string{"even", "1"}},
		"due":             {DueBefore: due},
		"open, due":       {States: open, DueBefore: due},
		"open, due, tag":  {States: open, DueBefore: due, Tags: []string{"even"}},
		"urgent":          {MinPriority: new(1)},
		"open, urgent":    {States: open, MinPriority: new(1)},
		"open, not low":   {States: open, MinPriority: new(0)},
		"open, not least": {States: open, MinPriority: new(-1)},
		"open, urgent, t": {States: open, MinPriority: new(2), Tags: []string{"even"}},
		"open, urgent, d": {States: open, MinPriority: new(0), DueBefore: due},
		"open, urgent, e": {States: open, MinPriority: new(-1), For: &storage.Principal{Subject: "eve", Groups: []string{"ops"}}},
		"for bob":         {For: &storage.Principal{Subject: "bob", Groups: []string{"ops", "dev"}}},
		"open, for bob":   {States: open, For: &storage.Principal{Subject: "bob", Groups: []string{"ops", "dev"}}},
		"open, for all":   {States: open, For: &storage.Principal{Subject: "mallory"}},
		"open, due, bob":  {States: open, DueBefore: due, For: &storage.Principal{Subject: "bob"}},
		"open, urgent, b": {States: open, MinPriority: new(0), For: &storage.Principal{Subject: "bob", Groups: []string{"dev"}}},
		"open, for ops":   {States: open, For: &storage.Principal{Groups: []string{"ops"}}},
		"open, for two":   {States: open, For: &storage.Principal{Subject: "bob", OnBehalfOf: "eve", Groups: []string{"dev"}}},
		"open, for eve":   {States: open, For: &storage.Principal{Subject: "eve", Groups: []string{"ops", "none"}}},
		"open, tag, eve":  {States: open, Tags: []string{"even"}, For: &storage.Principal{Subject: "eve"}},
		"open, due, for":  {States: open, DueBefore: due, For: &storage.Principal{Subject: "eve", Groups: []string{"ops"}}},
		"another tenants": {Tenant: "another", States: open, Tags: []string{"even"}},
	} {
		counts := map[storage.QuestionState]int{}
		var want []storage.Question
		for _, q := range all {
			if selected(&q, &f) {
				want = append(want, q)
				counts[q.State]++
			}
		}
		for _, order := range []storage.QuestionOrder{storage.ByAsked, storage.ByDeadline, storage.ByPriority} {
			f.Order = order
			for _, n := range []int{1, 7, 100} {
				same(w, fmt.Sprintf("%s in order %d by pages of %d", name, order, n), questionIDs(w.pages(f, n)), questionIDs(sorted(want, order)))
			}
		}
		if f.Tenant == "" {
			f.Tenant = tenant
		}
		got, err := w.b.CountQuestions(w.ctx, f)
		w.ok(err, "CountQuestions")
		for state, n := range got {
			w.true(n == counts[state], "%s: counted %d %s, want %d", name, n, state, counts[state])
		}
		for state, n := range counts {
			w.true(n == got[state], "%s: counted %d %s, want %d", name, got[state], state, n)
		}
	}
}

// selected is what a filter says, written down once more.
func selected(q *storage.Question, f *storage.QuestionFilter) bool {
	lacks := func(tag string) bool { return !slices.Contains(q.Tags, tag) }
	if f.Tenant != "" && q.Tenant != f.Tenant || len(f.States) > 0 && !slices.Contains(f.States, q.State) || slices.ContainsFunc(f.Tags, lacks) ||
		!f.DueBefore.IsZero() && (q.Deadline.IsZero() || !q.Deadline.Before(f.DueBefore)) || f.MinPriority != nil && q.Priority < *f.MinPriority {
		return false
	}
	if f.For == nil {
		return true
	}
	inGroup := slices.ContainsFunc(f.For.Groups, func(g string) bool { return slices.Contains(q.Groups, g) })
	return (len(q.NotBy) == 0 || f.For.Subject != "") && !slices.Contains(q.NotBy, f.For.Subject) && !slices.Contains(q.NotBy, f.For.OnBehalfOf) &&
		(len(q.Users)+len(q.Groups) == 0 || slices.Contains(q.Users, f.For.Subject) || inGroup)
}

func listDefaultLimit(w *world) {
	r := w.running(w.join())
	w.ask(&r, make([]storage.Question, 103)...)
	list := w.list(storage.QuestionFilter{})
	w.true(len(list) == 100, "%d questions without a limit, want 100", len(list))
	rest := w.list(storage.QuestionFilter{After: &list[99]})
	w.true(len(rest) == 3, "%d questions on the second page, want 3", len(rest))
	changes, err := w.b.QuestionChanges(w.ctx, tenant, 0, 0)
	w.ok(err, "QuestionChanges")
	w.true(len(changes) == 100, "%d changes without a limit, want 100", len(changes))
}

// listWhileChanging: what is there from beginning to end is on exactly one page,
// while others are asked and answered.
func listWhileChanging(w *world) {
	m := w.join()
	all := w.many(m, 60)
	stay, leave := all[:30], all[30:]
	var done atomic.Bool
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() {
		defer done.Store(true)
		for _, q := range leave {
			if _, err := w.b.Settle(w.ctx, []storage.Settlement{answer(q, "yes")}); err != nil {
				failed = err
				return
			}
			s := w.filled(storage.Start{Run: storage.Run{Owner: m.ID()}})
			started, err := w.b.Start(w.ctx, s)
			if err != nil {
				failed = err
				return
			}
			u := unit(started.Run, storage.Unit{Questions: []storage.Question{{ID: w.newID(), Priority: 0, Deadline: q.Deadline}}})
			if _, err := w.b.Append(w.ctx, []storage.Unit{u}); err != nil {
				failed = err
				return
			}
		}
	})
	for last := false; ; last = done.Load() {
		for _, order := range []storage.QuestionOrder{storage.ByAsked, storage.ByDeadline, storage.ByPriority} {
			seen := map[storage.ID]int{}
			list := w.pages(storage.QuestionFilter{Order: order, States: []storage.QuestionState{storage.Open}}, 4)
			for _, q := range list {
				seen[q.ID]++
				w.true(seen[q.ID] == 1, "order %d: question %s is on two pages", order, q.ID)
			}
			for _, q := range stay {
				w.true(seen[q.ID] == 1, "order %d: question %s is on no page", order, q.ID)
			}
			same(w, "the order", questionIDs(list), questionIDs(sorted(list, order)))
		}
		if last {
			break
		}
	}
	wg.Wait()
	w.ok(failed, "work beside the reader")
}

// listAfterMoved: the last question of a page marks a place in the order,
// whatever has become of it since.
func listAfterMoved(w *world) {
	r := w.running(w.join())
	var batch []storage.Question
	for i := range 6 {
		batch = append(batch, storage.Question{Name: fmt.Sprint(i), Deadline: w.in(time.Duration(i+1) * time.Hour)})
	}
	w.ask(&r, batch...)
	f := storage.QuestionFilter{Order: storage.ByDeadline, Limit: 2, States: []storage.QuestionState{storage.Open}}
	page := w.list(f)
	same(w, "first page", questionNames(page), []string{"0", "1"})
	w.settle(answer(page[1], "yes"))
	f.After = &page[1]
	page = w.list(f)
	same(w, "page after a question that was answered", questionNames(page), []string{"2", "3"})
	w.extend(page[1], w.in(100*time.Hour))
	f.After = &page[1]
	same(w, "page after a question that was extended", questionNames(w.list(f)), []string{"4", "5"})
}

func listCounts(w *world) {
	m := w.join()
	r, _ := w.listed(m)
	count := func(f storage.QuestionFilter) map[storage.QuestionState]int {
		w.Helper()
		f.Tenant = tenant
		counts, err := w.b.CountQuestions(w.ctx, f)
		w.ok(err, "CountQuestions")
		for state, n := range counts {
			if n == 0 {
				delete(counts, state)
			}
		}
		return counts
	}
	type counts = map[storage.QuestionState]int
	same(w, "all", count(storage.QuestionFilter{}), counts{storage.Open: 3, storage.Answered: 1})
	same(w, "of a run", count(storage.QuestionFilter{Run: r.ID}), counts{storage.Open: 1, storage.Answered: 1})
	same(w, "of a state", count(storage.QuestionFilter{States: []storage.QuestionState{storage.Open}}), counts{storage.Open: 3})
	same(w, "of nothing", count(storage.QuestionFilter{Name: "z"}), counts{})
	after := w.list(storage.QuestionFilter{})[2]
	same(w, "order, place and limit are ignored", count(storage.QuestionFilter{Order: storage.ByDeadline, After: &after, Limit: 1}), counts{storage.Open: 3, storage.Answered: 1})
	w.clock.advance(45 * time.Minute)
	w.poll(m, 0)
	w.append(&r, storage.Unit{Status: storage.Failed})
	same(w, "after an expiry and an end", count(storage.QuestionFilter{}),
		counts{storage.Open: 1, storage.Answered: 1, storage.Expired: 1, storage.Withdrawn: 1})
}
