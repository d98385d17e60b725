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

// A deploy changes what a waiting run has done already. The run is parked,
// with both sides in the report; nothing is executed, and nothing is lost.
func ExampleDivergenceError() {
	ctx := context.Background()
	backend := memory.New(nil)
	defer backend.Close()
	charge := fermata.NewTask("charge", func(ctx context.Context, euros int) (string, error) {
		fmt.Println("charging", euros)
		return "receipt", nil
	})
	deploy := func(euros int) (*fermata.Engine, *fermata.Entrypoint[int, string]) {
		order := fermata.NewEntrypoint("order", func(ctx context.Context, _ int) (string, error) {
			receipt, err := charge.Call(ctx, euros)
			if err != nil {
				return "", err
			}
			address, err := fermata.Interrupt[string](ctx, "ship to?")
			return receipt + ", to " + address, err
		})
		engine, err := fermata.New(backend, nil, order)
		if err != nil {
			log.Fatal(err)
		}
		return engine, order
	}

	monday, order := deploy(100)
	_, err := order.On(monday).Thread("1").Invoke(ctx, 0)
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	if err := monday.Close(ctx); err != nil {
		log.Fatal(err)
	}

	tuesday, order := deploy(250) // the price has changed while a person was asked
	defer tuesday.Close(ctx)
	receipt, err := tuesday.Answer(ctx, paused.Questions[0].ID, "Lund")
	if err != nil {
		log.Fatal(err)
	}
	_, err = receipt.Wait(ctx)
	if report, ok := errors.AsType[*fermata.DivergenceError](err); ok {
		fmt.Println("parked:", errors.Is(err, fermata.ErrParked))
		fmt.Println("call", report.Position, "of", report.Path, "is", report.Recorded.Kind, report.Recorded.Name)
		for _, field := range report.Fields {
			fmt.Println("recorded with", field.Recorded, "now called with", field.Current)
		}
	}

	// Somebody decides: what was charged stays charged.
	run, err := order.On(tuesday).Thread("1").Repair(ctx, fermata.AcceptRecorded, fermata.Principal{Subject: "ann"}, "old price holds")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(run.Result(ctx))
	// Output:
	// charging 100
	// parked: true
	// call 1 of order is task charge
	// recorded with 100 now called with 250
	// receipt, to Lund <nil>
}

// New steps for runs that wait already: Version tells old runs from new ones,
// and a Key lets a call come and go where order doesn't matter.
func ExampleVersion() {
	ctx := context.Background()
	step := fermata.NewTask("step", func(ctx context.Context, name string) (string, error) {
		fmt.Println(name)
		return name, nil
	})
	order := fermata.NewEntrypoint("order", func(ctx context.Context, _ int) (string, error) {
		// Added by the deploy: any run may do it, at any time.
		if _, err := step.Call(ctx, "log", fermata.Key("log")); err != nil {
			return "", err
		}
		// Added by the deploy: only runs that have not gone past it do it.
		if v, err := fermata.Version(ctx, "fraud-check", 1, 2); err != nil {
			return "", err
		} else if v >= 2 {
			if _, err := step.Call(ctx, "fraud check"); err != nil {
				return "", err
			}
		}
		if _, err := step.Call(ctx, "charge"); err != nil {
			return "", err
		}
		return fermata.Interrupt[string](ctx, "ship to?")
	})

	backend := memory.New(nil)
	defer backend.Close()
	old := fermata.NewEntrypoint("order", func(ctx context.Context, _ int) (string, error) {
		if _, err := step.Call(ctx, "charge"); err != nil {
			return "", err
		}
		return fermata.Interrupt[string](ctx, "ship to?")
	})
	before, err := fermata.New(backend, nil, old)
	if err != nil {
		log.Fatal(err)
	}
	_, err = old.On(before).Thread("1").Invoke(ctx, 0)
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	if err := before.Close(ctx); err != nil {
		log.Fatal(err)
	}

	after, err := fermata.New(backend, nil, order)
	if err != nil {
		log.Fatal(err)
	}
	defer after.Close(ctx)
	receipt, err := after.Answer(ctx, paused.Questions[0].ID, "Lund")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := receipt.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("a new run:")
	_, err = order.On(after).Thread("2").Invoke(ctx, 0)
	fmt.Println("asks:", errors.Is(err, fermata.ErrPaused))
	// Output:
	// charge
	// log
	// a new run:
	// log
	// fraud check
	// charge
	// asks: true
}

// Clock and chance that are the same live and on replay, and a wait that no process spends.
func ExampleSleep() {
	ctx := context.Background()
	backend := memory.New(nil)
	defer backend.Close()
	dunning := fermata.NewEntrypoint("dunning", func(ctx context.Context, invoice string) (bool, error) {
		before, err := fermata.Now(ctx)
		if err != nil {
			return false, err
		}
		random, err := fermata.Rand(ctx)
		if err != nil {
			return false, err
		}
		pause := time.Duration(1+random.IntN(3)) * time.Millisecond
		if err := fermata.Sleep(ctx, pause); err != nil {
			return false, err
		}
		after, err := fermata.Now(ctx)
		return after.Sub(before) >= pause, err
	})
	engine, err := fermata.New(backend, nil, dunning)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)
	fmt.Println(dunning.On(engine).Thread("1").Invoke(ctx, "invoice 7"))
	// Output: true <nil>
}

// VerifyReplay finds what would diverge later, while the author still looks.
func ExampleOptions_verifyReplay() {
	ctx := context.Background()
	greet := fermata.NewTask("greet", func(ctx context.Context, at int64) (string, error) { return "hello", nil })
	careless := fermata.NewEntrypoint("careless", func(ctx context.Context, _ int) (string, error) {
		return greet.Call(ctx, time.Now().UnixNano()) // another input on every pass
	})
	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, &fermata.Options{VerifyReplay: true}, careless)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)
	_, err = careless.On(engine).Thread("1").Invoke(ctx, 0)
	fmt.Println("parked:", errors.Is(err, fermata.ErrParked))
	// Output: parked: true
}
