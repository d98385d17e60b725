package simulation

import (
	"fmt"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/simulation/model"
	"pgregory.net/rapid"
)

// story is a whole case of the random test.
type story struct {
	Program  *model.Program
	Settings settings
	Schedule schedule
	Answers  []byte
}

func (s *story) String() string {
	return fmt.Sprintf("%ssettings %+v\nfaults %v, picks %v, answers %v", s.Program, s.Settings, s.Schedule.Faults, s.Schedule.Picks, s.Answers)
}

func stories() *rapid.Generator[*story] {
	return rapid.Custom(func(t *rapid.T) *story {
		return &story{
			Program:  programs().Draw(t, "program"),
			Settings: variations().Draw(t, "settings"),
			Schedule: schedules(4, 80).Draw(t, "schedule"),
			Answers:  rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "answers"),
		}
	})
}

// tell plays a story in the bubble that it is called in, and returns its steps.
func (s *story) tell() (string, error) {
	d := newScheduler(s.Schedule.Picks, s.Schedule.Faults)
	err := s.tellTo(d)
	return d.tail(1 << 20), err
}

func (s *story) tellTo(d *scheduler) error {
	p, err := newPlayer(inMemory(), d, s.Program, s.Settings, s.Answers)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	var played error
	go func() {
		defer close(done)
		played = p.play()
		if err := p.end(); played == nil {
			played = err
		}
	}()
	if err := d.run(done); err != nil {
		d.stop()
		select {
		case <-done:
		case <-time.After(time.Hour):
			// A bubble with a deadlock can't be wound up.
			hang(fmt.Sprintf("%v\n%s\n%s", err, s, d.tail(200)))
		}
		return err
	}
	return played
}

// hang ends the test binary, with all its goroutines.
func hang(why string) { panic("simulation: a process doesn't end: " + why) }

func TestPrograms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := stories().Draw(t, "story")
		rapid.SyncTest(t, func(t *rapid.T) {
			if log, err := s.tell(); err != nil {
				t.Fatalf("%v\n%s\nsteps:\n%s", err, s, log)
			}
		})
	})
}
