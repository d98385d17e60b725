package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

type discountRequest struct {
	Customer string `json:"customer"`
	Percent  int    `json:"percent"`
}

type discountDecision struct {
	Percent int `json:"percent"`
}

// Validate is called before an answer is accepted.
func (d discountDecision) Validate() error {
	if d.Percent < 0 || d.Percent > 20 {
		return fmt.Errorf("a discount of %d %%: want 0 to 20", d.Percent)
	}
	return nil
}

// A declared question has a name, and types for what is shown and what is
// answered. An answer that its type refuses never reaches the workflow.
func ExampleNewQuestion() {
	ctx := context.Background()
	discount := fermata.NewQuestion[discountRequest, discountDecision]("discount",
		fermata.Title("Grant a discount?"))
	offer := fermata.NewEntrypoint("offer", func(ctx context.Context, customer string) (string, error) {
		decision, err := discount.Ask(ctx, discountRequest{Customer: customer, Percent: 50})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s gets %d %%", customer, decision.Percent), nil
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, offer)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	thread := offer.On(engine).Thread("1")
	_, err = thread.Invoke(ctx, "Ada")
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", paused.Questions[0].Name, paused.Questions[0].Payload)

	_, err = thread.Resume(ctx, discountDecision{Percent: 50})
	fmt.Println("refused:", errors.Is(err, fermata.ErrInvalidAnswer))
	run, err := thread.Resume(ctx, discountDecision{Percent: 10})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(run.Result(ctx))
	// Output:
	// discount {"customer":"Ada","percent":50}
	// refused: true
	// Ada gets 10 % <nil>
}
