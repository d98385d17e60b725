package sqlite_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "fermata")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	backend, err := sqlite.Open(filepath.Join(dir, "work.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer backend.Close()

	ctx := context.Background()
	started, err := backend.Start(ctx, storage.Start{Run: storage.Run{
		ID: storage.NewID(time.Now()), Thread: "1", Entrypoint: "graph", Input: []byte(`"foo"`),
	}})
	if err != nil {
		log.Fatal(err)
	}
	head, err := backend.Head(ctx, "", "1") // another process would read the same
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(started.Run.Status, string(head.Run.Input))
	// Output: queued "foo"
}
