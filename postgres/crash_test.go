package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

// TestServerKilledUnderLoad: the server is killed, and stopped at once, again and again, while
// many callers work. No call fails, nothing that was acknowledged is lost, nothing is there twice.
func TestServerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	const callers, crashes = 24, 4
	server := pgtest.Start(t)
	b := open(t, server.Database(t), &postgres.Options{MemberTimeout: time.Minute, Connections: 4, RetryTimeout: time.Minute})
	m := join(t, b)
	var stop atomic.Bool
	var steps atomic.Int64
	var wg sync.WaitGroup
	type ledger struct {
		run     storage.Run
		steps   []string
		answers map[storage.ID]string
	}
	ledgers := make([]ledger, callers)
	for i := range callers {
		wg.Go(func() {
			l := ledger{run: running(t, b, m), answers: map[storage.ID]string{}}
			defer func() { ledgers[i] = l }()
			for n := 0; !stop.Load(); n++ {
				step := fmt.Sprintf("step %d", n)
				u := storage.Unit{Records: [][]byte{[]byte(step)}}
				if n%4 == 3 {
					u.Questions, u.Status, u.SeenInbox = []storage.Question{{}}, storage.Interrupted, l.run.Inbox
				}
				appended(t, b, &l.run, u)
				l.steps = append(l.steps, step)
				if n%4 == 3 {
					q := u.Questions[0]
					s := answer(q, step)
					s.Member = m.ID()
					got := settled(t, b, s)
					if got.Err != nil || got.Repeated || !got.Acquired {
						t.Errorf("caller %d: answer: %+v", i, got)
						return
					}
					l.run = got.Run
					l.answers[q.ID] = step
				}
				steps.Add(1)
			}
		})
	}
	for i := range crashes {
		before := steps.Load()
		eventually(t, "progress", func() bool { return steps.Load() > before+100 })
		if i%2 == 0 {
			server.Kill(t)
		} else {
			server.Stop(t)
		}
		server.Restart(t)
	}
	before := steps.Load()
	eventually(t, "progress", func() bool { return steps.Load() > before+100 })
	stop.Store(true)
	wg.Wait()
	select {
	case <-m.Lost():
		t.Error("the member was lost though the server came back in time")
	default:
	}
	for i, ledger := range ledgers {
		l, err := b.Load(t.Context(), "", ledger.run.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Records) != len(ledger.steps) || len(l.Questions) != len(ledger.answers) {
			t.Errorf("caller %d: %d records and %d questions, acknowledged were %d and %d",
				i, len(l.Records), len(l.Questions), len(ledger.steps), len(ledger.answers))
			continue
		}
		for n, record := range l.Records {
			if string(record.Data) != ledger.steps[n] {
				t.Errorf("caller %d: record %d is %q, want %q", i, n+1, record.Data, ledger.steps[n])
			}
		}
		for _, q := range l.Questions {
			if string(q.Answer) != ledger.answers[q.ID] {
				t.Errorf("caller %d: the answer is %q, acknowledged was %q", i, q.Answer, ledger.answers[q.ID])
			}
		}
	}
	t.Logf("%d steps", steps.Load())
}

// TestServerGone: a call gives up after RetryTimeout, with the error that stood in its way.
func TestServerGone(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	b := open(t, server.Database(t), &postgres.Options{RetryTimeout: 10 * time.Millisecond, Heartbeat: time.Minute})
	m := join(t, b)
	r := running(t, b, m)
	server.Stop(t)
	if _, err := b.Append(t.Context(), []storage.Unit{unit(&r, storage.Unit{})}); err == nil {
		t.Error("Append without a server succeeded")
	}
	if _, err := b.Run(t.Context(), "", r.ID); err == nil {
		t.Error("Run without a server succeeded")
	}
	server.Restart(t)
	appended(t, b, &r, storage.Unit{})
}
