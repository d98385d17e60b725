package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"
)

// node is a schema made ready. What has a field here is checked by package
// schema itself, which can then name every fault; the rest by jsonschema-go.
type node struct {
	never bool // the schema false
	free  bool // the schema true
	types kinds
	ref   *node
	allOf []*node
	anyOf []*node
	oneOf []*node

	minimum, maximum, above, below *float64

	format               string
	base64               bool
	minLength, maxLength *int
	pattern              *regexp.Regexp

	enum []any // nil: everything

	items              *node
	minItems, maxItems *int

	properties map[string]*node
	required   []string
	index      map[string]int // into required
	additional *node
	names      *node

	rest *jsonschema.Resolved
}

// kinds is a set of the types of JSON Schema.
type kinds uint8

const (
	nullType kinds = 1 << iota
	booleanType
	integerType
	numberType
	stringType
	arrayType
	objectType
)

var typeNames = []struct {
	name  string
	kind  kinds
	words string
}{
	{"boolean", booleanType, "true or false"},
	{"integer", integerType, "a whole number"},
	{"number", numberType, "a number"},
	{"string", stringType, "text"},
	{"array", arrayType, "a list"},
	{"object", objectType, "an object"},
	{"null", nullType, "null"},
}

// cache keeps compiled schemas, at most two generations of them: what is used
// in a generation lives on into the next.
type cache struct {
	mu       sync.Mutex
	new, old map[string]*node
}

const generation = 128

var schemas cache

func (c *cache) get(schema []byte) (*node, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.new[string(schema)]; ok {
		return n, true
	}
	n, ok := c.old[string(schema)]
	if ok {
		c.add(string(schema), n)
	}
	return n, ok
}

func (c *cache) put(schema []byte, n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(string(schema), n)
}

func (c *cache) add(schema string, n *node) {
	if c.new == nil || len(c.new) >= generation {
		c.old, c.new = c.new, make(map[string]*node, generation)
	}
	c.new[schema] = n
}

func compiled(schema []byte) (*node, error) {
	if n, ok := schemas.get(schema); ok {
		return n, nil
	}
	n, err := compile(schema)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	schemas.put(schema, n)
	return n, nil
}

// parse reads a schema.
func parse(data []byte) (*jsonschema.Schema, error) {
	if e := wellFormed(data); e != nil {
		return nil, e
	}
	s := new(jsonschema.Schema)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, err
	}
	return s, nil
}

func compile(data []byte) (*node, error) {
	if len(data) == 0 {
		return &node{free: true}, nil
	}
	s, err := parse(data)
	if err != nil {
		return nil, err
	}
	c := compiler{root: s, nodes: map[*jsonschema.Schema]*node{}}
	each(s, func(s *jsonschema.Schema) {
		if err == nil {
			err = c.supported(s)
		}
	})
	if err == nil {
		err = c.grounded(s)
	}
	if err != nil {
		return nil, err
	}
	return c.node(s)
}

type compiler struct {
	root  *jsonschema.Schema
	nodes map[*jsonschema.Schema]*node
}

// supported refuses what would make the meaning of a schema depend on more than itself.
func (c *compiler) supported(s *jsonschema.Schema) error {
	switch {
	case s.ID != "" && s != c.root, s.Anchor != "", s.DynamicAnchor != "", s.DynamicRef != "":
		return fmt.Errorf("$id, $anchor and $dynamicRef are not supported within a schema")
	case strings.Contains(s.Schema, "draft-0"):
		return fmt.Errorf("%s is not supported; use https://json-schema.org/draft/2020-12/schema", s.Schema)
	case s.Ref != "" && c.target(s.Ref) == nil:
		return fmt.Errorf("$ref %q leads nowhere; only #/$defs/name and #/definitions/name are supported", s.Ref)
	}
	return nil
}

// target returns what a reference leads to, or nil.
func (c *compiler) target(ref string) *jsonschema.Schema {
	if name, ok := strings.CutPrefix(ref, "#/$defs/"); ok {
		return c.root.Defs[name]
	}
	if name, ok := strings.CutPrefix(ref, "#/definitions/"); ok {
		return c.root.Definitions[name]
	}
	return nil
}

// grounded refuses a schema that applies itself to the same value again, which
// would never end.
func (c *compiler) grounded(s *jsonschema.Schema) error {
	const pending, done = 1, 2
	state := map[*jsonschema.Schema]int{}
	var visit func(s *jsonschema.Schema) error
	visit = func(s *jsonschema.Schema) error {
		if s == nil || state[s] == done {
			return nil
		}
		if state[s] == pending {
			return fmt.Errorf("a $ref leads back to itself before any property or item")
		}
		state[s] = pending
		same := slices.Concat(s.AllOf, s.AnyOf, s.OneOf, []*jsonschema.Schema{s.Not, s.If, s.Then, s.Else, c.target(s.Ref)},
			slices.Collect(maps.Values(s.DependentSchemas)), slices.Collect(maps.Values(s.DependencySchemas)))
		for _, next := range same {
			if err := visit(next); err != nil {
				return err
			}
		}
		state[s] = done
		return nil
	}
	var err error
	each(s, func(s *jsonschema.Schema) {
		if err == nil {
			err = visit(s)
		}
	})
	return err
}

// each calls f for s and all schemas in it.
func each(s *jsonschema.Schema, f func(*jsonschema.Schema)) {
	if s == nil {
		return
	}
	f(s)
	v := reflect.ValueOf(s).Elem()
	for _, field := range v.Fields() {
		switch x := field.Interface().(type) {
		case *jsonschema.Schema:
			each(x, f)
		case []*jsonschema.Schema:
			for _, sub := range x {
				each(sub, f)
			}
		case map[string]*jsonschema.Schema:
			for _, k := range slices.Sorted(maps.Keys(x)) {
				each(x[k], f)
			}
		}
	}
}

// node compiles s once; a schema that refers to itself gets the node that is being made.
func (c *compiler) node(s *jsonschema.Schema) (*node, error) {
	if s == nil {
		return nil, nil
	}
	if n, ok := c.nodes[s]; ok {
		return n, nil
	}
	n := new(node)
	c.nodes[s] = n
	if s.Not != nil && accepts(s.Not) {
		n.never = true
		return n, nil
	}
	rest := *s
	if s.PatternProperties == nil && s.UnevaluatedProperties == nil && s.UnevaluatedItems == nil && s.PrefixItems == nil {
		if err := c.own(n, s, &rest); err != nil {
			return nil, err
		}
	}
	for _, remark := range []*string{&rest.Title, &rest.Description, &rest.Comment, &rest.Schema, &rest.ID, &rest.ContentMediaType, &rest.Format, &rest.ContentEncoding} {
		*remark = ""
	}
	rest.Default, rest.Examples, rest.Extra, rest.Vocabulary, rest.ContentSchema = nil, nil, nil, nil, nil
	rest.Deprecated, rest.ReadOnly, rest.WriteOnly = false, false, false
	rest.Defs, rest.Definitions, rest.PropertyOrder = nil, nil, nil
	if accepts(&rest) {
		n.free = reflect.ValueOf(*n).IsZero()
		return n, nil
	}
	alone := rest.CloneSchemas()
	alone.Defs, alone.Definitions = c.root.CloneSchemas().Defs, c.root.CloneSchemas().Definitions
	each(alone, func(s *jsonschema.Schema) { s.Default = nil })
	var err error
	n.rest, err = alone.Resolve(nil)
	return n, err
}

// own moves to n, from rest, what is checked here.
func (c *compiler) own(n *node, s, rest *jsonschema.Schema) error {
	for _, name := range append(slices.Clone(s.Types), s.Type) {
		for _, t := range typeNames {
			if t.name == name {
				n.types |= t.kind
			}
		}
		if name != "" && n.types == 0 {
			return fmt.Errorf("unknown type %q", name)
		}
	}
	n.minimum, n.maximum, n.above, n.below = s.Minimum, s.Maximum, s.ExclusiveMinimum, s.ExclusiveMaximum
	n.minLength, n.maxLength, n.minItems, n.maxItems = s.MinLength, s.MaxLength, s.MinItems, s.MaxItems
	n.format, n.base64, n.required = s.Format, s.ContentEncoding == "base64", s.Required
	n.enum = s.Enum
	if len(s.Required) > 0 {
		n.index = make(map[string]int, len(s.Required))
	}
	for i, name := range s.Required {
		n.index[name] = i
	}
	if s.Const != nil {
		if n.enum != nil {
			return fmt.Errorf("const beside enum is not supported")
		}
		n.enum = []any{*s.Const}
	}
	if s.Pattern != "" {
		var err error
		if n.pattern, err = regexp.Compile(s.Pattern); err != nil {
			return err
		}
	}
	var err error
	sub := func(s *jsonschema.Schema) (n *node) {
		if err == nil {
			n, err = c.node(s)
		}
		return n
	}
	subs := func(list []*jsonschema.Schema) (nodes []*node) {
		for _, s := range list {
			nodes = append(nodes, sub(s))
		}
		return nodes
	}
	n.ref = sub(c.target(s.Ref))
	n.allOf, n.anyOf, n.oneOf = subs(s.AllOf), subs(s.AnyOf), subs(s.OneOf)
	n.items, n.additional, n.names = sub(s.Items), sub(s.AdditionalProperties), sub(s.PropertyNames)
	if s.Properties != nil {
		n.properties = make(map[string]*node, len(s.Properties))
		for name, p := range s.Properties {
			n.properties[name] = sub(p)
		}
	}
	rest.Type, rest.Types, rest.Enum, rest.Const, rest.Pattern, rest.Required, rest.Ref = "", nil, nil, nil, "", nil, ""
	rest.Minimum, rest.Maximum, rest.ExclusiveMinimum, rest.ExclusiveMaximum = nil, nil, nil, nil
	rest.MinLength, rest.MaxLength, rest.MinItems, rest.MaxItems = nil, nil, nil, nil
	rest.AllOf, rest.AnyOf, rest.OneOf = nil, nil, nil
	rest.Items, rest.Properties, rest.AdditionalProperties, rest.PropertyNames = nil, nil, nil, nil
	return err
}
