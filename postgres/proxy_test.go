package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

// proxy stands between a backend and its server and can cut what goes through it.
type proxy struct {
	listener net.Listener
	server   string
	dsn      string
	wg       sync.WaitGroup

	// loseReplies: the next so many replies to statements are lost, with their connections.
	loseReplies atomic.Int64
	lost        atomic.Int64
	// meanwhile, if not nil, is called once, after a reply was lost and before its caller knows.
	meanwhile atomic.Pointer[func()]
	// every, if not 0, loses each so-manieth reply.
	every   atomic.Int64
	replies atomic.Int64
	mu      sync.Mutex
	closed  bool
	conns   map[net.Conn]*atomic.Bool // whether what comes from it is forgotten
}

func newProxy(t testing.TB, dsn string) *proxy {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: u.Host, conns: map[net.Conn]*atomic.Bool{}}
	u.Host = l.Addr().String()
	p.dsn = u.String()
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		var forgotten atomic.Bool
		if !p.keep(client, &forgotten) || !p.keep(server, &forgotten) {
			client.Close()
			server.Close()
			return
		}
		var asked atomic.Bool // a statement was sent since the last reply
		var sent executions
		p.wg.Go(func() {
			defer p.drop(client, server)
			buf := make([]byte, 64<<10)
			for {
				n, err := client.Read(buf)
				if err != nil {
					return
				}
				if forgotten.Load() {
					continue
				}
				if sent.see(buf[:n]) {
					asked.Store(true)
				}
				if _, err := server.Write(buf[:n]); err != nil {
					return
				}
			}
		})
		p.wg.Go(func() {
			defer p.drop(client, server)
			buf := make([]byte, 64<<10)
			for {
				n, err := server.Read(buf)
				if err != nil {
					return
				}
				if forgotten.Load() {
					continue
				}
				if asked.Swap(false) && p.loses() {
					// The server has answered: the transaction is committed, and nobody hears of it.
					return
				}
				if _, err := client.Write(buf[:n]); err != nil {
					return
				}
			}
		})
	}
}

// executions looks for the message Execute in what a client sends, however it is cut.
type executions struct {
	begun bool // the first message, which has no type, is behind us
	head  []byte
	skip  int
}

func (e *executions) see(b []byte) (found bool) {
	size := 5
	if !e.begun {
		size = 4
	}
	for len(b) > 0 {
		if e.skip > 0 {
			n := min(e.skip, len(b))
			e.skip -= n
			b = b[n:]
			continue
		}
		n := min(size-len(e.head), len(b))
		e.head = append(e.head, b[:n]...)
		b = b[n:]
		if len(e.head) < size {
			continue
		}
		found = found || e.begun && e.head[0] == 'E'
		e.skip = int(binary.BigEndian.Uint32(e.head[size-4:])) - 4
		e.begun, e.head, size = true, nil, 5
	}
	return found
}

func (p *proxy) loses() bool {
	n := p.replies.Add(1)
	every := p.every.Load()
	if every > 0 && n%every == 0 || p.loseReplies.Add(-1) >= 0 {
		p.lost.Add(1)
		if f := p.meanwhile.Swap(nil); f != nil {
			(*f)()
		}
		return true
	}
	return false
}

func (p *proxy) keep(c net.Conn, forgotten *atomic.Bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns[c] = forgotten
	}
	return !p.closed
}

func (p *proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

// cut ends the proxy and all connections through it.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c := range p.conns {
		c.Close()
	}
}

// forget makes nothing get through the present connections any more; neither side is told.
func (p *proxy) forget() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, forgotten := range p.conns {
		if !forgotten.Swap(true) {
			n++
		}
	}
	return n
}

// TestForgottenConnections: idle connections that a firewall has forgotten cost the next call one short wait
// together; without a deadline of its own it would wait for ever.
func TestForgottenConnections(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	p := newProxy(t, dsn)
	b := open(t, p.dsn, &postgres.Options{ListenDSN: dsn, Connections: 8})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := b.ListRuns(t.Context(), storage.RunFilter{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.forget(); n < 2 {
		t.Fatalf("%d connections were idle", n)
	}
	defer p.cut()                         // else Close waits for the dead ones to say goodbye
	<-time.After(1100 * time.Millisecond) // a connection that was used a moment ago is trusted
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := b.ListRuns(ctx, storage.RunFilter{}); err != nil {
		t.Error(err)
	}
	if _, err := b.Start(ctx, start(nil)); err != nil {
		t.Error(err)
	}
}

// TestLostReplies: each call whose reply is lost after the commit returns what it
// would have returned, and takes effect once.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	p := newProxy(t, dsn)
	b := open(t, p.dsn, &postgres.Options{Connections: 2, Heartbeat: time.Minute})
	m, other := join(t, b), join(t, b)
	losing := func(t *testing.T) {
		t.Helper()
		// One reply, and that of the first repetition, too.
		p.lost.Store(0)
		p.loseReplies.Store(2)
		t.Cleanup(func() {
			if n := p.lost.Load(); n != 2 {
				t.Errorf("%d replies were lost, want 2", n)
			}
		})
	}
	t.Run("Start", func(t *testing.T) {
		losing(t)
		s := start(m)
		got, err := b.Start(t.Context(), s)
		if err != nil || got.Existing || got.Run.ID != s.Run.ID || got.Run.Owner != m.ID() || got.Run.Token != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		again, err := b.Start(t.Context(), s)
		if err != nil || !again.Existing {
			t.Errorf("the same start again: %+v, %v", again, err)
		}
	})
	t.Run("Append", func(t *testing.T) {
		r := running(t, b, m)
		losing(t)
		c := appended(t, b, &r, storage.Unit{})
		if c.At.IsZero() || c.Kept {
			t.Errorf("%+v", c)
		}
		again := unit(&r, storage.Unit{})
		again.First--
		if list, err := b.Append(t.Context(), []storage.Unit{again}); err != nil || list[0].Err == nil {
			t.Errorf("the same unit again: %v, %v", list, err)
		}
		appended(t, b, &r, storage.Unit{})
	})
	t.Run("AppendGivesUp", func(t *testing.T) {
		r := running(t, b, m)
		losing(t)
		if c := appended(t, b, &r, storage.Unit{Status: storage.Interrupted}); c.Kept {
			t.Errorf("%+v", c)
		}
	})
	t.Run("AppendKeeps", func(t *testing.T) {
		r := running(t, b, m)
		asked := []storage.Question{{}}
		appended(t, b, &r, storage.Unit{Questions: asked})
		settled(t, b, answer(asked[0], "yes"))
		losing(t)
		if c := appended(t, b, &r, storage.Unit{Status: storage.Interrupted}); !c.Kept || c.Inbox == 0 {
			t.Errorf("%+v", c)
		}
	})
	t.Run("Settle", func(t *testing.T) {
		r, q := waiting(t, b, m)
		losing(t)
		s := answer(q, "yes")
		s.Member = other.ID()
		got := settled(t, b, s)
		if got.Err != nil || got.Repeated || !got.Acquired || got.Run.ID != r.ID || got.Run.Inbox != 1 {
			t.Errorf("%+v", got)
		}
		if again := settled(t, b, s); again.Err == nil {
			t.Errorf("the same answer without a key again: %+v", again)
		}
	})
	t.Run("SettleWithdrawsTheGroup", func(t *testing.T) {
		r := running(t, b, m)
		asked := []storage.Question{{Group: "g"}, {Group: "g"}}
		appended(t, b, &r, storage.Unit{Questions: asked, Status: storage.Interrupted})
		losing(t)
		if got := settled(t, b, answer(asked[0], "yes")); got.Err != nil || got.Repeated {
			t.Errorf("%+v", got)
		}
	})
	t.Run("Acquire", func(t *testing.T) {
		r, _ := waiting(t, b, m)
		losing(t)
		got, err := b.Acquire(t.Context(), storage.Acquire{Run: r.ID, Member: m.ID(), From: []storage.Status{storage.Interrupted}})
		if err != nil || got.Owner != m.ID() || got.Token != r.Token+1 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("Cancel", func(t *testing.T) {
		r, _ := waiting(t, b, m)
		losing(t)
		got, err := b.Cancel(t.Context(), "", r.ID, "reason")
		if err != nil || got.Status != storage.Cancelled {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("Poll", func(t *testing.T) {
		want := map[storage.ID]bool{}
		for i := range 5 {
			s := start(nil)
			s.Run.Entrypoint = "polled"
			started, err := b.Start(t.Context(), s)
			if err != nil {
				t.Fatal(i, err)
			}
			want[started.Run.ID] = true
		}
		losing(t)
		polled, err := b.Poll(t.Context(), storage.Poll{Member: m.ID(), Entrypoints: []string{"polled"}, Limit: 5})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range polled.Runs {
			delete(want, r.ID)
		}
		if len(want) > 0 || len(polled.Runs) != 5 {
			t.Errorf("%d runs were taken, %d of them lost on the way", len(polled.Runs), len(want))
		}
	})
	t.Run("CopyThread", func(t *testing.T) {
		r, _ := waiting(t, b, m)
		losing(t)
		if err := b.CopyThread(t.Context(), "", r.Thread, "copy of "+r.Thread); err != nil {
			t.Error(err)
		}
	})
	t.Run("Extend", func(t *testing.T) {
		_, q := waiting(t, b, m)
		losing(t)
		deadline := time.Now().Add(time.Hour).Truncate(time.Microsecond)
		if got, err := b.Extend(t.Context(), "", q.ID, deadline); err != nil || !got.Deadline.Equal(deadline) {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("Load", func(t *testing.T) {
		r := running(t, b, m)
		appended(t, b, &r, storage.Unit{})
		losing(t)
		if l, err := b.Load(t.Context(), "", r.ID); err != nil || len(l.Records) != 1 {
			t.Errorf("%+v, %v", l, err)
		}
	})
}

// TestLostRepliesAreTold: what was committed reaches the watchers of the process that made it, though the reply was lost.
func TestLostRepliesAreTold(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	p := newProxy(t, dsn)
	var ahead atomic.Int64
	direct, b := open(t, dsn, nil), open(t, p.dsn, &postgres.Options{
		Connections: 2, Heartbeat: time.Minute, ListenDSN: dsn, RetryTimeout: time.Nanosecond,
		Offset: func() time.Duration { return time.Duration(ahead.Load()) },
	})
	m := join(t, b)
	told := make(chan storage.Note, 10_000)
	defer b.Watch(func(n storage.Note) { told <- n })()
	for name, c := range map[string]struct {
		lost int64
		f    func(r *storage.Run) (storage.ID, error)
	}{
		"Start": {1, func(*storage.Run) (storage.ID, error) {
			s := start(m)
			_, err := b.Start(t.Context(), s)
			return s.Run.ID, err
		}},
		"Append": {1, func(r *storage.Run) (storage.ID, error) {
			appended(t, b, r, storage.Unit{})
			return r.ID, nil
		}},
		"AppendGivenUp": {2, func(r *storage.Run) (storage.ID, error) {
			if _, err := b.Append(t.Context(), []storage.Unit{unit(r, storage.Unit{})}); err == nil {
				t.Error("no reply came, and Append reports success")
			}
			return r.ID, nil
		}},
		"Poll": {1, func(r *storage.Run) (storage.ID, error) {
			appended(t, direct, r, storage.Unit{Questions: []storage.Question{{Deadline: time.Now().Add(time.Hour)}}, Status: storage.Interrupted})
			eventually(t, "the other process's unit is told", func() bool { return len(told) > 0 })
			for len(told) > 0 {
				<-told
			}
			ahead.Add(int64(2 * time.Hour))
			_, err := b.Poll(t.Context(), storage.Poll{Member: m.ID()})
			return r.ID, err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := running(t, b, m)
			for len(told) > 0 {
				<-told
			}
			p.loseReplies.Store(c.lost)
			id, err := c.f(&r)
			if left := p.loseReplies.Load(); err != nil || left > 0 {
				t.Fatalf("%v; %d replies were not lost", err, left)
			}
			for len(told) > 0 {
				if n := <-told; n.Run == id || n.Run.IsZero() {
					return
				}
			}
			t.Error("nobody was told")
		})
	}
}

// TestCancelledAfterALostReply: a run that was taken is handed over though somebody cancelled it before the reply that
// was lost is asked for again; else it would be owned by a process that doesn't know.
func TestCancelledAfterALostReply(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	p := newProxy(t, dsn)
	direct, b := open(t, dsn, nil), open(t, p.dsn, &postgres.Options{Connections: 2, Heartbeat: time.Minute})
	m := join(t, b)
	cancelled := func(r storage.Run) {
		f := func() {
			if got, err := direct.Cancel(t.Context(), "", r.ID, "reason"); err != nil || !got.CancelRequested {
				t.Errorf("cancel: %+v, %v", got, err)
			}
		}
		p.meanwhile.Store(&f)
		p.loseReplies.Store(1)
	}
	taken := func(r storage.Run, id storage.ID) {
		t.Helper()
		if r.ID != id || r.Owner != m.ID() || !r.CancelRequested || r.CancelReason != "reason" {
			t.Errorf("%+v", r)
		}
	}
	t.Run("Poll", func(t *testing.T) {
		s := start(nil)
		s.Run.Entrypoint = "polled"
		started, err := b.Start(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		cancelled(started.Run)
		polled, err := b.Poll(t.Context(), storage.Poll{Member: m.ID(), Entrypoints: []string{"polled"}, Limit: 5})
		if err != nil || len(polled.Runs) != 1 {
			t.Fatalf("%+v, %v", polled, err)
		}
		taken(polled.Runs[0], s.Run.ID)
	})
	t.Run("Acquire", func(t *testing.T) {
		r, _ := waiting(t, b, m)
		cancelled(r)
		got, err := b.Acquire(t.Context(), storage.Acquire{Run: r.ID, Member: m.ID(), From: []storage.Status{storage.Interrupted}})
		if err != nil {
			t.Fatal(err)
		}
		taken(got, r.ID)
	})
	t.Run("Cancel", func(t *testing.T) {
		r := running(t, b, m)
		ends := func() { appended(t, direct, &r, storage.Unit{Status: storage.Finished}) }
		p.meanwhile.Store(&ends)
		p.loseReplies.Store(1)
		if got, err := b.Cancel(t.Context(), "", r.ID, "reason"); err != nil || got.Status != storage.Finished {
			t.Errorf("a cancel that the owner was quicker than: %+v, %v", got, err)
		}
	})
}

// TestCutsUnderLoad: with every 20th reply lost, many callers work on, and each
// of their steps is there once.
func TestCutsUnderLoad(t *testing.T) {
	t.Parallel()
	const callers, steps = 16, 30
	dsn := pgtest.DSN(t)
	p := newProxy(t, dsn)
	b := open(t, p.dsn, &postgres.Options{Connections: 4, Heartbeat: time.Minute})
	m := join(t, b)
	p.every.Store(20)
	var wg sync.WaitGroup
	runs := make([]storage.Run, callers)
	for i := range callers {
		wg.Go(func() {
			r := running(t, b, m)
			for n := range steps {
				u := storage.Unit{Records: [][]byte{fmt.Appendf(nil, "step %d", n)}}
				if n%5 != 4 {
					appended(t, b, &r, u)
					continue
				}
				u.Questions, u.Status, u.SeenInbox = []storage.Question{{}}, storage.Interrupted, r.Inbox
				if c := appended(t, b, &r, u); c.Kept {
					t.Errorf("caller %d: the run was kept", i)
				}
				s := answer(u.Questions[0], "yes")
				s.Member = m.ID()
				got := settled(t, b, s)
				if got.Err != nil || got.Repeated || !got.Acquired {
					t.Errorf("caller %d: %+v", i, got)
				}
				r = got.Run
			}
			runs[i] = r
		})
	}
	wg.Wait()
	p.every.Store(0)
	if p.lost.Load() == 0 {
		t.Error("no reply was lost")
	}
	for i, r := range runs {
		l, err := b.Load(t.Context(), "", r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Records) != steps || len(l.Questions) != steps/5 || l.Run.Inbox != steps/5 {
			t.Errorf("caller %d: %d records, %d questions, inbox %d", i, len(l.Records), len(l.Questions), l.Run.Inbox)
		}
		for n, record := range l.Records {
			if want := fmt.Sprintf("step %d", n); string(record.Data) != want {
				t.Errorf("caller %d: record %d is %q, want %q", i, n+1, record.Data, want)
			}
		}
	}
}
