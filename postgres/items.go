package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fermata-go/fermata/storage"
)

// PutItems implements [storage.Items].
func (b *Backend) PutItems(ctx context.Context, items []storage.Item) error {
	for i := range items {
		if err := checkItem(&items[i]); err != nil {
			return fmt.Errorf("postgres: put item %.80q: %w", items[i].Key, err)
		}
	}
	calls := []*call{b.durable()}
	for _, i := range inLockOrder(items) {
		calls = append(calls, b.putCall(i))
	}
	return b.do(ctx, "put items", func(ctx context.Context, pg *pgconn.PgConn) error {
		return b.exec(ctx, pg, func(int, *row) error { return nil }, calls...)
	})
}

// inLockOrder sorts items by their keys, so that two calls that overlap lock rows in the
// same order; those of one key stay in theirs.
func inLockOrder(items []storage.Item) []*storage.Item {
	list := make([]*storage.Item, len(items))
	for i := range items {
		list[i] = &items[i]
	}
	slices.SortStableFunc(list, func(a, b *storage.Item) int { return strings.Compare(itemKey(a), itemKey(b)) })
	return list
}

func itemKey(i *storage.Item) string {
	return i.Tenant + "\x00" + strings.Join(i.Namespace, "\x00") + "\x00\x00" + i.Key
}

func (b *Backend) putCall(i *storage.Item) *call {
	if i.Value == nil {
		c := b.call("DELETE FROM SCHEMA.item WHERE tenant = $1 AND namespace = $2 AND key = $3")
		c.text(i.Tenant)
		c.texts(i.Namespace)
		c.text(i.Key)
		return c
	}
	c := b.call(`INSERT INTO SCHEMA.item AS i (tenant, namespace, key, created, updated, expires, ttl, value, vectors)
		SELECT $1, $2, $3, now.at, now.at, now.at + $5 * interval '1 microsecond', $6, $7, $8
		FROM (SELECT clock_timestamp() + $4 * interval '1 microsecond' AS at) now
		ON CONFLICT (tenant, namespace, key) DO UPDATE SET
			created = CASE WHEN i.expires <= excluded.updated THEN excluded.created ELSE i.created END,
			updated = excluded.updated, expires = excluded.expires, ttl = excluded.ttl, value = excluded.value, vectors = excluded.vectors`)
	c.text(i.Tenant)
	c.texts(i.Namespace)
	c.text(i.Key)
	c.int8(b.offset())
	if i.TTL != 0 {
		c.int8(i.TTL.Microseconds())
	} else {
		c.add(pgtype.Int8OID, nil)
	}
	c.int8(int64(i.TTL))
	c.bytes(i.Value)
	c.bytes(packVectors(i.Vectors))
	return c
}

func checkItem(i *storage.Item) error {
	if len(i.Namespace) == 0 {
		return fmt.Errorf("%w: no namespace", storage.ErrInvalid)
	}
	if err := checkName("tenant", i.Tenant); err != nil {
		return err
	}
	for _, element := range i.Namespace {
		if element == "" {
			return fmt.Errorf("%w: an element of namespace %.80q is empty", storage.ErrInvalid, i.Namespace)
		}
		if err := checkName("namespace", element); err != nil {
			return err
		}
	}
	for _, v := range i.Vectors {
		if len(v) != len(i.Vectors[0]) {
			return fmt.Errorf("%w: vectors of length %d and %d", storage.ErrInvalid, len(i.Vectors[0]), len(v))
		}
	}
	return checkName("key", i.Key)
}

// packVectors is the number of vectors, and all their numbers, little-endian; nil for none.
func packVectors(vectors [][]float32) []byte {
	if len(vectors) == 0 {
		return nil
	}
	packed := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+4*len(vectors)*len(vectors[0])), uint32(len(vectors)))
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
	if len(packed) < 4 || len(packed)%4 != 0 {
		return nil, fmt.Errorf("%w: vectors end early", storage.ErrCorrupt)
	}
	n := int(binary.LittleEndian.Uint32(packed))
	packed = packed[4:]
	if n <= 0 || n > len(packed)/4+1 || len(packed)/4%n != 0 {
		return nil, fmt.Errorf("%w: vectors end early", storage.ErrCorrupt)
	}
	size := len(packed) / 4 / n
	vectors := make([][]float32, n)
	for i := range vectors {
		vectors[i] = make([]float32, size)
		for j := range vectors[i] {
			vectors[i][j] = math.Float32frombits(binary.LittleEndian.Uint32(packed))
			packed = packed[4:]
		}
	}
	return vectors, nil
}

const itemColumns = "i.namespace, i.key, i.created, i.updated, i.expires, i.ttl, i.value"

func readItem(r *row, tenant string) (storage.Item, error) {
	i := storage.Item{
		Tenant: tenant, Namespace: r.texts(), Key: r.text(), Created: r.time(), Updated: r.time(), Expires: r.time(),
		TTL: time.Duration(r.int8()), Value: r.bytes(),
	}
	vectors, err := unpackVectors(r.bytes())
	i.Vectors = vectors
	if r.err != nil {
		err = r.err
	}
	return i, err
}

// GetItem implements [storage.Items].
func (b *Backend) GetItem(ctx context.Context, tenant string, namespace []string, key string, refresh bool) (item storage.Item, err error) {
	what, found := fmt.Sprintf("read item %.80q", key), false
	const now = "clock_timestamp() + $4 * interval '1 microsecond'"
	sql := "SELECT " + itemColumns + ", i.vectors FROM SCHEMA.item i WHERE i.tenant = $1 AND i.namespace = $2 AND i.key = $3 AND (i.expires IS NULL OR i.expires > " + now + ")"
	if refresh {
		sql = "UPDATE SCHEMA.item i SET expires = CASE WHEN i.ttl <> 0 THEN " + now + " + i.ttl / 1000 * interval '1 microsecond' END" +
			" WHERE i.tenant = $1 AND i.namespace = $2 AND i.key = $3 AND (i.expires IS NULL OR i.expires > " + now + ")" +
			" RETURNING " + itemColumns + ", i.vectors"
	}
	c := b.call(sql)
	c.text(tenant)
	c.texts(namespace)
	c.text(key)
	c.int8(b.offset())
	err = b.read(ctx, what, func() { found = false }, func(_ int, r *row) (err error) {
		item, err = readItem(r, tenant)
		found = true
		return err
	}, c)
	return item, orNotFound(what, found, err)
}

// below restricts to namespaces that begin with prefix. Of arrays those lie together: the
// least text above "b" that isn't below it begins "b\x01".
func below(q *query, prefix []string) {
	if len(prefix) == 0 {
		return
	}
	end := slices.Clone(prefix)
	end[len(end)-1] += "\x01"
	q.where("i.namespace >= ", textsArg(prefix), " AND i.namespace < ", textsArg(end))
}

func (b *Backend) living(q *query) {
	q.where("i.expires IS NULL OR i.expires > clock_timestamp() + ", int8Arg(b.offset()), " * interval '1 microsecond'")
}

// ListItems implements [storage.Items].
func (b *Backend) ListItems(ctx context.Context, f storage.ItemFilter) (list []storage.Item, err error) {
	vectors := ", NULL::bytea"
	if f.WithVectors {
		vectors = ", i.vectors"
	}
	q := b.query("SELECT " + itemColumns + vectors + " FROM SCHEMA.item i")
	q.where("i.tenant = ", textArg(f.Tenant))
	below(q, f.Prefix)
	b.living(q)
	if f.After != nil {
		q.where("(i.namespace, i.key) > (", textsArg(f.After.Namespace), ", ", textArg(f.After.Key), ")")
	}
	q.end(" ORDER BY i.namespace, i.key LIMIT ", int8Arg(pageSize(f.Limit)))
	err = b.read(ctx, "list items", func() { list = nil }, func(_ int, r *row) error {
		i, err := readItem(r, f.Tenant)
		list = append(list, i)
		return err
	}, q.call())
	return list, err
}

// ListNamespaces implements [storage.Items].
func (b *Backend) ListNamespaces(ctx context.Context, tenant string, prefix []string) (list [][]string, err error) {
	q := b.query("SELECT DISTINCT i.namespace FROM SCHEMA.item i")
	q.where("i.tenant = ", textArg(tenant))
	below(q, prefix)
	b.living(q)
	q.end(" ORDER BY i.namespace")
	err = b.read(ctx, "list namespaces", func() { list = nil }, func(_ int, r *row) error {
		list = append(list, r.texts())
		return r.err
	}, q.call())
	return list, err
}

// SweepItems implements [storage.Items].
func (b *Backend) SweepItems(ctx context.Context, limit int) (n int, err error) {
	c := b.call(`WITH gone AS (
		DELETE FROM SCHEMA.item i USING (
			SELECT o.tenant, o.namespace, o.key FROM SCHEMA.item o WHERE o.expires <= clock_timestamp() + $1 * interval '1 microsecond'
			ORDER BY o.expires LIMIT $2 FOR UPDATE SKIP LOCKED
		) e WHERE i.tenant = e.tenant AND i.namespace = e.namespace AND i.key = e.key RETURNING 1
	) SELECT count(*) FROM gone`)
	c.int8(b.offset())
	c.int8(int64(max(limit, 0)))
	err = b.do(ctx, "sweep items", func(ctx context.Context, pg *pgconn.PgConn) error {
		return b.exec(ctx, pg, func(_ int, r *row) error {
			n = int(r.int8())
			return r.err
		}, c)
	})
	return n, err
}
