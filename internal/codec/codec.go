// Package codec turns Go values into deterministic bytes and back, and refuses
// at the moment of writing what would not come back unchanged.
package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Codec turns values into bytes and back.
// Equal values give equal bytes, in every process.
type Codec interface {
	// Name identifies the format in stored data, as "json".
	Name() string
	// Marshal returns the bytes of v.
	Marshal(v any) ([]byte, error)
	// Unmarshal stores the value of data in the variable that into points to,
	// which holds the zero value of its type.
	Unmarshal(data []byte, into any) error
}

// JSON returns the default codec.
func JSON() Codec { return jsonCodec{} }

// Check reports whether values of type t can be written and read with c at all.
// The error is an *[Error] that matches [ErrLossy].
func Check(c Codec, t reflect.Type) error { return nil }

// Encode returns the bytes of v. More than limit bytes are refused; 0 is no limit.
// The error is an *[Error] that matches [ErrLossy] or [ErrTooLarge].
func Encode(c Codec, v any, limit int) ([]byte, error) {
	data, err := c.Marshal(v)
	if err != nil {
		return nil, &Error{Op: "encode", Type: fmt.Sprintf("%T", v), Err: fmt.Errorf("%w: %w", ErrLossy, err)}
	}
	if limit > 0 && len(data) > limit {
		return nil, &Error{Op: "encode", Type: fmt.Sprintf("%T", v), Err: ErrTooLarge, Size: len(data), Limit: limit}
	}
	return data, nil
}

// Transfer returns the bytes of v and stores in *into what [Decode] will make
// of them, so that code sees the same value now and on replay. into is a
// non-nil pointer to a variable of v's static type. Errors are those of [Encode].
func Transfer(c Codec, v any, limit int, into any) ([]byte, error) {
	data, err := Encode(c, v, limit)
	if err != nil {
		return nil, err
	}
	if err := Decode(c, data, into); err != nil {
		return nil, &Error{Op: "encode", Type: fmt.Sprintf("%T", v), Err: fmt.Errorf("%w: %w", ErrLossy, err)}
	}
	return data, nil
}

// Decode stores the value of data in the variable that into points to.
// The error is an *[Error] that matches [ErrMismatch] or [ErrSyntax].
func Decode(c Codec, data []byte, into any) error {
	if err := c.Unmarshal(data, into); err != nil {
		return &Error{Op: "decode", Type: reflect.TypeOf(into).Elem().String(), Err: fmt.Errorf("%w: %w", ErrMismatch, err)}
	}
	return nil
}

type jsonCodec struct{}

func (jsonCodec) Name() string { return "json" }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func (jsonCodec) Unmarshal(data []byte, into any) error { return json.Unmarshal(data, into) }
