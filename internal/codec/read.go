package codec

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

// reader goes over stored JSON beside the plan of a type. encoding/json, which
// then builds the value, would let pass in silence: null where the type has no
// nil, arrays that are too short or too long, names that repeat, bad Unicode, and
// integers in an any that float64 changes.
type reader struct {
	jsonscan.Scanner
	// probing: read every part alone, to find the one that encoding/json refused.
	probing bool
}

func mismatch(format string, args ...any) *fault {
	return &fault{err: fmt.Errorf("%w: %w", ErrMismatch, fmt.Errorf(format, args...))}
}

const remedy = "run the version that wrote it, or give the type an UnmarshalJSON that reads both"

func (r *reader) syntax(err error) *fault {
	if f, ok := errors.AsType[faultError](err); ok {
		return f.fault
	}
	return &fault{err: fmt.Errorf("%w: %w", ErrSyntax, err)}
}

// faultError lets a fault pass through the scanner.
type faultError struct{ *fault }

func (f faultError) Error() string { return f.err.Error() }

// step is what a callback of the scanner returns: nil, or the fault with one
// more step of the way to it.
func step(f *fault, name func() string) error {
	if f == nil {
		return nil
	}
	return faultError{f.in(name())}
}

func (r *reader) done() *fault {
	if err := r.End(); err != nil {
		return r.syntax(err)
	}
	return nil
}

// value passes one value, which must fit p.
func (r *reader) value(p *plan) *fault {
	stored := r.Peek()
	if stored == jsonscan.None {
		_, err := r.Skip()
		return r.syntax(err)
	}
	if stored == jsonscan.Null {
		return r.null(p)
	}
	want := jsonscan.None
	switch p.kind {
	case anyKind:
		return r.any()
	case pointerKind:
		return r.value(p.elem)
	case boolKind:
		want = jsonscan.Bool
	case intKind, uintKind, floatKind, numberKind:
		want = jsonscan.Number
	case stringKind, bytesKind, textKind:
		want = jsonscan.String
	case sliceKind, arrayKind:
		want = jsonscan.Array
	case mapKind, structKind:
		want = jsonscan.Object
	case jsonKind:
		want = stored
	}
	if stored != want {
		return mismatch("%s is stored, which is no %s; %s", article(stored), p.typ, remedy)
	}
	switch p.kind {
	case sliceKind, arrayKind:
		return r.elements(p)
	case mapKind:
		return r.entries(p)
	case structKind:
		return r.members(p)
	}
	text, err := r.Skip()
	if err != nil {
		return r.syntax(err)
	}
	if r.probing {
		return probe(p, text)
	}
	return nil
}

func article(k jsonscan.Kind) string {
	if k == jsonscan.Array || k == jsonscan.Object {
		return "an " + k.String()
	}
	return "a " + k.String()
}

// probe reads one part alone.
func probe(p *plan, text []byte) *fault {
	err := unmarshalJSON(text, reflect.New(p.typ).Interface())
	switch {
	case err == nil:
		return nil
	case p.kind == jsonKind || p.kind == textKind:
		return mismatch("%s can't read what is stored: %w; %s", p.typ, err, remedy)
	case p.kind == bytesKind:
		return mismatch("the stored string is not base64, as %s is written; %s", p.typ, remedy)
	case p.kind == floatKind || p.kind == intKind || p.kind == uintKind:
		return mismatch("the stored number is none that %s can hold; %s", p.typ, remedy)
	default:
		return mismatch("%w; %s", err, remedy)
	}
}

func (r *reader) null(p *plan) *fault {
	if _, err := r.Skip(); err != nil {
		return r.syntax(err)
	}
	switch p.kind {
	case pointerKind, sliceKind, bytesKind, mapKind, anyKind:
		return nil
	case textKind:
		switch p.typ.Kind() {
		case reflect.Slice, reflect.Map:
			return nil
		}
	case jsonKind:
		// null is one of its values if it writes what it read as null again.
		v := reflect.New(p.typ).Interface()
		if err := unmarshalJSON(null, v); err == nil {
			if again, err := marshalJSON(v); err == nil && string(again) == string(null) {
				return nil
			}
		}
	}
	return mismatch("null is stored, and %s has no nil; %s", p.typ, remedy)
}

func (r *reader) elements(p *plan) *fault {
	n := 0
	err := r.Array(func(i int) error {
		n++
		return step(r.value(p.elem), func() string { return strconv.Itoa(i) })
	})
	if err != nil {
		return r.syntax(err)
	}
	if p.kind == arrayKind && n != p.typ.Len() {
		return mismatch("%d elements are stored, and %s has %d; %s", n, p.typ, p.typ.Len(), remedy)
	}
	return nil
}

func (r *reader) entries(p *plan) *fault {
	var names jsonscan.Names
	err := r.Object(func(name []byte) error {
		var f *fault
		switch {
		case !names.Add(name):
			f = repeated()
		case p.key.kind == intKind || p.key.kind == uintKind:
			f = r.key(p.key, name)
		case p.key.kind == textKind && r.probing:
			f = probe(p.key, name)
		}
		if f == nil {
			f = r.value(p.elem)
		}
		return step(f, func() string { return jsonscan.Unquote(name) })
	})
	if err != nil {
		return r.syntax(err)
	}
	return nil
}

// key checks the name of a map whose keys are numbers: spelled in another
// way, two names could be one key.
func (r *reader) key(p *plan, name []byte) *fault {
	text := jsonscan.Unquote(name)
	if p.kind == intKind {
		if n, err := strconv.ParseInt(text, 10, p.typ.Bits()); err == nil && strconv.FormatInt(n, 10) == text {
			return nil
		}
	} else {
		if n, err := strconv.ParseUint(text, 10, p.typ.Bits()); err == nil && strconv.FormatUint(n, 10) == text {
			return nil
		}
	}
	return mismatch("the stored name is no key of type %s; %s", p.typ, remedy)
}

func (r *reader) members(p *plan) *fault {
	var few [32]bool
	seen := few[:]
	if len(p.fields) > len(few) {
		seen = make([]bool, len(p.fields))
	}
	err := r.Object(func(name []byte) error {
		i, ok := p.field(name)
		if !ok {
			if _, err := r.Skip(); err != nil {
				return err
			}
			return nil
		}
		var f *fault
		switch fp := &p.fields[i]; {
		case seen[i]:
			f = repeated()
		case fp.Quoted:
			f = r.quoted(fp.plan)
		default:
			f = r.value(fp.plan)
		}
		seen[i] = true
		return step(f, func() string { return p.fields[i].Name })
	})
	if err != nil {
		return r.syntax(err)
	}
	return nil
}

// field finds the field that encoding/json stores a member in: the one of that
// name, else the first that differs only in case.
func (p *plan) field(text []byte) (int, bool) {
	name := jsonscan.Name(text)
	if i, ok := p.byName[string(name)]; ok {
		return i, true
	}
	for i := range p.fields {
		if strings.EqualFold(p.fields[i].Name, string(name)) {
			return i, true
		}
	}
	return 0, false
}

// quoted passes a value that the option string has put in quotes.
func (r *reader) quoted(p *plan) *fault {
	kind := r.Peek()
	if kind == jsonscan.Null {
		return r.null(p)
	}
	text, err := r.Skip()
	if err != nil {
		return r.syntax(err)
	}
	if kind != jsonscan.String {
		return mismatch("%s is stored, and the field has the option string; %s", article(kind), remedy)
	}
	inner := reader{Scanner: jsonscan.New([]byte(jsonscan.Unquote(text))), probing: true}
	if inner.Peek() == jsonscan.Null {
		return mismatch("null is stored in quotes; %s", remedy)
	}
	f := inner.value(p)
	if f == nil {
		f = inner.done()
	}
	if f != nil {
		return mismatch("the stored string holds no %s; %s", p.typ, remedy)
	}
	return nil
}

// any passes a value for an any.
func (r *reader) any() *fault {
	var err error
	switch r.Peek() {
	case jsonscan.Array:
		err = r.Array(func(i int) error {
			return step(r.any(), func() string { return strconv.Itoa(i) })
		})
	case jsonscan.Object:
		var names jsonscan.Names
		err = r.Object(func(name []byte) error {
			var f *fault
			if !names.Add(name) {
				f = repeated()
			} else {
				f = r.any()
			}
			return step(f, func() string { return jsonscan.Unquote(name) })
		})
	case jsonscan.Number:
		var text []byte
		if text, err = r.Skip(); err == nil {
			return anyNumber(text)
		}
	default:
		_, err = r.Skip()
	}
	if err != nil {
		return r.syntax(err)
	}
	return nil
}

// anyNumber refuses what float64, the number of an any, would change: integers
// of too many digits, and what is out of its range.
func anyNumber(text []byte) *fault {
	const safe = 15 // digits that float64 always keeps
	if len(text) <= safe {
		for _, c := range text {
			if c|0x20 == 'e' {
				return anyFloat(text)
			}
		}
		return nil
	}
	return anyFloat(text)
}

func anyFloat(text []byte) *fault {
	x, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return mismatch("the number is out of the range of float64, which an any holds; use a typed field, or a string")
	}
	for _, c := range text {
		if c == '.' || c|0x20 == 'e' {
			return nil
		}
	}
	if strconv.FormatFloat(x, 'f', -1, 64) != string(text) {
		return mismatch("the integer has more digits than float64, which an any holds, can keep; use a typed field, or a string")
	}
	return nil
}

func repeated() *fault {
	return &fault{err: fmt.Errorf("%w: the name occurs twice in one object", ErrSyntax)}
}
