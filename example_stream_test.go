package fermata_test

import (
	"context"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// A stream yields what happens, in the modes that are wanted, while it happens.
func ExampleRun_Stream() {
	ctx := context.Background()
	write := fermata.NewTask("write", func(ctx context.Context, topic string) (string, error) {
		for _, token := range []string{"The", "cat", "sat"} {
			if err := fermata.EmitMessage(ctx, token, nil); err != nil {
				return "", err
			}
		}
		return "The cat sat", nil
	})
	essay := fermata.NewEntrypoint("essay", func(ctx context.Context, topic string) (string, error) {
		if err := fermata.Emit(ctx, map[string]int{"progress": 0}); err != nil {
			return "", err
		}
		text, err := write.Call(ctx, topic)
		if err != nil {
			return "", err
		}
		return text, fermata.Emit(ctx, map[string]int{"progress": 100})
	})

	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, essay)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	run, err := essay.On(engine).Thread("1").Start(ctx, "cat")
	if err != nil {
		log.Fatal(err)
	}
	for part, err := range run.Stream(ctx, nil, fermata.StreamCustom, fermata.StreamMessages, fermata.StreamUpdates) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(part.Mode, string(part.Data))
	}
	// Output:
	// custom {"progress":0}
	// messages ["The",{"langgraph_node":"write","langgraph_step":0}]
	// messages ["cat",{"langgraph_node":"write","langgraph_step":0}]
	// messages ["sat",{"langgraph_node":"write","langgraph_step":0}]
	// updates {"write":"The cat sat"}
	// custom {"progress":100}
	// updates {"essay":"The cat sat"}
}
