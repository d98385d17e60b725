package engine

import "testing"

func TestCallsInADivergence(t *testing.T) {
	for want, c := range map[string]CallInfo{
		`task "fetch" at flow.go:7`: {Kind: "task", Name: "fetch", Site: "flow.go:7"},
		"question at flow.go:8":     {Kind: "question", Site: "flow.go:8"},
	} {
		if got := c.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
