package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Policy bounds, repeats and remembers the attempts of a call. A nil Policy is
// one attempt without a limit.
type Policy struct {
	// Retry are tried in order: the first whose On matches the error applies. Empty but not nil says that there are none.
	Retry []Retry
	// RunTimeout bounds one attempt, IdleTimeout the time between its signs of
	// life, which are [Heartbeat]s and, unless HeartbeatOnly, durable calls and [Emit]s. Zero doesn't bound.
	RunTimeout    time.Duration
	IdleTimeout   time.Duration
	HeartbeatOnly bool
	Cache         *Cache
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

// or is p with what it leaves open as d says.
func (p *Policy) or(d *Policy) *Policy {
	switch {
	case d == nil:
		return p
	case p == nil:
		return d
	}
	both := *p
	if both.Retry == nil {
		both.Retry = d.Retry
	}
	if both.RunTimeout == 0 {
		both.RunTimeout = d.RunTimeout
	}
	if both.IdleTimeout == 0 {
		both.IdleTimeout, both.HeartbeatOnly = d.IdleTimeout, d.HeartbeatOnly
	}
	return &both
}

// again says whether the attempt that ended in err is followed by another, and after which wait.
// fault is err with what else went wrong, if the policy itself panicked.
func (p *Policy) again(err error, attempt int) (wait time.Duration, again bool, fault error) {
	if p == nil {
		return 0, false, nil
	}
	for _, r := range p.Retry {
		applies := false
		fault := guard(func() error {
			applies = r.On(err)
			return nil
		})
		if fault != nil {
			return 0, false, fmt.Errorf("%w (and the retry policy panicked: %w)", err, fault)
		}
		if !applies {
			continue
		}
		if attempt >= r.MaxAttempts {
			return 0, false, nil
		}
		wait := float64(r.InitialInterval) * math.Pow(r.BackoffFactor, float64(attempt-1))
		wait = min(wait, float64(r.MaxInterval))
		if r.Jitter {
			wait += rand.Float64() * float64(time.Second)
		}
		return time.Duration(wait), true, nil
	}
	return 0, false, nil
}

// ErrTimeout: an attempt took longer than its policy allows.
var ErrTimeout = errors.New("timeout")

// TimeoutError says which bound an attempt exceeded. It matches [ErrTimeout].
type TimeoutError struct {
	Task    string
	Idle    bool // without a sign of life; else in all
	Timeout time.Duration
}

func (e *TimeoutError) Error() string {
	if e.Idle {
		return fmt.Sprintf("task %q exceeded its idle timeout of %s without a sign of life", e.Task, e.Timeout)
	}
	return fmt.Sprintf("task %q exceeded its timeout of %s", e.Task, e.Timeout)
}

// Is reports whether target is [ErrTimeout].
func (e *TimeoutError) Is(target error) bool { return target == ErrTimeout }

// timedOut is the error of an attempt around whose time is over; nil: there is none.
func timedOut(ctx context.Context) error {
	if expired, ok := errors.AsType[*TimeoutError](context.Cause(ctx)); ok {
		return expired
	}
	return nil
}

// pulse ends an attempt that shows no sign of life.
type pulse struct {
	mu       sync.Mutex
	timer    *time.Timer
	interval time.Duration
	explicit bool   // only heartbeats count
	outer    *pulse // of an attempt around; nil: none has one
}

type pulseKey struct{}

// beat is a sign of life of the attempt and of those around it. nil is without effect.
func (p *pulse) beat(explicit bool) {
	for ; p != nil; p = p.outer {
		if explicit || !p.explicit {
			p.mu.Lock()
			p.timer.Reset(p.interval)
			p.mu.Unlock()
		}
	}
}

// Heartbeat is a sign of life of the task that ctx belongs to, and of those around it.
func Heartbeat(ctx context.Context) {
	if p, ok := ctx.Value(pulseKey{}).(*pulse); ok {
		p.beat(true)
	}
}

// limit calls fn under the policy's timeouts. Once one has passed the attempt
// has failed, whatever fn returns.
func (p *Policy) limit(ctx context.Context, name string, fn func(context.Context) error) error {
	if p == nil || p.RunTimeout <= 0 && p.IdleTimeout <= 0 {
		return fn(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if p.RunTimeout > 0 {
		timer := time.AfterFunc(p.RunTimeout, func() { cancel(&TimeoutError{Task: name, Timeout: p.RunTimeout}) })
		defer timer.Stop()
	}
	if p.IdleTimeout > 0 {
		life := &pulse{interval: p.IdleTimeout, explicit: p.HeartbeatOnly}
		life.outer, _ = ctx.Value(pulseKey{}).(*pulse)
		life.mu.Lock()
		life.timer = time.AfterFunc(p.IdleTimeout, func() { cancel(&TimeoutError{Task: name, Idle: true, Timeout: p.IdleTimeout}) })
		life.mu.Unlock()
		defer life.timer.Stop()
		ctx = context.WithValue(ctx, pulseKey{}, life)
	}
	err := fn(ctx)
	var expired *TimeoutError
	if errors.As(context.Cause(ctx), &expired) && expired.Task == name {
		return expired
	}
	return err
}
