package storage

import (
	"context"
	"time"
)

// Item is an entry of the long-term store, shared by threads.
type Item struct {
	Tenant    string
	Namespace []string // at least one element, none empty, none with a NUL byte
	Key       string
	Value     []byte
	// Vectors are the embeddings of the value, all of the same length.
	Vectors [][]float32
	Created time.Time // of the first put since the item was absent
	Updated time.Time
	Expires time.Time // zero: never
	// TTL is what a put adds to its time, and a refresh to the time of the read, to give Expires.
	// Zero: the item never expires.
	TTL time.Duration
}

// ItemFilter selects items whose namespace begins with Prefix.
type ItemFilter struct {
	Tenant string
	Prefix []string
	// After is the last item of the page before, by namespace and key.
	After *Item
	Limit int // 0 means 100
	// WithVectors returns Item.Vectors too.
	WithVectors bool
}

// Items is the long-term store. An item whose Expires is not after the backend's now is absent to every method.
type Items interface {
	// PutItems writes all or none, in their order. A nil Value deletes. An item that is not
	// as [Item] says: ErrInvalid. Created, Updated and
	// Expires (from TTL, if that is not zero) are the backend's to fill; Created survives an overwrite.
	PutItems(ctx context.Context, items []Item) error
	// GetItem reads one; refresh extends its life by its TTL. Error: ErrNotFound.
	GetItem(ctx context.Context, tenant string, namespace []string, key string, refresh bool) (Item, error)
	// ListItems returns one page, ordered by namespace (element by element) and key.
	ListItems(ctx context.Context, f ItemFilter) ([]Item, error)
	// ListNamespaces returns the namespaces that hold an item, sorted.
	ListNamespaces(ctx context.Context, tenant string, prefix []string) ([][]string, error)
	// SweepItems removes up to limit expired items and says how many.
	SweepItems(ctx context.Context, limit int) (int, error)
}
