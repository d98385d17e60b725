package schema_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fermata-go/fermata/internal/codec"
	"github.com/fermata-go/fermata/internal/schema"
)

type numbers struct {
	I   int
	I8  int8  `json:"i8"`
	I16 int16 `json:",omitempty"`
	I32 int32
	I64 int64
	U   uint
	U8  uint8
	U64 uint64
	F32 float32
	F64 float64
	N   json.Number
	Q   int32 `json:",string"`
}

type lists struct {
	Bytes []byte
	Three [3]int
	None  [0]string
	L     [][]string
	P     []*bool
	M     map[string][]int8
	K     map[int16]*string
	U     map[uint64]struct{}
	T     []time.Time
	D     time.Duration
	E     embedded
	Any   []any
	Self  *lists `json:",omitempty"`
}

var answerTypes = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[string](), reflect.TypeFor[*string](), reflect.TypeFor[int](), reflect.TypeFor[int8](),
	reflect.TypeFor[uint](), reflect.TypeFor[uint16](), reflect.TypeFor[uint64](), reflect.TypeFor[*int64](), reflect.TypeFor[float64](),
	reflect.TypeFor[float32](), reflect.TypeFor[json.Number](), reflect.TypeFor[*big.Int](), reflect.TypeFor[big.Int](), reflect.TypeFor[json.RawMessage](),
	reflect.TypeFor[any](), reflect.TypeFor[[]any](), reflect.TypeFor[map[string]any](), reflect.TypeFor[[]byte](), reflect.TypeFor[[3]int](),
	reflect.TypeFor[[][]string](), reflect.TypeFor[map[int8]string](), reflect.TypeFor[map[uint]bool](), reflect.TypeFor[map[string]*time.Time](),
	reflect.TypeFor[time.Time](), reflect.TypeFor[struct{}](), reflect.TypeFor[decision](), reflect.TypeFor[*decision](), reflect.TypeFor[tree](),
	reflect.TypeFor[forest](), reflect.TypeFor[twice](), reflect.TypeFor[embedded](), reflect.TypeFor[color](), reflect.TypeFor[[]money](),
	reflect.TypeFor[plain](), reflect.TypeFor[raw](), reflect.TypeFor[numbers](), reflect.TypeFor[lists](),
}

// TestWhatIsValidCanBeRead holds the two promises: a value that is written is
// valid, and what is valid is read. Values are spoilt in one place, or not.
func TestWhatIsValidCanBeRead(t *testing.T) {
	t.Parallel()
	valid, invalid := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom(answerTypes).Draw(t, "type")
		s, err := schema.For(typ)
		if err != nil {
			t.Fatal(err)
		}
		v := reflect.New(typ)
		fill(t, v.Elem(), 3)
		data, err := codec.Encode(codec.JSON(), v.Interface(), 0)
		if err != nil {
			t.Skip(err) // no value that is ever stored
		}
		if err := schema.Validate(s, data); err != nil && !strings.Contains(string(data), `blue`) {
			t.Fatalf("%s writes %s, which its schema %s refuses: %v", typ, data, s, err)
		}
		if rapid.Bool().Draw(t, "spoil") {
			data = spoil(t, data)
		}
		checkAnswer(t, typ, s, data, &valid, &invalid)
	})
	t.Logf("%d valid, %d not", valid, invalid)
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func checkAnswer(t fataler, typ reflect.Type, s, data []byte, valid, invalid *int) {
	t.Helper()
	err := schema.Validate(s, data)
	into := reflect.New(typ)
	decodeErr := codec.Decode(codec.JSON(), data, into.Interface())
	if err != nil {
		*invalid++
		var e *schema.Error
		if !errors.As(err, &e) || len(e.Fields) == 0 || e.Fields[0].Message == "" {
			t.Fatalf("%s: %v", data, err)
		}
		return
	}
	*valid++
	if decodeErr != nil {
		t.Fatalf("%s is valid, but not read as %s: %v\n%s", data, typ, decodeErr, s)
	}
	if again, err := codec.Encode(codec.JSON(), into.Interface(), 0); err == nil {
		if err := schema.Validate(s, again); err != nil {
			t.Fatalf("%s is valid, and %s, which it is written as again, is not: %v", data, again, err)
		}
	}
}

var spoilt = []string{
	`null`, `true`, `""`, `"a"`, `"1"`, `"01"`, `"-0"`, `" 1"`, `"2026-01-01T00:00:00Z"`, `"2026-01-01t00:00:00z"`, `"2026-01-01T24:00:00Z"`, `"2026-01-01T00:00:00,5Z"`,
	`"AA=="`, `"AA="`, `"A\nA=="`, `"A A="`, `"\u0041A=="`, `"\ud800"`, `"red"`, `"7 EUR"`, `0`, `-0`, `-1`, `1.0`, `1.5`, `1e2`, `127`, `128`, `-129`, `256`, `65536`, `2147483648`, `4294967296`,
	`9007199254740993`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775808`, `-9223372036854775809`, `18446744073709551615`, `18446744073709551616`,
	`3.5e38`, `1e400`, `-1e-400`, `123456789012345678901234567890`, `[]`, `[1,2]`, `[1,2,3]`, `[1,2,3,4]`, `[null]`, `{}`, `{"a":1}`, `{"a":null}`, `{"-0":""}`, `{"1":null}`, `{"300":""}`,
}

// spoil replaces, renames or adds one part of a value.
func spoil(t *rapid.T, data []byte) []byte {
	var v any
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	v = spoilPart(t, v)
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func spoilPart(t *rapid.T, v any) any {
	bad := json.RawMessage(rapid.SampledFrom(spoilt).Draw(t, "bad"))
	if rapid.IntRange(0, 2).Draw(t, "here") == 0 {
		return bad
	}
	switch v := v.(type) {
	case []any:
		if len(v) == 0 {
			return append(v, bad)
		}
		i := rapid.IntRange(0, len(v)-1).Draw(t, "index")
		v[i] = spoilPart(t, v[i])
		return v
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		if len(names) == 0 {
			v["new"] = bad
			return v
		}
		// Sorted, for the same draws give the same value.
		name := rapid.SampledFrom(sorted(names)).Draw(t, "name")
		switch rapid.IntRange(0, 5).Draw(t, "how") {
		case 0:
			delete(v, name)
		case 1:
			v[strings.ToUpper(name)] = v[name]
			if strings.ToUpper(name) != name {
				delete(v, name)
			}
		case 2:
			v["new"] = bad
		default:
			v[name] = spoilPart(t, v[name])
		}
		return v
	default:
		return bad
	}
}

func sorted(s []string) []string {
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	return s
}

func fill(t *rapid.T, v reflect.Value, depth int) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(rapid.Int64Range(-6e10, 2e11).Draw(t, "sec"), rapid.Int64Range(0, 1e9).Draw(t, "ns")).UTC()
		return
	case *json.RawMessage:
		*x = json.RawMessage(rapid.SampledFrom([]string{"null", "1", `{"a":[1]}`}).Draw(t, "raw"))
		return
	case *json.Number:
		*x = json.Number(rapid.SampledFrom([]string{"1", "1.0", "-2e3", "123456789012345678901"}).Draw(t, "number"))
		return
	case *big.Int:
		x.SetString(rapid.SampledFrom([]string{"0", "-1", "123456789012345678901234567890"}).Draw(t, "big"), 10)
		return
	case *color:
		*x = rapid.SampledFrom([]color{"red", "green", "blue"}).Draw(t, "color")
		return
	case *money:
		x.cents = rapid.IntRange(0, 999999999).Draw(t, "cents")
		return
	case *plain:
		x.Reason = "r"
		return
	case *any:
		*x = rapid.SampledFrom([]any{nil, 1.5, "a", true, 1e20, []any{1}, map[string]any{"a": []any{}}, json.Number("2.50")}).Draw(t, "any")
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.SampledFrom([]string{"", "a", "\u2028", "\"", "1"}).Draw(t, "string"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "float"))
	case reflect.Float32:
		v.SetFloat(float64(rapid.Float32Range(-math.MaxFloat32, math.MaxFloat32).Draw(t, "float")))
	case reflect.Pointer:
		if depth > 0 && rapid.Bool().Draw(t, "set") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth-1)
		}
	case reflect.Slice:
		if rapid.Bool().Draw(t, "set") {
			n := 0
			if depth > 0 {
				n = rapid.IntRange(0, 2).Draw(t, "len")
			}
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), depth-1)
		}
	case reflect.Map:
		if depth <= 0 || rapid.Bool().Draw(t, "nil") {
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
		for _, field := range v.Fields() {
			fill(t, field, depth-1)
		}
	default:
		if v.CanInt() {
			v.SetInt(rapid.Int64().Draw(t, "int"))
		} else {
			v.SetUint(rapid.Uint64().Draw(t, "uint"))
		}
	}
}

// FuzzValidate holds the promise for any bytes, and that no schema and no
// value make a panic.
func FuzzValidate(f *testing.F) {
	schemas := make([][]byte, len(answerTypes))
	for i, typ := range answerTypes {
		s, err := schema.For(typ)
		if err != nil {
			f.Fatal(err)
		}
		schemas[i] = s
		f.Add(s, []byte(`{"a":[1,"b",null,{"Name":1.5}]}`))
	}
	for _, s := range spoilt {
		f.Add([]byte(`{"oneOf":[{"type":"integer","multipleOf":2},{"not":{"type":["string","null"]},"uniqueItems":true}]}`), []byte(s))
	}
	f.Fuzz(func(t *testing.T, s, data []byte) {
		_ = schema.Validate(s, data)
		var n int
		for i, typ := range answerTypes {
			checkAnswer(t, typ, schemas[i], data, &n, &n)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	s, err := schema.For(reflect.TypeFor[[]decision]())
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 100_000} {
		value := []byte("[" + strings.Repeat(`{"approve":true,"note":"all of the lines are fine, but the last one is not","cents":12},`, n-1) + `{"approve":true,"cents":null}]`)
		b.Run(fmt.Sprint(len(value)), func(b *testing.B) {
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if err := schema.Validate(s, value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
