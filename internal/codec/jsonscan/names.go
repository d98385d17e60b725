package jsonscan

import "bytes"

// Names is a set of the names of one object. The zero value is empty. It
// keeps parts of the texts that it is given.
type Names struct {
	few  [8][]byte
	n    int
	many map[string]struct{}
}

// Add adds the name that text, as [Scanner.Object] gave it, stands for. It
// reports false if the name is in the set already.
func (s *Names) Add(text []byte) bool {
	name := Name(text)
	if s.many != nil {
		if _, ok := s.many[string(name)]; ok {
			return false
		}
		s.many[string(name)] = struct{}{}
		return true
	}
	for _, other := range s.few[:s.n] {
		if bytes.Equal(other, name) {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return true
	}
	s.many = make(map[string]struct{}, 4*len(s.few))
	for _, other := range s.few {
		s.many[string(other)] = struct{}{}
	}
	s.many[string(name)] = struct{}{}
	return true
}

// Name is [Unquote] without a copy where there is nothing to unquote.
func Name(text []byte) []byte {
	if bytes.IndexByte(text, '\\') >= 0 {
		return []byte(Unquote(text))
	}
	return text[1 : len(text)-1]
}
