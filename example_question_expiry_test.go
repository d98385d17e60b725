package fermata_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage/memory"
)

var booking = fermata.NewEntrypoint("booking", func(ctx context.Context, seat string) (string, error) {
	const day = 24 * time.Hour
	keep, err := fermata.Interrupt[bool](ctx, "Keep seat "+seat+"?",
		fermata.Deadline(90*day), fermata.Remind(60*day, 80*day))
	switch {
	case errors.Is(err, fermata.ErrExpired):
		// Nobody said no: that is not a refusal.
		meal, err := fermata.Interrupt[string](ctx, "Which meal, then?", fermata.Deadline(day, fermata.Default("none")))
		return "seat " + seat + " held at the counter, meal: " + meal, err
	case err != nil:
		return "", err
	case !keep:
		return "seat given back", nil
	}
	return "seat " + seat, nil
})

// Ninety days pass in no time: deadlines and reminders are due times in the
// database, which any live process heeds.
func ExampleDeadline() {
	ctx := context.Background()
	var elapsed atomic.Int64
	backend := memory.New(&memory.Options{Offset: func() time.Duration { return time.Duration(elapsed.Load()) }})
	defer backend.Close()
	reminded := make(chan string, 2)
	engine, err := fermata.New(backend, &fermata.Options{
		Remind: func(_ context.Context, q fermata.Question) error {
			reminded <- string(q.Payload)
			return nil
		},
	}, booking)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close(ctx)
	days := func(n time.Duration) {
		elapsed.Add(int64(n * 24 * time.Hour))
		engine.Poke() // look at the clock now, not at the next tick
	}

	thread := booking.On(engine).Thread("trip-1")
	_, err = thread.Invoke(ctx, "12A")
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		log.Fatal(err)
	}
	first := paused.Questions[0]

	days(61)
	fmt.Println("reminder:", <-reminded)
	days(20)
	fmt.Println("reminder:", <-reminded)

	// The feed tells when a question is settled, and when the next is asked.
	days(10)
	for q, err := range engine.QuestionChanges(ctx, first.Change) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s\n", q.Payload, q.State)
		if q.State == fermata.QuestionOpen && q.ID != first.ID {
			break
		}
	}
	_, err = engine.Answer(ctx, first.ID, true)
	fmt.Println("too late:", errors.Is(err, fermata.ErrExpired))

	days(2)
	for q, err := range engine.QuestionChanges(ctx, 0) {
		if err != nil {
			log.Fatal(err)
		}
		if q.OnExpiry == "default" && q.State == fermata.QuestionExpired {
			fmt.Printf("%s %s, by %s: %s\n", q.Payload, q.State, q.By.Kind, q.Default)
			break
		}
	}
	// Output:
	// reminder: "Keep seat 12A?"
	// reminder: "Keep seat 12A?"
	// "Keep seat 12A?" expired
	// "Which meal, then?" open
	// too late: true
	// "Which meal, then?" expired, by timeout: "none"
}
