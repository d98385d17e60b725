package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// A task with a retry policy is called again after an error; attempts are
// counted also over crashes of the process.
func ExampleRetry() {
	ctx := context.Background()
	fetch := fermata.NewTask("fetch", func(ctx context.Context, city string) (string, error) {
		attempt := fermata.Attempt(ctx)
		fmt.Println("attempt", attempt)
		if attempt < 3 {
			return "", errors.New("connection reset")
		}
		return "fog in " + city, nil
	}, fermata.Retry(fermata.RetryPolicy{
		MaxAttempts:     5,
		InitialInterval: time.Millisecond,
		NoJitter:        true,
	}))
	weather := fermata.NewEntrypoint("weather", func(ctx context.Context, city string) (string, error) {
		return fetch.Call(ctx, city)
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, weather)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	fmt.Println(weather.On(engine).Thread("1").Invoke(ctx, "Lund"))
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
	// fog in Lund <nil>
}
