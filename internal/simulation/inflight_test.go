package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"testing"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/simulation/model"
	"pgregory.net/rapid"
)

// Here the code changes when its process dies, at any step, with calls under
// way. What is recorded then is known to nobody but the engine, so leaves and people
// are functions of what they are given: then the changed program has one right result, whatever
// of it was recorded.

// crashDeploy is a case: a program dies at a step, and another one goes on.
type crashDeploy struct {
	story
	Mutant mutant
	At     int // of the steps that the program takes undisturbed, in 1/1000
	Fate   verdict
}

func (d *crashDeploy) String() string {
	return fmt.Sprintf("%s\nat %d/1000 (%s), then %s %s:\n%s", d.story.String(), d.At, d.Fate, d.Mutant.Kind, d.Mutant.Where, d.Mutant.Program)
}

func crashDeploys() *rapid.Generator[*crashDeploy] {
	return rapid.Custom(func(t *rapid.T) *crashDeploy {
		d := &crashDeploy{story: *stories().Draw(t, "story")}
		d.Mutant = mutants(d.Program).Draw(t, "mutant")
		d.At = rapid.IntRange(0, 999).Draw(t, "crash at")
		d.Fate = rapid.SampledFrom([]verdict{crashBefore, crashAfter}).Draw(t, "fate")
		return d
	})
}

// reply is what people answer to what they are shown.
func reply(payload int) int { return model.Mix(payload, 4711) }

// pureWorld answers the model as everybody answers the engine.
type pureWorld struct{}

func (pureWorld) Epoch() int { return 0 }

func (pureWorld) Leaf(_, task string, input, _ int) (int, bool) { return pureValue(task, input), true }

// alone is what the program comes to by itself, if the calls of a changed task that are marked had their
// outcome before the change. It extends the marks by calls that they don't say anything of.
func alone(p *model.Program, marks []bool) (*model.Outcome, []bool) {
	run := model.NewRun(1)
	reached, delivered := map[int]bool{}, map[string][]int{}
	run.Former = func(n int) bool {
		if n == len(marks) {
			marks = append(marks, false)
		}
		return marks[n]
	}
	for {
		outcome := run.Pass(p, entrypoint, pureWorld{}, false)
		maps.Copy(reached, outcome.Reached)
		for site, values := range outcome.Delivered {
			delivered[site] = append(delivered[site], values...)
		}
		outcome.Reached, outcome.Delivered = reached, delivered
		if outcome.Status != model.Paused {
			return outcome, marks
		}
		for _, q := range outcome.Open {
			q.Answered, q.Answer = true, reply(q.Payload)
		}
	}
}

// play runs the program until its process dies, and then the changed one.
func (d *crashDeploy) play(p *player) (result, error) {
	out := never
	p.next = d.Mutant.Program
	for range 300 {
		value, err := p.rest()
		if p.process.died() {
			continue
		}
		if p.next == nil {
			out = went
		}
		var paused *fermata.PausedError
		if errors.As(err, &paused) {
			for _, q := range paused.Questions {
				if err := d.answer(p, q); err != nil {
					return out, err
				}
			}
			continue
		}
		if !errors.Is(err, fermata.ErrParked) {
			if old, _ := alone(d.Program, nil); out == went && contradicts(old, nil, value, err) == nil {
				out = same
			}
			return out, errors.Join(d.contradiction(p, value, err), p.ledger.verdict())
		}
		var diverged *fermata.DivergenceError
		switch {
		case !errors.As(err, &diverged) || diverged.Recorded == nil:
			return out, fmt.Errorf("parked without a divergence: %w", err)
		case out == never || d.Mutant.Kind == "none":
			return out, fmt.Errorf("parked though the code is the same: %w", err)
		}
		return parked, nil
	}
	return out, errors.New("a run that never ends")
}

// contradiction says how the end of a run differs from all that it may be.
func (d *crashDeploy) contradiction(p *player, value int, result error) error {
	program := clone(p.program)
	for i := range program.Tasks {
		if was := d.Program.Tasks[i].Body; !reflect.DeepEqual(was, program.Tasks[i].Body) {
			program.Tasks[i].Former = was
		}
	}
	var marks []bool
	for range 500 {
		var outcome *model.Outcome
		outcome, marks = alone(program, marks)
		err := contradicts(outcome, nil, value, result)
		if err == nil {
			err = p.ledger.contradicts(outcome)
		}
		if err == nil {
			return nil
		}
		// The next marks, as the next binary number.
		for len(marks) > 0 && marks[len(marks)-1] {
			marks = marks[:len(marks)-1]
		}
		if len(marks) == 0 {
			return err
		}
		marks[len(marks)-1] = true
	}
	return nil // there are too many ways to tell
}

// answer answers one question, which may be gone by then.
func (d *crashDeploy) answer(p *player, q fermata.Question) error {
	payload := 0
	if err := q.Decode(&payload); err != nil {
		return err
	}
	_, err := p.process.engine.Answer(p.process.ctx, q.ID, reply(payload))
	for _, fine := range []error{fermata.ErrAlreadyAnswered, fermata.ErrWithdrawn, fermata.ErrStorage, fermata.ErrClosed, context.Canceled} {
		if errors.Is(err, fine) {
			return nil
		}
	}
	return err
}

// aim finds the step to crash at.
func (d *crashDeploy) aim() error {
	undisturbed := *d
	undisturbed.Schedule.Faults, undisturbed.Mutant.Program = nil, d.Program
	s := newScheduler(d.Schedule.Picks, nil)
	_, err := undisturbed.tell(s)
	const boot = 4 // steps until there is a run
	d.Schedule.Faults = map[int]verdict{min(s.count-1, boot) + max(0, s.count-boot-1)*d.At/1000: d.Fate}
	return err
}

func (d *crashDeploy) tell(s *scheduler) (out result, err error) {
	p, err := newPlayer(inMemory(), s, d.Program, d.Settings, nil)
	if err != nil {
		return never, err
	}
	p.ledger.pure, p.ledger.lossy = true, true
	err = s.world(func() error {
		var err error
		out, err = d.play(p)
		return errors.Join(err, p.end())
	})
	return out, err
}

// A program that was changed while calls were under way comes to what it would
// have come to alone, or is parked.
func TestMutationsInFlight(t *testing.T) {
	seen := histogram{}
	check(t, mutations(), func(t *rapid.T) {
		d := crashDeploys().Draw(t, "deploy")
		rapid.SyncTest(t, func(t *rapid.T) {
			if err := d.aim(); err != nil {
				t.Fatalf("undisturbed: %v\n%s", err, d)
			}
			s := newScheduler(d.Schedule.Picks, d.Schedule.Faults)
			out, err := d.tell(s)
			if err != nil {
				t.Fatalf("%v\n%s\nsteps:\n%s", err, d, s.tail(1<<20))
			}
			seen.add(d.Mutant.mutation, out)
		})
	})
	seen.report(t)
}

// With the witness switched off the checks of TestMutationsInFlight find what then goes wrong.
func TestMutationsInFlightUnwitnessed(t *testing.T) {
	mismatches(t, func(t *rapid.T, off func(*settings)) (err error) {
		d := crashDeploys().Draw(t, "deploy")
		off(&d.Settings)
		rapid.SyncTest(t, func(t *rapid.T) {
			if err := d.aim(); err != nil {
				t.Fatalf("undisturbed: %v\n%s", err, d)
			}
			_, err = d.tell(newScheduler(d.Schedule.Picks, d.Schedule.Faults))
		})
		return err
	})
}
