package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fermata-go/fermata/storage"
)

// Repair says how a parked run is to go on.
type Repair struct {
	// Verb is "accept" – the record stands, whatever the code calls there – or
	// "again" – the diverging call and all that its function called after it are forgotten,
	// their questions superseded, and run anew.
	Verb   string
	By     storage.Principal
	Reason string
}

// Repair records, and carries out, what somebody decided about a run that a divergence has parked.
func (e *Engine) Repair(ctx context.Context, tenant, thread string, repair Repair) (*Handle, error) {
	const op = "repair"
	head, err := e.Head(ctx, op, tenant, thread)
	if err != nil {
		return nil, err
	}
	if head.Run == nil {
		return nil, &Error{Op: op, Thread: thread, Reason: ErrUnknownThread, Hint: "start a run on it first"}
	}
	refusal := &Error{Op: op, Thread: thread, Run: head.Run.ID, Reason: ErrInvalid}
	var parked Parked
	if head.Run.Status != storage.Parked {
		refusal.Err = fmt.Errorf("the run is %s, not parked", head.Run.Status)
		return nil, refusal
	}
	if err := json.Unmarshal(head.Run.Error, &parked); err != nil || parked.Divergence == nil || parked.Divergence.Claim == 0 {
		refusal.Err, refusal.Hint = fmt.Errorf("it was not parked by a divergence from a recorded call: %s", parked.Message), "mend the cause and continue the run"
		return nil, refusal
	}
	entry, err := e.entry(op, head.Run.Entrypoint)
	if err != nil {
		return nil, err
	}
	member, err := e.enter(op)
	if err != nil {
		return nil, err
	}
	defer e.leave()
	d := parked.Divergence
	audit, err := json.Marshal(map[string]any{"by": repair.By, "reason": repair.Reason, "divergence": d})
	if err != nil {
		return nil, fmt.Errorf("encode a repair: %w", err)
	}
	records := []record{{kind: recordRepair, name: repair.Verb, data: audit}}
	switch repair.Verb {
	case "accept":
		records = append(records, record{kind: recordAccept, claim: d.Claim})
	case "again":
		records = append(records, record{kind: recordAttempt, claim: d.Scope, attempt: 1, cut: d.Claim - 1})
	default:
		refusal.Err, refusal.Hint = fmt.Errorf("unknown verb %q", repair.Verb), `use "accept" or "again"`
		return nil, refusal
	}
	taken, err := e.backend.Acquire(ctx, storage.Acquire{Tenant: tenant, Run: head.Run.ID, Member: member, From: []storage.Status{storage.Parked}})
	if err != nil {
		e.unsure(tenant, head.Run.ID, err)
		return nil, e.refused(ctx, op, tenant, thread, err)
	}
	x, mine := e.hold(ctx, entry, member, taken, false)
	if !mine {
		return nil, &Error{Op: op, Thread: thread, Run: taken.ID, Reason: ErrThreadBusy, Hint: "another verb goes on with it; if it is parked again, repair it again"}
	}
	loaded, err := e.load(ctx, tenant, taken.ID)
	if err == nil {
		err = e.repair(&loaded, d, records)
	}
	if err != nil {
		e.drop(x, taken, err)
		return nil, storageError(op, thread, taken.ID, err)
	}
	h := &Handle{engine: e, tenant: tenant, Run: loaded.Run, after: head.Run.LastSeq, execution: x}
	e.begin(x, loaded)
	return h, nil
}

func (e *Engine) repair(loaded *recording, d *Divergence, records []record) error {
	h, err := readHistory(loaded)
	if err != nil {
		return err
	}
	unit := storage.Unit{CloseState: storage.SupersededQuestion}
	for _, r := range records {
		if r.kind == recordAttempt {
			unit.Close = h.openAfter(d.Scope, r.cut)
			if s := h.scopes[d.Scope]; s != nil {
				r.attempt, r.spent = max(1, s.attempt), max(1, s.attempt)-1
			}
		}
		unit.Records = append(unit.Records, r.encode(&h.sites))
	}
	return e.extend(loaded, unit)
}
