package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
)

// Failure is how a task, a branch or a run ended in error: what is recorded of
// it, and so what the code sees, live and on replay.
type Failure struct {
	Task     string   `json:"task"`
	Path     string   `json:"path"`
	Message  string   `json:"message"`
	Codes    []string `json:"codes,omitempty"` // of registered errors that the original matched
	Attempts int      `json:"attempts"`
	Panic    bool     `json:"panic,omitempty"`
	Stack    string   `json:"stack,omitempty"` // of a panic
	// Cause is the failure below that this one passed on, if there is one.
	Cause *Failure `json:"cause,omitempty"`

	// Retry are the failed claims of the own scope found in the error, Cut the last claim before the first of
	// them was handed over: what a new attempt supersedes. Hidden says
	// that failures were handed over, but none is in the error.
	Retry  []int64 `json:"retry,omitempty"`
	Cut    int64   `json:"cut,omitempty"`
	Hidden bool    `json:"hidden,omitempty"`
	// Branches are the failed branches among Retry: they have no record of their own.
	Branches []*Failure `json:"branches,omitempty"`
	Branch   int64      `json:"branch,omitempty"` // the claim of a branch
	Lost     bool       `json:"lost,omitempty"`   // another call was first

	claim     int64
	sentinels []error
}

func (f *Failure) Error() string {
	switch {
	case f.Branch != 0 && f.Panic:
		return "branch panicked: " + f.Message
	case f.Branch != 0:
		return f.Message
	case f.Panic:
		return fmt.Sprintf("task %q panicked: %s", f.Task, f.Message)
	}
	return fmt.Sprintf("task %q failed: %s", f.Task, f.Message)
}

// Unwrap gives the registered errors that the original matched.
func (f *Failure) Unwrap() []error {
	if f.Cause != nil {
		return append(slices.Clip(f.sentinels), f.Cause)
	}
	return f.sentinels
}

// panicked is the error that a panic becomes.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprint(p.value) }

// Unwrap lets a panic with an error be matched.
func (p *panicked) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// IsPanic reports whether err is what a panic became.
func IsPanic(err error) bool {
	var p *panicked
	return errors.As(err, &p)
}

// errVanished is the error of a function that ended its goroutine with
// [runtime.Goexit], as testing's FailNow does.
var errVanished = errors.New("the function ended its goroutine (runtime.Goexit)")

// guard calls fn and turns a panic into an error.
func guard(fn func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicked{value: value, stack: debug.Stack()}
		}
	}()
	return fn()
}

// newFailure describes err, which the scope's function returned.
func (s *Scope) newFailure(name string, attempts int, err error) *Failure {
	f := &Failure{Task: name, Path: s.path, Attempts: attempts}
	fault := guard(func() error {
		s.describe(f, err)
		return nil
	})
	if fault != nil {
		// A method of the error itself panics, as of a nil pointer that was returned as an error.
		f = &Failure{Task: name, Path: s.path, Attempts: attempts}
		s.describe(f, fmt.Errorf("the error, a %T, can't be read: %w", err, fault))
	}
	return f
}

// describe fills what is recorded of err. It calls methods of err, which are the user's.
func (s *Scope) describe(f *Failure, err error) {
	f.Message = err.Error()
	if p, ok := errors.AsType[*panicked](err); ok {
		f.Panic, f.Stack = true, string(p.stack)
	}
	registered := s.pass.engine.options.Errors
	for code, sentinel := range registered {
		if errors.Is(err, sentinel) {
			f.Codes = append(f.Codes, code)
		}
	}
	slices.Sort(f.Codes)
	s.findDelivered(err, f)
	slices.Sort(f.Retry)
	f.Retry = slices.Compact(f.Retry)
	f.Hidden = len(s.delivered) > 0 && len(f.Retry) == 0
}

// findDelivered walks the tree of err for failures of calls of this scope.
func (s *Scope) findDelivered(err error, f *Failure) {
	switch e := err.(type) {
	case *Failure:
		if e.Lost && f.Cause == nil {
			f.Cause = e
		}
		cut, own := s.delivered[e.claim]
		if !own {
			break
		}
		if len(f.Retry) == 0 || cut < f.Cut {
			f.Cut = cut
		}
		f.Retry = append(f.Retry, e.claim)
		if e.Branch != 0 && !slices.Contains(f.Branches, e) {
			f.Branches = append(f.Branches, e)
		}
		if f.Cause == nil {
			f.Cause = e
		}
		return
	case nil:
		return
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		s.findDelivered(e.Unwrap(), f)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			s.findDelivered(inner, f)
		}
	}
}

// cut is the last claim that a new attempt keeps.
func (f *Failure) cut() int64 {
	if len(f.Retry) == 0 {
		return keepAll
	}
	return f.Cut
}

func (f *Failure) encode() []byte {
	data, err := json.Marshal(f)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return data
}

// decodeFailure is the inverse of encode, for the claim that failed.
func (e *Engine) decodeFailure(data []byte, claim int64) (*Failure, error) {
	f := &Failure{}
	if err := json.Unmarshal(data, f); err != nil {
		return nil, err
	}
	f.claim = claim
	e.register(f)
	return f, nil
}

// register finds the registered errors of a failure by their codes.
func (e *Engine) register(f *Failure) {
	for ; f != nil; f = f.Cause {
		f.sentinels = nil
		for _, code := range f.Codes {
			if sentinel := e.options.Errors[code]; sentinel != nil {
				f.sentinels = append(f.sentinels, sentinel)
			}
		}
	}
}

// Failure reads what is stored of a failed run.
func (e *Engine) Failure(stored []byte) (*Failure, error) { return e.decodeFailure(stored, 0) }
