package codec

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fermata-go/fermata/internal/codec/jsonfield"
	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

// kind is how encoding/json treats a type.
type kind uint8

const (
	badKind kind = iota // can't be written
	boolKind
	intKind
	uintKind
	floatKind
	stringKind
	numberKind // json.Number
	bytesKind  // a slice of bytes: base64
	sliceKind
	arrayKind
	mapKind
	pointerKind
	anyKind // an interface
	structKind
	jsonKind // has MarshalJSON
	textKind // has MarshalText
)

// plan is what is known of a type before any value of it is seen.
type plan struct {
	typ    reflect.Type
	kind   kind
	elem   *plan // of a slice, array, map or pointer
	key    *plan // of a map
	fields []planField
	byName map[string]int // into fields

	// walk: a value must be looked at before it is written, because not every
	// value of the type comes back, or because it may be cyclic.
	walk bool
	// addressed: the type, or one that lies in the same memory, has its marshal
	// method on the pointer, which is only called where the value has an address.
	addressed bool
	// promotes is the embedded field that the marshal method may come from.
	promotes []int
}

type planField struct {
	jsonfield.Field
	*plan
}

// root is the plan of a type that was asked for, with what only holds for
// the whole.
type root struct {
	*plan
	// fault: values of the type can't be written, or not be read again.
	fault *fault
	// writeFault: values can't even be written, inside an any.
	writeFault *fault
	// verify: only writing what was read shows whether a value survives.
	verify bool
	// flat: a plain copy is what would be read.
	flat bool
}

// fault is an error with the way to it, innermost first.
type fault struct {
	err  error
	path []string
}

func lossy(format string, args ...any) *fault {
	return &fault{err: fmt.Errorf("%w: %w", ErrLossy, fmt.Errorf(format, args...))}
}

// in adds the step that leads to the fault. It keeps nil.
func (f *fault) in(step string) *fault {
	if f != nil {
		f.path = append(f.path, step)
	}
	return f
}

// maxPath is how many steps of a path are shown; a cycle has thousands.
const maxPath = 32

// error returns nil for no fault.
func (f *fault) error(op string, t reflect.Type) error {
	if f == nil {
		return nil
	}
	path := slices.Clone(f.path)
	slices.Reverse(path)
	if len(path) > maxPath {
		path = append(path[:maxPath], "…")
	}
	return &Error{Op: op, Type: t.String(), Path: jsonscan.Pointer(path), Err: f.err}
}

var plans sync.Map // reflect.Type → *root

func planOf(t reflect.Type) *root {
	if r, ok := plans.Load(t); ok {
		return r.(*root)
	}
	// Only roots are kept: a plan made inside a recursive type is complete
	// only together with the ones around it.
	c := compiler{plans: map[reflect.Type]*plan{}, pending: map[reflect.Type]bool{}, root: &root{flat: true}}
	c.root.plan = c.compile(t, nil)
	for _, check := range c.later {
		check()
	}
	r, _ := plans.LoadOrStore(t, c.root)
	return r.(*root)
}

type compiler struct {
	root    *root
	plans   map[reflect.Type]*plan
	pending map[reflect.Type]bool // being compiled: to meet one again is recursion
	later   []func()              // checks that need finished plans
}

// steps is the way from the root, kept as a list because it is only read for a fault.
type steps struct {
	name string
	up   *steps
}

func (c *compiler) fault(at *steps, unwritable bool, err error) {
	f := &fault{err: fmt.Errorf("%w: %w", ErrLossy, err)}
	for ; at != nil; at = at.up {
		f.in(at.name)
	}
	if c.root.fault == nil {
		c.root.fault = f
	}
	if unwritable && c.root.writeFault == nil {
		c.root.writeFault = f
	}
}

var (
	marshalerType       = reflect.TypeFor[json.Marshaler]()
	unmarshalerType     = reflect.TypeFor[json.Unmarshaler]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	numberType          = reflect.TypeFor[json.Number]()
	timeType            = reflect.TypeFor[time.Time]()
)

func (c *compiler) compile(t reflect.Type, at *steps) *plan {
	if p, ok := c.plans[t]; ok {
		p.walk = p.walk || c.pending[t] // its values may be cyclic
		return p
	}
	p := &plan{typ: t, kind: kindOf(t.Kind())}
	c.plans[t], c.pending[t] = p, true
	defer delete(c.pending, t)

	if c.custom(p, at) {
		c.root.flat = false
		return p
	}
	switch p.kind {
	case badKind:
		c.fault(at, true, fmt.Errorf("a %s can't be stored; leave it out with the tag `json:\"-\"`, or store what it is made from", t.Kind()))
	case numberKind:
		p.walk = true
	case bytesKind, pointerKind, sliceKind, arrayKind:
		c.element(p, at)
	case mapKind:
		c.key(p, at)
		c.element(p, at)
		c.later = append(c.later, func() {
			if p.elem.addressed {
				c.fault(at, true, fmt.Errorf("a marshal method on a pointer is not called within the values of a map; use map[%s]*%s", t.Key(), p.elem.typ))
			}
		})
	case anyKind:
		p.walk = true
		if t.NumMethod() > 0 {
			c.fault(at, false, fmt.Errorf("a value of the interface %s can't be read again, because nothing says which type to make; use a concrete type, or any for plain data", t))
		}
	case structKind:
		c.structure(p, at)
	}
	switch p.kind {
	case boolKind, intKind, uintKind, floatKind, stringKind, arrayKind, structKind:
	default:
		c.root.flat = false
	}
	return p
}

func kindOf(k reflect.Kind) kind {
	switch k {
	case reflect.Bool:
		return boolKind
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return intKind
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return uintKind
	case reflect.Float32, reflect.Float64:
		return floatKind
	case reflect.String:
		return stringKind
	case reflect.Slice:
		return sliceKind
	case reflect.Array:
		return arrayKind
	case reflect.Map:
		return mapKind
	case reflect.Pointer:
		return pointerKind
	case reflect.Interface:
		return anyKind
	case reflect.Struct:
		return structKind
	default:
		return badKind
	}
}

// custom fills in a plan whose type has a form of its own. Methods count in
// the order in which encoding/json looks for them.
func (c *compiler) custom(p *plan, at *steps) bool {
	t := p.typ
	switch {
	case t == numberType:
		p.kind = numberKind
		return false
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 &&
		!reflect.PointerTo(t.Elem()).Implements(marshalerType) && !reflect.PointerTo(t.Elem()).Implements(textMarshalerType):
		p.kind = bytesKind
	}
	if t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer {
		return false
	}
	pt := reflect.PointerTo(t)
	reads := pt.Implements(unmarshalerType) || pt.Implements(textUnmarshalerType)
	var iface reflect.Type
	switch {
	case pt.Implements(marshalerType):
		p.kind, iface = jsonKind, marshalerType
	case pt.Implements(textMarshalerType):
		p.kind, iface = textKind, textMarshalerType
	default:
		if reads {
			c.fault(at, false, fmt.Errorf("%s has an unmarshal method, but no marshal method that goes with it; give it both", t))
		}
		return false
	}
	if !reads {
		c.fault(at, false, fmt.Errorf("%s has %s, but no method to read it again; give it Un%s too", t, iface.Method(0).Name, lowerFirst(iface.Method(0).Name)))
	}
	p.addressed = !t.Implements(iface)
	if t == timeType {
		return true // known to survive
	}
	c.root.verify = true
	if t.Kind() == reflect.Struct {
		c.promoted(p, iface)
	}
	return true
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// promoted notes an embedded field from which the struct may have its marshal
// method without its author's knowledge, if there are other fields to lose.
func (c *compiler) promoted(p *plan, iface reflect.Type) {
	exported := 0
	for sf := range p.typ.Fields() {
		if sf.IsExported() && sf.Tag.Get("json") != "-" {
			exported++
		}
		if sf.Anonymous && sf.IsExported() && (sf.Type.Implements(iface) || reflect.PointerTo(sf.Type).Implements(iface)) {
			p.promotes = sf.Index
		}
	}
	if exported < 2 {
		p.promotes = nil
	}
	p.walk = p.promotes != nil
}

func (c *compiler) element(p *plan, at *steps) {
	step := at
	if p.kind != pointerKind {
		step = &steps{"*", at}
	}
	p.elem = c.compile(p.typ.Elem(), step)
	p.walk = p.walk || p.elem.walk
	if p.kind == arrayKind {
		p.addressed = p.elem.addressed
	}
	if p.kind == pointerKind {
		switch p.elem.kind {
		case pointerKind, sliceKind, bytesKind, mapKind, anyKind:
			p.walk = true // to nil, it would come back as nil
		case jsonKind:
			p.walk = true // its method may write null
		}
	}
}

func (c *compiler) key(p *plan, at *steps) {
	k := p.typ.Key()
	pk := reflect.PointerTo(k)
	writes, reads := k.Implements(textMarshalerType), pk.Implements(textUnmarshalerType)
	p.key = &plan{typ: k, kind: kindOf(k.Kind())}
	switch p.key.kind {
	case stringKind:
		// encoding/json writes such a key as it is, whatever its methods.
		if reads {
			c.fault(at, false, fmt.Errorf("keys of type %s are written as they are, but read with UnmarshalText; use another key type", k))
		}
		return
	case intKind, uintKind:
		if !writes && !reads {
			return
		}
	}
	if !writes && !reads || p.key.kind == pointerKind || p.key.kind == anyKind {
		c.fault(at, true, fmt.Errorf("keys of type %s can't be written in JSON; use strings or integers, or give the type MarshalText and UnmarshalText", k))
	} else if !writes || !reads {
		c.fault(at, !writes, fmt.Errorf("%s has only one of MarshalText and UnmarshalText; give it both, to write and read it as a key", k))
	}
	p.key.kind = textKind
	c.root.verify = true
}

func (c *compiler) structure(p *plan, at *steps) {
	fields, err := jsonfield.Of(p.typ)
	if err != nil {
		c.fault(at, true, err)
		return
	}
	p.byName = make(map[string]int, len(fields))
	for i, f := range fields {
		fp := c.compile(f.Type, &steps{f.Name, at})
		p.fields = append(p.fields, planField{f, fp})
		p.byName[f.Name] = i
		p.walk = p.walk || fp.walk
		p.addressed = p.addressed || fp.addressed && !f.Behind
		c.root.verify = c.root.verify || f.Quoted
		c.root.flat = c.root.flat && !f.Quoted && !f.OmitZero
	}
	for sf := range p.typ.Fields() {
		if sf.Name != "_" && (!sf.IsExported() && !sf.Anonymous || sf.Tag.Get("json") == "-" || sf.Anonymous && jsonfield.Embeds(sf.Type)) {
			c.root.flat = false
		}
	}
}
