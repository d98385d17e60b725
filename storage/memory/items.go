package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fermata-go/fermata/storage"
)

type item struct{ row storage.Item }

func (i *item) absent(now time.Time) bool {
	return i == nil || !i.row.Expires.IsZero() && !i.row.Expires.After(now)
}

func (i *item) snapshot(vectors bool) storage.Item {
	row := i.row
	row.Namespace = slices.Clone(row.Namespace)
	row.Vectors = nil
	if vectors {
		row.Vectors = cloneVectors(i.row.Vectors)
	}
	return row
}

func cloneVectors(vectors [][]float32) [][]float32 {
	if len(vectors) == 0 {
		return nil
	}
	c := make([][]float32, len(vectors))
	for i, v := range vectors {
		c[i] = slices.Clone(v)
	}
	return c
}

// join makes one string of a namespace that sorts as the namespace does: NUL,
// which no element has, is less than every byte.
func join(namespace []string) string { return strings.Join(namespace, "\x00") }

func checkItem(i *storage.Item) error {
	if len(i.Namespace) == 0 {
		return fmt.Errorf("%w: no namespace", storage.ErrInvalid)
	}
	for _, element := range i.Namespace {
		if element == "" || strings.Contains(element, "\x00") {
			return fmt.Errorf("%w: namespace element %.80q", storage.ErrInvalid, element)
		}
	}
	for _, v := range i.Vectors {
		if len(v) != len(i.Vectors[0]) {
			return fmt.Errorf("%w: vectors of length %d and %d", storage.ErrInvalid, len(i.Vectors[0]), len(v))
		}
	}
	return nil
}

func (b *Backend) item(tenant string, namespace []string, key string) *item {
	return b.items[tenant][join(namespace)][key]
}

// PutItems implements [storage.Items].
func (b *Backend) PutItems(ctx context.Context, items []storage.Item) error {
	now, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer b.end()
	for i := range items {
		if err := checkItem(&items[i]); err != nil {
			return fmt.Errorf("memory: put item %.80q: %w", items[i].Key, err)
		}
	}
	for i := range items {
		b.putItem(items[i], now)
	}
	return nil
}

func (b *Backend) putItem(in storage.Item, now time.Time) {
	old := b.item(in.Tenant, in.Namespace, in.Key)
	if in.Value == nil {
		if old != nil {
			b.removeItem(old)
		}
		return
	}
	in.Namespace, in.Vectors = slices.Clone(in.Namespace), cloneVectors(in.Vectors)
	in.Created, in.Updated, in.Expires = now, now, time.Time{}
	if !old.absent(now) {
		in.Created = old.row.Created
	}
	if in.TTL != 0 {
		in.Expires = cut(now.Add(in.TTL))
	}
	namespaces := b.items[in.Tenant]
	if namespaces == nil {
		namespaces = map[string]map[string]*item{}
		b.items[in.Tenant] = namespaces
	}
	ns := join(in.Namespace)
	if namespaces[ns] == nil {
		namespaces[ns] = map[string]*item{}
	}
	namespaces[ns][in.Key] = &item{row: in}
}

func (b *Backend) removeItem(i *item) {
	namespaces, ns := b.items[i.row.Tenant], join(i.row.Namespace)
	delete(namespaces[ns], i.row.Key)
	if len(namespaces[ns]) == 0 {
		delete(namespaces, ns)
	}
}

// GetItem implements [storage.Items].
func (b *Backend) GetItem(ctx context.Context, tenant string, namespace []string, key string, refresh bool) (storage.Item, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return storage.Item{}, err
	}
	defer b.end()
	i := b.item(tenant, namespace, key)
	if i.absent(now) {
		return storage.Item{}, fmt.Errorf("memory: item %.80q of %.80q: %w", key, namespace, storage.ErrNotFound)
	}
	if refresh && i.row.TTL != 0 {
		i.row.Expires = cut(now.Add(i.row.TTL))
	}
	return i.snapshot(true), nil
}

// ListItems implements [storage.Items].
func (b *Backend) ListItems(ctx context.Context, f storage.ItemFilter) ([]storage.Item, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer b.end()
	var list []storage.Item
	for _, ns := range b.namespaces(f.Tenant, f.Prefix) {
		if f.After != nil && ns < join(f.After.Namespace) {
			continue
		}
		keys := b.items[f.Tenant][ns]
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if keys[key].absent(now) || f.After != nil && ns == join(f.After.Namespace) && key <= f.After.Key {
				continue
			}
			if len(list) == pageSize(f.Limit) {
				return list, nil
			}
			list = append(list, keys[key].snapshot(f.WithVectors))
		}
	}
	return list, nil
}

// namespaces returns the joined namespaces that begin with prefix, sorted.
func (b *Backend) namespaces(tenant string, prefix []string) []string {
	start := join(prefix)
	var found []string
	for ns := range b.items[tenant] {
		if len(prefix) == 0 || ns == start || strings.HasPrefix(ns, start+"\x00") {
			found = append(found, ns)
		}
	}
	slices.Sort(found)
	return found
}

// ListNamespaces implements [storage.Items].
func (b *Backend) ListNamespaces(ctx context.Context, tenant string, prefix []string) ([][]string, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer b.end()
	var list [][]string
	for _, ns := range b.namespaces(tenant, prefix) {
		for _, i := range b.items[tenant][ns] {
			if !i.absent(now) {
				list = append(list, strings.Split(ns, "\x00"))
				break
			}
		}
	}
	return list, nil
}

// SweepItems implements [storage.Items].
func (b *Backend) SweepItems(ctx context.Context, limit int) (int, error) {
	now, err := b.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer b.end()
	var expired []*item
	for _, namespaces := range b.items {
		for _, keys := range namespaces {
			for _, i := range keys {
				if len(expired) < limit && i.absent(now) {
					expired = append(expired, i)
				}
			}
		}
	}
	for _, i := range expired {
		b.removeItem(i)
	}
	return len(expired), nil
}
