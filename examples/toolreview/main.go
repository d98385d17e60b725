// Toolreview lets people review the calls that a language model wants to make: each is accepted, edited, or answered
// instead. workflow.go is the workflow, model.go what a model is, openai.go one behind an endpoint.
//
//	toolreview [-db FILE] [-thread ID] [-base-url URL -model NAME] [PROMPT]
//
// With a prompt it starts a run, else it goes on with the thread. It asks at the terminal; a review is one line:
//
//	accept
//	edit {"hotel": "Plaza", "nights": 1}
//	answer no hotel, thanks
//
// At the end of the input it stops; the run waits in the database. Without -base-url a scripted
// model speaks. The key of the endpoint is taken from OPENAI_API_KEY.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sqlite"
)

func main() {
	db := flag.String("db", "toolreview.db", "SQLite `FILE` that keeps the runs")
	thread := flag.String("thread", "1", "`ID` of the thread")
	baseURL := flag.String("base-url", "", "`URL` of an endpoint that speaks OpenAI's chat completions")
	name := flag.String("model", "gpt-5.2", "`NAME` of the model there")
	flag.Parse()
	var model Model = scripted{}
	if *baseURL != "" {
		model = newService(*baseURL, "", *name)
	}
	if err := run(*db, *thread, model, strings.Join(flag.Args(), " "), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "toolreview:", err)
		os.Exit(1)
	}
}

// run starts a run with the prompt, or goes on with the one of the thread, and asks until it has ended.
func run(db, threadID string, model Model, prompt string, in io.Reader, out io.Writer) (err error) {
	backend, err := sqlite.Open(db, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	agent := newAgent(model, tools())
	engine, err := fermata.New(backend, &fermata.Options{Workers: -1}, agent)
	if err != nil {
		return err
	}
	ctx := context.Background()
	defer func() { err = errors.Join(err, engine.Close(ctx)) }()

	thread := agent.On(engine).Thread(threadID)
	var run *fermata.Run[string]
	if prompt != "" {
		run, err = thread.Start(ctx, prompt)
	} else {
		run, err = thread.Continue(ctx)
	}
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for {
		result, err := run.Result(ctx)
		paused, ok := errors.AsType[*fermata.PausedError](err)
		if !ok {
			if err == nil {
				fmt.Fprintln(out, result)
			}
			return err
		}
		var last *fermata.Receipt
		for _, question := range paused.Questions {
			receipt, err := decide(ctx, engine, question, lines, out)
			if err != nil {
				return err
			}
			if receipt == nil { // the end of the input: what was answered takes effect, the rest waits
				if last != nil {
					_, err = last.Wait(ctx)
				}
				if errors.Is(err, fermata.ErrPaused) {
					err = nil
				}
				return err
			}
			last = receipt
		}
	}
}

// decide asks at the terminal until a review is accepted. At the end of the input there is no receipt.
func decide(ctx context.Context, engine *fermata.Engine, question fermata.Question, lines *bufio.Scanner, out io.Writer) (*fermata.Receipt, error) {
	for {
		fmt.Fprintf(out, "%s – accept, edit {…}, or answer …?\n", question.Title)
		if !lines.Scan() {
			return nil, lines.Err()
		}
		var receipt *fermata.Receipt
		review, err := parse(lines.Text())
		if err == nil {
			receipt, err = engine.Answer(ctx, question.ID, review)
		}
		if err == nil {
			return receipt, nil
		}
		if refused, ok := errors.AsType[*fermata.AnswerError](err); ok {
			err = refused
		} else if _, isFermata := errors.AsType[*fermata.Error](err); isFermata {
			return nil, err
		}
		fmt.Fprintln(out, err)
	}
}

// parse reads a review as it is typed.
func parse(line string) (Review, error) {
	action, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	review := Review{Action: action}
	switch action {
	case "edit":
		if err := json.Unmarshal([]byte(rest), &review.Args); err != nil {
			return review, fmt.Errorf("the arguments are no JSON object: %w", err)
		}
	case "answer":
		review.Text = rest
	}
	return review, nil
}
