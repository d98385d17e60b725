package fermata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/storage"
)

// Hooks are called around what an engine does, for traces and metrics: see
// [Options]. A hook that is nil is not called. Those that return a context set the parent of the contexts that are seen
// within, so that spans nest: commit in run, task in task in run. What they return as function, if
// not nil, is called at the end, on whatever goroutine is there.
//
// Hooks run on the way of the work: a slow one slows it. A hook must not wait for the run that it is
// told of, nor answer, continue or cancel it, but on a goroutine of its own: the run waits for the hook. One
// that panics is logged, and changes nothing. What they do is not recorded; they see what this process does, once each time it does it – a task
// that is not run again on replay is not seen again.
type Hooks struct {
	_ [0]func()
	// Run: this process begins to execute a run: a new one, one that was answered, one of a dead process. At
	// the end status is what the run came to here (Interrupted, Finished, …); err says why it
	// failed, was parked, or was lost to this process, and is nil otherwise.
	Run func(ctx context.Context, run RunInfo) (context.Context, func(status Status, err error))
	// Task: an attempt of a task, or of a nested entrypoint, begins. At the end err is what the function returned; it
	// matches [ErrPaused] if the task waits for a person.
	Task func(ctx context.Context, task TaskInfo) (context.Context, func(err error))
	// Question: a question that this process asked is durable, or this process settled one, as its State says. Questions
	// that expire, and what other processes do, are in [Engine.QuestionChanges].
	Question func(ctx context.Context, q Question)
	// Commit: a unit of a run's log is about to be written. At the end it is durable, or err says why not.
	Commit func(ctx context.Context, commit CommitInfo) func(err error)
}

// TaskInfo describes a task that begins.
type TaskInfo struct {
	Run RunInfo
	// Name of the task, or of the nested entrypoint.
	Name string
	// Path names the calls around it and itself, outermost first, as "graph/human_feedback".
	Path string
	// Entrypoint: it is a nested entrypoint.
	Entrypoint bool
	// Attempt is 1 at first.
	Attempt int
}

// CommitInfo describes what is written at once of one run. The backend may put the
// units of several runs into one transaction.
type CommitInfo struct {
	Run RunInfo
	// Records and Bytes are those of the log; Questions are asked with it.
	Records, Bytes, Questions int
	// Last: the run comes to rest with it.
	Last bool
}

// erased are the hooks as the engine calls them.
func (h *Hooks) erased(v *values) engine.Hooks {
	var out engine.Hooks
	if h == nil {
		return out
	}
	if h.Run != nil {
		out.Run = func(ctx context.Context, run *storage.Run) (context.Context, func(*storage.Run, error)) {
			ctx, end := h.Run(ctx, newRunInfo(run))
			if end == nil {
				return ctx, nil
			}
			return ctx, func(run *storage.Run, err error) {
				if err == nil && (run.Status == storage.Failed || run.Status == storage.Parked) {
					_, err = v.engine.outcome(*run, nil)
				}
				end(run.Status, public(err))
			}
		}
	}
	if h.Task != nil {
		out.Task = func(ctx context.Context, x engine.Execution) (context.Context, func(error)) {
			return h.Task(ctx, TaskInfo{
				Run: newRunInfo(x.Run), Name: x.Name, Path: x.Path, Entrypoint: x.Kind == engine.KindEntrypoint, Attempt: x.Attempt,
			})
		}
	}
	if h.Question != nil {
		out.Question = func(ctx context.Context, q *storage.Question) { h.Question(ctx, v.question(q)) }
	}
	if h.Commit != nil {
		out.Commit = func(ctx context.Context, c engine.Commit) func(error) {
			return h.Commit(ctx, CommitInfo{Run: newRunInfo(c.Run), Records: c.Records, Bytes: c.Bytes, Questions: c.Questions, Last: c.Last})
		}
	}
	return out
}

// LogHooks write what happens to a logger: runs, tasks and questions as Info, commits as Debug, what failed as
// Warn. Values are not written, but for what the texts of errors hold.
func LogHooks(log *slog.Logger) *Hooks {
	level := func(err error) slog.Level {
		if err == nil || errors.Is(err, ErrPaused) {
			return slog.LevelInfo
		}
		return slog.LevelWarn
	}
	return &Hooks{
		Run: func(ctx context.Context, run RunInfo) (context.Context, func(Status, error)) {
			log := log.With(runAttr(run))
			log.InfoContext(ctx, "run taken up")
			return ctx, func(status Status, err error) {
				var divergence *DivergenceError
				if errors.As(err, &divergence) {
					err = fmt.Errorf("%w: %s", ErrParked, divergence.outline)
				}
				log.LogAttrs(ctx, level(err), "run given up", slog.String("status", status.String()), errorAttr(err))
			}
		},
		Task: func(ctx context.Context, task TaskInfo) (context.Context, func(error)) {
			began := time.Now()
			return ctx, func(err error) {
				log.LogAttrs(ctx, level(err), "task returned", runAttr(task.Run), slog.String("path", task.Path),
					slog.Int("attempt", task.Attempt), slog.Duration("took", time.Since(began)), errorAttr(err))
			}
		},
		Question: func(ctx context.Context, q Question) {
			log.InfoContext(ctx, "question "+q.State.String(), "question", q.ID, "run", q.Run, "thread", q.Thread, "path", q.Path)
		},
		Commit: func(ctx context.Context, commit CommitInfo) func(error) {
			return func(err error) {
				level := slog.LevelDebug
				if err != nil {
					level = slog.LevelWarn
				}
				log.LogAttrs(ctx, level, "commit",
					runAttr(commit.Run), slog.Int("records", commit.Records), slog.Int("bytes", commit.Bytes), errorAttr(err))
			}
		},
	}
}

func runAttr(run RunInfo) slog.Attr {
	return slog.Group("run", "id", run.ID, "thread", run.Thread, "entrypoint", run.Entrypoint)
}

// errorAttr is nothing if there is no error.
func errorAttr(err error) slog.Attr {
	if err == nil {
		return slog.Attr{}
	}
	return slog.Any("error", err)
}
