package fermatatest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// Options of a Harness. Nil, and zero fields, mean the defaults.
type Options struct {
	_ [0]func()
	// Engine are the options of each process' engine. Its VerifyReplay is on whatever is said here: a workflow that
	// isn't deterministic is parked in its test; see Unverified.
	Engine fermata.Options
	// Unverified turns VerifyReplay off, for code outside tasks that must not run more often than it would.
	Unverified bool
	// Backend opens the database: once for each process, the same data each time. The harness closes what
	// it returns. offset is for the backend's option of that name: it moves with [Harness.Advance].
	// Default: a fresh database in memory.
	Backend func(offset func() time.Duration) (storage.Backend, error)
	// Patience is how long the runs may take to come to rest before the test
	// fails. It is never waited out by a test that passes. Default: 30 s.
	Patience time.Duration
}

// TB is what a Harness needs of the test: a *[testing.T] has it, and a *[testing.B].
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Harness is a database and the process that works on it. Make one with [New].
type Harness struct {
	t       TB
	options Options
	offset  atomic.Int64
	data    *memory.Backend // nil with Options.Backend
	dying   sync.WaitGroup  // engines of crashed processes
	scripts []script

	starting    sync.RWMutex // held while a process starts: its runs may begin before it is known
	mu          sync.Mutex
	definitions []fermata.Definition
	process     *process
	tenants     map[string]bool // that had runs
	news        chan struct{}   // something changed in the database
}

// process is one life of the program under test.
type process struct {
	backend *incarnation.Backend
	engine  *fermata.Engine
	kill    context.CancelFunc
	knows   map[string]bool // entrypoints
}

// New starts a process with these entrypoints on a database. It ends with the test.
func New(t TB, options *Options, entrypoints ...fermata.Definition) *Harness {
	t.Helper()
	h := &Harness{t: t, definitions: entrypoints, tenants: map[string]bool{"": true}, news: make(chan struct{}, 1)}
	if options != nil {
		h.options = *options
	}
	if h.options.Patience <= 0 {
		h.options.Patience = 30 * time.Second
	}
	if h.options.Backend == nil {
		h.data = memory.New(&memory.Options{Offset: h.elapsed})
	}
	t.Cleanup(h.end)
	h.start()
	return h
}

// Engine is the engine of the present process, or of the one that crashed last.
func (h *Harness) Engine() *fermata.Engine { return h.now().engine }

// Backend is the database as the present process sees it: when that dies, it does.
func (h *Harness) Backend() storage.Backend { return h.now().backend }

func (h *Harness) now() *process {
	h.starting.RLock()
	defer h.starting.RUnlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.process
}

func (h *Harness) elapsed() time.Duration { return time.Duration(h.offset.Load()) }

// start begins a process.
func (h *Harness) start() {
	h.t.Helper()
	h.starting.Lock()
	defer h.starting.Unlock()
	p := &process{knows: map[string]bool{}}
	if h.data != nil {
		p.backend = incarnation.New(h.data, false)
	} else {
		b, err := h.options.Backend(h.elapsed)
		if err != nil {
			h.t.Fatalf("fermatatest: open the database: %v", err)
		}
		p.backend = incarnation.New(b, true)
	}
	p.backend.Watch(h.note)
	o := h.options.Engine
	o.VerifyReplay = !h.options.Unverified
	if o.Context == nil {
		o.Context = context.Background()
	}
	o.Context, p.kill = context.WithCancel(o.Context)
	var err error
	if p.engine, err = fermata.New(&listening{p.backend, h}, &o, h.definitions...); err != nil {
		p.kill()
		p.backend.Kill()
		h.t.Fatalf("fermatatest: start the process: %v", err)
	}
	for _, d := range h.definitions {
		p.knows[d.Name()] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.process = p
}

// Crash kills the process where it stands. Nothing is written by it from now on: a
// call of the database that is under way is made or not, and its reply is lost. What the process owned is left as the kernel
// leaves it. Running tasks are no more than goroutines with a cancelled context, and must return on that.
// It may be called anywhere, also in a task. The data stays for [Harness.Restart].
func (h *Harness) Crash() {
	p := h.now()
	killed := make(chan struct{})
	h.dying.Go(func() { // before anybody can see that it is dead, and end the test
		<-killed
		stopped, stop := context.WithCancel(context.Background())
		stop()
		_ = p.engine.Close(stopped) // there is nobody to be told, and nothing to be written
	})
	p.backend.Kill()
	p.kill()
	close(killed)
}

// Restart begins a new process on the same data. One that still lives ends first, in good order: see [fermata.Engine.Close].
func (h *Harness) Restart() {
	h.t.Helper()
	h.RestartWith(h.definitions...)
}

// RestartWith is [Harness.Restart] as a deploy: the new process has these entrypoints.
func (h *Harness) RestartWith(entrypoints ...fermata.Definition) {
	h.t.Helper()
	if p := h.now(); !p.backend.Dead() {
		ctx, cancel := context.WithTimeout(h.t.Context(), h.options.Patience)
		defer cancel()
		if err := p.engine.Close(ctx); err != nil {
			h.t.Fatalf("fermatatest: end the process: %v", err)
		}
		p.kill()
		if err := p.backend.Close(); err != nil {
			h.t.Fatalf("fermatatest: end the process: %v", err)
		}
	}
	h.definitions = entrypoints
	h.start()
}

// end is the end of the test.
func (h *Harness) end() {
	if p := h.now(); p != nil && !p.backend.Dead() {
		stopped, stop := context.WithCancel(context.Background())
		stop()
		p.kill()
		h.dying.Go(func() {
			if err := p.engine.Close(stopped); err != nil && !errors.Is(err, context.Canceled) {
				h.t.Errorf("fermatatest: end the process: %v", err)
			}
			if err := p.backend.Close(); err != nil {
				h.t.Errorf("fermatatest: end the process: %v", err)
			}
		})
	}
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		h.dying.Wait()
		if h.data != nil {
			h.data.Close()
		}
	}()
	patience := time.NewTimer(h.options.Patience)
	defer patience.Stop()
	select {
	case <-dead:
	case <-patience.C:
		h.t.Errorf("fermatatest: a task still runs %s after its context was cancelled", h.options.Patience)
	}
}

// listening tells the harness of a run's tenant before the run is there: notes of it may come later.
type listening struct {
	storage.Backend
	h *Harness
}

func (l *listening) Start(ctx context.Context, s storage.Start) (storage.Started, error) {
	l.h.mu.Lock()
	l.h.tenants[s.Run.Tenant] = true
	l.h.mu.Unlock()
	return l.Backend.Start(ctx, s)
}
