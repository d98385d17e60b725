package schema

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

const maxFaults = 100

// checker walks over a well-formed value and collects what is wrong.
type checker struct {
	path []step
	errs []FieldError
	more bool
}

func (c *checker) check(n *node, value []byte) {
	s := jsonscan.New(value)
	c.value(n, &s)
}

func (c *checker) fault(format string, args ...any) {
	c.add(FieldError{pointer(c.path), fmt.Sprintf(format, args...)})
}

// add keeps a fault once, though several parts of a schema may find it.
func (c *checker) add(e FieldError) {
	switch {
	case slices.Contains(c.errs, e):
	case len(c.errs) == maxFaults:
		c.more = true
	default:
		c.errs = append(c.errs, e)
	}
}

// at checks a part of the value.
func (c *checker) at(part step, check func()) {
	c.path = append(c.path, part)
	check()
	c.path = c.path[:len(c.path)-1]
}

// pass passes a value that is known to be well-formed.
func pass(s *jsonscan.Scanner) []byte {
	text, _ := s.Skip()
	return text
}

// value passes the value that s stands before, and checks it. A schema with
// several parts looks at the value once for each, from copies of s.
func (c *checker) value(n *node, s *jsonscan.Scanner) {
	switch {
	case c.more:
		pass(s)
		return
	case n.never:
		c.fault("is not allowed")
		pass(s)
		return
	case n.free:
		c.anything(s)
		return
	}
	kind := s.Peek()
	if n.types != 0 && !n.types.allow(kind) {
		c.fault("must be %s, not %s", n.types, article(kind))
		pass(s)
		return
	}
	if n.ref != nil {
		again := *s
		c.value(n.ref, &again)
	}
	for _, part := range n.allOf {
		again := *s
		c.value(part, &again)
	}
	if n.anyOf != nil {
		c.alternatives(n.anyOf, *s, kind, len(n.anyOf))
	}
	if n.oneOf != nil {
		c.alternatives(n.oneOf, *s, kind, 1)
	}
	if n.enum != nil || n.rest != nil {
		again := *s
		c.whole(n, pass(&again))
	}
	switch kind {
	case jsonscan.Number:
		c.number(n, pass(s))
	case jsonscan.String:
		c.text(n, pass(s))
	case jsonscan.Array:
		c.list(n, s)
	case jsonscan.Object:
		c.object(n, s)
	default:
		pass(s)
	}
}

func (k kinds) allow(kind jsonscan.Kind) bool {
	switch kind {
	case jsonscan.Null:
		return k&nullType != 0
	case jsonscan.Bool:
		return k&booleanType != 0
	case jsonscan.Number:
		return k&(integerType|numberType) != 0
	case jsonscan.String:
		return k&stringType != 0
	case jsonscan.Array:
		return k&arrayType != 0
	default:
		return k&objectType != 0
	}
}

// String returns the kinds in words, as "a number or null".
func (k kinds) String() string {
	var words []string
	for _, t := range typeNames {
		if k&t.kind != 0 {
			words = append(words, t.words)
		}
	}
	return strings.Join(words, " or ")
}

func article(k jsonscan.Kind) string {
	switch k {
	case jsonscan.Null:
		return "null"
	case jsonscan.Bool:
		return "true or false"
	case jsonscan.Number:
		return "a number"
	case jsonscan.String:
		return "text"
	case jsonscan.Array:
		return "a list"
	default:
		return "an object"
	}
}

// anything passes a value of which nothing is known but that its numbers will
// be held as float64.
func (c *checker) anything(s *jsonscan.Scanner) {
	switch s.Peek() {
	case jsonscan.Number:
		c.loose(pass(s))
	case jsonscan.Array:
		_ = s.Array(func(i int) error {
			c.at(step{index: i}, func() { c.anything(s) })
			return nil
		})
	case jsonscan.Object:
		_ = s.Object(func(name []byte) error {
			c.at(step{name: name}, func() { c.anything(s) })
			return nil
		})
	default:
		pass(s)
	}
}

func (c *checker) text(n *node, text []byte) {
	switch n.format {
	case "date-time":
		// As it is written: time.Time doesn't read escapes. And it reads offsets that it doesn't write.
		var t time.Time
		err := t.UnmarshalJSON(text)
		if err == nil {
			_, err = t.MarshalJSON()
		}
		if err != nil {
			c.fault("must be a date and time such as 2006-01-02T15:04:05Z")
		}
	case "":
	default:
		if reason := outOfRange(n.format, jsonscan.Unquote(text)); reason != "" {
			c.fault("%s, as text", reason)
		}
	}
	if n.base64 {
		if _, err := base64.StdEncoding.DecodeString(jsonscan.Unquote(text)); err != nil {
			c.fault("must be base64")
		}
	}
	if n.minLength == nil && n.maxLength == nil && n.pattern == nil {
		return
	}
	s := jsonscan.Unquote(text)
	length := utf8.RuneCountInString(s)
	switch {
	case n.minLength != nil && length < *n.minLength && length == 0:
		c.fault("must not be empty")
	case n.minLength != nil && length < *n.minLength:
		c.fault("must have at least %s", count(*n.minLength, "character"))
	case n.maxLength != nil && length > *n.maxLength:
		c.fault("must have at most %s", count(*n.maxLength, "character"))
	case n.pattern != nil && !n.pattern.MatchString(s):
		c.fault("must match the pattern %s", n.pattern)
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func (c *checker) list(n *node, s *jsonscan.Scanner) {
	length := 0
	_ = s.Array(func(i int) error {
		length++
		if n.items == nil {
			pass(s)
		} else {
			c.at(step{index: i}, func() { c.value(n.items, s) })
		}
		return nil
	})
	switch {
	case n.minItems != nil && n.maxItems != nil && *n.minItems == *n.maxItems && length != *n.minItems:
		c.fault("must have %s, not %d", count(*n.minItems, "element"), length)
	case n.minItems != nil && length < *n.minItems:
		c.fault("must have at least %s", count(*n.minItems, "element"))
	case n.maxItems != nil && length > *n.maxItems:
		c.fault("must have at most %s", count(*n.maxItems, "element"))
	}
}

func (c *checker) object(n *node, s *jsonscan.Scanner) {
	there := make([]bool, len(n.required))
	_ = s.Object(func(text []byte) error {
		name := jsonscan.Name(text)
		if i, ok := n.index[string(name)]; ok {
			there[i] = true
		}
		c.at(step{name: text}, func() { c.member(n, name, text, s) })
		return nil
	})
	for i, name := range n.required {
		if !there[i] {
			c.at(step{known: name}, func() { c.fault("is missing") })
		}
	}
}

// member checks a member. name is what text stands for.
func (c *checker) member(n *node, name, text []byte, s *jsonscan.Scanner) {
	if n.names != nil {
		before := len(c.errs)
		again := jsonscan.New(text)
		c.value(n.names, &again)
		for i := range c.errs[before:] {
			c.errs[before+i].Message = "the name " + c.errs[before+i].Message
		}
	}
	p, ok := n.properties[string(name)]
	switch {
	case ok:
		c.value(p, s)
	case n.additional == nil:
		pass(s)
	case n.additional.never:
		pass(s)
		for _, known := range slices.Sorted(maps.Keys(n.properties)) {
			if strings.EqualFold(known, string(name)) {
				c.fault("is not known; did you mean %q?", known)
				return
			}
		}
		c.fault("is not known")
	default:
		c.value(n.additional, s)
	}
}

// alternatives checks that the value fits at least one of the nodes, and at
// most so many.
func (c *checker) alternatives(nodes []*node, s jsonscan.Scanner, kind jsonscan.Kind, most int) {
	var near [][]FieldError // of the alternatives for this kind of value
	fitting := 0
	for _, n := range nodes {
		again := s
		one := checker{path: slices.Clone(c.path)}
		one.value(n, &again)
		if len(one.errs) == 0 {
			fitting++
		}
		if n.deepTypes().allow(kind) {
			near = append(near, one.errs)
		}
	}
	switch {
	case fitting > most:
		c.fault("fits %d alternatives, and must fit only %d", fitting, most)
	case fitting > 0:
	case len(near) == 1:
		for _, e := range near[0] {
			c.add(e)
		}
	default:
		var types kinds
		for _, n := range nodes {
			types |= n.deepTypes()
		}
		if !types.allow(kind) {
			c.fault("must be %s, not %s", types, article(kind))
		} else {
			c.fault("fits none of %d alternatives", len(nodes))
		}
	}
}

// deepTypes returns the types that a value must have, also those that n has by reference.
func (n *node) deepTypes() kinds {
	types := n.types
	if types == 0 {
		types = ^kinds(0)
	}
	if n.ref != nil {
		types &= n.ref.deepTypes()
	}
	for _, part := range n.allOf {
		types &= part.deepTypes()
	}
	return types
}

// whole checks what needs the value itself.
func (c *checker) whole(n *node, text []byte) {
	v := instance(text)
	if n.enum != nil && !slices.ContainsFunc(n.enum, func(e any) bool { return jsonschema.Equal(e, v) }) {
		options := make([]string, len(n.enum))
		for i, e := range n.enum {
			data, _ := json.Marshal(e)
			options[i] = string(data)
		}
		c.fault("must be %s", cut("one of "+strings.Join(options, ", ")))
		return
	}
	if n.rest != nil {
		if err := n.rest.Validate(v); err != nil {
			c.fault("%s", cut(err.Error()))
		}
	}
}

// cut keeps a text short: jsonschema-go puts the whole value in it.
func cut(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// instance returns a value as jsonschema-go takes it, with whole numbers exact
// as far as Go has them.
func instance(text []byte) any {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err // fits nothing
	}
	return exact(v)
}

func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = exact(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = exact(v[k])
		}
	}
	return v
}
