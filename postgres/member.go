package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-go/fermata/storage"
)

// Join implements [storage.Backend].
func (b *Backend) Join(ctx context.Context, name string) (storage.Membership, error) {
	if err := checkText("name", name); err != nil {
		return nil, fmt.Errorf("postgres: join: %w", err)
	}
	m := &membership{b: b, id: storage.NewID(time.Now()), lost: make(chan struct{})}
	c := b.call("SELECT SCHEMA.join_1($1, $2, $3)")
	c.uuid(m.id)
	c.text(name)
	c.int8(b.options.MemberTimeout.Microseconds())
	err := b.do(ctx, "join", func(ctx context.Context, pg *pgconn.PgConn) error {
		m.beaten = time.Now()
		return b.exec(ctx, pg, func(int, *row) error { return nil }, c)
	})
	if err != nil {
		return nil, err
	}
	if !b.members.add(b, m) {
		return nil, fmt.Errorf("postgres: join: %w", storage.ErrClosed)
	}
	return m, nil
}

// membership is one member of this process.
type membership struct {
	b      *Backend
	id     storage.ID
	lost   chan struct{}
	beaten time.Time // before the last heartbeat that got through was sent; guarded by members.mu
}

// ID implements [storage.Membership].
func (m *membership) ID() storage.ID { return m.id }

// Lost implements [storage.Membership].
func (m *membership) Lost() <-chan struct{} { return m.lost }

// Leave implements [storage.Membership].
func (m *membership) Leave(ctx context.Context) error {
	if m.b.ctx.Err() != nil {
		return nil // Close has done it
	}
	err := m.b.do(ctx, "leave", func(ctx context.Context, pg *pgconn.PgConn) error {
		return m.b.leave(ctx, pg, []storage.ID{m.id})
	})
	if err != nil {
		return err
	}
	m.b.members.lose(m)
	m.b.deliver(storage.Note{Queued: true})
	return nil
}

func (b *Backend) leave(ctx context.Context, pg *pgconn.PgConn, ids []storage.ID) error {
	c := b.call("SELECT SCHEMA.leave_1($1)")
	c.uuids(ids)
	return b.exec(ctx, pg, func(int, *row) error { return nil }, c)
}

// members are the living members of this process. One goroutine beats for all of them.
type members struct {
	mu      sync.Mutex
	list    map[storage.ID]*membership
	beating bool
	closed  bool
}

func (l *members) init() { l.list = map[storage.ID]*membership{} }

// add makes m be kept alive. It reports false if the backend is closed.
func (l *members) add(b *Backend, m *membership) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.list[m.id] = m
	if !l.beating {
		l.beating = true
		b.goroutine.Go(b.beatAll)
	}
	return true
}

// lose ends m, if it has not ended.
func (l *members) lose(m *membership) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list[m.id] == m {
		delete(l.list, m.id)
		close(m.lost)
	}
}

// close ends all members and tells the server, if it answers.
func (l *members) close(b *Backend) {
	l.mu.Lock()
	l.closed = true
	var ids []storage.ID
	for id, m := range l.list {
		ids = append(ids, id)
		delete(l.list, id)
		close(m.lost)
	}
	l.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	// If it fails they die of silence.
	_ = b.once(ctx, func(ctx context.Context, pg *pgconn.PgConn) error { return b.leave(ctx, pg, ids) })
}

// leaveTimeout is how long Close waits for a server that doesn't answer.
const leaveTimeout = 2 * time.Second

// due ends the members that have been silent for the timeout, and returns the others and when
// the first of them will have been. With none left the goroutine is to end.
func (l *members) due(timeout time.Duration) (ids []storage.ID, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for id, m := range l.list {
		dies := m.beaten.Add(timeout)
		if !now.Before(dies) {
			delete(l.list, id)
			close(m.lost)
			continue
		}
		ids = append(ids, id)
		if until.IsZero() || dies.Before(until) {
			until = dies
		}
	}
	if len(ids) == 0 {
		l.beating = false
	}
	return ids, until
}

// beaten notes that a heartbeat for ids, sent at the given time, got through for those in alive. The others are dead.
func (l *members) beaten(ids []storage.ID, alive map[storage.ID]struct{}, sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		m := l.list[id]
		if m == nil {
			continue
		}
		if _, ok := alive[id]; ok {
			m.beaten = sent
		} else {
			delete(l.list, id)
			close(m.lost)
		}
	}
}

// beatAll keeps the members alive, on a connection of its own: that the pool is
// busy must not look like death.
func (b *Backend) beatAll() {
	var pg *pgconn.PgConn
	defer func() { closeConn(pg) }()
	for wait := b.options.Heartbeat; sleep(b.ctx, wait); {
		ids, until := b.members.due(b.options.MemberTimeout)
		if len(ids) == 0 {
			return
		}
		ctx, cancel := context.WithDeadline(b.ctx, until)
		sent := time.Now()
		alive, orphans, err := b.beat(ctx, &pg, ids)
		cancel()
		if err != nil {
			closeConn(pg)
			pg = nil
			wait = min(b.options.Heartbeat, b.options.MemberTimeout/20)
			continue
		}
		wait = b.options.Heartbeat
		b.members.beaten(ids, alive, sent)
		if orphans {
			b.deliver(storage.Note{Queued: true})
		}
	}
}

// beat sends one heartbeat.
func (b *Backend) beat(ctx context.Context, pg **pgconn.PgConn, ids []storage.ID) (alive map[storage.ID]struct{}, orphans bool, err error) {
	if *pg == nil {
		if *pg, err = b.connect(ctx, "", nil); err != nil {
			return nil, false, err
		}
	}
	c := b.call("SELECT unnest(CASE WHEN o_members = '{}' THEN ARRAY[NULL::uuid] ELSE o_members END), o_orphans FROM SCHEMA.beat_1($1, $2)")
	c.uuids(ids)
	c.int8(b.options.MemberTimeout.Microseconds())
	alive = map[storage.ID]struct{}{}
	err = b.exec(ctx, *pg, func(_ int, r *row) error {
		alive[r.uuid()] = struct{}{}
		orphans = r.bool()
		return r.err
	}, c)
	return alive, orphans, err
}

func closeConn(pg *pgconn.PgConn) {
	if pg == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = pg.Close(ctx) // it is given up in any case
}
