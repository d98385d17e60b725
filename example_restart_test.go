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

// One process asks, and ends. Another one, days later, finds the question in
// the database, and the work goes on: nothing is done twice.
func Example_restart() {
	ctx := context.Background()
	draft := fermata.NewTask("draft", func(ctx context.Context, subject string) (string, error) {
		fmt.Println("writing about", subject)
		return "Dear customer, " + subject, nil
	})
	letter := fermata.NewEntrypoint("letter", func(ctx context.Context, subject string) (string, error) {
		text, err := draft.Call(ctx, subject)
		if err != nil {
			return "", err
		}
		signature, err := fermata.Interrupt[string](ctx, text)
		if err != nil {
			return "", err
		}
		return text + " – " + signature, nil
	})

	dir, err := os.MkdirTemp("", "fermata-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// process is what each of the two processes does.
	process := func(work func(*fermata.Thread[string, string]) error) {
		backend, err := sqlite.Open(filepath.Join(dir, "letters.db"), nil)
		if err != nil {
			log.Fatal(err)
		}
		defer backend.Close()
		engine, err := fermata.New(backend, nil, letter)
		if err != nil {
			log.Fatal(err)
		}
		defer engine.Close(ctx)
		if err := work(letter.On(engine).Thread("4711")); err != nil {
			log.Fatal(err)
		}
	}

	process(func(thread *fermata.Thread[string, string]) error {
		_, err := thread.Invoke(ctx, "your order is late")
		if errors.Is(err, fermata.ErrPaused) {
			fmt.Println("the process ends")
			return nil
		}
		return err
	})
	process(func(thread *fermata.Thread[string, string]) error {
		state, err := thread.State(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("asked: %s\n", state.Questions[0].Payload)
		run, err := thread.Resume(ctx, "Ada")
		if err != nil {
			return err
		}
		text, err := run.Result(ctx)
		fmt.Println(text)
		return err
	})
	// Output:
	// writing about your order is late
	// the process ends
	// asked: "Dear customer, your order is late"
	// Dear customer, your order is late – Ada
}
