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
		A       int   `json:"a,omitempty"`
		B       int   `json:"-"`
		C       int   `json:"-,"`
		D2      int   `json:"bad\"name"`
		E       int   `json:",omitzero,string"`
		F       []int `json:",string"`
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

// TestOfIsEncodingJSON compares with what encoding/json writes of a value.
func TestOfIsEncodingJSON(t *testing.T) {
	t.Parallel()
	fields, err := jsonfield.Of(reflect.TypeFor[outer]())
	if err != nil {
		t.Fatal(err)
	}
	v := outer{Deep: &Deep{1}, A: 1, E: 1}
	v.word, v.private = "unused", 1
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
		if want := f.Name == "D"; f.Behind != want {
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
