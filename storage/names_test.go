package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/fermata-go/fermata/storage"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]fmt.Stringer{
		"queued": storage.Queued, "running": storage.Running, "interrupted": storage.Interrupted, "parked": storage.Parked,
		"finished": storage.Finished, "failed": storage.Failed, "cancelled": storage.Cancelled, "superseded": storage.Superseded,
		"open": storage.Open, "answered": storage.Answered, "expired": storage.Expired, "withdrawn": storage.Withdrawn,
		"input": storage.Input, "update": storage.Update, "fork": storage.Fork,
	} {
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := storage.SupersededQuestion.String(); got != "superseded" {
		t.Errorf("got %q, want superseded", got)
	}
	for _, s := range []fmt.Stringer{storage.Status(99), storage.QuestionState(99), storage.Source(99)} {
		if got := s.String(); got != "unknown" {
			t.Errorf("%T(99) is %q, want unknown", s, got)
		}
	}
}

func TestActive(t *testing.T) {
	t.Parallel()
	for s := storage.Status(0); s <= 20; s++ {
		want := s == storage.Queued || s == storage.Running || s == storage.Interrupted || s == storage.Parked
		if s.Active() != want {
			t.Errorf("%s is active: %v, want %v", s, s.Active(), want)
		}
	}
}

func TestTypedErrorsMatchTheirSentinels(t *testing.T) {
	t.Parallel()
	sentinels := []error{storage.ErrBusy, storage.ErrSettled, storage.ErrUnique, storage.ErrNotFound}
	for want, err := range map[error]error{
		storage.ErrBusy:    &storage.BusyError{Run: storage.Run{Thread: "thread", Status: storage.Parked}},
		storage.ErrSettled: &storage.SettledError{Question: storage.Question{State: storage.Expired}},
		storage.ErrUnique:  &storage.UniqueError{Key: "key"},
	} {
		wrapped := fmt.Errorf("somewhere: %w", err)
		for _, sentinel := range sentinels {
			if got := errors.Is(wrapped, sentinel); got != (sentinel == want) {
				t.Errorf("%v matches %q: %v", err, sentinel, got)
			}
		}
	}
}
