package sealed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/fermata-go/fermata/storage"
)

// value names both what a run returned and what it saved: the next run's previous value is either.
const value = "value"

// sealRun returns what the backend gets to see of a new run.
func (b *Backend) sealRun(with *sealer, r storage.Run) storage.Run {
	place := string(r.ID[:])
	seal := func(kind string, data []byte) []byte { return with.seal(spot{kind, r.Tenant}, place, data) }
	r.Input, r.Config = seal("input", r.Input), seal("configuration", r.Config)
	r.Result, r.Saved, r.Error = seal(value, r.Result), seal(value, r.Saved), seal("error", r.Error)
	r.Metadata = b.sealMetadata(r.Tenant, r.Metadata)
	return r
}

func (b *Backend) openRun(r *storage.Run) error {
	for _, f := range []struct {
		kind string
		data *[]byte
	}{{"input", &r.Input}, {"configuration", &r.Config}, {value, &r.Result}, {value, &r.Saved}, {"error", &r.Error}} {
		if err := b.openBytes(f.kind, r.Tenant, f.data); err != nil {
			return fmt.Errorf("run %s: %w", r.ID, err)
		}
	}
	reason, err := b.ring.openText(spot{"reason", r.Tenant}, r.CancelReason)
	if err == nil {
		r.CancelReason = reason
		r.Metadata, err = b.openMetadata(r.Tenant, r.Metadata)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", r.ID, err)
	}
	return nil
}

func (b *Backend) openRuns(runs []storage.Run) error {
	for i := range runs {
		if err := b.openRun(&runs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) openBytes(kind, tenant string, data *[]byte) error {
	plain, err := b.ring.open(spot{kind, tenant}, *data)
	if err == nil {
		*data = plain
	}
	return err
}

// sealMetadata seals the values; whoever looks for one must know the key.
func (b *Backend) sealMetadata(tenant string, m map[string]string) map[string]string {
	m = maps.Clone(m)
	for k, v := range m {
		m[k] = b.ring.token(spot{"metadata value", tenant}, k, v)
	}
	return m
}

func (b *Backend) openMetadata(tenant string, m map[string]string) (map[string]string, error) {
	m = maps.Clone(m)
	for k, v := range m {
		plain, err := b.ring.openText(spot{"metadata value", tenant}, v)
		if err != nil {
			return nil, fmt.Errorf("metadata %q: %w", k, err)
		}
		m[k] = plain
	}
	return m, nil
}

// Start implements [storage.Runs].
func (b *Backend) Start(ctx context.Context, s storage.Start) (storage.Started, error) {
	return b.start(ctx, b.Backend, s)
}

// start compares a run that exists with what each key would have made of s.
func (b *Backend) start(ctx context.Context, inner Starter, s storage.Start) (started storage.Started, err error) {
	plain := s.Run
	for _, key := range b.all {
		s.Run = b.sealRun(key, plain)
		if started, err = inner.Start(ctx, s); !errors.Is(err, storage.ErrConflict) {
			break
		}
	}
	if b.ring.lenient && errors.Is(err, storage.ErrConflict) {
		s.Run = plain
		s.Run.Metadata = b.sealMetadata(plain.Tenant, plain.Metadata)
		started, err = inner.Start(ctx, s)
	}
	if err != nil {
		return storage.Started{}, b.failure(plain.Tenant, err)
	}
	if err := b.openRun(&started.Run); err != nil {
		return storage.Started{}, err
	}
	if err := b.openBytes(value, plain.Tenant, &started.Previous); err != nil {
		return storage.Started{}, fmt.Errorf("previous value of run %s: %w", started.Run.ID, err)
	}
	return started, nil
}

// Append implements [storage.Runs].
func (b *Backend) Append(ctx context.Context, units []storage.Unit) ([]storage.Committed, error) {
	hidden := make([]storage.Unit, len(units))
	for i, u := range units {
		hidden[i] = b.sealUnit(u)
	}
	committed, err := b.Backend.Append(ctx, hidden)
	if err != nil {
		return nil, err
	}
	for i := range committed {
		if committed[i].Err != nil {
			committed[i].Err = b.failure(units[i].Tenant, committed[i].Err)
		}
	}
	return committed, nil
}

func (b *Backend) sealUnit(u storage.Unit) storage.Unit {
	key, place := b.ring.current, string(u.Run[:])
	records := make([][]byte, len(u.Records))
	for i, r := range u.Records {
		if r == nil {
			r = []byte{}
		}
		records[i] = key.seal(spot{"record", u.Tenant}, place+strconv.FormatInt(u.First+int64(i), 10), r)
	}
	u.Records = records
	questions := make([]storage.Question, len(u.Questions))
	for i, q := range u.Questions {
		questions[i] = b.sealQuestion(u.Tenant, q)
	}
	u.Questions = questions
	u.Result, u.Saved = key.seal(spot{value, u.Tenant}, place, u.Result), key.seal(spot{value, u.Tenant}, place, u.Saved)
	u.Error = key.seal(spot{"error", u.Tenant}, place, u.Error)
	return u
}

// Acquire implements [storage.Runs].
func (b *Backend) Acquire(ctx context.Context, a storage.Acquire) (storage.Run, error) {
	r, err := b.Backend.Acquire(ctx, a)
	return b.one(a.Tenant, r, err)
}

// one opens a run that the backend gave, or the error.
func (b *Backend) one(tenant string, r storage.Run, err error) (storage.Run, error) {
	if err == nil {
		err = b.openRun(&r)
	} else {
		err = b.failure(tenant, err)
	}
	if err != nil {
		return storage.Run{}, err
	}
	return r, nil
}

// Poll implements [storage.Runs]. Runs that can't be opened are returned without what is
// sealed: they are the member's now, who gets the error when it loads them.
func (b *Backend) Poll(ctx context.Context, p storage.Poll) (storage.Polled, error) {
	polled, err := b.Backend.Poll(ctx, p)
	for i := range polled.Runs {
		r := &polled.Runs[i]
		if b.openRun(r) != nil {
			r.Input, r.Config, r.Result, r.Saved, r.Error, r.Metadata, r.CancelReason = nil, nil, nil, nil, nil, nil, ""
		}
	}
	return polled, err
}

// Cancel implements [storage.Runs].
func (b *Backend) Cancel(ctx context.Context, tenant string, run storage.ID, reason string) (storage.Run, error) {
	r, err := b.Backend.Cancel(ctx, tenant, run, b.ring.text(spot{"reason", tenant}, string(run[:]), reason))
	return b.one(tenant, r, err)
}

// Run implements [storage.Runs].
func (b *Backend) Run(ctx context.Context, tenant string, run storage.ID) (storage.Run, error) {
	r, err := b.Backend.Run(ctx, tenant, run)
	return b.one(tenant, r, err)
}

// Load implements [storage.Runs].
func (b *Backend) Load(ctx context.Context, tenant string, run storage.ID) (storage.Loaded, error) {
	l, err := b.Backend.Load(ctx, tenant, run)
	if err != nil {
		return storage.Loaded{}, err
	}
	err = b.openRun(&l.Run)
	if err == nil {
		err = b.openBytes(value, tenant, &l.Previous)
	}
	if err == nil {
		l.Records, err = b.openRecords(tenant, l.Records)
	}
	if err == nil {
		err = b.openQuestions(l.Questions)
	}
	if err != nil {
		return storage.Loaded{}, fmt.Errorf("load run %s: %w", run, err)
	}
	return l, nil
}

func (b *Backend) openRecords(tenant string, records []storage.Record) ([]storage.Record, error) {
	plain := make([]storage.Record, len(records))
	for i, r := range records {
		if err := b.openBytes("record", tenant, &r.Data); err != nil {
			return nil, fmt.Errorf("record %d: %w", r.Seq, err)
		}
		plain[i] = r
	}
	return plain, nil
}

// Log implements [storage.Runs].
func (b *Backend) Log(ctx context.Context, tenant string, run storage.ID, after int64, limit int) (storage.Run, []storage.Record, error) {
	r, records, err := b.Backend.Log(ctx, tenant, run, after, limit)
	if r, err = b.one(tenant, r, err); err != nil {
		return storage.Run{}, nil, err
	}
	if records, err = b.openRecords(tenant, records); err != nil {
		return storage.Run{}, nil, fmt.Errorf("log of run %s: %w", run, err)
	}
	return r, records, nil
}

// ListRuns implements [storage.Runs].
func (b *Backend) ListRuns(ctx context.Context, f storage.RunFilter) ([]storage.Run, error) {
	f.Metadata = b.sealMetadata(f.Tenant, f.Metadata)
	runs, err := b.Backend.ListRuns(ctx, f)
	if err == nil {
		err = b.openRuns(runs)
	}
	if err != nil {
		return nil, err
	}
	return runs, nil
}
