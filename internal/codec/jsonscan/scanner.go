// Package jsonscan walks over JSON text without building values: a cursor that
// checks what it passes, for the packages that look at encoded data.
//
// It is stricter than encoding/json where that would change a value silently:
// invalid UTF-8 and halves of surrogate pairs are syntax errors.
package jsonscan

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may nest: as deep as encoding/json reads.
const MaxDepth = 10000

// Kind is the kind of a JSON value.
type Kind uint8

// The kinds. None is the end of the text, or a byte that no value starts with.
const (
	None Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"nothing", "null", "bool", "number", "string", "array", "object"}

// String returns the kind's name, as "number".
func (k Kind) String() string { return kindNames[k] }

// SyntaxError says where the text stops being JSON.
type SyntaxError struct {
	Offset int // of the byte at fault
	Reason string
}

func (e *SyntaxError) Error() string {
	return "invalid JSON at byte " + strconv.Itoa(e.Offset) + ": " + e.Reason
}

// Scanner is a cursor in JSON text. It stands before a value, or after the
// last one. After an error it is of no more use.
type Scanner struct {
	data  []byte
	pos   int
	depth int
}

// New returns a scanner that stands before the first value of data.
func New(data []byte) Scanner { return Scanner{data: data} }

// Valid reports whether data is one JSON value; the error is a *[SyntaxError].
func Valid(data []byte) error {
	s := New(data)
	if _, err := s.Skip(); err != nil {
		return err
	}
	return s.End()
}

// Peek returns the kind of the value that the scanner stands before.
func (s *Scanner) Peek() Kind {
	s.space()
	if s.pos == len(s.data) {
		return None
	}
	switch c := s.data[s.pos]; c {
	case 'n':
		return Null
	case 't', 'f':
		return Bool
	case '"':
		return String
	case '[':
		return Array
	case '{':
		return Object
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return Number
	default:
		return None
	}
}

// Skip passes one value and returns its text.
func (s *Scanner) Skip() ([]byte, error) {
	kind := s.Peek()
	start := s.pos
	var err error
	switch kind {
	case Null:
		err = s.word("null")
	case Bool:
		if s.data[s.pos] == 't' {
			err = s.word("true")
		} else {
			err = s.word("false")
		}
	case Number:
		err = s.number()
	case String:
		err = s.str()
	case Array:
		err = s.Array(func(int) error {
			_, err := s.Skip()
			return err
		})
	case Object:
		err = s.Object(func([]byte) error {
			_, err := s.Skip()
			return err
		})
	default:
		err = s.fault("want a value")
	}
	return s.data[start:s.pos], err
}

// Array passes an array, which the scanner must stand before. It calls
// element before each element; element must pass exactly that value.
func (s *Scanner) Array(element func(i int) error) error {
	if err := s.open(); err != nil {
		return err
	}
	if s.peekByte() == ']' {
		s.close()
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		switch s.peekByte() {
		case ',':
			s.pos++
		case ']':
			s.close()
			return nil
		default:
			return s.fault("want , or ] after an element")
		}
	}
}

// Object passes an object, which the scanner must stand before. It calls
// member before each value, with the text of its name, quotes included;
// member must pass exactly that value. Repeated names are not detected.
func (s *Scanner) Object(member func(name []byte) error) error {
	if err := s.open(); err != nil {
		return err
	}
	if s.peekByte() == '}' {
		s.close()
		return nil
	}
	for {
		if s.peekByte() != '"' {
			return s.fault("want a name in quotes")
		}
		start := s.pos
		if err := s.str(); err != nil {
			return err
		}
		name := s.data[start:s.pos]
		if s.peekByte() != ':' {
			return s.fault("want : after a name")
		}
		s.pos++
		if err := member(name); err != nil {
			return err
		}
		switch s.peekByte() {
		case ',':
			s.pos++
		case '}':
			s.close()
			return nil
		default:
			return s.fault("want , or } after a value")
		}
	}
}

// End reports an error if anything but space follows.
func (s *Scanner) End() error {
	s.space()
	if s.pos < len(s.data) {
		return s.fault("more than one value")
	}
	return nil
}

func (s *Scanner) fault(reason string) error {
	if s.pos >= len(s.data) {
		reason = "the text ends early"
	}
	return &SyntaxError{Offset: s.pos, Reason: reason}
}

func (s *Scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peekByte returns the next byte that is not space, or 0 at the end.
func (s *Scanner) peekByte() byte {
	s.space()
	if s.pos == len(s.data) {
		return 0
	}
	return s.data[s.pos]
}

func (s *Scanner) open() error {
	if s.depth == MaxDepth {
		return s.fault(fmt.Sprintf("nested deeper than %d levels", MaxDepth))
	}
	s.depth++
	s.pos++
	return nil
}

func (s *Scanner) close() {
	s.depth--
	s.pos++
}

func (s *Scanner) word(w string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(w)) {
		return s.fault("want " + w)
	}
	s.pos += len(w)
	return nil
}

func (s *Scanner) number() error {
	if s.data[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.data) && s.data[s.pos] == '0' {
		s.pos++
	} else if !s.digits() {
		return s.fault("want a digit")
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		s.pos++
		if !s.digits() {
			return s.fault("want a digit after the point")
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		if !s.digits() {
			return s.fault("want a digit in the exponent")
		}
	}
	return nil
}

func (s *Scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

func (s *Scanner) str() error {
	start := s.pos
	s.pos++
	ascii := true
	for {
		n, plain := plainPrefix(s.data[s.pos:])
		ascii = ascii && plain
		s.pos += n
		if s.pos >= len(s.data) {
			return s.fault("")
		}
		switch s.data[s.pos] {
		case '"':
			s.pos++
			if !ascii && !utf8.Valid(s.data[start:s.pos]) {
				s.pos = start
				return s.fault("a string that is not UTF-8")
			}
			return nil
		case '\\':
			if err := s.escape(); err != nil {
				return err
			}
		default:
			return s.fault("a control character in a string")
		}
	}
}

func (s *Scanner) escape() error {
	if s.pos+1 >= len(s.data) {
		s.pos = len(s.data)
		return s.fault("")
	}
	switch s.data[s.pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case 'u':
		r, n := unicodeEscape(s.data[s.pos:])
		if n == 0 {
			return s.fault("want four hex digits after \\u")
		}
		if r == utf8.RuneError && n == 6 && !bytes.EqualFold(s.data[s.pos+2:s.pos+6], []byte("fffd")) {
			return s.fault("half of a surrogate pair")
		}
		s.pos += n
		return nil
	default:
		return s.fault("unknown escape in a string")
	}
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plainPrefix returns how many bytes of b come before the first quote,
// backslash or control character, and whether they are all ASCII. It looks at
// eight bytes at a time: in each step the lowest marked byte is exact.
func plainPrefix(b []byte) (n int, ascii bool) {
	var seen uint64
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		quote := x ^ ones*'"'
		slash := x ^ ones*'\\'
		stop := ((quote-ones)&^quote | (slash-ones)&^slash | (x-ones*' ')&^x) & highs
		if stop != 0 {
			k := bits.TrailingZeros64(stop) / 8
			seen |= x & (1<<(8*k) - 1)
			return n + k, seen&highs == 0
		}
		seen |= x
	}
	for ; n < len(b); n++ {
		if c := b[n]; c < ' ' || c == '"' || c == '\\' {
			break
		}
		seen |= uint64(b[n])
	}
	return n, seen&highs == 0
}
