package fermata_test

import (
	"context"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// One reader leaves after the first part. Another one, that knows only the
// thread and the position, goes on from there; it could be in another process.
func ExampleThread_Attach() {
	ctx := context.Background()
	stir := fermata.NewTask("stir", func(_ context.Context, n int) (int, error) { return n + 1, nil })
	soup := fermata.NewEntrypoint("soup", func(ctx context.Context, n int) (int, error) {
		for range 3 {
			var err error
			if n, err = stir.Call(ctx, n); err != nil {
				return 0, err
			}
		}
		return n, nil
	})
	backend := memory.New(nil)
	defer backend.Close()
	first, err := fermata.New(backend, nil, soup)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close(ctx)
	second, err := fermata.New(backend, nil, soup)
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close(ctx)
	started, err := soup.On(first).Thread("1").Start(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}

	var last string
	for part, err := range started.Stream(ctx, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("first reader: ", string(part.Data))
		last = part.Position
		break
	}

	elsewhere := soup.On(second).Thread("1")
	run, err := elsewhere.Attach(ctx, fermata.ID{}) // the thread's latest run
	if err != nil {
		log.Fatal(err)
	}
	// Only what the first reader hasn't seen.
	for part, err := range run.Stream(ctx, &fermata.StreamOptions{After: last}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("second reader:", string(part.Data))
	}
	// Output:
	// first reader:  {"stir":1}
	// second reader: {"stir":2}
	// second reader: {"stir":3}
	// second reader: {"soup":3}
}
