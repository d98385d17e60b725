package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Settle implements [storage.Questions]. A Member that is dead doesn't get the run; it is queued.
func (b *Backend) Settle(ctx context.Context, settlements []storage.Settlement) ([]storage.Settled, error) {
	if len(settlements) == 0 {
		return nil, b.usable(ctx, "settle")
	}
	own := append([]storage.Settlement(nil), settlements...) // a caller that gives up may use its slice again
	results := make([]storage.Settled, len(own))
	w := &work{ops: make([]*op, 0, len(own))}
	places := make([]int, 0, len(own))
	for i := range own {
		s := &own[i]
		if err := checkSettlement(s); err != nil {
			results[i].Err = fmt.Errorf("postgres: settle question %s: %w", s.Question, err)
			continue
		}
		w.ops = append(w.ops, &op{settlement: s, attempt: newAttempt()})
		places = append(places, i)
	}
	if len(w.ops) == 0 {
		return results, b.usable(ctx, "settle")
	}
	if err := b.commit(ctx, "settle", hashID(own[0].Question), w); err != nil {
		return nil, err
	}
	for i, o := range w.ops {
		results[places[i]] = o.settleOutcome()
	}
	return results, nil
}

func checkSettlement(s *storage.Settlement) error {
	for _, text := range append([]string{s.Tenant, s.Key, s.By.Kind, s.By.Subject, s.By.Method, s.By.OnBehalfOf}, s.By.Groups...) {
		if err := checkText("settlement", text); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) settleCall(ops []*op) *call {
	c := b.call(`SELECT o_settlement, o_code, o_repeated, o_question, o_schema, o_run FROM SCHEMA.settle_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`)
	c.hot = true
	c.int8(b.offset())
	c.text(b.instance)
	idColumn(c, ops, func(o *op) storage.ID { return o.settlement.Question })
	textColumn(c, ops, func(o *op) string { return o.settlement.Tenant })
	int2Column(c, ops, func(o *op) int { return int(o.settlement.State) })
	bytesColumn(c, ops, func(o *op) []byte { return o.settlement.Answer })
	textColumn(c, ops, func(o *op) string { return principalText(&o.settlement.By) })
	optionalColumn(c, ops, func(o *op) string { return o.settlement.Key })
	idColumn(c, ops, func(o *op) storage.ID { return o.settlement.Member })
	int8Column(c, ops, func(o *op) int64 { return o.attempt })
	return c
}

func principalText(p *storage.Principal) string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // a struct of strings always encodes
	}
	return string(text)
}

func readSettle(r *row, ops []*op) error {
	i := r.int4() - 1
	if i < 0 || i >= len(ops) {
		return fmt.Errorf("%w: an answer for settlement %d of %d", storage.ErrCorrupt, i+1, len(ops))
	}
	o := ops[i]
	o.code = code(r.int2())
	o.settled = storage.Settled{Repeated: r.bool()}
	question, schema, run := r.composite(), r.bytes(), r.composite()
	if r.err != nil {
		return r.err
	}
	if question == nil {
		return nil
	}
	q, err := readQuestion(question)
	if err != nil {
		return err
	}
	stored, err := readRun(run)
	if err != nil {
		return err
	}
	q.Run, q.Thread, q.Entrypoint, q.Schema = stored.ID, stored.Thread, stored.Entrypoint, schema
	o.settled.Question, o.settled.Run = q, stored.Run
	return nil
}

// settleOutcome is what the caller of Settle is told about one settlement.
func (o *op) settleOutcome() storage.Settled {
	s := o.settled
	switch o.code {
	case codeDone:
		s.Acquired = !o.settlement.Member.IsZero() && s.Run.Owner == o.settlement.Member
		return s
	case codeSettled:
		s.Err = &storage.SettledError{Question: s.Question}
		return s
	case codeInvalid:
		s.Err = fmt.Errorf("%w: a question can't be settled as %s", storage.ErrInvalid, o.settlement.State)
	case codeNotFound:
		s.Err = storage.ErrNotFound
	default:
		s.Err = storage.ErrLocked
	}
	s.Err = fmt.Errorf("postgres: settle question %s: %w", o.settlement.Question, s.Err)
	return s
}

// Extend implements [storage.Questions].
func (b *Backend) Extend(ctx context.Context, tenant string, question storage.ID, deadline time.Time) (storage.Question, error) {
	what := fmt.Sprintf("extend question %s", question)
	if err := checkTime(deadline); err != nil {
		return storage.Question{}, fmt.Errorf("postgres: %s: %w", what, err)
	}
	var q storage.Question
	answer, err := b.write(ctx, what, func(bool) *call {
		c := b.call("SELECT o_code, o_question, o_run, o_thread, o_entrypoint, o_schema FROM SCHEMA.extend_1($1, $2, $3, $4, $5)")
		c.int8(b.offset())
		c.text(b.instance)
		c.text(tenant)
		c.uuid(question)
		c.time(deadline)
		return c
	}, func(r *row) (answer code, err error) {
		if answer = code(r.int2()); answer == codeDone || answer == codeSettled {
			q, err = readFullQuestion(r)
			return answer, err
		}
		return answer, r.err
	})
	if err != nil {
		return storage.Question{}, err
	}
	if answer == codeNotFound {
		return storage.Question{}, fmt.Errorf("postgres: %s: %w", what, storage.ErrNotFound)
	}
	b.deliver(storage.Note{Tenant: tenant, Run: q.Run, Queued: answer == codeSettled, Inbox: answer == codeSettled, Questions: true})
	if answer == codeSettled {
		return storage.Question{}, fmt.Errorf("postgres: %s: %w", what, &storage.SettledError{Question: q})
	}
	return q, nil
}
