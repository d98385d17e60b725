package fermata_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage"
)

type transfer struct {
	To    string `json:"to"`
	Cents int64  `json:"cents"`
}

func (a transfer) Validate() error {
	if a.Cents <= 0 {
		return errors.New("must move money")
	}
	return nil
}

// bank is a guarded task that remembers what it did.
func bank(name string, c *calls, options ...fermata.TaskOption) *fermata.Guarded[transfer, string] {
	return fermata.NewGuarded(name, func(_ context.Context, a transfer) (string, error) {
		c.add(fmt.Sprintf("%s %d", a.To, a.Cents))
		return fmt.Sprintf("sent %d to %s", a.Cents, a.To), nil
	}, options...)
}

type verdict = fermata.Verdict[transfer]

func TestApprovedActionIsTheOneThatRuns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer  string
		options []fermata.ApproveOption
		refused string // pointer of the field error, "-" for none
		result  string
		did     map[string]int
	}{
		"approved":                       {`{"decision":"approve"}`, nil, "-", "sent 1000 to ada", map[string]int{"ada 1000": 1}},
		"rejected":                       {`{"decision":"reject","reason":"no"}`, nil, "-", "rejected: no", nil},
		"edited":                         {`{"decision":"edit","action":{"to":"ada","cents":5}}`, []fermata.ApproveOption{fermata.AllowEdit()}, "-", "sent 5 to ada", map[string]int{"ada 5": 1}},
		"edited without leave":           {`{"decision":"edit","action":{"to":"ada","cents":5}}`, nil, "/decision", "", nil},
		"edited to what can't be":        {`{"decision":"edit","action":{"to":"ada","cents":-5}}`, []fermata.ApproveOption{fermata.AllowEdit()}, "/action", "", nil},
		"edit without an action":         {`{"decision":"edit"}`, []fermata.ApproveOption{fermata.AllowEdit()}, "", "", nil},
		"approved with a smuggled one":   {`{"decision":"approve","action":{"to":"eve","cents":90000}}`, []fermata.ApproveOption{fermata.AllowEdit()}, "", "", nil},
		"approved with another, no edit": {`{"decision":"approve","action":{"to":"eve","cents":90000}}`, nil, "/action", "", nil},
		"no decision":                    {`{}`, nil, "/decision", "", nil},
		"another decision":               {`{"decision":"maybe"}`, nil, "/decision", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(g *ground) {
				did := &calls{}
				send := bank("send", did)
				flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
					approval, err := send.Approve(ctx, transfer{"ada", 1000}, c.options...)
					if rejected, ok := errors.AsType[*fermata.RejectedError](err); ok {
						if _, err := send.Run(ctx, approval); !errors.Is(err, fermata.ErrInvalid) {
							t.Errorf("a rejected action: error %v", err)
						}
						return "rejected: " + rejected.Reason, nil
					}
					if err != nil {
						return "", err
					}
					return send.Run(ctx, approval)
				})
				g.deploy(&fermata.Options{VerifyReplay: true}, flow)
				q := g.ask(flow, "1")
				_, err := g.engine.Answer(g.t.Context(), q.ID, json.RawMessage(c.answer))
				if c.refused != "-" {
					wantErr(g.t, c.answer, err, fermata.ErrInvalidAnswer)
					var fields *fermata.AnswerError
					if !errors.As(err, &fields) || c.refused != "" && fields.Fields[0].Pointer != c.refused {
						g.t.Errorf("%s: error %v, want a field error at %q", c.answer, err, c.refused)
					}
					want(g.t, "what was done", did.take(), nil)
					return
				}
				if err != nil {
					g.t.Fatal(err)
				}
				want(g.t, "result", g.end(flow, "1"), c.result)
				want(g.t, "what was done", did.take(), c.did)
			})
		})
	}
}

// An answer that was accepted by the schema alone smuggles nothing in.
func TestSmuggledActionIsNotRun(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000})
			if err != nil {
				return "", err
			}
			return send.Run(ctx, approval)
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		settle(g.t, g.open(g.t, nil), q.ID, `{"decision":"approve","action":{"to":"eve","cents":90000}}`)
		wantErr(g.t, "the run", g.rest(flow, "1").Err, fermata.ErrParked)
		want(g.t, "what was done", did.take(), nil)
	})
}

// Whoever shows a question may write in the copy that he was given: what runs is what was asked.
func TestActionIsNotWhatAReaderMadeOfIt(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000})
			if err != nil {
				return "", err
			}
			return send.Run(ctx, approval)
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		clear(q.Payload)
		page, err := g.engine.Questions(g.t.Context(), fermata.QuestionFilter{}, fermata.Page{})
		if err != nil {
			g.t.Fatal(err)
		}
		clear(page.Questions[0].Payload)
		g.answer(q, verdict{Decision: fermata.Approve})
		want(g.t, "result", g.end(flow, "1"), "sent 1000 to ada")
		want(g.t, "what was done", did.take(), map[string]int{"ada 1000": 1})
	})
}

// raised is a backend in which somebody raised the amounts of what was asked.
type raised struct{ storage.Backend }

func (b raised) Load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	loaded, err := b.Backend.Load(ctx, tenant, run)
	for i := range loaded.Questions {
		q := &loaded.Questions[i]
		q.Payload = bytes.ReplaceAll(q.Payload, []byte("1000"), []byte("9999"))
	}
	return loaded, err
}

func TestActionThatWasChangedInTheDatabaseIsNotRun(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000})
			if err != nil {
				return "", err
			}
			return send.Run(ctx, approval)
		})
		open := g.open
		g.open = func(t testing.TB, offset func() time.Duration) storage.Backend { return raised{open(t, offset)} }
		g.deploy(nil, flow)
		g.answer(g.ask(flow, "1"), verdict{Decision: fermata.Approve})
		err := g.rest(flow, "1").Err
		wantErr(g.t, "the run", err, fermata.ErrParked)
		if !strings.Contains(err.Error(), "another payload") {
			g.t.Errorf("error %v, want one that says what is wrong", err)
		}
		want(g.t, "what was done", did.take(), nil)
	})
}

// A time that is read but not written again can't be an approved action.
func TestEditThatCannotBeStoredIsRefused(t *testing.T) {
	t.Parallel()
	type meeting struct {
		At time.Time `json:"at"`
	}
	g := &ground{t: t, open: memoryOpener(t)}
	book := fermata.NewGuarded("book", func(_ context.Context, m meeting) (string, error) { return m.At.Format(time.RFC3339), nil })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
		approval, err := book.Approve(ctx, meeting{time.Unix(0, 0).UTC()}, fermata.AllowEdit())
		if err != nil {
			return "", err
		}
		return book.Run(ctx, approval)
	})
	g.deploy(nil, flow)
	q := g.ask(flow, "1")
	const edit = `{"decision":"edit","action":{"at":"2026-01-02T15:04:05%s"}}`
	_, err := g.engine.Answer(t.Context(), q.ID, json.RawMessage(fmt.Sprintf(edit, "+24:00")))
	wantErr(t, "an offset of a day", err, fermata.ErrInvalidAnswer)
	g.answer(q, json.RawMessage(fmt.Sprintf(edit, "+01:00")))
	want(t, "result", g.end(flow, "1"), "2026-01-02T15:04:05+01:00")
}

func TestApprovalIsUsedOnce(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send, wire := bank("send", did), bank("wire", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000})
			if err != nil {
				return "", err
			}
			if _, err := wire.Run(ctx, approval); !errors.Is(err, fermata.ErrStaleApproval) {
				return "", fmt.Errorf("another task: %w", err)
			}
			if _, err := send.RunAction(ctx, approval, transfer{"ada", 1001}); !errors.Is(err, fermata.ErrStaleApproval) {
				return "", fmt.Errorf("another amount: %w", err)
			}
			action, err := approval.Action()
			if err != nil {
				return "", err
			}
			out, err := send.RunAction(ctx, approval, action)
			if err != nil {
				return "", err
			}
			for range 3 {
				if _, err := send.Run(ctx, approval); !errors.Is(err, fermata.ErrApprovalUsed) {
					return "", fmt.Errorf("again: %w", err)
				}
			}
			_, err = fermata.Interrupt[string](ctx, "replay?")
			return out, err
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		g.answer(g.ask(flow, "1"), verdict{Decision: fermata.Approve})
		s := g.rest(flow, "1")
		if len(s.Questions) != 1 {
			g.t.Fatalf("run is %s: %v", s.Status, s.Err)
		}
		g.deploy(nil, flow)
		g.answer(s.Questions[0], "go")
		want(g.t, "result", g.end(flow, "1"), "sent 1000 to ada")
		want(g.t, "what was done", did.take(), map[string]int{"ada 1000": 1})
	})
}

// Branches that share an approval run it once, and it stays the same one's on every replay.
func TestApprovalIsUsedByOneBranch(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000})
			if err != nil {
				return "", err
			}
			results := make([]string, 8)
			branches := fermata.NewGroup(ctx)
			for i := range results {
				branches.Go(func(ctx context.Context) error {
					_, err := send.Run(ctx, approval)
					switch {
					case err == nil:
						results[i] = "sent"
					case errors.Is(err, fermata.ErrApprovalUsed):
						results[i] = "refused"
					default:
						return err
					}
					return nil
				})
			}
			if err := branches.Wait(); err != nil {
				return "", err
			}
			_, err = fermata.Interrupt[string](ctx, "replay of "+strings.Join(results, " "))
			return strings.Join(results, " "), err
		})
		g.deploy(nil, flow)
		g.answer(g.ask(flow, "1"), verdict{Decision: fermata.Approve})
		s := g.rest(flow, "1")
		if len(s.Questions) != 1 {
			g.t.Fatalf("run is %s: %v", s.Status, s.Err)
		}
		g.deploy(nil, flow)
		g.answer(s.Questions[0], "go")
		out := g.end(flow, "1")
		if strings.Count(out, "sent") != 1 || strings.Count(out, "refused") != 7 {
			g.t.Errorf("branches: %s", out)
		}
		want(g.t, "what was done", did.take(), map[string]int{"ada 1000": 1})
	})
}

func TestApprovalExpires(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000}, fermata.ValidFor(time.Hour))
			if err != nil {
				return "", err
			}
			if _, err := fermata.Interrupt[string](ctx, "now?"); err != nil {
				return "", err
			}
			out, err := send.Run(ctx, approval)
			if errors.Is(err, fermata.ErrApprovalExpired) {
				_, err := fermata.Interrupt[string](ctx, "too late")
				return "too late", err
			}
			return out, err
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		for thread, after := range map[string]time.Duration{"in time": 50 * time.Minute, "too late": 70 * time.Minute} {
			g.answer(g.ask(flow, thread), verdict{Decision: fermata.Approve})
			now := g.rest(flow, thread).Questions[0]
			g.advance(after)
			g.answer(now, "go")
			s := g.rest(flow, thread)
			if thread == "in time" {
				want(g.t, thread, s.Value, "sent 1000 to ada")
				continue
			}
			want(g.t, "question when it was too late", string(s.Questions[0].Payload), `"too late"`)
			g.answer(s.Questions[0], "so be it")
			want(g.t, thread, g.end(flow, thread), "too late")
		}
		want(g.t, "what was done", did.take(), map[string]int{"ada 1000": 1})
	})
}

// An approval that was begun in time is not late when another process takes the call over; a new attempt after a failure is.
func TestApprovalDoesNotExpireWhileItIsUsed(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		var life context.Context
		var die context.CancelFunc
		deaths, failures, begun := 0, 0, 0
		send := fermata.NewGuarded("send", func(ctx context.Context, a transfer) (string, error) {
			switch begun++; {
			case failures > 0:
				failures--
				return "", errors.New("closed")
			case deaths > 0: // the money is sent, and the process goes down before it says so
				deaths--
				die()
				<-ctx.Done()
				return "", ctx.Err()
			}
			return "sent", nil
		})
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000}, fermata.ValidFor(time.Hour))
			if err != nil {
				return "", err
			}
			return send.Run(ctx, approval)
		})
		deploy := func() {
			life, die = context.WithCancel(context.Background())
			g.t.Cleanup(die)
			g.deploy(&fermata.Options{Context: life}, flow)
		}
		for _, c := range []struct {
			name                         string
			fails, laterBy, deaths, then time.Duration
			result                       string // "": expired
			begun                        int
		}{
			{"died", 0, 0, 1, 2 * time.Hour, "sent", 2},
			{"failed", 1, 2 * time.Hour, 0, 0, "", 1},
			{"failed, in time again, and died", 1, 10 * time.Minute, 1, 2 * time.Hour, "sent", 3},
		} {
			deploy()
			failures, deaths, begun = int(c.fails), int(c.deaths), 0
			q := g.ask(flow, c.name)
			g.answer(q, verdict{Decision: fermata.Approve})
			thread := flow.On(g.engine).Thread(c.name)
			if c.fails > 0 {
				want(g.t, c.name+": status", g.rest(flow, c.name).Status, fermata.Failed)
				g.advance(c.laterBy)
				if _, err := thread.Continue(g.t.Context()); err != nil {
					g.t.Fatal(err)
				}
			}
			if c.deaths > 0 {
				<-life.Done()
				g.offset.Add(int64(c.then))
				deploy()
			}
			s := g.rest(flow, c.name)
			want(g.t, c.name+": result", s.Value, c.result)
			want(g.t, c.name+": begun", begun, c.begun)
			if c.result == "" {
				wantErr(g.t, c.name, s.Err, fermata.ErrApprovalExpired)
				run, err := thread.Fork(g.t.Context(), fermata.BeforeQuestion(q.ID))
				if err != nil {
					g.t.Fatal(err)
				}
				_, err = run.Result(g.t.Context())
				g.answer(paused(g.t, err)[0], verdict{Decision: fermata.Approve})
				want(g.t, c.name+": result of the fork", g.end(flow, c.name), "sent")
			}
		}
	})
}

// A task that drafts anew each time it runs, and then asks: a verdict on one
// draft releases no other.
func TestVerdictOnADraftReleasesNoOther(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did, drafts := &calls{}, &calls{}
		send := bank("send", did)
		draft := fermata.NewTask("draft", func(ctx context.Context, _ string) (string, error) {
			action := transfer{"ada", int64(1000 * drafts.add("draft"))}
			approval, err := send.Approve(ctx, action)
			if err != nil {
				return "", err
			}
			return send.Run(ctx, approval)
		})
		for _, lenient := range []bool{false, true} {
			var options []fermata.EntrypointOption
			name := "strict"
			if lenient {
				options, name = append(options, fermata.Lenient()), "lenient"
			}
			flow := fermata.NewEntrypoint(name, func(ctx context.Context, _ string) (string, error) {
				return draft.Call(ctx, "")
			}, options...)
			g.deploy(nil, flow)
			q := g.ask(flow, name)
			g.answer(q, verdict{Decision: fermata.Approve})
			s := g.rest(flow, name)
			if s.Status == fermata.Finished || s.Err == nil {
				g.t.Errorf("%s: run is %s, %v", name, s.Status, s.Err)
			}
			if !lenient {
				var diverged *fermata.DivergenceError
				if !errors.As(s.Err, &diverged) || diverged.Recorded.Name != "send" {
					g.t.Errorf("%s: error %v, want a divergence at the question", name, s.Err)
				}
			} else if !strings.Contains(s.Err.Error(), fermata.ErrStaleApproval.Error()) {
				g.t.Errorf("%s: error %v, want a stale approval", name, s.Err)
			}
			want(g.t, "what was done", did.take(), nil)
		}
	})
}

type noted struct {
	To    string `json:"to"`
	Cents int64  `json:"cents"`
	Note  string `json:"note"`
	Limit *int   `json:"limit"`
}

// Code that was deployed while people decide, with one more field of the action or one less: a field that is zero
// makes no other action, and one that was shown is not left out.
func TestApprovalOutlivesAFieldOfItsAction(t *testing.T) {
	t.Parallel()
	zero := 0
	for name, c := range map[string]struct {
		shown, today any
		want         string // "": stale
	}{
		"a field more":               {transfer{"ada", 5}, noted{To: "ada", Cents: 5}, "did {ada 5  <nil>}"},
		"a field more, set":          {transfer{"ada", 5}, noted{To: "ada", Cents: 5, Note: "to eve"}, ""},
		"a field less":               {noted{To: "ada", Cents: 5}, transfer{"ada", 5}, "did {ada 5}"},
		"a field less that was set":  {noted{To: "ada", Cents: 5, Note: "if she asks"}, transfer{"ada", 5}, ""},
		"no limit where it was zero": {noted{To: "ada", Cents: 5, Limit: &zero}, noted{To: "ada", Cents: 5}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(g *ground) {
				before, today := payer(c.shown), payer(c.today)
				g.deploy(nil, before)
				q := g.ask(before, "1")
				g.deploy(nil, today)
				g.answer(q, json.RawMessage(`{"decision":"approve"}`))
				s := g.rest(today, "1")
				if c.want == "" {
					if s.Err == nil || !strings.Contains(s.Err.Error(), fermata.ErrStaleApproval.Error()) {
						g.t.Errorf("run is %s, %v; want a stale approval", s.Status, s.Err)
					}
					return
				}
				want(g.t, "result", s.Value, c.want)
			})
		})
	}
}

// payer approves and does an action of one type or the other. It is lenient: what the replay lets pass is the approval's to refuse.
func payer(action any) *fermata.Entrypoint[string, string] {
	if a, ok := action.(noted); ok {
		return paying(a)
	}
	return paying(action.(transfer))
}

func paying[A any](action A) *fermata.Entrypoint[string, string] {
	pay := fermata.NewGuarded("pay", func(_ context.Context, a A) (string, error) { return fmt.Sprint("did ", a), nil })
	return fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
		approval, err := pay.Approve(ctx, action)
		if err != nil {
			return "", err
		}
		return pay.RunAction(ctx, approval, action)
	}, fermata.Lenient())
}

// An approval can't leave the run, in whatever way.
func TestApprovalIsNotData(t *testing.T) {
	t.Parallel()
	g := &ground{t: t, open: memoryOpener(t)}
	did := &calls{}
	send := bank("send", did)
	var kept *fermata.Approval[transfer]
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
		approval, err := send.Approve(ctx, transfer{"ada", 1000})
		if err != nil {
			return "", err
		}
		kept = approval
		return "", fermata.Save(ctx, approval)
	})
	thief := fermata.NewEntrypoint("thief", func(ctx context.Context, _ string) (string, error) {
		if _, err := send.Run(ctx, kept); !errors.Is(err, fermata.ErrStaleApproval) {
			t.Errorf("an approval of another run: error %v", err)
		}
		if _, err := send.Run(ctx, nil); !errors.Is(err, fermata.ErrInvalid) {
			t.Errorf("no approval: error %v", err)
		}
		if _, err := send.Run(ctx, &fermata.Approval[transfer]{}); !errors.Is(err, fermata.ErrInvalid) {
			t.Errorf("a made up approval: error %v", err)
		}
		return "", nil
	})
	g.deploy(nil, flow, thief)
	g.answer(g.ask(flow, "1"), verdict{Decision: fermata.Approve})
	if s := g.rest(flow, "1"); s.Status != fermata.Failed || !strings.Contains(s.Err.Error(), "approval") {
		t.Errorf("saving an approval: run is %s, %v", s.Status, s.Err)
	}
	if _, err := thief.On(g.engine).Thread("2").Invoke(t.Context(), ""); err != nil {
		t.Error(err)
	}
	want(t, "what was done", did.take(), nil)
}

func TestReviewPayloads(t *testing.T) {
	t.Parallel()
	action := fermata.ActionRequest{Action: "send", Args: map[string]any{"to": "ada"}}
	human := func(config fermata.HumanInterruptConfig) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			r, err := fermata.AskHuman(ctx, fermata.HumanInterrupt{ActionRequest: action, Config: config, Description: "send *it*?"})
			out, _ := json.Marshal(r)
			return string(out), err
		}
	}
	review := func(ctx context.Context) (string, error) {
		d, err := fermata.AskReview(ctx, fermata.ReviewRequest{
			ActionRequests: []fermata.ReviewAction{{Name: "send", Args: map[string]any{"n": 1}, Description: "first"}, {Name: "drop", Args: map[string]any{}}},
			ReviewConfigs: []fermata.ReviewConfig{
				{ActionName: "send", AllowedDecisions: []string{"approve", "edit"}, ArgsSchema: json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"}}}`)},
				{ActionName: "drop", AllowedDecisions: []string{"approve", "reject"}},
				{ActionName: "wire", AllowedDecisions: []string{"reject"}},
			},
		})
		out, _ := json.Marshal(d)
		return string(out), err
	}
	all := fermata.HumanInterruptConfig{AllowAccept: true, AllowEdit: true, AllowIgnore: true, AllowRespond: true}
	const request = `[{"action_request":{"action":"send","args":{"to":"ada"}},"config":{"allow_ignore":true,"allow_respond":true,"allow_edit":true,"allow_accept":true},"description":"send *it*?"}]`
	const reviewed = `{"action_requests":[{"name":"send","args":{"n":1},"description":"first"},{"name":"drop","args":{}}],"review_configs":[{"action_name":"send","allowed_decisions":["approve","edit"],"args_schema":{"type":"object","properties":{"n":{"type":"integer"}}}},{"action_name":"drop","allowed_decisions":["approve","reject"]},{"action_name":"wire","allowed_decisions":["reject"]}]}`
	for name, c := range map[string]struct {
		ask     func(context.Context) (string, error)
		payload string
		answer  string
		want    string // "": refused
	}{
		"accept":             {human(all), request, `[{"type":"accept","args":null}]`, `{"type":"accept","args":null}`},
		"accept the request": {human(all), request, `[{"type":"accept","args":{"action":"send","args":{"to":"ada"}}}]`, `{"type":"accept","args":{"action":"send","args":{"to":"ada"}}}`},
		"accept another":     {human(all), request, `[{"type":"accept","args":{"action":"send","args":{"to":"eve"}}}]`, ``},
		"accept with a text": {human(all), request, `[{"type":"accept","args":"send it to eve"}]`, ``},
		"edit without name":  {human(all), request, `[{"type":"edit","args":{"action":"","args":{"to":"bob"}}}]`, ``},
		"edit":               {human(all), request, `[{"type":"edit","args":{"action":"send","args":{"to":"bob"}}}]`, `{"type":"edit","args":{"action":"send","args":{"to":"bob"}}}`},
		"response":           {human(all), request, `[{"type":"response","args":"why?"}]`, `{"type":"response","args":"why?"}`},
		"ignore":             {human(all), request, `[{"type":"ignore","args":null}]`, `{"type":"ignore","args":null}`},
		"two responses":      {human(all), request, `[{"type":"ignore","args":null},{"type":"accept","args":null}]`, ``},
		"none":               {human(all), request, `[]`, ``},
		"another type":       {human(all), request, `[{"type":"approve","args":null}]`, ``},
		"edit of nothing":    {human(all), request, `[{"type":"edit","args":"bob"}]`, ``},
		"response of no one": {human(all), request, `[{"type":"response","args":null}]`, ``},
		"edit not allowed":   {human(fermata.HumanInterruptConfig{AllowAccept: true}), "", `[{"type":"edit","args":{"action":"send","args":{}}}]`, ``},
		"decisions": {review, reviewed, `{"decisions":[{"type":"edit","edited_action":{"name":"send","args":{"n":2}}},{"type":"reject","message":"no"}]}`,
			`[{"type":"edit","edited_action":{"name":"send","args":{"n":2}}},{"type":"reject","message":"no"}]`},
		"one decision too few": {review, reviewed, `{"decisions":[{"type":"approve"}]}`, ``},
		"decision not allowed": {review, reviewed, `{"decisions":[{"type":"reject"},{"type":"approve"}]}`, ``},
		"edited out of schema": {review, reviewed, `{"decisions":[{"type":"edit","edited_action":{"name":"send","args":{"n":"x"}}},{"type":"approve"}]}`, ``},
		"edit without action":  {review, reviewed, `{"decisions":[{"type":"edit"},{"type":"approve"}]}`, ``},
		"edit to another action": {review, reviewed, `{"decisions":[{"type":"edit","edited_action":{"name":"drop","args":{"n":"x"}}},{"type":"approve"}]}`,
			`[{"type":"edit","edited_action":{"name":"drop","args":{"n":"x"}}},{"type":"approve"}]`},
		"edit to a forbidden one":   {review, reviewed, `{"decisions":[{"type":"edit","edited_action":{"name":"wire","args":{"n":2}}},{"type":"approve"}]}`, ``},
		"edited action has no name": {review, reviewed, `{"decisions":[{"type":"edit","edited_action":{"name":"","args":{"n":2}}},{"type":"approve"}]}`, ``},
		"edited action has no args": {review, reviewed, `{"decisions":[{"type":"edit","edited_action":{"name":"send","args":null}},{"type":"approve"}]}`, ``},
		"action without edit":       {review, reviewed, `{"decisions":[{"type":"approve","edited_action":{"name":"send","args":{}}},{"type":"approve"}]}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &ground{t: t, open: memoryOpener(t)}
			flow := askingFlow("flow", &calls{}, c.ask)
			g.deploy(&fermata.Options{VerifyReplay: true}, flow)
			q := g.ask(flow, "1")
			if c.payload != "" {
				want(t, "payload", string(q.Payload), c.payload)
			}
			_, err := g.engine.Answer(t.Context(), q.ID, json.RawMessage(c.answer))
			if c.want == "" {
				wantErr(t, c.answer, err, fermata.ErrInvalidAnswer)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want(t, "result", g.end(flow, "1"), c.want)
		})
	}
}

// A fork keeps what was done before it, and can't do again what was approved once.
func TestForkDoesNotUseAnApprovalAgain(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, order string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000})
			if err != nil {
				return "", err
			}
			out := ""
			if order == "run first" {
				if out, err = send.Run(ctx, approval); err != nil {
					return "", err
				}
			}
			if _, err := fermata.Interrupt[string](ctx, "now?"); err != nil {
				return "", err
			}
			if order != "run first" {
				out, err = send.Run(ctx, approval)
				if errors.Is(err, fermata.ErrStaleApproval) {
					return "stale", nil
				}
			}
			return out, err
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		for order, after := range map[string]string{"run first": "sent 1000 to ada", "ask first": "stale"} {
			thread := flow.On(g.engine).Thread(order)
			_, err := thread.Invoke(g.t.Context(), order)
			g.answer(paused(g.t, err)[0], verdict{Decision: fermata.Approve})
			now := g.rest(flow, order).Questions[0]
			g.answer(now, "go")
			want(g.t, order, g.end(flow, order), "sent 1000 to ada")
			run, err := thread.Fork(g.t.Context(), fermata.BeforeQuestion(now.ID))
			if err != nil {
				g.t.Fatal(err)
			}
			_, err = run.Result(g.t.Context())
			again := paused(g.t, err)
			want(g.t, "what the fork asks", payloads(again), []string{`"now?"`})
			g.answer(again[0], "go")
			want(g.t, order+", forked", g.end(flow, order), after)
			want(g.t, "what was done", did.take(), map[string]int{"ada 1000": 1})
		}
	})
}

// What was approved once is done once, also if the thread was copied between the approval and the deed.
func TestCopyDoesNotUseAnApprovalAgain(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000})
			if err != nil {
				return "", err
			}
			if _, err := fermata.Interrupt[string](ctx, "now?"); err != nil {
				return "", err
			}
			out, err := send.Run(ctx, approval)
			if errors.Is(err, fermata.ErrStaleApproval) {
				return "stale", nil
			}
			return out, err
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		copied := func(from, to string) player[string, string] {
			if err := g.engine.CopyThread(g.t.Context(), from, to); err != nil {
				g.t.Fatal(err)
			}
			return play(g, flow, to)
		}
		p := play(g, flow, "1")
		action := paused(g.t, p.start("").err)[0]
		p.asks(p.answer(action, verdict{Decision: fermata.Approve}), `"now?"`)
		first := copied("1", "2")
		p.returns(p.resume("go"), "sent 1000 to ada")
		first.asks(first.goOn(), `"now?"`)
		second := copied("2", "3")
		first.returns(first.resume("go"), "stale")
		second.asks(second.goOn(), `"now?"`)
		second.returns(second.resume("go"), "stale")
		want(g.t, "what was done", did.take(), map[string]int{"ada 1000": 1})

		// The copy asks for an approval of its own before its question.
		page, err := g.engine.Questions(g.t.Context(), fermata.QuestionFilter{Thread: "2", Name: action.Name}, fermata.Page{})
		if err != nil || len(page.Questions) != 1 {
			g.t.Fatalf("%d questions of the name %q, error %v", len(page.Questions), action.Name, err)
		}
		again := first.rest(first.handle().Fork(g.t.Context(), fermata.BeforeQuestion(page.Questions[0].ID)))
		first.asks(first.answer(paused(g.t, again.err)[0], verdict{Decision: fermata.Approve}), `"now?"`)
		first.returns(first.resume("go"), "sent 1000 to ada")
	})
}

// A copy knows an answer that came before it, but that is no approval of what the copy does.
func TestCopyOfARunThatIsNotToldOfItsApproval(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		send := bank("send", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := send.Approve(ctx, transfer{"ada", 1000})
			if err != nil {
				return "", err
			}
			return send.Run(ctx, approval)
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		g.deploy(nil) // nobody goes on with it
		settle(g.t, g.open(g.t, nil), q.ID, `{"decision":"approve"}`)
		if err := g.engine.CopyThread(g.t.Context(), "1", "2"); err != nil {
			g.t.Fatal(err)
		}
		g.deploy(nil, flow)
		want(g.t, "result", g.end(flow, "1"), "sent 1000 to ada")
		p := play(g, flow, "2")
		p.fails(p.goOn(), fermata.ErrStaleApproval)
		want(g.t, "what was done", did.take(), map[string]int{"ada 1000": 1})
	})
}
