package fermata

import (
	"context"

	"github.com/fermata-go/fermata/internal/engine"
)

// Future is a call under way. It belongs to the function that made the call.
type Future[O any] struct {
	call *engine.Future
	err  error
}

// Result waits for the call's result, which is durable when Result returns. Errors are those of
// [Task.Call]. It may be called again, and returns the same. ctx must be the
// one that the call was made with; a deadline of it doesn't end the wait: bound the task with [Timeout].
func (f *Future[O]) Result(ctx context.Context) (O, error) {
	var out O
	if f.err != nil {
		return out, f.err
	}
	data, err := f.call.Await(ctx)
	if err != nil {
		return out, public(err)
	}
	s, err := engine.From(ctx)
	if err != nil {
		return out, public(err)
	}
	if err := valuesOf(s).decode(data, &out); err != nil {
		var zero O
		return zero, public(f.call.Reject(err))
	}
	return out, nil
}

// All waits for all futures and returns their results in order. If one of them waits for a person so
// does All. Else, if some failed, the error is that of the first in order.
func All[O any](ctx context.Context, futures ...*Future[O]) ([]O, error) {
	results := make([]O, len(futures))
	var failed error
	for i, f := range futures {
		result, err := f.Result(ctx)
		if _, isFailure := err.(*TaskError); err != nil && !isFailure {
			return nil, err
		}
		if err != nil && failed == nil {
			failed = err
		}
		results[i] = result
	}
	if failed != nil {
		return nil, failed
	}
	return results, nil
}

// First waits for the first of the futures to end, in success or failure, and
// returns its index with its result. Which one it was is recorded: a
// replay gets the same. The others are withdrawn: their contexts end, their open questions are withdrawn, and their
// Result is a *[TaskError] that matches [ErrWithdrawn]. If all that have not ended wait for people, so does First.
func First[O any](ctx context.Context, futures ...*Future[O]) (int, O, error) {
	var zero O
	calls := make([]*engine.Future, len(futures))
	for i, f := range futures {
		if f.err != nil {
			return i, zero, f.err
		}
		calls[i] = f.call
	}
	winner, err := engine.First(ctx, calls)
	if err != nil {
		return 0, zero, public(err)
	}
	result, err := futures[winner].Result(ctx)
	return winner, result, err
}

// Group runs functions in parallel, each with a scope of its own, so that each
// may make durable calls with the context it is handed. It is for functions that share variables with the code
// around them: a branch runs again on every replay, only its calls are recorded.
type Group struct {
	ctx     context.Context
	futures []*engine.Future
	err     error
}

// NewGroup returns an empty group that belongs to the function that ctx was handed to.
func NewGroup(ctx context.Context) *Group { return &Group{ctx: ctx} }

// Go starts fn as a branch.
func (g *Group) Go(fn func(ctx context.Context) error) {
	if g.err != nil {
		return
	}
	f, err := engine.Go(g.ctx, engine.Call{
		Def: "branch", Kind: engine.KindBranch, Name: "branch",
		Do: func(ctx context.Context) ([]byte, error) { return nil, fn(ctx) },
	})
	if err != nil {
		g.err = public(err)
		return
	}
	g.futures = append(g.futures, f)
}

// Wait waits for all branches. If one of them waits for a person so does Wait. Else, if some
// failed, the error is that of the first in the order of Go: a *[TaskError] with the branch's message, in
// which [errors.As] finds the error of the task that the branch passed on.
func (g *Group) Wait() error {
	if g.err != nil {
		return g.err
	}
	var failed error
	for _, f := range g.futures {
		_, err := f.Await(g.ctx)
		if _, isFailure := err.(*engine.Failure); err != nil && !isFailure {
			return public(err)
		}
		if err != nil && failed == nil {
			failed = public(err)
		}
	}
	return failed
}
