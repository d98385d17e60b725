package postgres_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

// pooler is a small PgBouncer in pool_mode transaction: each transaction of a client gets
// whichever server session is free, and names of statements mean nothing to it.
type pooler struct {
	t        *testing.T
	listener net.Listener
	sessions chan *pgconn.HijackedConn
	wg       sync.WaitGroup
	mu       sync.Mutex
	clients  []net.Conn
}

// newPooler lends n sessions of the server at dsn. The DSN of the pooler is returned.
func newPooler(t *testing.T, dsn string, n int) string {
	t.Helper()
	p := &pooler{t: t, sessions: make(chan *pgconn.HijackedConn, n)}
	for range n {
		pg, err := pgconn.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		session, err := pg.Hijack()
		if err != nil {
			t.Fatal(err)
		}
		p.sessions <- session
	}
	var err error
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.listener.Close()
		p.mu.Lock()
		for _, c := range p.clients {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
		for range n {
			(<-p.sessions).Conn.Close()
		}
	})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = p.listener.Addr().String()
	return u.String()
}

func (p *pooler) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.clients = append(p.clients, client)
		p.mu.Unlock()
		p.wg.Go(func() {
			defer client.Close()
			p.serve(client)
		})
	}
}

func (p *pooler) serve(client net.Conn) {
	front := pgproto3.NewBackend(client, client)
	if _, err := front.ReceiveStartupMessage(); err != nil {
		return
	}
	front.Send(&pgproto3.AuthenticationOk{})
	for k, v := range map[string]string{"server_version": "15.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"} {
		front.Send(&pgproto3.ParameterStatus{Name: k, Value: v})
	}
	front.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
	front.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if front.Flush() != nil {
		return
	}
	var session *pgconn.HijackedConn
	defer func() {
		if session != nil {
			p.sessions <- session
		}
	}()
	for {
		kind, message, err := readMessage(client)
		if err != nil || kind == 'X' {
			return
		}
		if session == nil {
			session = <-p.sessions
		}
		if _, err := session.Conn.Write(message); err != nil {
			return
		}
		if kind != 'S' && kind != 'Q' {
			continue
		}
		for done := false; !done; {
			kind, message, err := readMessage(session.Conn)
			if err != nil {
				return
			}
			if _, err := client.Write(message); err != nil {
				return
			}
			done = kind == 'Z'
			if done && message[5] == 'I' { // outside of a transaction: the session is free again
				p.sessions <- session
				session = nil
			}
		}
	}
}

// readMessage reads one message of the protocol, whole.
func readMessage(r io.Reader) (kind byte, message []byte, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	message = append(head, make([]byte, binary.BigEndian.Uint32(head[1:])-4)...)
	_, err = io.ReadFull(r, message[5:])
	return head[0], message, err
}

func TestWorksThroughATransactionPooler(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	pooled := newPooler(t, dsn, 3)
	b := open(t, pooled, &postgres.Options{ListenDSN: dsn, PollInterval: time.Hour})
	other := open(t, dsn, nil)
	told := make(chan storage.Note, 1000)
	defer b.Watch(func(n storage.Note) { told <- n })()
	m := join(t, b)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				seed(t, b, m)
			}
		})
	}
	wg.Wait()
	r := running(t, b, m)
	if _, err := b.Head(t.Context(), "", r.Thread); err != nil {
		t.Error(err)
	}
	if _, err := b.QuestionChanges(t.Context(), "", 0, 10); err != nil {
		t.Error(err)
	}
	far := running(t, other, join(t, other))
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case n := <-told:
			if n.Run == far.ID {
				return
			}
		case <-timeout.C:
			t.Fatal("no note of what another process did")
		}
	}
}

// TestNoListen: without LISTEN the watchers hear at each interval that anything may have changed.
func TestNoListen(t *testing.T) {
	t.Parallel()
	b := open(t, pgtest.DSN(t), &postgres.Options{NoListen: true, PollInterval: time.Millisecond})
	told := make(chan storage.Note, 1)
	defer b.Watch(func(n storage.Note) {
		select {
		case told <- n:
		default:
		}
	})()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 3 {
		select {
		case n := <-told:
			if !n.Run.IsZero() || !n.Queued {
				t.Errorf("told %+v, want anything", n)
			}
		case <-ctx.Done():
			t.Fatal("told nothing")
		}
	}
}

// TestListenThroughAPoolerIsNoticed: nothing that is notified arrives there, so the watchers are told at each interval.
func TestListenThroughAPoolerIsNoticed(t *testing.T) {
	t.Parallel()
	b := open(t, newPooler(t, pgtest.DSN(t), 3), &postgres.Options{PollInterval: time.Millisecond})
	told := make(chan storage.Note, 1)
	defer b.Watch(func(n storage.Note) {
		select {
		case told <- n:
		default:
		}
	})()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for range 3 {
		select {
		case <-told:
		case <-timeout.C:
			t.Fatal("told nothing")
		}
	}
}
