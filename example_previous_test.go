package fermata_test

import (
	"context"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// A run sees what the thread's last finished run returned or, if it called
// Save, what it saved.
func ExamplePrevious() {
	ctx := context.Background()
	counter := fermata.NewEntrypoint("counter", func(ctx context.Context, add int) (string, error) {
		total, _, err := fermata.Previous[int](ctx)
		if err != nil {
			return "", err
		}
		total += add
		// The caller gets a sentence, the next run the number.
		if err := fermata.Save(ctx, total); err != nil {
			return "", err
		}
		return fmt.Sprintf("the total is %d", total), nil
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, counter)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	thread := counter.On(engine).Thread("1")
	for _, add := range []int{1, 2, 3} {
		fmt.Println(thread.Invoke(ctx, add))
	}
	fmt.Println(counter.On(engine).Thread("2").Invoke(ctx, 10))
	// Output:
	// the total is 1 <nil>
	// the total is 3 <nil>
	// the total is 6 <nil>
	// the total is 10 <nil>
}
