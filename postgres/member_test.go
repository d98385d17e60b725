package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

// quick are options under which a death shows soon.
var quick = postgres.Options{Heartbeat: 100 * time.Millisecond, MemberTimeout: 2 * time.Second, Connections: 2}

func lost(tb testing.TB, m storage.Membership) {
	tb.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-m.Lost():
	case <-timeout.C:
		tb.Fatal("the membership was not lost")
	}
}

func TestMemberLivesByItsHeartbeat(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	b := open(t, dsn, &quick)
	m := join(t, b)
	conn := connect(t, dsn)
	first := value[time.Time](t, conn, "SELECT dies FROM fermata.member")
	eventually(t, "three heartbeats", func() bool {
		return value[time.Time](t, conn, "SELECT dies FROM fermata.member").After(first.Add(3 * quick.Heartbeat))
	})
	select {
	case <-m.Lost():
		t.Error("a member that beats is lost")
	default:
	}
}

// TestMemberThatCannotBeatIsLost: nothing gets through to the server any more.
func TestMemberThatCannotBeatIsLost(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	p := newProxy(t, dsn)
	b := open(t, p.dsn, &quick)
	m := join(t, b)
	r := running(t, b, m)
	p.listener.Close()
	p.cut()
	lost(t, m)
	// Nobody may have it that its owner still believes in.
	other := open(t, dsn, &quick)
	survivor := join(t, other)
	eventually(t, "takeover", func() bool {
		p, err := other.Poll(t.Context(), storage.Poll{Member: survivor.ID(), Entrypoints: []string{"graph"}, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		return len(p.Runs) == 1 && p.Runs[0].ID == r.ID && p.Runs[0].Crashes == 1
	})
}

// TestDeadMemberStaysDead: found dead, a member gets nothing any more, though its process works.
func TestDeadMemberStaysDead(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	b := open(t, dsn, &postgres.Options{Heartbeat: 10 * time.Millisecond, MemberTimeout: time.Minute})
	m, living := join(t, b), join(t, b)
	r, q := waiting(t, b, m)
	queued, err := b.Start(t.Context(), start(nil))
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	// Long ago: a heartbeat that is under way looked at the clock before.
	execute(t, conn, "UPDATE fermata.member SET dies = clock_timestamp() - interval '1 hour' WHERE id = $1", m.ID().String())
	lost(t, m) // the next heartbeat finds out, and changes nothing
	if value[bool](t, conn, "SELECT dies > clock_timestamp() FROM fermata.member WHERE id = $1", m.ID().String()) {
		t.Error("a heartbeat has brought a dead member to life")
	}
	if _, err := b.Start(t.Context(), start(m)); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Start for a dead member: %v", err)
	}
	if _, err := b.Acquire(t.Context(), storage.Acquire{Run: r.ID, Member: m.ID(), From: []storage.Status{storage.Interrupted}}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Acquire for a dead member: %v", err)
	}
	if _, err := b.Poll(t.Context(), storage.Poll{Member: m.ID(), Entrypoints: []string{"graph"}, Limit: 1}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Poll for a dead member: %v", err)
	}
	s := answer(q, "yes")
	s.Member = m.ID()
	if got := settled(t, b, s); got.Err != nil || got.Acquired || got.Run.Status != storage.Queued {
		t.Errorf("Settle for a dead member: %+v", got)
	}
	polled, err := b.Poll(t.Context(), storage.Poll{Member: living.ID(), Entrypoints: []string{"graph"}, Limit: 5})
	if err != nil || len(polled.Runs) != 2 || polled.Runs[0].ID != queued.Run.ID {
		t.Errorf("Poll for a living member: %+v, %v", polled, err)
	}
}

// TestStoppedOwner: a process that is stopped until others take it for dead, and then
// goes on, can't write to what it owned, and knows.
func TestStoppedOwner(t *testing.T) {
	if dsn := os.Getenv("FERMATA_TEST_OWNER"); dsn != "" {
		stoppedOwner(t, dsn)
		return
	}
	t.Parallel()
	dsn := pgtest.DSN(t)
	b := open(t, dsn, &quick)
	owner := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStoppedOwner$")
	owner.Env = append(os.Environ(), "FERMATA_TEST_OWNER="+dsn)
	owner.Stderr = os.Stderr
	in, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	next := func() string {
		t.Helper()
		for lines.Scan() {
			if line, ok := strings.CutPrefix(lines.Text(), "owner: "); ok {
				return line
			}
		}
		t.Fatal("the owner ended early")
		return ""
	}
	id, err := storage.ParseID(next())
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	m := join(t, b)
	var r storage.Run
	eventually(t, "takeover of the stopped process' run", func() bool {
		p, err := b.Poll(t.Context(), storage.Poll{Member: m.ID(), Entrypoints: []string{"graph"}, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Runs) == 1 {
			r = p.Runs[0]
		}
		return len(p.Runs) == 1
	})
	if r.ID != id {
		t.Fatalf("took over %s, want %s", r.ID, id)
	}
	if err := owner.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(in, "write"); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != "stale" {
		t.Errorf("the old owner's write: %s", got)
	}
	if got := next(); got != "lost" {
		t.Errorf("the old owner's membership: %s", got)
	}
	if err := owner.Wait(); err != nil {
		t.Errorf("the owner's process: %v", err)
	}
	appended(t, b, &r, storage.Unit{})
}

// stoppedOwner is the owner's process.
func stoppedOwner(t *testing.T, dsn string) {
	b := open(t, dsn, &quick)
	m := join(t, b)
	r := running(t, b, m)
	appended(t, b, &r, storage.Unit{})
	fmt.Println("owner:", r.ID)
	if !bufio.NewScanner(os.Stdin).Scan() {
		t.Fatal("the parent is gone")
	}
	list, err := b.Append(context.Background(), []storage.Unit{unit(&r, storage.Unit{})})
	if err != nil || !errors.Is(list[0].Err, storage.ErrStale) {
		fmt.Println("owner: written:", list, err)
	} else {
		fmt.Println("owner: stale")
	}
	lost(t, m)
	fmt.Println("owner: lost")
}

// TestOrphansAreAnnounced: when a process dies silently, the others' watchers hear that there is work.
func TestOrphansAreAnnounced(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	p := newProxy(t, dsn)
	dying := open(t, p.dsn, &quick)
	running(t, dying, join(t, dying))
	b := open(t, dsn, &postgres.Options{Heartbeat: quick.Heartbeat, MemberTimeout: quick.MemberTimeout, PollInterval: time.Hour, Connections: 2})
	join(t, b)
	told := make(chan storage.Note, 100)
	defer b.Watch(func(n storage.Note) {
		select {
		case told <- n:
		default:
		}
	})()
	p.listener.Close()
	p.cut()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case n := <-told:
			if n == (storage.Note{Queued: true}) {
				return
			}
		case <-timeout.C:
			t.Fatal("no note of the runs that a dead member left")
		}
	}
}
