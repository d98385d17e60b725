package simulation

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"testing"

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
	return d.world(func() error { return errors.Join(p.play(), p.end()) })
}

// check is [rapid.Check] with n cases, or as many as -rapid.checks asks for if that is more.
func check(t *testing.T, n int, prop func(*rapid.T)) {
	t.Helper()
	checks := flag.Lookup("rapid.checks")
	if before, err := strconv.Atoi(checks.Value.String()); err == nil && before < n {
		if err := checks.Value.Set(strconv.Itoa(n)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = checks.Value.Set(strconv.Itoa(before)) }()
	}
	rapid.Check(t, prop)
}

func TestPrograms(t *testing.T) {
	check(t, 600, func(t *rapid.T) {
		s := stories().Draw(t, "story")
		rapid.SyncTest(t, func(t *rapid.T) {
			if log, err := s.tell(); err != nil {
				t.Fatalf("%v\n%s\nsteps:\n%s", err, s, log)
			}
		})
	})
}
