package memory

import (
	"context"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

type member struct {
	backend *Backend
	id      storage.ID
	name    string // for people who look at it in a debugger
	lost    chan struct{}
	owned   map[*run]struct{}
}

// Join implements [storage.Backend]. A member lives until it leaves or the backend is closed.
func (b *Backend) Join(ctx context.Context, name string) (storage.Membership, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer b.end()
	m := &member{backend: b, id: storage.NewID(now), name: name, lost: make(chan struct{}), owned: map[*run]struct{}{}}
	b.members[m.id] = m
	return m, nil
}

func (m *member) ID() storage.ID { return m.id }

func (m *member) Lost() <-chan struct{} { return m.lost }

func (m *member) Leave(ctx context.Context) error {
	b := m.backend
	select {
	case <-m.lost:
		return nil // by an earlier Leave, or by Close
	default:
	}
	now, err := b.begin(ctx)
	if err != nil {
		return fmt.Errorf("memory: leave: %w", err)
	}
	defer b.end()
	if b.members[m.id] == nil {
		return nil
	}
	delete(b.members, m.id)
	close(m.lost)
	for r := range m.owned {
		b.place(r, now) // queues are ordered: the order of the map doesn't matter
	}
	m.owned = nil
	return nil
}
