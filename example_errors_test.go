package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// A task's error is recorded, and handed to the code that called it: the same
// now and on every replay. To be found by errors.Is it needs a code, since only text is kept.
func ExampleTaskError() {
	ctx := context.Background()
	errNoFunds := errors.New("insufficient funds")
	charge := fermata.NewTask("charge", func(ctx context.Context, euros int) (string, error) {
		if euros > 100 {
			return "", fmt.Errorf("card ending in 42: %w", errNoFunds)
		}
		return "receipt", nil
	})
	purchase := fermata.NewEntrypoint("purchase", func(ctx context.Context, euros int) (string, error) {
		receipt, err := charge.Call(ctx, euros)
		if errors.Is(err, errNoFunds) {
			return "sent an invoice instead", nil
		}
		return receipt, err
	})
	careless := fermata.NewEntrypoint("careless", func(ctx context.Context, euros int) (string, error) {
		return charge.Call(ctx, euros)
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, &fermata.Options{
		Errors: map[string]error{"no_funds": errNoFunds},
	}, purchase, careless)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	out, err := purchase.On(engine).Thread("1").Invoke(ctx, 500)
	fmt.Println(out, err)

	_, err = careless.On(engine).Thread("2").Invoke(ctx, 500)
	if failed, ok := errors.AsType[*fermata.TaskError](err); ok {
		fmt.Println(failed.Path, "failed:", failed.Message)
	}
	fmt.Println(errors.Is(err, errNoFunds))
	// Output:
	// sent an invoice instead <nil>
	// careless/charge failed: card ending in 42: insufficient funds
	// true
}
