package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// A run that failed goes on with Continue. The task that failed is called again;
// results that were recorded before it are kept.
func ExampleThread_Continue() {
	ctx := context.Background()
	up := false
	reserve := fermata.NewTask("reserve", func(ctx context.Context, seat string) (string, error) {
		fmt.Println("reserving", seat)
		return "reservation of " + seat, nil
	})
	send := fermata.NewTask("send", func(ctx context.Context, text string) (string, error) {
		if !up {
			return "", errors.New("mail server is down")
		}
		return "sent: " + text, nil
	})
	booking := fermata.NewEntrypoint("booking", func(ctx context.Context, seat string) (string, error) {
		reservation, err := reserve.Call(ctx, seat)
		if err != nil {
			return "", err
		}
		return send.Call(ctx, reservation)
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, booking)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	thread := booking.On(engine).Thread("1")
	_, err = thread.Invoke(ctx, "12F")
	failed, ok := errors.AsType[*fermata.TaskError](err)
	if !ok {
		log.Fatal(err)
	}
	fmt.Println(failed)

	up = true
	run, err := thread.Continue(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(run.Result(ctx))
	// Output:
	// reserving 12F
	// task "send" failed: mail server is down
	// sent: reservation of 12F <nil>
}
