package codec_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fermata-go/fermata/internal/codec"
)

// TestTransferKeepsOrRefuses draws a type and a value of it. Either the value
// is refused, or the copy is the value – as the model below understands it,
// which shares nothing with the codec – and is what Decode will read.
func TestTransferKeepsOrRefuses(t *testing.T) {
	t.Parallel()
	kept, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		typ := drawType(t, 3)
		v := reflect.New(typ).Elem()
		fill(t, v, 3)
		into := reflect.New(typ)
		data, err := codec.Transfer(codec.JSON(), v.Interface(), 0, into.Interface())
		if checkErr := codec.Check(codec.JSON(), typ); checkErr != nil && err == nil {
			t.Fatalf("%s was written although Check says %v", typ, checkErr)
		}
		if err != nil {
			refused++
			var e *codec.Error
			if !errors.As(err, &e) || !errors.Is(err, codec.ErrLossy) || e.Op == "decode" {
				t.Fatalf("%#v: %v", v, err)
			}
			if clean(v) {
				t.Fatalf("%s %+v is refused without need: %v", typ, v, err)
			}
			return
		}
		kept++
		if diff := cmp.Diff(model(v, false), model(into.Elem(), false)); diff != "" {
			t.Fatalf("%s %+v\n→ %s\nis another value (-value +copy):\n%s", typ, v, data, diff)
		}
		decoded := reflect.New(typ)
		if err := codec.Decode(codec.JSON(), data, decoded.Interface()); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if diff := cmp.Diff(model(into.Elem(), false), model(decoded.Elem(), false)); diff != "" {
			t.Fatalf("%s: live and replay differ:\n%s", data, diff)
		}
		again, err := codec.Encode(codec.JSON(), into.Elem().Interface(), 0)
		if typ.Kind() == reflect.Interface {
			var out any
			again, err = codec.Transfer(codec.JSON(), into.Elem().Interface(), 0, &out)
		}
		// With omitempty or omitzero, a field may be empty only after it came back.
		if err != nil || !bytes.Equal(again, data) && !strings.Contains(typ.String(), ",omit") {
			t.Fatalf("%s: the copy is written as %s (%v)", data, again, err)
		}
		if encoded, err := codec.Encode(codec.JSON(), v.Addr().Interface(), 0); err != nil || !bytes.Equal(encoded, data) {
			if !strings.Contains(fmt.Sprint(err), "nil pointer") {
				t.Fatalf("%s: Encode gives %s (%v)", data, encoded, err)
			}
		}
	})
	t.Logf("kept %d, refused %d", kept, refused)
	if kept < refused/4 || refused < kept/50 {
		t.Logf("kept %d, refused %d: the generator is lopsided", kept, refused)
	}
}

var leaves = []reflect.Type{
	reflect.TypeFor[string](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[uint64](), reflect.TypeFor[bool](),
	reflect.TypeFor[float64](), reflect.TypeFor[float32](), reflect.TypeFor[[]byte](), reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](),
	reflect.TypeFor[any](), reflect.TypeFor[any](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Number](), reflect.TypeFor[byPointer](),
	reflect.TypeFor[nullable](), reflect.TypeFor[ignored](), reflect.TypeFor[Base](), reflect.TypeFor[struct {
		Base
		*Loaded
		N *int `json:"n,omitempty"`
		Q int  `json:",string"`
	}](), reflect.TypeFor[struct{ Base }](), reflect.TypeFor[stamped](), reflect.TypeFor[map[textKey]int](), reflect.TypeFor[error](), reflect.TypeFor[forgetful](),
	reflect.TypeFor[map[int16]bool](), reflect.TypeFor[map[string]any](), reflect.TypeFor[[]any](), reflect.TypeFor[[2]string](),
}

func drawType(t *rapid.T, depth int) reflect.Type {
	if depth == 0 {
		return rapid.SampledFrom(leaves).Draw(t, "leaf")
	}
	switch rapid.IntRange(0, 7).Draw(t, "type") {
	case 0:
		return reflect.PointerTo(drawType(t, depth-1))
	case 1:
		return reflect.SliceOf(drawType(t, depth-1))
	case 2:
		return reflect.MapOf(reflect.TypeFor[string](), drawType(t, depth-1))
	case 3:
		return reflect.ArrayOf(rapid.IntRange(0, 2).Draw(t, "len"), drawType(t, depth-1))
	case 4, 5:
		n := rapid.IntRange(0, 3).Draw(t, "fields")
		fields := make([]reflect.StructField, n)
		for i := range fields {
			fields[i] = reflect.StructField{Name: string(rune('A' + i)), Type: drawType(t, depth-1)}
			name := rapid.SampledFrom([]string{"", "", "x", "b/c", "ä", "-,"}).Draw(t, "name")
			option := rapid.SampledFrom([]string{"", "", ",omitempty", ",omitzero", ",string"}).Draw(t, "option")
			if name+option != "" {
				fields[i].Tag = reflect.StructTag(`json:"` + name + option + `"`)
			}
		}
		return reflect.StructOf(fields)
	default:
		return drawType(t, 0)
	}
}

var (
	drawn = rapid.OneOf(rapid.SampledFrom([]string{"", "a", "null", "<&>", "\u2028", `\ufffd`, "\ufffd", "é\n\"\\", "x\xff"}), rapid.StringN(0, 8, -1))
	plain = rapid.SampledFrom([]any{
		nil, true, "s", "\xfe", 1.5, math.NaN(), 7, int64(1<<53 + 1), int64(1 << 60), uint64(1 << 63), float32(0.1), 1e20, 1e21, math.Copysign(0, -1),
		[]byte("x"), []byte(nil), []any(nil), []any{}, map[string]any{"a": nil}, map[string]int(nil), map[int]string{1: "x"},
		struct {
			B int
			A any
		}{1, []int{2}}, Base{"x"}, &Base{"y"}, (*Base)(nil), opaque{}, &byPointer{1}, byPointer{1}, time.Unix(1, 0).UTC(), time.Second,
		json.Number("1.0"), json.Number("1e400"), json.Number(""), json.RawMessage(` {"z":1,"a":[1.0]}`), json.RawMessage("1 2"), onlyMarshal{}, nullable{},
		errors.New("x"), lower("X"), ignored{Count: 1}, []stamped{{Note: "lost"}}, make(chan int), new(any),
	})
)

func fill(t *rapid.T, v reflect.Value, depth int) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(rapid.Int64Range(-1e10, 2e11).Draw(t, "sec"), rapid.Int64Range(0, 999).Draw(t, "ns"))
		if rapid.Bool().Draw(t, "zone") {
			*x = x.In(time.FixedZone("Z", rapid.SampledFrom([]int{0, 3600, -7200, 61, 25 * 3600}).Draw(t, "offset")))
		}
		return
	case *json.RawMessage:
		*x = json.RawMessage(rapid.SampledFrom([]string{"null", "1", `{"a":  1}`, `{"a":1,"a":2}`, "", `"\ud800"`, "\"\xff\"", "[1.50]"}).Draw(t, "raw"))
		return
	case *json.Number:
		*x = json.Number(rapid.SampledFrom([]string{"1", "1.0", "1e400", "", "x", "123456789012345678901"}).Draw(t, "number"))
		return
	case *error:
		*x = rapid.SampledFrom([]error{nil, errors.New("x")}).Draw(t, "error")
		return
	case *any:
		*x = plain.Draw(t, "any")
		if depth > 0 {
			switch rapid.IntRange(0, 3).Draw(t, "nest") {
			case 0:
				*x = []any{*x, plain.Draw(t, "any")}
			case 1:
				*x = map[string]any{"k": *x, drawn.Draw(t, "key"): plain.Draw(t, "any")}
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(drawn.Draw(t, "string"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "int"))
	case reflect.Uint64, reflect.Uint8:
		v.SetUint(rapid.Uint64().Draw(t, "uint"))
	case reflect.Float64:
		v.SetFloat(rapid.OneOf(rapid.Float64(), rapid.Just(math.Inf(1))).Draw(t, "float"))
	case reflect.Float32:
		v.SetFloat(float64(rapid.Float32().Draw(t, "float")))
	case reflect.Pointer:
		if rapid.IntRange(0, 3).Draw(t, "nil") > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth)
		}
	case reflect.Slice:
		if rapid.IntRange(0, 3).Draw(t, "nil") > 0 {
			v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 2).Draw(t, "len"), 2))
		}
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), depth-1)
		}
	case reflect.Map:
		if rapid.IntRange(0, 3).Draw(t, "nil") == 0 {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 2).Draw(t, "len") {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, k, depth-1)
			fill(t, e, depth-1)
			v.SetMapIndex(k, e)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Type().Field(i).Tag.Get("json") != "-" {
				fill(t, v.Field(i), depth-1)
			}
		}
	}
}

// model gives a value a form in which two values are deeply equal if they
// mean the same. loose is inside an any, where only plain data counts.
func model(v reflect.Value, loose bool) any {
	if !v.IsValid() {
		return nil
	}
	if v.Kind() == reflect.Interface {
		return model(v.Elem(), true)
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return x.Format(time.RFC3339Nano)
	case json.RawMessage:
		return rawModel([]byte(x), loose)
	case json.Number:
		if loose {
			return rawModel([]byte(x), loose)
		}
		return string(x)
	case []byte:
		if x == nil {
			return nil
		}
		return base64.StdEncoding.EncodeToString(x)
	case nullable:
		if !x.Set {
			return nil
		}
		return true
	case byPointer:
		return float64(x.A)
	case onlyMarshal:
		return 1.0
	case forgetful:
		return []any{float64(x.A), float64(x.B)}
	case stamped:
		if x.Note == "" {
			return model(reflect.ValueOf(x.Time), loose)
		}
		return []any{"both", x.Time, x.Note}
	case ignored:
		return map[string]any{"Count": float64(x.Count)}
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool()
	case reflect.String:
		return v.String()
	case reflect.Float64:
		return v.Float()
	case reflect.Float32:
		if loose {
			return rawModel(strconv.AppendFloat(nil, v.Float(), 'f', -1, 32), true)
		}
		return v.Float()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int64:
		return rawModel(strconv.AppendInt(nil, v.Int(), 10), loose)
	case reflect.Uint64, reflect.Uint8:
		return rawModel(strconv.AppendUint(nil, v.Uint(), 10), loose)
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if loose {
			return model(v.Elem(), loose)
		}
		return []any{"to", model(v.Elem(), loose)}
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.IsNil() {
			return nil
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = model(v.Index(i), loose)
		}
		return list
	case reflect.Map:
		if v.IsNil() {
			return nil
		}
		m := map[string]any{}
		for it := v.MapRange(); it.Next(); {
			name := fmt.Sprint(it.Key())
			if k, ok := reflect.TypeAssert[textKey](it.Key()); ok {
				name = fmt.Sprint(k.N % 10)
			}
			m[name] = model(it.Value(), loose)
		}
		return m
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			sf := v.Type().Field(i)
			omit := strings.Contains(sf.Tag.Get("json"), ",omit")
			m[sf.Name] = model(v.Field(i), loose)
			if omit && emptied(v.Field(i)) { // by its author's word
				m[sf.Name] = model(reflect.Zero(sf.Type), loose)
			}
		}
		if loose { // the names are those of JSON
			var plain any
			data, err := json.Marshal(v.Interface())
			if err != nil || json.Unmarshal(data, &plain) != nil {
				return err
			}
			return plain
		}
		return m
	default:
		return fmt.Sprintf("%#v", v)
	}
}

func emptied(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String, reflect.Array:
		return v.Len() == 0
	case reflect.Float64, reflect.Float32:
		return v.Float() == 0
	default:
		return false
	}
}

// rawModel is the model of JSON text. In an any, a number is a float64 if that
// is the number that the text says.
func rawModel(data []byte, loose bool) any {
	if len(data) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return string(data)
	}
	if loose {
		return loosen(v)
	}
	return v
}

func loosen(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if text := strconv.FormatFloat(f, 'f', -1, 64); err == nil && (len(v) < 16 || text == string(v)) {
			return f
		}
		return "number " + string(v)
	case []any:
		for i := range v {
			v[i] = loosen(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = loosen(v[k])
		}
	}
	return v
}

// clean reports whether v has nothing that anyone could want refused: then it
// must be kept.
func clean(v reflect.Value) bool {
	if !cleanType(v.Type()) {
		return false
	}
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Float64, reflect.Float32:
		return !math.IsInf(v.Float(), 0) && !math.IsNaN(v.Float())
	case reflect.Pointer:
		return v.IsNil() || clean(v.Elem())
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !clean(v.Index(i)) {
				return false
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if !clean(it.Key()) || !clean(it.Value()) {
				return false
			}
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			if !clean(field) {
				return false
			}
		}
	}
	return true
}

func cleanType(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer:
		switch t.Elem().Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			return false
		}
		return cleanType(t.Elem())
	case reflect.Slice, reflect.Array, reflect.Map:
		return t.NumMethod() == 0 && cleanType(t.Elem())
	case reflect.Struct:
		if t.Name() != "" {
			return t == reflect.TypeFor[Base]()
		}
		for sf := range t.Fields() {
			if sf.Tag != "" || sf.Anonymous || !cleanType(sf.Type) {
				return false
			}
		}
		return true
	case reflect.Interface:
		return false
	default:
		return t.PkgPath() == ""
	}
}
