package postgres

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-go/fermata/storage"
)

// Watch implements [storage.Backend]. The first one waits until the server has been asked to
// notify, or can't be reached. What this process changes is told by the
// goroutine that changed it, what others change by the one that listens; fn may use the backend.
func (b *Backend) Watch(fn func(storage.Note)) (stop func()) {
	w := &watcher{fn: fn}
	ready := b.watchers.add(b, w)
	if ready == nil {
		return func() {}
	}
	<-ready
	return func() {
		w.stopped.Store(true)
		b.watchers.mu.Lock()
		defer b.watchers.mu.Unlock()
		b.watchers.change(func(list []*watcher) []*watcher {
			return slices.DeleteFunc(list, func(other *watcher) bool { return other == w })
		})
	}
}

type watcher struct {
	fn      func(storage.Note)
	stopped atomic.Bool
}

type watchers struct {
	mu     sync.Mutex
	list   atomic.Pointer[[]*watcher] // never changed once it is there
	ready  chan struct{}              // closed when the listener listens; nil before there is one
	closed bool
}

// add makes w known, and starts the listener if it is the first. It returns nil if the backend is closed.
func (l *watchers) add(b *Backend, w *watcher) (ready <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.change(func(list []*watcher) []*watcher { return append(list, w) })
	if l.ready == nil {
		l.ready = make(chan struct{})
		b.goroutine.Go(func() { b.listen(sync.OnceFunc(func() { close(l.ready) })) })
	}
	return l.ready
}

func (l *watchers) change(f func([]*watcher) []*watcher) {
	var list []*watcher
	if old := l.list.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = f(list)
	l.list.Store(&list)
}

func (l *watchers) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// watched reports whether a note would reach anybody.
func (b *Backend) watched() bool {
	list := b.watchers.list.Load()
	return list != nil && len(*list) > 0
}

// deliver tells the watchers of this process.
func (b *Backend) deliver(n storage.Note) {
	list := b.watchers.list.Load()
	if list == nil {
		return
	}
	for _, w := range *list {
		if !w.stopped.Load() {
			w.fn(n)
		}
	}
}

// anything is the note that says that everything may have changed.
var anything = storage.Note{Queued: true, Inbox: true, Questions: true}

// listen tells the watchers what other processes change, until Close. Whenever
// something may have been missed it says so with a zero note. It calls ready when nothing will be missed any
// more, or nothing can be promised.
func (b *Backend) listen(ready func()) {
	defer ready()
	for first := true; ; first = false {
		heard := !b.options.NoListen && b.listenOnce(func() {
			ready()
			if !first {
				b.deliver(anything)
			}
		})
		ready()
		// Without LISTEN, or until it is tried again, everything may change at any time.
		rounds := int(retryListen / b.options.PollInterval)
		if heard {
			rounds = 0
			b.deliver(anything)
		}
		for ; rounds >= 0; rounds-- {
			if !sleep(b.ctx, b.options.PollInterval) {
				return
			}
			b.deliver(anything)
		}
	}
}

// listenOnce listens until the connection is lost. It calls listening once what
// is notified arrives, and reports whether that ever was so.
func (b *Backend) listenOnce(listening func()) (heard bool) {
	ctx, cancel := context.WithTimeout(b.ctx, connectTimeout)
	defer cancel()
	probe := "probe " + b.instance
	arrived := false
	pg, err := b.connect(ctx, b.options.ListenDSN, func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if n.Payload == probe {
			arrived = true
			return
		}
		b.receive(n.Payload)
	})
	if err != nil {
		return false
	}
	defer closeConn(pg)
	if err := pg.Exec(ctx, `LISTEN "`+b.channel()+`"`).Close(); err != nil {
		return false
	}
	for {
		// A connection that died without a word is quiet, and so is one through a proxy that lends
		// sessions per transaction: only a notification that is known to be sent tells.
		arrived = false
		ctx, cancel := context.WithTimeout(b.ctx, connectTimeout)
		err := b.once(ctx, func(ctx context.Context, pg *pgconn.PgConn) error {
			c := b.call("SELECT pg_notify('CHANNEL', $1)")
			c.text(probe)
			return b.exec(ctx, pg, func(int, *row) error { return nil }, c)
		})
		for err == nil && !arrived {
			err = pg.WaitForNotification(ctx)
		}
		cancel()
		if err != nil {
			return heard
		}
		if !heard {
			heard = true
			listening()
		}
		ctx, cancel = context.WithTimeout(b.ctx, quietTimeout)
		for err == nil {
			err = pg.WaitForNotification(ctx)
		}
		quiet := ctx.Err() != nil && b.ctx.Err() == nil
		cancel()
		if !quiet {
			return heard
		}
	}
}

const (
	connectTimeout = 5 * time.Second
	// quietTimeout is how long a quiet connection is believed to be one.
	quietTimeout = 30 * time.Second
	// retryListen is how long after a failure LISTEN is tried again.
	retryListen = 10 * time.Second
)

// receive reads a payload as notify_1 writes it: the sender, and a line per note.
func (b *Backend) receive(payload string) {
	sender, lines, _ := strings.Cut(payload, "\n")
	if sender == b.instance {
		return // the watchers have been told
	}
	b.deliverLines(lines)
}

// deliverLines tells the watchers of this process what lines of note_1 say.
func (b *Backend) deliverLines(lines string) {
	for line := range strings.SplitSeq(lines, "\n") {
		if line != "" && b.watched() {
			b.deliver(readNote(line))
		}
	}
}

// readNote reads a line as note_1 writes it. What it doesn't understand, a newer version's, means "anything".
func readNote(line string) storage.Note {
	if len(line) < 1+32 || line[0] < '0' || line[0] > '7' {
		return anything
	}
	flags := line[0] - '0'
	size := 32
	if line[9] == '-' {
		size = 36
	}
	if len(line) < 1+size {
		return anything
	}
	id, err := storage.ParseID(line[1 : 1+size])
	if err != nil {
		return anything
	}
	tenant, err := hex.DecodeString(line[1+size:])
	if err != nil {
		return anything
	}
	return storage.Note{Tenant: string(tenant), Run: id, Queued: flags&1 != 0, Inbox: flags&2 != 0, Questions: flags&4 != 0}
}
