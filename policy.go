package fermata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"time"

	"github.com/fermata-go/fermata/internal/engine"
)

// Retry is an option of a task: failed attempts are repeated as the first of the
// policies says whose On matches the error. A policy with zero fields has
// LangGraph's defaults; no policy at all means no repetition.
//
// Attempts are counted over crashes: one that a crash interrupts runs again under its own number, at most [Options].MaxCrashes times; [Thread.Continue] grants them anew, and so does an attempt of the function around. A pause is not an attempt: an answered question isn't asked again by
// the next one, and results of the attempt's own tasks are kept, but for those found in the error and what came
// after the first of these was known.
//
// As an option of an entrypoint it is for its body, and for its tasks that have no Retry of their own; Retry() is one too, and says no.
func Retry(policies ...RetryPolicy) PolicyOption { return retry(policies) }

// PolicyOption is an option of a task, or of an entrypoint.
type PolicyOption interface {
	TaskOption
	EntrypointOption
}

// RetryPolicy says when, how often and how soon an attempt is repeated, with LangGraph's fields.
// The wait before repetition n is InitialInterval·BackoffFactor^(n-1), at most
// MaxInterval, plus the jitter.
type RetryPolicy struct {
	_ [0]func()
	// InitialInterval is the wait before the first repetition. Default: 500 ms.
	InitialInterval time.Duration
	// BackoffFactor multiplies the wait from one repetition to the next. Default: 2.
	BackoffFactor float64
	// MaxInterval bounds the wait. Default: 128 s.
	MaxInterval time.Duration
	// MaxAttempts counts the first one too. Default: 3.
	MaxAttempts int
	// NoJitter leaves out the random time of up to 1 s that is added to each wait.
	NoJitter bool
	// On says which errors are repeated. Default: [RetryByDefault].
	On func(error) bool
}

type retry []RetryPolicy

func (policies retry) applyTask(o *taskOptions) error { return policies.apply(&o.policy) }

func (policies retry) applyEntrypoint(e *engine.Entry) error { return policies.apply(policyOf(e)) }

func policyOf(e *engine.Entry) *engine.Policy {
	if e.Policy == nil {
		e.Policy = &engine.Policy{}
	}
	return e.Policy
}

func (policies retry) apply(to *engine.Policy) error {
	if to.Retry == nil {
		to.Retry = []engine.Retry{}
	}
	for _, p := range policies {
		r := engine.Retry{
			InitialInterval: p.InitialInterval, BackoffFactor: p.BackoffFactor, MaxInterval: p.MaxInterval,
			MaxAttempts: p.MaxAttempts, Jitter: !p.NoJitter, On: p.On,
		}
		if r.InitialInterval < 0 || r.MaxInterval < 0 || r.MaxAttempts < 0 || r.BackoffFactor < 0 {
			return fmt.Errorf("retry policy with a negative field: %+v", r.InitialInterval)
		}
		if r.InitialInterval == 0 {
			r.InitialInterval = 500 * time.Millisecond
		}
		if r.BackoffFactor == 0 {
			r.BackoffFactor = 2
		}
		if r.MaxInterval == 0 {
			r.MaxInterval = 128 * time.Second
		}
		if r.MaxAttempts == 0 {
			r.MaxAttempts = 3
		}
		if r.On == nil {
			r.On = RetryByDefault
		}
		to.Retry = append(to.Retry, r)
	}
	return nil
}

// RetryByDefault reports whether an error is worth another attempt: all are, but
// those that the same call gives again – a panic, a value that can't be stored, a file that is
// missing or forbidden, JSON that isn't what it should be, [errors.ErrUnsupported] –
// and a cancelled context. It is LangGraph's default in Go's terms: there, programming
// errors are not repeated, and connection errors and timeouts are.
func RetryByDefault(err error) bool {
	var (
		value    *ValueError
		syntax   *json.SyntaxError
		mismatch *json.UnmarshalTypeError
	)
	switch {
	case engine.IsPanic(err), errors.As(err, &value), errors.As(err, &syntax), errors.As(err, &mismatch):
		return false
	case errors.Is(err, context.Canceled), errors.Is(err, errors.ErrUnsupported),
		errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrInvalid), errors.Is(err, fs.ErrExist):
		return false
	}
	return true
}

// Attempt is the number of the running attempt of the task that ctx belongs to; the first is 1.
func Attempt(ctx context.Context) int { return engine.Attempt(ctx) }

// Timeout bounds each attempt of a task; as an option of an entrypoint, each
// attempt of its body between two pauses, and of its tasks that have none of their own. When the time has passed the
// context of the attempt ends, and once the function has returned the attempt has failed with [ErrTimeout],
// whatever it returned: a function that doesn't heed its context isn't stopped. A call of the attempt that ends in error
// then has no outcome, and is made again by the next attempt; who waits for it gets [ErrTimeout], and so does each
// later durable call of that function.
func Timeout(d time.Duration) PolicyOption { return timeout{run: d} }

// IdleTimeout bounds the time an attempt goes without a sign of life, its own or of a call
// that it made: a durable call, an [Emit], or a [Heartbeat]. In all else it is [Timeout].
func IdleTimeout(d time.Duration) PolicyOption { return timeout{idle: d} }

// HeartbeatTimeout is [IdleTimeout] with only a [Heartbeat] as a sign of life.
func HeartbeatTimeout(d time.Duration) PolicyOption { return timeout{idle: d, explicit: true} }

type timeout struct {
	run, idle time.Duration
	explicit  bool
}

func (t timeout) applyTask(o *taskOptions) error { return t.apply(&o.policy) }

func (t timeout) applyEntrypoint(e *engine.Entry) error { return t.apply(policyOf(e)) }

func (t timeout) apply(to *engine.Policy) error {
	if t.run+t.idle <= 0 {
		return fmt.Errorf("timeout of %s: must be greater than 0", t.run+t.idle)
	}
	if t.run > 0 {
		to.RunTimeout = t.run
		return nil
	}
	to.IdleTimeout, to.HeartbeatOnly = t.idle, t.explicit
	return nil
}

// Heartbeat is a sign of life of the task that ctx belongs to, and of those around it; see [IdleTimeout]. Elsewhere it does nothing.
func Heartbeat(ctx context.Context) { engine.Heartbeat(ctx) }

// Cached is a task option that keeps results across runs and threads, in the
// backend, under the task's name: a call with an input seen before gets the kept
// result, and the function isn't called. Only successes are kept. A ttl of 0 keeps them for ever. A kept result that
// is no O any more, after a deploy, is as if there were none.
// Calls of one run that are under way together may each call the function.
func Cached(ttl time.Duration) TaskOption { return cached{ttl: ttl} }

// CachedBy is [Cached] with a key made from the input, instead of the whole
// input. I must be the task's input type.
func CachedBy[I any](ttl time.Duration, key func(I) string) TaskOption {
	return cachedBy[I]{cached{ttl: ttl}, key}
}

type cached struct{ ttl time.Duration }

func (c cached) applyTask(o *taskOptions) error {
	if c.ttl < 0 {
		return fmt.Errorf("cache with a time to live of %s: must not be negative", c.ttl)
	}
	o.policy.Cache = &engine.Cache{TTL: c.ttl}
	return nil
}

type cachedBy[I any] struct {
	cached
	key func(I) string
}

func (c cachedBy[I]) applyTask(o *taskOptions) error {
	if c.key == nil {
		return errors.New("cache without a key function")
	}
	if err := c.cached.applyTask(o); err != nil {
		return err
	}
	if o.input != reflect.TypeFor[I]() {
		return fmt.Errorf("cache key takes %s, the task takes %s", reflect.TypeFor[I](), o.input)
	}
	o.policy.Cache.Key = func(in any) string { return c.key(in.(I)) }
	return nil
}

// ClearCache forgets the kept results of the task with this name; see [Cached].
func (e *Engine) ClearCache(ctx context.Context, task string) error {
	return public(e.core.ClearCache(ctx, e.tenant, task))
}
