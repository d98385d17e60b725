package codec_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata/internal/codec"
	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

// transfer encodes v, which is of the type that the caller's variable has.
func transfer[T any](t *testing.T, v T) (T, []byte, error) {
	t.Helper()
	var out T
	data, err := codec.Transfer(codec.JSON(), v, 0, &out)
	return out, data, err
}

type (
	node   struct{ Next *node }
	loop   *loop
	tree   map[string]tree
	chain  []chain
	base   struct{ ID string }
	Base   struct{ ID string }
	Loaded struct {
		Note string `json:"note,omitempty"`
	}
	stamped struct {
		time.Time
		Note string
	}
	stampedOwn struct {
		time.Time
		Note string
	}
	onlyMarshal   struct{ A int }
	onlyUnmarshal struct{ A int }
	halfText      struct{ a int }
	byPointer     struct{ A int }
	forgetful     struct{ A, B int }
	panics        struct{ A int }
	nullable      struct{ Set bool }
	textKey       struct{ N int }
	lower         string
	opaque        struct{ a, b int }
	guarded       struct {
		sync.Mutex
		N int
	}
	ignored struct {
		C     chan int `json:"-"`
		Count int
		cache map[string]int
	}
)

func (onlyMarshal) MarshalJSON() ([]byte, error)  { return []byte(`1`), nil }
func (*onlyUnmarshal) UnmarshalJSON([]byte) error { return nil }
func (h halfText) MarshalText() ([]byte, error)   { return nil, nil }
func (p *byPointer) MarshalJSON() ([]byte, error) { return json.Marshal(p.A) }
func (p *byPointer) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &p.A) }
func (f forgetful) MarshalJSON() ([]byte, error)  { return json.Marshal([]int{f.A, f.B}) }
func (f *forgetful) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&f.A})
}
func (panics) MarshalJSON() ([]byte, error) { return []byte(`{}`), nil }
func (*panics) UnmarshalJSON([]byte) error  { panic("oh no") }
func (n nullable) MarshalJSON() ([]byte, error) {
	if !n.Set {
		return []byte("null"), nil
	}
	return []byte("true"), nil
}
func (n *nullable) UnmarshalJSON(b []byte) error {
	n.Set = string(b) == "true"
	if !n.Set && string(b) != "null" {
		return errors.New("neither true nor null")
	}
	return nil
}
func (k textKey) MarshalText() ([]byte, error) { return fmt.Append(nil, k.N%10), nil }
func (k *textKey) UnmarshalText(b []byte) error {
	_, err := fmt.Sscan(string(b), &k.N)
	return err
}
func (l *lower) UnmarshalText(b []byte) error { *l = lower(strings.ToLower(string(b))); return nil }
func (s stampedOwn) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{s.Time, s.Note})
}
func (s *stampedOwn) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&s.Time, &s.Note})
}

func TestCheckRefusesTypes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		typ  reflect.Type
		path string
		want string // in the message
	}{
		{"chan", reflect.TypeFor[chan int](), "", "chan can't be stored"},
		{"func in a struct", reflect.TypeFor[struct{ F func() }](), "/F", "func can't be stored"},
		{"complex in a list", reflect.TypeFor[struct{ L []map[string]complex128 }](), "/L/*/*", "complex128 can't be stored"},
		{"interface", reflect.TypeFor[struct{ Err error }](), "/Err", "interface error"},
		{"unexported only", reflect.TypeFor[struct{ O opaque }](), "/O", "has no exported field"},
		{"embedded mutex", reflect.TypeFor[guarded](), "", "sync.Mutex has no exported field"},
		{"wait group", reflect.TypeFor[sync.WaitGroup](), "", "no exported field"},
		{"two embedded with methods", reflect.TypeFor[struct {
			time.Time
			*big.Int
		}](), "", "time.Time has no exported field"},
		{"two names", reflect.StructOf([]reflect.StructField{
			{Name: "A", Type: reflect.TypeFor[int](), Tag: `json:"x"`}, {Name: "B", Type: reflect.TypeFor[int](), Tag: `json:"x"`},
		}), "", `the fields A and B are both named "x"`},
		{"hidden name", reflect.TypeFor[struct {
			ID int
			Base
		}](), "", "the fields ID and Base.ID"},
		{"ambiguous names", reflect.TypeFor[struct {
			Base
			base
		}](), "", "Base.ID and base.ID"},
		{"embedded pointer unexported", reflect.TypeFor[struct{ *base }](), "", "unexported"},
		{"embedded pointer that may vanish", reflect.TypeFor[struct{ *Loaded }](), "", "nil and empty would be the same"},
		{"marshal only", reflect.TypeFor[[]onlyMarshal](), "/*", "give it UnmarshalJSON too"},
		{"unmarshal only", reflect.TypeFor[onlyUnmarshal](), "", "no marshal method"},
		{"text only", reflect.TypeFor[*halfText](), "", "give it UnmarshalText too"},
		{"pointer method in a map", reflect.TypeFor[map[string]struct{ X byPointer }](), "", "use map[string]*struct"},
		{"float keys", reflect.TypeFor[map[float64]int](), "", "keys of type float64"},
		{"struct keys", reflect.TypeFor[map[Base]int](), "", "keys of type codec_test.Base"},
		{"any keys", reflect.TypeFor[map[any]int](), "", "keys of type interface {}"},
		{"asymmetric keys", reflect.TypeFor[map[lower]int](), "", "read with UnmarshalText"},
		{"key that can't be read", reflect.TypeFor[map[halfText]int](), "", "only one of MarshalText"},
		{"in a recursive type", reflect.TypeFor[struct {
			Up *node
			C  chan int
		}](), "/C", "chan"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := codec.Check(codec.JSON(), tt.typ)
			wantError(t, err, "check", tt.path, codec.ErrLossy, tt.want)
		})
	}
}

func wantError(t *testing.T, err error, op, path string, sentinel error, text string) {
	t.Helper()
	var e *codec.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error about %q", err, text)
	}
	if e.Op != op || e.Path != path || !errors.Is(err, sentinel) || !strings.Contains(err.Error(), text) {
		t.Errorf("got  %s (path %q, %v)\nwant %s at %q: %v … %s", err, e.Path, errors.Is(err, sentinel), op, path, sentinel, text)
	}
	if e.Type == "" || !strings.Contains(err.Error(), e.Type) {
		t.Errorf("%s names no type", err)
	}
}

func TestCheckAllows(t *testing.T) {
	t.Parallel()
	for _, typ := range []reflect.Type{
		reflect.TypeFor[struct{}](), reflect.TypeFor[struct{ _ [0]func() }](), reflect.TypeFor[ignored](),
		reflect.TypeFor[node](), reflect.TypeFor[loop](), reflect.TypeFor[tree](), reflect.TypeFor[chain](),
		reflect.TypeFor[any](), reflect.TypeFor[map[string]any](), reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](),
		reflect.TypeFor[*big.Int](), reflect.TypeFor[big.Float](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[net.IP](),
		reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Number](), reflect.TypeFor[map[netip.Addr][3]int8](),
		reflect.TypeFor[map[time.Time]bool](), reflect.TypeFor[stamped](), reflect.TypeFor[[]byPointer](), reflect.TypeFor[map[string]*byPointer](),
		reflect.TypeFor[struct {
			Base
			Count int `json:",string"`
		}](),
		reflect.TypeFor[struct{ *Base }](),
		reflect.TypeFor[struct{ base }](),
	} {
		if err := codec.Check(codec.JSON(), typ); err != nil {
			t.Errorf("Check(%s) = %v", typ, err)
		}
	}
}

func TestTransferRefusesValues(t *testing.T) {
	t.Parallel()
	cycle := &node{}
	cycle.Next = &node{Next: cycle}
	var spin loop
	spin = &spin
	round := tree{}
	round["a"] = round
	var ring any = map[string]any{}
	ring.(map[string]any)["x"] = []any{ring}
	long := &node{}
	for range 2 * jsonscan.MaxDepth {
		long = &node{Next: long}
	}
	var nilInt *int
	var nilList []int
	for _, tt := range []struct {
		name string
		run  func() error
		path string
		want string
	}{
		{"NaN", try(math.NaN()), "", "NaN"},
		{"infinity in a map", try(map[string][]float32{"b": {1, float32(math.Inf(-1))}, "a": {2}}), "/b/1", "-Inf"},
		{"bad UTF-8", try("a\xff"), "", "not valid UTF-8"},
		{"bad UTF-8 in a field", try(struct {
			A int
			S []string `json:"s~/"`
		}{1, []string{"", "\xc3"}}), "/s~0~1/1", "not valid UTF-8"},
		{"bad UTF-8 in a key", try(map[string]int{"\xff": 1}), "/\xff", "not valid UTF-8"},
		{"bad UTF-8 in an any", try[any](map[string]any{"a": []any{"\xff"}}), "/a/0", "not valid UTF-8"},
		{"cycle of pointers", try(cycle), strings.Repeat("/Next", 32) + "/…", "cycle"},
		{"pointer to itself", try(spin), "", "cycle"},
		{"map in itself", try(round), strings.Repeat("/a", 32) + "/…", "cycle"},
		{"any in itself", try(ring), strings.Repeat("/x/0", 16) + "/…", "cycle"},
		{"too long a list", try(long), strings.Repeat("/Next", 32) + "/…", "nested deeper"},
		{"pointer to nil pointer", try(struct{ P **int }{&nilInt}), "/P", "nil pointer"},
		{"pointer to nil slice", try([]*[]int{&nilList}), "/0", "nil pointer"},
		{"pointer to what is null", try(&nullable{}), "", "written as null"},
		{"large integer in an any", try[any](map[string]any{"n": int64(1<<53 + 1)}), "/n", "float64"},
		{"large integer at the root", try[any](uint64(math.MaxUint64)), "", "float64"},
		{"large json.Number in an any", try[any]([]any{json.Number("123456789012345678901")}), "/0", "float64"},
		{"long fraction in an any", try[any](json.Number("0.1000000000000000055511151231257827")), "", "float64"},
		{"NaN in a struct in an any", try[any](&struct{ F float64 }{math.NaN()}), "/F", "NaN"},
		{"unexported only in an any", try[any]([]any{errors.New("x")}), "/0", "no exported field"},
		{"chan in an any", try[any](map[string]any{"c": make(chan int)}), "/c", "chan"},
		{"pointer method in an any", try[any](byPointer{1}), "", "put a pointer there"},
		{"empty json.Number", try(struct{ N json.Number }{}), "/N", "no number"},
		{"wrong json.Number", try(json.Number(" 1")), "", "no number"},
		{"promoted marshal method", try([]stamped{{Time: time.Unix(0, 0), Note: "x"}}), "/0", "embedded field Time"},
		{"forgetful", try(struct{ F forgetful }{forgetful{1, 2}}), "/F/1", "another value"},
		{"panic", try([]panics{{}}), "/0", "oh no"},
		{"time out of range", try(struct{ At time.Time }{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}), "/At", "year outside"},
		{"keys that are one in JSON", try(map[textKey]int{{1}: 1, {11}: 2}), "/1", "occurs twice"},
		{"half a surrogate in raw JSON", try(json.RawMessage(`"\ud800"`)), "", "surrogate"},
		{"raw bytes that are not JSON", try(struct{ R json.RawMessage }{json.RawMessage(`{`)}), "/R", "unexpected end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantError(t, tt.run(), "encode", tt.path, codec.ErrLossy, tt.want)
		})
	}
}

// try transfers v, and holds Encode to the same answer.
func try[T any](v T) func() error {
	return func() error {
		var out T
		_, err := codec.Transfer(codec.JSON(), v, 0, &out)
		_, encodeErr := codec.Encode(codec.JSON(), &v, 0)
		if (err == nil) != (encodeErr == nil) {
			return fmt.Errorf("Transfer: %w, but Encode: %w", err, encodeErr)
		}
		return err
	}
}

func TestTransferKeeps(t *testing.T) {
	t.Parallel()
	seven := 7
	at := time.Date(2026, 11, 22, 15, 4, 5, 6, time.FixedZone("", 3600))
	for _, tt := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"string", keeps("a \"b\" <&> \u2028 é \ufffd\n", "\"a \\\"b\\\" <&> \\u2028 é \ufffd\\n\"")},
		{"literal escape", keeps([]string{`\ufffd`}, `["\\ufffd"]`)},
		{"bytes", keeps([]byte{0, 255}, `"AP8="`)},
		{"nil bytes", keeps([]byte(nil), `null`)},
		{"empty bytes", keeps([]byte{}, `""`)},
		{"ints", keeps([]int64{math.MinInt64, math.MaxInt64}, `[-9223372036854775808,9223372036854775807]`)},
		{"uint", keeps(uint64(math.MaxUint64), `18446744073709551615`)},
		{"bool", keeps(true, `true`)},
		{"floats", keeps([]float64{0.1, 1e21, math.SmallestNonzeroFloat64}, `[0.1,1e+21,5e-324]`)},
		{"float32", keeps(float32(0.1), `0.1`)},
		{"pointer", keeps(&seven, `7`)},
		{"nil pointer", keeps((*int)(nil), `null`)},
		{"pointer to pointer", keeps(new(&seven), `7`)},
		{"nil slice and empty slice", keeps([][]int{nil, {}}, `[null,[]]`)},
		{"map in order", keeps(map[int]string{10: "b", 9: "a"}, `{"10":"b","9":"a"}`)},
		{"array", keeps([2]bool{true}, `[true,false]`)},
		{"empty struct", keeps(struct{}{}, `{}`)},
		{"time", keeps(struct{ At time.Time }{at}, `{"At":"2026-11-22T15:04:05.000000006+01:00"}`)},
		{"duration", keeps(time.Second, `1000000000`)},
		{"big", keeps(big.NewInt(1).Lsh(big.NewInt(1), 100), `1267650600228229401496703205376`)},
		{"address key", keeps(map[netip.Addr]int{netip.MustParseAddr("::1"): 1}, `{"::1":1}`)},
		{"embedded", keeps(struct {
			Base
			N int `json:"n,omitempty"`
		}{Base{"x"}, 0}, `{"ID":"x"}`)},
		{"quoted", keeps(struct {
			N int     `json:",string"`
			P *uint8  `json:",string"`
			S string  `json:",string"`
			F float64 `json:",string"`
		}{1, nil, "1", 0.5}, `{"N":"1","P":null,"S":"\"1\"","F":"0.5"}`)},
		{"custom by pointer", keeps([]byPointer{{1}}, `[1]`)},
		{"custom root by pointer", keeps(byPointer{1}, `1`)},
		{"null of its own", keeps([]nullable{{}, {true}}, `[null,true]`)},
		{"raw", keeps(json.RawMessage(`{"b":12345678901234567890,"a":1.0}`), `{"b":12345678901234567890,"a":1.0}`)},
		{"own methods beside an embedded one", keeps(stampedOwn{at, "x"}, `["2026-11-22T15:04:05.000000006+01:00","x"]`)},
		{"promoted without loss", keeps(stamped{Time: at}, `"2026-11-22T15:04:05.000000006+01:00"`)},
		{"list", keeps(&node{&node{}}, `{"Next":{"Next":null}}`)},
	} {
		t.Run(tt.name, tt.run)
	}
}

func keeps[T any](v T, want string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Parallel()
		out, data, err := transfer(t, v)
		if err != nil {
			t.Fatal(err)
		}
		if string(data) != want {
			t.Errorf("bytes %s, want %s", data, want)
		}
		// Pointers into big.Int and time.Time are compared by their methods.
		opt := cmp.Options{cmp.Comparer(func(a, b big.Int) bool { return a.Cmp(&b) == 0 }), cmp.AllowUnexported(netip.Addr{}),
			cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}
		if diff := cmp.Diff(v, out, opt); diff != "" {
			t.Errorf("copy differs (-value +copy):\n%s", diff)
		}
		encoded, err := codec.Encode(codec.JSON(), v, 0)
		if err != nil || string(encoded) != want {
			t.Errorf("Encode: %s, %v", encoded, err)
		}
		again := new(v) // what the variable held doesn't matter
		if err := codec.Decode(codec.JSON(), data, again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(out, *again, opt); diff != "" {
			t.Errorf("decoded differs (-copy +decoded):\n%s", diff)
		}
	}
}

func TestAnyIsNormalised(t *testing.T) {
	t.Parallel()
	type pair struct {
		Z int
		A any
	}
	out, data, err := transfer[any](t, map[string]any{
		"int": 3, "struct": pair{1, []byte("x")}, "nil": (*int)(nil), "slice": []int(nil), "number": json.Number("1.50"),
		"pointer": &byPointer{2}, "time": time.Unix(0, 0).UTC(), "only marshal": onlyMarshal{},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"int": 3.0, "struct": map[string]any{"Z": 1.0, "A": "eA=="}, "nil": nil, "slice": nil, "number": 1.5,
		"pointer": 2.0, "time": "1970-01-01T00:00:00Z", "only marshal": 1.0,
	}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	again, err := codec.Encode(codec.JSON(), out, 0)
	if err != nil || string(again) != string(data) {
		t.Errorf("the copy is written as\n%s, not as\n%s (%v)", again, data, err)
	}
}

func TestAuthorsChoices(t *testing.T) {
	t.Parallel()
	out, data, err := transfer(t, ignored{C: make(chan int), Count: 1, cache: map[string]int{"a": 1}})
	if err != nil || string(data) != `{"Count":1}` {
		t.Fatal(string(data), err)
	}
	if out.C != nil || out.cache != nil || out.Count != 1 {
		t.Errorf("the copy is %+v: live code would see more than a replay", out)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	var out string
	for _, limit := range []int{1, 11} {
		_, err := codec.Transfer(codec.JSON(), "0123456789", limit, &out)
		var e *codec.Error
		if !errors.As(err, &e) || !errors.Is(err, codec.ErrTooLarge) || e.Size != 12 || e.Limit != limit {
			t.Errorf("limit %d: %v", limit, err)
		}
		if _, err := codec.Encode(codec.JSON(), []string{"0123456789"}, limit); !errors.Is(err, codec.ErrTooLarge) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	for _, limit := range []int{0, 12, 1 << 20} {
		if data, err := codec.Transfer(codec.JSON(), "0123456789", limit, &out); err != nil || len(data) != 12 {
			t.Errorf("limit %d: %s, %v", limit, data, err)
		}
	}
}
