package schema_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata/internal/schema"
)

type (
	decision struct {
		Approve bool   `json:"approve" jsonschema:"May we pay?"`
		Note    string `json:"note,omitempty"`
		Cents   *int8  `json:"cents"`
	}
	tree struct {
		Name     string  `json:"name"`
		Children []*tree `json:"children,omitempty"`
	}
	forest map[string]forest
	leaf   struct{ N int }
	twice  struct{ A, B leaf }
	Base   struct {
		ID string `json:"id"`
	}
	embedded struct {
		Base
		*Extra
	}
	Extra struct{ Note string }
	color string
	money struct{ cents int }
	plain struct {
		Reason string
	}
	own struct{ a int }
	raw struct {
		R json.RawMessage
		N json.Number
		B *big.Int
		Q *int16 `json:",string"`
	}
	self *self
)

func (color) JSONSchema() []byte { return []byte(`{"enum":["red","green"]}`) }

func (m *money) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "%d EUR", &m.cents)
	return err
}
func (m money) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d EUR", m.cents), nil }
func (*money) JSONSchema() []byte {
	return []byte(`{"type":"string","pattern":"^(0|[1-9][0-9]{0,8}) EUR$"}`)
}
func (plain) JSONSchema() []byte         { return []byte(`{"properties":{"Reason":{"minLength":1}}}`) }
func (own) MarshalJSON() ([]byte, error) { return []byte("1"), nil }
func (*own) UnmarshalJSON([]byte) error  { return nil }

func TestFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		typ  reflect.Type
		want string
	}{
		{reflect.TypeFor[any](), `true`},
		{reflect.TypeFor[string](), `{"type":"string"}`},
		{reflect.TypeFor[*string](), `{"type":["string","null"]}`},
		{reflect.TypeFor[**bool](), `{"type":["boolean","null"]}`},
		{reflect.TypeFor[int8](), `{"type":"integer","minimum":-128,"maximum":127}`},
		{reflect.TypeFor[int](), `{"type":"integer","format":"int64"}`},
		{reflect.TypeFor[uint32](), `{"type":"integer","minimum":0,"maximum":4294967295}`},
		{reflect.TypeFor[uint64](), `{"type":"integer","minimum":0,"format":"uint64"}`},
		{reflect.TypeFor[float32](), `{"type":"number","format":"float"}`},
		{reflect.TypeFor[time.Time](), `{"type":"string","format":"date-time"}`},
		{reflect.TypeFor[*time.Time](), `{"type":["string","null"],"format":"date-time"}`},
		{reflect.TypeFor[time.Duration](), `{"type":"integer","format":"int64"}`},
		{reflect.TypeFor[[]byte](), `{"type":["string","null"],"contentEncoding":"base64"}`},
		{reflect.TypeFor[[3]int8](), `{"type":"array","items":{"type":"integer","minimum":-128,"maximum":127},"minItems":3,"maxItems":3}`},
		{reflect.TypeFor[[]any](), `{"type":["array","null"],"items":true}`},
		{reflect.TypeFor[map[uint8]bool](), `{"type":["object","null"],"additionalProperties":{"type":"boolean"},"propertyNames":{"format":"uint8"}}`},
		{reflect.TypeFor[struct{}](), `{"type":"object","properties":{},"additionalProperties":false}`},
		{reflect.TypeFor[decision](), `{"type":"object","properties":{` +
			`"approve":{"type":"boolean","description":"May we pay?"},"note":{"type":"string"},"cents":{"type":["integer","null"],"minimum":-128,"maximum":127}},` +
			`"required":["approve","cents"],"additionalProperties":false}`},
		{reflect.TypeFor[tree](), `{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"name":{"type":"string"},` +
			`"children":{"type":["array","null"],"items":{"anyOf":[{"$ref":"#/$defs/tree"},{"type":"null"}]}}},"required":["name"],"additionalProperties":false}}}`},
		{reflect.TypeFor[forest](), `{"$ref":"#/$defs/forest","$defs":{"forest":{"type":["object","null"],"additionalProperties":{"$ref":"#/$defs/forest"}}}}`},
		{reflect.TypeFor[twice](), `{"type":"object","properties":{"A":{"$ref":"#/$defs/leaf"},"B":{"$ref":"#/$defs/leaf"}},` +
			`"$defs":{"leaf":{"type":"object","properties":{"N":{"type":"integer","format":"int64"}},"required":["N"],"additionalProperties":false}},"required":["A","B"],"additionalProperties":false}`},
		{reflect.TypeFor[embedded](), `{"type":"object","properties":{"id":{"type":"string"},"Note":{"type":"string"}},"required":["id"],"additionalProperties":false}`},
		{reflect.TypeFor[color](), `{"allOf":[{"type":"string"},{"enum":["red","green"]}]}`},
		{reflect.TypeFor[*money](), `{"type":["string","null"],"pattern":"^(0|[1-9][0-9]{0,8}) EUR$"}`},
		{reflect.TypeFor[raw](), `{"type":"object","properties":{"R":true,"N":{"type":"number"},"B":{"type":["integer","null"]},"Q":{"type":["string","null"],"format":"int16"}},` +
			`"required":["R","N","B","Q"],"additionalProperties":false}`},
	} {
		got, err := schema.For(tt.typ)
		if err != nil {
			t.Errorf("For(%s): %v", tt.typ, err)
			continue
		}
		if string(got) != tt.want {
			t.Errorf("For(%s):\ngot  %s\nwant %s", tt.typ, got, tt.want)
		}
		if again, err := schema.For(tt.typ); err != nil || string(again) != string(got) {
			t.Errorf("For(%s) gives other bytes the second time: %s, %v", tt.typ, again, err)
		}
	}
}

type (
	badHook   string
	refHook   string
	dynamic   string
	wrongHook string
)

func (badHook) JSONSchema() []byte   { return []byte(`{"type":`) }
func (refHook) JSONSchema() []byte   { return []byte(`{"$ref":"#/$defs/x","$defs":{"x":{}}}`) }
func (wrongHook) JSONSchema() []byte { return []byte(`{"type":"text"}`) }
func (dynamic) JSONSchema() []byte   { return []byte(`{"$dynamicRef":"#x"}`) }

func TestForRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		typ  reflect.Type
		want string
	}{
		{reflect.TypeFor[struct{ L []map[string]chan int }](), "at /L/*/*: a chan can't be read"},
		{reflect.TypeFor[error](), "schema of error: nothing says which type"},
		{reflect.TypeFor[struct {
			A own `json:"a"`
		}](), "at /a: schema_test.own reads JSON in its own way"},
		{reflect.TypeFor[netip.Addr](), "reads JSON in its own way"},
		{reflect.TypeFor[map[netip.Addr]int](), "keys of type netip.Addr"},
		{reflect.TypeFor[map[time.Time]int](), "keys of type time.Time"},
		{reflect.TypeFor[map[float64]int](), "keys of type float64"},
		{reflect.TypeFor[struct {
			F float64 `json:",string"`
		}](), "at /F: the option string"},
		{reflect.TypeFor[struct{ Mu sync.Mutex }](), "at /Mu: sync.Mutex has no exported field"},
		{reflect.TypeFor[self](), "pointer to itself"},
		{reflect.TypeFor[badHook](), "JSONSchema of schema_test.badHook"},
		{reflect.TypeFor[refHook](), "$ref, $defs and $id can't be used"},
		{reflect.TypeFor[wrongHook](), `unknown type "text"`},
		{reflect.TypeFor[dynamic](), "$dynamicRef"},
	} {
		_, err := schema.For(tt.typ)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("For(%s) = %v, want %s", tt.typ, err, tt.want)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type order struct {
		ID    string            `json:"id"`
		Lines []decision        `json:"lines"`
		By    map[string]int8   `json:"by"`
		At    time.Time         `json:"at"`
		Raw   []byte            `json:"raw,omitempty"`
		Any   any               `json:"any,omitempty"`
		Keys  map[int8]string   `json:"keys,omitempty"`
		Trees *tree             `json:"trees,omitempty"`
		Color color             `json:"color,omitempty"`
		Why   *plain            `json:"why,omitempty"`
		F     float32           `json:"f,omitempty"`
		Big   *big.Int          `json:"big,omitempty"`
		Q     uint8             `json:"q,omitempty,string"`
		Tags  map[string]string `json:"tags,omitempty"`
	}
	s, err := schema.For(reflect.TypeFor[order]())
	if err != nil {
		t.Fatal(err)
	}
	const base = `"id":"o","lines":[],"by":null,"at":"2026-11-22T10:00:00Z"`
	for _, tt := range []struct {
		name, value string
		want        []schema.FieldError
	}{
		{"fine", `{` + base + `}`, nil},
		{"all of it", `{` + base + `,"raw":"AA==","any":[1,{"x":null}],"keys":{"-1":"a"},"trees":{"name":"a","children":[null,{"name":"b"}]},"color":"red","why":{"Reason":"r"},"f":1e38,"big":-123456789012345678901234567890,"q":"255"}`, nil},
		{"many faults", `{"id":1,"lines":[{"approve":"yes","cents":128},{"approve":true,"cents":1.5,"Note":""}],"by":{"a/b":null},"at":"now","x":1}`, []schema.FieldError{
			{"/id", "must be text, not a number"},
			{"/lines/0/approve", "must be true or false, not text"},
			{"/lines/0/cents", "must be at most 127"},
			{"/lines/1/cents", "must be a whole number, written without a fraction or exponent"},
			{"/lines/1/Note", `is not known; did you mean "note"?`},
			{"/by/a~1b", "must be a whole number, not null"},
			{"/at", "must be a date and time such as 2006-01-02T15:04:05Z"},
			{"/x", "is not known"},
		}},
		{"missing", `{"lines":[{}]}`, []schema.FieldError{
			{"/lines/0/approve", "is missing"}, {"/lines/0/cents", "is missing"}, {"/id", "is missing"}, {"/by", "is missing"}, {"/at", "is missing"},
		}},
		{"null", `null`, []schema.FieldError{{"", "must be an object, not null"}}},
		{"wrong kind", `"x"`, []schema.FieldError{{"", "must be an object, not text"}}},
		{"escaped time", `{` + strings.Replace(base, "2026-", `2026\u002d`, 1) + `}`, []schema.FieldError{{"/at", "must be a date and time such as 2006-01-02T15:04:05Z"}}},
		{"escaped name", `{` + strings.Replace(base, `"id"`, `"\u0069d"`, 1) + `}`, nil},
		{"base64", `{` + base + `,"raw":"?"}`, []schema.FieldError{{"/raw", "must be base64"}}},
		{"integer in any", `{` + base + `,"any":{"n":[9007199254740993,1e400]}}`, []schema.FieldError{
			{"/any/n/0", "has too many digits to be kept exactly; send it as text"}, {"/any/n/1", "is too large a number"},
		}},
		{"keys", `{` + base + `,"keys":{"x":"","128":"","01":""}}`, []schema.FieldError{
			{"/keys/x", "the name must be a whole number from -128 to 127, as text"},
			{"/keys/128", "the name must be a whole number from -128 to 127, as text"},
			{"/keys/01", "the name must be a whole number from -128 to 127, as text"},
		}},
		{"in a recursive type", `{` + base + `,"trees":{"name":"a","children":[{"name":"b","children":[{"name":1}]},{}]}}`, []schema.FieldError{
			{"/trees/children/0/children/0/name", "must be text, not a number"}, {"/trees/children/1/name", "is missing"},
		}},
		{"neither of two", `{` + base + `,"trees":{"name":"a","children":[3]}}`, []schema.FieldError{{"/trees/children/0", "must be an object or null, not a number"}}},
		{"own enum", `{` + base + `,"color":"blue"}`, []schema.FieldError{{"/color", `must be one of "red", "green"`}}},
		{"own enum, wrong kind", `{` + base + `,"color":3}`, []schema.FieldError{{"/color", "must be text, not a number"}, {"/color", `must be one of "red", "green"`}}},
		{"own minimum length", `{` + base + `,"why":{"Reason":""}}`, []schema.FieldError{{"/why/Reason", "must not be empty"}}},
		{"too large", `{` + base + `,"f":1e39,"big":1e3,"q":"256"}`, []schema.FieldError{
			{"/f", "is too large a number"}, {"/big", "must be a whole number, written without a fraction or exponent"},
			{"/q", "must be a whole number from 0 to 255, as text"},
		}},
		{"empty", ``, []schema.FieldError{{"", "is not JSON: invalid JSON at byte 0: the text ends early"}}},
		{"trailing", `{} {}`, []schema.FieldError{{"", "is not JSON: invalid JSON at byte 3: more than one value"}}},
		{"not UTF-8", "{\"id\":\"\xff\"}", []schema.FieldError{{"", "is not JSON: invalid JSON at byte 6: a string that is not UTF-8"}}},
		{"twice", `{"tags":{"a":"","b":"","\u0061":""}}`, []schema.FieldError{{"/tags/a", "is there twice"}}},
		{"deep", `{"any":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, []schema.FieldError{{"/any/0/0", "is nested deeper than 1000 levels"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := schema.Validate(s, []byte(tt.value))
			var e *schema.Error
			if err != nil && !errors.As(err, &e) {
				t.Fatal(err)
			}
			if e == nil {
				e = &schema.Error{}
			}
			if diff := cmp.Diff(tt.want, e.Fields); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestValidateOtherSchemas is about what For doesn't write, but JSONSchema methods may.
func TestValidateOtherSchemas(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		schema, value, want string
	}{
		{``, `{"a":1}`, ``},
		{``, `{`, `is not JSON`},
		{`true`, `[]`, ``},
		{`false`, `1`, `is not allowed`},
		{`{"const":{"a":1}}`, `{"a":1.0}`, ``},
		{`{"const":null}`, `0`, `must be one of null`},
		{`{"enum":[1,"a"]}`, `"b"`, `must be one of 1, "a"`},
		{`{"oneOf":[{"type":"integer"},{"minimum":2}]}`, `1`, ``},
		{`{"oneOf":[{"type":"integer"},{"minimum":2}]}`, `3`, `fits 2 alternatives`},
		{`{"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}]}`, `"ab"`, `must have at most 1 character`},
		{`{"anyOf":[{"type":"string","minLength":2},{"type":"string","maxLength":0}]}`, `"a"`, `fits none of 2 alternatives`},
		{`{"not":{"type":"null"}}`, `null`, `not:`},
		{`{"if":{"type":"integer"},"then":{"minimum":3}}`, `2`, `minimum: 2`},
		{`{"exclusiveMinimum":9007199254740992}`, `9007199254740993`, ``},
		{`{"exclusiveMaximum":1}`, `1.0`, `must be less than 1`},
		{`{"exclusiveMinimum":1}`, `1`, `must be more than 1`},
		{`{"minimum":1e20}`, `99999999999999999999`, `must be at least 100000000000000000000`},
		{`{"type":"integer"}`, strings.Repeat("9", 1001), `more than 1000 digits`},
		{`{"multipleOf":0.5}`, `0.7`, `multipleOf`},
		{`{"uniqueItems":true,"items":{"type":"integer"}}`, `[1,"a",1]`, `must be a whole number, not text`},
		{`{"uniqueItems":true}`, `[1,2,1]`, `uniqueItems`},
		{`{"prefixItems":[{"type":"string"}],"items":{"type":"integer"}}`, `["a",1,"b"]`, `validating`},
		{`{"patternProperties":{"^x":{"type":"integer"}},"additionalProperties":false}`, `{"x1":1}`, ``},
		{`{"patternProperties":{"^x":{"type":"integer"}},"additionalProperties":false}`, `{"y":1}`, `unexpected additional properties`},
		{`{"minItems":1}`, `[]`, `must have at least 1 element`},
		{`{"maxItems":1}`, `[1,2]`, `must have at most 1 element`},
		{`{"minProperties":1}`, `{}`, `minProperties`},
		{`{"contains":{"type":"integer"}}`, `["a"]`, `contains`},
		{`{"properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"not":{"$ref":"#/$defs/y"}},"y":{"type":"null"}}}`, `{"a":null}`, `not:`},
		{`{"pattern":"^a"}`, `"b"`, `must match the pattern ^a`},
		{`{"propertyNames":{"maxLength":1}}`, `{"ab":1}`, `the name must have at most 1 character`},
		{`{"title":"T","description":"D","default":1,"examples":[1],"x-widget":"slider"}`, `9007199254740993`, `too many digits`},
	} {
		err := schema.Validate([]byte(tt.schema), []byte(tt.value))
		if errors.Is(err, schema.ErrSchema) || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with %s: %v, want %q", tt.schema, tt.value, err, tt.want)
		}
	}
}

func TestValidateRefusesSchemas(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		`{`, `1`, `{"type":"text"}`, `{"type":3}`, `{"pattern":"("}`, `{"$ref":"#"}`, `{"$ref":"#/$defs/x"}`, `{"$ref":"https://example.com/x"}`,
		`{"$ref":"#/$defs/x","$defs":{"x":{"allOf":[{"$ref":"#/$defs/x"}]}}}`,
		`{"not":{"$ref":"#/$defs/x"},"$defs":{"x":{"anyOf":[{"if":{"$ref":"#/$defs/x"}}]}}}`,
		`{"$dynamicRef":"#x"}`, `{"$schema":"http://json-schema.org/draft-07/schema#"}`, `{"properties":{"a":{"$id":"x"}}}`,
		`{"patternProperties":{"(":{}}}`,
	} {
		if err := schema.Validate([]byte(s), []byte(`1`)); !errors.Is(err, schema.ErrSchema) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	err := schema.Validate([]byte(`{"items":{"type":"string"}}`), []byte("[0"+strings.Repeat(",0", 1_000_000)+"]"))
	var e *schema.Error
	if !errors.As(err, &e) || len(e.Fields) != 100 || !e.More {
		t.Fatalf("%v", err)
	}
	if len(err.Error()) > 500 || !strings.Contains(err.Error(), "and 95 more") {
		t.Errorf("%s", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	for i := range 1000 {
		s := fmt.Appendf(nil, `{"minimum":%d}`, i)
		if err := schema.Validate(s, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := schema.Cached(); n > 256 {
		t.Errorf("%d schemas are kept", n)
	}
}
