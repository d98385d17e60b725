// Package schema describes the JSON form of a Go type as a JSON Schema, and
// checks an answer against a schema that was stored, in a process that need
// not know the type.
//
// The two halves keep one promise: what [Validate] accepts against the schema
// of a type, package codec decodes into a value of that type, unchanged. For
// that, schemas use "format" as a rule and not as a remark: date-time, float, and int8 to
// int64 and uint8 to uint64, the latter also for numbers in strings.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// ErrSchema: the schema itself can't be used. It was not made by [For], or was damaged.
var ErrSchema = errors.New("schema can't be used")

// For returns the schema of the values that a variable of type t can be read
// from. Equal types give equal bytes.
//
//   - A field is required unless it has omitempty or omitzero, or is inside an
//     embedded pointer; members without a field are refused.
//   - Pointers, slices and maps may be null. An any may be everything.
//   - The tag `jsonschema:"text"` gives a field its description.
//   - A type with UnmarshalJSON or UnmarshalText must say what it reads: with
//     a method JSONSchema() []byte that returns a schema. (time.Time, big.Int,
//     json.Number and json.RawMessage are known.) Another type may have the method
//     to narrow what is accepted, say to some strings; it is called on a zero value.
//
// Types that package codec can't read are an error that names the field.
func For(t reflect.Type) ([]byte, error) {
	s, err := infer(t)
	if err != nil {
		return nil, fmt.Errorf("schema of %s%w", t, err)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", t, err)
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if _, err := compiled(data); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", t, err)
	}
	return data, nil
}

// Validate reports whether value is one JSON value that schema accepts. If it
// isn't, the error is an *[Error] with everything that is wrong. An empty schema
// accepts every JSON value. Compiled schemas are kept, so that the next call is cheap.
//
// Beyond the schema, a value may not repeat a name in an object, nest deeper
// than 1000 levels, or hold a number that would be changed where
// the schema accepts everything. An error that matches [ErrSchema] is about the schema.
func Validate(schema, value []byte) error {
	root, err := compiled(schema)
	if err != nil {
		return err
	}
	if e := wellFormed(value); e != nil {
		return e
	}
	c := checker{}
	c.check(root, value)
	if len(c.errs) == 0 {
		return nil
	}
	return &Error{Fields: c.errs, More: c.more}
}

// Error says what is wrong with a value.
type Error struct {
	// Fields has at least one entry, in the order of the value; fields that
	// are missing come last in their object.
	Fields []FieldError
	// More: there are further faults, after the first 100.
	More bool
}

// FieldError is one fault.
type FieldError struct {
	// Pointer is the JSON Pointer (RFC 6901) of the part at fault, also of one
	// that is missing; "" is the whole value.
	Pointer string `json:"pointer"`
	// Message says to people what is wanted there, as "must be a whole number".
	Message string `json:"message"`
}

func (e *Error) Error() string {
	const shown = 5
	var b strings.Builder
	b.WriteString("invalid value: ")
	for i, f := range e.Fields[:min(len(e.Fields), shown)] {
		if i > 0 {
			b.WriteString("; ")
		}
		if f.Pointer != "" {
			fmt.Fprintf(&b, "%.100s ", f.Pointer)
		}
		b.WriteString(f.Message)
	}
	if n := len(e.Fields) - shown; n > 0 {
		fmt.Fprintf(&b, "; and %d more", n)
	}
	return b.String()
}
