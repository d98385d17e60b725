package fermata_test

import (
	"context"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// The branches of a group run in parallel, and each may make several calls, one
// after the other. A branch itself is not recorded, its calls are: so it may
// share variables with the function around it.
func ExampleGroup() {
	ctx := context.Background()
	translate := fermata.NewTask("translate", func(ctx context.Context, text string) (string, error) {
		return "«" + text + "»", nil
	})
	proofread := fermata.NewTask("proofread", func(ctx context.Context, text string) (string, error) {
		return text + " ✓", nil
	})
	book := fermata.NewEntrypoint("book", func(ctx context.Context, chapters []string) ([]string, error) {
		finished := make([]string, len(chapters))
		group := fermata.NewGroup(ctx)
		for i, chapter := range chapters {
			group.Go(func(ctx context.Context) error {
				text, err := translate.Call(ctx, chapter)
				if err != nil {
					return err
				}
				finished[i], err = proofread.Call(ctx, text)
				return err
			})
		}
		return finished, group.Wait()
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, book)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	fmt.Println(book.On(engine).Thread("1").Invoke(ctx, []string{"one", "two", "three"}))
	// Output:
	// [«one» ✓ «two» ✓ «three» ✓] <nil>
}
