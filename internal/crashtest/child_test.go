package crashtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
)

// orders is what a child is told, as JSON in its environment.
type orders struct {
	DB     string // file of SQLite, or address of PostgreSQL
	Ledger string // file that gets a line per start of a task's effect
	Thread string
	Verb   string
	// HangIn are steps whose function, once its effect is in the ledger, says so, and
	// returns when the child, if it serves, is told "go on".
	HangIn []int
	// DieIn are steps whose function kills the process.
	DieIn []int
	// StallIn is the step at whose start the child's disk stops to write.
	StallIn int
	// After is the position from which the child watches.
	After string
	// Durability of a line and of a fan.
	Durability fermata.Durability
	// Takes: the child takes up runs by itself.
	Takes bool
	// Tick is how often it then looks for them though it was told of nothing. Default: 20 ms.
	Tick time.Duration
	// Tells: the child says with which error the code of a run ended.
	Tells bool

	goOn chan struct{} // closed when steps need not hang any more
	disk *stalling
}

const ordersVariable = "FERMATA_CRASHTEST_ORDERS"

func TestMain(m *testing.M) {
	text, child := os.LookupEnv(ordersVariable)
	if !child {
		os.Exit(m.Run())
	}
	var o orders
	err := json.Unmarshal([]byte(text), &o)
	o.goOn = make(chan struct{})
	if err == nil {
		err = o.carryOut(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// say tells the parent something, in one line.
func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// On PostgreSQL a process is taken for dead after memberTimeout, and the others are told within one heartbeat more.
const (
	heartbeat     = 200 * time.Millisecond
	memberTimeout = 2 * time.Second
)

// onPostgres reports whether the database is a server's.
func (o *orders) onPostgres() bool { return strings.HasPrefix(o.DB, "postgres://") }

func (o *orders) open(ctx context.Context) (storage.Backend, error) {
	if o.onPostgres() {
		return postgres.Open(ctx, o.DB, &postgres.Options{
			Heartbeat: heartbeat, MemberTimeout: memberTimeout, RetryTimeout: time.Minute, Connections: 4,
		})
	}
	return sqlite.Open(o.DB, nil)
}

// carryOut is the child's life.
func (o *orders) carryOut(ctx context.Context) error {
	backend, err := o.open(ctx)
	if err != nil {
		return err
	}
	o.disk = newStalling(backend)
	options := &fermata.Options{Workers: -1, Tick: o.Tick}
	if o.Takes {
		options.Workers = 0 // the default
	}
	if o.Tick == 0 {
		options.Tick = 20 * time.Millisecond
	}
	if o.Verb == "load" {
		// Chance may well kill three processes in a row that hold the same run.
		options.MaxCrashes = 1000
		options.Logger = slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	line, fan := o.workflows()
	engine, err := fermata.New(o.disk, options, line, fan, o.rounds())
	if err != nil {
		return err
	}
	switch o.Verb {
	case "line":
		err = o.work(ctx, line.On(engine).Thread(o.Thread), lineLength)
	case "fan":
		err = o.work(ctx, fan.On(engine).Thread(o.Thread), fanWidth)
	case "answer":
		err = o.answer(ctx, line.On(engine))
	case "watch":
		err = o.watch(ctx, line.On(engine).Thread(o.Thread))
	case "serve":
		say("ready")
		err = o.serve()
	case "load":
		say("ready")
		err = o.helpToAnswer(ctx, engine)
	case "answer all":
		err = answerAll(ctx, engine)
	default:
		err = fmt.Errorf("unknown verb %q", o.Verb)
	}
	return errors.Join(err, engine.Close(ctx), backend.Close())
}

const (
	lineLength = 20
	fanWidth   = 12
)

// workflows are: line, some steps one after the other with a question in the
// middle, and fan, some steps at once. Both sum up what the steps return.
func (o *orders) workflows() (line, fan *fermata.Entrypoint[int, int]) {
	step := fermata.NewTask("step", func(_ context.Context, n int) (int, error) { return n, o.effect(n) })
	line = fermata.NewEntrypoint("line", func(ctx context.Context, length int) (int, error) {
		sum := 0
		for n := 1; n <= length; n++ {
			if n == length/2 {
				if _, err := fermata.Interrupt[string](ctx, "go on?"); err != nil {
					return 0, err
				}
			}
			got, err := step.Call(ctx, n)
			if err != nil {
				return 0, err
			}
			sum += got
		}
		return sum, nil
	}, fermata.WithDurability(o.Durability))
	fan = fermata.NewEntrypoint("fan", func(ctx context.Context, width int) (int, error) {
		futures := make([]*fermata.Future[int], width)
		for i := range futures {
			futures[i] = step.Go(ctx, i+1)
		}
		results, err := fermata.All(ctx, futures...)
		if err != nil && o.Tells {
			say("ended, lost: %t", errors.Is(err, fermata.ErrLost))
		}
		sum := 0
		for _, n := range results {
			sum += n
		}
		return sum, err
	}, fermata.WithDurability(o.Durability))
	return line, fan
}

// serve lets the engine work until the parent closes standard input.
func (o *orders) serve() error {
	release := sync.OnceFunc(func() { close(o.goOn) })
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		if input.Text() == "go on" {
			release()
		}
	}
	return input.Err()
}

// effect is what a step does to the world.
func (o *orders) effect(n int) error {
	ledger, err := os.OpenFile(o.Ledger, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(ledger, "%d %d\n", os.Getpid(), n)
	if err := errors.Join(err, ledger.Close()); err != nil {
		return err
	}
	if o.StallIn == n {
		close(o.disk.stall)
	}
	if slices.Contains(o.DieIn, n) {
		die()
	}
	if slices.Contains(o.HangIn, n) {
		say("inside %d", n)
		<-o.goOn
	}
	return nil
}

// die ends this process as a power cut would: no deferred call runs.
func die() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(syscall.SIGKILL)
	}
	say("still alive: %v", err)
	select {}
}

// work brings the run of a thread to its end, from wherever it stands.
func (o *orders) work(ctx context.Context, t *fermata.Thread[int, int], size int) error {
	for {
		state, err := t.State(ctx)
		if err != nil {
			return err
		}
		var run *fermata.Run[int]
		switch state.Status {
		case fermata.Finished:
			say("result %d", state.Value)
			return nil
		case fermata.Interrupted:
			run, err = t.Resume(ctx, "yes")
		case fermata.Running:
			run, err = t.Continue(ctx)
		default:
			run, err = t.Start(ctx, size)
		}
		if err != nil {
			return err
		}
		for event, err := range run.Events(ctx) {
			if errors.Is(err, fermata.ErrParked) {
				say("parked %v", err)
				return nil
			}
			if err != nil {
				return err
			}
			if event.Kind == fermata.TaskFinished {
				say("durable %s", event.Value)
			}
		}
	}
}

// answer answers the question of each thread that standard input names, when it says "go".
func (o *orders) answer(ctx context.Context, line fermata.Bound[int, int]) error {
	say("ready")
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		thread := line.Thread(input.Text())
		state, err := thread.State(ctx)
		if err != nil {
			return err
		}
		say("read %s", state.Status)
		input.Scan() // go
		run, err := thread.Resume(ctx, strconv.Itoa(os.Getpid()))
		if err != nil {
			say("told %s", strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		result, err := run.Result(ctx)
		if err != nil {
			return err
		}
		say("won %d", result)
	}
	return input.Err()
}
