package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/internal/simulation/model"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// city is a world of several people before several threads, each person with a process of its own.
// None of them knows what the others do; what holds is checked from outside, after every step.
type city struct {
	data     *memory.Backend
	director *scheduler

	mu         sync.Mutex
	count      int // of effects and answers: all are different numbers
	started    map[fermata.ID]start
	tried      map[fermata.ID][]int   // answers that may have won, by question
	won        map[fermata.ID][]int   // answers that were accepted, by question
	got        map[int]map[int]bool   // answers that the code got, by payload
	ended      map[fermata.ID]outcome // runs that are over for good
	violations []string
}

// start is what a run was started with.
type start struct {
	thread string
	input  int
}

// outcome is the end of a run that nothing may change.
type outcome struct {
	status storage.Status
	result string
}

func newCity(d *scheduler) *city {
	c := &city{
		data: memory.New(nil), director: d, started: map[fermata.ID]start{},
		tried: map[fermata.ID][]int{}, won: map[fermata.ID][]int{}, got: map[int]map[int]bool{}, ended: map[fermata.ID]outcome{},
	}
	d.after = c.watch
	return c
}

func (c *city) violate(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.violations = append(c.violations, fmt.Sprintf(format, args...))
}

func (c *city) verdict() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.violations) == 0 {
		return nil
	}
	return errors.New(strings.Join(c.violations, "\n"))
}

// number returns one that nobody has.
func (c *city) number() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	return c.count
}

// watch checks what must hold after every step.
func (c *city) watch() error {
	runs, err := c.data.ListRuns(context.Background(), storage.RunFilter{Limit: 1 << 20})
	if err != nil {
		return err
	}
	active := map[string]fermata.ID{}
	for _, r := range runs {
		if other, two := active[r.Thread]; two && r.Status.Active() {
			c.violate("thread %s has the active runs %s and %s", r.Thread, other, r.ID)
		}
		if r.Status.Active() {
			active[r.Thread] = r.ID
		}
		now := outcome{r.Status, string(r.Result)}
		if before, over := c.ended[r.ID]; over && before != now {
			c.violate("run %s was %s with %q, and is %s with %q", r.ID, before.status, before.result, now.status, now.result)
		}
		switch r.Status {
		case storage.Finished, storage.Superseded:
			c.ended[r.ID] = now
		case storage.Parked:
			c.violate("run %s is parked: %s", r.ID, r.Error)
		}
	}
	return c.verdict()
}

// citizen is one life of a citizen's process.
type citizen struct {
	*process
	city  *city
	graph *fermata.Entrypoint[int, int]
	stop  map[fermata.ID]bool // runs that were to be cancelled when it was born
	plain *fermata.Task[int, int]
	asks  *fermata.Task[int, int]
}

func (c *city) born(number int) (*citizen, error) {
	z := &citizen{city: c, stop: map[fermata.ID]bool{}}
	runs, err := c.data.ListRuns(context.Background(), storage.RunFilter{Limit: 1 << 20})
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		z.stop[r.ID] = r.CancelRequested
	}
	p, err := boot(number, c.director, incarnation.New(c.data, false), fermata.Options{}, func(self *process) []fermata.Definition {
		z.process = self
		z.graph = fermata.NewEntrypoint(entrypoint, z.body)
		z.plain = fermata.NewTask("plain", z.effect)
		z.asks = fermata.NewTask("asks", func(ctx context.Context, payload int) (int, error) { return z.ask(ctx, payload) })
		return []fermata.Definition{z.graph}
	})
	if err != nil {
		return nil, err
	}
	z.process = p
	return z, nil
}

// body is the workflow of all threads: effects, questions in parallel, and a failure now and then.
func (z *citizen) body(ctx context.Context, in int) (int, error) {
	a, err := z.plain.Call(ctx, in)
	if err != nil {
		return 0, err
	}
	second := z.asks.Go(ctx, 10*a+1)
	third := z.plain.Go(ctx, a)
	answer := 0
	if in%4 != 0 {
		if answer, err = z.ask(ctx, 10*a); err != nil {
			return 0, err
		}
	}
	b, err := second.Result(ctx)
	if err != nil {
		return 0, err
	}
	d, err := third.Result(ctx)
	return model.Mix(a, answer, b, d), err
}

var errCity = errors.New("this one fails")

// effect is what may happen only in the process that owns the run.
func (z *citizen) effect(ctx context.Context, _ int) (int, error) {
	run, err := fermata.CurrentRun(ctx)
	if err != nil {
		return 0, err
	}
	switch v := z.director.decide(ctx, step{process: z.process, name: "effect", effect: true}); v {
	case dead, crashBefore:
		z.die()
		return 0, incarnation.ErrDead
	case late:
		return 0, context.Cause(ctx)
	case crashAfter:
		z.die()
	}
	n := z.city.number()
	row, err := z.city.data.Run(context.Background(), "", run.ID)
	if err != nil {
		z.city.violate("read run %s: %v", run.ID, err)
		return 0, err
	}
	if row.Status != storage.Running || !z.owns(row.Owner) && !z.died() {
		z.city.violate("process %d has an effect for run %s, which is %s and not its own", z.number, run.ID, row.Status)
	}
	if row.CancelRequested && z.stop[run.ID] {
		z.city.violate("process %d has an effect for run %s, which was cancelled before it was born", z.number, run.ID)
	}
	if n%7 == 0 {
		return 0, errCity
	}
	return n, nil
}

func (z *citizen) ask(ctx context.Context, payload int) (int, error) {
	answer, err := fermata.Interrupt[int](ctx, payload)
	if err == nil {
		z.city.mu.Lock()
		defer z.city.mu.Unlock()
		if z.city.got[payload] == nil {
			z.city.got[payload] = map[int]bool{}
		}
		z.city.got[payload][answer] = true
	}
	return answer, err
}

// answer answers a question, and notes whether that won.
func (z *citizen) answer(q fermata.ID) error {
	value := z.city.number()
	z.city.mu.Lock()
	z.city.tried[q] = append(z.city.tried[q], value)
	z.city.mu.Unlock()
	_, err := z.engine.Answer(z.ctx, q, value)
	if err == nil {
		z.city.mu.Lock()
		z.city.won[q] = append(z.city.won[q], value)
		z.city.mu.Unlock()
	}
	return err
}

// audit checks at the end that each question had one winner, and that the code got that answer.
func (c *city) audit() error {
	all, err := c.data.ListQuestions(context.Background(), storage.QuestionFilter{Limit: 1 << 20})
	if err != nil {
		return err
	}
	answers := map[int][]int{}
	for _, q := range all {
		won, tried := c.won[q.ID], c.tried[q.ID]
		payload, answer := 0, 0
		fmt.Sscan(string(q.Payload), &payload)
		if q.State == storage.Answered {
			fmt.Sscan(string(q.Answer), &answer)
			answers[payload] = append(answers[payload], answer)
		}
		switch {
		case q.State == storage.Open:
			c.violate("question %s is open after all", q.ID)
		case len(won) > 1:
			c.violate("question %s has the winners %v", q.ID, won)
		case len(won) == 1 && (q.State != storage.Answered || won[0] != answer):
			c.violate("question %s accepted %d, and is %s with %s", q.ID, won[0], q.State, q.Answer)
		case q.State == storage.Answered && !slices.Contains(tried, answer):
			c.violate("question %s has the answer %d, which nobody gave", q.ID, answer)
		}
	}
	for payload, got := range c.got {
		for answer := range got {
			if !slices.Contains(answers[payload], answer) {
				c.violate("the code got %d for %d, which was answered %v", answer, payload, answers[payload])
			}
		}
	}
	return c.verdict()
}
