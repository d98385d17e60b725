package sqlite

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fermata-go/fermata/storage"
)

// Join makes the caller a living member until Leave, Close or the death of the
// process: it holds the lock of a file of its own beside the database.
func (b *Backend) Join(ctx context.Context, name string) (storage.Membership, error) {
	if err := b.check(ctx); err != nil {
		return nil, err
	}
	if err := b.members.sweep(); err != nil {
		return nil, err
	}
	id := storage.NewID(timeOf(b.micros()))
	lock, err := holdLock(b.members.file(id), name)
	if err != nil {
		return nil, fmt.Errorf("sqlite: join: %w", err)
	}
	m := &membership{b: b, id: id, lock: lock, lost: make(chan struct{})}
	if !b.members.add(m) {
		lock.release()
		return nil, b.closedError()
	}
	return m, nil
}

// membership is a living member of this Backend.
type membership struct {
	b    *Backend
	id   storage.ID
	lock *heldLock
	lost chan struct{}
}

func (m *membership) ID() storage.ID { return m.id }

func (m *membership) Lost() <-chan struct{} { return m.lost }

func (m *membership) Leave(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !m.b.members.remove(m) {
		return nil // by an earlier Leave, or by Close
	}
	m.end()
	return m.b.write(ctx, "leave", announce(m.id))
}

// end makes others see the member as dead.
func (m *membership) end() {
	close(m.lost)
	m.lock.release()
}

// announce tells watchers, also those of other processes, that members left
// runs behind. Crash window: a process that dies before it leaves the runs to
// the next Poll of whoever is there, as every death does.
func announce(members ...storage.ID) func(*tx) error {
	return func(t *tx) error {
		for _, id := range members {
			owns, err := t.query("SELECT 1 FROM run WHERE status = 2 AND owner = ? LIMIT 1").id(id).first(nil)
			if err != nil {
				return err
			}
			if owns {
				t.note(storage.Note{Queued: true})
				return t.write(t.query("UPDATE counter SET value = value + 1 WHERE name = 'left'"))
			}
		}
		return nil
	}
}

// members are the members of this Backend, and what is known of others.
type members struct {
	b      *Backend
	prefix string // of the lock files

	mu     sync.Mutex
	own    map[storage.ID]*membership
	closed bool
}

func (s *members) init(b *Backend) {
	s.b, s.prefix, s.own = b, b.path+"-live-", map[storage.ID]*membership{}
}

func (s *members) file(id storage.ID) string { return s.prefix + id.String() }

func (s *members) add(m *membership) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.own[m.id] = m
	return true
}

func (s *members) remove(m *membership) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own[m.id] != m {
		return false
	}
	delete(s.own, m.id)
	return true
}

func (s *members) isOwn(id storage.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own[id] != nil
}

// leaveAll ends the memberships, for Close, and returns whose they were.
func (s *members) leaveAll() (left []storage.ID) {
	s.mu.Lock()
	s.closed = true
	own := s.own
	s.own = nil
	s.mu.Unlock()
	for id, m := range own {
		m.end()
		left = append(left, id)
	}
	return left
}

// lives reports whether id is a living member, of whatever process. The file of
// a dead one is removed.
func (s *members) lives(id storage.ID) bool {
	return !id.IsZero() && (s.isOwn(id) || probeLock(s.file(id)))
}

// sweep removes the files that dead members left, also of those that owned nothing.
func (s *members) sweep() error {
	entries, err := os.ReadDir(filepath.Dir(s.prefix))
	if err != nil {
		return fmt.Errorf("sqlite: join: %w", err)
	}
	base := filepath.Base(s.prefix)
	for _, e := range entries {
		hexID, ok := strings.CutPrefix(e.Name(), base)
		if raw, err := hex.DecodeString(hexID); !ok || err != nil || len(raw) != len(storage.ID{}) {
			continue
		}
		if id, err := storage.ParseID(hexID); err == nil && !s.isOwn(id) {
			probeLock(s.file(id))
		}
	}
	return nil
}

// heldLock is a locked file.
type heldLock struct {
	file *os.File
}

// holdLock makes the file and locks it. Whoever probes the file in the
// moment between the two takes it for a dead member's and removes it; then it is made anew.
func holdLock(path, content string) (*heldLock, error) {
	for range 100 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := lockFile(f); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w: the database must be on a disk whose file system has locks", path, err)
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			_, _ = f.WriteString(content) // for people who look
			return &heldLock{file: f}, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("lock %s: the file is removed again and again", path)
}

// release removes the file and frees its lock.
func (l *heldLock) release() { removeLocked(l.file) }

// probeLock reports whether a living process holds the file's lock. If not, the file is removed.
func probeLock(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		// No file: nobody holds it. If it can't be opened for another reason, the
		// member must be taken for alive: two owners are worse than none.
		return !errors.Is(err, os.ErrNotExist)
	}
	free, err := tryShared(f)
	if err != nil || !free {
		f.Close()
		return true
	}
	// While the shared lock is held, nobody can have made another file of this name: see holdLock. So if
	// the name still means this file, it is safe to remove.
	mine, err := f.Stat()
	if there, e := os.Stat(path); err == nil && e == nil && os.SameFile(mine, there) {
		removeLocked(f)
	} else {
		f.Close()
	}
	return false
}
