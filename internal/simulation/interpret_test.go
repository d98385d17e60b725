package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/internal/simulation/model"
)

// retries is a policy that repeats whatever fails.
func retries(attempts int) fermata.PolicyOption {
	return fermata.Retry(fermata.RetryPolicy{
		MaxAttempts: attempts, InitialInterval: time.Millisecond, NoJitter: true, On: func(error) bool { return true },
	})
}

// interpreter is the code of a process that runs a program.
type interpreter struct {
	*process
	program  *model.Program
	settings settings
	ledger   *ledger
	graph    *fermata.Entrypoint[int, int]
	tasks    map[string]callable
}

// interpret starts a process with the program as its code.
func interpret(number int, d director, data *incarnation.Backend, l *ledger, program *model.Program, s settings) (*interpreter, error) {
	p := &interpreter{program: program, settings: s, ledger: l}
	options := fermata.Options{VerifyReplay: s.Verify, Tick: s.Tick}
	process, err := boot(number, d, data, options, func(self *process) []fermata.Definition {
		p.process = self
		p.define()
		return []fermata.Definition{p.graph}
	})
	if err != nil {
		return nil, err
	}
	p.process = process
	return p, nil
}

// thread is the thread with this id, as seen by the process.
func (p *interpreter) thread(id string) *fermata.Thread[int, int] {
	return p.graph.On(p.engine).Thread(id)
}

// define makes the definitions of the program, as a process does when it starts.
func (p *interpreter) define() {
	var options []fermata.EntrypointOption
	if p.settings.MaxConcurrency > 0 {
		options = append(options, fermata.MaxConcurrency(p.settings.MaxConcurrency))
	}
	if p.settings.Lenient {
		options = append(options, fermata.Lenient())
	}
	if p.program.Attempts > 0 {
		options = append(options, retries(p.program.Attempts))
	}
	options = append(options, fermata.WithDurability(p.settings.Durability))
	p.graph = fermata.NewEntrypoint(entrypoint, p.body, options...)
	p.tasks = map[string]callable{}
	for i := range p.program.Tasks {
		t := &p.program.Tasks[i]
		var options []fermata.TaskOption
		if t.Attempts > 0 {
			options = append(options, retries(t.Attempts))
		}
		body := func(ctx context.Context, in int) (int, error) {
			at := placeOf(ctx)
			if p.settings.Blind {
				in = at.input
			}
			at.life += fmt.Sprintf(".%d", fermata.Attempt(ctx))
			if t.Body == nil {
				return p.ledger.execute(ctx, p.process, t, at, in, fermata.Attempt(ctx))
			}
			return p.scope(ctx, at, t.Body, in)
		}
		if t.Nested {
			p.tasks[t.Name] = fermata.NewEntrypoint(t.Name, body)
		} else {
			p.tasks[t.Name] = fermata.NewTask(t.Name, body, options...)
		}
	}
}

// callable is a task, or an entrypoint that is called within another.
type callable interface {
	Go(ctx context.Context, in int, options ...fermata.CallOption) *fermata.Future[int]
}

func (p *interpreter) body(ctx context.Context, in int) (int, error) {
	p.ledger.begin()
	return p.scope(ctx, place{life: fmt.Sprintf("%s.%d", p.ledger.life(), fermata.Attempt(ctx))}, p.program.Body, in)
}

// place is where code stands. It travels with the context, past the engine.
type place struct {
	site  string // of the call that opened the scope
	life  string // attempts of the scopes around, and the epoch
	input int    // of the call, for [settings.Blind]
}

type placeKey struct{}

func placeOf(ctx context.Context) place {
	at, _ := ctx.Value(placeKey{}).(place)
	return at
}

// scope interprets the body of an entrypoint or of a task.
func (p *interpreter) scope(ctx context.Context, at place, body []model.Stmt, in int) (int, error) {
	f := &frame{p: p, at: at}
	f.vars[0] = in
	end := f.run(ctx, body)
	return end.value, end.err
}

type frame struct {
	p       *interpreter
	at      place
	vars    [model.NumVars]int
	futures [model.NumFutures]*pending
	turns   []int
	caught  []error
}

type pending struct {
	*fermata.Future[int]
	site string
}

// ending is how a scope comes to its end.
type ending struct {
	value int
	err   error
}

// run interprets the body of the scope to its end.
func (f *frame) run(ctx context.Context, body []model.Stmt) *ending {
	if end := f.block(ctx, body); end != nil {
		return end
	}
	return &ending{value: model.Mix(f.vars[:]...)}
}

func (f *frame) block(ctx context.Context, block []model.Stmt) *ending {
	for i := range block {
		if end := f.stmt(ctx, &block[i]); end != nil {
			return end
		}
	}
	return nil
}

func (f *frame) stmt(ctx context.Context, s *model.Stmt) *ending {
	switch s.Op {
	case model.Let:
		f.vars[s.Var] = s.Arg.Eval(&f.vars)
	case model.Call:
		return f.settle(ctx, s, f.start(ctx, s, s.Arg.Eval(&f.vars)))
	case model.Go:
		f.futures[s.Future] = f.start(ctx, s, s.Arg.Eval(&f.vars))
	case model.Await:
		if f.futures[s.Future] != nil {
			return f.settle(ctx, s, f.futures[s.Future])
		}
	case model.Fan:
		return f.fan(ctx, s)
	case model.Group:
		return f.group(ctx, s)
	case model.Ask:
		return f.ask(ctx, s)
	case model.If:
		if s.Arg.Eval(&f.vars)%2 == 0 {
			return f.block(ctx, s.Body)
		}
		return f.block(ctx, s.Else)
	case model.Loop:
		f.turns = append(f.turns, 0)
		for turn := range s.N {
			f.turns[len(f.turns)-1] = turn
			if end := f.block(ctx, s.Body); end != nil {
				return end
			}
			if f.vars[s.Var]%3 == 0 {
				break
			}
		}
		f.turns = f.turns[:len(f.turns)-1]
	case model.Fail:
		return f.fail(s)
	case model.Return:
		return &ending{value: s.Arg.Eval(&f.vars)}
	}
	return nil
}

func (f *frame) start(ctx context.Context, s *model.Stmt, input int) *pending {
	site := model.Site(f.at.site, s.ID, f.turns)
	ctx = context.WithValue(ctx, placeKey{}, place{site: site, life: f.at.life, input: input})
	var options []fermata.CallOption
	if key := s.Keyed(f.turns); key != "" {
		options = append(options, fermata.Key(key))
	}
	if f.p.settings.Blind {
		input = 0
	}
	return &pending{f.p.tasks[s.Task].Go(ctx, input, options...), site}
}

// settle hands the end of a call to the code.
func (f *frame) settle(ctx context.Context, s *model.Stmt, call *pending) *ending {
	value, err := call.Result(ctx)
	if failure, ok := err.(*fermata.TaskError); ok { //nolint:errorlint // nothing may wrap it
		f.p.ledger.deliver(f.p.process, call.site, f.at.life, model.MixString(failure.Error()))
		if !s.Catch {
			return &ending{err: fmt.Errorf("statement %d: %w", s.ID, err)}
		}
		f.caught = append(f.caught, err)
		f.vars[s.Var] = model.ValueOf(tasksOf(failure))
		return nil
	}
	if err != nil {
		return f.stopped(s, err)
	}
	f.p.ledger.deliver(f.p.process, call.site, f.at.life, value)
	f.p.ledger.hand(f.p.process, call.site, value)
	f.vars[s.Var] = value
	return nil
}

// tasksOf lists the tasks that a failure came through, outermost first.
func tasksOf(err error) []string {
	var names []string
	for failure := (*fermata.TaskError)(nil); errors.As(err, &failure); {
		names = append(names, failure.Task)
		err = nil
		for _, inner := range failure.Unwrap() {
			if cause, ok := inner.(*fermata.TaskError); ok { //nolint:errorlint // the direct cause
				err = cause
			}
		}
	}
	return names
}

// stopped is for an error of a durable call that is not the call's own: the code has to pass it up.
func (f *frame) stopped(s *model.Stmt, err error) *ending {
	switch f.p.settings.Paused {
	case goOn:
		f.vars[s.Var] = 7
		return nil
	case failOtherwise:
		return &ending{err: errors.New("something else")}
	case panicInstead:
		panic("something else")
	}
	return &ending{err: err}
}

func (f *frame) fan(ctx context.Context, s *model.Stmt) *ending {
	futures := make([]*pending, s.N)
	for i := range futures {
		f.turns = append(f.turns, i)
		futures[i] = f.start(ctx, s, model.Mix(s.Arg.Eval(&f.vars), i))
		f.turns = f.turns[:len(f.turns)-1]
	}
	sum := 0
	for _, i := range s.Order {
		if end := f.settle(ctx, s, futures[i]); end != nil {
			return end
		}
		sum = model.Mix(sum, f.vars[s.Var])
	}
	f.vars[s.Var] = sum
	return nil
}

func (f *frame) group(ctx context.Context, s *model.Stmt) *ending {
	g := fermata.NewGroup(ctx)
	results := make([]int, s.N)
	for i := range results {
		at := place{site: model.Site(f.at.site, s.ID, append(slices.Clone(f.turns), i)), life: f.at.life}
		branch := &frame{p: f.p, at: at, vars: f.vars}
		branch.vars[0] = model.Mix(branch.vars[0], i)
		g.Go(func(ctx context.Context) error {
			branch.at.life += fmt.Sprintf(".%d", fermata.Attempt(ctx))
			end := branch.run(ctx, s.Body)
			results[i] = end.value
			return end.err
		})
	}
	err := g.Wait()
	if failure, ok := err.(*fermata.TaskError); ok {
		if !s.Catch {
			return &ending{err: fmt.Errorf("statement %d: %w", s.ID, err)}
		}
		f.caught = append(f.caught, err)
		f.vars[s.Var] = model.ValueOf(tasksOf(failure))
		return nil
	}
	if err != nil {
		return f.stopped(s, err)
	}
	sum := 0
	for _, result := range results {
		sum = model.Mix(sum, result)
	}
	f.vars[s.Var] = sum
	return nil
}

func (f *frame) ask(ctx context.Context, s *model.Stmt) *ending {
	var options []fermata.AskOption
	if key := s.Keyed(f.turns); key != "" {
		options = append(options, fermata.Key(key))
	}
	payload := s.Arg.Eval(&f.vars)
	answer, err := fermata.Interrupt[int](ctx, payload, options...)
	if err != nil {
		return f.stopped(s, err)
	}
	f.p.ledger.answered(payload, answer)
	f.vars[s.Var] = answer
	return nil
}

func (f *frame) fail(s *model.Stmt) *ending {
	switch {
	case s.Wrap == model.Panics:
		panic(fmt.Sprintf("statement %d panics", s.ID))
	case s.Wrap == model.Last && len(f.caught) > 0:
		return &ending{err: fmt.Errorf("statement %d: %w", s.ID, f.caught[len(f.caught)-1])}
	case s.Wrap == model.All && len(f.caught) > 0:
		return &ending{err: fmt.Errorf("statement %d: %w", s.ID, errors.Join(f.caught...))}
	}
	return &ending{err: fmt.Errorf("statement %d fails", s.ID)}
}
