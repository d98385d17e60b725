package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

var noteQuestion = fermata.NewQuestion[string, string]("note")

// desk is a workflow with many questions of different looks.
func desk(n int) *fermata.Entrypoint[string, string] {
	return fermata.NewEntrypoint("desk", func(ctx context.Context, thread string) (string, error) {
		asks := make([]fermata.Asking[string], n)
		for i := range asks {
			options := []fermata.AskOption{fermata.Priority(i % 3), fermata.Tags(fmt.Sprint("mod", i%2), "all"), fermata.Key(fmt.Sprint("k", i))}
			if i%4 == 1 {
				options = append(options, fermata.Users("ada"), fermata.Groups("finance"))
			}
			if i%4 == 2 {
				options = append(options, fermata.NotBy("ada"))
			}
			if i%5 > 0 {
				options = append(options, fermata.Deadline(time.Duration(i%5)*time.Hour))
			}
			asks[i] = noteQuestion.With(fmt.Sprintf("%s.%02d", thread, i), options...)
		}
		_, err := fermata.AskAll(ctx, asks...)
		return "", err
	})
}

// list reads all pages.
func (g *ground) list(f fermata.QuestionFilter, limit int) (shown []string) {
	g.t.Helper()
	page := fermata.Page{Limit: limit}
	for {
		p, err := g.engine.Questions(g.t.Context(), f, page)
		if err != nil {
			g.t.Fatal(err)
		}
		if len(p.Questions) > limit {
			g.t.Fatalf("a page of %d questions, want at most %d", len(p.Questions), limit)
		}
		for _, q := range p.Questions {
			shown = append(shown, string(q.Payload))
		}
		if page.After = p.Next; page.After == "" {
			return shown
		}
	}
}

func TestFindQuestions(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		const n = 20
		flow := desk(n)
		other := askingFlow("other", &calls{}, func(ctx context.Context) (string, error) { return fermata.Interrupt[string](ctx, "other") })
		g.deploy(nil, flow, other)
		for _, thread := range []string{"a", "b"} {
			if _, err := flow.On(g.engine).Thread(thread).Invoke(g.t.Context(), thread); len(paused(g.t, err)) != n {
				g.t.Fatal(err)
			}
		}
		g.ask(other, "c")
		if _, err := other.On(g.engine.Tenant("acme")).Thread("c").Invoke(g.t.Context(), ""); len(paused(g.t, err)) != 1 {
			g.t.Fatal(err)
		}
		open := []fermata.QuestionState{fermata.QuestionOpen}
		ada, finance := &fermata.Principal{Subject: "ada"}, &fermata.Principal{Subject: "bob", Groups: []string{"finance"}}
		all := func(keep func(i int) bool) (shown []string) {
			for _, thread := range []string{"a", "b"} {
				for i := range n {
					if keep(i) {
						shown = append(shown, fmt.Sprintf(`"%s.%02d"`, thread, i))
					}
				}
			}
			return shown
		}
		for name, c := range map[string]struct {
			filter fermata.QuestionFilter
			want   []string
		}{
			"all":           {fermata.QuestionFilter{States: open}, append(all(func(int) bool { return true }), `"other"`)},
			"entrypoint":    {fermata.QuestionFilter{Entrypoint: "other"}, []string{`"other"`}},
			"thread":        {fermata.QuestionFilter{Thread: "c"}, []string{`"other"`}},
			"name":          {fermata.QuestionFilter{Name: "note"}, all(func(int) bool { return true })},
			"key":           {fermata.QuestionFilter{Key: "k3"}, all(func(i int) bool { return i == 3 })},
			"tags":          {fermata.QuestionFilter{Tags: []string{"all", "mod1"}}, all(func(i int) bool { return i%2 == 1 })},
			"for ada":       {fermata.QuestionFilter{Name: "note", For: ada}, all(func(i int) bool { return i%4 != 2 })},
			"for finance":   {fermata.QuestionFilter{Name: "note", For: finance}, all(func(int) bool { return true })},
			"due":           {fermata.QuestionFilter{DueBefore: time.Now().Add(90 * time.Minute)}, all(func(i int) bool { return i%5 == 1 })},
			"due some day":  {fermata.QuestionFilter{DueBefore: time.Date(400_000, 1, 1, 0, 0, 0, 0, time.UTC)}, all(func(i int) bool { return i%5 > 0 })},
			"due long ago":  {fermata.QuestionFilter{DueBefore: time.Date(-400_000, 1, 1, 0, 0, 0, 0, time.UTC)}, nil},
			"priority":      {fermata.QuestionFilter{Name: "note", MinPriority: new(1)}, all(func(i int) bool { return i%3 >= 1 })},
			"answered":      {fermata.QuestionFilter{States: []fermata.QuestionState{fermata.QuestionAnswered}}, nil},
			"another order": {fermata.QuestionFilter{Key: "k3", Order: fermata.ByDeadline}, all(func(i int) bool { return i == 3 })},
		} {
			for _, limit := range []int{1, 7, 100, math.MaxInt} {
				got := g.list(c.filter, limit)
				slices.Sort(got)
				slices.Sort(c.want)
				want(g.t, fmt.Sprintf("%s, %d per page", name, limit), got, c.want)
			}
			counts, err := g.engine.CountQuestions(g.t.Context(), c.filter)
			if err != nil {
				g.t.Fatal(err)
			}
			want(g.t, "count of "+name, counts[fermata.QuestionOpen], len(c.want))
		}
		orders := map[fermata.QuestionOrder]func(a, b fermata.Question) bool{
			fermata.ByAsked:    func(a, b fermata.Question) bool { return !b.Asked.Before(a.Asked) },
			fermata.ByPriority: func(a, b fermata.Question) bool { return a.Priority >= b.Priority },
			fermata.ByDeadline: func(a, b fermata.Question) bool {
				return b.Deadline.IsZero() || !a.Deadline.IsZero() && !b.Deadline.Before(a.Deadline)
			},
		}
		for order, inOrder := range orders {
			page, err := g.engine.Questions(g.t.Context(), fermata.QuestionFilter{Order: order}, fermata.Page{})
			if err != nil {
				g.t.Fatal(err)
			}
			for i := range len(page.Questions) - 1 {
				if !inOrder(page.Questions[i], page.Questions[i+1]) {
					g.t.Errorf("order %d: question %d stands before %d", order, i, i+1)
				}
			}
		}
		page, err := g.engine.Questions(g.t.Context(), fermata.QuestionFilter{}, fermata.Page{Limit: 1})
		if err != nil {
			g.t.Fatal(err)
		}
		for _, bad := range []fermata.Page{{After: "garbage"}, {After: "e30x"}} {
			_, err := g.engine.Questions(g.t.Context(), fermata.QuestionFilter{}, bad)
			wantErr(g.t, bad.After, err, fermata.ErrInvalid)
		}
		_, err = g.engine.Questions(g.t.Context(), fermata.QuestionFilter{Order: fermata.ByPriority}, fermata.Page{After: page.Next})
		wantErr(g.t, "cursor of another order", err, fermata.ErrInvalid)
	})
}

// The inbox of somebody is what he may answer, and nothing else.
func TestInboxOfAPrincipal(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) {
			return fermata.Interrupt[string](ctx, "?", fermata.Groups("staff"), fermata.NotBy("ada"))
		})
		g.deploy(nil, flow)
		for i, p := range []fermata.Principal{
			{},
			{Groups: []string{"staff"}},
			{Subject: "ada", Groups: []string{"staff"}},
			{Subject: "bot", OnBehalfOf: "ada", Groups: []string{"staff"}},
			{Subject: "bot", OnBehalfOf: "bob", Groups: []string{"staff"}},
			{Subject: "bot", OnBehalfOf: "bob"},
		} {
			thread := fmt.Sprint(i)
			q := g.ask(flow, thread)
			listed := len(g.list(fermata.QuestionFilter{Thread: thread, For: &p, States: []fermata.QuestionState{fermata.QuestionOpen}}, 10)) > 0
			_, err := g.engine.Answer(g.t.Context(), q.ID, "x", fermata.By(p))
			want(g.t, fmt.Sprintf("listed for %+v, as the answer has it: %v", p, err), listed, err == nil)
		}
	})
}

func TestPageHasAtMostAThousandQuestions(t *testing.T) {
	t.Parallel()
	g := &ground{t: t, open: memoryOpener(t)}
	flow := desk(1003)
	g.deploy(nil, flow)
	_, err := flow.On(g.engine).Thread("a").Invoke(t.Context(), "a")
	want(t, "open questions", len(paused(t, err)), 1003)
	page := fermata.Page{Limit: math.MaxInt}
	for _, n := range []int{1000, 3} {
		p, err := g.engine.Questions(t.Context(), fermata.QuestionFilter{}, page)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "questions on the page", len(p.Questions), n)
		page.After = p.Next
	}
	want(t, "cursor at the end", page.After, "")
}

// Whoever pages while people answer sees every question that stays open, once.
func TestPagingWhilePeopleAnswer(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		const n = 60
		flow := desk(n)
		g.deploy(nil, flow)
		_, err := flow.On(g.engine).Thread("a").Invoke(g.t.Context(), "a")
		questions := paused(g.t, err)
		var answers sync.WaitGroup
		answers.Go(func() {
			for i := 0; i < n; i += 2 {
				if _, err := g.engine.Answer(g.t.Context(), questions[i].ID, "x", fermata.By(fermata.Principal{Subject: "bob", Groups: []string{"finance"}})); err != nil {
					g.t.Errorf("question %d: %v", i, err)
				}
			}
		})
		for _, order := range []fermata.QuestionOrder{fermata.ByAsked, fermata.ByPriority, fermata.ByDeadline} {
			seen := map[string]int{}
			for _, shown := range g.list(fermata.QuestionFilter{States: []fermata.QuestionState{fermata.QuestionOpen}, Order: order}, 3) {
				seen[shown]++
			}
			for i := range n {
				shown := fmt.Sprintf(`"a.%02d"`, i)
				if seen[shown] > 1 || i%2 == 1 && seen[shown] != 1 {
					g.t.Errorf("order %d: %s was shown %d times", order, shown, seen[shown])
				}
			}
		}
		answers.Wait()
	})
}

// The feed shows every question's end, live, and from a kept position after a restart.
func TestQuestionChanges(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			return fermata.Interrupt[string](ctx, "?", fermata.Deadline(time.Hour))
		})
		g.deploy(nil, flow)
		position := int64(0)
		// next reads the feed until it has shown what is asked for.
		next := func(after func(), done func(q fermata.Question) bool) {
			g.t.Helper()
			ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
			defer cancel()
			first := true
			feed := g.engine.QuestionChanges(ctx, position)
			go func() { after() }()
			for q, err := range feed {
				if err != nil {
					g.t.Fatal(err)
				}
				if q.Change <= position {
					g.t.Errorf("position %d after %d", q.Change, position)
				}
				position, first = q.Change, false
				if done(q) {
					break
				}
			}
			if first {
				g.t.Fatal("the feed showed nothing")
			}
		}
		nothing := func() {}
		one, two := g.ask(flow, "1"), g.ask(flow, "2")
		next(nothing, func(q fermata.Question) bool { return q.ID == two.ID && q.State == fermata.QuestionOpen })
		next(func() { g.answer(one, "x") }, func(q fermata.Question) bool { return q.ID == one.ID && q.State == fermata.QuestionAnswered })
		g.end(flow, "1")
		if err := g.engine.Withdraw(g.t.Context(), two.ID, fermata.Principal{Subject: "ada"}); err != nil {
			g.t.Fatal(err)
		}
		three := g.ask(flow, "3")
		g.deploy(nil, flow)
		ends := map[fermata.ID]fermata.QuestionState{}
		next(func() { g.advance(2 * time.Hour) }, func(q fermata.Question) bool {
			ends[q.ID] = q.State
			return q.ID == three.ID && q.State == fermata.QuestionExpired
		})
		want(g.t, "the end of the second, missed while down", ends[two.ID], fermata.QuestionWithdrawn)

		ctx, cancel := context.WithCancel(g.t.Context())
		cancel()
		for _, err := range g.engine.QuestionChanges(ctx, position) {
			wantErr(g.t, "feed of an ended context", err, context.Canceled)
		}
		closing := g.engine
		ended := make(chan error, 1)
		go func() {
			for _, err := range closing.QuestionChanges(context.Background(), position) {
				if err != nil {
					ended <- err
				}
			}
			close(ended)
		}()
		if err := closing.Close(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
		if err := <-ended; err != nil && !errors.Is(err, fermata.ErrClosed) {
			g.t.Errorf("feed of a closed engine: %v", err)
		}
	})
}

// heldBack is a backend whose feed keeps changes back for a time, as while an earlier one isn't committed, and gives no
// news when it no longer does.
type heldBack struct {
	storage.Backend
	from time.Time // when it gives all
}

func (h *heldBack) QuestionChanges(ctx context.Context, tenant string, after int64, limit int) ([]storage.Question, error) {
	if time.Now().Before(h.from) {
		return nil, ctx.Err()
	}
	return h.Backend.QuestionChanges(ctx, tenant, after, limit)
}

func TestQuestionChangesAfterARollback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &ground{t: t, open: func(testing.TB, func() time.Duration) storage.Backend {
			return &heldBack{Backend: memory.New(nil), from: time.Now().Add(10 * time.Second)}
		}}
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) { return fermata.Interrupt[string](ctx, "?") })
		g.deploy(nil, flow)
		asked, held := g.ask(flow, "1"), time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for q, err := range g.engine.QuestionChanges(ctx, 0) {
			if err != nil {
				t.Fatal(err)
			}
			want(t, "question", q.ID, asked.ID)
			if waited := time.Since(held); waited > 20*time.Second {
				t.Errorf("seen after %s", waited)
			}
			break
		}
		if err := g.engine.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

// crowd fills a database with n open questions, and returns the engine and some of them.
func crowd(b *testing.B, open backendtest.Opener, n int) (*fermata.Engine, []storage.Question) {
	b.Helper()
	backend := open(b, nil)
	ctx := context.Background()
	member, err := backend.Join(ctx, "crowd")
	if err != nil {
		b.Fatal(err)
	}
	const perUnit = 100
	var some []storage.Question
	for first := 0; first < n; first += perUnit * 10 {
		var units []storage.Unit
		for thread := first; thread < min(n, first+perUnit*10); thread += perUnit {
			run := storage.Run{ID: storage.NewID(time.Now()), Thread: fmt.Sprint("t", thread), Entrypoint: "crowd", Input: []byte(`""`), Owner: member.ID()}
			if _, err := backend.Start(ctx, storage.Start{Run: run}); err != nil {
				b.Fatal(err)
			}
			u := storage.Unit{Run: run.ID, Token: 1, First: 1, Status: storage.Interrupted, SeenInbox: 1 << 62}
			for i := range perUnit {
				u.Records = append(u.Records, []byte{9, 0})
				q := storage.Question{
					ID: storage.NewID(time.Now()), Seq: int64(i + 1), Path: "crowd", Payload: []byte(`"?"`), Schema: []byte(`{"type":"string"}`),
					Users: []string{fmt.Sprint("user", (thread+i)%100)}, Priority: i % 5, Tags: []string{fmt.Sprint("tag", i%10)}, Deadline: time.Now().Add(time.Duration(i+1) * time.Hour),
				}
				u.Questions = append(u.Questions, q)
			}
			some = append(some, u.Questions...)
			units = append(units, u)
		}
		committed, err := backend.Append(ctx, units)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range committed {
			if c.Err != nil {
				b.Fatal(c.Err)
			}
		}
	}
	engine, err := fermata.New(backend, &fermata.Options{Workers: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = engine.Close(ctx) })
	return engine, some
}

// middle is the place after the first half of a list.
func middle(b *testing.B, engine *fermata.Engine, f fermata.QuestionFilter) string {
	b.Helper()
	counts, err := engine.CountQuestions(b.Context(), f)
	if err != nil {
		b.Fatal(err)
	}
	page, err := engine.Questions(b.Context(), f, fermata.Page{Limit: counts[fermata.QuestionOpen] / 2})
	if err != nil {
		b.Fatal(err)
	}
	return page.Next
}

// BenchmarkCrowd is what an inbox costs that has 100,000 open questions.
func BenchmarkCrowd(b *testing.B) {
	const n = 100_000
	backendtest.EachBench(b, func(b *testing.B, open backendtest.Opener) {
		engine, some := crowd(b, open, n)
		ctx := b.Context()
		isOpen := []fermata.QuestionState{fermata.QuestionOpen}
		for _, order := range []fermata.QuestionOrder{fermata.ByAsked, fermata.ByDeadline, fermata.ByPriority} {
			for name, f := range map[string]fermata.QuestionFilter{
				"all":  {},
				"user": {For: &fermata.Principal{Subject: "user7"}},
				"tag":  {Tags: []string{"tag3"}},
				"due":  {DueBefore: time.Now().Add(2 * time.Hour)},
			} {
				f.States, f.Order = isOpen, order
				for place, after := range map[string]string{"first": "", "middle": middle(b, engine, f)} {
					b.Run(fmt.Sprintf("%s page of %s by %s", place, name, [...]string{"asked", "deadline", "priority"}[order]), func(b *testing.B) {
						for b.Loop() {
							page, err := engine.Questions(ctx, f, fermata.Page{Limit: 50, After: after})
							if err != nil || len(page.Questions) != 50 {
								b.Fatal(len(page.Questions), err)
							}
						}
					})
				}
				if order > 0 {
					continue
				}
				b.Run("count of "+name, func(b *testing.B) {
					for b.Loop() {
						if _, err := engine.CountQuestions(ctx, f); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
		b.Run("answer", func(b *testing.B) {
			for b.Loop() {
				if len(some) == 0 {
					b.Skip("no question left")
				}
				q := some[0]
				some = some[1:]
				if _, err := engine.Answer(ctx, q.ID, "x", fermata.By(fermata.Principal{Subject: q.Users[0]})); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}
