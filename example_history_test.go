package fermata_test

import (
	"context"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// Every run leaves two checkpoints: before it, and after it. A new run may
// descend from any of them, and what came since stays as another branch.
func ExampleThread_History() {
	ctx := context.Background()
	sum := fermata.NewEntrypoint("sum", func(ctx context.Context, n int) (int, error) {
		before, _, err := fermata.Previous[int](ctx)
		return before + n, err
	})
	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, sum)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)
	thread := sum.On(engine).Thread("1")
	for _, n := range []int{1, 2, 3} {
		if _, err := thread.Invoke(ctx, n); err != nil {
			log.Fatal(err)
		}
	}

	var first string
	for s, err := range thread.History(ctx, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(s.Source, s.Step, s.Value)
		if s.Step == 0 {
			first = s.Checkpoint
		}
	}

	branch, err := thread.Invoke(ctx, 10, fermata.From(first))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("from the first result:", branch)
	// Output:
	// loop 4 6
	// input 3 3
	// loop 2 3
	// input 1 1
	// loop 0 1
	// input -1 0
	// from the first result: 11
}
