package witness

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The first byte of a witness.
const (
	kindWhole  = 1
	kindBytes  = 2
	kindArray  = 3
	kindObject = 4
	keyedBit   = 0x10
)

const (
	digestSize = 16
	shortSize  = 4
	unlisted   = 255
)

// summary is what is known of an input: of a witness, or of the input itself.
type summary struct {
	kind   byte
	keyed  bool
	digest [digestSize]byte
	listed bool
	fields []field // by id
	text   []byte  // the input, if it is known and may be shown
}

type field struct {
	id    []byte // its name, or the digest of it
	name  []byte // if known
	short [shortSize]byte
	value []byte // in JSON, if it is known and may be shown
}

// summarize looks at an input. key is nil for none.
func summarize(key, data []byte) *summary {
	s := &summary{kind: kindBytes, keyed: key != nil}
	h := hasher{Hash: sha256.New()}
	if s.keyed {
		h.Hash = hmac.New(sha256.New, key)
	} else {
		s.text = data
	}
	var members []member
	canonical := data
	if len(data) > 0 && (data[0] == '{' || data[0] == '[') {
		if text, top, ok := canonicalize(data); ok {
			canonical, members = text, top
			s.kind = kindArray
			if data[0] == '{' {
				s.kind = kindObject
			}
		}
	}
	if s.kind != kindObject {
		s.digest = [digestSize]byte(h.sum(s.kind, canonical))
		return s
	}
	s.listed = len(members) <= maxFields
	size := 1 + digestSize + 1
	var all []byte
	if s.listed {
		s.fields = make([]field, 0, len(members))
	}
	for _, m := range members {
		sum := h.sum('v', canonical[m.value:m.end])
		all = strconv.AppendInt(all, int64(len(m.name)), 10)
		all = append(append(append(all, ':'), m.name...), sum...)
		if !s.listed {
			continue
		}
		f := field{id: m.name, name: m.name, short: [shortSize]byte(sum)}
		if s.keyed {
			f.id = bytes.Clone(h.sum('n', m.name)[:shortSize])
		} else {
			f.value = canonical[m.value:m.end]
		}
		size += 1 + len(f.id) + shortSize
		s.fields = append(s.fields, f)
		s.listed = size <= maxSize && len(f.id) < unlisted
	}
	if !s.listed {
		s.fields = nil
	}
	slices.SortFunc(s.fields, func(a, b field) int { return bytes.Compare(a.id, b.id) })
	s.digest = [digestSize]byte(h.sum(s.kind, all))
	return s
}

// hasher keeps what is hashed for one purpose apart from the others.
type hasher struct {
	hash.Hash
	buf []byte
}

// sum returns the digest of data; it is valid until the next call.
func (h *hasher) sum(purpose byte, data []byte) []byte {
	h.Reset()
	h.buf = append(h.buf[:0], purpose)
	h.Write(h.buf)
	h.Write(data)
	h.buf = h.Sum(h.buf[:0])
	return h.buf
}

// append appends the witness to w.
func (s *summary) append(w []byte) []byte {
	kind := s.kind
	if s.keyed {
		kind |= keyedBit
	}
	w = append(append(w, kind), s.digest[:]...)
	if s.kind != kindObject {
		return w
	}
	if !s.listed {
		return append(w, unlisted)
	}
	w = append(w, byte(len(s.fields)))
	for _, f := range s.fields {
		if !s.keyed {
			w = append(w, byte(len(f.id)))
		}
		w = append(append(w, f.id...), f.short[:]...)
	}
	return w
}

// parse reads a witness. It reports false for what is none.
func parse(w []byte) (*summary, bool) {
	if len(w) == 0 {
		return nil, false
	}
	if w[0] == kindWhole {
		return summarize(nil, w[1:]), true
	}
	s := &summary{kind: w[0] &^ keyedBit, keyed: w[0]&keyedBit != 0}
	w = w[1:]
	if s.kind < kindBytes || s.kind > kindObject || len(w) < digestSize {
		return nil, false
	}
	s.digest = [digestSize]byte(w)
	w = w[digestSize:]
	if s.kind != kindObject {
		return s, len(w) == 0
	}
	if len(w) == 0 {
		return nil, false
	}
	n := int(w[0])
	w = w[1:]
	s.listed = n != unlisted
	for range n {
		if !s.listed {
			break
		}
		size := shortSize
		if !s.keyed {
			if len(w) == 0 {
				return nil, false
			}
			size, w = int(w[0]), w[1:]
		}
		if len(w) < size+shortSize {
			return nil, false
		}
		f := field{id: w[:size], short: [shortSize]byte(w[size:])}
		if !s.keyed {
			f.name = f.id
		}
		s.fields = append(s.fields, f)
		w = w[size+shortSize:]
	}
	return s, len(w) == 0
}

func (s *summary) same(o *summary) bool {
	return s.kind == o.kind && s.keyed == o.keyed && s.digest == o.digest
}

// diff names the differences of two summaries that are not the same.
func (s *summary) diff(o *summary) []Difference {
	var d []Difference
	if s.listed && o.listed {
		x, y := s.fields, o.fields
		for len(x) > 0 || len(y) > 0 {
			order := -1 // which of the two has the next field
			switch {
			case len(x) == 0:
				order = 1
			case len(y) > 0:
				order = bytes.Compare(x[0].id, y[0].id)
			}
			switch {
			case order < 0:
				d = append(d, Difference{x[0].shown(), show(x[0].value), absent})
				x = x[1:]
			case order > 0:
				d = append(d, Difference{y[0].shown(), absent, show(y[0].value)})
				y = y[1:]
			default:
				if x[0].short != y[0].short {
					name := x[0]
					if name.name == nil {
						name = y[0]
					}
					d = append(d, Difference{name.shown(), show(x[0].value), show(y[0].value)})
				}
				x, y = x[1:], y[1:]
			}
		}
	}
	if len(d) == 0 {
		d = []Difference{{"", show(s.text), show(o.text)}}
	}
	return d
}

// shown is the field's name, or what distinguishes it where only a digest of the name is known.
func (f *field) shown() string {
	if f.name == nil {
		return "#" + hex.EncodeToString(f.id)
	}
	return string(f.name)
}

// show returns a value for people; nil is not known.
func show(value []byte) string {
	switch {
	case value == nil:
		return differs
	case !utf8.Valid(value) || bytes.ContainsFunc(value, func(r rune) bool { return r < ' ' }):
		return show(strconv.AppendQuote(nil, string(value)))
	case len(value) > wholeSize:
		return strings.ToValidUTF8(string(value[:wholeSize]), "") + "…"
	default:
		return string(value)
	}
}
