package fermata_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/fermata-go/fermata"
)

// chatty is a workflow whose steps each emit their number before they end.
func chatty(loud int) *fermata.Entrypoint[int, int] {
	step := fermata.NewTask("step", func(ctx context.Context, n int) (int, error) {
		for range loud {
			if err := fermata.Emit(ctx, n); err != nil {
				return 0, err
			}
		}
		return n, nil
	})
	return fermata.NewEntrypoint("chatty", func(ctx context.Context, steps int) (int, error) {
		for n := range steps {
			if _, err := step.Call(ctx, n); err != nil {
				return 0, err
			}
		}
		return steps, nil
	}, fermata.WithDurability(fermata.Async))
}

// heard is what a reader of a chatty run makes of its parts.
type heard struct {
	Updates, Custom, Lost int
	Gaps                  int
}

// hear checks that parts are the steps in order, that each custom part comes before its step's update and at most once,
// and that what is missing is told.
func hear(t *testing.T, parts []fermata.Part, loud int) heard {
	t.Helper()
	var h heard
	for i, p := range parts {
		switch {
		case p.Lost > 0:
			h.Lost += int(p.Lost)
			h.Gaps++
		case p.Mode == fermata.StreamUpdates:
			var update map[string]int
			if err := json.Unmarshal(p.Data, &update); err != nil {
				t.Fatal(err)
			}
			if n, ok := update["step"]; ok {
				if n != h.Updates {
					t.Fatalf("part %d is the update of step %d, want step %d", i, n, h.Updates)
				}
				h.Updates++
			}
		case p.Mode == fermata.StreamCustom:
			var n int
			if err := json.Unmarshal(p.Data, &n); err != nil {
				t.Fatal(err)
			}
			if n != (h.Custom+h.Lost)/loud || n < h.Updates {
				t.Fatalf("custom part %d is %d, after %d others, %d lost ones and %d updates", i, n, h.Custom, h.Lost, h.Updates)
			}
			h.Custom++
		}
	}
	return h
}

var chattyModes = []fermata.Mode{fermata.StreamCustom, fermata.StreamUpdates}

// TestLateReaderSeesEachPartOnce: the records fill more than a page, and all that was emitted is still kept.
func TestLateReaderSeesEachPartOnce(t *testing.T) {
	onEach(t, func(g *ground) {
		const steps = 700
		flow := chatty(1)
		g.deploy(nil, flow)
		run, err := flow.On(g.engine).Thread("1").Start(g.t.Context(), steps)
		result(g.t, run, err)
		want(g.t, "what was heard", hear(g.t, streamed[int]{Run: run}.collect(g.t, chattyModes...), 1), heard{Updates: steps, Custom: steps})
	})
}

// TestStalledReaderDoesNotSlowTheRun: a reader takes one part and stands still until the run has ended. It then gets
// all that is durable, and is told how much of the rest is gone.
func TestStalledReaderDoesNotSlowTheRun(t *testing.T) {
	onEach(t, func(g *ground) {
		const steps, loud = 1500, 4
		flow := chatty(loud)
		g.deploy(nil, flow)
		run, err := flow.On(g.engine).Thread("1").Start(g.t.Context(), steps)
		var parts []fermata.Part
		for part, err := range run.Stream(g.t.Context(), nil, chattyModes...) {
			if err != nil {
				g.t.Fatal(err)
			}
			if parts = append(parts, part); len(parts) == 1 {
				want(g.t, "result while the reader stands still", result(g.t, run, err), steps)
			}
		}
		result(g.t, run, err)
		h := hear(g.t, parts, loud)
		want(g.t, "updates", h.Updates, steps)
		want(g.t, "custom parts, and those that are lost", h.Custom+h.Lost, steps*loud)
		if h.Gaps == 0 {
			g.t.Error("the reader saw no gap")
		}
		if h.Custom > 2*1024 { // what it had taken already, and what is kept
			g.t.Errorf("%d custom parts were kept for a reader that stood still", h.Custom)
		}
	})
}
