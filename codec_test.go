package fermata_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
)

// veiled is a codec whose bytes are not JSON.
type veiled struct{}

func (veiled) Name() string { return "veiled" }

func (veiled) Marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	return append([]byte("\x00veil"), data...), err
}

func (veiled) Unmarshal(data []byte, into any) error {
	plain, ok := bytes.CutPrefix(data, []byte("\x00veil"))
	if !ok {
		return errors.New("no veil")
	}
	return json.Unmarshal(plain, into)
}

// Whatever the codec, people see JSON, and answers are checked as JSON.
func TestQuestionsWithAnotherCodec(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		rule := fermata.NewQuestion[proposal, ruling]("veiled")
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			r, err := rule.Ask(ctx, proposal{"ada", 1}, fermata.Deadline(time.Hour, fermata.Default(ruling{Note: "late"})))
			if err != nil {
				return "", err
			}
			approval, err := send.Approve(ctx, transfer{"ada", int64(r.Limit)}, fermata.AllowEdit())
			if err != nil {
				return "", err
			}
			out, err := send.Run(ctx, approval)
			return r.Note + " " + out, err
		})
		g.deploy(&fermata.Options{Codec: veiled{}, VerifyReplay: true}, flow)
		q := g.ask(flow, "1")
		want(g.t, "payload", string(q.Payload), `{"cents":1,"customer":"ada"}`)
		want(g.t, "default", string(q.Default), `{"approved":false,"limit":0,"note":"late"}`)
		for _, bad := range []any{json.RawMessage(`{"approved":true,"limit":9007199254740993}`), 7, "yes", json.RawMessage(`{`), json.RawMessage(`{"approved":true,"limit":"3"}`), ruling{Approved: true}} {
			_, err := g.engine.Answer(g.t.Context(), q.ID, bad)
			wantErr(g.t, "bad answer", err, fermata.ErrInvalidAnswer)
		}
		g.answer(q, json.RawMessage(`{"approved":true, "limit":3, "note":"fine"}`))
		s := g.rest(flow, "1")
		want(g.t, "action", payloads(s.Questions), []string{`{"cents":3,"to":"ada"}`})
		g.answer(s.Questions[0], verdict{Decision: fermata.Edit, Action: &transfer{"bob", 2}})
		want(g.t, "result", g.end(flow, "1"), "fine sent 2 to bob")
		want(g.t, "what was done", did.take(), map[string]int{"bob 2": 1})
		_, err := g.engine.Answer(g.t.Context(), q.ID, ruling{})
		wantErr(g.t, "late", err, fermata.ErrAlreadyAnswered)
		want(g.t, "what won", string(questionsOf(err)[0].Answer), `{"approved":true,"limit":3,"note":"fine"}`)
	})
}
