package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

type release struct {
	Version string `json:"version"`
	Author  string `json:"author"`
}

type gateDecision struct {
	Go   bool   `json:"go"`
	Note string `json:"note,omitempty"`
}

var gate = fermata.NewQuestion[release, gateDecision]("gate", fermata.Tags("release"), fermata.Priority(5))

var rollOut = fermata.NewTask("roll_out", func(_ context.Context, r release) (string, error) {
	return r.Version + " is live", nil
})

// A release needs both its gates; either lead may open the second one.
var deployment = fermata.NewEntrypoint("deployment", func(ctx context.Context, r release) (string, error) {
	tested, err := gate.Ask(ctx, r, fermata.Title("Tests passed?"), fermata.Groups("qa"), fermata.NotBy(r.Author), fermata.Unique("tests of "+r.Version))
	if err != nil || !tested.Go {
		return "stopped: " + tested.Note, err
	}
	who, lead, err := fermata.AskAny(ctx,
		gate.With(r, fermata.Title("Backend lead: go?"), fermata.Users("bob")),
		gate.With(r, fermata.Title("Product lead: go?"), fermata.Users("eve")))
	if err != nil || !lead.Go {
		return "stopped: " + lead.Note, err
	}
	fmt.Println("opened by lead", who+1)
	return rollOut.Call(ctx, r)
})

// A deployment gate: questions with an audience, found by who may answer them.
func ExampleQuestionType() {
	ctx := context.Background()
	backend := memory.New(nil)
	defer backend.Close()
	engine, err := fermata.New(backend, nil, deployment)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)

	thread := deployment.On(engine).Thread("v1.4.0")
	if _, err := thread.Invoke(ctx, release{"v1.4.0", "ada"}); !errors.Is(err, fermata.ErrPaused) {
		log.Fatal(err)
	}

	// inbox is what a person sees.
	inbox := func(who fermata.Principal) []fermata.Question {
		page, err := engine.Questions(ctx, fermata.QuestionFilter{
			States: []fermata.QuestionState{fermata.QuestionOpen}, Tags: []string{"release"}, For: &who, Order: fermata.ByPriority,
		}, fermata.Page{Limit: 20})
		if err != nil {
			log.Fatal(err)
		}
		return page.Questions
	}
	answer := func(who fermata.Principal, d gateDecision) {
		for _, q := range inbox(who) {
			receipt, err := engine.Answer(ctx, q.ID, d, fermata.By(who))
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s: %s %t\n", who.Subject, q.Title, d.Go)
			result, err := receipt.Wait(ctx)
			if err == nil {
				fmt.Printf("%s\n", result)
			} else if !errors.Is(err, fermata.ErrPaused) {
				log.Fatal(err)
			}
		}
	}
	tester := fermata.Principal{Subject: "cyd", Groups: []string{"qa"}}
	author := fermata.Principal{Subject: "ada", Groups: []string{"qa"}}
	bob, eve := fermata.Principal{Subject: "bob"}, fermata.Principal{Subject: "eve"}
	fmt.Println("in the author's inbox:", len(inbox(author)))
	answer(tester, gateDecision{Go: true})
	answer(eve, gateDecision{Go: true})
	fmt.Println("in bob's inbox:", len(inbox(bob)))
	// Output:
	// in the author's inbox: 0
	// cyd: Tests passed? true
	// eve: Product lead: go? true
	// opened by lead 2
	// "v1.4.0 is live"
	// in bob's inbox: 0
}
