// Seed is the smallest whole program: a workflow of three tasks, the second of
// which asks a person. workflow.go is the workflow, this file the program around it.
//
//	seed [-db FILE] [-thread ID]                 ask at the terminal
//	seed [-db FILE] [-thread ID] start TEXT      start a run
//	seed [-db FILE] [-thread ID] resume ANSWER   answer its question
//
// Standard output gets one line of JSON per event of the run, standard error
// what is for people. Without a command the program starts a run with "foo", or
// goes on with the one it finds: an open question is asked again, and what was
// done is not done again. Without a command, and with resume, a run whose
// process died is first brought to its question or its end.
//
// The exit status is 0 if the run ended or waits for a person, 1 after an error,
// such as an answer that comes too late, and 2 if the command line is wrong.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sqlite"
)

const usage = `usage: seed [-db FILE] [-thread ID]                 ask at the terminal
       seed [-db FILE] [-thread ID] start TEXT      start a run
       seed [-db FILE] [-thread ID] resume ANSWER   answer its question
`

func main() {
	db := flag.String("db", "seed.db", "SQLite `FILE` that keeps the runs; it is made if there is none")
	thread := flag.String("thread", "1", "`ID` of the thread")
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	args := flag.Args()
	command := len(args) == 2 && (args[0] == "start" || args[0] == "resume")
	if len(args) > 0 && !command {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*db, *thread, args); err != nil {
		fmt.Fprintln(os.Stderr, "seed:", err)
		os.Exit(1)
	}
}

func run(db, threadID string, args []string) (err error) {
	backend, err := sqlite.Open(db, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	// Workers: this program is about one thread, and takes up no other's runs.
	engine, err := fermata.New(backend, &fermata.Options{Workers: -1}, graph)
	if err != nil {
		return err
	}
	ctx := context.Background()
	defer func() { err = errors.Join(err, engine.Close(ctx)) }()

	thread := graph.On(engine).Thread(threadID)
	switch {
	case len(args) == 0:
		return converse(ctx, thread)
	case args[0] == "start":
		return start(ctx, thread, args[1])
	default:
		return resume(ctx, thread, args[1])
	}
}

// thread is a thread of graph.
type thread = fermata.Thread[string, string]

func start(ctx context.Context, t *thread, text string) error {
	run, err := t.Start(ctx, text)
	if err != nil {
		return err
	}
	_, err = watch(ctx, run)
	return err
}

func resume(ctx context.Context, t *thread, answer string) error {
	state, err := t.State(ctx)
	if err != nil {
		return err
	}
	if state.Status == fermata.Running {
		// Its process has died; if it hasn't, Continue says so.
		run, err := t.Continue(ctx)
		if err != nil {
			return err
		}
		if _, err := watch(ctx, run); err != nil {
			return err
		}
	}
	run, err := t.Resume(ctx, answer)
	if err != nil {
		return err
	}
	_, err = watch(ctx, run)
	return err
}

// converse starts a run, or finds one, and asks until it has ended. Ctrl-C takes
// effect at the next question; a second one at once, which does no harm either.
func converse(ctx context.Context, t *thread) error {
	interrupted, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(interrupted, stop)

	asked, err := begin(ctx, t)
	for err == nil && len(asked) > 0 {
		answer, ok := prompt(interrupted, asked[0])
		if !ok {
			fmt.Fprintln(os.Stderr, "\nThe question stays open. Run the same command again to answer it.")
			return nil
		}
		var run *fermata.Run[string]
		if run, err = t.Resume(ctx, answer); err == nil {
			asked, err = watch(ctx, run)
		}
	}
	return err
}

// begin brings the thread to a question, or to its end, and returns what it asks.
func begin(ctx context.Context, t *thread) ([]fermata.Question, error) {
	state, err := t.State(ctx)
	if err != nil {
		return nil, err
	}
	var run *fermata.Run[string]
	switch state.Status {
	case fermata.Interrupted:
		return state.Questions, show(fermata.Event{Kind: fermata.Paused, Questions: state.Questions})
	case fermata.Running:
		run, err = t.Continue(ctx)
	default:
		run, err = t.Start(ctx, "foo")
	}
	if err != nil {
		return nil, err
	}
	return watch(ctx, run)
}

// watch shows what becomes durable until the run rests, and returns what it asks.
func watch(ctx context.Context, run *fermata.Run[string]) (asked []fermata.Question, err error) {
	for event, err := range run.Events(ctx) {
		if err == nil {
			err = show(event)
		}
		if err != nil {
			return nil, err
		}
		asked = event.Questions
	}
	return asked, nil
}

// show prints an event as LangGraph's "updates" has it.
func show(event fermata.Event) error { return json.NewEncoder(os.Stdout).Encode(event) }

// prompt asks the person at the terminal. There is no answer, and ok is false,
// when ctx ends or the input does.
func prompt(ctx context.Context, question fermata.Question) (answer string, ok bool) {
	var text string
	if err := question.Decode(&text); err != nil {
		text = string(question.Payload)
	}
	fmt.Fprintf(os.Stderr, "%s\n> ", text)

	lines := make(chan string, 1)
	go func() {
		defer close(lines)
		if line, err := stdin.ReadString('\n'); err == nil || line != "" {
			lines <- strings.TrimRight(line, "\r\n")
		}
	}()
	select {
	case answer, ok = <-lines:
		return answer, ok
	case <-ctx.Done():
		return "", false
	}
}

var stdin = bufio.NewReader(os.Stdin)
