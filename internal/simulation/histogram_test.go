package simulation

import (
	"fmt"
	"strings"
	"testing"
)

// result is what became of a run under changed code.
type result string

// The results.
const (
	never    result = "over before" // the run had ended before the change
	same     result = "same result" // it went on, and ended as it would have without the change
	went     result = "went on"     // as the changed code has it
	parked   result = "parked"      // with both sides named
	reverted result = "and back"    // parked, and then went on with the old code
)

var resultColumns = []result{went, same, parked, reverted, never}

// histogram counts what was tried and what became of it.
type histogram map[mutation]map[result]int

func (h histogram) add(m mutation, r result) {
	if h[m] == nil {
		h[m] = map[result]int{}
	}
	h[m][r]++
}

// count is how often something became of the mutations that fit.
func (h histogram) count(fits func(mutation) bool, of ...result) int {
	n := 0
	for m, results := range h {
		if !fits(m) {
			continue
		}
		for _, r := range of {
			n += results[r]
		}
	}
	return n
}

// named are the kinds of changes that replay is known to be wronged by elsewhere.
var named = []string{"insert", "delete", "swap", "rename", "argument", "payload"}

// wanting lists what the histogram has too little of, to say something about it: each named kind, and calls
// in flight, in groups and in retries. low is how often each of these must be there.
func (h histogram) wanting(low int) []string {
	var few []string
	look := func(what string, fits func(mutation) bool) {
		if n := h.count(fits, went, same, parked, reverted); n < low {
			few = append(few, fmt.Sprintf("%s: %d", what, n))
		}
	}
	for _, kind := range named {
		look(kind, func(m mutation) bool { return m.Kind == kind })
	}
	for _, r := range []region{inFlight, inGroup, inRetries} {
		look(r.String(), func(m mutation) bool { return m.Kind != "none" && m.Where&r != 0 })
	}
	return few
}

// report shows the histogram, which must have enough of everything.
func (h histogram) report(t *testing.T) {
	t.Helper()
	if t.Failed() {
		return
	}
	t.Logf("what was changed, and what became of the run:%s", h)
	if few := h.wanting(mutations() / 200); len(few) > 0 {
		t.Errorf("too few to say anything: %s", strings.Join(few, ", "))
	}
}

func (h histogram) String() string {
	var b strings.Builder
	line := func(name string, fits func(mutation) bool) {
		fmt.Fprintf(&b, "\n%-12s", name)
		for _, r := range resultColumns {
			fmt.Fprintf(&b, "%12d", h.count(fits, r))
		}
	}
	head := func(title string) {
		fmt.Fprintf(&b, "\n\n%-12s", title)
		for _, r := range resultColumns {
			fmt.Fprintf(&b, "%12s", r)
		}
	}
	kinds := append(append([]string{}, named...), "key", "duplicate", "width", "catch", "none")
	regions := []region{0, inTask, inNested, inGroup, inRetries, inFlight}
	within := func(m mutation, r region) bool { return m.Where == r || r != 0 && m.Where&r != 0 }
	head("change")
	for _, kind := range kinds {
		line(kind, func(m mutation) bool { return m.Kind == kind })
	}
	line("all", func(mutation) bool { return true })
	head("within")
	for _, r := range regions {
		line(r.String(), func(m mutation) bool { return m.Kind != "none" && within(m, r) })
	}
	fmt.Fprintf(&b, "\n\n%-12s", "of waiting")
	for _, r := range regions {
		fmt.Fprintf(&b, "%12s", r)
	}
	for _, kind := range kinds[:len(kinds)-1] {
		fmt.Fprintf(&b, "\n%-12s", kind)
		for _, r := range regions {
			fmt.Fprintf(&b, "%12d", h.count(func(m mutation) bool { return m.Kind == kind && within(m, r) }, went, same, parked, reverted))
		}
	}
	all := func(mutation) bool { return true }
	fmt.Fprintf(&b, "\n\n%d changes of runs under way in %d cases", h.count(all, went, same, parked, reverted), h.count(all, resultColumns...))
	return b.String()
}
