package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sqlite"
)

// A web server takes orders and answers, and runs nothing itself: it enqueues.
// A worker, here an engine of its own on the same database, does the work.
func ExampleEnqueue() {
	ctx := context.Background()
	pack := fermata.NewTask("pack", func(_ context.Context, order string) (string, error) {
		return order + " packed", nil
	})
	ship := fermata.NewEntrypoint("ship", func(ctx context.Context, order string) (string, error) {
		packed, err := pack.Call(ctx, order)
		if err != nil {
			return "", err
		}
		address, err := fermata.Interrupt[string](ctx, "where to?")
		if err != nil {
			return "", err
		}
		return packed + " and sent to " + address, nil
	})

	dir, err := os.MkdirTemp("", "fermata-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// process is an engine as each process of the program has one.
	process := func(options *fermata.Options) (*fermata.Engine, func()) {
		backend, err := sqlite.Open(filepath.Join(dir, "orders.db"), nil)
		if err != nil {
			log.Fatal(err)
		}
		engine, err := fermata.New(backend, options, ship)
		if err != nil {
			log.Fatal(err)
		}
		return engine, func() {
			if err := errors.Join(engine.Close(ctx), backend.Close()); err != nil {
				log.Fatal(err)
			}
		}
	}

	web, stop := process(&fermata.Options{Workers: -1}) // takes nothing up
	defer stop()
	thread := ship.On(web).Thread("order-7")
	run, err := thread.Start(ctx, "two chairs", fermata.Enqueue())
	if err != nil {
		log.Fatal(err)
	}
	state, err := thread.State(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("accepted:", state.Status) // it is on the disk, whatever becomes of this process

	_, stopWorker := process(nil)
	defer stopWorker()
	_, err = run.Result(ctx) // wherever it executes
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	fmt.Printf("asked: %s\n", paused.Questions[0].Payload)

	run, err = thread.Resume(ctx, "Lyon", fermata.Enqueue())
	if err != nil {
		log.Fatal(err)
	}
	result, err := run.Result(ctx)
	fmt.Println(result, err)
	// Output:
	// accepted: queued
	// asked: "where to?"
	// two chairs packed and sent to Lyon <nil>
}
