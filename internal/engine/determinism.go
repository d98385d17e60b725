package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
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
// its seed comes from a run, see seed, the scope and the number of sources drawn there.
func Rand(ctx context.Context) (*rand.Rand, error) {
	s, err := From(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	s.draws++
	return rand.New(rand.NewChaCha8(hash(s.seed(), s.place, "rand", strconv.FormatUint(s.draws, 10)))), nil
}

// seed is the run that made what the code draws now. That is another one than this if something that is shared, or
// copied, may depend on it: a call that the scope has yet to make again or, as a branch shares variables
// with the function around it, one that this function makes later.
func (s *Scope) seed() storage.ID {
	p := s.pass
	if len(p.history.made) == 0 {
		return p.run.ID
	}
	last, next := max(s.id, s.lastClaim), int64(math.MaxInt64)
	p.mu.Lock()
	for at := s; at != nil; at = at.future.scope {
		next = min(next, at.past.after(last))
		if at.future == nil || at.future.claim.call != KindBranch {
			break
		}
	}
	p.mu.Unlock()
	for _, part := range p.history.made {
		if next <= part.Seq {
			return part.Run
		}
	}
	return p.run.ID
}

// after is the first claim in the scope after a record.
func (s *pastScope) after(seq int64) int64 {
	first := int64(math.MaxInt64)
	if s == nil {
		return first
	}
	i, _ := slices.BinarySearchFunc(s.calls, seq+1, func(c *pastClaim, seq int64) int { return cmp.Compare(c.seq, seq) })
	if i < len(s.calls) {
		first = s.calls[i].seq
	}
	for _, c := range s.keyed {
		if c.seq > seq {
			first = min(first, c.seq)
		}
	}
	return first
}

// hash derives bytes from a run and the given parts.
func hash(run storage.ID, parts ...string) [32]byte {
	h := sha256.New()
	h.Write(run[:])
	for _, part := range parts {
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
	sum := hash(s.pass.run.ID, s.place, "call", string(s.witness))
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
	if p.verify || due.After(p.engine.now()) { // what the first pass slept through is recorded as done
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
