// Package schema describes a Go type as a JSON Schema, and checks an answer
// against a schema that was stored, in a process that need not know the type.
package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// For returns the schema of the JSON form of t. Equal types give equal bytes.
func For(t reflect.Type) ([]byte, error) {
	s, err := jsonschema.ForType(t, nil)
	if err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// Validate reports whether value is a JSON value that schema accepts.
// If it isn't, the error is an *[Error].
func Validate(schema, value []byte) error {
	var s jsonschema.Schema
	if err := json.Unmarshal(schema, &s); err != nil {
		return fmt.Errorf("stored schema: %w", err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		return fmt.Errorf("stored schema: %w", err)
	}
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return &Error{Fields: []FieldError{{Message: err.Error()}}}
	}
	if err := r.Validate(v); err != nil {
		return &Error{Fields: []FieldError{{Message: err.Error()}}}
	}
	return nil
}

// Error lists what is wrong with a value.
type Error struct {
	Fields []FieldError // at least one, in the order of the value
}

// FieldError is one fault.
type FieldError struct {
	// Pointer is the JSON Pointer (RFC 6901) of the part at fault; "" is the whole value.
	Pointer string `json:"pointer"`
	// Message says in words for people what is expected there.
	Message string `json:"message"`
}

func (e *Error) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = f.Pointer + ": " + f.Message
	}
	return strings.Join(parts, "; ")
}
