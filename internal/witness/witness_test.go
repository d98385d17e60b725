package witness_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fermata-go/fermata/internal/witness"
)

var long = strings.Repeat("x", 100)

func TestEqual(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		a, b string
		want bool
	}{
		{"same", `"foo"`, `"foo"`, true},
		{"other text", `"foo"`, `"bar"`, false},
		{"nothing", ``, ``, true},
		{"nothing and null", ``, `null`, false},
		{"order", `{"a":1,"b":2}`, `{"b":2,"a":1}`, true},
		{"added zero", `{"a":1}`, `{"a":1,"b":0,"c":"","d":null,"e":false,"f":[],"g":{},"h":{"x":{"y":0}},"i":"0001-01-01T00:00:00Z"}`, true},
		{"added zero beyond the small size", `{"a":1}`, `{"a":1,"` + long + `":0}`, true},
		{"added zero within", `{"l":[{"a":1}],"` + long + `":1}`, `{"l":[{"b":"","a":1}],"` + long + `":1}`, true},
		{"list of objects", `[{"a":1}]`, `[{"a":1,"` + long + `":null}]`, true},
		{"zero in a list", `[0]`, `[]`, false},
		{"added field", `{"a":1}`, `{"a":1,"b":1}`, false},
		{"zeros in a list of a field", `{"a":[0,0]}`, `{}`, false},
		{"escaped name", `{"a":1}`, `{"\u0061":1}`, true},
		{"null and object", `null`, `{}`, false},
		{"list and object", `[]`, `{}`, false},
		{"zero object", `{"a":0}`, `{}`, true},
		{"names and values apart", `{"a":"1","b":"2"}`, `{"a":"1,b:2"}`, false},
		{"not JSON", `{"a":1`, `{"a":1`, true},
		{"not JSON, other bytes", `{"a":1,}`, `{"a":1}`, false},
		{"trailing", `{"a":1}{}`, `{"a":1}`, false},
		{"long text", `"` + long + `a"`, `"` + long + `b"`, false},
		{"many fields", object(40, ""), object(40, `"z":0`), true},
		{"many fields, one more", object(40, ""), object(40, `"z":1`), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key := []byte("key")
			for _, of := range []func([]byte) []byte{witness.Of, func(d []byte) []byte { return witness.OfKeyed(key, d) }} {
				a, b := of([]byte(tt.a)), of([]byte(tt.b))
				if witness.Equal(a, b) != tt.want || witness.Equal(b, a) != tt.want {
					t.Errorf("%s and %s (keyed %v): want %v", tt.a, tt.b, witness.Keyed(a), tt.want)
				}
				if d := witness.Diff(a, b); (len(d) == 0) != tt.want {
					t.Errorf("Diff(%s, %s) = %v", tt.a, tt.b, d)
				}
			}
			if d := witness.DiffInput(witness.Of([]byte(tt.a)), nil, []byte(tt.b)); (len(d) == 0) != tt.want {
				t.Errorf("DiffInput(%s, %s) = %v", tt.a, tt.b, d)
			}
		})
	}
}

// object returns an object with n fields of names that are in order.
func object(n int, more string) string {
	fields := make([]string, n)
	for i := range fields {
		fields[i] = fmt.Sprintf(`"f%03d":%d`, i, i+1)
	}
	if more != "" {
		fields = append(fields, more)
	}
	return "{" + strings.Join(fields, ",") + "}"
}

func TestDiff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		a, b string
		want []witness.Difference
	}{
		{"small", `"foo"`, `"bar"`, []witness.Difference{{"", `"foo"`, `"bar"`}}},
		{"small fields", `{"id":"r-1","n":1,"gone":true,"z":0}`, `{"id":"r-2","n":1,"new":[1]}`, []witness.Difference{
			{"gone", "true", "absent"}, {"id", `"r-1"`, `"r-2"`}, {"new", "absent", "[1]"},
		}},
		{"large text", `"` + long + `a"`, `"` + long + `b"`, []witness.Difference{{"", "differs", "differs"}}},
		{"large fields", `{"text":"` + long + `","n":1,"x":1}`, `{"text":"` + long + `","n":2,"y":{"a":[1]}}`, []witness.Difference{
			{"n", "differs", "differs"}, {"x", "differs", "absent"}, {"y", "absent", "differs"},
		}},
		{"small and large", `{"n":1}`, `{"n":2,"text":"` + long + `"}`, []witness.Difference{{"n", "1", "differs"}, {"text", "absent", "differs"}}},
		{"other kinds", `{"n":1}`, `[1]`, []witness.Difference{{"", `{"n":1}`, "[1]"}}},
		{"too many fields", object(40, ""), object(40, `"z":1`), []witness.Difference{{"", "differs", "differs"}}},
		{"bytes", "\xff\x00", "\x01", []witness.Difference{{"", `"\xff\x00"`, `"\x01"`}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := witness.Diff(witness.Of([]byte(tt.a)), witness.Of([]byte(tt.b)))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDiffInput(t *testing.T) {
	t.Parallel()
	a, b := `{"n":1,"gone":1,"text":"`+long+`"}`, `{"n":2,"new":3,"text":"`+strings.ToUpper(long)+`"}`
	got := witness.DiffInput(witness.Of([]byte(a)), nil, []byte(b))
	want := []witness.Difference{
		{"gone", "differs", "absent"}, {"n", "differs", "2"}, {"new", "absent", "3"},
		{"text", "differs", `"` + strings.ToUpper(long[:63]) + "…"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	key := []byte("key")
	got = witness.DiffInput(witness.OfKeyed(key, []byte(a)), key, []byte(b))
	named := map[string]bool{}
	for _, d := range got {
		named[d.Field] = true
		if d.Recorded != "differs" && d.Recorded != "absent" || d.Current != "differs" && d.Current != "absent" {
			t.Errorf("a value is shown: %v", d)
		}
	}
	if len(got) != 4 || !named["n"] || !named["new"] || !named["text"] {
		t.Errorf("got %v", got)
	}
	if d := witness.DiffInput(witness.OfKeyed(key, []byte(a)), nil, []byte(a)); len(d) != 1 || d[0].Recorded != "recorded with a key" {
		t.Errorf("got %v", d)
	}
}

func TestKeyed(t *testing.T) {
	t.Parallel()
	data := []byte(`{"name":"Ada","secret":"hunter2"}`)
	a := witness.OfKeyed([]byte("one"), data)
	for _, word := range []string{"name", "Ada", "secret", "hunter2"} {
		if bytes.Contains(a, []byte(word)) {
			t.Errorf("%q contains %s", a, word)
		}
	}
	sum := sha256.Sum256(data)
	if bytes.Contains(a, sum[:4]) {
		t.Error("the plain digest is in it")
	}
	for name, b := range map[string][]byte{
		"other key": witness.OfKeyed([]byte("two"), data), "no key": witness.Of(data), "empty key": witness.OfKeyed(nil, data),
	} {
		if witness.Equal(a, b) || len(witness.Diff(a, b)) == 0 {
			t.Errorf("%s: the same", name)
		}
	}
	if !witness.Keyed(a) || witness.Keyed(witness.Of(data)) || witness.Keyed(nil) {
		t.Error("Keyed is wrong")
	}
	if small := witness.OfKeyed([]byte("one"), []byte(`"x"`)); bytes.Contains(small, []byte(`"x"`)) {
		t.Errorf("%q", small)
	}
}

// TestForm keeps the form stable: witnesses are stored.
func TestForm(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ data, want string }{
		{`"foo"`, "0122666f6f22"},
		{``, "01"},
		{long, "02d53bf2cc5cc4685d68efb401ba03b5f5"},
		{"[" + strings.Repeat("1,", 40) + "1]", "0337ca7002e2217bcbe15f4c153f9ab106"},
		{`{"b":1,"a":"` + long + `","zero":0}`, "0485b258c4a013e28039e56e9df3879490020161230e046301623bfc2695"},
		{object(40, ""), "04d307a48c181ee7a4b32356b3dabf8279ff"},
	} {
		if got := hex.EncodeToString(witness.Of([]byte(tt.data))); got != tt.want {
			t.Errorf("Of(%.20s…) = %s, want %s", tt.data, got, tt.want)
		}
	}
	key := []byte("key")
	for _, tt := range []struct{ data, want string }{
		{`"foo"`, "12019e16054d79df24a062cbd9997d18ff"},
		{`{"b":1,"a":2,"zero":0}`, "147e95f1b40fe4ab82385628c8441685ed02bf8f0f18b1262200e83e03e34da4197d"},
	} {
		if got := hex.EncodeToString(witness.OfKeyed(key, []byte(tt.data))); got != tt.want {
			t.Errorf("OfKeyed(%s) = %s, want %s", tt.data, got, tt.want)
		}
	}
}

// TestEqualIsMeaning draws pairs of objects and compares with a model that
// decodes both: they are equal without their zeros, or not.
func TestEqualIsMeaning(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := drawValue(t, 3)
		b := a
		if rapid.Bool().Draw(t, "change") {
			b = change(t, a)
		}
		textA, textB := write(t, a), write(t, b)
		want := reflect.DeepEqual(meaning(a), meaning(b))
		wA, wB := witness.Of(textA), witness.Of(textB)
		got := witness.Equal(wA, wB)
		if _, ok := a.(map[string]any); !ok && reflect.TypeOf(a) != reflect.TypeFor[[]any]() {
			want = bytes.Equal(textA, textB)
		}
		if got != want {
			t.Fatalf("Equal(%s, %s) = %v", textA, textB, got)
		}
		check(t, textA, textB)
	})
}

// check holds for any two inputs.
func check(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, a, b []byte) {
	t.Helper()
	wA, wB := witness.Of(a), witness.Of(b)
	equal := witness.Equal(wA, wB)
	diff := witness.Diff(wA, wB)
	key := []byte("k")
	kA, kB := witness.OfKeyed(key, a), witness.OfKeyed(key, b)
	if len(wA) > 512 || len(kA) > 512 {
		t.Fatalf("%d and %d bytes", len(wA), len(kA))
	}
	if equal != (len(diff) == 0) || equal != witness.Equal(wB, wA) || !witness.Equal(wA, bytes.Clone(wA)) {
		t.Fatalf("%s, %s: Equal %v, Diff %v", a, b, equal, diff)
	}
	if keyed := witness.Equal(kA, kB); keyed != equal || keyed != (len(witness.Diff(kA, kB)) == 0) {
		t.Fatalf("%s, %s: Equal %v, keyed %v", a, b, equal, keyed)
	}
	if d := witness.DiffInput(wA, nil, b); (len(d) == 0) != equal {
		t.Fatalf("%s, %s: Equal %v, DiffInput %v", a, b, equal, d)
	}
	if d := witness.DiffInput(kA, key, b); (len(d) == 0) != equal {
		t.Fatalf("%s, %s: Equal %v, DiffInput with a key %v", a, b, equal, d)
	}
	for i := 1; i < len(diff); i++ {
		if diff[i].Field < diff[i-1].Field {
			t.Fatalf("%v is not in order", diff)
		}
	}
}

func drawValue(t *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	switch {
	case depth > 0 && (kind < 4 || depth == 3 && kind < 8):
		m := map[string]any{}
		for range rapid.IntRange(0, 6).Draw(t, "fields") {
			m[rapid.SampledFrom([]string{"a", "b", "c", "name", "long" + long[:30], "\"", "é", ""}).Draw(t, "name")] = drawValue(t, depth-1)
		}
		return m
	case depth > 0 && kind == 4:
		l := make([]any, rapid.IntRange(0, 3).Draw(t, "len"))
		for i := range l {
			l[i] = drawValue(t, depth-1)
		}
		return l
	default:
		return rapid.SampledFrom([]any{nil, false, true, 0.0, 1.0, "", "x", long, time.Time{}.Format(time.RFC3339)}).Draw(t, "value")
	}
}

// change changes one thing, perhaps one that means nothing.
func change(t *rapid.T, v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := maps.Clone(v)
		name := rapid.SampledFrom([]string{"a", "b", "new", long}).Draw(t, "name")
		if old, ok := m[name]; ok && rapid.Bool().Draw(t, "deeper") {
			m[name] = change(t, old)
		} else if ok && rapid.Bool().Draw(t, "remove") {
			delete(m, name)
		} else {
			m[name] = drawValue(t, 1)
		}
		return m
	case []any:
		l := append([]any(nil), v...)
		if len(l) > 0 {
			l[0] = change(t, l[0])
		}
		return l
	default:
		return drawValue(t, 1)
	}
}

// write writes v with its fields in random order.
func write(t *rapid.T, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for _, name := range []string{"a", "b", "c", "name", "long" + long[:30], "\"", "é", "", "new", long} {
			if _, ok := v[name]; ok {
				names = append(names, name)
			}
		}
		out := []byte{'{'}
		for i, name := range rapid.Permutation(names).Draw(t, "order") {
			if i > 0 {
				out = append(out, ',')
			}
			text, _ := json.Marshal(name)
			out = append(append(out, text...), ':')
			out = append(out, write(t, v[name])...)
		}
		return append(out, '}')
	case []any:
		out := []byte{'['}
		for i, e := range v {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, write(t, e)...)
		}
		return append(out, ']')
	default:
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

// meaning is v without fields that are zero.
func meaning(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for name, e := range v {
			switch e := meaning(e).(type) {
			case nil:
			case bool, float64, string:
				if e != false && e != 0.0 && e != "" && e != "0001-01-01T00:00:00Z" {
					m[name] = e
				}
			case []any:
				if len(e) > 0 {
					m[name] = e
				}
			case map[string]any:
				if len(e) > 0 {
					m[name] = e
				}
			}
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i := range v {
			l[i] = meaning(v[i])
		}
		return l
	default:
		return v
	}
}

func FuzzWitness(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":{"c":0}}`), []byte(`{"b":{},"a":1}`))
	f.Add([]byte(`{"a":1,"a":2}`), []byte(`{"a":2,"a":1}`))
	f.Add([]byte(object(33, "")), []byte(object(32, `"`+long+`":[]`)))
	f.Add([]byte{0xff, 0}, []byte(`[[],{}]`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		check(t, a, b)
		// Bytes that were never a witness, as a damaged record might hold.
		if equal := witness.Equal(a, b); equal != (len(witness.Diff(a, b)) == 0) || !witness.Equal(a, a) {
			t.Fatalf("%q, %q: Equal %v", a, b, equal)
		}
		witness.DiffInput(a, nil, b)
	})
}

func BenchmarkOf(b *testing.B) {
	for _, data := range []string{`"foo bar baz qux 1"`, `{"id":"r-1","amount":12.5,"currency":"EUR","reason":"the parcel never came, and nobody answers"}`,
		object(32, ""), `"` + strings.Repeat("x", 1<<20) + `"`, "[" + strings.Repeat(object(4, "")+",", 1<<14) + "0]"} {
		b.Run(fmt.Sprint(len(data)), func(b *testing.B) {
			in := []byte(data)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				witness.Of(in)
			}
		})
	}
}

func BenchmarkEqual(b *testing.B) {
	x, y := witness.Of([]byte(`"foo bar baz qux 1"`)), witness.Of([]byte(`"foo bar baz qux 1"`))
	for b.Loop() {
		if !witness.Equal(x, y) {
			b.Fatal()
		}
	}
}
