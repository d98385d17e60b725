package simulation

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/internal/simulation/model"
)

// process is one life of the program under test: code, an engine, and its view of the database.
type process struct {
	number   int
	director director
	backend  *incarnation.Backend
	ledger   *ledger
	program  *model.Program
	settings settings

	dead   chan struct{}
	once   sync.Once
	ctx    context.Context // of the people in front of it
	cancel context.CancelFunc
	engine *fermata.Engine
	graph  *fermata.Entrypoint[int, int]
	tasks  map[string]callable
}

// settings are what a case may vary in the same program.
type settings struct {
	Durability     fermata.Durability
	MaxConcurrency int
	Verify         bool
	Lenient        bool
	// Blind hides the inputs of calls from the engine.
	Blind  bool
	Paused afterPause
	// Tick of the engines; zero is their default.
	Tick time.Duration
}

// afterPause is what code does with the error that says it is paused, or that the run stops.
type afterPause uint8

const (
	passUp afterPause = iota
	goOn
	failOtherwise
	panicInstead
)

// entrypoint is the name that all simulated workflows have.
const entrypoint = "graph"

// boot starts a process. It may die before it is up: then the error is set.
func boot(number int, d director, data *incarnation.Backend, l *ledger, p *model.Program, s settings) (*process, error) {
	out := &process{number: number, director: d, backend: data, ledger: l, program: p, settings: s, dead: make(chan struct{})}
	out.ctx, out.cancel = context.WithCancel(context.Background())
	var options []fermata.EntrypointOption
	if s.MaxConcurrency > 0 {
		options = append(options, fermata.MaxConcurrency(s.MaxConcurrency))
	}
	if s.Lenient {
		options = append(options, fermata.Lenient())
	}
	if p.Attempts > 0 {
		options = append(options, retries(p.Attempts))
	}
	options = append(options, fermata.WithDurability(s.Durability))
	out.define()
	out.graph = fermata.NewEntrypoint(entrypoint, out.body, options...)
	var err error
	out.engine, err = fermata.New(&gate{data, out}, &fermata.Options{
		Name: fmt.Sprintf("process %d", number), MaxCrashes: 1 << 20, VerifyReplay: s.Verify, Tick: s.Tick,
	}, out.graph)
	if err != nil {
		out.die()
		return nil, err
	}
	return out, nil
}

// die is the death of the process: what it was about to do is not done.
func (p *process) die() {
	p.once.Do(func() {
		close(p.dead)
		p.backend.Kill()
		p.cancel()
	})
}

func (p *process) died() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// bury waits until nothing of a dead process runs any more; a living one ends in good order.
func (p *process) bury() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := p.engine.Close(ctx)
	wasDead := p.died()
	p.die()
	if wasDead {
		return nil
	}
	return err
}

// thread is the thread with this id, as seen by the process.
func (p *process) thread(id string) *fermata.Thread[int, int] { return p.graph.On(p.engine).Thread(id) }
