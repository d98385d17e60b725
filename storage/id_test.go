package storage_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

func TestNewIDSortsByTime(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ids []storage.ID
	for i := range 50 {
		ids = append(ids, storage.NewID(start.Add(time.Duration(i*i)*time.Millisecond)))
	}
	if !slices.IsSortedFunc(ids, storage.ID.Compare) {
		t.Error("ids of later times sort before earlier ones")
	}
	if !slices.IsSortedFunc(ids, func(a, b storage.ID) int { return strings.Compare(a.String(), b.String()) }) {
		t.Error("ids sort otherwise than their texts")
	}
}

func TestNewIDIsUnique(t *testing.T) {
	t.Parallel()
	now := time.Now()
	seen := map[storage.ID]bool{}
	for range 10_000 {
		id := storage.NewID(now)
		if seen[id] {
			t.Fatalf("%s was given twice", id)
		}
		seen[id] = true
	}
}

func TestNewIDIsAUUID7(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	id := storage.NewID(at)
	if version := id[6] >> 4; version != 7 {
		t.Errorf("version %d, want 7", version)
	}
	if variant := id[8] >> 6; variant != 2 {
		t.Errorf("variant %b, want 10", variant)
	}
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	if ms != at.UnixMilli() {
		t.Errorf("time %d, want %d", ms, at.UnixMilli())
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	const digits = "0192f0c1a2b37c4d8e5f001122334455"
	want, err := storage.ParseID(digits)
	if err != nil {
		t.Fatal(err)
	}
	if want.String() != digits || want.IsZero() {
		t.Errorf("%s became %s", digits, want)
	}
	for _, s := range []string{strings.ToUpper(digits), "0192f0c1-a2b3-7c4d-8e5f-001122334455"} {
		if got, err := storage.ParseID(s); err != nil || got != want {
			t.Errorf("ParseID(%q) = %s, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "0", digits[1:], digits + "0", "g" + digits[1:], " " + digits[1:], "{" + digits + "}",
		"0192f0c1a-2b3-7c4d-8e5f-001122334455", "0192f0c1-a2b3-7c4d-8e5f-0011-2334455", "----" + digits, strings.Repeat("x", 1000),
	} {
		got, err := storage.ParseID(s)
		if !errors.Is(err, storage.ErrInvalid) || !got.IsZero() {
			t.Errorf("ParseID(%.50q) = %s, %v; want ErrInvalid", s, got, err)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("the error repeats its whole input: %d bytes", len(err.Error()))
		}
	}
}

func TestIDAsText(t *testing.T) {
	t.Parallel()
	type row struct {
		ID  storage.ID
		Map map[storage.ID]int
	}
	id := storage.NewID(time.Now())
	text, err := json.Marshal(row{id, map[storage.ID]int{id: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"ID":"` + id.String() + `","Map":{"` + id.String() + `":1}}`; string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	var back row
	if err := json.Unmarshal(text, &back); err != nil || back.ID != id || back.Map[id] != 1 {
		t.Errorf("got %+v, %v", back, err)
	}
	kept := id
	if err := kept.UnmarshalText([]byte("nonsense")); !errors.Is(err, storage.ErrInvalid) || kept != id {
		t.Errorf("a refused text: error %v, id %s", err, kept)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("0192f0c1a2b37c4d8e5f001122334455")
	f.Add("0192f0c1-a2b3-7c4d-8e5f-001122334455")
	f.Add("0192F0C1-a2b37c4d-8e5f-0011223344-55")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := storage.ParseID(s)
		if err != nil {
			if !errors.Is(err, storage.ErrInvalid) || !id.IsZero() {
				t.Fatalf("ParseID(%q) = %s, %v", s, id, err)
			}
			return
		}
		if plain := strings.ToLower(strings.ReplaceAll(s, "-", "")); id.String() != plain {
			t.Fatalf("ParseID(%q) = %s", s, id)
		}
		again, err := storage.ParseID(id.String())
		if err != nil || again != id || bytes.Compare(again[:], id[:]) != again.Compare(id) {
			t.Fatalf("%s became %s, %v", id, again, err)
		}
	})
}
