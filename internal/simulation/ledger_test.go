package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/internal/simulation/model"
	"github.com/fermata-go/fermata/storage"
)

// ledger is the outside world: it outlives all processes, and remembers what the leaves did to it.
type ledger struct {
	data storage.Backend // as nobody's process sees it
	run  fermata.ID
	// pure: a leaf's result is a function of its name and input, instead of a number of its own.
	pure bool
	// lossy: results may be handed over before they are on disk.
	lossy bool

	mu         sync.Mutex
	epoch      int
	version    int
	count      int
	executions map[string][]execution // by site
	successes  map[int]bool           // numbers of executions whose success is recorded, when it was last looked
	delivered  map[string]delivery    // by site
	handed     map[string]int         // results that the code got in its last pass, by site
	answers    map[int]int            // answer that was sent to the payload of its question
	violations []string
}

// execution is one time that a leaf ran to its end.
type execution struct {
	number int // its own; also its result, if it succeeds
	life   string
	value  int
	failed bool
}

type delivery struct {
	life  string
	value int
}

func newLedger(data storage.Backend, run fermata.ID) *ledger {
	return &ledger{data: data, run: run, executions: map[string][]execution{}, delivered: map[string]delivery{}, answers: map[int]int{}}
}

// firstNumber of executions: all have nine digits.
const firstNumber = 500_000_000

// execute is the effect of a leaf.
func (l *ledger) execute(ctx context.Context, p *process, t *model.Task, at place, in, attempt int) (int, error) {
	v := p.director.decide(ctx, step{process: p, name: "effect " + at.site, effect: true})
	switch v {
	case dead, crashBefore:
		p.die()
		return 0, incarnation.ErrDead
	case late:
		return 0, context.Cause(ctx)
	}
	e := l.note(at.site, at.life, func(e *execution) {
		e.failed = attempt <= t.FailFirst || l.epoch < t.Heals
		e.value = e.number
		if l.pure {
			e.value = pureValue(t.Name, in)
		}
	})
	if v == crashAfter {
		p.die()
	}
	switch {
	case e.failed && t.Panics:
		panic(fmt.Sprintf("leaf %s (%d) panics, execution %d", t.Name, in, e.number))
	case e.failed:
		return 0, fmt.Errorf("leaf %s (%d) fails, execution %d", t.Name, in, e.number)
	}
	return e.value, nil
}

func pureValue(task string, in int) int { return model.Mix(model.MixString(task), in) }

// note enters an execution, which must not be one more of a recorded call.
func (l *ledger) note(site, life string, fill func(*execution)) execution {
	l.mu.Lock()
	e := execution{number: firstNumber + l.count, life: life}
	l.count++
	fill(&e)
	before := l.executions[site]
	l.executions[site] = append(before, e)
	l.mu.Unlock()
	for _, earlier := range before {
		if earlier.life == life && l.recorded(earlier.number) {
			l.violate("the recorded call at %s (execution %d) is executed again, as %d", site, earlier.number, e.number)
		}
	}
	return e
}

// recorded reports whether the outcome of an execution is on disk. It is found by its number.
func (l *ledger) recorded(number int) bool {
	_, records, err := l.data.Log(context.Background(), "", l.run, 0, 0)
	if err != nil {
		if !errors.Is(err, storage.ErrNotFound) {
			l.violate("read the log: %v", err)
		}
		return false
	}
	digits := []byte(strconv.Itoa(number))
	for _, r := range records {
		if bytes.Contains(r.Data, digits) {
			return true
		}
	}
	return false
}

// deliver notes that the code got a result. In one life of its scope it never gets another one.
func (l *ledger) deliver(p *process, site, life string, value int) {
	if l.lossy || p.died() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.delivered[site]
	if known && before.life == life && before.value != value {
		l.violations = append(l.violations, fmt.Sprintf("the call at %s was seen to give %d, and now gives %d", site, before.value, value))
	}
	l.delivered[site] = delivery{life, value}
}

// begin notes that the code is entered from its first line.
func (l *ledger) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handed = map[string]int{}
}

// hand notes that the code got a result, which may be unlike one that it got before.
func (l *ledger) hand(p *process, site string, value int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !p.died() {
		l.handed[site] = value
	}
}

// contradicts says what the code got in its last pass that the outcome doesn't have.
func (l *ledger) contradicts(o *model.Outcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for site, value := range l.handed {
		if want := o.Delivered[site]; !slices.Contains(want, value) {
			return fmt.Errorf("the call at %s gave %d, want one of %v", site, value, want)
		}
	}
	return nil
}

// send notes what is answered to a question, before it is.
func (l *ledger) send(answer, payload int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[answer] = payload
}

// answered notes that the code got an answer: one that was sent, and for what it shows.
func (l *ledger) answered(payload, answer int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pure {
		if want := reply(payload); answer != want {
			l.violations = append(l.violations, fmt.Sprintf("the question about %d got the answer %d, want %d", payload, answer, want))
		}
		return
	}
	if shown, sent := l.answers[answer]; !sent || shown != payload {
		l.violations = append(l.violations, fmt.Sprintf("the question about %d got the answer %d, which was sent to the one about %d", payload, answer, shown))
	}
}

func (l *ledger) violate(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violations = append(l.violations, fmt.Sprintf(format, args...))
}

// verdict is what the ledger has to complain about.
func (l *ledger) verdict() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.violations) == 0 {
		return nil
	}
	return errors.New(strings.Join(l.violations, "\n"))
}

// deployed notes that the code is another one from now on: what it calls is not
// what was called before, though it may stand at the same site.
func (l *ledger) deployed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version++
}

// life is that of the body of an entrypoint now.
func (l *ledger) life() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d.%d", l.version, l.epoch)
}

// heal mends what is broken in this epoch.
func (l *ledger) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
}

// Epoch implements [model.World].
func (l *ledger) Epoch() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// Leaf implements [model.World].
func (l *ledger) Leaf(site, task string, input, n int) (int, bool) {
	if l.pure {
		return pureValue(task, input), true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.executions[site] {
		if e.failed || !l.successes[e.number] {
			continue
		}
		if n == 0 {
			return e.value, true
		}
		n--
	}
	return 0, false
}

// read notes which successes are recorded.
func (l *ledger) read(events []event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.successes = map[int]bool{}
	for _, e := range events {
		if e.Kind == engine.TaskFinished {
			if number, err := strconv.Atoi(e.Data); err == nil {
				l.successes[number] = true
			}
		}
	}
}

// counts of executions by site.
func (l *ledger) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for site, all := range l.executions {
		counts[site] = len(all)
	}
	return counts
}
