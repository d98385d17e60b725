package storagetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/fermata-go/fermata/storage"
)

var itemCases = []testCase{
	{"PutAndGet", itemPut},
	{"CreatedSurvivesAnOverwrite", itemCreated},
	{"NilDeletes", itemDelete},
	{"EmptyIsNotAbsent", itemEmpty},
	{"PutIsAllOrNone", itemAtomic},
	{"PutTakesEffectInOrder", itemOrder},
	{"InvalidIsRefused", itemInvalid},
	{"ExpiresAfterItsTTL", itemExpires},
	{"RefreshExtendsItsLife", itemRefresh},
	{"PrefixIsByElement", itemPrefix},
	{"ListIsOrderedAndPaged", itemPages},
	{"Namespaces", itemNamespaces},
	{"Vectors", itemVectors},
	{"Sweep", itemSweep},
}

func (w *world) put(items ...storage.Item) {
	w.Helper()
	w.ok(w.b.PutItems(w.ctx, ofTenant(items)), "PutItems")
}

func ofTenant(items []storage.Item) []storage.Item {
	items = slices.Clone(items)
	for i := range items {
		if items[i].Tenant == "" {
			items[i].Tenant = tenant
		}
	}
	return items
}

func item(value string, key string, namespace ...string) storage.Item {
	return storage.Item{Namespace: namespace, Key: key, Value: []byte(value)}
}

func (w *world) get(key string, namespace ...string) storage.Item {
	w.Helper()
	i, err := w.b.GetItem(w.ctx, tenant, namespace, key, false)
	w.ok(err, "GetItem")
	return i
}

func (w *world) absent(key string, namespace ...string) {
	w.Helper()
	for _, refresh := range []bool{false, true} {
		_, err := w.b.GetItem(w.ctx, tenant, namespace, key, refresh)
		w.is(err, storage.ErrNotFound, "GetItem")
	}
	for _, i := range w.items(storage.ItemFilter{}) {
		w.true(i.Key != key || !slices.Equal(i.Namespace, namespace), "an absent item is listed")
	}
}

func (w *world) items(f storage.ItemFilter) []storage.Item {
	w.Helper()
	f.Tenant = tenant
	list, err := w.b.ListItems(w.ctx, f)
	w.ok(err, "ListItems")
	return list
}

func itemNames(items []storage.Item) []string {
	var names []string
	for _, i := range items {
		names = append(names, fmt.Sprint(i.Namespace, " ", i.Key))
	}
	return names
}

func itemPut(w *world) {
	before := w.now()
	put := item(`{"a":1}`, "key", "users", "bob")
	put.Vectors = [][]float32{{1, -0.5, 3e-20}, {0, 2, 4}}
	w.put(put, item("other", "other", "users", "bob"), item("elsewhere", "key", "users", "ada"))
	got := w.get("key", "users", "bob")
	w.true(!got.Created.Before(before) && got.Updated.Equal(got.Created), "created %v, updated %v", got.Created, got.Updated)
	put.Tenant, put.Created, put.Updated = tenant, got.Created, got.Updated
	same(w, "item", got, put)
	w.absent("key", "users")
	w.absent("key", "users", "bob", "x")
	w.absent("Key", "users", "bob")
	w.ok(w.b.PutItems(w.ctx, nil), "PutItems of nothing")
}

func itemCreated(w *world) {
	first := item("1", "k", "n")
	first.Vectors = [][]float32{{1}}
	w.put(first)
	created := w.get("k", "n").Created
	w.clock.advance(time.Hour)
	w.put(item("2", "k", "n"))
	got := w.get("k", "n")
	w.true(got.Created.Equal(created) && got.Updated.Sub(created) >= time.Hour, "created %v, updated %v; first created %v", got.Created, got.Updated, created)
	same(w, "value", string(got.Value), "2")
	w.true(got.Vectors == nil, "the old vectors are still there")
	// Absence ends a life: by deletion, …
	w.put(storage.Item{Namespace: []string{"n"}, Key: "k"})
	w.clock.advance(time.Hour)
	short := item("3", "k", "n")
	short.TTL = time.Minute
	w.put(short)
	third := w.get("k", "n").Created
	w.true(third.Sub(created) >= 2*time.Hour, "created %v after a deletion", third)
	// … and by expiry.
	w.clock.advance(time.Hour)
	w.put(item("4", "k", "n"))
	fourth := w.get("k", "n")
	w.true(fourth.Created.Sub(third) >= time.Hour && fourth.Expires.IsZero(), "created %v after an expiry, expires %v", fourth.Created, fourth.Expires)
}

func itemDelete(w *world) {
	w.put(item("1", "k", "n"), item("2", "l", "n"))
	w.put(storage.Item{Namespace: []string{"n"}, Key: "k"}, storage.Item{Namespace: []string{"n"}, Key: "never there"})
	w.absent("k", "n")
	w.absent("never there", "n")
	w.get("l", "n")
}

func itemEmpty(w *world) {
	w.put(item("", "k", "n"), item("no key", "", "n"))
	got := w.get("k", "n")
	w.true(got.Value != nil && len(got.Value) == 0, "value %#v, want present and empty", got.Value)
	list := w.items(storage.ItemFilter{})
	w.true(len(list) == 2 && list[1].Value != nil, "list %v", list)
	same(w, "item without a key", string(w.get("", "n").Value), "no key")
}

func itemAtomic(w *world) {
	w.put(item("before", "k", "n"))
	err := w.b.PutItems(w.ctx, ofTenant([]storage.Item{item("after", "k", "n"), item("new", "l", "n"), item("bad", "m")}))
	w.is(err, storage.ErrInvalid, "PutItems with an invalid one")
	same(w, "value", string(w.get("k", "n").Value), "before")
	w.absent("l", "n")
}

func itemOrder(w *world) {
	w.put(item("1", "k", "n"), item("2", "k", "n"), item("x", "l", "n"), storage.Item{Namespace: []string{"n"}, Key: "l"},
		storage.Item{Namespace: []string{"n"}, Key: "m"}, item("y", "m", "n"))
	same(w, "the later of two", string(w.get("k", "n").Value), "2")
	w.absent("l", "n")
	same(w, "put after a deletion", string(w.get("m", "n").Value), "y")
}

func itemInvalid(w *world) {
	unequal := item("v", "k", "n")
	unequal.Vectors = [][]float32{{1, 2}, {1}}
	for name, bad := range map[string]storage.Item{
		"no namespace":                item("v", "k"),
		"an empty element":            item("v", "k", "a", "", "b"),
		"a NUL byte":                  item("v", "k", "a", "b\x00c"),
		"vectors of different length": unequal,
		"nothing to delete there":     {Key: "k"},
	} {
		w.is(w.b.PutItems(w.ctx, ofTenant([]storage.Item{bad})), storage.ErrInvalid, "PutItems with "+name)
	}
	w.true(len(w.items(storage.ItemFilter{})) == 0, "a refused item is there")
}

func itemExpires(w *world) {
	short := item("v", "short", "n", "m")
	short.TTL = time.Minute
	w.put(short, item("v", "long", "n"))
	got := w.get("short", "n", "m")
	w.true(got.TTL == time.Minute && got.Expires.Equal(got.Updated.Add(time.Minute)), "TTL %v, updated %v, expires %v", got.TTL, got.Updated, got.Expires)
	long := w.get("long", "n")
	w.true(long.TTL == 0 && long.Expires.IsZero(), "TTL %v, expires %v", long.TTL, long.Expires)
	w.advanceTo(got.Expires.Add(-10 * time.Second))
	same(w, "the item just before", w.get("short", "n", "m"), got) // a read without refresh extends nothing
	w.true(len(w.items(storage.ItemFilter{})) == 2, "an item has expired early")
	w.advanceTo(got.Expires)
	w.absent("short", "n", "m")
	namespaces, err := w.b.ListNamespaces(w.ctx, tenant, nil)
	w.ok(err, "ListNamespaces")
	same(w, "namespaces", namespaces, [][]string{{"n"}})
	w.get("long", "n")
}

func itemRefresh(w *world) {
	short := item("v", "k", "n")
	short.TTL = time.Hour
	w.put(short, item("v", "never", "n"))
	put := w.get("k", "n")
	refresh := func(key string) storage.Item {
		w.Helper()
		i, err := w.b.GetItem(w.ctx, tenant, []string{"n"}, key, true)
		w.ok(err, "GetItem with refresh")
		same(w, "the item read again", w.get(key, "n"), i)
		return i
	}
	for range 3 {
		w.clock.advance(50 * time.Minute)
		before := w.now()
		got := refresh("k")
		w.true(!got.Expires.Before(before.Add(time.Hour)), "expires %v, refreshed after %v", got.Expires, before)
		w.true(got.Created.Equal(put.Created) && got.Updated.Equal(put.Updated), "a refresh changed created to %v, updated to %v", got.Created, got.Updated)
	}
	w.true(refresh("never").Expires.IsZero(), "a refresh gave an end to what had none")
	w.clock.advance(61 * time.Minute)
	w.absent("k", "n")
}

func itemPrefix(w *world) {
	w.put(item("v", "k", "a"), item("v", "k", "a", "b"), item("v", "k", "a", "b", "c"), item("v", "k", "a", "bc"),
		item("v", "k", "ab"), item("v", "k", "a%"), item("v", "k", "a_"), item("v", "k", "b", "a"), item("v", "k", "a.b"), item("v", "k", "a/b"))
	for _, c := range []struct {
		prefix []string
		want   []string
	}{
		{[]string{"a"}, []string{"[a] k", "[a b] k", "[a b c] k", "[a bc] k"}},
		{[]string{"a", "b"}, []string{"[a b] k", "[a b c] k"}},
		{[]string{"a", "b", "c"}, []string{"[a b c] k"}},
		{[]string{"a", "b", "c", "d"}, nil},
		{[]string{"a%"}, []string{"[a%] k"}},
		{[]string{"a_"}, []string{"[a_] k"}},
		{[]string{"a."}, nil},
		{[]string{"b"}, []string{"[b a] k"}},
		{[]string{"A"}, nil},
	} {
		same(w, fmt.Sprintf("items below %q", c.prefix), itemNames(w.items(storage.ItemFilter{Prefix: c.prefix})), c.want)
	}
	w.true(len(w.items(storage.ItemFilter{})) == 10, "%d items below nothing, want all 10", len(w.items(storage.ItemFilter{})))
}

func itemPages(w *world) {
	// In the order of the contract: by element and then by key, by bytes.
	want := []storage.Item{
		item("1", "a", "A"), item("2", "B", "a"), item("3", "a", "a"), item("4", "z", "a"), item("5", "a", "a", "\x01"), item("6", "a", "a", "b"),
		item("7", "b", "a", "b"), item("8", "a", "a", "z"), item("9", "a", "a\x01"), item("10", "a", "a!"), item("11", "a", "ab"),
		item("12", "a", "é"), item("13", "é", "é"), item("14", "日", "日本"),
	}
	shuffled := slices.Clone(want)
	slices.Reverse(shuffled)
	w.put(shuffled[5:]...)
	w.put(shuffled[:5]...)
	same(w, "all items", itemNames(w.items(storage.ItemFilter{})), itemNames(want))
	for _, n := range []int{1, 3, 5, 14} {
		paged := byPages(w, n, func(last *storage.Item) []storage.Item {
			return w.items(storage.ItemFilter{Limit: n, After: last})
		})
		same(w, fmt.Sprintf("items by pages of %d", n), itemNames(paged), itemNames(want))
	}
	same(w, "a page below a prefix", itemNames(w.items(storage.ItemFilter{Prefix: []string{"a"}, After: &want[2], Limit: 3})), itemNames(want[3:6]))
	var many []storage.Item
	for i := range 101 {
		many = append(many, item("v", fmt.Sprint(i), "many"))
	}
	w.put(many...)
	w.true(len(w.items(storage.ItemFilter{Prefix: []string{"many"}})) == 100, "the limit is not 100 by default")
}

func itemNamespaces(w *world) {
	w.put(item("v", "1", "b"), item("v", "1", "a", "c"), item("v", "2", "a", "c"), item("v", "1", "a"), item("v", "1", "a", "b", "x"), item("v", "1", "ab"))
	for _, c := range []struct {
		prefix []string
		want   [][]string
	}{
		{nil, [][]string{{"a"}, {"a", "b", "x"}, {"a", "c"}, {"ab"}, {"b"}}},
		{[]string{"a"}, [][]string{{"a"}, {"a", "b", "x"}, {"a", "c"}}},
		{[]string{"a", "b"}, [][]string{{"a", "b", "x"}}},
		{[]string{"z"}, nil},
	} {
		got, err := w.b.ListNamespaces(w.ctx, tenant, c.prefix)
		w.ok(err, "ListNamespaces")
		same(w, fmt.Sprintf("namespaces below %q", c.prefix), got, c.want)
	}
	w.put(storage.Item{Namespace: []string{"b"}, Key: "1"}, storage.Item{Namespace: []string{"a", "c"}, Key: "1"})
	got, err := w.b.ListNamespaces(w.ctx, tenant, nil)
	w.ok(err, "ListNamespaces")
	same(w, "namespaces after deletions", got, [][]string{{"a"}, {"a", "b", "x"}, {"a", "c"}, {"ab"}})
}

func itemVectors(w *world) {
	one := item("v", "k", "n")
	one.Vectors = [][]float32{{0.25, -1, 1e30}}
	w.put(one)
	same(w, "vectors of GetItem", w.get("k", "n").Vectors, one.Vectors)
	w.true(w.items(storage.ItemFilter{})[0].Vectors == nil, "a list without vectors has vectors")
	same(w, "vectors of ListItems", w.items(storage.ItemFilter{WithVectors: true})[0].Vectors, one.Vectors)
	one.Vectors = [][]float32{{1, 2}, {3, 4}, {5, 6}}
	w.put(one)
	same(w, "vectors of another length", w.get("k", "n").Vectors, one.Vectors)
}

func itemSweep(w *world) {
	sweep := func(limit int) int {
		w.Helper()
		n, err := w.b.SweepItems(w.ctx, limit)
		w.ok(err, "SweepItems")
		return n
	}
	var items []storage.Item
	for i := range 5 {
		short := item("v", fmt.Sprint(i), "n")
		short.TTL = time.Minute
		items = append(items, short)
	}
	elsewhere := items[0]
	elsewhere.Tenant = "another"
	w.put(append(items, elsewhere, item("v", "stays", "n"))...)
	same(w, "items swept too early", sweep(10), 0)
	w.clock.advance(time.Hour)
	same(w, "items swept", sweep(4), 4)
	same(w, "items swept, of every tenant", sweep(10), 2)
	same(w, "items swept again", sweep(10), 0)
	w.get("stays", "n")
}
