package schema

import (
	"strconv"

	"github.com/fermata-go/fermata/internal/codec/jsonscan"
)

// step leads from a value into it. It becomes a string only for a fault.
type step struct {
	name  []byte // text of a member's name
	known string // name of a member that is not there
	index int
}

func (s step) String() string {
	switch {
	case s.name != nil:
		return jsonscan.Unquote(s.name)
	case s.known != "":
		return s.known
	default:
		return strconv.Itoa(s.index)
	}
}

func pointer(path []step) string {
	names := make([]string, len(path))
	for i, s := range path {
		names[i] = s.String()
	}
	return jsonscan.Pointer(names)
}
