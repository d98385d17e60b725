// Answerer is a process that answers questions and is linked without any workflow: the
// tests build and run it. Its argument is a database. It reads orders, and says what came of each, in lines of JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
)

// order is to answer one question several times.
type order struct {
	Question fermata.ID        `json:"question"`
	Answers  []json.RawMessage `json:"answers"`
	Clock    time.Time         `json:"clock"`  // what time it is; zero: the system's
	Expire   bool              `json:"expire"` // look for what is due, too
}

func main() {
	if err := serve(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, database string) error {
	var clock atomic.Int64
	offset := func() time.Duration {
		if at := clock.Load(); at != 0 {
			return time.Until(time.Unix(0, at))
		}
		return 0
	}
	var backend storage.Backend
	var err error
	if file, ok := strings.CutPrefix(database, "sqlite:"); ok {
		backend, err = sqlite.Open(file, &sqlite.Options{Offset: offset})
	} else {
		backend, err = postgres.Open(ctx, database, &postgres.Options{Offset: offset, Connections: 4})
	}
	if err != nil {
		return err
	}
	engine, err := fermata.New(backend, nil)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if !o.Clock.IsZero() {
			clock.Store(o.Clock.UnixNano())
		}
		if o.Expire {
			engine.Poke()
		}
		said := make([]string, len(o.Answers))
		for i, answer := range o.Answers {
			_, err := engine.Answer(ctx, o.Question, answer)
			said[i] = name(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
			return err
		}
	}
	return errors.Join(engine.Close(ctx), backend.Close())
}

// name is what came of an answer.
func name(err error) string {
	switch {
	case err == nil:
		return "accepted"
	case errors.Is(err, fermata.ErrInvalidAnswer):
		return "invalid"
	case errors.Is(err, fermata.ErrAlreadyAnswered):
		return "answered"
	case errors.Is(err, fermata.ErrExpired):
		return "expired"
	}
	return err.Error()
}
