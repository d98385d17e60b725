package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// solo is a run of a workflow that is written in Go, for what the programs don't have. Its processes die, new
// ones come, and what it asks is answered at once.
type solo struct {
	director *scheduler
	data     *memory.Backend
	run      fermata.ID
	code     func(z *solo) *fermata.Entrypoint[int, int] // of one process
	process  *process
	lives    int
	effects  []effect // of all lives
}

// effect is a thing that a task did to the outside.
type effect struct {
	number int
	at     time.Time
}

func newSolo(d *scheduler, code func(z *solo) *fermata.Entrypoint[int, int]) *solo {
	return &solo{director: d, data: memory.New(nil), run: storage.NewID(time.Now()), code: code}
}

// effect is the function of a task.
func (z *solo) effect(ctx context.Context, n int) (int, error) {
	p := z.process
	v := z.director.decide(ctx, step{process: p, name: fmt.Sprint("effect ", n), effect: true})
	switch v {
	case dead, crashBefore:
		p.die()
		return 0, incarnation.ErrDead
	case late:
		return 0, context.Cause(ctx)
	}
	z.effects = append(z.effects, effect{n, time.Now()})
	if v == crashAfter {
		p.die()
	}
	return n, nil
}

// play lets processes come until one has the result. look, if not nil, sees each pause.
func (z *solo) play(look func([]fermata.Question) error) (int, error) {
	for z.lives < 20 {
		z.lives++
		var graph *fermata.Entrypoint[int, int]
		options := fermata.Options{Tick: 30 * time.Second}
		p, err := boot(z.lives, z.director, incarnation.New(z.data, false), options, func(self *process) []fermata.Definition {
			z.process = self
			graph = z.code(z)
			return []fermata.Definition{graph}
		})
		if err != nil {
			if !transient(err) {
				return 0, err
			}
			continue
		}
		for !p.died() {
			value, err := z.rest(graph)
			var paused *fermata.PausedError
			if errors.As(err, &paused) {
				if err = z.answer(paused.Questions, look); err == nil {
					continue
				}
			}
			if err == nil || !transient(err) {
				return value, errors.Join(err, p.bury())
			}
		}
		if err := p.bury(); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("no process stays up")
}

// rest starts the run, or finds it, and waits until it rests.
func (z *solo) rest(graph *fermata.Entrypoint[int, int]) (int, error) {
	ctx, cancel := context.WithTimeout(z.process.ctx, 24*time.Hour)
	defer cancel()
	run, err := graph.On(z.process.engine).Thread("1").Start(ctx, 1, fermata.WithRunID(z.run))
	if err != nil {
		return 0, err
	}
	return run.Result(ctx)
}

// answer answers the last of the questions.
func (z *solo) answer(open []fermata.Question, look func([]fermata.Question) error) error {
	if look != nil {
		if err := look(open); err != nil {
			return err
		}
	}
	q, payload := open[len(open)-1], 0
	if err := q.Decode(&payload); err != nil {
		return err
	}
	_, err := z.process.engine.Answer(z.process.ctx, q.ID, reply(payload))
	if errors.Is(err, fermata.ErrAlreadyAnswered) {
		return nil // the reply to it was lost
	}
	return err
}

// end closes the world and adds what is wrong in it to err.
func (z *solo) end(err error) error {
	open, fault := z.data.ListQuestions(context.Background(), storage.QuestionFilter{Run: z.run, Limit: 1 << 20})
	for _, q := range open {
		if err == nil && q.State == storage.Open {
			err = fmt.Errorf("question %s is open though the run has ended", q.Payload)
		}
	}
	return errors.Join(err, fault, z.data.Close())
}
