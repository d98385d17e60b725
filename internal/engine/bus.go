package engine

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// busSize bounds the transient events that a run keeps for its readers.
const busSize = 1024

// bus holds the latest transient events of a run that executes here. Each has
// a place in the order of the run's records – after the last one that was made when it came – which
// is the same for every reader. Readers get it when that record is written.
type bus struct {
	mu     sync.Mutex
	events []Event // the latest, oldest first
	count  int64   // that ever came
}

func (b *bus) publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	e.Index = b.count
	if len(b.events) == busSize {
		b.events = append(b.events[:0:0], b.events[busSize/2:]...)
	}
	b.events = append(b.events, e)
}

// after returns the events whose Index is above the given one, and how many of those are lost.
func (b *bus) after(index int64) (events []Event, lost int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.count - int64(len(b.events)) // Index of the one before the oldest
	if index < first {
		lost, index = first-index, first
	}
	return append(events, b.events[index-first:]...), lost
}

// Emit publishes a transient event of the code that ctx belongs to, to whoever
// reads the run's events in this process. What code emits again on a replay is suppressed. Any goroutine may call it.
func Emit(ctx context.Context, kind EventKind, data []byte) error {
	s, err := From(ctx)
	if err != nil {
		return err
	}
	s.pulse.beat(false)
	p := s.pass
	if p.verify || s.quiet.Load() {
		return nil
	}
	e := Event{
		At: p.engine.now(), Kind: kind, Name: s.Name(), Path: s.path, Task: taskID(p.run.ID, s.id),
		Namespace: s.namespace(), Attempt: max(1, s.attempt), Data: data,
	}
	p.journal.mu.Lock()
	e.Seq, e.Token = p.journal.next-1, p.run.Token
	p.bus.publish(e)
	p.journal.mu.Unlock()
	p.engine.hub.notify(p.run.ID)
	return nil
}

// begun reports whether the execution has come so far that its code may emit, or is over.
func (x *execution) begun() bool {
	select {
	case <-x.done:
		return true
	default:
		return x.pass.Load() != nil
	}
}

// transient returns what came to the bus after index, with the last record
// that readers may see together with it: what comes to the bus later has its place after that. A reader for whom
// something came has the records before it written. If the execution is over nothing comes.
func (x *execution) transient(index int64) (made int64, events []Event, lost int64, over bool) {
	select {
	case <-x.done:
		over = true
	default:
	}
	p := x.pass.Load()
	if p == nil {
		events, lost = x.bus.after(index)
		return 0, events, lost, over
	}
	p.journal.mu.Lock()
	made = p.journal.next - 1
	events, lost = x.bus.after(index)
	waits := len(events) > 0 && events[len(events)-1].Seq > p.journal.sent
	p.journal.mu.Unlock()
	if waits && p.journal.durability != Exit {
		p.journal.flush()
	}
	return made, events, lost, over
}

// taskID identifies a call for the readers of events.
func taskID(run storage.ID, claim int64) storage.ID {
	id := run
	for i := range 8 {
		id[15-i] ^= byte(claim >> (8 * i))
	}
	return id
}

// namespace is that of the events of this scope: what is around the innermost nested entrypoint.
func (s *Scope) namespace() []string {
	for at := s; at.future != nil; at = at.future.scope {
		if at.future.claim.call == KindEntrypoint {
			return at.around()
		}
	}
	return nil
}

// around has a segment for each function around the one that the scope is of. After that of a function that has called
// several nested entrypoints comes the number of the one called, from 1, but for the first.
func (s *Scope) around() []string {
	if s.future == nil {
		return nil
	}
	outer := s.future.scope
	return numbered(append(outer.around(), segment(outer.Name(), s.pass.run.ID, outer.id)), s.future.claim.nth)
}

func numbered(segments []string, nth int) []string {
	if nth > 0 {
		segments = append(segments, strconv.Itoa(nth))
	}
	return segments
}

func segment(name string, run storage.ID, claim int64) string {
	return name + ":" + taskID(run, claim).String()
}

// claimDelay is how long a claim may wait to be written with the run's next append.
const claimDelay = 20 * time.Millisecond

// writeLater makes claims durable, and so visible, of calls that take long.
func (p *pass) writeLater() {
	if p.journal.durability == Exit || p.journal.dry || !p.armed.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(claimDelay, func() {
		p.armed.Store(false)
		if p.ctx.Err() == nil && p.stopped() == nil {
			p.journal.flush()
		}
	})
}
