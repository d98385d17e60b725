package jsonscan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

func TestValid(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tt := range []struct {
		in     string
		offset int // of the fault; -1: none
	}{
		{`null`, -1}, {` { "a" : [ 1 , -0.5e+3 , true ] , "a\"b" : {} } `, -1},
		{`"\u00e9\ud83d\ude00\ufffd\uFFFD"`, -1}, {deep(jsonscan.MaxDepth), -1},
		{``, 0}, {` `, 1}, {`nul`, 0}, {`01`, 1}, {`1.`, 2}, {`1e`, 2}, {`-`, 1}, {`+1`, 0}, {`.5`, 0},
		{`[1,]`, 3}, {`[1 2]`, 3}, {`{"a":1,}`, 7}, {`{"a" 1}`, 5}, {`{1:2}`, 1}, {`[`, 1}, {`{"a":`, 5},
		{`1 2`, 2}, {`"a`, 2}, {"\"a\nb\"", 2}, {`"\x"`, 1}, {`"\u12g4"`, 1}, {`"\`, 2},
		{`"\ud800"`, 1}, {`"\udc00\ud800"`, 1}, {`"\ud800\u0041"`, 1}, {"\"\xff\"", 0},
		{deep(jsonscan.MaxDepth + 1), jsonscan.MaxDepth},
	} {
		err := jsonscan.Valid([]byte(tt.in))
		var syntax *jsonscan.SyntaxError
		switch {
		case tt.offset < 0 && err != nil:
			t.Errorf("Valid(%.40q) = %v", tt.in, err)
		case tt.offset >= 0 && (!errors.As(err, &syntax) || syntax.Offset != tt.offset):
			t.Errorf("Valid(%.40q) = %v, want a fault at byte %d", tt.in, err, tt.offset)
		}
	}
}

func TestAppendQuotedIsEncodingJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawString(t)
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(s); err != nil {
			t.Fatal(err)
		}
		got, ok := jsonscan.AppendQuoted(nil, s)
		if ok != utf8.ValidString(s) {
			t.Fatalf("AppendQuoted(%q) = %v", s, ok)
		}
		if !ok {
			return
		}
		if string(got)+"\n" != want.String() {
			t.Fatalf("AppendQuoted(%q) = %s, encoding/json: %s", s, got, want.String())
		}
		if err := jsonscan.Valid(got); err != nil {
			t.Fatal(err)
		}
		if back := jsonscan.Unquote(got); back != s {
			t.Fatalf("Unquote(%s) = %q, want %q", got, back, s)
		}
	})
}

// drawString draws strings in which what the eight-byte steps look for is
// common, at every offset.
func drawString(t *rapid.T) string {
	parts := rapid.SliceOf(rapid.OneOf(
		rapid.SampledFrom([]string{`"`, `\`, "\n", "\x00", "\x1f", "\x7f", "\x80", "\xff", "é", "\u2028", "\u2029", "\ufffd", "😀", "<", "!", "#", "[", "]"}),
		rapid.StringMatching(`[a-z ]{0,20}`),
		rapid.String(),
	)).Draw(t, "parts")
	return strings.Join(parts, "")
}

// FuzzValid holds the scanner against encoding/json: what it accepts, and what
// strings mean.
func FuzzValid(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e3,"x\u00e9",null,true]}`, `"\ud83d\ude00"`, `"\ud800"`, ` 0 `, "\"\xff\"", `[[],{}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := jsonscan.Valid(data)
		if err == nil && !json.Valid(data) {
			t.Fatalf("accepts %q", data)
		}
		if err != nil && json.Valid(data) && utf8.Valid(data) && !strings.Contains(err.Error(), "surrogate") {
			t.Fatalf("refuses %q: %v", data, err)
		}
		if err == nil && bytes.TrimSpace(data)[0] == '"' {
			var want string
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			s := jsonscan.New(data)
			text, err := s.Skip()
			if err != nil || jsonscan.Unquote(text) != want {
				t.Fatalf("%q means %q, not %q (%v)", data, want, jsonscan.Unquote(text), err)
			}
		}
	})
}

func TestPointer(t *testing.T) {
	t.Parallel()
	if got, want := jsonscan.Pointer([]string{"a/b", "0", "~"}), "/a~1b/0/~0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := jsonscan.Pointer(nil); got != "" {
		t.Errorf("got %s", got)
	}
}

func BenchmarkSkipString(b *testing.B) {
	data := []byte(`"` + strings.Repeat("a plain sentence. ", 1<<16) + `"`)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		s := jsonscan.New(data)
		if _, err := s.Skip(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSkipObject(b *testing.B) {
	data := []byte(`{"id":"r-1","items":[` + strings.Repeat(`{"sku":"a-12","amount":12.5,"tags":["x","y"],"ok":true},`, 1000) + `null]}`)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		s := jsonscan.New(data)
		if _, err := s.Skip(); err != nil {
			b.Fatal(err)
		}
	}
}
