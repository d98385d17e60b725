package jsonscan

import "bytes"

// Names is a set of the names of one object. The zero value is empty.
type Names struct {
	few  [8]string
	n    int
	many map[string]struct{}
}

// Add adds the name that text, as [Scanner.Object] gave it, stands for. It
// reports false if the name is in the set already.
func (s *Names) Add(text []byte) bool {
	name := text[1 : len(text)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(Unquote(text))
	}
	if s.many != nil {
		if _, ok := s.many[string(name)]; ok {
			return false
		}
		s.many[string(name)] = struct{}{}
		return true
	}
	for _, other := range s.few[:s.n] {
		if other == string(name) {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = string(name)
		s.n++
		return true
	}
	s.many = make(map[string]struct{}, 2*len(s.few))
	for _, other := range s.few {
		s.many[other] = struct{}{}
	}
	s.many[string(name)] = struct{}{}
	return true
}
