package fermata_test

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"os"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

// stable leaves out of a log what is different each time.
func stable(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case "time", "took", "id", "question":
		return slog.Attr{}
	case "run":
		if a.Value.Kind() != slog.KindGroup {
			return slog.Attr{}
		}
	}
	return a
}

// What an engine does, in the program's log. A tracing library gets the same calls, with contexts that nest.
func ExampleLogHooks() {
	ctx := context.Background()
	draft := fermata.NewTask("draft", func(_ context.Context, topic string) (string, error) { return "On " + topic, nil })
	article := fermata.NewEntrypoint("article", func(ctx context.Context, topic string) (string, error) {
		text, err := draft.Call(ctx, topic)
		if err != nil {
			return "", err
		}
		title, err := fermata.Interrupt[string](ctx, text)
		return title + ". " + text, err
	})

	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: stable}))
	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, &fermata.Options{Hooks: fermata.LogHooks(logger)}, article)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)
	thread := article.On(engine).Thread("1")
	if _, err := thread.Invoke(ctx, "trees"); !errors.Is(err, fermata.ErrPaused) {
		log.Fatal(err)
	}
	run, err := thread.Resume(ctx, "Green")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := run.Result(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// level=INFO msg="run taken up" run.thread=1 run.entrypoint=article
	// level=INFO msg="task returned" run.thread=1 run.entrypoint=article path=article/draft attempt=1
	// level=INFO msg="question open" thread=1 path=article
	// level=INFO msg="run given up" run.thread=1 run.entrypoint=article status=interrupted
	// level=INFO msg="question answered" thread=1 path=article
	// level=INFO msg="run taken up" run.thread=1 run.entrypoint=article
	// level=INFO msg="run given up" run.thread=1 run.entrypoint=article status=finished
}
