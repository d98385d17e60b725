package simulation

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/simulation/model"
	"pgregory.net/rapid"
)

// deploy is a case of the mutation tests: a program runs until it has rested some times, then
// another one goes on.
type deploy struct {
	story
	Mutant mutant
	Rests  int  // after which the code is changed
	Enter  bool // the waiting run is entered again by the new code before anybody answers
}

func (d *deploy) String() string {
	return fmt.Sprintf("%s\nafter %d rests (%s %s, entered: %t):\n%s", d.story.String(), d.Rests, d.Mutant.Kind, d.Mutant.Where, d.Enter, d.Mutant.Program)
}

func deploys() *rapid.Generator[*deploy] {
	return rapid.Custom(func(t *rapid.T) *deploy {
		d := &deploy{story: *stories().Draw(t, "story")}
		d.Schedule.Faults = nil
		d.Rests = rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "rests")
		for i := range rapid.IntRange(1, 4).Draw(t, "more questions") {
			// Else most programs are over before anybody was asked.
			block := &d.Program.Body
			if rapid.Bool().Draw(t, "anywhere") {
				block = rapid.SampledFrom(sites(d.Program)).Draw(t, "beside").block
			}
			at := rapid.IntRange(0, len(*block)).Draw(t, "at")
			*block = slices.Insert(*block, at, model.Stmt{ID: 900 + i, Op: model.Ask, Arg: model.Expr{Const: i, Var: -1}, Var: i})
		}
		d.Mutant = mutants(d.Program).Draw(t, "mutant")
		d.Enter = rapid.Bool().Draw(t, "enter")
		return d
	})
}

// play plays the old program, then the new one.
func (d *deploy) play(p *player) (result, error) {
	for rest := 1; ; rest++ {
		value, err := p.rest()
		if rest == d.Rests {
			if err := p.compare(value, err); err != nil {
				return never, err
			}
			if !errors.Is(err, fermata.ErrPaused) {
				return never, p.ledger.verdict()
			}
			return d.change(p, err)
		}
		over, err := p.look(value, err)
		if err != nil || over {
			return never, errors.Join(err, p.ledger.verdict())
		}
	}
}

// change goes on with the mutant, from a pause.
func (d *deploy) change(p *player, pause error) (result, error) {
	old := p.beliefs[0].clone()
	p.deploy(d.Mutant.Program)
	var paused *fermata.PausedError
	errors.As(pause, &paused)
	if d.Enter {
		if err := p.alive(); err != nil {
			return never, err
		}
		if _, err := p.process.thread(p.run.String()).Continue(p.process.ctx); err != nil {
			return never, fmt.Errorf("continue the paused run: %w", err)
		}
	} else {
		p.skip = true
		if err := p.answer(paused.Questions); err != nil {
			return never, err
		}
	}
	for range enough {
		value, err := p.rest()
		over, fault := p.look(value, err)
		p.skip = errors.Is(err, fermata.ErrPaused) // a continued run is entered everywhere
		if fault != nil {
			return never, fault
		}
		if errors.Is(err, fermata.ErrParked) {
			if p.untouched(old) {
				return reverted, d.revert(p, old)
			}
			return parked, p.ledger.verdict()
		}
		if over {
			return went, p.ledger.verdict()
		}
	}
	return went, p.ledger.verdict()
}

// revert deploys the old code again: a parked run has lost nothing.
func (d *deploy) revert(p *player, old *belief) error {
	p.deploy(d.Program)
	if err := p.alive(); err != nil {
		return err
	}
	if _, err := p.process.thread(p.run.String()).Continue(p.process.ctx); err != nil {
		return fmt.Errorf("continue the parked run with the old code: %w", err)
	}
	p.beliefs, p.skip = []*belief{old}, false
	if err := p.play(); err != nil {
		return fmt.Errorf("with the old code again: %w", err)
	}
	return nil
}

func (d *deploy) tell(s *scheduler) (out result, err error) {
	p, err := newPlayer(inMemory(), s, d.Program, d.Settings, d.Answers)
	if err != nil {
		return never, err
	}
	err = s.world(func() error {
		var err error
		out, err = d.play(p)
		return errors.Join(err, p.end())
	})
	return out, err
}

// mutations is how many changed programs the tests try.
func mutations() int {
	if n, err := strconv.Atoi(os.Getenv("FERMATA_MUTATIONS")); err == nil {
		return n
	}
	if testing.Short() {
		return 100
	}
	return 600
}

// A program that was changed while its run waited goes on with the values of the calls that
// are unchanged, or is parked with both sides named.
func TestMutations(t *testing.T) {
	seen := histogram{}
	check(t, mutations(), func(t *rapid.T) {
		d := deploys().Draw(t, "deploy")
		rapid.SyncTest(t, func(t *rapid.T) {
			s := newScheduler(d.Schedule.Picks, nil)
			out, err := d.tell(s)
			if err != nil {
				t.Fatalf("%v\n%s\nsteps:\n%s", err, d, s.tail(1<<20))
			}
			seen.add(d.Mutant.mutation, out)
		})
	})
	seen.report(t)
}

// witnessOff are the ways to switch off what replay compares.
var witnessOff = []struct {
	name string
	set  func(*settings)
}{
	{"lenient", func(s *settings) { s.Lenient = true }}, // nothing parks
	{"blind", func(s *settings) { s.Blind = true }},     // the inputs of calls look the same
}

// mismatches looks for cases in which a run with a witness switched off comes to something else than it should, and
// the checks say so. Without any, the checks prove nothing.
func mismatches(t *testing.T, tell func(*rapid.T, func(*settings)) error) {
	const most = 3000
	for _, off := range witnessOff {
		t.Run(off.name, func(t *testing.T) {
			var found error
			cases := 0
			check(t, most, func(t *rapid.T) {
				if found != nil {
					return
				}
				cases++
				if err := tell(t, off.set); !errors.Is(err, fermata.ErrParked) {
					found = err // one that is parked is at least not silent
				}
			})
			if found == nil {
				t.Fatalf("no mismatch in %d cases: the test with the witness proves nothing", most)
			}
			t.Logf("a mismatch after %d cases: %v", cases, found)
		})
	}
}

// With the witness switched off the checks of TestMutations find what then goes wrong.
func TestMutationsUnwitnessed(t *testing.T) {
	mismatches(t, func(t *rapid.T, off func(*settings)) (err error) {
		d := deploys().Draw(t, "deploy")
		off(&d.Settings)
		rapid.SyncTest(t, func(*rapid.T) { _, err = d.tell(newScheduler(d.Schedule.Picks, nil)) })
		return err
	})
}
