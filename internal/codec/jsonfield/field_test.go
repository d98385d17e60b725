package jsonfield_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata/internal/codec/jsonfield"
)

type (
	Inner struct {
		ID   string
		Deep `json:"deep"`
	}
	Deep  struct{ D int }
	outer struct {
		Inner
		*Deep
		lower
		Word
		word
		A       int `json:"a,omitempty"`
		B       int `json:"-"`
		E       int `json:",omitzero,string"`
		private int
		_       int
	}
	lower struct{ FromLower bool }
	Word  string
	word  string
	cycle struct {
		*cycle
		A int
	}
	Twice  struct{ Deep }
	middle struct {
		Deep
		Twice
	}
)

// odd has tags that are not as they should be, and mean something all the same.
var odd = reflect.StructOf([]reflect.StructField{
	{Name: "A", Type: reflect.TypeFor[int](), Tag: `json:"-,"`},
	{Name: "B", Type: reflect.TypeFor[int](), Tag: `json:"bad\"name"`},
	{Name: "C", Type: reflect.TypeFor[[]int](), Tag: `json:",string"`},
	{Name: "D", Type: reflect.TypeFor[int](), Tag: `json:"ü/,unknown"`},
	{Name: "D2", Type: reflect.TypeFor[int](), Tag: `json:"<&> "`},
})

// TestOfIsEncodingJSON compares with what encoding/json writes of a value.
func TestOfIsEncodingJSON(t *testing.T) {
	t.Parallel()
	v := outer{Deep: &Deep{1}, A: 1, E: 1}
	v.word, v.private = "unused", 1
	for _, v := range []any{v, reflect.New(odd).Elem().Interface()} {
		compare(t, v)
	}
}

func compare(t *testing.T, v any) {
	t.Helper()
	fields, err := jsonfield.Of(reflect.TypeOf(v))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	dec := json.NewDecoder(strings.NewReader(string(data)))
	for depth := 0; ; {
		token, err := dec.Token()
		if err != nil {
			break
		}
		switch d, _ := token.(json.Delim); {
		case d == '{' || d == '[':
			depth++
		case d == '}' || d == ']':
			depth--
		case depth == 1:
			names = append(names, token.(string))
			var skip json.RawMessage
			if err := dec.Decode(&skip); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	for _, f := range fields {
		got = append(got, f.Name)
		if rv, err := reflect.ValueOf(v).FieldByIndexErr(f.Index); err != nil || rv.Type() != f.Type {
			t.Errorf("%s: %v, %v", f.Go, rv, err)
		}
		if want := f.Go == "Deep.D"; f.Behind != want {
			t.Errorf("%s: behind %v", f.Name, f.Behind)
		}
		if want := f.Name == "E"; f.Quoted != want || f.OmitZero != want {
			t.Errorf("%s: quoted %v, omitzero %v", f.Name, f.Quoted, f.OmitZero)
		}
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("-encoding/json +Of:\n%s", diff)
	}
}

func TestOfRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		typ  reflect.Type
		want string
	}{
		{reflect.TypeFor[middle](), "the fields Deep.D and Twice.Deep.D are both named \"D\""},
		{reflect.TypeFor[struct{ Inner *cycle }](), ""},
		{reflect.TypeFor[cycle](), "unexported"},
		{reflect.TypeFor[struct {
			lower `json:"x"`
		}](), "unexported and has the JSON name"},
		{reflect.TypeFor[time.Time](), "no exported field"},
	} {
		_, err := jsonfield.Of(tt.typ)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("Of(%s) = %v, want %q", tt.typ, err, tt.want)
		}
	}
}
