package sqlite

import "github.com/fermata-go/fermata/storage"

// fence is what an append must know of its run.
type fence struct {
	n      int64
	status storage.Status
	token  int64
	seq    int64 // LastSeq
	inbox  int64
	fork   int64
	last   int64 // time of the last change
}

// fences remembers the fences of runs that were written lately. It is the
// writer's: right as long as no other connection writes, and no transaction is
// undone; see writer.lookAround and writer.abort.
type fences struct{ byRun map[runKey]*fence }

type runKey struct {
	tenant string
	id     storage.ID
}

// maxFences bounds the memory; the runs that are really at work come back at once.
const maxFences = 8192

func newFences() *fences { return &fences{byRun: map[runKey]*fence{}} }

func (s *fences) get(tenant string, id storage.ID) *fence {
	if s == nil {
		return nil
	}
	return s.byRun[runKey{tenant, id}]
}

func (s *fences) put(tenant string, id storage.ID, f *fence) {
	if len(s.byRun) >= maxFences {
		clear(s.byRun)
	}
	s.byRun[runKey{tenant, id}] = f
}

// putRun remembers the fence of a run that was just written.
func (s *fences) putRun(r *runRow) {
	s.put(r.Tenant, r.ID, &fence{
		n: r.Number, status: r.Status, token: r.Token, seq: r.LastSeq, inbox: r.Inbox, fork: r.ForkSeq,
		last: max(r.last, r.Updated.UnixMicro()),
	})
}

func (s *fences) clear() { clear(s.byRun) }

// fenceOf returns the fence of a run.
func (t *tx) fenceOf(tenant string, run storage.ID) (*fence, error) {
	if f := t.fences.get(tenant, run); f != nil {
		return f, nil
	}
	f := &fence{}
	q := t.query("SELECT n, status, token, seq, inbox, fork, updated FROM run WHERE id = ? AND tenant = ?")
	found, err := q.blob(run[:]).text(tenant).first(func(q *query) {
		*f = fence{n: q.colInt(0), status: storage.Status(q.colInt(1)), token: q.colInt(2), seq: q.colInt(3),
			inbox: q.colInt(4), fork: q.colInt(5), last: q.colInt(6)}
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound("run", run, tenant)
	}
	seq, at, err := lastUnit(t.conn, f.n)
	if err != nil {
		return nil, err
	}
	f.seq, f.last = max(f.seq, seq), max(f.last, at)
	t.fences.put(tenant, run, f)
	return f, nil
}
