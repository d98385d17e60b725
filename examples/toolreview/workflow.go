package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fermata-go/fermata"
)

// Review is what a person decides about one call of a tool.
type Review struct {
	// Action is "accept": run the call as it is; "edit": run it with Args; or
	// "answer": don't run it, and tell the model Text instead.
	Action string         `json:"action"`
	Args   map[string]any `json:"args,omitempty"`
	Text   string         `json:"text,omitempty"`
}

// Validate refuses a review that says nothing. It is called before the workflow wakes.
func (r Review) Validate() error {
	switch {
	case r.Action == "accept",
		r.Action == "edit" && r.Args != nil,
		r.Action == "answer" && r.Text != "":
		return nil
	case r.Action == "edit":
		return fmt.Errorf("an edit needs args")
	case r.Action == "answer":
		return fmt.Errorf("an answer needs text")
	}
	return fmt.Errorf("the action must be accept, edit or answer, not %q", r.Action)
}

// reviewCall shows a call, and takes a Review.
var reviewCall = fermata.NewQuestion[ToolCall, Review]("review_tool_call")

// newAgent is the workflow: it asks the model, has people review the calls of
// tools that the model wants, runs what they let through, and tells the model, until that has nothing more to call.
func newAgent(model Model, tools []Tool) *fermata.Entrypoint[string, string] {
	// What the model says costs money and is never the same twice: it is recorded.
	ask := fermata.NewTask("model", func(ctx context.Context, conversation []Message) (Message, error) {
		return model.Reply(ctx, conversation, tools)
	}, fermata.Retry(fermata.RetryPolicy{}))

	// What a tool does is done once: a recorded call is not repeated.
	use := fermata.NewTask("tool", func(ctx context.Context, call ToolCall) (string, error) {
		for _, tool := range tools {
			if tool.Name == call.Name {
				return tool.Do(ctx, call.Args)
			}
		}
		return "there is no such tool", nil
	})

	return fermata.NewEntrypoint("agent", func(ctx context.Context, prompt string) (string, error) {
		conversation := []Message{{Role: "user", Text: prompt}}
		for {
			said, err := ask.Call(ctx, conversation)
			if err != nil {
				return "", err
			}
			if len(said.Calls) == 0 {
				return said.Text, nil
			}
			reviews, err := review(ctx, said.Calls, tools)
			if err != nil {
				return "", err
			}
			conversation = append(conversation, said)
			results := make([]*fermata.Future[string], len(said.Calls))
			for i, call := range said.Calls {
				switch reviews[i].Action {
				case "edit":
					call.Args = reviews[i].Args
					fallthrough
				case "accept":
					results[i] = use.Go(ctx, call)
				}
			}
			for i, call := range said.Calls {
				text := reviews[i].Text
				if results[i] != nil {
					text, err = results[i].Result(ctx)
					if failed, ok := errors.AsType[*fermata.TaskError](err); ok {
						text = "the tool failed: " + failed.Message // the model may find another way
					} else if err != nil {
						return "", err
					}
				}
				conversation = append(conversation, Message{Role: "tool", CallID: call.ID, Text: text})
			}
		}
	})
}

// review asks about all calls that need it, at once: people may answer in any order. The others are accepted.
func review(ctx context.Context, calls []ToolCall, tools []Tool) ([]Review, error) {
	reviews := make([]Review, len(calls))
	var asked []fermata.Asking[Review]
	var of []int
	for i, call := range calls {
		reviews[i].Action = "accept"
		if needsReview(call.Name, tools) {
			asked = append(asked, reviewCall.With(call, fermata.Title(describe(call))))
			of = append(of, i)
		}
	}
	if len(asked) == 0 {
		return reviews, nil
	}
	decided, err := fermata.AskAll(ctx, asked...)
	if err != nil {
		return nil, err
	}
	for n, i := range of {
		reviews[i] = decided[n]
	}
	return reviews, nil
}

// needsReview says whether people look at calls of the tool. They do at those of a tool that nobody knows.
func needsReview(name string, tools []Tool) bool {
	for _, tool := range tools {
		if tool.Name == name {
			return tool.Review
		}
	}
	return true
}

func describe(call ToolCall) string {
	args, err := json.Marshal(call.Args)
	if err != nil {
		return call.Name
	}
	return call.Name + " " + string(args)
}
