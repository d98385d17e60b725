// Package witness makes a short record of a call's input, by which a replay
// can tell that a call is the one that was recorded, and if not, what differs.
package witness

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
)

// Of returns the witness of a call's encoded input.
func Of(data []byte) []byte {
	sum := sha256.Sum256(data)
	return append([]byte{2}, sum[:16]...)
}

// OfKeyed is [Of] for inputs that are stored encrypted: the witness tells
// nothing about data to who doesn't have the key.
func OfKeyed(key, data []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(data)
	return append([]byte{3}, mac.Sum(nil)[:16]...)
}

// Equal reports whether two witnesses may be of the same input.
func Equal(a, b []byte) bool { return bytes.Equal(a, b) }

// Difference is one thing in which two inputs differ.
type Difference struct {
	// Field is the top-level field's name; "" is the whole input.
	Field string
	// Recorded and Current are the two values as far as they are known,
	// "absent" for a field that isn't there, else "differs".
	Recorded, Current string
}

// Diff lists what differs between the witness that was recorded and that of
// today's call. It is empty if and only if [Equal] holds.
func Diff(recorded, current []byte) []Difference {
	if Equal(recorded, current) {
		return nil
	}
	return []Difference{{Recorded: "differs", Current: "differs"}}
}
