package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// A question takes one answer, and only one that fits. A wrong answer changes
// nothing, a late one is told so.
func ExampleEngine_Answer() {
	ctx := context.Background()
	type decision struct {
		Approve bool   `json:"approve"`
		Reason  string `json:"reason"`
	}
	review := fermata.NewEntrypoint("review", func(ctx context.Context, text string) (string, error) {
		d, err := fermata.Interrupt[decision](ctx, text)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("approved: %t, because %s", d.Approve, d.Reason), nil
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, review)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	run, err := review.On(engine).Thread("1").Start(ctx, "Ship on Friday.")
	if err != nil {
		log.Fatal(err)
	}
	_, err = run.Result(ctx)
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	question := paused.Questions[0].ID

	_, err = engine.Answer(ctx, question, map[string]any{"approve": "maybe", "reason": "?"})
	if wrong, ok := errors.AsType[*fermata.AnswerError](err); ok {
		fmt.Println("wrong at", wrong.Fields[0].Pointer)
	}
	receipt, err := engine.Answer(ctx, question, decision{true, "the tests pass"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = engine.Answer(ctx, question, decision{false, "I came late"})
	fmt.Println("late:", errors.Is(err, fermata.ErrAlreadyAnswered))

	result, err := receipt.Wait(ctx) // as JSON: whoever answers needn't know the workflow
	fmt.Printf("%s %v\n", result, err)
	// Output:
	// wrong at /approve
	// late: true
	// "approved: true, because the tests pass" <nil>
}
