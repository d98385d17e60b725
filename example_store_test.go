package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// The store is memory that outlives a thread: what one conversation learns, another knows.
func ExampleStore() {
	ctx := context.Background()
	type profile struct {
		Name string `json:"name"`
	}
	greet := fermata.NewEntrypoint("greet", func(ctx context.Context, user string) (string, error) {
		store, err := fermata.StoreFrom(ctx)
		if err != nil {
			return "", err
		}
		var known profile
		item, err := store.Get(ctx, []string{"users", user}, "profile")
		if err == nil {
			err = item.Decode(&known)
			return "hello again, " + known.Name, err
		} else if !errors.Is(err, fermata.ErrNotFound) {
			return "", err
		}
		if known.Name, err = fermata.Interrupt[string](ctx, "What is your name?"); err != nil {
			return "", err
		}
		return "hello, " + known.Name, store.Put(ctx, []string{"users", user}, "profile", known)
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, greet)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	monday := greet.On(engine).Thread("monday")
	if _, err = monday.Invoke(ctx, "u1"); !errors.Is(err, fermata.ErrPaused) {
		log.Fatal(err)
	}
	run, err := monday.Resume(ctx, "Ann")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(run.Result(ctx))
	fmt.Println(greet.On(engine).Thread("tuesday").Invoke(ctx, "u1"))
	// Output:
	// hello, Ann <nil>
	// hello again, Ann <nil>
}

// Search filters by fields and, with an embedding of one's own, orders by meaning.
func ExampleStore_Search() {
	ctx := context.Background()
	// In earnest this asks a model; here a text's meaning is which of two words it has.
	embed := func(ctx context.Context, texts []string) ([][]float32, error) {
		vectors := make([][]float32, len(texts))
		for i, text := range texts {
			vectors[i] = []float32{0.1 + float32(strings.Count(text, "tea")), 0.1 + float32(strings.Count(text, "train"))}
		}
		return vectors, nil
	}
	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, &fermata.Options{
		Store: fermata.StoreOptions{Embed: embed, Fields: []string{"text"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	store, memories := engine.Store(), []string{"users", "u1", "memories"}
	for key, value := range map[string]map[string]any{
		"1": {"text": "drinks green tea", "stars": 5},
		"2": {"text": "takes the train to work", "stars": 3},
		"3": {"text": "black tea, no milk", "stars": 1},
	} {
		if err := store.Put(ctx, memories, key, value); err != nil {
			log.Fatal(err)
		}
	}
	found, err := store.Search(ctx, []string{"users", "u1"}, &fermata.Search{
		Query:  "which tea?",
		Filter: map[string]any{"stars": map[string]any{"$gte": 3}},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range found {
		fmt.Println(item.Key, string(item.Value))
	}
	// Output:
	// 1 {"stars":5,"text":"drinks green tea"}
	// 2 {"stars":3,"text":"takes the train to work"}
}
