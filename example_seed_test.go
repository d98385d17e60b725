package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// A workflow of three tasks; the second one asks a person.
func Example() {
	ctx := context.Background()
	step1 := fermata.NewTask("step_1", func(ctx context.Context, query string) (string, error) {
		return query + " bar", nil
	})
	humanFeedback := fermata.NewTask("human_feedback", func(ctx context.Context, query string) (string, error) {
		feedback, err := fermata.Interrupt[string](ctx, "Please provide feedback: "+query)
		if err != nil {
			return "", err
		}
		return query + " " + feedback, nil
	})
	step3 := fermata.NewTask("step_3", func(ctx context.Context, query string) (string, error) {
		return query + " qux", nil
	})
	graph := fermata.NewEntrypoint("graph", func(ctx context.Context, query string) (string, error) {
		query, err := step1.Call(ctx, query)
		if err != nil {
			return "", err
		}
		query, err = humanFeedback.Call(ctx, query)
		if err != nil {
			return "", err
		}
		return step3.Call(ctx, query)
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, graph)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)
	thread := graph.On(engine).Thread("1")

	// Start returns when the run is durable; Result when it has ended or waits for a person.
	run, err := thread.Start(ctx, "foo")
	if err != nil {
		log.Fatal(err)
	}
	_, err = run.Result(ctx)
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	fmt.Printf("asked: %s\n", paused.Questions[0].Payload)

	run, err = thread.Resume(ctx, "baz")
	if err != nil {
		log.Fatal(err)
	}
	for event, err := range run.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		data, err := json.Marshal(event)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", data)
	}
	// Output:
	// asked: "Please provide feedback: foo bar"
	// {"human_feedback":"foo bar baz"}
	// {"step_3":"foo bar baz qux"}
	// {"graph":"foo bar baz qux"}
}
