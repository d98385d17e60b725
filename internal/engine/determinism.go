package engine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Now is the time of the last record that was handed to the scope of ctx: the
// same live and on replay, at no cost.
func Now(ctx context.Context) (time.Time, error) {
	s, err := From(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if err := s.enter(); err != nil {
		return time.Time{}, err
	}
	return s.now, nil
}

// Rand returns a source of random numbers that is the same live and on replay:
// its seed comes from the run, the scope and the number of sources drawn there.
func Rand(ctx context.Context) (*rand.Rand, error) {
	s, err := From(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	s.draws++
	return rand.New(rand.NewChaCha8(s.hash("rand", strconv.FormatUint(s.draws, 10)))), nil
}

// hash derives bytes from the run, the place of the scope and the given parts.
func (s *Scope) hash(parts ...string) [32]byte {
	h := sha256.New()
	h.Write(s.pass.run.ID[:])
	for _, part := range append([]string{s.place}, parts...) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return [32]byte(h.Sum(nil))
}

// CallID identifies the task call that ctx belongs to, the same in every
// attempt and after every crash, and different for another input.
func CallID(ctx context.Context) (storage.ID, error) {
	s, err := From(ctx)
	if err != nil {
		return storage.ID{}, err
	}
	sum := s.hash("call", string(s.witness))
	return storage.ID(sum[:16]), nil
}

// Sleep suspends the run until d after [Now]; no process waits meanwhile.
func Sleep(ctx context.Context, key string, d time.Duration) error {
	s, err := From(ctx)
	if err != nil {
		return err
	}
	past, _, err := s.claim(call{kind: KindSleep, name: "sleep", key: key, input: strconv.AppendInt(nil, int64(d), 10)})
	if err != nil {
		return err
	}
	if past.done {
		s.seen(past.doneAt)
		return nil
	}
	p := s.pass
	due := s.now.Add(d)
	if due.After(p.engine.now()) {
		p.mu.Lock()
		if p.due.IsZero() || due.Before(p.due) {
			p.due = due
		}
		p.mu.Unlock()
		return s.suspend()
	}
	r := record{kind: recordOutcome, claim: past.seq, at: p.clock()}
	p.journal.add(r)
	past.done, past.doneAt = true, p.at(r.at)
	s.news()
	s.seen(past.doneAt)
	return nil
}

// Version returns which version of a change the run is on: the highest for
// one that comes to it new, the lowest for one that has gone past it with
// older code. The first answer stands for the rest of the run.
func Version(ctx context.Context, change string, lowest, highest int) (int, error) {
	s, err := From(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.enter(); err != nil {
		return 0, err
	}
	if change == "" || lowest > highest {
		return 0, s.error(ErrInvalid, fmt.Sprintf("version of change %q between %d and %d: want a name, and a lowest that is not above the highest", change, lowest, highest))
	}
	p := s.pass
	p.mu.Lock()
	version, fixed := p.history.versions[change]
	if !fixed {
		version = highest
		if s.replaying() {
			version = lowest
		}
		if p.history.versions == nil {
			p.history.versions = map[string]int{}
		}
		p.history.versions[change] = version
	}
	p.mu.Unlock()
	if !fixed {
		if p.verify {
			return 0, s.unexpected(call{kind: KindVersion, name: change})
		}
		p.journal.add(record{kind: recordVersion, name: change, at: int64(version)})
	}
	if version < lowest || version > highest {
		return 0, s.pass.halt(&stop{
			err:    p.error(s.path, ErrParked, fmt.Errorf("the run is on version %d of change %q, the code knows %d to %d", version, change, lowest, highest), "deploy code that still knows the version"),
			status: storage.Parked,
			report: &Parked{Reason: "version", Path: s.path, Message: fmt.Sprintf("the run is on version %d of change %q, the code knows %d to %d", version, change, lowest, highest)},
		})
	}
	return version, nil
}
