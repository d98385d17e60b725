package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/incarnation"
	"github.com/fermata-go/fermata/internal/simulation/model"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

// player is a person before one thread: it starts a run, answers what is asked, continues
// what failed, turns to a new process when one has died, and compares all that it sees with the model.
type player struct {
	open      func() *incarnation.Backend
	director  director
	ledger    *ledger
	program   *model.Program
	next      *model.Program // replaces program when the process dies before the run is over; nil: none
	settings  settings
	answers   []byte // tell what is answered to what, and when
	input     int
	run       fermata.ID
	reader    *reader
	process   *interpreter
	processes int
	sent      int // answers
	trouble   int // verbs that got an error
	continued int
	skip      bool // the next pass doesn't enter what only waits
	// beliefs are the states that the run may be in. There are several if the reply to a verb was lost.
	beliefs []*belief
	outcome *model.Outcome // of the last pass; none since the last deploy: an empty one
	touched bool           // calls were claimed, or attempts begun, since the last deploy
}

// belief is a state that the run may be in.
type belief struct {
	run      *model.Run
	executed map[string]int
}

func (b *belief) clone() *belief {
	return &belief{b.run.Clone(), maps.Clone(b.executed)}
}

// results is the number of results that the run has recorded.
func (b *belief) results() int {
	n := 0
	for _, times := range b.run.Results() {
		n += times
	}
	return n
}

// maxContinues is how often a failed run is continued.
const maxContinues = 3

// database is the one database of a world.
type database struct {
	// open opens it for one process.
	open func() *incarnation.Backend
	// data is it as nobody's process sees it.
	data storage.Backend
}

// inMemory is a fresh database in memory.
func inMemory() database {
	data := memory.New(nil)
	return database{open: func() *incarnation.Backend { return incarnation.New(data, false) }, data: data}
}

func newPlayer(b database, d director, p *model.Program, s settings, answers []byte) (*player, error) {
	data := incarnation.New(b.data, false)
	run := storage.NewID(time.Now())
	l := newLedger(data, run)
	l.lossy = s.Durability != fermata.Sync
	r, err := newReader(data, run)
	if err != nil {
		return nil, err
	}
	return &player{
		open: b.open, director: d, ledger: l, program: p, settings: s, answers: answers, input: 1, run: run, reader: r,
		beliefs: []*belief{{model.NewRun(1), map[string]int{}}},
	}, nil
}

// end closes everything.
func (p *player) end() error {
	var err error
	if p.process != nil {
		err = p.process.bury()
	}
	return errors.Join(err, p.reader.end())
}

// alive makes sure that there is a living process.
func (p *player) alive() error {
	for p.process == nil || p.process.died() {
		if p.process != nil {
			if err := p.process.bury(); err != nil {
				return err
			}
			p.process = nil
			if p.next != nil && !p.reader.over() {
				p.program, p.next = p.next, nil
				p.ledger.deployed()
			}
		}
		if p.processes++; p.processes > 100 {
			return errors.New("no process stays up")
		}
		born, err := interpret(p.processes, p.director, p.open(), p.ledger, p.program, p.settings)
		if err != nil {
			if born == nil && !transient(err) {
				return fmt.Errorf("new engine: %w", err)
			}
			p.trouble++
			continue
		}
		p.process = born
	}
	return nil
}

// transient errors are those after which one tries again.
func transient(err error) bool {
	return errors.Is(err, fermata.ErrStorage) || errors.Is(err, fermata.ErrClosed) ||
		errors.Is(err, fermata.ErrLost) || errors.Is(err, fermata.ErrDraining) ||
		errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrClosed)
}

// patience is how long a run may take to come to rest, in the time of the bubble.
const patience = 3 * time.Minute

// rest starts the run, or finds it, and waits until it rests.
func (p *player) rest() (int, error) {
	for range 200 {
		if err := p.alive(); err != nil {
			return 0, err
		}
		ctx, cancel := context.WithTimeout(p.process.ctx, patience)
		run, err := p.process.thread(p.run.String()).Start(ctx, p.input, fermata.WithRunID(p.run))
		value := 0
		if err == nil {
			value, err = run.Result(ctx)
		}
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return 0, errors.New("the run does not come to rest")
		}
		if err == nil || !transient(err) {
			return value, err
		}
		p.trouble++
	}
	return 0, errors.New("a run that gets nothing but trouble")
}

// enough is how often a run is looked at. Some generated programs ask for hours.
const enough = 25

// play plays to the end, or until it has seen enough. The error is a violation.
func (p *player) play() error {
	for range enough {
		value, err := p.rest()
		over, err := p.look(value, err)
		if err != nil || over {
			return errors.Join(err, p.ledger.verdict())
		}
	}
	return p.ledger.verdict()
}

// look compares a run that rests with the model, and does what is to be done next. It reports whether that is nothing.
func (p *player) look(value int, result error) (over bool, err error) {
	if err := p.compare(value, result); err != nil {
		return false, err
	}
	var (
		paused *fermata.PausedError
		failed *fermata.RunError
	)
	switch {
	case errors.As(result, &paused):
		return false, p.answer(paused.Questions)
	case errors.As(result, &failed):
		return p.goOn()
	}
	return true, nil
}

// compare drops the beliefs that what is seen contradicts; at least one must remain.
func (p *player) compare(value int, result error) error {
	if err := p.reader.read(); err != nil {
		return err
	}
	p.ledger.read(p.reader.seen)
	var kept []*belief
	var reasons error
	for _, b := range p.beliefs {
		outcome := b.run.Pass(p.program, entrypoint, p.ledger, p.skip)
		for site, n := range outcome.Executed {
			b.executed[site] += n
		}
		if err := p.contradiction(b, outcome, value, result); err != nil {
			reasons = errors.Join(reasons, err)
			continue
		}
		kept = append(kept, b)
		p.outcome = outcome
		p.touched = p.touched || outcome.Claims > 0
	}
	if len(kept) == 0 {
		return reasons
	}
	p.beliefs = kept[:1]
	if err := p.ledger.verdict(); err != nil {
		return err
	}
	return p.reader.row()
}

// contradiction says how what is seen differs from what the model says.
func (p *player) contradiction(b *belief, outcome *model.Outcome, value int, result error) error {
	if err := contradicts(outcome, b.run.Questions(), value, result); err != nil {
		return err
	}
	counts := p.ledger.counts()
	if outcome.Status == model.Parked {
		// An engine stops at the first divergence, the model looks at all that may have been called before.
		for site, got := range counts {
			if got > b.executed[site] && !p.ledger.lossy {
				return fmt.Errorf("the leaf at %s was executed %d times though the run diverged before, want at most %d", site, got, b.executed[site])
			}
		}
		return nil
	}
	if len(outcome.Unknown) > 0 {
		return fmt.Errorf("leaves were not executed: %v", outcome.Unknown)
	}
	for site, want := range b.executed {
		if counts[site] < want {
			return fmt.Errorf("the leaf at %s was executed %d times, want %d", site, counts[site], want)
		}
	}
	for site, got := range counts {
		// Each death and each fault may cost the execution that was under way.
		if want, faults := b.executed[site], p.director.faults(); got > want+faults && !p.ledger.lossy {
			return fmt.Errorf("the leaf at %s was executed %d times, want %d (and there were %d faults)", site, got, want, faults)
		}
	}
	return p.reader.check(b.run)
}

// contradicts compares how a run rests with the outcome of the model's pass, after which these questions are open.
func contradicts(outcome *model.Outcome, open []*model.Question, value int, result error) error {
	var (
		paused *fermata.PausedError
		failed *fermata.RunError
	)
	want := outcome.Status
	switch {
	case result == nil:
		if want != model.Finished || value != outcome.Value {
			return fmt.Errorf("finished with %d, want %s with %d", value, want, outcome.Value)
		}
	case errors.As(result, &paused):
		if want != model.Paused {
			return fmt.Errorf("paused, want %s: %w", want, result)
		}
		return questions(outcome.Open, open, paused.Questions)
	case errors.As(result, &failed):
		if want != model.Failed {
			return fmt.Errorf("failed, want %s with %d: %w", want, outcome.Value, result)
		}
		got, tasks := tasksOf(result), outcome.Failure.Tasks
		if fmt.Sprint(got) != fmt.Sprint(tasks) || failed.Panic != outcome.Failure.Panic {
			return fmt.Errorf("failed through %v (panic %t), want %v (panic %t): %w", got, failed.Panic, tasks, outcome.Failure.Panic, result)
		}
	case errors.Is(result, fermata.ErrParked):
		if want != model.Parked {
			return fmt.Errorf("parked, want %s with %d: %w", want, outcome.Value, result)
		}
		return divergence(outcome.Divergences, result)
	default:
		return fmt.Errorf("want %s: %w", want, result)
	}
	return nil
}

// divergence looks for what the engine reports among what the model found.
func divergence(want []model.Divergence, result error) error {
	var got *fermata.DivergenceError
	if !errors.As(result, &got) {
		return fmt.Errorf("parked without a divergence: %w", result)
	}
	d := model.Divergence{
		Path: got.Path, Position: got.Position, Key: got.Key,
	}
	if got.Recorded != nil {
		d.Recorded = model.Callee{Kind: got.Recorded.Kind, Name: got.Recorded.Name}
	}
	if got.Current != nil {
		d.Current = model.Callee{Kind: got.Current.Kind, Name: got.Current.Name}
	}
	switch {
	case !slices.Contains(want, d):
		return fmt.Errorf("parked by %+v, want one of %+v: %w", d, want, result)
	case got.Recorded == nil || got.Recorded.Site == "" || got.Current != nil && got.Current.Site == "":
		return fmt.Errorf("a divergence without call sites: %w", result)
	}
	return nil
}

// deploy replaces the process by one with other code.
func (p *player) deploy(program *model.Program) {
	p.program, p.touched = program, false
	p.outcome = &model.Outcome{} // this code may not come to the questions that the last one waited for
	p.ledger.deployed()
	p.process.die()
}

// untouched reports whether nothing was recorded of the run by the code deployed last, before which it was as believed.
func (p *player) untouched(before *belief) bool {
	if p.touched {
		return false
	}
	for site, n := range p.ledger.counts() {
		if n != before.executed[site] {
			return false
		}
	}
	return p.reader.results() == before.results()
}

// questions compares what is asked, and binds the model's questions to their ids. Those that the
// code came to are first, in call order; after them come open ones that changed code has not come to.
func questions(want, open []*model.Question, got []fermata.Question) error {
	if len(got) != len(open) {
		return fmt.Errorf("%d questions are open, want %d", len(got), len(open))
	}
	for _, q := range got[len(want):] {
		if !slices.ContainsFunc(open, func(w *model.Question) bool { return w.ID == q.ID.String() }) {
			return fmt.Errorf("question %s at %s is open, and should not be", q.Payload, q.Path)
		}
	}
	got = got[:len(want)]
	for i, q := range got {
		w := want[i]
		if string(q.Payload) != fmt.Sprint(w.Payload) || q.Path != w.Path {
			return fmt.Errorf("question %d is %s at %s, want %d at %s", i, q.Payload, q.Path, w.Payload, w.Path)
		}
		if w.ID != "" && w.ID != q.ID.String() {
			return fmt.Errorf("question %d (%s at %s) has got another id", i, q.Payload, q.Path)
		}
	}
	for i, q := range got {
		want[i].ID = q.ID.String()
	}
	return nil
}

// decide takes the next byte of the answers.
func (p *player) decide() int {
	if len(p.answers) == 0 {
		return 0
	}
	b := p.answers[0]
	p.answers = p.answers[1:]
	return int(b)
}

// answer answers some of the open questions, at once or with a look between.
func (p *player) answer(open []fermata.Question) error {
	for len(open) > 0 {
		d := p.decide()
		i := d % len(open)
		if err := p.answerOne(open[i], d); err != nil {
			return err
		}
		open = append(open[:i:i], open[i+1:]...)
		if d/16%2 == 0 {
			return nil
		}
	}
	return nil
}

func (p *player) answerOne(q fermata.Question, d int) error {
	payload := 0
	if err := q.Decode(&payload); err != nil {
		return err
	}
	p.sent++
	value := 3*p.sent + d%3
	p.ledger.send(value, payload)
	for range 200 {
		if err := p.alive(); err != nil {
			return err
		}
		if d/32%4 == 3 {
			if _, err := p.process.engine.Answer(p.process.ctx, q.ID, "no number"); !errors.Is(err, fermata.ErrInvalidAnswer) && !errors.Is(err, fermata.ErrAlreadyAnswered) && !transient(err) {
				return fmt.Errorf("answer of the wrong type: %w", err)
			}
		}
		_, err := p.process.engine.Answer(p.process.ctx, q.ID, value, fermata.IdempotencyKey(fmt.Sprint("answer ", p.sent)))
		if err != nil && transient(err) {
			p.trouble++
			continue
		}
		if errors.Is(err, fermata.ErrWithdrawn) && !p.awaited(q.ID.String()) {
			return nil // the run has ended since without it
		}
		if err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		if d/32%4 == 2 {
			if _, err := p.process.engine.Answer(p.process.ctx, q.ID, value+1); !errors.Is(err, fermata.ErrAlreadyAnswered) && !transient(err) {
				return fmt.Errorf("second answer: %w", err)
			}
		}
		p.mark(q.ID.String(), value)
		return nil
	}
	return errors.New("an answer that gets nothing but trouble")
}

// awaited reports whether the code has come to the question.
func (p *player) awaited(id string) bool {
	return slices.ContainsFunc(p.outcome.Open, func(q *model.Question) bool { return q.ID == id })
}

// mark enters an answer in the model.
func (p *player) mark(id string, value int) {
	for _, b := range p.beliefs {
		for _, q := range b.run.Questions() {
			if q.ID == id {
				q.Answered, q.Answer = true, value
			}
		}
	}
}

// goOn continues a failed run after what was broken has been mended.
func (p *player) goOn() (over bool, err error) {
	if p.continued++; p.continued > maxContinues {
		return true, nil
	}
	if err := p.alive(); err != nil {
		return false, err
	}
	p.ledger.heal()
	p.touched = true
	_, err = p.process.thread(p.run.String()).Continue(p.process.ctx)
	before := p.beliefs[0]
	after := before.clone()
	possible := after.run.Continue()
	switch {
	case err == nil && possible:
		p.beliefs = []*belief{after}
	case errors.Is(err, fermata.ErrNothingToRetry) && !possible:
		return true, nil
	case err != nil && transient(err):
		// Nobody knows whether the new attempt was recorded.
		p.trouble++
		p.beliefs = []*belief{before}
		if possible {
			p.beliefs = append(p.beliefs, after)
		}
	default:
		return false, fmt.Errorf("continue, which is possible: %t: %w", possible, err)
	}
	return false, nil
}
