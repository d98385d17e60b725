package witness

import (
	"bytes"
	"slices"

	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

// member is a field of an object, with its place in the canonical text.
type member struct {
	name              []byte
	start, value, end int
}

// canonicalize writes a JSON object or array in the form in which what means
// the same is the same, and returns the place of each top-level field. It reports
// false for what is not JSON.
func canonicalize(data []byte) (text []byte, top []member, ok bool) {
	c := canon{Scanner: jsonscan.New(data), out: make([]byte, 0, len(data))}
	var err error
	if data[0] == '{' {
		top, err = c.object()
	} else {
		err = c.array()
	}
	if err == nil {
		err = c.End()
	}
	return c.out, top, err == nil
}

type canon struct {
	jsonscan.Scanner
	out     []byte
	members []member // of the objects around the cursor, outermost first
}

func (c *canon) value() error {
	switch c.Peek() {
	case jsonscan.Object:
		_, err := c.object()
		return err
	case jsonscan.Array:
		return c.array()
	default:
		text, err := c.Skip()
		c.out = append(c.out, text...)
		return err
	}
}

func (c *canon) array() error {
	c.out = append(c.out, '[')
	err := c.Array(func(i int) error {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		return c.value()
	})
	c.out = append(c.out, ']')
	return err
}

// object writes an object with its fields in the order of their names and
// without those that are zero. It returns them; the next call changes them.
func (c *canon) object() ([]member, error) {
	sorted, begin, first := true, len(c.out)+1, len(c.members)
	c.out = append(c.out, '{')
	err := c.Object(func(text []byte) error {
		m := member{name: jsonscan.Name(text), start: len(c.out)}
		if m.start > begin {
			c.out = append(c.out, ',')
			m.start++
		}
		c.out = append(append(c.out, text...), ':')
		m.value = len(c.out)
		if err := c.value(); err != nil {
			return err
		}
		if m.end = len(c.out); zero(c.out[m.value:]) {
			c.out = c.out[:max(begin, m.start-1)]
			return nil
		}
		sorted = sorted && (len(c.members) == first || bytes.Compare(c.members[len(c.members)-1].name, m.name) <= 0)
		c.members = append(c.members, m)
		return nil
	})
	list := c.members[first:]
	c.members = c.members[:first]
	if !sorted && err == nil {
		c.sort(list, begin)
	}
	c.out = append(c.out, '}')
	return list, err
}

// sort puts the members, which begin at begin and are all that follows, in order.
func (c *canon) sort(list []member, begin int) {
	slices.SortStableFunc(list, func(a, b member) int { return bytes.Compare(a.name, b.name) })
	end := len(c.out)
	for i := range list {
		m := &list[i]
		if i > 0 {
			c.out = append(c.out, ',')
		}
		at := len(c.out) - end + begin
		c.out = append(c.out, c.out[m.start:m.end]...)
		m.start, m.value, m.end = at, at+m.value-m.start, at+m.end-m.start
	}
	c.out = c.out[:begin+copy(c.out[begin:], c.out[end:])]
}

// zero reports whether a canonical value is what Go's zero values are written as.
func zero(text []byte) bool {
	switch string(text) {
	case "null", "false", "0", `""`, "[]", "{}", `"0001-01-01T00:00:00Z"`:
		return true
	default:
		return false
	}
}
