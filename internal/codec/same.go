package codec

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// same compares two valid JSON texts that differ in their bytes. They may be
// the same in another order or spelling; if not, the fault leads to the first
// place in which they differ.
func same(written, again []byte) *fault {
	return sameValue(tree(written), tree(again))
}

// SameJSON compares a JSON text with what became of it: an *[Error] leads to the first place in which its value differs.
func SameJSON(written, again []byte) error {
	return same(written, again).error("encode", reflect.TypeFor[any]())
}

func tree(data []byte) any {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err // differs from everything
	}
	return v
}

func changed(what string) *fault {
	return lossy("it comes back as another value: %s", what)
}

func sameValue(a, b any) *fault {
	switch a := a.(type) {
	case nil, bool, string:
		if a == b {
			return nil
		}
	case json.Number:
		b, ok := b.(json.Number)
		if ok && sameNumber(string(a), string(b)) {
			return nil
		}
		if ok {
			return changed("an any holds numbers as float64, which can't hold this one; use a typed field, or a string")
		}
	case []any:
		b, ok := b.([]any)
		if !ok {
			break
		}
		for i := range min(len(a), len(b)) {
			if f := sameValue(a[i], b[i]); f != nil {
				return f.in(strconv.Itoa(i))
			}
		}
		if len(a) == len(b) {
			return nil
		}
		return changed("the number of elements changes")
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			break
		}
		keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
		slices.Sort(keys)
		for _, k := range slices.Compact(keys) {
			x, inA := a[k]
			y, inB := b[k]
			if inA != inB {
				if x == nil && y == nil {
					continue // null, then left out by omitempty
				}
				return changed("a member is only there before or after; its type's unmarshal method must read all that its marshal method writes").in(k)
			}
			if f := sameValue(x, y); f != nil {
				return f.in(k)
			}
		}
		return nil
	}
	return changed("its type's unmarshal method must read what its marshal method writes")
}

// sameNumber reports whether two JSON numbers are equal, however spelled.
func sameNumber(a, b string) bool {
	return a == b || decimal(a) == decimal(b)
}

// decimal returns a spelling of the number that is its only one: digits
// without zeros at either end, and the exponent of ten.
func decimal(s string) string {
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(digits, "0")
	if short == "" {
		return sign + "0" // -0 is a float64 of its own
	}
	e := 0
	if exponent != "" {
		var err error
		if e, err = strconv.Atoi(exponent); err != nil {
			return s
		}
	}
	return sign + short + "e" + strconv.Itoa(e-len(fraction)+len(digits)-len(short))
}
