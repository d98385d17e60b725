// Package codec turns Go values into deterministic bytes and back.
//
// What would not come back unchanged is refused when it is written, with the
// type and the path of the field, not found out when a run is resumed days
// later. And what can't be read as today's type is an error, never a zero
// value.
package codec

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
)

// Codec turns values into bytes and back. It may be used by many goroutines.
//
// Equal values must give equal bytes, in every process and version: bytes are
// compared. (Encryption, which doesn't, belongs behind a codec, not into one.)
// A codec may have a method Check(reflect.Type) error, see [Check].
type Codec interface {
	// Name identifies the format in stored data, as "json".
	Name() string
	// Marshal returns the bytes of v. It must not keep v, or the bytes.
	Marshal(v any) ([]byte, error)
	// Unmarshal stores the value of data in the variable that into points to,
	// which holds the zero value of its type.
	Unmarshal(data []byte, into any) error
}

// Check reports whether values of type t can be written with c and read again,
// as far as the type tells: for the moment of a definition, before there is a value.
// It asks c's method Check(reflect.Type) error; a codec without one takes any type.
// The error is an *[Error] that matches [ErrLossy].
func Check(c Codec, t reflect.Type) error {
	checker, ok := c.(interface{ Check(t reflect.Type) error })
	if !ok {
		return nil
	}
	return wrap("check", t, ErrLossy, checker.Check(t))
}

// Encode returns the bytes of v, checked to come back unchanged as a value of
// v's dynamic type. (What will be read into a variable of an interface type is
// for [Transfer].) More than limit bytes are refused; 0 is no limit.
// The error is an *[Error] that matches [ErrLossy] or [ErrTooLarge].
func Encode(c Codec, v any, limit int) ([]byte, error) {
	t := typeOf(v)
	if j, ok := c.(jsonCodec); ok {
		return j.encode(t, v, limit, nil)
	}
	return encode(c, v, limit, reflect.New(t))
}

// Transfer returns the bytes of v, and makes *into the copy that [Decode] will
// make of them: if code goes on with the copy, it sees the same now and on
// every replay. into is a pointer to a variable of v's static type, so that for an
// interface type the copy holds plain data whatever v holds. After an error
// *into is not to be used.
// The error is an *[Error] that matches [ErrLossy] or [ErrTooLarge].
func Transfer(c Codec, v any, limit int, into any) ([]byte, error) {
	j, ok := c.(jsonCodec)
	if !ok {
		return encode(c, v, limit, reflect.ValueOf(into))
	}
	if out, ok := into.(*string); ok {
		// The shortest way for what most tasks return.
		if s, ok := v.(string); ok && (limit <= 0 || len(s) <= limit/6-2) {
			if data, ok := writePlain(stringRoot, s); ok {
				*out = s
				return data, nil
			}
		}
	}
	return j.encode(reflect.TypeOf(into).Elem(), v, limit, into)
}

var stringRoot = planOf(reflect.TypeFor[string]())

// Decode makes *into the value of data, whatever it was before. After an
// error it is the zero value.
// The error is an *[Error] that matches [ErrMismatch] or [ErrSyntax].
func Decode(c Codec, data []byte, into any) error {
	v := reflect.ValueOf(into).Elem()
	v.SetZero()
	if err := c.Unmarshal(data, into); err != nil {
		v.SetZero()
		return wrap("decode", v.Type(), ErrMismatch, err)
	}
	return nil
}

// encode is [Transfer] with a codec of which nothing is known: every value is
// read and written again.
func encode(c Codec, v any, limit int, into reflect.Value) ([]byte, error) {
	t := into.Type().Elem()
	if err := Check(c, t); err != nil {
		return nil, err
	}
	data, err := c.Marshal(v)
	if err != nil {
		return nil, wrap("encode", t, ErrLossy, err)
	}
	if limit > 0 && len(data) > limit {
		return nil, tooLarge(t, len(data), limit)
	}
	if err := Decode(c, data, into.Interface()); err != nil {
		return nil, &Error{Op: "encode", Type: t.String(), Err: fmt.Errorf("%w: what is written can't be read again: %s", ErrLossy, reason(err))}
	}
	again, err := c.Marshal(into.Elem().Interface())
	if err != nil || !bytes.Equal(data, again) {
		into.Elem().SetZero()
		return nil, &Error{Op: "encode", Type: t.String(), Err: fmt.Errorf("%w: %s writes other bytes after it has read its own", ErrLossy, c.Name())}
	}
	return data, nil
}

// wrap makes err an *[Error] that matches sentinel, or one of this package's others.
func wrap(op string, t reflect.Type, sentinel, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Op: op, Type: t.String(), Err: fmt.Errorf("%w: %w", sentinel, err)}
}

func tooLarge(t reflect.Type, size, limit int) error {
	return &Error{
		Op: "encode", Type: t.String(), Size: size, Limit: limit,
		Err: fmt.Errorf("%w: %d bytes, and the limit is %d; keep it elsewhere and store a reference, or raise the limit", ErrTooLarge, size, limit),
	}
}

// reason returns the text of err without the sentinel that it wraps first.
func reason(err error) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if errs := joined.Unwrap(); len(errs) > 1 {
			return errs[len(errs)-1].Error()
		}
	}
	return err.Error()
}
