package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Cache keeps the results of a task across runs and threads. Only successes are kept.
type Cache struct {
	// Key tells inputs apart, given Call.Value; nil takes the whole encoded input.
	Key func(value any) string
	TTL time.Duration // zero: for ever
}

// cacheNamespace is where cached results live among the items of a backend.
func cacheNamespace(task string) []string { return []string{"fermata", "cache", task} }

// key makes the call's CacheKey. The error is that of a panic of the user's function.
func (c *Cache) key(call *Call) error {
	if c == nil {
		return nil
	}
	if c.Key != nil {
		return guard(func() error {
			call.CacheKey = "key " + c.Key(call.Value)
			return nil
		})
	}
	sum := sha256.Sum256(call.Input)
	call.CacheKey = hex.EncodeToString(sum[:])
	return nil
}

func (p *Policy) cache() *Cache {
	if p == nil {
		return nil
	}
	return p.Cache
}

// fromCache records the cached result of the call as its outcome, if there is one.
func (f *Future) fromCache(ctx context.Context, c Call) bool {
	cache := c.Policy.cache()
	if cache == nil {
		return false
	}
	p := f.scope.pass
	item, err := p.engine.backend.GetItem(ctx, p.run.Tenant, cacheNamespace(c.Name), c.CacheKey, false)
	if err == nil && c.Check != nil && guard(func() error { return c.Check(item.Value) }) != nil {
		return false // kept by code of another type: once recorded it could not be read by any deploy
	}
	if err == nil {
		f.recordOutcome(item.Value, nil, true)
		return true
	}
	if !errors.Is(err, storage.ErrNotFound) {
		p.engine.log.Warn("cache can't be read; the task is called", "task", c.Name, "run", p.run.ID, "error", err)
	}
	return false
}

// toCache keeps the result that was just recorded.
func (f *Future) toCache(ctx context.Context, c Call, out []byte) {
	cache := c.Policy.cache()
	if cache == nil || f.err != nil || f.withdrawn.Load() {
		return
	}
	p := f.scope.pass
	err := p.engine.backend.PutItems(context.WithoutCancel(ctx), []storage.Item{{
		Tenant: p.run.Tenant, Namespace: cacheNamespace(c.Name), Key: c.CacheKey, Value: out, TTL: cache.TTL,
	}})
	if err != nil {
		p.engine.log.Warn("result can't be cached", "task", c.Name, "run", p.run.ID, "error", err)
	}
}

// ClearCache forgets the cached results of a task.
func (e *Engine) ClearCache(ctx context.Context, tenant, task string) error {
	namespace := cacheNamespace(task)
	for {
		items, err := e.backend.ListItems(ctx, storage.ItemFilter{Tenant: tenant, Prefix: namespace, Limit: 1000})
		if err != nil || len(items) == 0 {
			return storageError("clear cache", "", storage.ID{}, err)
		}
		for i := range items {
			items[i].Value = nil
		}
		if err := e.backend.PutItems(ctx, items); err != nil {
			return storageError("clear cache", "", storage.ID{}, err)
		}
	}
}
