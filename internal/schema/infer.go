package schema

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/fermata-go/fermata/internal/codec/jsonfield"
)

// inference is not that of jsonschema-go: that one has no recursive types,
// takes []byte for a list, knows no range of int64, and leaves time.Time without a
// format, so that what its schemas accept can't always be read.
type inference struct {
	uses  map[reflect.Type]int
	names map[reflect.Type]string // of the types that are in $defs
	taken map[string]bool
	defs  map[string]*jsonschema.Schema
}

func infer(t reflect.Type) (*jsonschema.Schema, error) {
	in := inference{
		uses: map[reflect.Type]int{}, names: map[reflect.Type]string{},
		taken: map[string]bool{}, defs: map[string]*jsonschema.Schema{},
	}
	in.count(t)
	s, err := in.schema(t)
	if err != nil {
		return nil, err
	}
	if len(in.defs) > 0 {
		if s.Ref == "" {
			s.Defs = in.defs
		} else {
			s = &jsonschema.Schema{Ref: s.Ref, Defs: in.defs}
		}
	}
	return s, nil
}

// count counts how often each named type of the package is used: what is used
// more than once, as a recursive type is, gets a definition.
func (in *inference) count(t reflect.Type) {
	if t.PkgPath() != "" {
		if in.uses[t]++; in.uses[t] > 1 {
			return
		}
	}
	if known(t) != nil || reads(t) {
		return
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		in.count(t.Elem())
	case reflect.Struct:
		fields, _ := jsonfield.Of(t) // schema reports the error
		for _, f := range fields {
			in.count(f.Type)
		}
	}
}

// reads reports whether t has a form of its own.
func reads(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return false
	}
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// known returns the schema of a type with a form of its own that is known here.
func known(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[time.Time]():
		return &jsonschema.Schema{Type: "string", Format: "date-time"}
	case reflect.TypeFor[big.Int]():
		return &jsonschema.Schema{Type: "integer"}
	case reflect.TypeFor[json.Number]():
		return &jsonschema.Schema{Type: "number"}
	case reflect.TypeFor[json.RawMessage]():
		return &jsonschema.Schema{}
	default:
		return nil
	}
}

// fieldError is an error with the path to the field, to which each level adds.
type fieldError struct {
	path string
	err  error
}

func (e *fieldError) Error() string {
	if e.path == "" {
		return ": " + e.err.Error()
	}
	return " at " + e.path + ": " + e.err.Error()
}

func (e *fieldError) Unwrap() error { return e.err }

func refuse(format string, args ...any) error {
	return &fieldError{err: fmt.Errorf(format, args...)}
}

func within(step string, err error) error {
	if f, ok := errors.AsType[*fieldError](err); ok {
		return &fieldError{"/" + step + f.path, f.err}
	}
	return err
}

func (in *inference) schema(t reflect.Type) (*jsonschema.Schema, error) {
	seen := map[reflect.Type]bool{}
	target := t
	for target.Kind() == reflect.Pointer {
		if seen[target] {
			return nil, refuse("%s is a pointer to itself", t)
		}
		seen[target] = true
		target = target.Elem()
	}
	s, err := in.named(target)
	if err != nil || target == t {
		return s, err
	}
	return nullable(s), nil
}

// nullable returns a schema that accepts what s does, and null.
func nullable(s *jsonschema.Schema) *jsonschema.Schema {
	switch {
	case accepts(s):
		return s
	case len(s.Types) == 2 && s.Types[1] == "null":
		return s
	case s.Type != "" && s.Enum == nil && s.Const == nil && s.AllOf == nil && s.AnyOf == nil && s.OneOf == nil && s.Not == nil && s.If == nil:
		s.Types, s.Type = []string{s.Type, "null"}, ""
		return s
	default:
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, {Type: "null"}}}
	}
}

// accepts reports whether s is the schema that accepts everything.
func accepts(s *jsonschema.Schema) bool { return reflect.ValueOf(*s).IsZero() }

// named returns the schema of t, or the reference to it.
func (in *inference) named(t reflect.Type) (*jsonschema.Schema, error) {
	if in.uses[t] < 2 || t.Kind() != reflect.Struct && t.Kind() != reflect.Map && t.Kind() != reflect.Slice && t.Kind() != reflect.Array || known(t) != nil {
		return in.described(t)
	}
	name, ok := in.names[t]
	if !ok {
		name = in.name(t)
		in.names[t] = name
		s, err := in.described(t)
		if err != nil {
			return nil, err
		}
		in.defs[name] = s
	}
	return &jsonschema.Schema{Ref: "#/$defs/" + name}, nil
}

// name returns a name for t that is safe in a reference, and not yet taken.
func (in *inference) name(t reflect.Type) string {
	base := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		default:
			return '_'
		}
	}, t.Name())
	name := base
	for n := 2; in.taken[name]; n++ {
		name = base + "_" + strconv.Itoa(n)
	}
	in.taken[name] = true
	return name
}

// describer is what a type implements to say, or to narrow, what it accepts.
type describer interface{ JSONSchema() []byte }

// described joins what the type is with what it says of itself.
func (in *inference) described(t reflect.Type) (*jsonschema.Schema, error) {
	var own *jsonschema.Schema
	if t.Kind() != reflect.Interface {
		if d, ok := reflect.TypeAssert[describer](reflect.New(t)); ok {
			var err error
			if own, err = parse(d.JSONSchema()); err != nil {
				return nil, refuse("JSONSchema of %s: %w", t, err)
			}
			if refers(own) {
				return nil, refuse("JSONSchema of %s: $ref, $defs and $id can't be used in a schema that becomes part of another", t)
			}
		}
	}
	if own != nil && reads(t) {
		return own, nil
	}
	s, err := in.plain(t)
	if err != nil || own == nil {
		return s, err
	}
	if accepts(s) {
		return own, nil
	}
	return &jsonschema.Schema{AllOf: []*jsonschema.Schema{s, own}}, nil
}

// refers reports whether s depends on where it stands in a document.
func refers(s *jsonschema.Schema) bool {
	found := false
	each(s, func(s *jsonschema.Schema) {
		found = found || s.Ref != "" || s.ID != "" || s.Defs != nil || s.Definitions != nil
	})
	return found
}

func (in *inference) plain(t reflect.Type) (*jsonschema.Schema, error) {
	if s := known(t); s != nil {
		return s, nil
	}
	if reads(t) {
		return nil, refuse("%s reads JSON in its own way, so nothing says what it accepts; give it a method JSONSchema() []byte", t)
	}
	switch t.Kind() {
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}, nil
	case reflect.String:
		return &jsonschema.Schema{Type: "string"}, nil
	case reflect.Float32:
		return &jsonschema.Schema{Type: "number", Format: "float"}, nil
	case reflect.Float64:
		return &jsonschema.Schema{Type: "number"}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return signed(t.Bits()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return unsigned(t.Bits()), nil
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return nil, refuse("nothing says which type to make for the interface %s; use a concrete type, or any", t)
		}
		return &jsonschema.Schema{}, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 && !reads(t.Elem()) {
			return &jsonschema.Schema{Types: []string{"string", "null"}, ContentEncoding: "base64"}, nil
		}
		return in.list(t, []string{"array", "null"})
	case reflect.Array:
		s, err := in.list(t, nil)
		if err == nil {
			s.Type, s.MinItems, s.MaxItems = "array", new(t.Len()), new(t.Len())
		}
		return s, err
	case reflect.Map:
		return in.object(t)
	case reflect.Struct:
		return in.structure(t)
	default:
		return nil, refuse("a %s can't be read from JSON", t.Kind())
	}
}

func signed(bits int) *jsonschema.Schema {
	if bits == 64 { // whose bounds are no float64, as a schema has them
		return &jsonschema.Schema{Type: "integer", Format: "int64"}
	}
	limit := math.Ldexp(1, bits-1)
	return &jsonschema.Schema{Type: "integer", Minimum: new(-limit), Maximum: new(limit - 1)}
}

func unsigned(bits int) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "integer", Minimum: new(0.0)}
	if bits == 64 {
		s.Format = "uint64"
	} else {
		s.Maximum = new(math.Ldexp(1, bits) - 1)
	}
	return s
}

func (in *inference) list(t reflect.Type, types []string) (*jsonschema.Schema, error) {
	items, err := in.schema(t.Elem())
	if err != nil {
		return nil, within("*", err)
	}
	return &jsonschema.Schema{Types: types, Items: items}, nil
}

func (in *inference) object(t reflect.Type) (*jsonschema.Schema, error) {
	k := t.Key()
	s := &jsonschema.Schema{Types: []string{"object", "null"}}
	switch {
	case reads(k) || k.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return nil, refuse("keys of type %s are read in their own way; use strings or integers", k)
	case k.Kind() == reflect.String:
	case integer(k):
		s.PropertyNames = &jsonschema.Schema{Format: k.Kind().String()}
		if k.Kind() == reflect.Int || k.Kind() == reflect.Uint || k.Kind() == reflect.Uintptr {
			s.PropertyNames.Format = strings.TrimSuffix(k.Kind().String(), "ptr") + strconv.Itoa(k.Bits())
		}
	default:
		return nil, refuse("keys of type %s can't be read from JSON", k)
	}
	var err error
	s.AdditionalProperties, err = in.schema(t.Elem())
	if err != nil {
		return nil, within("*", err)
	}
	return s, nil
}

func integer(t reflect.Type) bool { return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uintptr }

func (in *inference) structure(t reflect.Type) (*jsonschema.Schema, error) {
	fields, err := jsonfield.Of(t)
	if err != nil {
		return nil, &fieldError{err: err}
	}
	s := &jsonschema.Schema{
		Type: "object", Properties: make(map[string]*jsonschema.Schema, len(fields)),
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
	}
	for _, f := range fields {
		var fs *jsonschema.Schema
		if f.Quoted {
			fs, err = quoted(f.Type)
		} else {
			fs, err = in.schema(f.Type)
		}
		if err != nil {
			return nil, within(f.Name, err)
		}
		if text := f.Tag.Get("jsonschema"); text != "" {
			fs.Description = text
		}
		s.Properties[f.Name] = fs
		s.PropertyOrder = append(s.PropertyOrder, f.Name)
		if !f.OmitEmpty && !f.OmitZero && !f.Behind {
			s.Required = append(s.Required, f.Name)
		}
	}
	return s, nil
}

// quoted is the schema of a field with the option string.
func quoted(t reflect.Type) (*jsonschema.Schema, error) {
	pointer := t.Kind() == reflect.Pointer
	if pointer {
		t = t.Elem()
	}
	if !integer(t) || reads(t) {
		return nil, refuse("the option string can only be described for integers; drop it")
	}
	s := &jsonschema.Schema{Type: "string", Format: "int" + strconv.Itoa(t.Bits())}
	if t.Kind() >= reflect.Uint {
		s.Format = "u" + s.Format
	}
	if pointer {
		s = nullable(s)
	}
	return s, nil
}
