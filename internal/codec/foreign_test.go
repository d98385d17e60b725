package codec_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/fermata-go/fermata/internal/codec"
)

// gobCodec is a codec of which package codec knows nothing.
type gobCodec struct{}

func (gobCodec) Name() string { return "gob" }

func (gobCodec) Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	err := gob.NewEncoder(&buf).Encode(v)
	return buf.Bytes(), err
}

func (gobCodec) Unmarshal(data []byte, into any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(into)
}

func (gobCodec) Check(t reflect.Type) error {
	if t.Kind() == reflect.Chan {
		return errors.New("gob has no channels")
	}
	return nil
}

// restless writes other bytes each time.
type restless struct {
	gobCodec
	n *int
}

func (r restless) Marshal(v any) ([]byte, error) {
	*r.n++
	return fmt.Appendf(nil, "%d", *r.n), nil
}

func (restless) Unmarshal(data []byte, into any) error { return nil }

func TestForeignCodec(t *testing.T) {
	t.Parallel()
	c := gobCodec{}
	var out Base
	data, err := codec.Transfer(c, Base{"x"}, 0, &out)
	if err != nil || out.ID != "x" {
		t.Fatal(out, err)
	}
	encoded, err := codec.Encode(c, Base{"x"}, 0)
	if err != nil || !bytes.Equal(encoded, data) {
		t.Fatal(err)
	}
	into := Base{"before"}
	if err := codec.Decode(c, data, &into); err != nil || into.ID != "x" {
		t.Fatal(into, err)
	}
	wantError(t, codec.Decode(c, []byte("garbage"), &into), "decode", "", codec.ErrMismatch, "codec_test.Base")
	if into.ID != "" {
		t.Errorf("left behind: %v", into)
	}
	_, err = codec.Encode(c, Base{strings.Repeat("x", 100)}, 50)
	wantError(t, err, "encode", "", codec.ErrTooLarge, "the limit is 50")
	_, err = codec.Encode(c, func() {}, 0)
	wantError(t, err, "encode", "", codec.ErrLossy, "gob")
	wantError(t, codec.Check(c, reflect.TypeFor[chan int]()), "check", "", codec.ErrLossy, "gob has no channels")
	if err := codec.Check(restless{}, reflect.TypeFor[int]()); err != nil {
		t.Error(err)
	}
	n := 0
	_, err = codec.Transfer(restless{n: &n}, 1, 0, new(int))
	wantError(t, err, "encode", "", codec.ErrLossy, "writes other bytes")
}
