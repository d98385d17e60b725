package simulation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/storage"
)

// step is something that a process is about to do to the world outside of it.
type step struct {
	process *process
	name    string // the same in every run of one case, as far as that is known
	effect  bool   // a leaf's, not a call of the database
}

// verdict is what becomes of a step.
type verdict uint8

const (
	proceed     verdict = iota
	refuse              // it isn't made, and gets an error
	loseReply           // it is made, and gets an error
	repeat              // it is made twice, as by a backend that doesn't learn of the first time; only of appends
	crashBefore         // the process dies before it
	crashAfter          // the process dies after it
	dead                // the process has died
	late                // the caller's context has ended
)

var verdictNames = [...]string{"proceed", "refuse", "lose the reply", "repeat", "crash before", "crash after", "dead", "late"}

func (v verdict) String() string { return verdictNames[v] }

// director decides on steps. It may hold one back as long as it likes, but not beyond ctx.
type director interface {
	decide(ctx context.Context, s step) verdict
	// faults is how many steps were not let through as they were.
	faults() int
}

var errFault = errors.New("simulated fault of the database")

// gate is the database as one process sees it: each call of it is a step.
type gate struct {
	*incarnation.Backend
	process *process
}

// pass makes a call if the director lets it.
func pass[T any](ctx context.Context, g *gate, name string, call func() (T, error)) (T, error) {
	var none T
	switch v := g.process.director.decide(ctx, step{process: g.process, name: name}); v {
	case refuse:
		return none, errFault
	case loseReply:
		if _, err := call(); err != nil {
			return none, err
		}
		return none, errFault
	case repeat:
		if strings.HasPrefix(name, "append") {
			_, _ = call()
		}
	case late:
		return none, ctx.Err()
	case crashBefore, dead:
		g.process.die()
		return none, incarnation.ErrDead
	case crashAfter:
		_, _ = call()
		g.process.die()
		return none, incarnation.ErrDead
	}
	return call()
}

func (g *gate) Start(ctx context.Context, s storage.Start) (storage.Started, error) {
	return pass(ctx, g, "start", func() (storage.Started, error) { return g.Backend.Start(ctx, s) })
}

func (g *gate) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	name := "append"
	for _, u := range units {
		name += fmt.Sprintf(" %d+%d", u.First, len(u.Records))
		if u.Status != 0 {
			name += " " + u.Status.String()
		}
	}
	return pass(ctx, g, name, func() ([]storage.Committed, error) { return g.Backend.Append(ctx, units) })
}

func (g *gate) Acquire(ctx context.Context, a storage.Acquire) (storage.Run, error) {
	return pass(ctx, g, "acquire", func() (storage.Run, error) { return g.Backend.Acquire(ctx, a) })
}

func (g *gate) Poll(ctx context.Context, p storage.Poll) (storage.Polled, error) {
	return pass(ctx, g, "poll", func() (storage.Polled, error) { return g.Backend.Poll(ctx, p) })
}

func (g *gate) Cancel(ctx context.Context, tenant string, run storage.ID, reason string) (storage.Run, error) {
	return pass(ctx, g, "cancel", func() (storage.Run, error) { return g.Backend.Cancel(ctx, tenant, run, reason) })
}

func (g *gate) Run(ctx context.Context, tenant string, run storage.ID) (storage.Run, error) {
	return pass(ctx, g, "run", func() (storage.Run, error) { return g.Backend.Run(ctx, tenant, run) })
}

func (g *gate) Load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	return pass(ctx, g, "load", func() (storage.Loaded, error) { return g.Backend.Load(ctx, tenant, run) })
}

func (g *gate) Log(ctx context.Context, tenant string, run storage.ID, after int64, limit int) (storage.Run, []storage.Record, error) {
	var records []storage.Record
	row, err := pass(ctx, g, "log", func() (row storage.Run, err error) {
		row, records, err = g.Backend.Log(ctx, tenant, run, after, limit)
		return row, err
	})
	return row, records, err
}

func (g *gate) Settle(ctx context.Context, s []storage.Settlement) ([]storage.Settled, error) {
	return pass(ctx, g, "settle", func() ([]storage.Settled, error) { return g.Backend.Settle(ctx, s) })
}

func (g *gate) Question(ctx context.Context, tenant string, id storage.ID) (storage.Question, error) {
	return pass(ctx, g, "question", func() (storage.Question, error) { return g.Backend.Question(ctx, tenant, id) })
}

func (g *gate) ListQuestions(ctx context.Context, f storage.QuestionFilter) ([]storage.Question, error) {
	return pass(ctx, g, "list questions", func() ([]storage.Question, error) { return g.Backend.ListQuestions(ctx, f) })
}

func (g *gate) Head(ctx context.Context, tenant, thread string) (storage.Head, error) {
	return pass(ctx, g, "head", func() (storage.Head, error) { return g.Backend.Head(ctx, tenant, thread) })
}

func (g *gate) Join(ctx context.Context, name string) (storage.Membership, error) {
	return pass(ctx, g, "join", func() (storage.Membership, error) {
		m, err := g.Backend.Join(ctx, name)
		if err == nil {
			g.process.joined(m.ID())
		}
		return m, err
	})
}

func (g *gate) Now(ctx context.Context) (time.Time, error) {
	return pass(ctx, g, "now", func() (time.Time, error) { return g.Backend.Now(ctx) })
}
