package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"

	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

// JSON returns the default codec: what encoding/json writes, without HTML
// escaping, space or a newline at the end, and read without its leniency.
//
// It refuses, with the place:
//   - what JSON doesn't have: channels, functions, complex numbers, NaN and
//     infinities, map keys other than strings, integers and text, cycles,
//     strings that are not UTF-8;
//   - what would be dropped: structs none of whose fields is exported, fields
//     whose JSON names collide, fields beside an embedded one whose marshal
//     method is promoted;
//   - what would come back as something else: interfaces with methods, a
//     pointer to nil, a marshal method without its unmarshal method, whatever
//     is written in another way after it was read.
//
// The author's own word counts: a field with the tag `json:"-"`, an unexported
// field beside exported ones, and an empty one with omitempty or omitzero come back zero.
//
// An any comes back as plain data: nil, bool, float64, string, []any and
// map[string]any. A number in it that float64 can't hold is refused. A
// json.RawMessage comes back without space, and as null if it is nil.
//
// Reading allows members that the type doesn't have, and fields that are not
// stored; both are what a deploy makes. It refuses null for what has no nil,
// repeated names, and everything else that encoding/json passes over.
func JSON() Codec { return jsonCodec{} }

type jsonCodec struct{}

var null = []byte("null")

func (jsonCodec) Name() string { return "json" }

func (jsonCodec) Check(t reflect.Type) error { return planOf(t).fault.error("check", t) }

func (c jsonCodec) Marshal(v any) ([]byte, error) {
	t := typeOf(v)
	data, _, f := c.write(planOf(t), v)
	return data, f.error("encode", t)
}

func (c jsonCodec) Unmarshal(data []byte, into any) error {
	v := reflect.ValueOf(into).Elem()
	return c.read(planOf(v.Type()), data, into).error("decode", v.Type())
}

var anyType = reflect.TypeFor[any]()

// typeOf returns v's type; nil is taken for an empty any.
func typeOf(v any) reflect.Type {
	if v == nil {
		return anyType
	}
	return reflect.TypeOf(v)
}

// encode returns the bytes of v, a value for a variable of type t, and makes
// *into the copy that is read from them. into may be nil.
func (c jsonCodec) encode(t reflect.Type, v any, limit int, into any) ([]byte, error) {
	r := planOf(t)
	data, verify, f := c.write(r, v)
	if f != nil {
		return nil, f.error("encode", t)
	}
	switch {
	case limit > 0 && len(data) > limit:
		return nil, tooLarge(t, len(data), limit)
	case into == nil && !verify:
		return data, nil
	case into == nil:
		into = reflect.New(t).Interface()
	case r.flat:
		reflect.ValueOf(into).Elem().Set(reflect.ValueOf(v))
		return data, nil
	case r.kind == bytesKind:
		reflect.ValueOf(into).Elem().SetBytes(bytes.Clone(reflect.ValueOf(v).Bytes()))
		return data, nil
	}
	if f := c.read(r, data, into); f != nil {
		f.err = fmt.Errorf("%w: what is written can't be read again: %s", ErrLossy, reason(f.err))
		return nil, f.error("encode", t)
	}
	if verify {
		data, f = c.verify(r, data, into)
		if f != nil {
			reflect.ValueOf(into).Elem().SetZero()
			return nil, f.error("encode", t)
		}
		if limit > 0 && len(data) > limit {
			return nil, tooLarge(t, len(data), limit)
		}
	}
	return data, nil
}

// verify writes what was read. If that is the same in another spelling, the
// second one is what every later copy will be written as, so it is the one to store.
func (c jsonCodec) verify(r *root, data []byte, into any) ([]byte, *fault) {
	again, _, f := c.write(r, reflect.ValueOf(into).Elem().Interface())
	if f != nil {
		return nil, f
	}
	if bytes.Equal(data, again) {
		return data, nil
	}
	if f := same(data, again); f != nil {
		return nil, f
	}
	return again, nil
}

// write returns the bytes of v. verify says that only reading them shows
// whether the value survives.
func (jsonCodec) write(r *root, v any) (data []byte, verify bool, f *fault) {
	if r.fault != nil {
		return nil, false, &fault{err: r.fault.err, path: slices.Clone(r.fault.path)}
	}
	if data, ok := writePlain(r, v); ok {
		return data, false, nil
	}
	var w walker
	inspect := func() *fault {
		if r.kind == anyKind {
			return w.held(v)
		}
		return w.value(r.plan, reflect.ValueOf(v), false)
	}
	if r.walk {
		f = inspect()
	}
	if f == nil {
		p := v
		if r.addressed {
			p = addressable(reflect.ValueOf(v))
		}
		var err error
		data, err = marshalJSON(p)
		switch {
		case err != nil:
			f = marshalFault(err)
		case !hasReplacement(data):
			return data, r.verify || w.foreign, nil
		}
	}
	// Something is wrong, or seems to be: look everywhere, in order.
	w = walker{thorough: true, foreign: w.foreign}
	if found := inspect(); found != nil {
		f = found
	}
	return data, r.verify || w.foreign, f
}

// hasReplacement reports whether a string in data may have lost a byte that
// was not UTF-8: encoding/json replaces it, by an escape, or with json/v2 beneath by the
// character itself. It may have been there before, which a closer look tells.
func hasReplacement(data []byte) bool {
	return bytes.Contains(data, []byte(`\ufffd`)) || bytes.Contains(data, []byte("\ufffd"))
}

// writePlain writes what needs no look at more than one kind.
func writePlain(r *root, v any) ([]byte, bool) {
	switch r.kind {
	case stringKind:
		s, ok := v.(string)
		if !ok {
			s = reflect.ValueOf(v).String()
		}
		return jsonscan.AppendQuoted(make([]byte, 0, len(s)+2+len(s)/16), s)
	case boolKind:
		return strconv.AppendBool(nil, reflect.ValueOf(v).Bool()), true
	case intKind:
		return strconv.AppendInt(nil, reflect.ValueOf(v).Int(), 10), true
	case uintKind:
		return strconv.AppendUint(nil, reflect.ValueOf(v).Uint(), 10), true
	case bytesKind:
		b := reflect.ValueOf(v).Bytes()
		if b == nil {
			return bytes.Clone(null), true
		}
		data := make([]byte, 0, base64.StdEncoding.EncodedLen(len(b))+2)
		data = base64.StdEncoding.AppendEncode(append(data, '"'), b)
		return append(data, '"'), true
	default:
		return nil, false
	}
}

// encoder is kept for reuse: making one costs as much as writing a small value.
type encoder struct {
	buf bytes.Buffer
	*json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.Encoder = json.NewEncoder(&e.buf)
	e.SetEscapeHTML(false)
	return e
}}

func marshalJSON(v any) ([]byte, error) {
	e := encoders.Get().(*encoder)
	defer func() {
		if e.buf.Cap() <= 64<<10 {
			e.buf.Reset()
			encoders.Put(e)
		}
	}()
	if err := guard(func() error { return e.Encode(v) }); err != nil {
		return nil, err
	}
	return bytes.Clone(e.buf.Bytes()[:e.buf.Len()-1]), nil
}

func unmarshalJSON(data []byte, into any) error {
	return guard(func() error { return json.Unmarshal(data, into) })
}

// guard calls f, which calls methods of the author's types, and makes a panic
// of theirs an error with its stack.
func guard(f func() error) (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("panic: %v\n\n%s", x, debug.Stack())
		}
	}()
	return f()
}

func marshalFault(err error) *fault {
	if m, ok := errors.AsType[*json.MarshalerError](err); ok {
		return lossy("the marshal method of %s failed: %w", m.Type, m.Err)
	}
	return lossy("%w", err)
}

// read makes *into the value of data.
func (c jsonCodec) read(r *root, data []byte, into any) *fault {
	v := reflect.ValueOf(into).Elem()
	v.SetZero()
	if r.fault != nil {
		f := mismatch("%s", reason(r.fault.err))
		f.path = slices.Clone(r.fault.path)
		return f
	}
	if f := c.shape(r, data, false); f != nil {
		return f
	}
	if readPlain(r, data, v) {
		return nil
	}
	err := unmarshalJSON(data, into)
	if err == nil {
		return nil
	}
	v.SetZero()
	if f := c.shape(r, data, true); f != nil {
		return f
	}
	return mismatch("%w; %s", err, remedy)
}

// readPlain reads what can be large and needs no look at more than one kind.
func readPlain(r *root, data []byte, v reflect.Value) bool {
	text := bytes.TrimSpace(data)
	switch {
	case r.kind == stringKind:
		v.SetString(jsonscan.Unquote(text))
		return true
	case r.kind == bytesKind && text[0] == '"' && bytes.IndexByte(text, '\\') < 0:
		text = text[1 : len(text)-1]
		b := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		n, err := base64.StdEncoding.Decode(b, text)
		v.SetBytes(b[:n])
		return err == nil
	default:
		return false
	}
}

func (jsonCodec) shape(r *root, data []byte, probing bool) *fault {
	s := reader{Scanner: jsonscan.New(data), probing: probing}
	if f := s.value(r.plan); f != nil {
		return f
	}
	return s.done()
}
