package sealed_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sealed"
	"github.com/fermata-go/fermata/storage/memory"
)

func secret() []byte {
	s := make([]byte, 32) // in production: from a key store
	_, _ = rand.Read(s)
	return s
}

// What a person is asked is readable for the program, not in the database.
func Example() {
	ctx := context.Background()
	consent := fermata.NewEntrypoint("consent", func(ctx context.Context, patient string) (string, error) {
		answer, err := fermata.Interrupt[string](ctx, "Operate on "+patient+"?")
		return patient + ": " + answer, err
	})

	database := memory.New(nil) // or sqlite.Open, postgres.Open
	backend, err := sealed.New(database, sealed.Options{
		Keys:   []sealed.Key{{ID: "2026-11", Secret: secret()}},
		Lookup: sealed.Key{ID: "lookup", Secret: secret()},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer backend.Close()
	engine, err := fermata.New(backend, nil, consent)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	_, err = consent.On(engine).Thread("ward-3").Invoke(ctx, "Ann")
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	fmt.Printf("asked:  %s\n", paused.Questions[0].Payload)

	row, err := database.Question(ctx, "", paused.Questions[0].ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored:", strings.Contains(string(row.Payload), "Ann"))
	// Output:
	// asked:  "Operate on Ann?"
	// stored: false
}
