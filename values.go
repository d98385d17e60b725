package fermata

import (
	"encoding/json"

	"github.com/fermata-go/fermata/internal/codec"
	"github.com/fermata-go/fermata/internal/engine"
)

// Codec turns values into bytes and back. Equal values must give equal bytes,
// in every process: they are compared on replay. The default is JSON.
//
// What people are shown of a question is what another codec than JSON unmarshals into an any, and an answer that is given
// as JSON is what it marshals of one: numbers are float64 there. An answer as JSON that this would change is refused
// ([ErrInvalidAnswer]); for a payload with integers beyond 2^53 use strings.
type Codec interface {
	// Name identifies the format, as "json".
	Name() string
	// Marshal returns the bytes of v.
	Marshal(v any) ([]byte, error)
	// Unmarshal stores the value of data in the variable that into points to.
	Unmarshal(data []byte, into any) error
}

// defaultMaxValueSize is the default of Options.MaxValueSize.
const defaultMaxValueSize = 16 << 20

// values is how an engine writes and reads what its users' functions take and give.
type values struct {
	codec  codec.Codec
	limit  int
	engine *Engine
}

func valuesOf(s *engine.Scope) *values { return s.Values().(*values) }

func (v *values) encode(value any) ([]byte, error) {
	data, err := codec.Encode(v.codec, value, v.limit)
	return data, public(err)
}

// transfer encodes value and makes *into the copy that a replay will see.
func (v *values) transfer(value, into any) ([]byte, error) {
	data, err := codec.Transfer(v.codec, value, v.limit, into)
	return data, public(err)
}

func (v *values) decode(data []byte, into any) error {
	return public(codec.Decode(v.codec, data, into))
}

// json returns stored bytes as JSON, for events and questions.
func (v *values) json(data []byte) (json.RawMessage, error) {
	if data == nil || v.codec.Name() == "json" {
		return data, nil
	}
	var value any
	if err := v.decode(data, &value); err != nil {
		return nil, err
	}
	return json.Marshal(value)
}
