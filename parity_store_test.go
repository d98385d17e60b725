package fermata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
)

type note struct {
	Text  string `json:"text"`
	Stars int    `json:"stars"`
}

func keys(items []*fermata.Item) []string {
	var all []string
	for _, item := range items {
		all = append(all, strings.Join(item.Namespace, "/")+":"+item.Key)
	}
	return all
}

func remember(g *ground, items map[string]note) {
	for name, value := range items {
		namespace, key, _ := strings.Cut(name, ":")
		if err := g.engine.Store().Put(g.t.Context(), strings.Split(namespace, "/"), key, value); err != nil {
			g.t.Fatal(err)
		}
	}
}

func TestStorePutGetDelete(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		store, ctx, namespace := g.engine.Store(), g.t.Context(), []string{"users", "ann"}
		remember(g, map[string]note{"users/ann:tea": {"likes tea", 3}})
		item, err := store.Get(ctx, namespace, "tea")
		if err != nil {
			g.t.Fatal(err)
		}
		var value note
		if err := item.Decode(&value); err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "value", value, note{"likes tea", 3})
		want(g.t, "namespace", item.Namespace, namespace)
		_, err = g.engine.Tenant("other").Store().Get(ctx, namespace, "tea")
		wantErr(g.t, "another tenant", err, fermata.ErrNotFound)
		for range 2 { // an absent one is no error
			if err := store.Delete(ctx, namespace, "tea"); err != nil {
				g.t.Fatal(err)
			}
		}
		_, err = store.Get(ctx, namespace, "tea")
		wantErr(g.t, "a deleted item", err, fermata.ErrNotFound)
	})
}

func TestStoreRefusesBadNames(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		store, ctx := g.engine.Store(), g.t.Context()
		for _, namespace := range [][]string{nil, {""}, {"a", ""}, {"a.b"}, {"langgraph"}, {"fermata"}, {"\xff"}} {
			wantErr(g.t, strings.Join(namespace, "/"), store.Put(ctx, namespace, "k", note{}), fermata.ErrInvalid)
		}
		for name, value := range map[string]any{"null": nil, "a number": 1, "a list": []int{1}, "a function": func() {}} {
			wantErr(g.t, name, store.Put(ctx, []string{"a"}, "k", value), fermata.ErrInvalid)
		}
		wantErr(g.t, "an empty key", store.Put(ctx, []string{"a"}, "", note{}), fermata.ErrInvalid)
	})
}

func TestStoreSearch(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		store, ctx := g.engine.Store(), g.t.Context()
		remember(g, map[string]note{"a:1": {"one", 1}, "a:2": {"two", 2}, "a/b:3": {"three", 3}, "ab:4": {"four", 4}})
		for name, test := range map[string]struct {
			prefix []string
			search *fermata.Search
			want   []string
		}{
			"everything":     {nil, nil, []string{"a:1", "a:2", "a/b:3", "ab:4"}},
			"a prefix":       {[]string{"a"}, nil, []string{"a:1", "a:2", "a/b:3"}},
			"nothing":        {[]string{"c"}, nil, nil},
			"equality":       {nil, &fermata.Search{Filter: map[string]any{"text": "two"}}, []string{"a:2"}},
			"greater":        {nil, &fermata.Search{Filter: map[string]any{"stars": map[string]any{"$gt": 2}}}, []string{"a/b:3", "ab:4"}},
			"less":           {nil, &fermata.Search{Filter: map[string]any{"stars": map[string]any{"$lt": 2}}}, []string{"a:1"}},
			"less or equal":  {nil, &fermata.Search{Filter: map[string]any{"stars": map[string]any{"$lte": 2}}}, []string{"a:1", "a:2"}},
			"between":        {nil, &fermata.Search{Filter: map[string]any{"stars": map[string]any{"$gte": 2, "$lte": 3}}}, []string{"a:2", "a/b:3"}},
			"not equal":      {[]string{"a"}, &fermata.Search{Filter: map[string]any{"stars": map[string]any{"$ne": 1}}}, []string{"a:2", "a/b:3"}},
			"both hold":      {nil, &fermata.Search{Filter: map[string]any{"text": "one", "stars": 2}}, nil},
			"a page":         {nil, &fermata.Search{Limit: 2, Offset: 1}, []string{"a:2", "a/b:3"}},
			"past the end":   {nil, &fermata.Search{Offset: 9}, nil},
			"equality, $eq":  {nil, &fermata.Search{Filter: map[string]any{"stars": map[string]any{"$eq": 4}}}, []string{"ab:4"}},
			"all past three": {nil, &fermata.Search{Limit: math.MaxInt, Offset: 3}, []string{"ab:4"}},
		} {
			found, err := store.Search(ctx, test.prefix, test.search)
			if err != nil {
				g.t.Fatal(name, err)
			}
			got := keys(found)
			slices.Sort(got)
			slices.Sort(test.want)
			want(g.t, name, got, test.want)
		}
		for _, bad := range []*fermata.Search{{Filter: map[string]any{"stars": map[string]any{"$foo": 1}}}, {Limit: -1}, {Query: "no vectors"}} {
			_, err := store.Search(ctx, nil, bad)
			wantErr(g.t, "a bad search", err, fermata.ErrInvalid)
		}
		for n := range 12 {
			if err := store.Put(ctx, []string{"many"}, fmt.Sprint(n), note{}); err != nil {
				g.t.Fatal(err)
			}
		}
		found, err := store.Search(ctx, []string{"many"}, nil)
		want(g.t, "items without a limit", []any{len(found), err}, []any{10, nil})
		for n := range 12 {
			if err := store.Delete(ctx, []string{"many"}, fmt.Sprint(n)); err != nil {
				g.t.Fatal(err)
			}
		}
		namespaces, err := store.Namespaces(ctx, nil)
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "namespaces", namespaces, [][]string{{"a"}, {"a", "b"}, {"ab"}})
		for name, test := range map[string]struct {
			filter fermata.NamespaceFilter
			want   [][]string
		}{
			"prefix":               {fermata.NamespaceFilter{Prefix: []string{"a"}}, [][]string{{"a"}, {"a", "b"}}},
			"suffix":               {fermata.NamespaceFilter{Suffix: []string{"b"}}, [][]string{{"a", "b"}}},
			"wildcard in a suffix": {fermata.NamespaceFilter{Suffix: []string{"*", "b"}}, [][]string{{"a", "b"}}},
			"wildcard":             {fermata.NamespaceFilter{Prefix: []string{"*", "b"}}, [][]string{{"a", "b"}}},
			"depth":                {fermata.NamespaceFilter{MaxDepth: 1}, [][]string{{"a"}, {"ab"}}},
			"page":                 {fermata.NamespaceFilter{Limit: 1, Offset: 1}, [][]string{{"a", "b"}}},
		} {
			namespaces, err := store.Namespaces(ctx, &test.filter)
			if err != nil {
				g.t.Fatal(name, err)
			}
			want(g.t, name, namespaces, test.want)
		}
	})
}

// Fields are compared one level down, and numbers to their last digit; what has no object there has no field of it.
func TestStoreFiltersCompareExactly(t *testing.T) {
	type object = map[string]any
	const big = 1 << 53
	onEach(t, func(g *ground) {
		g.deploy(nil, inTurn)
		store, ctx := g.engine.Store(), g.t.Context()
		for key, value := range map[string]object{
			"even": {"id": big, "of": object{"city": "Bern", "floor": 2, "at": nil}}, "odd": {"id": big + 1, "of": object{"city": "Bern", "floor": 3}}, "none": {"x": 1.0},
		} {
			if err := store.Put(ctx, []string{"n"}, key, value); err != nil {
				g.t.Fatal(err)
			}
		}
		for name, test := range map[string]struct {
			filter object
			want   []string
		}{
			"equality":             {object{"id": big + 1}, []string{"n:odd"}},
			"$gt":                  {object{"id": object{"$gt": big}}, []string{"n:odd"}},
			"$gte":                 {object{"id": object{"$gte": big}}, []string{"n:even", "n:odd"}},
			"$lt":                  {object{"id": object{"$lt": big + 1}}, []string{"n:even"}},
			"$ne":                  {object{"id": object{"$ne": big}}, []string{"n:none", "n:odd"}},
			"one number, two ways": {object{"x": json.RawMessage("1.00")}, []string{"n:none"}},
			"absent is null":       {object{"id": nil}, []string{"n:none"}},
			"any object":           {object{"of": object{}}, []string{"n:even", "n:odd"}},
			"a number is none":     {object{"id": object{}}, nil},
			"null below":           {object{"of": object{"at": nil}}, []string{"n:even", "n:odd"}},
			"null below no object": {object{"id": object{"sub": nil}}, nil},
			"below":                {object{"of": object{"city": "Bern", "floor": 3}}, []string{"n:odd"}},
			"operator below":       {object{"of": object{"floor": object{"$lt": 3}}}, []string{"n:even"}},
		} {
			found, err := store.Search(ctx, []string{"n"}, &fermata.Search{Filter: test.filter})
			if err != nil {
				g.t.Fatal(name, err)
			}
			got := keys(found)
			slices.Sort(got)
			want(g.t, name, got, test.want)
		}
	})
}

// embed is a model with a sense of three words.
func embed(_ context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		vectors[i] = []float32{0.01, 0.01, 0.01}
		for n, word := range []string{"tea", "hill", "train"} {
			vectors[i][n] += float32(strings.Count(text, word))
		}
	}
	return vectors, nil
}

func TestStoreSearchByMeaning(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(&fermata.Options{Store: fermata.StoreOptions{Embed: embed, Fields: []string{"text"}}}, inTurn)
		store, ctx := g.engine.Store(), g.t.Context()
		remember(g, map[string]note{"m:1": {"a train to the hill", 1}, "m:2": {"green tea", 2}, "m:3": {"train", 3}})
		if err := store.Put(ctx, []string{"m"}, "4", note{"train, but not to be found", 4}, fermata.Index()); err != nil {
			g.t.Fatal(err)
		}
		found, err := store.Search(ctx, []string{"m"}, &fermata.Search{Query: "which train?"})
		if err != nil {
			g.t.Fatal(err)
		}
		want(g.t, "nearest first, those without vectors last", keys(found), []string{"m:3", "m:1", "m:2", "m:4"})
		if found[3].Score != nil || *found[0].Score < 0.99 {
			g.t.Errorf("scores: %v, %v", found[0].Score, found[3].Score)
		}
	})
}

func TestStoreForgetsInTime(t *testing.T) {
	onEach(t, func(g *ground) {
		g.deploy(&fermata.Options{Store: fermata.StoreOptions{TTL: time.Hour}}, inTurn)
		store, ctx, namespace := g.engine.Store(), g.t.Context(), []string{"m"}
		remember(g, map[string]note{"m:default": {}})
		for key, ttl := range map[string]time.Duration{"short": time.Minute, "for ever": 0} {
			if err := store.Put(ctx, namespace, key, note{}, fermata.TTL(ttl)); err != nil {
				g.t.Fatal(err)
			}
		}
		there := func(key string) bool {
			_, err := store.Get(ctx, namespace, key)
			if err != nil && !errors.Is(err, fermata.ErrNotFound) {
				g.t.Fatal(err)
			}
			return err == nil
		}
		g.advance(50 * time.Minute)
		want(g.t, "after 50 minutes", []bool{there("default"), there("short"), there("for ever")}, []bool{true, false, true})
		g.advance(50 * time.Minute) // reading it has extended its life
		want(g.t, "after 100 minutes", there("default"), true)
		g.advance(50 * time.Minute)
		found, err := store.Search(ctx, namespace, &fermata.Search{})
		want(g.t, "found after 150 minutes", []any{len(found), err}, []any{2, nil})
		g.advance(50 * time.Minute) // finding it has extended its life
		want(g.t, "after 200 minutes", there("default"), true)
		if err := store.Put(ctx, []string{"gone"}, "k", note{}); err != nil {
			g.t.Fatal(err)
		}
		g.advance(61 * time.Minute)
		found, err = store.Search(ctx, nil, nil)
		want(g.t, "found when their time is over", []any{keys(found), err}, []any{[]string{"m:for ever"}, nil})
		namespaces, err := store.Namespaces(ctx, nil)
		want(g.t, "namespaces when their time is over", []any{namespaces, err}, []any{[][]string{{"m"}}, nil})
		want(g.t, "unread for an hour", []bool{there("default"), there("for ever")}, []bool{false, true})
	})
}

func TestStoreWithinATaskActsDirectly(t *testing.T) {
	count := fermata.NewTask("count", func(ctx context.Context, key string) (int, error) {
		store, err := fermata.StoreFrom(ctx)
		if err != nil {
			return 0, err
		}
		var value note
		item, err := store.Get(ctx, []string{"count"}, key)
		if err == nil {
			err = item.Decode(&value)
		}
		if err != nil && !errors.Is(err, fermata.ErrNotFound) {
			return 0, err
		}
		value.Stars++
		err = store.Put(ctx, []string{"count"}, key, value)
		if err == nil && fermata.Attempt(ctx) == 1 {
			err = errors.New("again")
		}
		return value.Stars, err
	}, fermata.Retry(fermata.RetryPolicy{InitialInterval: 1, NoJitter: true}))
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, key string) (int, error) {
		n, err := count.Call(ctx, key)
		if err != nil {
			return 0, err
		}
		_, err = fermata.Interrupt[string](ctx, n)
		return n, err
	})
	onEach(t, func(g *ground) {
		g.deploy(nil, flow)
		first, second := play(g, flow, "1"), play(g, flow, "2")
		first.asks(first.start("k"), "2")   // the second attempt sees what the first one put
		second.asks(second.start("k"), "4") // threads share it
		g.deploy(nil, flow)
		first.returns(first.resume(""), 2)
		second.returns(second.resume(""), 4)
	})
}
