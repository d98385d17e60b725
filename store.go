package fermata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fermata-go/fermata/internal/engine"
	"github.com/fermata-go/fermata/storage"
)

// ErrNotFound: the store has no such item.
var ErrNotFound = storage.ErrNotFound

// StoreOptions configure the long-term store of an engine.
type StoreOptions struct {
	_ [0]func()
	// Embed turns texts into vectors, one per text and all of one length; it makes
	// [Search.Query] a search by meaning. Default: none, and a Query is an error.
	Embed func(ctx context.Context, texts []string) ([][]float32, error)
	// Fields are the top-level fields of a value that are embedded, each on its own;
	// "$" is the whole value as JSON text. Default: "$".
	Fields []string
	// TTL of items that are put without one. Default: for ever.
	TTL time.Duration
	// KeepTTL: reading an item does not extend its life. Default: it does.
	KeepTTL bool
}

// Store is long-term memory that threads share: JSON values under a namespace
// (a list of labels) and a key. It is not part of a run's history: a fork or a new attempt doesn't undo what was put.
//
// Called with the context of an entrypoint's body, each operation is recorded like a task's result, so
// that a replay sees the same; within a task it acts directly.
type Store struct {
	engine *Engine
}

// Store returns the long-term store of the engine's tenant.
func (e *Engine) Store() *Store { return &Store{e} }

// StoreFrom returns the store of the engine that runs the code that ctx was
// handed to. Elsewhere: [ErrOutsideRun].
func StoreFrom(ctx context.Context) (*Store, error) {
	s, err := engine.From(ctx)
	if err != nil {
		return nil, public(err)
	}
	return valuesOf(s).engine.Tenant(s.Run().Tenant).Store(), nil
}

// Item is an entry of the store.
type Item struct {
	Namespace []string        `json:"namespace"`
	Key       string          `json:"key"`
	Value     json.RawMessage `json:"value"`
	Created   time.Time       `json:"created_at"`
	Updated   time.Time       `json:"updated_at"`
	// Score is how near the value is to the query, from -1 to 1; nil without a query, or if the item has no vectors.
	Score *float64 `json:"score,omitempty"`
}

// Decode stores the value in the variable that into points to.
func (i *Item) Decode(into any) error {
	if err := json.Unmarshal(i.Value, into); err != nil {
		return fmt.Errorf("item %q of %q: %w", i.Key, i.Namespace, err)
	}
	return nil
}

// PutOption is an option of [Store.Put].
type PutOption func(*put)

type put struct {
	ttl     *time.Duration
	fields  []string
	noIndex bool
}

// TTL is how long the item lives after it was put, or last read. 0 is for ever.
func TTL(d time.Duration) PutOption { return func(p *put) { p.ttl = &d } }

// Index sets which fields of this value are embedded, instead of StoreOptions.Fields; none at all: it isn't found by meaning.
func Index(fields ...string) PutOption {
	return func(p *put) { p.fields, p.noIndex = fields, len(fields) == 0 }
}

// Put writes a value, which must encode to a JSON object, over what was there.
// Errors: [ErrInvalid] for a bad namespace, key or value; [ErrStorage].
func (s *Store) Put(ctx context.Context, namespace []string, key string, value any, options ...PutOption) error {
	var o put
	for _, option := range options {
		option(&o)
	}
	if err := checkItem("put", namespace, key); err != nil {
		return err
	}
	data, err := jsonObject(value)
	if err != nil {
		return storeError("put", namespace, key, err)
	}
	_, err = durably(ctx, "store.put", []any{namespace, key, json.RawMessage(data)}, func(ctx context.Context) (struct{}, error) {
		item := storage.Item{Tenant: s.engine.tenant, Namespace: namespace, Key: key, Value: data, TTL: s.engine.store.TTL}
		if o.ttl != nil {
			item.TTL = *o.ttl
		}
		if item.Vectors, err = s.engine.vectors(ctx, data, &o); err != nil {
			return struct{}{}, storeError("put", namespace, key, err)
		}
		return struct{}{}, s.write(ctx, "put", item)
	})
	return err
}

// Get reads a value. Errors: [ErrNotFound]; [ErrInvalid]; [ErrStorage].
func (s *Store) Get(ctx context.Context, namespace []string, key string) (*Item, error) {
	if err := checkItem("get", namespace, key); err != nil {
		return nil, err
	}
	item, err := durably(ctx, "store.get", []any{namespace, key}, func(ctx context.Context) (*Item, error) {
		item, err := s.engine.core.Backend().GetItem(ctx, s.engine.tenant, namespace, key, !s.engine.store.KeepTTL)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			return nil, nil
		case err != nil:
			return nil, &Error{Op: "get", Reason: ErrStorage, Err: err}
		}
		return newItem(&item), nil
	})
	if err == nil && item == nil {
		return nil, storeError("get", namespace, key, ErrNotFound)
	}
	return item, err
}

// Delete removes a value. An absent one is no error.
func (s *Store) Delete(ctx context.Context, namespace []string, key string) error {
	if err := checkItem("delete", namespace, key); err != nil {
		return err
	}
	_, err := durably(ctx, "store.delete", []any{namespace, key}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.write(ctx, "delete", storage.Item{Tenant: s.engine.tenant, Namespace: namespace, Key: key})
	})
	return err
}

func (s *Store) write(ctx context.Context, op string, item storage.Item) error {
	if err := s.engine.core.Backend().PutItems(ctx, []storage.Item{item}); err != nil {
		return &Error{Op: op, Reason: ErrStorage, Err: err}
	}
	return nil
}

func newItem(i *storage.Item) *Item {
	return &Item{Namespace: i.Namespace, Key: i.Key, Value: i.Value, Created: i.Created, Updated: i.Updated}
}

// durably calls fn. In the body of an entrypoint the call and its result are recorded.
func durably[T any](ctx context.Context, name string, input any, fn func(context.Context) (T, error)) (T, error) {
	s, err := engine.From(ctx)
	if err != nil || !s.Body() {
		return fn(ctx)
	}
	v := valuesOf(s)
	data, err := v.encode(input)
	if err != nil {
		var zero T
		return zero, err
	}
	call, err := engine.Go(ctx, engine.Call{
		Def: name, Kind: engine.KindValue, Name: name, Input: data,
		Do: func(ctx context.Context) ([]byte, error) {
			out, err := fn(ctx)
			if err != nil {
				return nil, err
			}
			return v.encode(out)
		},
	})
	if err != nil {
		var zero T
		return zero, public(err)
	}
	return (&Future[T]{call: call}).Result(ctx)
}

// checkItem holds names to LangGraph's rules.
func checkItem(op string, namespace []string, key string) error {
	if len(namespace) == 0 {
		return storeError(op, namespace, key, errors.New("the namespace is empty"))
	}
	if key == "" || !utf8.ValidString(key) {
		return storeError(op, namespace, key, errors.New("the key is empty, or not UTF-8"))
	}
	return checkLabels(op, namespace)
}

func checkLabels(op string, labels []string) error {
	for _, label := range labels {
		if label == "" || strings.ContainsAny(label, ".\x00") || !utf8.ValidString(label) {
			return storeError(op, labels, "", fmt.Errorf("bad label %.80q: labels are not empty, have no dot, and are UTF-8", label))
		}
	}
	if len(labels) > 0 && slices.Contains([]string{"langgraph", "fermata"}, labels[0]) {
		return storeError(op, labels, "", fmt.Errorf("a namespace can't begin with %q", labels[0]))
	}
	return nil
}

func storeError(op string, namespace []string, key string, err error) error {
	reason := ErrInvalid
	if errors.Is(err, ErrNotFound) {
		reason = ErrNotFound
		return &Error{Op: op, Reason: reason, Hint: fmt.Sprintf("item %q of %q", key, namespace)}
	}
	return &Error{Op: op, Reason: reason, Err: fmt.Errorf("item %.80q of %.200q: %w", key, namespace, err)}
}

func jsonObject(value any) ([]byte, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 || data[0] != '{' {
		return nil, errors.New("the value is no JSON object")
	}
	return data, nil
}
