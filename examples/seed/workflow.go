package main

import (
	"context"

	"github.com/fermata-go/fermata"
)

// step1 appends "bar".
var step1 = fermata.NewTask("step_1", func(ctx context.Context, query string) (string, error) {
	return query + " bar", nil
})

// humanFeedback pauses for a person and appends what they say.
var humanFeedback = fermata.NewTask("human_feedback", func(ctx context.Context, query string) (string, error) {
	feedback, err := fermata.Interrupt[string](ctx, "Please provide feedback: "+query)
	if err != nil {
		return "", err
	}
	return query + " " + feedback, nil
})

// step3 appends "qux".
var step3 = fermata.NewTask("step_3", func(ctx context.Context, query string) (string, error) {
	return query + " qux", nil
})

// graph calls the three tasks, one after the other.
var graph = fermata.NewEntrypoint("graph", func(ctx context.Context, query string) (string, error) {
	query, err := step1.Call(ctx, query)
	if err != nil {
		return "", err
	}
	query, err = humanFeedback.Call(ctx, query)
	if err != nil {
		return "", err
	}
	return step3.Call(ctx, query)
})
