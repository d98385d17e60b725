package fermata_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

// where is the key of the name of the process that executes a run.
type where struct{}

// clerk asks a question between two tasks, and says in which process each part of it ran.
func clerk() *fermata.Entrypoint[string, []string] {
	file := fermata.NewTask("file", func(ctx context.Context, paper string) (string, error) {
		return paper + " in " + ctx.Value(where{}).(string), nil
	})
	return fermata.NewEntrypoint("clerk", func(ctx context.Context, paper string) ([]string, error) {
		first, err := file.Call(ctx, paper)
		if err != nil {
			return nil, err
		}
		answer, err := fermata.Interrupt[string](ctx, first)
		if err != nil {
			return nil, err
		}
		second, err := file.Call(ctx, answer)
		return []string{first, second}, err
	})
}

// office is an engine of one process. Nothing there looks for work unless it is told.
func office(t *testing.T, name string, backend storage.Backend, workers int, entrypoints ...fermata.Definition) *fermata.Engine {
	t.Helper()
	engine, err := fermata.New(backend, &fermata.Options{
		Workers: workers, Tick: 24 * time.Hour,
		Setup: func(ctx context.Context, _ fermata.RunInfo) context.Context {
			return context.WithValue(ctx, where{}, name)
		},
	}, entrypoints...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return engine
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestEnqueueIsDurable: who enqueues needs no other process to be there, and may go before one comes.
func TestEnqueueIsDurable(t *testing.T) {
	t.Parallel()
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) {
		ctx, flow := soon(t), clerk()
		status := func() fermata.Status {
			t.Helper()
			backend := open(t, nil)
			reader := office(t, "reader", backend, -1, flow)
			state, err := flow.On(reader).Thread("1").State(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return state.Status
		}
		during := func(verb func(*fermata.Thread[string, []string]) error) {
			t.Helper()
			backend := open(t, nil)
			web := office(t, "web", backend, -1, flow)
			if err := verb(flow.On(web).Thread("1")); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(web.Close(ctx), backend.Close()); err != nil {
				t.Fatal(err)
			}
		}
		worker := func(rested fermata.Status) {
			t.Helper()
			backend := open(t, nil)
			engine := office(t, "worker", backend, 0, flow)
			for _, err := range engine.QuestionChanges(ctx, 0) { // the run goes on by itself
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			runs := 0
			for run, err := range engine.Runs(ctx, nil) {
				if err != nil {
					t.Fatal(err)
				}
				handle, err := flow.On(engine).Thread("1").Start(ctx, "letter", fermata.WithRunID(run.ID))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := handle.Result(ctx); err != nil && !errors.Is(err, fermata.ErrPaused) {
					t.Fatal(err)
				}
				runs++
			}
			if got := status(); runs != 1 || got != rested {
				t.Fatalf("%d runs, the last one %s, want one that is %s", runs, got, rested)
			}
			if err := errors.Join(engine.Close(ctx), backend.Close()); err != nil {
				t.Fatal(err)
			}
		}
		during(func(thread *fermata.Thread[string, []string]) error {
			_, err := thread.Start(ctx, "letter", fermata.Enqueue())
			return err
		})
		want(t, "after the start", status(), fermata.Queued)
		worker(fermata.Interrupted)
		during(func(thread *fermata.Thread[string, []string]) error {
			if _, err := thread.State(ctx); err != nil {
				return err
			}
			_, err := thread.Resume(ctx, "reply", fermata.Enqueue())
			return err
		})
		want(t, "after the answer", status(), fermata.Queued)
		worker(fermata.Finished)
	})
}

// askedBackend counts the calls of a backend that ask whether there is something new.
type askedBackend struct {
	storage.Backend
	polls, reads atomic.Int64
}

func (c *askedBackend) Poll(ctx context.Context, p storage.Poll) (storage.Polled, error) {
	c.polls.Add(1)
	return c.Backend.Poll(ctx, p)
}

func (c *askedBackend) Run(ctx context.Context, tenant string, run storage.ID) (storage.Run, error) {
	c.reads.Add(1)
	return c.Backend.Run(ctx, tenant, run)
}

func (c *askedBackend) Log(ctx context.Context, tenant string, run storage.ID, after int64, limit int) (storage.Run, []storage.Record, error) {
	c.reads.Add(1)
	return c.Backend.Log(ctx, tenant, run, after, limit)
}

// TestEnqueuedWorkWakesAnotherProcess: an idle worker takes up what another process enqueues, and that
// one's waiting callers see the result and the events, though nobody looks by himself for a day.
func TestEnqueuedWorkWakesAnotherProcess(t *testing.T) {
	t.Parallel()
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) {
		wakesAnotherProcess(t, open(t, nil), open(t, nil))
	})
}

// TestNotifyWakesWithoutPolling is the same on PostgreSQL with a backend that polls once in a day, too:
// only LISTEN and NOTIFY are left.
func TestNotifyWakesWithoutPolling(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	open := func() storage.Backend {
		const day = 24 * time.Hour
		b, err := postgres.Open(t.Context(), dsn, &postgres.Options{Heartbeat: day, MemberTimeout: 3 * day, PollInterval: day, Connections: 4})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	wakesAnotherProcess(t, open(), open())
}

func wakesAnotherProcess(t *testing.T, webs, workers storage.Backend) {
	t.Helper()
	ctx, flow := soon(t), clerk()
	web, worker := &askedBackend{Backend: webs}, &askedBackend{Backend: workers}
	thread := flow.On(office(t, "web", web, -1, flow)).Thread("1")
	office(t, "worker", worker, 0, flow)
	wait := func(run *fermata.Run[[]string]) (kinds []fermata.EventKind, result []string, err error) {
		t.Helper()
		seen := make(chan struct{})
		go func() {
			defer close(seen)
			for event, err := range run.Events(ctx) {
				if err != nil {
					t.Error(err)
				}
				kinds = append(kinds, event.Kind)
			}
		}()
		result, err = run.Result(ctx)
		<-seen
		return kinds, result, err
	}
	run, err := thread.Start(ctx, "letter", fermata.Enqueue())
	if err != nil {
		t.Fatal(err)
	}
	kinds, _, err := wait(run)
	wantErr(t, "the start", err, fermata.ErrPaused)
	want(t, "events of the start", kinds, []fermata.EventKind{fermata.TaskFinished, fermata.Paused})
	if run, err = thread.Resume(ctx, "reply", fermata.Enqueue()); err != nil {
		t.Fatal(err)
	}
	kinds, result, err := wait(run)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "result", result, []string{"letter in worker", "reply in worker"})
	want(t, "events of the answer", kinds, []fermata.EventKind{fermata.TaskFinished, fermata.Returned})
	t.Logf("%d polls of the worker, %d reads of the waiting process", worker.polls.Load(), web.reads.Load())
	// Seven commits bring some news each, to both waiting readers; who polls would ask without end.
	if polls, reads := worker.polls.Load(), web.reads.Load(); polls > 30 || reads > 60 {
		t.Errorf("%d polls of the worker and %d reads of the waiting process: that is polling", polls, reads)
	}
}

// inOffice is a database of PostgreSQL with a worker, and a process that starts runs in transactions of its own.
func inOffice(t *testing.T) (ctx context.Context, conn *pgx.Conn, backend *postgres.Backend, clerks fermata.Bound[string, []string]) {
	t.Helper()
	ctx = soon(t)
	dsn := pgtest.DSN(t)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	open := func() *postgres.Backend {
		b, err := postgres.Open(ctx, dsn, &postgres.Options{Connections: 4})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	if _, err := conn.Exec(ctx, "CREATE TABLE paper (name text PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	backend = open()
	flow := clerk()
	clerks = flow.On(office(t, "web", backend, -1, flow))
	office(t, "worker", open(), 0, flow)
	return ctx, conn, backend, clerks
}

// TestViaCommits: a run that was started in a transaction of the program runs when that is committed, not before.
func TestViaCommits(t *testing.T) {
	t.Parallel()
	ctx, conn, backend, clerks := inOffice(t)
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO paper VALUES ('letter')"); err != nil {
		t.Fatal(err)
	}
	run, err := clerks.Thread("1").Start(ctx, "letter", fermata.Via(backend.In(tx)))
	if err != nil {
		t.Fatal(err)
	}
	state, err := clerks.Thread("1").State(ctx)
	if err != nil || !state.Run.IsZero() {
		t.Fatalf("before the commit others see the run %v, error %v", state.Run, err)
	}
	if _, err := clerks.Thread("2").Start(ctx, "bill", fermata.Via(backend.In(tx))); err != nil {
		t.Fatalf("a second run in the transaction: %v", err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = run.Result(ctx)
	questions := paused(t, err)
	want(t, "who asks", payloads(questions), []string{`"letter in worker"`})
	if questions[0].Run != run.ID() {
		t.Errorf("run %s asks, the handle is of %s", questions[0].Run, run.ID())
	}
}

// TestViaRollsBack: after a rollback there was never a run, and who waits for it is told so.
func TestViaRollsBack(t *testing.T) {
	t.Parallel()
	ctx, conn, backend, clerks := inOffice(t)
	thread := clerks.Thread("1")
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	run, err := thread.Start(ctx, "letter", fermata.Via(backend.In(tx)))
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = run.Result(ctx)
	wantErr(t, "the result of a run that never was", err, fermata.ErrUnknownRun)
	for _, err := range run.Events(ctx) {
		wantErr(t, "its events", err, fermata.ErrUnknownRun)
	}
	state, err := thread.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&fermata.State[[]string]{Thread: "1"}, state); diff != "" {
		t.Errorf("state of the thread (-want +got):\n%s", diff)
	}
	if _, err := thread.Invoke(ctx, "letter"); !errors.Is(err, fermata.ErrPaused) {
		t.Errorf("another start on the thread: error %v, want a pause", err)
	}
}

// TestViaRefused: a start that is refused leaves the program's transaction as it was.
func TestViaRefused(t *testing.T) {
	t.Parallel()
	ctx, conn, backend, clerks := inOffice(t)
	first, err := clerks.Thread("1").Start(ctx, "letter", fermata.Enqueue())
	if err != nil {
		t.Fatal(err)
	}
	_, err = first.Result(ctx)
	paused(t, err)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO paper VALUES ('bill')"); err != nil {
			return err
		}
		_, err := clerks.Thread("1").Start(ctx, "bill", fermata.Via(backend.In(tx)))
		wantErr(t, "a start on a thread that asks", err, fermata.ErrQuestionOpen)
		again, err := clerks.Thread("1").Start(ctx, "letter", fermata.Via(backend.In(tx)), fermata.WithRunID(first.ID()))
		if err != nil || again.ID() != first.ID() {
			t.Errorf("the first start again, in the transaction: %v", err)
		}
		_, err = clerks.Thread("2").Start(ctx, "bill", fermata.Via(backend.In(tx)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var papers int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM paper").Scan(&papers); err != nil || papers != 1 {
		t.Errorf("%d papers, error %v", papers, err)
	}
	state, err := clerks.Thread("2").State(ctx)
	if err != nil || state.Run.IsZero() {
		t.Errorf("the run of the transaction isn't there: error %v", err)
	}
}
