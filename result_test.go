package fermata_test

import (
	"errors"
	"testing"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// TestResultOfAnEarlierHandle: a handle is of a run, not of what its verb set
// going: it follows the run past its pauses, and never says that a person is asked who isn't.
func TestResultOfAnEarlierHandle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, graph)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(ctx)
	started, err := graph.On(engine).Thread("1").Start(ctx, "foo")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // asked again, it says the same
		_, err = started.Result(ctx)
		paused, ok := errors.AsType[*fermata.PausedError](err)
		if !ok || len(paused.Questions) != 1 {
			t.Fatalf("before the answer: %v", err)
		}
	}
	paused, _ := errors.AsType[*fermata.PausedError](err)
	if _, err := engine.Answer(ctx, paused.Questions[0].ID, "baz"); err != nil {
		t.Fatal(err)
	}
	// Whether the run is still at it or has ended, this waits for its end.
	if out, err := started.Result(ctx); out != "foo bar baz qux" || err != nil {
		t.Errorf("after the answer: %q, %v", out, err)
	}
}
