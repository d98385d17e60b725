package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Policy bounds and repeats the attempts of a call. A nil Policy is one attempt without a limit.
type Policy struct {
	// Retry are tried in order: the first whose On matches the error applies.
	Retry []Retry
	// Timeout bounds one attempt; zero doesn't.
	Timeout time.Duration
}

// Retry says when and how often a failed attempt is repeated, with LangGraph's fields.
type Retry struct {
	InitialInterval time.Duration
	BackoffFactor   float64
	MaxInterval     time.Duration
	MaxAttempts     int // the first one included
	Jitter          bool
	On              func(error) bool
}

func (p *Policy) retries() bool { return p != nil && len(p.Retry) > 0 }

// again says whether the attempt that ended in err is followed by another, and after which wait.
func (p *Policy) again(err error, attempt int) (time.Duration, bool) {
	if p == nil {
		return 0, false
	}
	for _, r := range p.Retry {
		if !r.On(err) {
			continue
		}
		if attempt >= r.MaxAttempts {
			return 0, false
		}
		wait := float64(r.InitialInterval) * math.Pow(r.BackoffFactor, float64(attempt-1))
		wait = min(wait, float64(r.MaxInterval))
		if r.Jitter {
			wait += rand.Float64() * float64(time.Second)
		}
		return time.Duration(wait), true
	}
	return 0, false
}

// TimeoutError says that an attempt took longer than its policy allows.
type TimeoutError struct {
	Task    string
	Timeout time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("task %q exceeded its timeout of %s", e.Task, e.Timeout)
}

// limit calls fn under the policy's timeout. Once that has passed the attempt
// has failed, whatever fn returns.
func (p *Policy) limit(ctx context.Context, name string, fn func(context.Context) error) error {
	if p == nil || p.Timeout <= 0 {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return fn(ctx)
	}
	expired := &TimeoutError{Task: name, Timeout: p.Timeout}
	ctx, cancel := context.WithTimeoutCause(ctx, p.Timeout, expired)
	defer cancel()
	err := fn(ctx)
	if errors.Is(context.Cause(ctx), expired) {
		return expired
	}
	return err
}
