// Package witness makes a short record of a call's input, by which a replay
// can tell whether a call is the one that was recorded, and if not, which fields differ.
//
// Two JSON objects have equal witnesses if they differ only in what a deploy
// may change without meaning anything by it: the order of fields, and fields that
// are absent on one side and zero on the other. Zero is null, false, 0, "", [],
// an object with nothing but zeros in it, and the zero time. (So an entry of a map whose
// value is zero is as good as none.) That holds at every depth. Other data is
// compared by its bytes.
//
// # Form
//
// A witness begins with a byte that says what follows:
//
//	1     the input itself, of at most 64 bytes
//	2     digest of the bytes
//	3     digest of a JSON array
//	4     digest of a JSON object, and its fields
//	0x12  to 0x14: like 2 to 4, made with a key
//
// A digest is the first 16 bytes of a SHA-256, or of an HMAC with it. The fields are
// their number and for each the length of its name, its name, and 4 bytes of digest; with
// a key, 4 bytes of the name's digest stand for the name. Zero fields are left out. The number is
// 255 and nothing follows if there are more than 32 fields, or their names too long.
package witness

import "bytes"

const (
	wholeSize = 64  // an input of up to so many bytes is its own witness
	maxFields = 32  // are listed
	maxSize   = 512 // of a witness
)

// Of returns the witness of a call's encoded input. It has at most 512 bytes,
// and does not share memory with data.
func Of(data []byte) []byte {
	if len(data) <= wholeSize {
		return append(append(make([]byte, 0, 1+len(data)), kindWhole), data...)
	}
	return summarize(nil, data).append(nil)
}

// OfKeyed is [Of] for inputs that are kept encrypted: without the key, the
// witness tells nothing about data but the number of its fields. Witnesses that were
// made with different keys, or one without, are of different inputs.
func OfKeyed(key, data []byte) []byte {
	if key == nil {
		key = []byte{} // still a key
	}
	return summarize(key, data).append(nil)
}

// Whole returns the input that w is the witness of, if w holds all of it.
func Whole(w []byte) (data []byte, ok bool) {
	if len(w) == 0 || w[0] != kindWhole {
		return nil, false
	}
	return w[1:], true
}

// Keyed reports whether w was made by [OfKeyed].
func Keyed(w []byte) bool { return len(w) > 0 && w[0]&keyedBit != 0 }

// Equal reports whether two witnesses are of the same input, in the sense of
// this package.
func Equal(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, okX := parse(a)
	y, okY := parse(b)
	return okX && okY && x.same(y)
}

// Difference is one thing in which two inputs differ.
type Difference struct {
	// Field is the name of a top-level field; "" is the whole input.
	Field string `json:"field,omitempty"`
	// Recorded and Current are the two values, in JSON where they are known,
	// else "differs"; or "absent", of a field that isn't there or is zero.
	Recorded string `json:"recorded"`
	Current  string `json:"current"`
}

// Diff lists what differs between the witness that was recorded and that of
// today's call, fields in the order of their names. It is empty if and only if the
// two are [Equal].
func Diff(recorded, current []byte) []Difference {
	if Equal(recorded, current) {
		return nil
	}
	x, okX := parse(recorded)
	y, okY := parse(current)
	switch {
	case !okX || !okY:
		return []Difference{{Recorded: differs, Current: differs}}
	case x.keyed != y.keyed:
		return []Difference{{Recorded: madeWith(x.keyed), Current: madeWith(y.keyed)}}
	}
	return x.diff(y)
}

// DiffInput is [Diff] for who has today's input: key is nil or what
// [OfKeyed] takes. All of today's values are known then, and with a key the fields have their
// names, but no value is shown.
func DiffInput(recorded, key, data []byte) []Difference {
	x, ok := parse(recorded)
	current := summarize(key, data)
	switch {
	case !ok:
		return []Difference{{Recorded: differs, Current: differs}}
	case x.keyed != current.keyed:
		return []Difference{{Recorded: madeWith(x.keyed), Current: madeWith(current.keyed)}}
	case x.same(current):
		return nil
	}
	return x.diff(current)
}

const (
	differs = "differs"
	absent  = "absent"
)

func madeWith(key bool) string {
	if key {
		return "recorded with a key"
	}
	return "recorded without a key"
}
