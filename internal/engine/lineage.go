package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// recording is a run with what it takes to replay it.
type recording struct {
	storage.Loaded
	// made says who made the records that are not the run's own: those that it shares as a fork, or has as a copy.
	made []storage.Part
	// origin is when the first of them was begun; a copy is as old as what it is a copy of.
	origin time.Time
}

// load reads a run for replay. Of a fork, the questions of the runs that it
// shares records with come along.
func (e *Engine) load(ctx context.Context, tenant string, run storage.ID) (recording, error) {
	loaded, err := e.backend.Load(ctx, tenant, run)
	if err == nil {
		err = storage.Unsealed(loaded.Run.Input)
	}
	r := recording{Loaded: loaded, made: loaded.Run.Copied, origin: loaded.Run.Created}
	for at := loaded.Run; err == nil && at.ForkSeq > 0; {
		var questions []storage.Question
		if questions, err = e.questionsOf(ctx, tenant, at.Parent.Run); err != nil {
			break
		}
		for _, q := range questions {
			if q.Seq <= at.ForkSeq {
				r.Questions = append(r.Questions, q)
			}
		}
		shared := at.ForkSeq
		if at, err = e.backend.Run(ctx, tenant, at.Parent.Run); err == nil {
			r.inherit(&at, shared)
			at.ForkSeq = min(at.ForkSeq, shared)
		}
	}
	return r, err
}

// inherit notes whose the records are that a fork shares with its parent.
func (r *recording) inherit(parent *storage.Run, shared int64) {
	made := append(slices.Clone(parent.Copied), storage.Part{Run: parent.ID, Seq: shared})
	for i := range made {
		made[i].Seq = min(made[i].Seq, shared)
	}
	r.made, r.origin = append(made, r.made...), parent.Created
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

// Taken finds the record of a run that says that the code was handed what became of a question.
func (e *Engine) Taken(ctx context.Context, op string, q storage.Question) (int64, error) {
	claim := int64(0)
	for after := q.Seq - 1; ; {
		_, records, err := e.backend.Log(ctx, q.Tenant, q.Run, after, eventPage)
		if err != nil {
			return 0, storageError(op, q.Thread, q.Run, err)
		}
		for _, stored := range records {
			after = stored.Seq
			kind := recordKind(0)
			if len(stored.Data) > 0 {
				kind = recordKind(stored.Data[0])
			}
			if kind != recordAsk && kind != recordTaken {
				if stored.Seq == q.Seq {
					claim = q.Seq
				}
				continue
			}
			r, err := decodeRecord(stored.Data, nil)
			switch {
			case err != nil:
				return 0, storageError(op, q.Thread, q.Run, err)
			case kind == recordTaken && r.claim == claim:
				return stored.Seq, nil
			case stored.Seq == q.Seq:
				claim = r.claim // it was asked anew
			}
		}
		if len(records) < eventPage {
			return 0, &Error{Op: op, Thread: q.Thread, Run: q.Run, Reason: ErrInvalid, Err: fmt.Errorf("the code has not been handed an answer to question %s", q.ID), Hint: "fork before the question"}
		}
	}
}

// QuestionsOf reads all questions of a run.
func (e *Engine) QuestionsOf(ctx context.Context, tenant string, run storage.ID) ([]storage.Question, error) {
	return e.questionsOf(ctx, tenant, run)
}
