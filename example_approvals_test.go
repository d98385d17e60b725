package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// Tasks that run in parallel may each ask somebody. All questions are open at
// once and are answered by their ids, in any order; what was answered is not
// asked again.
func ExampleInterrupt_several() {
	ctx := context.Background()
	type refund struct {
		Order string
		Euros int
	}
	approve := fermata.NewTask("approve", func(ctx context.Context, r refund) (bool, error) {
		return fermata.Interrupt[bool](ctx, r)
	})
	refunds := fermata.NewEntrypoint("refunds", func(ctx context.Context, requested []refund) (int, error) {
		var approvals []*fermata.Future[bool]
		for _, r := range requested {
			approvals = append(approvals, approve.Go(ctx, r))
		}
		decisions, err := fermata.All(ctx, approvals...)
		if err != nil {
			return 0, err
		}
		paid := 0
		for i, yes := range decisions {
			if yes {
				paid += requested[i].Euros
			}
		}
		return paid, nil
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, refunds)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	thread := refunds.On(engine).Thread("monday")
	_, err = thread.Invoke(ctx, []refund{{"A-1", 10}, {"B-2", 90_000}, {"C-3", 25}})
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	for _, q := range paused.Questions {
		fmt.Printf("asked: %s\n", q.Payload)
	}
	decide := func(question fermata.Question, yes bool) {
		receipt, err := engine.Answer(ctx, question.ID, yes)
		if err != nil {
			log.Fatal(err)
		}
		result, err := receipt.Wait(ctx)
		if paused, ok := errors.AsType[*fermata.PausedError](err); ok {
			fmt.Println("still open:", len(paused.Questions))
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("paid: %s\n", result)
	}
	questions := paused.Questions
	decide(questions[2], true)
	decide(questions[1], false)
	decide(questions[0], true)
	// Output:
	// asked: {"Order":"A-1","Euros":10}
	// asked: {"Order":"B-2","Euros":90000}
	// asked: {"Order":"C-3","Euros":25}
	// still open: 2
	// still open: 1
	// paid: 35
}
