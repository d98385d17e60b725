package main

import (
	"errors"
	"strconv"
	"testing"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sqlite"
)

// TestCommits: the seed waits for the disk seven times, as ARCHITECTURE.md has
// it step by step: three times up to the question, four from the answer on. On a
// busy machine the pause may come late, and the question is then written before it.
func TestCommits(t *testing.T) {
	t.Parallel()
	backend, err := sqlite.Open(newPlace(t).db, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	engine, err := fermata.New(backend, nil, graph)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(t.Context())
	commits := func(do func()) int64 {
		before := backend.Stats().Commits
		do()
		return backend.Stats().Commits - before
	}

	asked := int64(0)
	for i := 0; asked != 3; i++ {
		if i == 100 {
			t.Fatalf("%d commits up to the question, want 3", asked)
		}
		thread := graph.On(engine).Thread(strconv.Itoa(i))
		asked = commits(func() {
			if _, err := thread.Invoke(t.Context(), "foo"); !errors.Is(err, fermata.ErrPaused) {
				t.Fatalf("the run doesn't wait for a person: %v", err)
			}
		})
		answered := commits(func() {
			run, err := thread.Resume(t.Context(), "baz")
			if err != nil {
				t.Fatal(err)
			}
			if result, err := run.Result(t.Context()); result != "foo bar baz qux" || err != nil {
				t.Errorf("result %q, error %v", result, err)
			}
		})
		if answered != 4 || asked < 3 || asked > 4 {
			t.Errorf("%d commits up to the question and %d from the answer on, want 3 and 4", asked, answered)
		}
	}
}
