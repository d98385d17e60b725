package simulation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/storage"
)

// process is one life of the program under test: code, an engine, and its view of the database.
type process struct {
	number   int
	director director
	backend  *incarnation.Backend
	engine   *fermata.Engine

	dead   chan struct{}
	once   sync.Once
	ctx    context.Context // of the people in front of it
	cancel context.CancelFunc

	mu      sync.Mutex
	members []storage.ID // that it was to the database
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

// boot starts a process that runs these entrypoints. It may die before it is up: then the error is set.
func boot(number int, d director, data *incarnation.Backend, options fermata.Options, code func(*process) []fermata.Definition) (*process, error) {
	p := &process{number: number, director: d, backend: data, dead: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	options.Name = fmt.Sprintf("process %d", number)
	options.MaxCrashes = 1 << 20
	var err error
	if p.engine, err = fermata.New(&gate{data, p}, &options, code(p)...); err != nil {
		p.die()
		return nil, err
	}
	return p, nil
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

// joined notes who the process is to the database.
func (p *process) joined(member storage.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = append(p.members, member)
}

// owns reports whether the owner of a run is the process.
func (p *process) owns(owner storage.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.members, owner)
}
