package storage_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/fermata-go/fermata/storage"
)

func TestPackRecords(t *testing.T) {
	t.Parallel()
	for _, records := range [][][]byte{
		nil,
		{{}},
		{{}, {}, {}},
		{[]byte("a")},
		{[]byte("a"), {}, []byte("bc")},
		{bytes.Repeat([]byte{0xff}, 127), bytes.Repeat([]byte{0}, 128), bytes.Repeat([]byte{1}, 20_000)},
	} {
		packed := storage.PackRecords(records)
		got, err := storage.UnpackRecords(packed)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(records) {
			t.Fatalf("%d records became %d", len(records), len(got))
		}
		for i := range records {
			if !bytes.Equal(got[i], records[i]) {
				t.Errorf("record %d: %q became %q", i, records[i], got[i])
			}
		}
	}
}

func TestUnpackedRecordsDoNotReachIntoEachOther(t *testing.T) {
	t.Parallel()
	got, err := storage.UnpackRecords(storage.PackRecords([][]byte{[]byte("a"), []byte("b")}))
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got[0], "overwritten"...)
	if string(got[1]) != "b" {
		t.Errorf("the second record became %q", got[1])
	}
}

func TestUnpackRecordsOfNonsense(t *testing.T) {
	t.Parallel()
	whole := storage.PackRecords([][]byte{[]byte("first"), []byte("second")})
	for n := range whole {
		if n == 0 || n == 6 {
			continue // nothing, and the first record alone, are whole
		}
		if got, err := storage.UnpackRecords(whole[:n]); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("the first %d bytes: %q, %v; want ErrCorrupt", n, got, err)
		}
	}
	for _, packed := range [][]byte{
		{0x80}, bytes.Repeat([]byte{0xff}, 11),
		binary.AppendUvarint(nil, 1<<63), append(binary.AppendUvarint(nil, 1<<64-1), "x"...),
	} {
		if got, err := storage.UnpackRecords(packed); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%x: %q, %v; want ErrCorrupt", packed, got, err)
		}
	}
}

func FuzzPackRecords(f *testing.F) {
	f.Add([]byte("a"), []byte{}, []byte("bc"))
	f.Add([]byte{0x80}, bytes.Repeat([]byte{7}, 300), []byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		records := [][]byte{a, b, c}
		got, err := storage.UnpackRecords(storage.PackRecords(records))
		if err != nil || len(got) != 3 {
			t.Fatalf("%q, %v", got, err)
		}
		for i := range records {
			if !bytes.Equal(got[i], records[i]) {
				t.Fatalf("record %d: %q became %q", i, records[i], got[i])
			}
		}
	})
}

func FuzzUnpackRecords(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 'a', 0x80, 0})
	f.Add(bytes.Repeat([]byte{0xff}, 12))
	f.Fuzz(func(t *testing.T, packed []byte) {
		records, err := storage.UnpackRecords(packed)
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) || records != nil {
				t.Fatalf("%q, %v", records, err)
			}
			return
		}
		again, err := storage.UnpackRecords(storage.PackRecords(records))
		if err != nil || len(again) != len(records) {
			t.Fatalf("%q became %q, %v", records, again, err)
		}
		for i := range records {
			if !bytes.Equal(again[i], records[i]) {
				t.Fatalf("record %d: %q became %q", i, records[i], again[i])
			}
		}
	})
}

func TestPartsArePacked(t *testing.T) {
	t.Parallel()
	for _, parts := range [][]storage.Part{nil, {{Run: storage.ID{1, 15: 2}, Seq: 3}}, {{Run: storage.ID{1}, Seq: 1 << 40}, {Run: storage.ID{2}, Seq: 1<<63 - 1}}} {
		packed := storage.PackParts(parts)
		got, err := storage.UnpackParts(packed)
		if err != nil || !slices.Equal(got, parts) || (packed == nil) != (parts == nil) {
			t.Errorf("%v came back as %v, %v", parts, got, err)
		}
		if _, err := storage.UnpackParts(append(packed, 0)); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("a byte too many: error %v", err)
		}
	}
}
