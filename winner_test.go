package fermata_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/fermata-go/fermata"
)

// tally is what many answers to one question came to.
type tally struct {
	Accepted, Told, Other int
	Errors                []string
}

// answerAtOnce answers one question n times with random verdicts, each as somebody else.
func answerAtOnce(ctx context.Context, engines []*fermata.Engine, question fermata.ID, n int, who string) tally {
	var mu sync.Mutex
	var total tally
	var answers sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		answers.Go(func() {
			<-begin
			v := verdict{Decision: fermata.Reject, Reason: fmt.Sprint(who, i)}
			if rand.IntN(2) == 0 {
				v.Decision = fermata.Approve
			}
			_, err := engines[i%len(engines)].Answer(ctx, question, v, fermata.By(fermata.Principal{Subject: v.Reason}))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				total.Accepted++
			case errors.Is(err, fermata.ErrAlreadyAnswered) && questionsOf(err)[0].By.Subject != "" && !questionsOf(err)[0].Settled.IsZero():
				total.Told++
			default:
				total.Other++
				total.Errors = append(total.Errors, err.Error())
			}
		})
	}
	close(begin)
	answers.Wait()
	return total
}

// payout pays once it is approved, and tells of every payment.
func payout(did *calls) *fermata.Entrypoint[string, string] {
	send := bank("send", did)
	return fermata.NewEntrypoint("payout", func(ctx context.Context, _ string) (string, error) {
		approval, err := send.Approve(ctx, transfer{"ada", 1000})
		if errors.Is(err, fermata.ErrRejected) {
			return "rejected", nil
		}
		if err != nil {
			return "", err
		}
		return send.Run(ctx, approval)
	})
}

func (g *ground) checkWinner(flow *fermata.Entrypoint[string, string], question fermata.ID, did *calls) {
	g.t.Helper()
	out := g.end(flow, "1")
	q, err := g.engine.Question(g.t.Context(), question)
	if err != nil {
		g.t.Fatal(err)
	}
	var won verdict
	if err := json.Unmarshal(q.Answer, &won); err != nil {
		g.t.Fatal(err)
	}
	if won.Decision == fermata.Approve {
		want(g.t, "result", out, "sent 1000 to ada")
		want(g.t, "payments", did.take(), map[string]int{"ada 1000": 1})
	} else {
		want(g.t, "result", out, "rejected")
		want(g.t, "payments", did.take(), nil)
	}
	want(g.t, "who won", q.By.Subject, won.Reason)
}

func TestHundredAnswersOneWinner(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		flow := payout(did)
		g.deploy(nil, flow)
		engines := []*fermata.Engine{g.engine}
		for range 2 {
			e, err := fermata.New(g.open(g.t, nil), nil, flow)
			if err != nil {
				g.t.Fatal(err)
			}
			defer e.Close(context.Background())
			engines = append(engines, e)
		}
		q := g.ask(flow, "1")
		want(g.t, "answers", answerAtOnce(g.t.Context(), engines, q.ID, 100, "p"), tally{Accepted: 1, Told: 99})
		g.checkWinner(flow, q.ID, did)
	})
}

const answererEnv = "FERMATA_TEST_ANSWERER"

// TestAnswerer is a process that knows no workflow, and answers: its parent is TestThreeProcessesOneWinner.
func TestAnswerer(t *testing.T) {
	question, err := fermata.ParseID(os.Getenv(answererEnv))
	if err != nil {
		t.Skip("it is run by another test")
	}
	backend := openShared(t, os.Getenv(answererEnv+"_DB"), nil)
	engine, err := fermata.New(backend, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.Background())
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{`7`, `null`, `{}`, `{"decision":"maybe"}`, `{"decision":"approve","action":{"to":"eve","cents":1}}`} {
		if _, err := engine.Answer(t.Context(), question, json.RawMessage(bad)); !errors.Is(err, fermata.ErrInvalidAnswer) && !errors.Is(err, fermata.ErrAlreadyAnswered) {
			t.Errorf("%s: error %v", bad, err)
		}
	}
	data, err := json.Marshal(answerAtOnce(t.Context(), []*fermata.Engine{engine}, question, 100, fmt.Sprint("process", os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s\n", data)
}

// Three processes that know nothing of the workflow answer one question, 100 times each.
func TestThreeProcessesOneWinner(t *testing.T) {
	t.Parallel()
	onShared(t, answerFromProcesses)
}

func answerFromProcesses(t *testing.T, database string) {
	did := &calls{}
	flow := payout(did)
	engine, err := fermata.New(openShared(t, database, nil), nil, flow)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.Background())
	g := &ground{t: t, engine: engine}
	q := g.ask(flow, "1")
	const processes = 3
	type process struct {
		command *exec.Cmd
		in      io.WriteCloser
		out     *bufio.Reader
	}
	var all []process
	for range processes {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAnswerer$")
		c.Env = append(os.Environ(), answererEnv+"="+q.ID.String(), answererEnv+"_DB="+database)
		c.Stderr = os.Stderr
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		p := process{c, in, bufio.NewReader(out)}
		if line, err := p.out.ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatalf("process said %q, %v", line, err)
		}
		all = append(all, p)
	}
	for _, p := range all {
		if _, err := io.WriteString(p.in, "go\n"); err != nil {
			t.Fatal(err)
		}
	}
	var total tally
	for _, p := range all {
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			t.Fatalf("process said %q, %v", line, err)
		}
		var part tally
		if err := json.Unmarshal(line, &part); err != nil {
			t.Fatalf("process said %q: %v", line, err)
		}
		total.Accepted, total.Told, total.Other = total.Accepted+part.Accepted, total.Told+part.Told, total.Other+part.Other
		total.Errors = append(total.Errors, part.Errors...)
		if _, err := io.Copy(io.Discard, p.out); err != nil {
			t.Error(err)
		}
		if err := p.command.Wait(); err != nil {
			t.Errorf("process: %v", err)
		}
	}
	want(t, "answers", total, tally{Accepted: 1, Told: 100*processes - 1})
	g.checkWinner(flow, q.ID, did)
}

// The second click on "$10 refund" never touches "$90,000 wire".
func TestDoubleClick(t *testing.T) {
	t.Parallel()
	onEach(t, func(g *ground) {
		did := &calls{}
		refund, wire := bank("refund", did), bank("wire", did)
		flow := fermata.NewEntrypoint("flow", func(ctx context.Context, _ string) (string, error) {
			approval, err := refund.Approve(ctx, transfer{"ada", 10_00})
			if err != nil {
				return "", err
			}
			if _, err := refund.Run(ctx, approval); err != nil {
				return "", err
			}
			if approval, err = wire.Approve(ctx, transfer{"eve", 90_000_00}); err != nil {
				return "", err
			}
			return wire.Run(ctx, approval)
		})
		g.deploy(nil, flow)
		yes := verdict{Decision: fermata.Approve}
		for name, click := range map[string]func(thread *fermata.Thread[string, string], q fermata.Question) error{
			"with ids": func(_ *fermata.Thread[string, string], q fermata.Question) error {
				_, err := g.engine.Answer(g.t.Context(), q.ID, yes)
				return err
			},
			"with ids and a key": func(_ *fermata.Thread[string, string], q fermata.Question) error {
				_, err := g.engine.Answer(g.t.Context(), q.ID, yes, fermata.IdempotencyKey("button"))
				return err
			},
			"without ids": func(thread *fermata.Thread[string, string], _ fermata.Question) error {
				_, err := thread.Resume(g.t.Context(), yes)
				return err
			},
		} {
			q := g.ask(flow, name)
			thread := flow.On(g.engine).Thread(name)
			if _, err := thread.State(g.t.Context()); err != nil { // the page that shows the button
				g.t.Fatal(err)
			}
			if err := click(thread, q); err != nil {
				g.t.Fatalf("%s: %v", name, err)
			}
			waiting := g.rest(flow, name)
			want(g.t, "next question", payloads(waiting.Questions), []string{`{"to":"eve","cents":9000000}`})
			err := click(thread, q)
			switch name {
			case "with ids":
				wantErr(g.t, name, err, fermata.ErrAlreadyAnswered)
			case "without ids":
				wantErr(g.t, name, err, fermata.ErrStaleRevision)
			default:
				if err != nil {
					g.t.Errorf("%s: %v", name, err)
				}
			}
			after := g.rest(flow, name)
			if len(after.Questions) != 1 || after.Questions[0].ID != waiting.Questions[0].ID {
				g.t.Errorf("%s: the second click moved the run: it is %s", name, after.Status)
			}
			want(g.t, name, did.take(), map[string]int{"ada 1000": 1})
		}
	})
}
