package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/fermata-go/fermata"
)

// deed is a line of the ledger of a test under load: an effect, by a name of its own.
type deed struct {
	PID    int
	Name   string
	Thread string
	Step   int
	Answer string // what the code had been told before; "-" for nothing
}

const deedFormat = "%d %s %s %d %s\n"

// booked is the result of a run: the deeds that it has recorded, by step, and the answers it got.
type booked struct {
	Deeds   []string
	Answers []string
}

var deedsDone atomic.Int64

// rounds is the workflow under load: two steps, a question, three steps at once, a question, a last step.
func (o *orders) rounds() *fermata.Entrypoint[string, booked] {
	act := fermata.NewTask("act", func(_ context.Context, d deed) (string, error) {
		d.PID, d.Name = os.Getpid(), fmt.Sprintf("%d.%d", os.Getpid(), deedsDone.Add(1))
		return d.Name, note(o.Ledger, deedFormat, d.PID, d.Name, d.Thread, d.Step, d.Answer)
	})
	return fermata.NewEntrypoint("rounds", func(ctx context.Context, thread string) (b booked, err error) {
		answer := "-"
		do := func(steps ...int) error {
			var all []*fermata.Future[string]
			for _, n := range steps {
				all = append(all, act.Go(ctx, deed{Thread: thread, Step: n, Answer: answer}))
			}
			names, err := fermata.All(ctx, all...)
			b.Deeds = append(b.Deeds, names...)
			return err
		}
		for _, steps := range [][]int{{1}, {2}, nil, {3, 4, 5}, nil, {6}} {
			if steps == nil {
				if answer, err = fermata.Interrupt[string](ctx, thread); err != nil {
					return b, err
				}
				b.Answers = append(b.Answers, answer)
				continue
			}
			if err := do(steps...); err != nil {
				return b, err
			}
		}
		return b, nil
	})
}

const stepsOfRounds, questionsOfRounds = 6, 2

// note adds a line to a file that other processes write, too.
func note(file, format string, args ...any) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format, args...)
	return errors.Join(err, f.Close())
}

func (o *orders) answers() string { return o.Ledger + ".answers" }

// reply answers a question by a value of its own, and notes that before and after.
func (o *orders) reply(ctx context.Context, engine *fermata.Engine, q fermata.ID) error {
	value := fmt.Sprintf("%d.%d", os.Getpid(), deedsDone.Add(1))
	if err := note(o.answers(), "tries %s %s\n", q, value); err != nil {
		return err
	}
	_, err := engine.Answer(ctx, q, value, fermata.Enqueue())
	if err == nil {
		return note(o.answers(), "won %s %s\n", q, value)
	}
	if errors.Is(err, fermata.ErrAlreadyAnswered) {
		return nil
	}
	return err
}

// helpToAnswer answers about half of the questions that come up, until the parent closes standard input.
func (o *orders) helpToAnswer(ctx context.Context, engine *fermata.Engine) error {
	ctx, cancel := context.WithCancel(ctx)
	helping := make(chan error, 1)
	go func() {
		for q, err := range engine.QuestionChanges(ctx, 0) {
			if err == nil && q.State == fermata.QuestionOpen && (int(q.ID[15])+os.Getpid())%2 == 0 {
				err = o.reply(ctx, engine, q.ID)
			}
			if err != nil {
				helping <- err
				return
			}
		}
	}()
	err := o.serve()
	cancel()
	if helped := <-helping; !errors.Is(helped, context.Canceled) {
		err = errors.Join(err, helped)
	}
	return err
}
