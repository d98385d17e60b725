package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/fermata-go/fermata/storage"
)

// Handle is a run that a verb has started, resumed or found.
type Handle struct {
	engine    *Engine
	tenant    string
	execution *execution // nil: it doesn't execute here
	after     int64      // events up to this record are of before the verb
	index     int64      // and transient ones up to this
	all       bool       // events go on over the rests that the run has left since
	// Run is the run as the verb left it.
	Run storage.Run
	// Repeated: the answer was given before, with the same key.
	Repeated bool
}

// After is the last record of before the verb.
func (h *Handle) After() int64 { return h.after }

// Attach returns a handle of an existing run; its events begin after record after.
func (e *Engine) Attach(ctx context.Context, tenant string, run storage.ID, after int64) (*Handle, error) {
	stored, err := e.backend.Run(ctx, tenant, run)
	if err != nil {
		return nil, runError("attach", "", run, err)
	}
	return &Handle{engine: e, tenant: tenant, execution: e.running(run), after: after, Run: stored}, nil
}

// Follow returns a handle of an existing run. Its events are all there are, up to where the run rests when they are read.
func (e *Engine) Follow(ctx context.Context, tenant, thread string, run storage.ID) (*Handle, error) {
	stored, err := e.RunOf(ctx, "attach", tenant, thread, run)
	if err != nil {
		return nil, err
	}
	return &Handle{engine: e, tenant: tenant, execution: e.running(run), after: stored.ForkSeq, all: true, Run: stored}, nil
}

// Rest waits until the run rests – ended, parked or waiting for a person – and
// returns it with its open questions in call order.
func (h *Handle) Rest(ctx context.Context) (storage.Run, []storage.Question, error) {
	if run, questions, ok := h.pausedHere(ctx); ok {
		return run, questions, nil
	}
	for before := (storage.Run{}); ; {
		run, err := h.wait(ctx)
		if err != nil {
			return run, nil, err
		}
		if run.Status != storage.Interrupted && run.Status != storage.Parked {
			return run, nil, nil
		}
		questions, err := h.engine.OpenQuestions(ctx, h.tenant, run.ID)
		if err != nil || len(questions) > 0 || run.Status == storage.Parked || run.Token == before.Token && run.LastSeq == before.LastSeq {
			return run, questions, err
		}
		before = run // answered since: it goes on
	}
}

// pausedHere waits for the execution in this process, if there is one. If the run has paused with one question, and
// still does, it returns both: one read tells that. (The order of several is in the log.)
func (h *Handle) pausedHere(ctx context.Context) (run storage.Run, open []storage.Question, ok bool) {
	x := h.execution
	if x == nil {
		return run, nil, false
	}
	select {
	case <-x.done:
	case <-ctx.Done():
		return run, nil, false
	}
	if x.err != nil || x.run.Status != storage.Interrupted {
		return run, nil, false
	}
	head, err := h.engine.backend.Head(ctx, h.tenant, x.run.Thread)
	if err != nil || head.Run == nil || head.Run.ID != x.run.ID || head.Run.Status != storage.Interrupted || len(head.Open) != 1 {
		return run, nil, false
	}
	return *head.Run, head.Open, true
}

func (h *Handle) wait(ctx context.Context) (storage.Run, error) {
	if x := h.execution; x != nil {
		select {
		case <-x.done:
			// A run that went back to the queue is waited for like any other's, and one that
			// was interrupted may have been answered since.
			if x.err == nil && !underWay(x.run.Status) && x.run.Status != storage.Interrupted {
				return x.run, nil
			}
			if x.err != nil && !errors.Is(x.err, ErrLost) {
				return x.run, x.err
			}
		case <-ctx.Done():
			return h.Run, ctx.Err()
		}
	}
	news, unsubscribe := h.engine.hub.subscribe(h.Run.ID)
	defer unsubscribe()
	for {
		run, err := h.engine.backend.Run(ctx, h.tenant, h.Run.ID)
		if err != nil {
			return h.Run, runError("result", h.Run.Thread, h.Run.ID, err)
		}
		if !underWay(run.Status) {
			return run, nil
		}
		select {
		case _, open := <-news:
			if !open {
				return run, &Error{Op: "result", Thread: run.Thread, Run: run.ID, Reason: ErrClosed, Hint: "the run is kept and goes on in another engine"}
			}
		case <-ctx.Done():
			return run, ctx.Err()
		}
	}
}

// OpenQuestions lists the open questions of a run in call order.
func (e *Engine) OpenQuestions(ctx context.Context, tenant string, run storage.ID) ([]storage.Question, error) {
	questions, err := e.questionsOf(ctx, tenant, run, storage.Open)
	if err != nil || len(questions) < 2 {
		return questions, err
	}
	stored, err := e.backend.Run(ctx, tenant, run)
	if err != nil {
		return nil, storageError("questions", "", run, err)
	}
	// The last record of a run that rests lists its questions.
	_, records, err := e.backend.Log(ctx, tenant, run, stored.LastSeq-1, 1)
	if err != nil {
		return nil, storageError("questions", "", run, err)
	}
	for _, stored := range records {
		if len(stored.Data) == 0 || recordKind(stored.Data[0]) != recordPause {
			continue
		}
		if r, err := decodeRecord(stored.Data, nil); err == nil {
			sortBySeq(questions, r.open)
		}
	}
	return questions, nil
}

// inCallOrder lists the open questions of a head for an error that names them: in the
// order of their calls, if that can be read.
func (e *Engine) inCallOrder(ctx context.Context, head storage.Head) []storage.Question {
	if len(head.Open) > 1 {
		if sorted, err := e.OpenQuestions(ctx, head.Run.Tenant, head.Run.ID); err == nil {
			return sorted
		}
	}
	return head.Open
}

// questionsOf lists the questions of a run in the given states, all if there is none given.
func (e *Engine) questionsOf(ctx context.Context, tenant string, run storage.ID, states ...storage.QuestionState) ([]storage.Question, error) {
	questions, err := e.backend.ListQuestions(ctx, storage.QuestionFilter{Tenant: tenant, Run: run, States: states, Limit: 1 << 20})
	return questions, storageError("questions", "", run, err)
}

// sortBySeq puts questions in the order in which their Seq stand in order; others follow.
func sortBySeq(questions []storage.Question, order []int64) {
	place := func(q storage.Question) int {
		if i := slices.Index(order, q.Seq); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(questions, func(a, b storage.Question) int { return cmp.Compare(place(a), place(b)) })
}
