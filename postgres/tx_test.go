package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

func begin(t *testing.T, dsn string) pgx.Tx {
	t.Helper()
	tx, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func TestStartInATransaction(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	b := open(t, dsn, &postgres.Options{PollInterval: time.Hour})
	conn := connect(t, dsn)
	execute(t, conn, "CREATE TABLE orders (n int)")
	told := make(chan storage.Note, 100)
	defer b.Watch(func(n storage.Note) { told <- n })()
	for _, commit := range []bool{false, true} {
		tx := begin(t, dsn)
		if _, err := tx.Exec(t.Context(), "INSERT INTO orders VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		s := start(nil)
		s.Run.Metadata = map[string]string{"a": "b"}
		got, err := b.In(tx).Start(t.Context(), s)
		if err != nil || got.Existing || got.Run.Status != storage.Queued || got.Run.Metadata["a"] != "b" || string(got.Run.Input) != `"foo"` {
			t.Fatalf("%+v, %v", got, err)
		}
		again, err := b.In(tx).Start(t.Context(), s)
		if err != nil || !again.Existing {
			t.Errorf("the same start again: %+v, %v", again, err)
		}
		busy := start(nil)
		busy.Run.Thread = s.Run.Thread
		if _, err := b.In(tx).Start(t.Context(), busy); !errors.Is(err, storage.ErrBusy) {
			t.Errorf("another start on the thread: %v, want ErrBusy", err)
		}
		if _, err := b.Run(t.Context(), "", s.Run.ID); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("before the commit: %v, want ErrNotFound", err)
		}
		if !commit {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Run(t.Context(), "", s.Run.ID); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("after a rollback: %v, want ErrNotFound", err)
			}
			continue
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r, err := b.Run(t.Context(), "", s.Run.ID); err != nil || r.Status != storage.Queued {
			t.Errorf("after the commit: %+v, %v", r, err)
		}
		if n := <-told; n.Run != s.Run.ID || !n.Queued {
			t.Errorf("the commit is told as %+v", n)
		}
	}
}

// TestSnapshotTransactionIsRefused: a transaction that sees the database as it was at its first statement could miss the
// end of the thread's last run, or that there is one. Nothing is started, and the transaction goes on.
func TestSnapshotTransactionIsRefused(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	b := open(t, dsn, nil)
	conn := connect(t, dsn)
	for level, want := range map[pgx.TxIsoLevel]error{
		pgx.ReadUncommitted: nil, pgx.ReadCommitted: nil,
		pgx.RepeatableRead: storage.ErrUnsupported, pgx.Serializable: storage.ErrUnsupported,
	} {
		tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		s := start(nil)
		if _, err := b.In(tx).Start(t.Context(), s); !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), "READ COMMITTED") {
			t.Errorf("%s: %v, want %v", level, err, want)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Errorf("%s: commit: %v", level, err)
		}
		if _, err := b.Run(t.Context(), "", s.Run.ID); (err == nil) != (want == nil) {
			t.Errorf("%s: after the commit: %v", level, err)
		}
	}
}

// TestEndedTransactionIsRefused: its connection may be somebody else's by now.
func TestEndedTransactionIsRefused(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	b := open(t, dsn, nil)
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for name, begin := range map[string]func() (pgx.Tx, error){
		"Conn": func() (pgx.Tx, error) { return connect(t, dsn).Begin(t.Context()) },
		"Pool": func() (pgx.Tx, error) { return pool.Begin(t.Context()) },
	} {
		for end, f := range map[string]func(tx pgx.Tx) error{
			"Commit":   func(tx pgx.Tx) error { return tx.Commit(t.Context()) },
			"Rollback": func(tx pgx.Tx) error { return tx.Rollback(t.Context()) },
			"SQL": func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), "COMMIT")
				return err
			},
		} {
			t.Run(name+end, func(t *testing.T) {
				tx, err := begin()
				if err != nil {
					t.Fatal(err)
				}
				if err := f(tx); err != nil {
					t.Fatal(err)
				}
				s := start(nil)
				_, err = b.In(tx).Start(t.Context(), s)
				if !errors.Is(err, pgx.ErrTxClosed) || !errors.Is(err, storage.ErrInvalid) {
					t.Errorf("%v, want ErrInvalid and pgx.ErrTxClosed", err)
				}
				if _, err := b.Run(t.Context(), "", s.Run.ID); !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("the run: %v, want ErrNotFound", err)
				}
				_ = tx.Rollback(t.Context()) // gives the connection back to the pool
			})
		}
	}
}

// TestOthersDoNotWaitForATransaction: while a program's transaction holds a thread, starts on
// other threads, and units that share a commit with a start that waits, go on.
func TestOthersDoNotWaitForATransaction(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	b := open(t, dsn, nil)
	m := join(t, b)
	r := running(t, b, m)
	tx := begin(t, dsn)
	held := start(nil)
	if _, err := b.In(tx).Start(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var waited error
	wg.Go(func() {
		s := start(nil)
		s.Run.Thread = held.Run.Thread
		_, waited = b.Start(t.Context(), s)
	})
	for range 20 {
		running(t, b, m)
		appended(t, b, &r, storage.Unit{})
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if !errors.Is(waited, storage.ErrBusy) {
		t.Errorf("the start that waited: %v, want ErrBusy", waited)
	}
}

// TestOverdueWhileLocked: what is due while another transaction holds its run is not a reason to look again at once, or
// for as long as that takes; it comes when the run is free.
func TestOverdueWhileLocked(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	var ahead atomic.Int64
	b := open(t, dsn, &postgres.Options{Offset: func() time.Duration { return time.Duration(ahead.Load()) }})
	m := join(t, b)
	now := time.Now()
	slow := running(t, b, m)
	asked := make([]storage.Question, 600) // more than are looked at in one go
	for i := range asked {
		asked[i].Deadline = now.Add(time.Hour)
	}
	appended(t, b, &slow, storage.Unit{Questions: asked, Status: storage.Interrupted})
	tx := begin(t, dsn)
	if _, err := tx.Exec(t.Context(), "SELECT FROM fermata.run FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	poll := func() storage.Polled {
		t.Helper()
		polled, err := b.Poll(t.Context(), storage.Poll{Member: m.ID()})
		if err != nil {
			t.Fatal(err)
		}
		return polled
	}
	ahead.Store(int64(2 * time.Hour))
	if polled := poll(); !polled.Next.IsZero() {
		t.Errorf("while all that is due is locked: next %v, now %v", polled.Next, polled.Now)
	}
	other := running(t, b, m)
	appended(t, b, &other, storage.Unit{Questions: []storage.Question{{Deadline: now.Add(3 * time.Hour).Truncate(time.Second)}}, Status: storage.Interrupted})
	if polled := poll(); !polled.Next.Equal(now.Add(3 * time.Hour).Truncate(time.Second)) {
		t.Errorf("next %v, want the deadline of another run's question", polled.Next)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	poll()
	if r, err := b.Run(t.Context(), "", slow.ID); err != nil || r.Inbox != 600 {
		t.Errorf("%d of 600 questions have expired, %v", r.Inbox, err)
	}
}

// TestChangesAreNotMissed: a transaction draws a change number and commits long after later
// numbers. A reader that follows the feed gets it nevertheless.
func TestChangesAreNotMissed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	b := open(t, dsn, nil)
	m := join(t, b)
	slow, slowQuestion := waiting(t, b, m)
	var after int64
	seen := map[storage.ID]storage.QuestionState{}
	read := func() {
		t.Helper()
		list, err := b.QuestionChanges(t.Context(), "", after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range list {
			if q.Change <= after {
				t.Fatalf("change %d after %d", q.Change, after)
			}
			after, seen[q.ID] = q.Change, q.State
		}
	}
	read()
	tx := begin(t, dsn)
	s := start(nil)
	s.Run.Thread, s.Supersede = slow.Thread, true
	if _, err := b.In(tx).Start(t.Context(), s); err != nil { // draws a number for slowQuestion
		t.Fatal(err)
	}
	var later []storage.Question
	for range 5 {
		_, q := waiting(t, b, m)
		settled(t, b, answer(q, "yes"))
		later = append(later, q)
		read()
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		read()
	}
	if seen[slowQuestion.ID] != storage.SupersededQuestion {
		t.Errorf("the slow transaction's change was missed: %s", seen[slowQuestion.ID])
	}
	for _, q := range later {
		if seen[q.ID] != storage.Answered {
			t.Errorf("a quick transaction's change was missed: %s", seen[q.ID])
		}
	}
}

// TestChangesUnderLoad: readers follow the feed while two processes write.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	const callers, rounds = 8, 15
	dsn := pgtest.DSN(t)
	backends := []*postgres.Backend{open(t, dsn, nil), open(t, dsn, nil)}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			b := backends[i%2]
			m := join(t, b)
			for range rounds {
				_, q := waiting(t, b, m)
				if got := settled(t, b, answer(q, fmt.Sprint(i))); got.Err != nil {
					t.Error(got.Err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	var after int64
	answered := map[storage.ID]bool{}
	for last := false; ; {
		list, err := backends[0].QuestionChanges(t.Context(), "", after, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range list {
			after = q.Change
			answered[q.ID] = q.State == storage.Answered
		}
		if last && len(list) == 0 {
			break
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
	if len(answered) != callers*rounds {
		t.Errorf("the reader saw %d questions, want %d", len(answered), callers*rounds)
	}
	for id, ok := range answered {
		if !ok {
			t.Errorf("the reader missed the answer to %s", id)
		}
	}
}

// TestListenerComesBack: a lost connection of LISTEN ends in a note that means anything, and later
// changes are told one by one again.
func TestListenerComesBack(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	b, other := open(t, dsn, &postgres.Options{PollInterval: 10 * time.Millisecond}), open(t, dsn, nil)
	m := join(t, other)
	told := make(chan storage.Note, 100_000)
	defer b.Watch(func(n storage.Note) { told <- n })()
	conn := connect(t, dsn)
	for range 3 {
		started := map[storage.ID]bool{}
		eventually(t, "a note of a start", func() bool {
			started[running(t, other, m).ID] = true
			for {
				select {
				case n := <-told:
					if started[n.Run] {
						return true
					}
				default:
					return false
				}
			}
		})
		eventually(t, "the connection is lost", func() bool {
			return value[int](t, conn, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'") > 0
		})
		timeout := time.NewTimer(patience)
		defer timeout.Stop()
		for lost := false; !lost; {
			select {
			case n := <-told:
				lost = n.Run.IsZero()
			case <-timeout.C:
				t.Fatal("no note of the loss")
			}
		}
	}
}
