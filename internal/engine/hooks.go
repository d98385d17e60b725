package engine

import (
	"context"

	"github.com/fermata-go/fermata/storage"
)

// Hooks are called around what an engine does; nil ones are not. What a hook returns as context is
// the parent of what happens within; the function that it returns, if not nil, is called at the end.
// A hook that panics is logged, and changes nothing.
type Hooks struct {
	Run      func(ctx context.Context, run *storage.Run) (context.Context, func(run *storage.Run, err error))
	Task     func(ctx context.Context, t Execution) (context.Context, func(err error))
	Question func(ctx context.Context, q *storage.Question)
	Commit   func(ctx context.Context, c Commit) func(err error)
}

// Execution is one call of a function of the user's.
type Execution struct {
	Run     *storage.Run
	Kind    Kind // KindTask or KindEntrypoint
	Name    string
	Path    string
	Attempt int
}

// Commit is one unit of a run.
type Commit struct {
	Run     *storage.Run
	Records int
	Bytes   int
	// Questions are opened.
	Questions int
	// Last: the run comes to rest with it.
	Last bool
}

// hook calls a hook.
func (e *Engine) hook(name string, fn func()) {
	err := guard(func() error {
		fn()
		return nil
	})
	if err != nil {
		e.log.Error("a hook panicked", "hook", name, "error", err)
	}
}

// observeRun says that an execution begins; its end is said by the result.
func (e *Engine) observeRun(run *storage.Run) (ctx context.Context, end func(run *storage.Run, err error)) {
	ctx, end = e.base, func(*storage.Run, error) {}
	if e.options.Hooks.Run == nil {
		return ctx, end
	}
	e.hook("Run", func() {
		inner, fn := e.options.Hooks.Run(e.base, run)
		if inner != nil {
			ctx = inner
		}
		if fn != nil {
			end = func(run *storage.Run, err error) { e.hook("Run", func() { fn(run, err) }) }
		}
	})
	return ctx, end
}

// observeTask says that a function of the user's is called; its end is said by the result.
func (e *Engine) observeTask(ctx context.Context, x Execution) (inner context.Context, end func(err error)) {
	inner, end = ctx, func(error) {}
	if e.options.Hooks.Task == nil || x.Kind != KindTask && x.Kind != KindEntrypoint {
		return inner, end
	}
	e.hook("Task", func() {
		given, fn := e.options.Hooks.Task(ctx, x)
		if given != nil {
			inner = given
		}
		if fn != nil {
			end = func(err error) { e.hook("Task", func() { fn(err) }) }
		}
	})
	return inner, end
}

// observeCommit says that a unit is written; its end is said by the result.
func (e *Engine) observeCommit(ctx context.Context, c Commit) (end func(err error)) {
	end = func(error) {}
	if e.options.Hooks.Commit == nil {
		return end
	}
	e.hook("Commit", func() {
		if fn := e.options.Hooks.Commit(ctx, c); fn != nil {
			end = func(err error) { e.hook("Commit", func() { fn(err) }) }
		}
	})
	return end
}

// observeQuestion says that a question was asked or settled.
func (e *Engine) observeQuestion(ctx context.Context, q *storage.Question) {
	if e.options.Hooks.Question != nil {
		e.hook("Question", func() { e.options.Hooks.Question(ctx, q) })
	}
}

// observe lets a journal say what it writes.
func (j *journal) observe(ctx context.Context, e *Engine, run *storage.Run) {
	if e.options.Hooks.Commit == nil && e.options.Hooks.Question == nil {
		return
	}
	j.committing = func(u *storage.Unit) func(storage.Committed, error) {
		c := Commit{Run: run, Records: len(u.Records), Questions: len(u.Questions), Last: u.Status != 0}
		for _, r := range u.Records {
			c.Bytes += len(r)
		}
		end := e.observeCommit(ctx, c)
		return func(committed storage.Committed, err error) {
			end(err)
			for i := range u.Questions {
				if err != nil {
					break
				}
				q := u.Questions[i]
				q.Tenant, q.Thread, q.Run, q.Entrypoint = run.Tenant, run.Thread, run.ID, run.Entrypoint
				q.State, q.Asked = storage.Open, committed.At
				e.observeQuestion(ctx, &q)
			}
		}
	}
}
