package fermata_test

import (
	"context"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// Calls that are started with Go run in parallel. All waits for them, and gives
// their results in the order of the calls.
func ExampleTask_Go() {
	ctx := context.Background()
	price := fermata.NewTask("price", func(ctx context.Context, article string) (int, error) {
		return 10 * len(article), nil // a request to another service, say
	})
	cart := fermata.NewEntrypoint("cart", func(ctx context.Context, articles []string) (int, error) {
		futures := make([]*fermata.Future[int], len(articles))
		for i, article := range articles {
			futures[i] = price.Go(ctx, article)
		}
		prices, err := fermata.All(ctx, futures...)
		if err != nil {
			return 0, err
		}
		sum := 0
		for i, p := range prices {
			fmt.Println(articles[i], p)
			sum += p
		}
		return sum, nil
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, cart)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	sum, err := cart.On(engine).Thread("order 7").Invoke(ctx, []string{"tea", "cup", "kettle"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sum", sum)
	// Output:
	// tea 30
	// cup 30
	// kettle 60
	// sum 120
}
