package codec

import (
	"errors"
	"fmt"
	"strings"
)

// What an [*Error] is about, found with [errors.Is].
var (
	// ErrLossy: the value, or a value of the type, would not come back from its
	// bytes unchanged. Nothing was written.
	ErrLossy = errors.New("value doesn't survive being stored")
	// ErrTooLarge: the encoded value is larger than the limit. Nothing was written.
	ErrTooLarge = errors.New("value too large")
	// ErrMismatch: the bytes are whole, but don't fit the Go type of today.
	ErrMismatch = errors.New("stored value doesn't fit the type")
	// ErrSyntax: the bytes are not one value of the codec: cut off, corrupted,
	// or written by another codec.
	ErrSyntax = errors.New("stored bytes can't be read")
)

// Error says what could not be encoded or decoded, where in the value, and what to do.
type Error struct {
	// Op is "check", "encode" or "decode".
	Op string
	// Type is the Go type of the whole value.
	Type string
	// Path is the JSON Pointer (RFC 6901) of the offending part: JSON names of
	// fields, indexes, map keys; "*" stands for every element when the fault
	// is the type's. "" is the whole value. A very long path ends with "/…".
	Path string
	// Err wraps one of the sentinels of this package, and the error of the
	// type's own method if that is what failed.
	Err error
	// Size and Limit are set with ErrTooLarge, in bytes.
	Size, Limit int
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteByte(' ')
	b.WriteString(e.Type)
	if e.Path != "" {
		fmt.Fprintf(&b, " at %.200s", e.Path)
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }
