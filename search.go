package fermata

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/fermata-go/fermata/storage"
)

// Search says which items [Store.Search] finds. The zero Search finds all.
type Search struct {
	_ [0]func()
	// Query orders by nearness of meaning, best first; items without vectors follow. It
	// needs StoreOptions.Embed. Every item below the prefix is compared (the cost is theirs, not the limit's). Default: by
	// namespace and key.
	Query string
	// Filter compares fields of the value: with a value for equality, with an object of fields one level down, or with
	// an object of operators: $eq, $ne, $gt, $gte, $lt, $lte. All must hold. A field that is absent is null, but no object.
	// Integers are compared exactly.
	Filter map[string]any
	// Limit and Offset select a page. Default: 10 and 0.
	Limit, Offset int
}

// Search finds items whose namespace begins with prefix; an empty prefix is every namespace. A nil search finds all.
// Errors: [ErrInvalid] for a bad prefix, an unknown operator, or a query without StoreOptions.Embed; [ErrStorage].
func (s *Store) Search(ctx context.Context, prefix []string, search *Search) ([]*Item, error) {
	var o Search
	if search != nil {
		o = *search
	}
	if err := checkLabels("search", prefix); err != nil {
		return nil, err
	}
	if o.Limit == 0 {
		o.Limit = 10
	}
	match, err := compile(o.Filter)
	if err == nil && (o.Limit < 0 || o.Offset < 0) {
		err = errors.New("limit and offset must not be negative")
	}
	if err == nil && o.Query != "" && s.engine.store.Embed == nil {
		err = errors.New("a query needs StoreOptions.Embed")
	}
	if err != nil {
		return nil, storeError("search", prefix, "", err)
	}
	input := []any{prefix, o.Query, o.Filter, o.Limit, o.Offset}
	return durably(ctx, "store.search", input, func(ctx context.Context) ([]*Item, error) {
		return s.search(ctx, prefix, &o, match)
	})
}

func (s *Store) search(ctx context.Context, prefix []string, o *Search, match func(map[string]any) bool) ([]*Item, error) {
	var query []float32
	if o.Query != "" {
		vectors, err := s.engine.embed(ctx, []string{o.Query})
		if err != nil {
			return nil, storeError("search", prefix, "", err)
		}
		query = vectors[0]
	}
	o.Limit = min(o.Limit, math.MaxInt-o.Offset)
	var found []*Item
	filter := storage.ItemFilter{Tenant: s.engine.tenant, Prefix: prefix, Limit: 500, WithVectors: query != nil}
	for {
		page, err := s.engine.core.Backend().ListItems(ctx, filter)
		if err != nil {
			return nil, &Error{Op: "search", Reason: ErrStorage, Err: err}
		}
		for i := range page {
			if page[i].Namespace[0] == "fermata" {
				continue // the engine's own
			}
			item := newItem(&page[i])
			fields, err := exactly(item.Value)
			if err != nil {
				return nil, &Error{Op: "search", Reason: ErrStorage, Err: fmt.Errorf("%w: item %q of %q: %w", storage.ErrCorrupt, item.Key, item.Namespace, err)}
			}
			if !match(fields) {
				continue
			}
			if item.Score = best(query, page[i].Vectors); query != nil || len(found) < o.Offset+o.Limit {
				found = append(found, item)
			}
		}
		if len(page) < filter.Limit || query == nil && len(found) >= o.Offset+o.Limit {
			break
		}
		filter.After = &page[len(page)-1]
	}
	if query != nil {
		slices.SortStableFunc(found, func(a, b *Item) int { return cmp.Compare(score(b), score(a)) })
	}
	found = found[min(o.Offset, len(found)):]
	found = found[:min(o.Limit, len(found))]
	return found, s.refresh(ctx, found)
}

// refresh extends the life of items that were found.
func (s *Store) refresh(ctx context.Context, found []*Item) error {
	if s.engine.store.KeepTTL {
		return nil
	}
	for _, item := range found {
		_, err := s.engine.core.Backend().GetItem(ctx, s.engine.tenant, item.Namespace, item.Key, true)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return &Error{Op: "search", Reason: ErrStorage, Err: err}
		}
	}
	return nil
}

func score(i *Item) float64 {
	if i.Score == nil {
		return -2 // after all that have one
	}
	return *i.Score
}

// best is the nearness of the nearest of several vectors to the query; nil if there is none.
func best(query []float32, vectors [][]float32) *float64 {
	var nearest *float64
	for _, v := range vectors {
		if len(v) != len(query) {
			continue // of another embedding
		}
		if c := cosine(query, v); nearest == nil || c > *nearest {
			nearest = &c
		}
	}
	return nearest
}

func cosine(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return dot / math.Sqrt(aa*bb)
}

// vectors embeds the fields of a value that are to be found by meaning.
func (e *Engine) vectors(ctx context.Context, data []byte, o *put) ([][]float32, error) {
	if e.store.Embed == nil || o.noIndex {
		return nil, nil
	}
	fields := o.fields
	if fields == nil {
		fields = e.store.Fields
	}
	if fields == nil {
		fields = []string{"$"}
	}
	var value map[string]json.RawMessage
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, err
	}
	var texts []string
	for _, field := range fields {
		if field == "$" {
			texts = append(texts, string(data))
			continue
		}
		raw, ok := value[field]
		if !ok {
			continue
		}
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil, nil
	}
	return e.embed(ctx, texts)
}

func (e *Engine) embed(ctx context.Context, texts []string) ([][]float32, error) {
	vectors, err := e.store.Embed(ctx, texts)
	if err != nil {
		return nil, fmt.Errorf("embedding: %w", err)
	}
	if len(vectors) != len(texts) {
		return nil, fmt.Errorf("embedding: %d vectors for %d texts", len(vectors), len(texts))
	}
	for _, v := range vectors {
		if len(v) == 0 || len(v) != len(vectors[0]) {
			return nil, errors.New("embedding: the vectors differ in length, or are empty")
		}
	}
	return vectors, nil
}

// compile makes a test of a filter.
func compile(filter map[string]any) (func(map[string]any) bool, error) {
	data, err := json.Marshal(filter) // as stored values are: structs as objects
	if err != nil {
		return nil, err
	}
	plain, err := exactly(data)
	if err != nil {
		return nil, err
	}
	for _, condition := range plain {
		if err := checkCondition(condition); err != nil {
			return nil, err
		}
	}
	return func(value map[string]any) bool {
		for field, condition := range plain {
			if !holds(condition, value[field]) {
				return false
			}
		}
		return true
	}, nil
}

// exactly decodes a JSON object whose numbers keep all their digits.
func exactly(data []byte) (object map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return object, d.Decode(&object)
}

func checkCondition(condition any) error {
	object, ok := condition.(map[string]any)
	if !ok {
		return nil
	}
	for name, inner := range object {
		if name == "" || name[0] != '$' {
			if err := checkCondition(inner); err != nil {
				return err
			}
			continue
		}
		if _, known := operators[name]; !known {
			return fmt.Errorf("unsupported operator %q", name)
		}
	}
	return nil
}

// operators compare a field with the operand; the int is cmp.Compare of them, if they are ordered at all.
var operators = map[string]func(order int, ordered, equal bool) bool{
	"$eq":  func(_ int, _, equal bool) bool { return equal },
	"$ne":  func(_ int, _, equal bool) bool { return !equal },
	"$gt":  func(order int, ordered, _ bool) bool { return ordered && order > 0 },
	"$gte": func(order int, ordered, _ bool) bool { return ordered && order >= 0 },
	"$lt":  func(order int, ordered, _ bool) bool { return ordered && order < 0 },
	"$lte": func(order int, ordered, _ bool) bool { return ordered && order <= 0 },
}

func holds(condition, value any) bool {
	object, ok := condition.(map[string]any)
	if !ok {
		return equal(condition, value)
	}
	fields, isObject := value.(map[string]any)
	for name, inner := range object {
		if operator := operators[name]; operator != nil {
			order, ordered := compare(value, inner)
			if !operator(order, ordered, equal(value, inner)) {
				return false
			}
		} else if !isObject || !holds(inner, fields[name]) {
			return false
		}
	}
	return isObject || len(object) > 0
}

// equal compares decoded values; 1 and 1.0 are the same number.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, equal)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case json.Number:
		order, ordered := compare(a, b)
		return ordered && order == 0
	}
	return a == b
}

func compare(a, b any) (int, bool) {
	switch a := a.(type) {
	case json.Number:
		if b, ok := b.(json.Number); ok {
			return compareNumbers(a, b), true
		}
	case string:
		if b, ok := b.(string); ok {
			return cmp.Compare(a, b), true
		}
	}
	return 0, false
}

func compareNumbers(a, b json.Number) int {
	x, _ := a.Float64()
	y, _ := b.Float64()
	if x != y || strings.ContainsAny(string(a+b), "eE") {
		return cmp.Compare(x, y)
	}
	// Above 2^53 several integers have one float.
	m, okM := new(big.Rat).SetString(string(a))
	n, okN := new(big.Rat).SetString(string(b))
	if !okM || !okN {
		return 0
	}
	return m.Cmp(n)
}

// NamespaceFilter says which namespaces [Store.Namespaces] lists. "*" in
// Prefix and Suffix stands for any one label.
type NamespaceFilter struct {
	_              [0]func()
	Prefix, Suffix []string
	// MaxDepth cuts namespaces to so many labels; what becomes equal is listed once. Default: no cut.
	MaxDepth int
	// Limit and Offset select a page. Default: 100 and 0.
	Limit, Offset int
}

// Namespaces lists, sorted, the namespaces that hold an item. A nil filter lists all.
func (s *Store) Namespaces(ctx context.Context, filter *NamespaceFilter) ([][]string, error) {
	var f NamespaceFilter
	if filter != nil {
		f = *filter
	}
	if f.Limit == 0 {
		f.Limit = 100
	}
	if f.Limit < 0 || f.Offset < 0 || f.MaxDepth < 0 {
		return nil, storeError("namespaces", f.Prefix, "", errors.New("limit, offset and depth must not be negative"))
	}
	input := []any{f.Prefix, f.Suffix, f.MaxDepth, f.Limit, f.Offset}
	return durably(ctx, "store.namespaces", input, func(ctx context.Context) ([][]string, error) {
		fixed := f.Prefix
		if i := slices.Index(fixed, "*"); i >= 0 {
			fixed = fixed[:i]
		}
		all, err := s.engine.core.Backend().ListNamespaces(ctx, s.engine.tenant, fixed)
		if err != nil {
			return nil, &Error{Op: "namespaces", Reason: ErrStorage, Err: err}
		}
		var found [][]string
		for _, namespace := range all {
			if namespace[0] == "fermata" || !labelsMatch(namespace, f.Prefix, false) || !labelsMatch(namespace, f.Suffix, true) {
				continue
			}
			if f.MaxDepth > 0 {
				namespace = namespace[:min(f.MaxDepth, len(namespace))]
			}
			found = append(found, namespace)
		}
		slices.SortFunc(found, slices.Compare[[]string])
		found = slices.CompactFunc(found, slices.Equal[[]string])
		found = found[min(f.Offset, len(found)):]
		return found[:min(f.Limit, len(found))], nil
	})
}

// labelsMatch reports whether a namespace begins, or ends, as the pattern says.
func labelsMatch(namespace, pattern []string, atEnd bool) bool {
	if len(pattern) > len(namespace) {
		return false
	}
	if atEnd {
		namespace = namespace[len(namespace)-len(pattern):]
	}
	for i, label := range pattern {
		if label != "*" && label != namespace[i] {
			return false
		}
	}
	return true
}
