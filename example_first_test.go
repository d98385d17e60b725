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

// First takes whoever is first, and records who was: a replay takes the same.
func ExampleFirst() {
	ctx := context.Background()
	ask := fermata.NewTask("ask", func(ctx context.Context, carrier string) (int, error) {
		return fermata.Interrupt[int](ctx, carrier+": what is your price?")
	})
	tender := fermata.NewEntrypoint("tender", func(ctx context.Context, carriers []string) (string, error) {
		offers := make([]*fermata.Future[int], len(carriers))
		for i, carrier := range carriers {
			offers[i] = ask.Go(ctx, carrier)
		}
		i, price, err := fermata.First(ctx, offers...)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s carries it for %d", carriers[i], price), nil
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, tender)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	thread := tender.On(engine).Thread("parcel 5")
	if _, err := thread.Invoke(ctx, []string{"rail", "road", "river"}); !errors.Is(err, fermata.ErrPaused) {
		log.Fatal(err)
	}
	state, err := thread.State(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("asked:", len(state.Questions))
	receipt, err := engine.Answer(ctx, state.Questions[1].ID, 70)
	if err != nil {
		log.Fatal(err)
	}
	out, err := receipt.Wait(ctx)
	fmt.Println(string(out), err)
	// Output:
	// asked: 3
	// "road carries it for 70" <nil>
}

// Limits of a definition: how many tasks execute at once, how long one may
// take, and for how long its results serve other calls.
func ExampleMaxConcurrency() {
	ctx := context.Background()
	fetch := fermata.NewTask("fetch", func(ctx context.Context, page string) (int, error) {
		fmt.Println("fetching", page)
		return len(page), nil
	}, fermata.Timeout(10*time.Second), fermata.Cached(time.Hour))
	crawl := fermata.NewEntrypoint("crawl", func(ctx context.Context, pages []string) ([]int, error) {
		var sizes []*fermata.Future[int]
		for _, page := range pages {
			sizes = append(sizes, fetch.Go(ctx, page))
		}
		return fermata.All(ctx, sizes...)
	}, fermata.MaxConcurrency(1))

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, crawl)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	fmt.Println(crawl.On(engine).Thread("monday").Invoke(ctx, []string{"/about"}))
	fmt.Println(crawl.On(engine).Thread("tuesday").Invoke(ctx, []string{"/about"}))
	// Output:
	// fetching /about
	// [6] <nil>
	// [6] <nil>
}
