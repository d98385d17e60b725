package fermata

import "testing"

// FuzzPosition: a text is a position that is written as it, or refused; and positions have an order.
func FuzzPosition(f *testing.F) {
	for _, text := range []string{"", "1.0.0.1", "12.3.4.0", "-1.0.0.0", "01.0.0.0", "1.2.3"} {
		f.Add(text, "2.0.0.1")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		p, err := parsePosition(a)
		if err != nil {
			return
		}
		if p.String() != a {
			t.Fatalf("%q is written as %q", a, p)
		}
		q, err := parsePosition(b)
		if err == nil && (p.compare(q) != -q.compare(p) || (p.compare(q) == 0) != (a == b)) {
			t.Fatalf("%q and %q have no order", a, b)
		}
	})
}
