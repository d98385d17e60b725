package codec

import (
	"bytes"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

// walker looks at a value before it is written, for what its type alone can't
// tell: strings and numbers that JSON doesn't have, nil behind a pointer,
// cycles, and what an any holds.
type walker struct {
	// thorough: look also where the type promises that every value comes back,
	// and in the order of the bytes, to find the place of a fault that is known to exist.
	thorough bool
	// foreign is set when an any holds what is read as something else than
	// what was written, so that only reading it shows whether it survives.
	foreign bool
	depth   int // of JSON
	steps   int // of Go: a cycle of pointers alone has no depth in JSON
}

// maxSteps leaves three pointers or interfaces to each level of JSON.
const maxSteps = 4 * jsonscan.MaxDepth

// value looks at v. loose says that v is inside an any, so that it need not
// be read as its own type again.
func (w *walker) value(p *plan, v reflect.Value, loose bool) *fault {
	if !p.walk && !w.thorough {
		return nil
	}
	if w.steps++; w.steps > maxSteps {
		return lossy("too many pointers in a row; is there a cycle?")
	}
	defer func() { w.steps-- }()

	switch p.kind {
	case stringKind:
		return text(v.String())
	case numberKind:
		return number(v.String())
	case floatKind:
		return float(v.Float())
	case pointerKind:
		return w.pointer(p, v, loose)
	case anyKind:
		if v.IsNil() {
			return nil
		}
		return w.held(v.Elem().Interface())
	case jsonKind, textKind:
		return w.custom(p, v)
	case sliceKind, arrayKind, mapKind, structKind:
		if w.depth++; w.depth > jsonscan.MaxDepth {
			return tooDeep()
		}
		defer func() { w.depth-- }()
		switch p.kind {
		case mapKind:
			return w.entries(p, v, loose)
		case structKind:
			return w.members(p, v, loose)
		}
		for i := range v.Len() {
			if f := w.value(p.elem, v.Index(i), loose); f != nil {
				return f.in(strconv.Itoa(i))
			}
		}
	}
	return nil
}

func tooDeep() *fault {
	return lossy("nested deeper than %d levels; is there a cycle of pointers?", jsonscan.MaxDepth)
}

func (w *walker) pointer(p *plan, v reflect.Value, loose bool) *fault {
	if v.IsNil() {
		return nil
	}
	v = v.Elem()
	if f := w.value(p.elem, v, loose); f != nil || loose {
		return f
	}
	// null is read as nil at the outermost place that can be nil: here.
	nothing := false
	switch p.elem.kind {
	case pointerKind, sliceKind, bytesKind, mapKind:
		nothing = v.IsNil()
	case anyKind, jsonKind:
		data, err := marshalJSON(v.Addr().Interface())
		nothing = err == nil && bytes.Equal(data, null)
	}
	if nothing {
		return lossy("a pointer to a %s that is written as null would come back as a nil pointer; store a nil pointer, or the %[1]s without the pointer", p.elem.typ)
	}
	return nil
}

// held looks at what an any holds. The usual forms of plain data need no plan.
func (w *walker) held(x any) *fault {
	switch x := x.(type) {
	case nil, bool:
		return nil
	case string:
		return text(x)
	case float64:
		return float(x)
	case []any:
		if w.depth++; w.depth > jsonscan.MaxDepth {
			return tooDeep()
		}
		defer func() { w.depth-- }()
		for i, e := range x {
			if f := w.held(e); f != nil {
				return f.in(strconv.Itoa(i))
			}
		}
		return nil
	case map[string]any:
		if w.thorough {
			break // the general way is in order
		}
		if w.depth++; w.depth > jsonscan.MaxDepth {
			return tooDeep()
		}
		defer func() { w.depth-- }()
		for k, e := range x {
			f := text(k)
			if f == nil {
				f = w.held(e)
			}
			if f != nil {
				return f.in(k)
			}
		}
		return nil
	default:
		w.foreign = true
	}
	v := reflect.ValueOf(x)
	r := planOf(v.Type())
	if r.writeFault != nil {
		return &fault{err: r.writeFault.err, path: slices.Clone(r.writeFault.path)}
	}
	if r.addressed {
		return lossy("a marshal method on a pointer is not called for the %s in an any; put a pointer there", v.Type())
	}
	return w.value(r.plan, v, true)
}

func (w *walker) entries(p *plan, v reflect.Value, loose bool) *fault {
	if !w.thorough {
		for it := v.MapRange(); it.Next(); {
			if f := w.entry(p, it.Key(), it.Value(), loose); f != nil {
				return f
			}
		}
		return nil
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(keyName(a), keyName(b)) })
	for _, k := range keys {
		if f := w.entry(p, k, v.MapIndex(k), loose); f != nil {
			return f
		}
	}
	return nil
}

func (w *walker) entry(p *plan, k, v reflect.Value, loose bool) *fault {
	var f *fault
	if p.key.kind == stringKind || w.thorough {
		f = text(keyName(k))
	}
	if f == nil {
		f = w.value(p.elem, v, loose)
	}
	if f != nil {
		return f.in(keyName(k))
	}
	return nil
}

func keyName(k reflect.Value) string {
	if k.Kind() == reflect.String {
		return k.String()
	}
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](k); ok {
		var name []byte
		_ = guard(func() (err error) { // encoding/json reports the error
			name, err = m.MarshalText()
			return err
		})
		return string(name)
	}
	return fmt.Sprint(k)
}

func (w *walker) members(p *plan, v reflect.Value, loose bool) *fault {
	for i := range p.fields {
		fp := &p.fields[i]
		if !fp.walk && !w.thorough {
			continue
		}
		fv, err := v.FieldByIndexErr(fp.Index)
		if err != nil || fp.Omits(fv) {
			continue // within a nil embedded pointer, or not written
		}
		if f := w.value(fp.plan, fv, loose); f != nil {
			return f.in(fp.Name)
		}
	}
	return nil
}

func (w *walker) custom(p *plan, v reflect.Value) *fault {
	if p.promotes != nil {
		if f := promoted(p, v); f != nil {
			return f
		}
	}
	if w.thorough {
		if _, err := marshalJSON(addressable(v)); err != nil {
			return marshalFault(err)
		}
	}
	return nil
}

// promoted finds out whether the marshal method of p's struct is only that of
// an embedded field: if they write the same although there is more to write.
func promoted(p *plan, v reflect.Value) *fault {
	sf := p.typ.FieldByIndex(p.promotes)
	embedded := v.FieldByIndex(p.promotes)
	if embedded.Kind() == reflect.Pointer && embedded.IsNil() {
		return lossy("%s may have its marshal method from its embedded field %s, which is nil; give %[1]s methods of its own", p.typ, sf.Name)
	}
	more := false
	for i := range v.NumField() {
		other := p.typ.Field(i)
		more = more || i != p.promotes[0] && other.IsExported() && other.Tag.Get("json") != "-" && !v.Field(i).IsZero()
	}
	if !more {
		return nil
	}
	whole, err := marshalJSON(addressable(v))
	if err != nil {
		return marshalFault(err)
	}
	if part, err := marshalJSON(addressable(embedded)); err == nil && bytes.Equal(whole, part) {
		return lossy("%s has its marshal method from its embedded field %s, which leaves out the other fields; give that field a name, or %[1]s methods of its own", p.typ, sf.Name)
	}
	return nil
}

// addressable returns a pointer to v, or to a copy of v.
func addressable(v reflect.Value) any {
	if v.CanAddr() {
		return v.Addr().Interface()
	}
	c := reflect.New(v.Type())
	c.Elem().Set(v)
	return c.Interface()
}

func text(s string) *fault {
	if utf8.ValidString(s) {
		return nil
	}
	return lossy("a string is not valid UTF-8; use []byte for bytes")
}

func float(x float64) *fault {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return lossy("%v can't be written in JSON; use a nil *float64, or a string, for what is no number", x)
	}
	return nil
}

func number(s string) *fault {
	n := jsonscan.New([]byte(s))
	kind := n.Peek()
	if text, err := n.Skip(); err != nil || kind != jsonscan.Number || len(text) != len(s) {
		return lossy("a json.Number holds no number; set it, or use a nil *json.Number")
	}
	return nil
}
