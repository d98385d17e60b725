package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

var step1 = fermata.NewTask("step_1", func(ctx context.Context, query string) (string, error) {
	return query + " bar", nil
})

var humanFeedback = fermata.NewTask("human_feedback", func(ctx context.Context, query string) (string, error) {
	feedback, err := fermata.Interrupt[string](ctx, "Please provide feedback: "+query)
	if err != nil {
		return "", err
	}
	return query + " " + feedback, nil
})

var step3 = fermata.NewTask("step_3", func(ctx context.Context, query string) (string, error) {
	return query + " qux", nil
})

var graph = fermata.NewEntrypoint("graph", func(ctx context.Context, query string) (string, error) {
	query, err := step1.Call(ctx, query)
	if err != nil {
		return "", err
	}
	if query, err = humanFeedback.Call(ctx, query); err != nil {
		return "", err
	}
	return step3.Call(ctx, query)
})

func TestSeed(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	b := memory.New(nil)
	defer b.Close()
	e, err := fermata.New(b, nil, graph)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(ctx)
	th := graph.On(e).Thread("1")
	run, err := th.Start(ctx, "foo")
	if err != nil {
		t.Fatal(err)
	}
	for ev, err := range run.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		data, _ := json.Marshal(ev)
		t.Logf("%s", data)
	}
	_, err = run.Result(ctx)
	var p *fermata.PausedError
	if !errors.As(err, &p) {
		t.Fatal(err)
	}
	t.Log(err, string(p.Questions[0].Schema))
	_, err = th.Start(ctx, "again")
	t.Log(err)
	run, err = th.Resume(ctx, "baz")
	if err != nil {
		t.Fatal(err)
	}
	for ev, err := range run.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		data, _ := json.Marshal(ev)
		t.Logf("%s", data)
	}
	out, err := run.Result(ctx)
	t.Log(out, err)
	_, err = e.Answer(ctx, p.Questions[0].ID, "late")
	t.Log(err)
}
