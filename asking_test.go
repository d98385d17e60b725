package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
)

// ruling is an answer with a rule that no schema can state.
type ruling struct {
	Approved bool   `json:"approved"`
	Limit    int    `json:"limit"`
	Note     string `json:"note,omitempty"`
}

func (r ruling) Validate() error {
	if r.Approved && r.Limit <= 0 {
		return &fermata.AnswerError{Fields: []fermata.FieldError{{Pointer: "/limit", Message: "must be greater than 0 to approve"}}}
	}
	return nil
}

type proposal struct {
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

// askingFlow is an entrypoint that asks one question and tells how it ended.
func askingFlow(name string, c *calls, ask func(ctx context.Context) (string, error)) *fermata.Entrypoint[string, string] {
	return fermata.NewEntrypoint(name, func(ctx context.Context, _ string) (string, error) {
		c.add("body")
		out, err := ask(ctx)
		switch {
		case errors.Is(err, fermata.ErrPaused) || errors.Is(err, fermata.ErrParked):
			return "", err
		case err != nil:
			return "error: " + err.Error(), nil
		}
		return out, nil
	})
}

// ask starts a run on a thread and returns the question that it asks.
func (g *ground) ask(entrypoint *fermata.Entrypoint[string, string], thread string) fermata.Question {
	g.t.Helper()
	_, err := entrypoint.On(g.engine).Thread(thread).Invoke(g.t.Context(), "")
	questions := paused(g.t, err)
	if len(questions) != 1 {
		g.t.Fatalf("%d questions are open, want 1", len(questions))
	}
	return questions[0]
}

// rest waits for the run of a thread to rest, in whichever process, and returns its state.
func (g *ground) rest(entrypoint *fermata.Entrypoint[string, string], thread string) *fermata.State[string] {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	for {
		s, err := entrypoint.On(g.engine).Thread(thread).State(ctx)
		if err != nil {
			g.t.Fatal(err)
		}
		if s.Status != fermata.Running && s.Status != fermata.Queued {
			return s
		}
		g.engine.Poke()
	}
}

// end is the result of a thread's run.
func (g *ground) end(entrypoint *fermata.Entrypoint[string, string], thread string) string {
	g.t.Helper()
	s := g.rest(entrypoint, thread)
	if s.Status != fermata.Finished {
		g.t.Fatalf("run of thread %s is %s (%v), want finished", thread, s.Status, s.Err)
	}
	return s.Value
}

func (g *ground) answer(q fermata.Question, answer any, options ...fermata.AnswerOption) {
	g.t.Helper()
	if _, err := g.engine.Answer(g.t.Context(), q.ID, answer, options...); err != nil {
		g.t.Fatal(err)
	}
}

func TestQuestionShowsWhatItWasGiven(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		approve := fermata.NewQuestion[proposal, ruling]("approve", fermata.Tags("money"), fermata.Groups("finance"))
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) {
			r, err := approve.Ask(ctx, proposal{"ada", 1000}, fermata.Key("k1"), fermata.Title("Refund?"), fermata.Description("to **ada**"),
				fermata.Users("bob"), fermata.NotBy("ada"), fermata.Priority(7), fermata.Tags("refund"), fermata.Unique("order-7"),
				fermata.Deadline(time.Hour, fermata.Default(ruling{Note: "too late"})), fermata.Remind(time.Minute))
			return r.Note, err
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		want(g.t, "payload", string(q.Payload), `{"customer":"ada","cents":1000}`)
		got := q
		got.ID, got.Run, got.Payload, got.Schema, got.Asked, got.Deadline, got.Reminders, got.Change = fermata.ID{}, fermata.ID{}, nil, nil, time.Time{}, time.Time{}, nil, 0
		want(g.t, "question", got, fermata.Question{
			Thread: "1", Entrypoint: "flow", Path: "flow", Name: "approve", Key: "k1", Title: "Refund?", Description: "to **ada**",
			Users: []string{"bob"}, Groups: []string{"finance"}, NotBy: []string{"ada"}, Priority: 7, Tags: []string{"money", "refund"},
			Unique: "order-7", State: fermata.QuestionOpen, OnExpiry: "default", Default: json.RawMessage(`{"approved":false,"limit":0,"note":"too late"}`),
		})
		if d := q.Deadline.Sub(q.Asked); d < 59*time.Minute || d > 61*time.Minute {
			g.t.Errorf("deadline %s after the asking, want an hour", d)
		}
		if len(q.Reminders) != 1 {
			g.t.Errorf("reminders %v, want one", q.Reminders)
		}
	})
}

// Twenty bad answers run nothing of the workflow, in a process that has it and in one that doesn't.
func TestBadAnswersRunNothing(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		approve := fermata.NewQuestion[proposal, ruling]("bad_answers")
		c := &calls{}
		flow := askingFlow("flow", c, func(ctx context.Context) (string, error) {
			r, err := approve.Ask(ctx, proposal{"ada", 1000})
			return r.Note, err
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		c.take()
		elsewhere, err := fermata.New(g.open(g.t, nil), nil)
		if err != nil {
			g.t.Fatal(err)
		}
		defer elsewhere.Close(context.Background())
		bad := map[string]string{
			`7`: "", `null`: "", `"yes"`: "", `[]`: "", `{}`: "/approved",
			`{"approved":"yes","limit":1}`:             "/approved",
			`{"approved":true,"limit":"1"}`:            "/limit",
			`{"approved":true,"limit":1.5}`:            "/limit",
			`{"approved":true,"limit":1,"extra":true}`: "/extra",
			`{"approved":true,"limit":0}`:              "/limit",
		}
		for _, engine := range []*fermata.Engine{g.engine, elsewhere} {
			for answer, pointer := range bad {
				_, err := engine.Answer(g.t.Context(), q.ID, json.RawMessage(answer))
				wantErr(g.t, answer, err, fermata.ErrInvalidAnswer)
				var fields *fermata.AnswerError
				if !errors.As(err, &fields) || fields.Fields[0].Pointer != pointer {
					g.t.Errorf("%s: error %v, want a field error at %q", answer, err, pointer)
				}
			}
		}
		want(g.t, "calls of the body", c.take()["body"], 0)
		if _, err := elsewhere.Answer(g.t.Context(), q.ID, ruling{Approved: true, Limit: 5, Note: "good"}); err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "result", g.end(flow, "1"), "good")
	})
}

// An answer that another process accepted by the schema alone is checked again before the body runs.
func TestWakingProcessChecksAgain(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		approve := fermata.NewQuestion[proposal, ruling]("checks_again")
		c := &calls{}
		flow := askingFlow("flow", c, func(ctx context.Context) (string, error) {
			r, err := approve.Ask(ctx, proposal{"ada", 1000})
			return r.Note, err
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		c.take()
		// A process that is linked without the definition settles it so.
		settle(g.t, g.open(g.t, nil), q.ID, `{"approved":true,"limit":0,"note":"smuggled"}`)
		s := g.rest(flow, "1")
		wantErr(g.t, "run with the bad answer", s.Err, fermata.ErrParked)
		want(g.t, "calls of the body", c.take()["body"], 0)
		kept, err := g.engine.Question(g.t.Context(), q.ID)
		if err != nil || !strings.Contains(string(kept.Answer), "smuggled") {
			g.t.Errorf("the answer %s, %v is not kept", kept.Answer, err)
		}
	})
}

// sum is a number that an answer may be; capped is another with the same schema, and a rule.
type sum struct {
	Cents int `json:"cents"`
}

type capped struct {
	Cents int `json:"cents"`
}

func (c capped) Validate() error {
	if c.Cents > 10 {
		return errors.New("more than 10 cents")
	}
	return nil
}

// A declaration of another package or another engine, with the same name, takes no rule away.
func TestTwoDeclarationsOfOneName(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		name := "twice " + g.t.Name()
		mine := fermata.NewQuestion[string, capped](name)
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) {
			c, err := mine.Ask(ctx, "how much?")
			return fmt.Sprint(c.Cents), err
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		free := fermata.NewQuestion[string, sum](name)
		refused := func(what string) {
			g.t.Helper()
			_, err := g.engine.Answer(g.t.Context(), q.ID, sum{99})
			wantErr(g.t, what, err, fermata.ErrInvalidAnswer)
		}
		refused("where the question was asked")
		g.deploy(nil, flow)
		refused("where it has not been asked yet")
		g.answer(q, sum{9})
		want(g.t, "result", g.end(flow, "1"), "9")

		other := askingFlow("other", &calls{}, func(ctx context.Context) (string, error) {
			s, err := free.Ask(ctx, "how much?")
			return fmt.Sprint(s.Cents), err
		})
		g.deploy(nil, other)
		q = g.ask(other, "2")
		g.answer(q, sum{99})
		want(g.t, "result without the rule", g.end(other, "2"), "99")
	})
}

func TestAudience(t *testing.T) {
	t.Parallel()
	type p = fermata.Principal
	onEach(t, func(g *ground) {
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) {
			return fermata.Interrupt[string](ctx, "secret?", fermata.Users("bob", "ada"), fermata.Groups("finance"), fermata.NotBy("ada"))
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		for name, c := range map[string]struct {
			by  p
			err error
		}{
			"nobody":                        {p{}, fermata.ErrNotAllowed},
			"a stranger":                    {p{Subject: "eve"}, fermata.ErrNotAllowed},
			"of another group":              {p{Subject: "eve", Groups: []string{"sales"}}, fermata.ErrNotAllowed},
			"excluded":                      {p{Subject: "ada"}, fermata.ErrNotAllowed},
			"excluded and of the group":     {p{Subject: "ada", Groups: []string{"finance"}}, fermata.ErrNotAllowed},
			"for the excluded one":          {p{Subject: "bob", OnBehalfOf: "ada"}, fermata.ErrNotAllowed},
			"of the group, without a name":  {p{Groups: []string{"finance"}}, fermata.ErrNotAllowed},
			"a timeout that nobody sent":    {p{Kind: "timeout", Subject: "bob"}, fermata.ErrInvalid},
			"of a kind that there is not":   {p{Kind: "robot", Subject: "bob"}, fermata.ErrInvalid},
			"of another case than the name": {p{Subject: "Bob"}, fermata.ErrNotAllowed},
		} {
			_, err := g.engine.Answer(g.t.Context(), q.ID, "no", fermata.By(c.by))
			wantErr(g.t, name, err, c.err)
			for _, told := range questionsOf(err) {
				want(g.t, "what "+name+" learns of the question", told, fermata.Question{ID: q.ID, State: fermata.QuestionOpen})
			}
			if e, ok := errors.AsType[*fermata.Error](err); !ok || e.Thread != "" || !e.Run.IsZero() || e.Path != "" {
				g.t.Errorf("%s is told where it is asked: %v", name, err)
			}
		}
		g.answer(q, "yes", fermata.By(p{Subject: "eve", Groups: []string{"finance"}, Method: "sso"}))
		want(g.t, "result", g.end(flow, "1"), "yes")

		// Who won, when and with what is for the audience.
		_, err := g.engine.Answer(g.t.Context(), q.ID, "no", fermata.By(p{Subject: "bob"}))
		wantErr(g.t, "late, by one of the audience", err, fermata.ErrAlreadyAnswered)
		winner := questionsOf(err)[0]
		want(g.t, "winner", winner.By, p{Kind: "person", Subject: "eve", Groups: []string{"finance"}, Method: "sso"})
		want(g.t, "winning answer", string(winner.Answer), `"yes"`)
		_, err = g.engine.Answer(g.t.Context(), q.ID, "no", fermata.By(p{Subject: "mallory"}))
		wantErr(g.t, "late, by a stranger", err, fermata.ErrAlreadyAnswered)
		want(g.t, "what the stranger learns", questionsOf(err)[0], fermata.Question{ID: q.ID, State: fermata.QuestionAnswered})
		if strings.Contains(err.Error(), "eve") {
			g.t.Errorf("the stranger is told who won: %v", err)
		}
		err = g.engine.Withdraw(g.t.Context(), q.ID, p{Subject: "mallory"})
		wantErr(g.t, "withdrawal by a stranger", err, fermata.ErrAlreadyAnswered)
		want(g.t, "what the stranger learns", questionsOf(err)[0], fermata.Question{ID: q.ID, State: fermata.QuestionAnswered})
		err = g.engine.Withdraw(g.t.Context(), q.ID, p{Subject: "bob"})
		want(g.t, "winning answer", string(questionsOf(err)[0].Answer), `"yes"`)
		wantErr(g.t, "withdrawal by a timeout", g.engine.Withdraw(g.t.Context(), q.ID, p{Kind: "timeout"}), fermata.ErrInvalid)
	})
}

func questionsOf(err error) []fermata.Question {
	var e *fermata.Error
	if !errors.As(err, &e) {
		return nil
	}
	return e.Questions
}

type directory map[string][]string

func (d directory) Members(_ context.Context, _, group string) ([]string, error) {
	members, ok := d[group]
	if !ok {
		return nil, errors.New("directory is down")
	}
	return members, nil
}

func TestNobodyCouldAnswer(t *testing.T) {
	t.Parallel()
	options := &fermata.Options{Directory: directory{"owners": {"ada"}, "finance": {"ada", "bob"}, "empty": {}}, VerifyReplay: true}
	for name, c := range map[string]struct {
		options []fermata.AskOption
		refused bool
	}{
		"sole approver is the requester":            {[]fermata.AskOption{fermata.Users("ada"), fermata.NotBy("ada")}, true},
		"all approvers are excluded":                {[]fermata.AskOption{fermata.Users("ada", "bob"), fermata.NotBy("bob", "ada")}, true},
		"one is left":                               {[]fermata.AskOption{fermata.Users("ada", "bob"), fermata.NotBy("ada")}, false},
		"everyone but one":                          {[]fermata.AskOption{fermata.NotBy("ada")}, false},
		"sole member of the group is the requester": {[]fermata.AskOption{fermata.Groups("owners"), fermata.NotBy("ada")}, true},
		"a group without members":                   {[]fermata.AskOption{fermata.Groups("empty")}, true},
		"one group has another":                     {[]fermata.AskOption{fermata.Groups("owners", "finance"), fermata.NotBy("ada")}, false},
		"the directory is down":                     {[]fermata.AskOption{fermata.Groups("unknown"), fermata.NotBy("ada")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(g *ground) {
				flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
					_, err := fermata.Interrupt[string](ctx, "?", c.options...)
					if errors.Is(err, fermata.ErrUnsatisfiable) {
						_, err := fermata.Interrupt[string](ctx, "what now?")
						return "refused", err
					}
					return "", err
				})
				g.deploy(options, flow)
				q := g.ask(flow, "1")
				if refused := string(q.Payload) == `"what now?"`; refused != c.refused {
					g.t.Fatalf("asked %s; refused: %t, want %t", q.Payload, refused, c.refused)
				}
				if c.refused {
					g.deploy(nil, flow) // without a directory: the refusal is on record
					g.answer(q, "go")
					want(g.t, "result after a replay", g.end(flow, "1"), "refused")
				}
			})
		})
	}
}

// One open question per business key: another asker is told, the same on every replay.
func TestUnique(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			answer, err := fermata.Interrupt[string](ctx, "refund order 7?", fermata.Unique("order-7"))
			if errors.Is(err, fermata.ErrNotUnique) {
				next, err := fermata.Interrupt[string](ctx, "other? "+questionsOf(err)[0].ID.String())
				return "taken, " + next, err
			}
			return answer, err
		})
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		first := g.ask(flow, "1")
		second := g.ask(flow, "2")
		want(g.t, "second question", string(second.Payload), `"other? `+first.ID.String()+`"`)
		g.deploy(&fermata.Options{VerifyReplay: true}, flow)
		g.answer(first, "yes")
		g.answer(second, "well")
		want(g.t, "first", g.end(flow, "1"), "yes")
		want(g.t, "second", g.end(flow, "2"), "taken, well")
		third := g.ask(flow, "3")
		want(g.t, "third question, when the key is free again", string(third.Payload), `"refund order 7?"`)
	})
}

type paint string

func (paint) JSONSchema() []byte { return []byte(`{"enum":["red","blue"]}`) }

type bid struct {
	Cents int `json:"cents"`
}

func (b bid) ValidateFor(limit int) error {
	if b.Cents > limit {
		return fmt.Errorf("must be at most %d", limit)
	}
	return nil
}

// A default that no person could answer is refused when it is asked with, not taken months later.
func TestDefaultThatIsNoAnswer(t *testing.T) {
	t.Parallel()
	g := &ground{t: t, open: memoryOpener(t)}
	paints, bids := fermata.NewQuestion[string, paint]("paint"), fermata.NewQuestion[int, bid]("bid")
	send := bank("send", &calls{})
	edit := fermata.Deadline(time.Hour, fermata.Default(verdict{Decision: fermata.Edit, Action: &transfer{"eve", 999}}))
	for name, c := range map[string]struct {
		ask  func(context.Context) error
		good bool
	}{
		"inline, out of the schema": {func(ctx context.Context) error {
			_, err := fermata.Interrupt[paint](ctx, "?", fermata.Deadline(time.Hour, fermata.Default(paint("mauve"))))
			return err
		}, false},
		"inline": {func(ctx context.Context) error {
			_, err := fermata.Interrupt[paint](ctx, "?", fermata.Deadline(time.Hour, fermata.Default(paint("red"))))
			return err
		}, true},
		"declared, out of the schema": {func(ctx context.Context) error {
			_, err := paints.Ask(ctx, "?", fermata.Deadline(time.Hour, fermata.Default(paint("mauve"))))
			return err
		}, false},
		"not for this payload": {func(ctx context.Context) error {
			_, err := bids.Ask(ctx, 3, fermata.Deadline(time.Hour, fermata.Default(bid{7})))
			return err
		}, false},
		"for this payload": {func(ctx context.Context) error {
			_, err := bids.Ask(ctx, 10, fermata.Deadline(time.Hour, fermata.Default(bid{7})))
			return err
		}, true},
		"an edit without leave": {func(ctx context.Context) error {
			_, err := send.Approve(ctx, transfer{"ada", 1000}, edit)
			return err
		}, false},
		"an edit": {func(ctx context.Context) error {
			_, err := send.Approve(ctx, transfer{"ada", 1000}, edit, fermata.AllowEdit())
			return err
		}, true},
	} {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) { return "", c.ask(ctx) })
		g.deploy(nil, flow)
		_, err := flow.On(g.engine).Thread(name).Invoke(t.Context(), "")
		if c.good {
			paused(t, err)
		} else if err == nil || !strings.Contains(err.Error(), "default: ") || !strings.Contains(err.Error(), fermata.ErrInvalid.Error()) {
			t.Errorf("%s: error %v, want one that refuses the default", name, err)
		}
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	g := &ground{t: t, open: memoryOpener(t)}
	approve := fermata.NewQuestion[string, ruling]("options")
	for name, option := range map[string]fermata.AskOption{
		"deadline in the past":         fermata.Deadline(-time.Hour),
		"two outcomes":                 fermata.Deadline(time.Hour, fermata.FailRun(), fermata.FailRun()),
		"default of another type":      fermata.Deadline(time.Hour, fermata.Default(7)),
		"default that isn't an answer": fermata.Deadline(time.Hour, fermata.Default(ruling{Approved: true})),
		"empty user":                   fermata.Users(""),
		"empty group":                  fermata.Groups("a", ""),
		"empty unique key":             fermata.Unique(""),
		"reminder before the asking":   fermata.Remind(0),
	} {
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			_, err := approve.Ask(ctx, "?", option)
			if !errors.Is(err, fermata.ErrInvalid) {
				t.Errorf("%s: error %v, want ErrInvalid", name, err)
			}
			return "", nil
		})
		g.deploy(nil, flow)
		if _, err := flow.On(g.engine).Thread(name).Invoke(t.Context(), ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTextsThatSomeDatabaseCannotKeep(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1001)
	onEach(t, func(g *ground) {
		options := map[string]fermata.AskOption{}
		for kind, text := range map[string]string{"with a NUL": "a\x00b", "that isn't UTF-8": "jos\xe9", "that is too long": long} {
			options["tag "+kind] = fermata.Tags(text)
			options["user "+kind] = fermata.Users(text)
			options["group "+kind] = fermata.Groups(text)
			options["exclusion "+kind] = fermata.NotBy(text)
			options["unique key "+kind] = fermata.Unique(text)
			options["key "+kind] = fermata.Key(text)
			if text != long {
				options["title "+kind] = fermata.Title(text)
				options["description "+kind] = fermata.Description(text)
			}
		}
		flow := askingFlow("flow", &calls{}, func(ctx context.Context) (string, error) {
			for name, option := range options {
				if _, err := fermata.Interrupt[string](ctx, "?", option); !errors.Is(err, fermata.ErrInvalid) {
					g.t.Errorf("%s: error %v, want ErrInvalid", name, err)
				}
			}
			return fermata.Interrupt[string](ctx, "?", fermata.Title(long), fermata.Tags(long[1:]), fermata.Unique(long[1:]), fermata.Users("josé"))
		})
		g.deploy(nil, flow)
		q := g.ask(flow, "1")
		for name, p := range map[string]fermata.Principal{
			"subject": {Subject: "jos\xe9"}, "represented": {Subject: "josé", OnBehalfOf: "a\x00"},
			"method": {Subject: "josé", Method: "\xff"}, "group": {Subject: "josé", Groups: []string{"\x00"}},
		} {
			_, err := g.engine.Answer(g.t.Context(), q.ID, "x", fermata.By(p))
			wantErr(g.t, "answer by a bad "+name, err, fermata.ErrInvalid)
			wantErr(g.t, "withdrawal by a bad "+name, g.engine.Withdraw(g.t.Context(), q.ID, p), fermata.ErrInvalid)
		}
		jose := fermata.By(fermata.Principal{Subject: "josé"})
		_, err := g.engine.Answer(g.t.Context(), q.ID, "x", jose, fermata.IdempotencyKey("\xff"))
		wantErr(g.t, "answer with a bad key", err, fermata.ErrInvalid)
		g.answer(q, "yes", jose)
		want(g.t, "result", g.end(flow, "1"), "yes")
	})
}

// opaque reads JSON by a method of its own, and doesn't say what.
type opaque struct{ n int }

func (o *opaque) UnmarshalJSON([]byte) error  { o.n++; return nil }
func (o opaque) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

func askOnce[P, A any](payload P, q *fermata.QuestionType[P, A]) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := q.Ask(ctx, payload)
		return err
	}
}

func TestDefinitionsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(ctx context.Context) error{
		"no name":              askOnce("", fermata.NewQuestion[string, string]("")),
		"a channel":            askOnce("", fermata.NewQuestion[string, chan int]("q")),
		"JSON need not decode": askOnce("", fermata.NewQuestion[string, opaque]("q")),
		"default of another type": askOnce("", fermata.NewQuestion[string, string]("q",
			fermata.Deadline(time.Hour, fermata.Default(1)))),
		"a channel inline": func(ctx context.Context) error {
			_, err := fermata.Interrupt[chan int](ctx, "")
			return err
		},
		"cached approvals": func(ctx context.Context) error {
			_, err := fermata.NewGuarded("q", func(context.Context, string) (string, error) { return "", nil }, fermata.Cached(0)).Approve(ctx, "")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := &ground{t: t, open: memoryOpener(t)}
			flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
				return "", ask(ctx)
			})
			g.deploy(nil, flow)
			_, err := flow.On(g.engine).Thread("1").Invoke(t.Context(), "")
			if err == nil || !strings.Contains(err.Error(), fermata.ErrDefinition.Error()) {
				t.Errorf("error %v, want one of the definition", err)
			}
		})
	}
}
