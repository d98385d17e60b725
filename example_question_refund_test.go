package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

type refund struct {
	Order string `json:"order"`
	Euros int    `json:"euros"`
}

// Validate holds for what is proposed, and for what a person makes of it.
func (r refund) Validate() error {
	if r.Euros <= 0 || r.Euros > 500 {
		return &fermata.AnswerError{Fields: []fermata.FieldError{{Pointer: "/euros", Message: "must be between 1 and 500"}}}
	}
	return nil
}

// The function of a guarded task has no other caller than Run, and Run takes
// nothing but an approval.
var payRefund = fermata.NewGuarded("pay_refund", func(_ context.Context, r refund) (string, error) {
	fmt.Printf("paying %d € for %s\n", r.Euros, r.Order)
	return fmt.Sprintf("receipt over %d €", r.Euros), nil
})

type claim struct {
	refund
	Requester string `json:"requester"`
}

var refundClaim = fermata.NewEntrypoint("refund_claim", func(ctx context.Context, c claim) (string, error) {
	approval, err := payRefund.Approve(ctx, c.refund,
		fermata.Title("Refund for order "+c.Order),
		fermata.Groups("support"), fermata.NotBy(c.Requester),
		fermata.AllowEdit(), fermata.ValidFor(24*time.Hour))
	if rejected, ok := errors.AsType[*fermata.RejectedError](err); ok {
		return "rejected: " + rejected.Reason, nil
	}
	if err != nil {
		return "", err // a person is asked: pass it up
	}
	return payRefund.Run(ctx, approval)
})

// A person approves an action, or another one instead; what was approved is what runs.
func ExampleGuarded() {
	ctx := context.Background()
	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, refundClaim)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	_, err = refundClaim.On(engine).Thread("claim-1").Invoke(ctx, claim{refund{"A-7", 90}, "ada"})
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	question := paused.Questions[0]
	fmt.Printf("%s: %s\n", question.Title, question.Payload)

	as := func(subject string) fermata.AnswerOption {
		return fermata.By(fermata.Principal{Subject: subject, Groups: []string{"support"}})
	}
	// Who asked for it can't approve it.
	_, err = engine.Answer(ctx, question.ID, fermata.Verdict[refund]{Decision: fermata.Approve}, as("ada"))
	fmt.Println("ada:", errors.Is(err, fermata.ErrNotAllowed))

	// An approval is of what was shown, whatever comes with it.
	_, err = engine.Answer(ctx, question.ID, json.RawMessage(`{"decision":"approve","action":{"order":"A-7","euros":400}}`), as("bob"))
	fmt.Println("smuggled:", errors.Is(err, fermata.ErrInvalidAnswer))

	// An edit is checked like what was proposed.
	tooMuch := fermata.Verdict[refund]{Decision: fermata.Edit, Action: &refund{"A-7", 9000}}
	_, err = engine.Answer(ctx, question.ID, tooMuch, as("bob"))
	if wrong, ok := errors.AsType[*fermata.AnswerError](err); ok {
		fmt.Println("too much:", wrong)
	}

	half := fermata.Verdict[refund]{Decision: fermata.Edit, Action: &refund{"A-7", 45}, Reason: "half of it"}
	receipt, err := engine.Answer(ctx, question.ID, half, as("bob"))
	if err != nil {
		log.Fatal(err)
	}
	result, err := receipt.Wait(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", result)
	// Output:
	// Refund for order A-7: {"order":"A-7","euros":90}
	// ada: true
	// smuggled: true
	// too much: /action/euros: must be between 1 and 500
	// paying 45 € for A-7
	// "receipt over 45 €"
}
