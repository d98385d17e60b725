package fermata

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
)

// Now is the time of the last record that the function has seen – its own
// start, a result, an answer – the same live and on replay. For the clock on
// the wall, to the instant, call time.Now in a task.
func Now(ctx context.Context) (time.Time, error) {
	now, err := engine.Now(ctx)
	return now, public(err)
}

// Rand returns a source of random numbers that is the same live and on replay,
// and another for each call, function and run. A fork or a copy of a run gets the same
// where it repeats recorded calls that may depend on it. It is not for secrets.
func Rand(ctx context.Context) (*rand.Rand, error) {
	r, err := engine.Rand(ctx)
	return r, public(err)
}

// UUID returns an id that is the same live and on replay, and another for each
// call, in the layout of UUID version 4 with the digits of [ID.String]. In forks and copies it is as [Rand].
func UUID(ctx context.Context) (ID, error) {
	r, err := engine.Rand(ctx)
	if err != nil {
		return ID{}, public(err)
	}
	var id ID
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}

// Sleep suspends the function until d after [Now], without a process that
// waits: the run is taken up by any live process when the time has come. Like a
// question it returns an error that matches [ErrPaused] until then: pass it up.
func Sleep(ctx context.Context, d time.Duration, options ...SleepOption) error {
	if d < 0 {
		return &Error{Reason: ErrInvalid, Err: fmt.Errorf("sleep of %s: must not be negative", d)}
	}
	key := ""
	for _, option := range options {
		key = string(option.(KeyOption))
	}
	return public(engine.Sleep(ctx, key, d))
}

// SleepOption is an option of [Sleep]: a [Key].
type SleepOption interface{ sleepOption() }

func (KeyOption) sleepOption() {}

// Version lets new code serve old runs: it returns which version of a change
// this run is on. A run that comes to the change new gets highest; one that has gone past it with
// older code gets lowest. The first answer stands for the rest of the run. When
// no run is on a version any more, raise lowest and remove its code; a run that still is
// on it is parked, not guessed at.
//
//	if v, err := fermata.Version(ctx, "fraud-check", 1, 2); err != nil {
//		return err
//	} else if v >= 2 {
//		… // what was added
//	}
func Version(ctx context.Context, change string, lowest, highest int) (int, error) {
	v, err := engine.Version(ctx, change, lowest, highest)
	return v, public(err)
}

// IdempotencyID identifies the task call that ctx belongs to: the same in all its attempts and
// after every crash, another for every other call or input. Send it to remote services that do
// a thing once per key.
func IdempotencyID(ctx context.Context) (ID, error) {
	id, err := engine.CallID(ctx)
	return id, public(err)
}

// Config returns the configuration that the run was started with; see [WithConfig].
// If there is none, ok is false. One that isn't a C parks the run ([ErrParked]).
func Config[C any](ctx context.Context) (config C, ok bool, err error) {
	s, err := engine.From(ctx)
	if err != nil {
		return config, false, public(err)
	}
	data := s.Run().Config
	if data == nil {
		return config, false, nil
	}
	if err := valuesOf(s).decode(data, &config); err != nil {
		var zero C
		return zero, false, public(s.Reject(fmt.Errorf("configuration of the run: %w", err)))
	}
	return config, true, nil
}

// CurrentRun tells which run ctx belongs to. Outside of one: [ErrOutsideRun].
func CurrentRun(ctx context.Context) (RunInfo, error) {
	s, err := engine.From(ctx)
	if err != nil {
		return RunInfo{}, public(err)
	}
	return newRunInfo(s.Run()), nil
}
