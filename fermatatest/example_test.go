package fermatatest_test

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
)

var charge = fermata.NewTask("charge", func(_ context.Context, euros int) (string, error) {
	fmt.Println("charging", euros)
	return fmt.Sprintf("receipt over %d €", euros), nil
})

var purchase = fermata.NewEntrypoint("purchase", func(ctx context.Context, euros int) (string, error) {
	ok, err := fermata.Interrupt[bool](ctx, fmt.Sprintf("spend %d €?", euros))
	if err != nil {
		return "", err
	}
	if !ok {
		return "not bought", nil
	}
	return charge.Call(ctx, euros)
})

func Example() {
	t := newT() // in a test it is given: func TestPurchase(t *testing.T)
	defer t.end()

	h := fermatatest.New(t, nil, purchase)
	order := fermatatest.On(h, purchase, "order-7")

	order.Start(90)
	fmt.Printf("asked: %s\n", order.Question().Payload)

	h.Crash()
	h.Restart()

	fmt.Printf("asked: %s\n", order.Question().Payload)
	order.Answer(true)
	fmt.Println(order.Result())
	// Output:
	// asked: "spend 90 €?"
	// asked: "spend 90 €?"
	// charging 90
	// receipt over 90 €
}

func ExampleHarness_OnQuestion() {
	t := newT()
	defer t.end()

	h := fermatatest.New(t, nil, purchase)
	h.OnQuestion(fermatatest.Payload("spend 1000 €?"), false, fermata.By(fermata.Principal{Subject: "ada"}))
	h.OnQuestion(fermatatest.Asks("spend"), true)

	for _, euros := range []int{90, 1000} {
		order := fermatatest.On(h, purchase, fmt.Sprint("order-", euros))
		order.Start(euros)
		fmt.Println(order.Result())
	}
	// Output:
	// charging 90
	// receipt over 90 €
	// not bought
}

func ExampleHarness_RestartWith() {
	t := newT()
	defer t.end()

	h := fermatatest.New(t, nil, purchase)
	fermatatest.On(h, purchase, "order-7").Start(90)
	h.Wait()

	// The next version forgot to ask.
	hasty := fermata.NewEntrypoint("purchase", func(ctx context.Context, euros int) (string, error) {
		return charge.Call(ctx, euros)
	})
	h.RestartWith(hasty)
	order := fermatatest.On(h, hasty, "order-7")
	order.Answer(true)
	fmt.Println(order.State().Status, "and nothing charged")
	// Output:
	// parked and nothing charged
}

func ExampleOptions_backend() {
	t := newT()
	defer t.end()
	file := filepath.Join(t.TempDir(), "test.db")

	h := fermatatest.New(t, &fermatatest.Options{
		Backend: func(offset func() time.Duration) (storage.Backend, error) {
			return sqlite.Open(file, &sqlite.Options{Offset: offset})
		},
	}, purchase)
	order := fermatatest.On(h, purchase, "order-7")
	order.Start(90)
	h.Restart()
	order.Answer(false)
	fmt.Println(order.Result())
	// Output:
	// not bought
}
