package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Durability says when a run's records are on disk; LangGraph's modes have the same names.
type Durability uint8

// The modes of durability.
const (
	// Sync: before the code that asked for a result sees it.
	Sync Durability = iota
	// Async: soon, in order, while the run goes on; at most asyncRecords are
	// behind. All are on disk before the run's end or pause is known.
	Async
	// Exit: with the run's end or pause.
	Exit
)

// asyncRecords bounds what may be lost of a run under [Async].
const asyncRecords = 1024

// journal writes one run's records, in units that hold whatever has gathered.
type journal struct {
	backend    storage.Backend
	durability Durability
	dry        bool // nothing is written: the pass only checks
	tenant     string
	run        storage.ID
	token      int64

	mu       sync.Mutex
	sites    sites
	next     int64 // sequence of the next record
	sent     int64 // records up to here are in units that were sent
	filling  *batch
	flushing bool
	idle     sync.Cond // flushing became false
	broken   error     // nothing can be written any more
	written  func()    // called after each commit; may be nil
	// committing is called before each commit, and its result after it; may be nil.
	committing func(*storage.Unit) func(storage.Committed, error)
}

// batch is the unit being gathered.
type batch struct {
	records   [][]byte
	questions []storage.Question
	closing   []storage.ID
	verdicts  map[storage.ID]int    // of questions with a unique key: the index of the recordRefusal that says whether it was free
	refused   map[storage.ID]record // questions of this batch that were not asked
	awaited   bool                  // somebody waits for it while another batch is written
	done      chan struct{}
	err       error
}

func newJournal(b storage.Backend, d Durability, run *storage.Run, h *history) *journal {
	j := &journal{
		backend: b, durability: d, tenant: run.Tenant, run: run.ID, token: run.Token,
		sites: h.sites, next: h.last + 1, sent: h.last,
	}
	j.idle.L = &j.mu
	j.filling = &batch{done: make(chan struct{})}
	return j
}

// add puts a record into the batch being gathered and returns its sequence. Nothing is written yet.
func (j *journal) add(r record) (int64, *batch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.addLocked(r)
}

func (j *journal) addLocked(r record) (int64, *batch) {
	seq := j.next
	j.next++
	if j.dry {
		return seq, j.filling
	}
	j.filling.records = append(j.filling.records, r.encode(&j.sites))
	return seq, j.filling
}

// ask adds records, each with the question that it asks, to one unit. The questions get the records' sequences. Of one
// with a unique key, a second record says whether the key was free; it is known when the batch is written.
func (j *journal) ask(records []record, questions []*storage.Question) *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.filling
	for i, r := range records {
		q := questions[i]
		q.Seq, _ = j.addLocked(r)
		if !j.dry {
			b.questions = append(b.questions, *q)
		}
		if q.Unique != "" && !j.dry {
			if b.verdicts == nil {
				b.verdicts = map[storage.ID]int{}
			}
			b.verdicts[q.ID] = len(b.records)
			j.addLocked(record{kind: recordRefusal, claim: r.claimed(q.Seq)})
		}
	}
	return b
}

// claimed is the claim that a record asks for, given the record's own sequence.
func (r *record) claimed(seq int64) int64 {
	if r.kind == recordAsk {
		return r.claim
	}
	return seq
}

// refuse takes the question out of a batch that the backend refused because
// its unique key is held by another, and records that. It reports whether it found one.
func (j *journal) refuse(b *batch, held *storage.UniqueError) bool {
	for i := len(b.questions) - 1; i >= 0; i-- {
		q := &b.questions[i]
		if q.Unique != held.Key || q.ID == held.Question {
			continue
		}
		if holder, err := j.backend.Question(context.Background(), j.tenant, held.Question); err == nil && holder.Name != q.Name {
			continue // the same key of another kind of question
		}
		at := b.verdicts[q.ID]
		verdict, err := decodeRecord(b.records[at], nil)
		if err != nil {
			return false
		}
		verdict.name, verdict.data = refusedUnique, []byte(held.Question.String())
		b.records[at] = verdict.encode(nil)
		if b.refused == nil {
			b.refused = map[storage.ID]record{}
		}
		b.refused[q.ID] = verdict
		b.questions = append(b.questions[:i:i], b.questions[i+1:]...)
		return true
	}
	return false
}

// addAll puts records into the batch being gathered, with questions to withdraw.
func (j *journal) addAll(records []record, closing []storage.ID) *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range records {
		j.addLocked(r)
	}
	j.filling.closing = append(j.filling.closing, closing...)
	return j.filling
}

// current is the batch being gathered.
func (j *journal) current() *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.filling
}

// settle returns when b is as durable as the mode promises.
func (j *journal) settle(b *batch) error {
	switch j.durability {
	case Exit:
		return j.fault()
	case Async:
		j.mu.Lock()
		behind := j.next - 1 - j.sent
		if !j.flushing && j.broken == nil {
			j.flushing = true
			go j.lead()
		}
		err := j.broken
		j.mu.Unlock()
		if err != nil || behind < asyncRecords {
			return err
		}
	}
	return j.write(b)
}

func (j *journal) fault() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken
}

// write returns when b is on disk.
func (j *journal) write(b *batch) error {
	j.mu.Lock()
	switch {
	case len(b.records) == 0: // nothing gathered
		j.mu.Unlock()
		return j.fault()
	case b != j.filling: // someone else has taken it
	case j.flushing:
		b.awaited = true
	default:
		// Nobody writes: this goroutine does, and leaves what gathers meanwhile to another.
		j.flushing = true
		taken := j.takeLocked()
		j.mu.Unlock()
		j.commit(taken, nil)
		j.mu.Lock()
		if j.filling.awaited {
			go j.lead()
		} else {
			j.restLocked()
		}
	}
	j.mu.Unlock()
	<-b.done
	return b.err
}

// flush begins to write what has gathered.
func (j *journal) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.filling.records) == 0 {
		return
	}
	j.filling.awaited = true
	if !j.flushing {
		j.flushing = true
		go j.lead()
	}
}

// lead writes batches until there is none that somebody waits for.
func (j *journal) lead() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.filling.records) > 0 && (j.filling.awaited || j.durability == Async) {
		taken := j.takeLocked()
		j.mu.Unlock()
		j.commit(taken, nil)
		j.mu.Lock()
	}
	j.restLocked()
}

func (j *journal) restLocked() {
	j.flushing = false
	j.idle.Broadcast()
}

func (j *journal) takeLocked() *batch {
	taken := j.filling
	j.filling = &batch{done: make(chan struct{})}
	if j.broken != nil {
		taken.err = j.broken
	}
	return taken
}

// end writes what has gathered together with the run's change of state, which
// finish fills into the unit. It waits for writes under way.
func (j *journal) end(last *record, finish func(*storage.Unit)) (storage.Committed, error) {
	j.mu.Lock()
	for j.flushing {
		j.idle.Wait()
	}
	j.flushing = true
	if last != nil {
		j.addLocked(*last)
	}
	taken := j.takeLocked()
	j.mu.Unlock()
	var committed storage.Committed
	if len(taken.records) > 0 {
		committed = j.commit(taken, finish)
	}
	j.mu.Lock()
	j.restLocked()
	j.mu.Unlock()
	return committed, taken.err
}

// became is what a unit that is committed already came to; last says that it was to bring the run to rest.
func (j *journal) became(last bool) (storage.Committed, error) {
	if !last {
		return storage.Committed{}, nil
	}
	run, err := j.backend.Run(context.Background(), j.tenant, j.run)
	return storage.Committed{At: run.Updated, Inbox: run.Inbox, Kept: run.Status == storage.Running && run.Token == j.token}, err
}

// commit sends one unit and wakes those who wait for it. Only one commit of a
// journal is under way at a time, so the sequence of units is that of batches.
//
// Crash window: before the backend's commit nothing of the unit exists, its
// claims were never made and its tasks run again; after it all of it does.
func (j *journal) commit(b *batch, finish func(*storage.Unit)) storage.Committed {
	defer func() {
		if j.written != nil {
			j.written()
		}
		close(b.done)
	}()
	if b.err != nil {
		return storage.Committed{}
	}
	unit := storage.Unit{
		Tenant: j.tenant, Run: j.run, Token: j.token, First: j.sent + 1,
		Records: b.records, Questions: b.questions, Close: b.closing, CloseState: storage.Withdrawn,
	}
	if finish != nil {
		finish(&unit)
	}
	var committed storage.Committed
	if j.committing != nil {
		end := j.committing(&unit)
		defer func() { end(committed, b.err) }()
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		results, err := j.backend.Append(context.Background(), []storage.Unit{unit})
		if err == nil {
			committed = results[0]
			err = committed.Err
		}
		if errors.Is(err, storage.ErrLocked) {
			time.Sleep(pause)
			continue
		}
		if held := (*storage.UniqueError)(nil); errors.As(err, &held) && j.refuse(b, held) {
			unit.Records, unit.Questions = b.records, b.questions
			continue
		}
		if errors.Is(err, storage.ErrDuplicate) { // the reply to an earlier try was lost
			committed, err = j.became(finish != nil)
		}
		b.err = err
		break
	}
	j.mu.Lock()
	if b.err != nil {
		j.broken = b.err
	} else {
		j.sent += int64(len(b.records))
	}
	j.mu.Unlock()
	return committed
}
