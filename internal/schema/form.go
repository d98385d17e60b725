package schema

import (
	"errors"
	"fmt"

	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

const maxDepth = 1000

// wellFormed reports what is wrong with data before any schema: it must be one
// JSON value, in which no name repeats.
func wellFormed(data []byte) *Error {
	f := former{Scanner: jsonscan.New(data)}
	err := f.value()
	if err == nil {
		err = f.End()
	}
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*formError](err); ok {
		return &Error{Fields: []FieldError{{pointer(f.path), e.message}}}
	}
	return &Error{Fields: []FieldError{{Message: "is not JSON: " + err.Error()}}}
}

type former struct {
	jsonscan.Scanner
	path []step // left as it is at a fault
}

type formError struct{ message string }

func (e *formError) Error() string { return e.message }

func (f *former) value() error {
	if len(f.path) > maxDepth {
		f.path = f.path[:3]
		return &formError{fmt.Sprintf("is nested deeper than %d levels", maxDepth)}
	}
	switch f.Peek() {
	case jsonscan.Array:
		return f.Array(func(i int) error { return f.inner(step{index: i}) })
	case jsonscan.Object:
		var names jsonscan.Names
		return f.Object(func(name []byte) error {
			if !names.Add(name) {
				f.path = append(f.path, step{name: name})
				return &formError{"is there twice"}
			}
			return f.inner(step{name: name})
		})
	default:
		_, err := f.Skip()
		return err
	}
}

func (f *former) inner(at step) error {
	f.path = append(f.path, at)
	if err := f.value(); err != nil {
		return err
	}
	f.path = f.path[:len(f.path)-1]
	return nil
}
