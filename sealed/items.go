package sealed

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/fermata-go/fermata/storage"
)

// PutItems implements [storage.Items]. Vectors tell what a text is about, so they are sealed with the value.
func (b *Backend) PutItems(ctx context.Context, items []storage.Item) error {
	hidden := make([]storage.Item, len(items))
	for i, item := range items {
		if item.Value != nil {
			for _, v := range item.Vectors {
				if len(v) != len(item.Vectors[0]) {
					return fmt.Errorf("sealed: put item %.80q: %w: its vectors differ in length", item.Key, storage.ErrInvalid)
				}
			}
			place := strings.Join(append([]string{item.Key}, item.Namespace...), "\x00")
			item.Value = b.ring.current.seal(spot{"item", item.Tenant}, place, packItem(item))
		}
		item.Vectors = nil
		item.Key = b.sealKey(item.Tenant, item.Namespace, item.Key)
		hidden[i] = item
	}
	return b.Backend.PutItems(ctx, hidden)
}

// isCache: the keys there are digests of what tasks were given, from which short inputs can be guessed.
func isCache(namespace []string) bool {
	return len(namespace) > 1 && namespace[0] == "fermata" && namespace[1] == "cache"
}

// sealKey returns the key of an item as the backend gets to see it.
func (b *Backend) sealKey(tenant string, namespace []string, key string) string {
	if !isCache(namespace) {
		return key
	}
	return b.ring.token(spot{"cache key", tenant}, "", key)
}

// packItem returns the number of vectors and their length (varints), their elements, and the value.
func packItem(item storage.Item) []byte {
	size := 0
	if len(item.Vectors) > 0 {
		size = len(item.Vectors[0])
	}
	packed := make([]byte, 0, 2*binary.MaxVarintLen32+4*size*len(item.Vectors)+len(item.Value))
	packed = binary.AppendUvarint(packed, uint64(len(item.Vectors)))
	packed = binary.AppendUvarint(packed, uint64(size))
	for _, vector := range item.Vectors {
		for _, element := range vector {
			packed = binary.LittleEndian.AppendUint32(packed, math.Float32bits(element))
		}
	}
	return append(packed, item.Value...)
}

// unpackItem is the inverse of packItem.
func unpackItem(packed []byte, withVectors bool) (value []byte, vectors [][]float32, ok bool) {
	number, n := binary.Uvarint(packed)
	if n <= 0 {
		return nil, nil, false
	}
	size, m := binary.Uvarint(packed[n:])
	if m <= 0 {
		return nil, nil, false
	}
	packed = packed[n+m:]
	if number > 0 && size > uint64(len(packed))/4/number {
		return nil, nil, false
	}
	for range number {
		if withVectors {
			vector := make([]float32, size)
			for i := range vector {
				vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(packed[4*i:]))
			}
			vectors = append(vectors, vector)
		}
		packed = packed[4*size:]
	}
	return packed, vectors, true
}

// openItem opens what PutItems sealed; a value from before keeps the vectors of its row.
func (b *Backend) openItem(item *storage.Item, withVectors bool) error {
	if isCache(item.Namespace) {
		key, err := b.ring.openText(spot{"cache key", item.Tenant}, item.Key)
		if err != nil {
			return fmt.Errorf("item %.80q: %w", item.Key, err)
		}
		item.Key = key
	}
	plain, err := b.ring.open(spot{"item", item.Tenant}, item.Value)
	if err != nil {
		return fmt.Errorf("item %.80q: %w", item.Key, err)
	}
	if b.ring.lenient && !strings.HasPrefix(string(item.Value), magic) {
		return nil
	}
	value, vectors, ok := unpackItem(plain, withVectors)
	if !ok {
		return fmt.Errorf("item %.80q: %w", item.Key, ErrTampered)
	}
	item.Value, item.Vectors = value, vectors
	return nil
}

// GetItem implements [storage.Items].
func (b *Backend) GetItem(ctx context.Context, tenant string, namespace []string, key string, refresh bool) (storage.Item, error) {
	item, err := b.Backend.GetItem(ctx, tenant, namespace, b.sealKey(tenant, namespace, key), refresh)
	if err == nil {
		err = b.openItem(&item, true)
	}
	if err != nil {
		return storage.Item{}, err
	}
	return item, nil
}

// ListItems implements [storage.Items].
func (b *Backend) ListItems(ctx context.Context, f storage.ItemFilter) ([]storage.Item, error) {
	if f.After != nil {
		after := *f.After
		after.Key = b.sealKey(f.Tenant, after.Namespace, after.Key)
		f.After = &after
	}
	items, err := b.Backend.ListItems(ctx, f)
	if err != nil {
		return nil, err
	}
	for i := range items {
		if err := b.openItem(&items[i], f.WithVectors); err != nil {
			return nil, err
		}
	}
	return items, nil
}
