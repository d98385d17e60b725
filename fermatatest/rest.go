package fermatatest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/storage"
)

// Wait returns when every run rests: ended, parked, or waiting for a person whom no script
// plays. It fails the test if that takes longer than Options.Patience.
func (h *Harness) Wait() {
	h.t.Helper()
	h.wait("")
}

// Advance moves the database's clock. What has become due by then – the deadline of a question, say – happens.
func (h *Harness) Advance(d time.Duration) {
	h.t.Helper()
	if d < 0 {
		h.t.Fatalf("fermatatest: advance by %s: time doesn't go back", d)
	}
	h.offset.Add(int64(d))
	p := h.living()
	// The poll of nobody takes no run; it makes the backend look at its clock.
	if _, err := p.backend.Poll(h.t.Context(), storage.Poll{}); err != nil {
		h.t.Fatalf("fermatatest: advance by %s: %v", d, err)
	}
	p.engine.Poke()
}

// Now is the database's time.
func (h *Harness) Now() time.Time {
	h.t.Helper()
	now, err := h.living().backend.Now(h.t.Context())
	if err != nil {
		h.t.Fatalf("fermatatest: read the clock: %v", err)
	}
	return now
}

// living is the present process; the test fails if it crashed.
func (h *Harness) living() *process {
	h.t.Helper()
	p := h.now()
	if p.backend.Dead() {
		h.t.Fatalf("fermatatest: the process has crashed: call Restart first")
	}
	return p
}

// note is told of every change in the database.
func (h *Harness) note(n storage.Note) {
	h.mu.Lock()
	h.tenants[n.Tenant] = true
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// wait returns when the runs of a thread rest, of all if it is "", and no script has anything to say.
func (h *Harness) wait(thread string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), h.options.Patience)
	defer cancel()
	p := h.living()
	p.engine.Poke()
	for {
		busy, err := h.busy(ctx, p, thread)
		if err == nil && len(busy) == 0 {
			if !h.play(ctx, p, thread) {
				return
			}
			continue
		}
		if err == nil {
			select {
			case <-h.news:
				continue
			case <-ctx.Done():
				h.t.Fatalf("fermatatest: still not at rest after %s: %s", h.options.Patience, strings.Join(busy, "; "))
			}
		}
		if p.backend.Dead() {
			h.t.Fatalf("fermatatest: the process crashed before its runs came to rest: call Restart, then wait")
		}
		h.t.Fatalf("fermatatest: wait for the runs: %v", err)
	}
}

// busy describes the runs that the process has to go on with.
func (h *Harness) busy(ctx context.Context, p *process, thread string) ([]string, error) {
	now, err := p.backend.Now(ctx)
	if err != nil {
		return nil, err
	}
	var busy []string
	for _, tenant := range h.knownTenants() {
		runs, err := p.backend.ListRuns(ctx, storage.RunFilter{
			Tenant: tenant, Thread: thread, Statuses: []storage.Status{storage.Queued, storage.Running},
		})
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			if p.knows[r.Entrypoint] && !r.Due.After(now) {
				busy = append(busy, fmt.Sprintf("thread %q is %s (entrypoint %s)", r.Thread, r.Status, r.Entrypoint))
			}
		}
	}
	return busy, nil
}

func (h *Harness) knownTenants() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var tenants []string
	for tenant := range h.tenants {
		tenants = append(tenants, tenant)
	}
	slices.Sort(tenants)
	return tenants
}

// asked is an open question and the engine's view that it belongs to.
type asked struct {
	fermata.Question
	engine *fermata.Engine
}

// open lists the open questions, of one thread or of all, in the order in which they were asked.
func (h *Harness) open(ctx context.Context, p *process, thread string) ([]asked, error) {
	var list []asked
	for _, tenant := range h.knownTenants() {
		e := p.engine.Tenant(tenant)
		filter := fermata.QuestionFilter{Thread: thread, States: []fermata.QuestionState{fermata.QuestionOpen}}
		for page := (fermata.Page{Limit: 1000}); ; {
			found, err := e.Questions(ctx, filter, page)
			if err != nil {
				return nil, err
			}
			for _, q := range found.Questions {
				list = append(list, asked{Question: q, engine: e})
			}
			if page.After = found.Next; page.After == "" {
				break
			}
		}
	}
	return list, nil
}
