package fermata_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sqlite"
)

// The same steps under two durabilities: how often they wait for the disk.
func ExampleWithDurability() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "fermata")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	backend, err := sqlite.Open(filepath.Join(dir, "fermata.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer backend.Close()

	resize := fermata.NewTask("resize", func(_ context.Context, n int) (int, error) { return n / 2, nil })
	body := func(ctx context.Context, pictures int) (int, error) {
		sum := 0
		for n := range pictures {
			size, err := resize.Call(ctx, n)
			if err != nil {
				return 0, err
			}
			sum += size
		}
		return sum, nil
	}
	careful := fermata.NewEntrypoint("careful", body) // fermata.Sync
	batch := fermata.NewEntrypoint("batch", body, fermata.WithDurability(fermata.Exit))
	engine, err := fermata.New(backend, nil, careful, batch)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	for name, entrypoint := range map[string]*fermata.Entrypoint[int, int]{"careful": careful, "batch": batch} {
		before := backend.Stats().Commits
		if _, err := entrypoint.On(engine).Thread(name).Invoke(ctx, 100); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %.0f commits per picture\n", name, float64(backend.Stats().Commits-before)/100)
	}
	// Unordered output:
	// careful: 1 commits per picture
	// batch: 0 commits per picture
}
