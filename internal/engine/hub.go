package engine

import (
	"sync"

	"github.com/fermata-go/fermata/storage"
)

// anyQuestion stands for news of questions of any run.
var anyQuestion = storage.ID{0xff}

// hub wakes those who wait for news of a run.
type hub struct {
	mu      sync.Mutex
	waiters map[storage.ID]map[chan struct{}]bool
	closed  bool
}

// subscribe returns a channel that gets a value after news of the run; several may merge into one.
// It is closed when the engine closes.
func (h *hub) subscribe(run storage.ID) (news <-chan struct{}, unsubscribe func()) {
	ch := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(ch)
		return ch, func() {}
	}
	if h.waiters == nil {
		h.waiters = map[storage.ID]map[chan struct{}]bool{}
	}
	if h.waiters[run] == nil {
		h.waiters[run] = map[chan struct{}]bool{}
	}
	h.waiters[run][ch] = true
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.waiters[run], ch)
		if len(h.waiters[run]) == 0 {
			delete(h.waiters, run)
		}
	}
}

// notify wakes the waiters of a run; the zero ID wakes all.
func (h *hub) notify(run storage.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !run.IsZero() {
		wake(h.waiters[run])
		return
	}
	for _, waiters := range h.waiters {
		wake(waiters)
	}
}

func wake(waiters map[chan struct{}]bool) {
	for ch := range waiters {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, waiters := range h.waiters {
		for ch := range waiters {
			close(ch)
		}
	}
	h.waiters = nil
}
