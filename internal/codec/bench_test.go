package codec_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/codec"
)

type refund struct {
	ID     string  `json:"id"`
	Amount float64 `json:"amount"`
	Cents  int     `json:"cents"`
	Urgent bool    `json:"urgent,omitempty"`
}

type message struct {
	Role    string            `json:"role"`
	Content string            `json:"content"`
	At      time.Time         `json:"at"`
	Meta    map[string]string `json:"meta"`
	Parts   []string          `json:"parts"`
}

func messages(n int) []message {
	m := make([]message, n)
	for i := range m {
		m[i] = message{
			Role: "user", Content: strings.Repeat("a sentence with \"quotes\"\n", 10), At: time.Unix(int64(i), 0).UTC(),
			Meta: map[string]string{"model": "m-1", "lang": "en"}, Parts: []string{"a", "b"},
		}
	}
	return m
}

func BenchmarkTransfer(b *testing.B) {
	bench(b, "ShortString", "foo bar baz qux 1234")
	bench(b, "String1MiB", strings.Repeat("0123456789abcdef", 1<<16))
	bench(b, "Text1MiB", strings.Repeat("Zeile für Zeile, \"so\".\n", 1<<20/24))
	bench(b, "Bytes1KiB", bytes.Repeat([]byte{1, 2, 3, 4}, 256))
	bench(b, "Int", 12345)
	bench(b, "SmallStruct", refund{ID: "r-1", Amount: 12.5, Cents: 1250})
	bench(b, "Messages10", messages(10))
	bench[any](b, "AnyPlain", map[string]any{"id": "r-1", "amount": 12.5, "tags": []any{"a", "b"}})
	bench[any](b, "AnyStruct", refund{ID: "r-1", Amount: 12.5, Cents: 1250})
}

// bench measures Transfer, Decode, and beside them encoding/json writing and reading the same.
func bench[T any](b *testing.B, name string, v T) {
	data, err := codec.Encode(codec.JSON(), v, 0)
	if err != nil {
		b.Fatal(err)
	}
	run := func(how string, f func() error) {
		b.Run(name+"/"+how, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	c := codec.JSON()
	run("Transfer", func() error {
		var out T
		_, err := codec.Transfer(c, v, 0, &out)
		return err
	})
	run("Decode", func() error {
		var out T
		return codec.Decode(c, data, &out)
	})
	run("Plain", func() error {
		var out T
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return json.Unmarshal(data, &out)
	})
}

func BenchmarkCheck(b *testing.B) {
	t := reflect.TypeFor[message]()
	for b.Loop() {
		if err := codec.Check(codec.JSON(), t); err != nil {
			b.Fatal(err)
		}
	}
}
