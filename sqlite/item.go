package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// PutItems writes all items or none.
func (b *Backend) PutItems(ctx context.Context, items []storage.Item) error {
	for i := range items {
		if err := checkItem(&items[i]); err != nil {
			return err
		}
	}
	if len(items) == 0 {
		return b.check(ctx)
	}
	return b.write(ctx, "put items", func(t *tx) error {
		for i := range items {
			if err := t.putItem(&items[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// GetItem reads one item; refresh extends its life.
func (b *Backend) GetItem(ctx context.Context, tenant string, namespace []string, key string, refresh bool) (storage.Item, error) {
	var item *storage.Item
	find := func(c *conn, now int64) error {
		items, err := manyItems(c.query("SELECT "+itemColumns+" FROM item WHERE tenant = ? AND namespace = ? AND key = ?").
			text(tenant).blob(joinNamespace(namespace)).text(key), 1, now, true)
		if err != nil {
			return err
		}
		if len(items) == 0 {
			return fmt.Errorf("sqlite: %w: item %.80q of %.80q", storage.ErrNotFound, key, namespace)
		}
		item = &items[0]
		return nil
	}
	err := b.read(ctx, "read an item", func(c *conn) error { return find(c, b.micros()) })
	if err == nil && refresh && item.TTL != 0 {
		err = b.write(ctx, "refresh an item", func(t *tx) error {
			if err := find(t.conn, t.now); err != nil {
				return err
			}
			item.Expires = timeOf(t.now).Add(item.TTL)
			return t.write(t.query("UPDATE item SET expires = ? WHERE tenant = ? AND namespace = ? AND key = ?").
				time(item.Expires).text(tenant).blob(joinNamespace(namespace)).text(key))
		})
	}
	if err != nil {
		return storage.Item{}, err
	}
	return *item, nil
}

// ListItems returns one page of items.
func (b *Backend) ListItems(ctx context.Context, f storage.ItemFilter) ([]storage.Item, error) {
	low, high := prefixRange(f.Prefix)
	key := ""
	strict := false
	if f.After != nil {
		if after := joinNamespace(f.After.Namespace); bytes.Compare(after, low) >= 0 {
			low, key, strict = after, f.After.Key, true
		}
	}
	limit := limitOr100(f.Limit)
	var items []storage.Item
	err := b.read(ctx, "list items", func(c *conn) error {
		now := b.micros()
		q := c.query("SELECT " + itemColumns + ` FROM item WHERE tenant = ? AND (namespace, key) >= (?, ?) AND namespace < ?
			AND NOT (? AND namespace = ? AND key = ?) AND (expires IS NULL OR expires > ?) ORDER BY namespace, key LIMIT ?`).
			text(f.Tenant).blob(low).text(key).blob(high).bool(strict).blob(low).text(key).int(now).int(int64(limit))
		var err error
		items, err = manyItems(q, limit, now, f.WithVectors)
		return err
	})
	if err != nil {
		return nil, err
	}
	return items, nil
}

// ListNamespaces returns the namespaces that hold an item.
func (b *Backend) ListNamespaces(ctx context.Context, tenant string, prefix []string) ([][]string, error) {
	low, high := prefixRange(prefix)
	var list [][]string
	err := b.read(ctx, "list namespaces", func(c *conn) error {
		now := b.micros()
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			// From one namespace to the next by the index, whatever number of items they hold.
			found, err := c.query(`SELECT namespace FROM item WHERE tenant = ? AND namespace >= ? AND namespace < ?
				AND (expires IS NULL OR expires > ?) ORDER BY namespace LIMIT 1`).
				text(tenant).blob(low).blob(high).int(now).first(func(q *query) { low = q.colBlob(0) })
			if err != nil || !found {
				return err
			}
			list = append(list, strings.Split(string(low), "\x00"))
			low = append(low, 0) // nothing is between a namespace and this
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// SweepItems removes expired items.
func (b *Backend) SweepItems(ctx context.Context, limit int) (int, error) {
	removed := 0
	err := b.write(ctx, "sweep items", func(t *tx) error {
		removed = 0
		if limit <= 0 {
			return nil
		}
		expired, err := t.query("SELECT 1 FROM item WHERE expires <= ? AND expires IS NOT NULL LIMIT 1").int(t.now).first(nil)
		if err != nil || !expired {
			return err
		}
		err = t.write(t.query("DELETE FROM item WHERE n IN (SELECT n FROM item WHERE expires <= ? AND expires IS NOT NULL ORDER BY expires LIMIT ?)").
			int(t.now).int(int64(limit)))
		removed = t.raw.Changes()
		return err
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

func checkItem(i *storage.Item) error {
	if len(i.Namespace) == 0 {
		return invalid("put item %.80q: it has no namespace", i.Key)
	}
	for _, element := range i.Namespace {
		if element == "" || strings.Contains(element, "\x00") {
			return invalid("put item %.80q: the namespace has the element %.80q", i.Key, element)
		}
	}
	for _, v := range i.Vectors {
		if len(v) != len(i.Vectors[0]) {
			return invalid("put item %.80q: its vectors have %d and %d numbers", i.Key, len(i.Vectors[0]), len(v))
		}
	}
	return nil
}

func (t *tx) putItem(i *storage.Item) error {
	namespace := joinNamespace(i.Namespace)
	if i.Value == nil {
		return t.write(t.query("DELETE FROM item WHERE tenant = ? AND namespace = ? AND key = ?").text(i.Tenant).blob(namespace).text(i.Key))
	}
	expires := noTime
	if i.TTL != 0 {
		expires = timeOf(t.now).Add(i.TTL)
	}
	return t.write(t.query(`INSERT INTO item (tenant, namespace, key, created, updated, expires, ttl, value, vectors)
		VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8)
		ON CONFLICT (tenant, namespace, key) DO UPDATE SET
			created = CASE WHEN expires <= ?4 THEN ?4 ELSE created END, -- an expired item was absent
			updated = ?4, expires = ?5, ttl = ?6, value = ?7, vectors = ?8`).
		text(i.Tenant).blob(namespace).text(i.Key).int(t.now).time(expires).int(int64(i.TTL)).blob(i.Value).blob(packVectors(i.Vectors)))
}

const itemColumns = "tenant, namespace, key, created, updated, expires, ttl, value, vectors"

// manyItems runs a query for itemColumns and returns what has not expired.
func manyItems(q *query, limit int, now int64, vectors bool) (items []storage.Item, err error) {
	for {
		more, err := q.next()
		if err != nil || !more {
			return items, err
		}
		if len(items) == limit || !q.colNull(5) && q.colInt(5) <= now {
			continue
		}
		item := storage.Item{
			Tenant: q.colText(0), Namespace: strings.Split(string(q.colBlob(1)), "\x00"), Key: q.colText(2),
			Created: q.colTime(3), Updated: q.colTime(4), Expires: q.colTime(5), TTL: time.Duration(q.colInt(6)), Value: q.colBlob(7),
		}
		if vectors {
			if item.Vectors, err = unpackVectors(q.colBlob(8)); err != nil {
				q.close()
				return nil, err
			}
		}
		items = append(items, item)
	}
}

// joinNamespace makes bytes that sort as the namespace does: NUL, which no
// element has, is less than every other byte.
func joinNamespace(namespace []string) []byte { return []byte(strings.Join(namespace, "\x00")) }

// prefixRange returns the range, from low up to but not with high, of the namespaces that begin with prefix.
func prefixRange(prefix []string) (low, high []byte) {
	if len(prefix) == 0 {
		return []byte{}, bytes.Repeat([]byte{0xff}, 64) // no text begins like this
	}
	low = joinNamespace(prefix)
	return low, append(joinNamespace(prefix), 1) // only the prefix itself, and what has a NUL after it, is less
}

// packVectors: the number of vectors, then their numbers, little endian; nil for none.
func packVectors(vectors [][]float32) []byte {
	if len(vectors) == 0 {
		return nil
	}
	packed := binary.AppendUvarint(nil, uint64(len(vectors)))
	for _, v := range vectors {
		for _, x := range v {
			packed = binary.LittleEndian.AppendUint32(packed, math.Float32bits(x))
		}
	}
	return packed
}

func unpackVectors(packed []byte) ([][]float32, error) {
	if packed == nil {
		return nil, nil
	}
	count, n := binary.Uvarint(packed)
	packed = packed[max(n, 0):]
	if n <= 0 || count == 0 || uint64(len(packed))%(4*count) != 0 {
		return nil, fmt.Errorf("sqlite: %w: the vectors of an item", storage.ErrCorrupt)
	}
	numbers := make([]float32, len(packed)/4)
	for i := range numbers {
		numbers[i] = math.Float32frombits(binary.LittleEndian.Uint32(packed[4*i:]))
	}
	length := len(numbers) / int(count)
	vectors := make([][]float32, count)
	for i := range vectors {
		vectors[i] = numbers[i*length : (i+1)*length : (i+1)*length]
	}
	return vectors, nil
}
