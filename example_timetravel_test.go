package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

var (
	draft = fermata.NewTask("draft", func(_ context.Context, topic string) (string, error) {
		fmt.Println("  drafts")
		return "a text on " + topic, nil
	})
	publish = fermata.NewTask("publish", func(_ context.Context, text string) (string, error) {
		fmt.Println("  publishes")
		return text, nil
	})
	article = fermata.NewEntrypoint("article", func(ctx context.Context, topic string) (string, error) {
		text, err := draft.Call(ctx, topic)
		if err != nil {
			return "", err
		}
		title, err := fermata.Interrupt[string](ctx, "Which title has "+text+"?")
		if err != nil {
			return "", err
		}
		return publish.Call(ctx, title+": "+text)
	})
)

// A run is done again from an earlier point: all of it, from a question on with
// another answer, or from after the question with the answer it has.
func ExampleThread_Fork() {
	ctx := context.Background()
	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, article)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)
	thread := article.On(engine).Thread("1")
	// titled answers the question that a run of the thread comes to, if it does.
	titled := func(run *fermata.Run[string], err error, title string) fermata.ID {
		if err != nil {
			log.Fatal(err)
		}
		var paused *fermata.PausedError
		out, err := run.Result(ctx)
		if errors.As(err, &paused) {
			if run, err = thread.Resume(ctx, title); err != nil {
				log.Fatal(err)
			}
			out, err = run.Result(ctx)
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(" ", out)
		if paused == nil {
			return fermata.ID{}
		}
		return paused.Questions[0].ID
	}

	fmt.Println("the run:")
	run, err := thread.Start(ctx, "snow")
	question := titled(run, err, "White")
	before := run.ID().String() // the checkpoint before the run

	fmt.Println("all again, and asked again:")
	run, err = thread.Fork(ctx, fermata.AtCheckpoint(before))
	titled(run, err, "Cold")

	fmt.Println("the draft is kept, and the question asked again:")
	run, err = thread.Fork(ctx, fermata.BeforeQuestion(question))
	titled(run, err, "Soft")

	fmt.Println("the answer is kept, too:")
	run, err = thread.Fork(ctx, fermata.AfterQuestion(question))
	titled(run, err, "never asked")

	fmt.Println("somebody sets the value:")
	if _, err := thread.Update(ctx, "Snow: by hand"); err != nil {
		log.Fatal(err)
	}
	state, err := thread.State(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(" ", state.Value)

	fmt.Println("what there is, newest first:")
	for s, err := range thread.History(ctx, nil) {
		if err != nil {
			log.Fatal(err)
		}
		if len(s.Next) == 0 {
			fmt.Println(" ", s.Source, s.Step, s.Value)
		}
	}
	// Output:
	// the run:
	//   drafts
	//   publishes
	//   White: a text on snow
	// all again, and asked again:
	//   drafts
	//   publishes
	//   Cold: a text on snow
	// the draft is kept, and the question asked again:
	//   publishes
	//   Soft: a text on snow
	// the answer is kept, too:
	//   publishes
	//   White: a text on snow
	// somebody sets the value:
	//   Snow: by hand
	// what there is, newest first:
	//   update 2 Snow: by hand
	//   loop 1 White: a text on snow
	//   loop 1 Soft: a text on snow
	//   loop 1 Cold: a text on snow
	//   loop 0 White: a text on snow
}

// Threads are described, found, copied, pruned and deleted.
func ExampleEngine_Threads() {
	ctx := context.Background()
	sum := fermata.NewEntrypoint("sum", func(ctx context.Context, n int) (int, error) {
		before, _, err := fermata.Previous[int](ctx)
		return before + n, err
	})
	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, sum)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)
	for _, n := range []int{1, 2, 3} {
		if _, err := sum.On(engine).Thread("a").Invoke(ctx, n); err != nil {
			log.Fatal(err)
		}
	}

	if err := engine.DescribeThread(ctx, "a", map[string]string{"owner": "ada"}); err != nil {
		log.Fatal(err)
	}
	if err := engine.CopyThread(ctx, "a", "a copy"); err != nil { // runs, records, questions and metadata
		log.Fatal(err)
	}
	removed, err := engine.PruneThread(ctx, "a") // all but what its present needs
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("pruned:", removed)
	for _, id := range []string{"a", "a copy"} {
		out, err := sum.On(engine).Thread(id).Invoke(ctx, 10)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(id+":", out)
	}
	for info, err := range engine.Threads(ctx, &fermata.ThreadFilter{
		Statuses: []fermata.Status{fermata.Finished}, Metadata: map[string]string{"owner": "ada"},
	}) {
		if err != nil {
			log.Fatal(err)
		}
		runs := 0
		for _, err := range engine.Runs(ctx, &fermata.RunFilter{Thread: info.ID}) {
			if err != nil {
				log.Fatal(err)
			}
			runs++
		}
		fmt.Println(info.ID, "has", runs, "runs")
	}
	if err := engine.DeleteThread(ctx, "a copy"); err != nil {
		log.Fatal(err)
	}
	// Output:
	// pruned: 2
	// a: 16
	// a copy: 16
	// a has 2 runs
	// a copy has 4 runs
}
