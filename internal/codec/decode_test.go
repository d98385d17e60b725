package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata/internal/codec"
	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

type everything struct {
	S   string           `json:"s"`
	I   int8             `json:"i"`
	U   uint64           `json:"u"`
	F   float32          `json:"f"`
	B   bool             `json:"b"`
	Raw []byte           `json:"raw"`
	L   []int            `json:"l"`
	Arr [2]string        `json:"arr"`
	M   map[string]*int  `json:"m"`
	K   map[int8]bool    `json:"k"`
	T   map[textKey]bool `json:"t"`
	P   *everything      `json:"p"`
	Any any              `json:"any"`
	At  time.Time        `json:"at"`
	Num json.Number      `json:"num"`
	Nul nullable         `json:"nul"`
	Big *big.Int         `json:"big"`
	IP  net.IP           `json:"ip"`
	Q   int              `json:"q,string"`
	QP  *string          `json:"qp,string"`
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", jsonscan.MaxDepth+1) + strings.Repeat("]", jsonscan.MaxDepth+1)
	for _, tt := range []struct {
		name     string
		data     string
		path     string
		sentinel error
		want     string
	}{
		{"empty", ``, "", codec.ErrSyntax, "ends early"},
		{"cut off", `{"s":"a`, "/s", codec.ErrSyntax, "ends early"},
		{"trailing", `{} {}`, "", codec.ErrSyntax, "more than one value"},
		{"not JSON", "\x00\x01", "", codec.ErrSyntax, "byte 0"},
		{"bad UTF-8", "{\"s\":\"\xff\"}", "/s", codec.ErrSyntax, "UTF-8"},
		{"half a surrogate", `{"any":["\udc00"]}`, "/any/0", codec.ErrSyntax, "surrogate"},
		{"repeated field", `{"i":1,"i":2}`, "/i", codec.ErrSyntax, "twice"},
		{"repeated field in other case", `{"i":1,"I":2}`, "/i", codec.ErrSyntax, "twice"},
		{"repeated key", `{"m":{"a":1,"\u0061":2}}`, "/m/a", codec.ErrSyntax, "twice"},
		{"repeated in an any", `{"any":{"x":{"a":1,"b":2,"a":3}}}`, "/any/x/a", codec.ErrSyntax, "twice"},
		{"too deep", `{"any":` + deep + `}`, "/any" + strings.Repeat("/0", 31) + "/…", codec.ErrSyntax, "nested deeper"},
		{"null struct", `null`, "", codec.ErrMismatch, "null is stored"},
		{"null string", `{"s":null}`, "/s", codec.ErrMismatch, "null is stored"},
		{"null int", `{"l":[1,null]}`, "/l/1", codec.ErrMismatch, "null is stored"},
		{"null bool", `{"b":null}`, "/b", codec.ErrMismatch, "null is stored"},
		{"null array", `{"arr":null}`, "/arr", codec.ErrMismatch, "null is stored"},
		{"null time", `{"at":null}`, "/at", codec.ErrMismatch, "null is stored"},
		{"null number", `{"num":null}`, "/num", codec.ErrMismatch, "null is stored"},
		{"null quoted", `{"q":null}`, "/q", codec.ErrMismatch, "null is stored"},
		{"null in quotes", `{"q":"null"}`, "/q", codec.ErrMismatch, "null is stored in quotes"},
		{"string for int", `{"i":"1"}`, "/i", codec.ErrMismatch, "a string is stored, which is no int8"},
		{"number for string", `{"p":{"p":{"s":1}}}`, "/p/p/s", codec.ErrMismatch, "a number is stored, which is no string"},
		{"object for list", `{"l":{}}`, "/l", codec.ErrMismatch, "an object is stored, which is no []int"},
		{"list for object", `[]`, "", codec.ErrMismatch, "an array is stored, which is no codec_test.everything"},
		{"too large", `{"i":128}`, "/i", codec.ErrMismatch, "none that int8 can hold"},
		{"fraction", `{"m":{"x":1.5}}`, "/m/x", codec.ErrMismatch, "none that int can hold"},
		{"negative", `{"u":-1}`, "/u", codec.ErrMismatch, "none that uint64 can hold"},
		{"overflow", `{"f":1e39}`, "/f", codec.ErrMismatch, "none that float32 can hold"},
		{"not base64", `{"raw":"?"}`, "/raw", codec.ErrMismatch, "not base64"},
		{"list for bytes", `{"raw":[1]}`, "/raw", codec.ErrMismatch, "no []uint8"},
		{"short array", `{"arr":["a"]}`, "/arr", codec.ErrMismatch, "1 elements are stored"},
		{"long array", `{"arr":["a","b","c"]}`, "/arr", codec.ErrMismatch, "3 elements are stored"},
		{"key no number", `{"k":{"x":true}}`, "/k/x", codec.ErrMismatch, "no key of type int8"},
		{"key out of range", `{"k":{"128":true}}`, "/k/128", codec.ErrMismatch, "no key of type int8"},
		{"empty key", `{"k":{"":true}}`, "/k/", codec.ErrMismatch, "no key of type int8"},
		{"key spelled otherwise", `{"k":{"1":true,"01":false}}`, "/k/01", codec.ErrMismatch, "no key of type int8"},
		{"text key", `{"t":{"x":true}}`, "/t/x", codec.ErrMismatch, "textKey can't read"},
		{"not a time", `{"at":"yesterday"}`, "/at", codec.ErrMismatch, "time.Time can't read"},
		{"not an address", `{"ip":"1.2.3"}`, "/ip", codec.ErrMismatch, "net.IP can't read"},
		{"number in quotes", `{"num":"1"}`, "/num", codec.ErrMismatch, "a string is stored"},
		{"quoted is not quoted", `{"q":1}`, "/q", codec.ErrMismatch, "option string"},
		{"quoted no number", `{"q":"1 2"}`, "/q", codec.ErrMismatch, "holds no int"},
		{"integer for any", `{"any":[9007199254740993]}`, "/any/0", codec.ErrMismatch, "float64"},
		{"overflow for any", `{"any":1e400}`, "/any", codec.ErrMismatch, "float64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			into := everything{S: "before", L: []int{1}}
			err := codec.Decode(codec.JSON(), []byte(tt.data), &into)
			wantError(t, err, "decode", tt.path, tt.sentinel, tt.want)
			if !reflect.ValueOf(into).IsZero() {
				t.Errorf("left behind: %+v", into)
			}
			if tt.sentinel == codec.ErrMismatch && !strings.Contains(err.Error(), "; ") {
				t.Errorf("%v doesn't say what to do", err)
			}
		})
	}
}

func TestDecodeTolerates(t *testing.T) {
	t.Parallel()
	one, text := 1, "x"
	for _, tt := range []struct {
		name, data string
		want       everything
	}{
		{"removed field", `{"s":"a","gone":{"x":[1,{}]}}`, everything{S: "a"}},
		{"added field", `{}`, everything{}},
		{"other case", `{"S":"a"}`, everything{S: "a"}},
		{"space", " \n{ \"l\" : [ 1 ] }\t", everything{L: []int{1}}},
		{"escaped name", `{"\u0073":"a"}`, everything{S: "a"}},
		{"nil where there is nil", `{"raw":null,"l":null,"m":{"a":null},"p":null,"any":null,"nul":null,"big":null,"ip":null,"qp":null}`,
			everything{M: map[string]*int{"a": nil}}},
		{"all", `{"m":{"a":1},"k":{"-1":true},"any":{"n":9007199254740992,"f":0.1,"big":100000000000000000000},"num":1e400,"q":"-1","qp":"\"x\""}`,
			everything{M: map[string]*int{"a": &one}, K: map[int8]bool{-1: true}, Any: map[string]any{"n": 9007199254740992.0, "f": 0.1, "big": 1e20}, Num: "1e400", Q: -1, QP: &text}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			into := everything{S: "before", P: &everything{}, Any: &text, M: map[string]*int{"before": nil}}
			if err := codec.Decode(codec.JSON(), []byte(tt.data), &into); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, into); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodeIntoTypeOfToday(t *testing.T) {
	t.Parallel()
	var out struct{ Err error }
	wantError(t, codec.Decode(codec.JSON(), []byte(`{}`), &out), "decode", "/Err", codec.ErrMismatch, "interface error")
}

// FuzzDecode: whatever the bytes, there is an error and nothing else, or a value
// that is written as the same JSON again, as far as the type has room for it.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"s":"a","i":1,"u":2,"f":1.5,"b":true,"raw":"AA==","l":[1],"arr":["a","b"],"m":{"a":1},"k":{"1":true},"t":{"3":true},"p":{"s":"b"},"any":[null,{"x":1}],"at":"2026-01-01T00:00:00Z","num":1e3,"nul":true,"big":123,"ip":"::1","q":"1","qp":"\"x\""}`))
	f.Add([]byte(`{"any":{"a":1,"a":2}}`))
	f.Add([]byte(`{"S":"\u0000","gone":[[[]]]}`))
	f.Add([]byte(`"text"`))
	f.Add([]byte(`[[1,2],[3]]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, typ := range []reflect.Type{
			reflect.TypeFor[everything](), reflect.TypeFor[any](), reflect.TypeFor[string](), reflect.TypeFor[[]byte](),
			reflect.TypeFor[[][]float64](), reflect.TypeFor[map[string]json.RawMessage](), reflect.TypeFor[*int](),
		} {
			into := reflect.New(typ)
			err := codec.Decode(codec.JSON(), data, into.Interface())
			if err != nil {
				var e *codec.Error
				if !errors.As(err, &e) || !errors.Is(err, codec.ErrMismatch) && !errors.Is(err, codec.ErrSyntax) || !into.Elem().IsZero() {
					t.Fatalf("%q into %s: %v, %v", data, typ, err, into.Elem())
				}
				continue
			}
			again := reflect.New(typ)
			written, err := codec.Transfer(codec.JSON(), into.Elem().Interface(), 0, again.Interface())
			if err != nil {
				if strings.Contains(err.Error(), "no number") { // a json.Number that was not stored
					continue
				}
				t.Fatalf("%q is read as %s, which can't be written: %v", data, typ, err)
			}
			if !contains(t, data, written) {
				t.Fatalf("%q is read as a %s that is written as %s", data, typ, written)
			}
		}
	})
}

// contains reports whether what is in both texts is equal.
func contains(t *testing.T, stored, written []byte) bool {
	t.Helper()
	parse := func(data []byte) (v any) {
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	return within(parse(stored), parse(written))
}

func within(stored, written any) bool {
	switch s := stored.(type) {
	case map[string]any:
		w, ok := written.(map[string]any)
		if !ok {
			return false
		}
		for k, v := range s {
			if y, ok := w[k]; ok && !within(v, y) {
				return false
			}
		}
		return true
	case []any:
		w, ok := written.([]any)
		if !ok || len(w) != len(s) {
			return false
		}
		for i := range s {
			if !within(s[i], w[i]) {
				return false
			}
		}
		return true
	case json.Number:
		w, ok := written.(json.Number)
		if !ok {
			return false
		}
		x, _ := s.Float64()
		y, _ := w.Float64()
		return float32(x) == float32(y) || x == y // as exact as the fields allow
	case string:
		w, ok := written.(string)
		return ok && (w == s || sameSpelling(s, w))
	default:
		return stored == written
	}
}

// sameSpelling: times, addresses, base64 and quoted numbers have several.
func sameSpelling(a, b string) bool {
	x, err1 := time.Parse(time.RFC3339, a)
	y, err2 := time.Parse(time.RFC3339, b)
	if err1 == nil && err2 == nil {
		return x.Equal(y)
	}
	if ip := net.ParseIP(a); ip != nil || a == "" {
		return ip.Equal(net.ParseIP(b))
	}
	clean := func(s string) string { return strings.NewReplacer("\n", "", "\r", "", " ", "").Replace(s) }
	if clean(a) == clean(b) {
		return true
	}
	var p, q []byte
	if json.Unmarshal([]byte(`"`+clean(a)+`"`), &p) == nil && json.Unmarshal([]byte(`"`+clean(b)+`"`), &q) == nil && bytes.Equal(p, q) {
		return true
	}
	var u, v any
	return json.Unmarshal([]byte(a), &u) == nil && json.Unmarshal([]byte(b), &v) == nil && reflect.DeepEqual(u, v)
}
