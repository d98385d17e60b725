package engine

import (
	"context"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

// load reads a run for replay. Of a fork, the questions of the runs that it
// shares records with come along.
func (e *Engine) load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	loaded, err := e.backend.Load(ctx, tenant, run)
	for at := loaded.Run; err == nil && at.ForkSeq > 0; {
		var questions []storage.Question
		if questions, err = e.questionsOf(ctx, tenant, at.Parent.Run); err != nil {
			break
		}
		for _, q := range questions {
			if q.Seq <= at.ForkSeq {
				loaded.Questions = append(loaded.Questions, q)
			}
		}
		shared := at.ForkSeq
		if at, err = e.backend.Run(ctx, tenant, at.Parent.Run); err == nil {
			at.ForkSeq = min(at.ForkSeq, shared)
		}
	}
	return loaded, err
}

// Lineage reads the runs of a thread, newest first, from before the run with the given number (0: the newest).
func (e *Engine) Lineage(ctx context.Context, tenant, thread string, before int64, limit int) ([]storage.Run, error) {
	if err := checkThread("history", thread); err != nil {
		return nil, err
	}
	runs, err := e.backend.ListRuns(ctx, storage.RunFilter{Tenant: tenant, Thread: thread, Before: before, Limit: limit})
	return runs, storageError("history", thread, storage.ID{}, err)
}

// RunOf reads a run of a thread.
func (e *Engine) RunOf(ctx context.Context, op, tenant, thread string, id storage.ID) (storage.Run, error) {
	run, err := e.backend.Run(ctx, tenant, id)
	if err != nil {
		return run, e.refused(ctx, op, tenant, thread, err)
	}
	if run.Thread != thread {
		return run, &Error{Op: op, Thread: thread, Run: id, Reason: ErrUnknownRun, Err: fmt.Errorf("it is of thread %s", quoteID(run.Thread))}
	}
	return run, nil
}

// QuestionsOf reads all questions of a run.
func (e *Engine) QuestionsOf(ctx context.Context, tenant string, run storage.ID) ([]storage.Question, error) {
	return e.questionsOf(ctx, tenant, run)
}
