package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/sealed"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
)

func workflow() *fermata.Entrypoint[string, string] {
	return fermata.NewEntrypoint("flow", func(ctx context.Context, in string) (string, error) {
		answer, err := fermata.Interrupt[string](ctx, "allow "+in+"?", fermata.Unique(in))
		return in + ": " + answer, err
	})
}

// process is an engine on the data with these keys, the current one first.
func process(t *testing.T, b storage.Backend) (*fermata.Engine, *fermata.Entrypoint[string, string]) {
	t.Helper()
	flow := workflow()
	engine, err := fermata.New(b, nil, flow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close(context.Background()) })
	return engine, flow
}

func TestRotation(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	data := memory.New(nil)
	id := storage.NewID(time.Now())
	old, flow := process(t, seal(t, data, "2025"))
	if _, err := flow.On(old).Thread("1").Invoke(ctx, "travel", fermata.WithRunID(id), fermata.Metadata(map[string]string{"who": "ann"})); !errors.Is(err, fermata.ErrPaused) {
		t.Fatal(err)
	}
	if err := old.Close(ctx); err != nil {
		t.Fatal(err)
	}

	b := seal(t, data, "2026", "2025")
	engine, flow := process(t, b)
	thread := flow.On(engine).Thread("1")
	if run, err := thread.Start(ctx, "travel", fermata.WithRunID(id)); err != nil || run.ID() != id {
		t.Errorf("the same start again, under another key: %v", err)
	}
	if _, err := thread.Start(ctx, "another", fermata.WithRunID(id)); !errors.Is(err, fermata.ErrRunConflict) {
		t.Errorf("another start with the run's id: %v", err)
	}
	if _, err := flow.On(engine).Thread("2").Invoke(ctx, "travel"); !errors.Is(err, fermata.ErrNotUnique) {
		t.Errorf("a second question with the unique key: %v", err)
	}
	for range engine.Runs(ctx, &fermata.RunFilter{Metadata: map[string]string{"who": "ann"}}) {
		id = fermata.ID{}
	}
	if id != (fermata.ID{}) {
		t.Error("the run is not found by its metadata")
	}
	if _, err := thread.State(ctx); err != nil {
		t.Fatal(err)
	}
	run, err := thread.Resume(ctx, "yes")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := run.Result(ctx); err != nil || got != "travel: yes" {
		t.Errorf("result %q, %v", got, err)
	}
	raw, err := data.Run(ctx, "", run.ID())
	if err != nil || !bytes.Contains(raw.Input, []byte("2025")) || !bytes.Contains(raw.Result, []byte("2026")) {
		t.Errorf("input %q and result %q of the row, %v; want the keys 2025 and 2026", raw.Input, raw.Result, err)
	}

	bare := seal(t, data, "2026")
	if _, err := bare.Run(ctx, "", run.ID()); !errors.Is(err, sealed.ErrUnknownKey) || !strings.Contains(err.Error(), `"2025"`) {
		t.Errorf("read without the old key: %v", err)
	}
}

func TestRunIsLeftToAProcessWithItsKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		data := memory.New(nil)
		defer data.Close()
		flow := fermata.NewEntrypoint("flow", func(_ context.Context, in string) (string, error) { return in, nil })
		join := func(options *fermata.Options, keys ...string) *fermata.Engine {
			engine, err := fermata.New(seal(t, data, keys...), options, flow)
			if err != nil {
				t.Fatal(err)
			}
			return engine
		}
		web := join(&fermata.Options{Workers: -1}, "new", "old")
		defer web.Close(ctx)
		var log bytes.Buffer
		late := join(&fermata.Options{Workers: 4, Logger: slog.New(slog.NewTextHandler(&log, nil))}, "old")
		defer late.Close(ctx)
		var runs []*fermata.Run[string]
		for i := range 20 {
			run, err := flow.On(web).Thread(strconv.Itoa(i)).Start(ctx, "x", fermata.Enqueue())
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, run)
		}
		time.Sleep(10 * time.Minute)
		for _, run := range runs {
			row, err := data.Run(ctx, "", run.ID())
			if err != nil || row.Status != storage.Queued || row.Token > 60 || row.LastSeq > 0 {
				t.Fatalf("run is %s, taken %d times, has %d records, %v", row.Status, row.Token, row.LastSeq, err)
			}
		}
		if n := strings.Count(log.String(), "left to others"); n < 20 || n > 60 {
			t.Errorf("%d lines in the log", n)
		}
		able := join(nil, "new", "old")
		defer able.Close(ctx)
		for _, run := range runs {
			if got, err := run.Result(ctx); err != nil || got != "x" {
				t.Fatalf("result %q, %v", got, err)
			}
			if row, err := data.Run(ctx, "", run.ID()); err != nil || row.Crashes > 0 {
				t.Fatalf("%d crashes, %v", row.Crashes, err)
			}
		}
	})
}

// An answer is accepted, though the process that accepts it can't go on with the run.
func TestAnsweredRunIsLeftToAProcessWithItsKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		data := memory.New(nil)
		defer data.Close()
		whole, flow := process(t, seal(t, data, "old"))
		if _, err := flow.On(whole).Thread("1").Invoke(ctx, "travel"); !errors.Is(err, fermata.ErrPaused) {
			t.Fatal(err)
		}
		if err := whole.Close(ctx); err != nil {
			t.Fatal(err)
		}
		late, _ := process(t, seal(t, data, "new"))
		questions, err := data.ListQuestions(ctx, storage.QuestionFilter{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = late.Answer(ctx, questions[0].ID, "yes")
		if !errors.Is(err, sealed.ErrUnknownKey) {
			t.Errorf("answer without the key: %v", err)
		}
		able, flow := process(t, seal(t, data, "new", "old"))
		if _, err := able.Answer(ctx, questions[0].ID, "yes", fermata.Enqueue()); err != nil {
			t.Fatal(err)
		}
		run, err := flow.On(able).Thread("1").Attach(ctx, fermata.ID{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := run.Result(ctx); err != nil || got != "travel: yes" {
			t.Errorf("result %q, %v", got, err)
		}
		for _, e := range []*fermata.Engine{late, able} {
			if err := e.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// A process that was not told that the database is sealed neither parks its runs nor answers in plain text.
func TestSealedDatabaseWithoutKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		data := memory.New(nil)
		defer data.Close()
		flow := workflow()
		whole, err := fermata.New(seal(t, data, "key"), &fermata.Options{Workers: -1}, flow)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := flow.On(whole).Thread("1").Invoke(ctx, "travel"); !errors.Is(err, fermata.ErrPaused) {
			t.Fatal(err)
		}
		queued, err := flow.On(whole).Thread("2").Start(ctx, "home", fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		if err := whole.Close(ctx); err != nil {
			t.Fatal(err)
		}

		bare, _ := process(t, data)
		time.Sleep(10 * time.Minute)
		if row, err := data.Run(ctx, "", queued.ID()); err != nil || row.Status != storage.Queued || row.LastSeq > 0 {
			t.Errorf("the queued run is %s with %d records, %v", row.Status, row.LastSeq, err)
		}
		questions, err := data.ListQuestions(ctx, storage.QuestionFilter{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bare.Answer(ctx, questions[0].ID, "yes"); !errors.Is(err, storage.ErrUnopened) || !strings.Contains(err.Error(), "sealed.New") {
			t.Errorf("answer: %v", err)
		}
		if err := bare.Close(ctx); err != nil {
			t.Fatal(err)
		}

		whole, flow = process(t, seal(t, data, "key"))
		run, err := flow.On(whole).Thread("2").Attach(ctx, queued.ID())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run.Result(ctx); !errors.Is(err, fermata.ErrPaused) {
			t.Errorf("the queued run, with the key: %v", err)
		}
		if got, err := flow.On(whole).Thread("1").State(ctx); err != nil || got.Status != fermata.Interrupted {
			t.Errorf("the paused run is %s, %v", got.Status, err)
		}
		if err := whole.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPlaintext(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	data := memory.New(nil)
	plain, flow := process(t, data)
	if _, err := flow.On(plain).Thread("1").Invoke(ctx, "travel"); !errors.Is(err, fermata.ErrPaused) {
		t.Fatal(err)
	}
	store := plain.Store()
	if err := store.Put(ctx, []string{"a"}, "b", map[string]string{"c": "d"}); err != nil {
		t.Fatal(err)
	}
	if err := plain.Close(ctx); err != nil {
		t.Fatal(err)
	}

	strict, flow := process(t, seal(t, data, "2026"))
	if _, err := flow.On(strict).Thread("1").State(ctx); !errors.Is(err, fermata.ErrStorage) || !errors.Is(err, sealed.ErrPlaintext) || !strings.Contains(err.Error(), "AllowPlaintext") {
		t.Errorf("state of a run that isn't sealed: %v", err)
	}
	if _, err := strict.Store().Get(ctx, []string{"a"}, "b"); !errors.Is(err, sealed.ErrPlaintext) {
		t.Errorf("item that isn't sealed: %v", err)
	}
	if err := strict.Close(ctx); err != nil {
		t.Fatal(err)
	}

	b, err := sealed.New(data, sealed.Options{Keys: []sealed.Key{key("2026")}, Lookup: key("lookup"), AllowPlaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	moving, flow := process(t, b)
	thread := flow.On(moving).Thread("1")
	if _, err := thread.State(ctx); err != nil {
		t.Fatal(err)
	}
	run, err := thread.Resume(ctx, "yes")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := run.Result(ctx); err != nil || got != "travel: yes" {
		t.Errorf("result %q, %v", got, err)
	}
	if item, err := moving.Store().Get(ctx, []string{"a"}, "b"); err != nil || !bytes.Contains(item.Value, []byte("d")) {
		t.Errorf("item %+v, %v", item, err)
	}
}

// Each byte of an envelope counts, and so do its kind and its tenant.
func TestTampering(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	data := memory.New(nil)
	b := seal(t, data, "2026")
	if err := b.PutItems(ctx, []storage.Item{{Tenant: "ann", Namespace: []string{"n"}, Key: "k", Value: []byte("secret")}}); err != nil {
		t.Fatal(err)
	}
	row, err := data.GetItem(ctx, "ann", []string{"n"}, "k", false)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(what, tenant string, value []byte) {
		t.Helper()
		if err := data.PutItems(ctx, []storage.Item{{Tenant: tenant, Namespace: []string{"n"}, Key: "k", Value: value}}); err != nil {
			t.Fatal(err)
		}
		item, err := b.GetItem(ctx, tenant, []string{"n"}, "k", false)
		if err == nil || item.Value != nil {
			t.Errorf("%s: read as %q", what, item.Value)
		}
		if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrUnopened) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	for i := range row.Value {
		changed := bytes.Clone(row.Value)
		changed[i] ^= 1
		forge("a changed byte", "ann", changed)
		forge("cut short", "ann", row.Value[:i])
	}
	forge("another tenant's", "bob", row.Value)
	run := storage.ID{1}
	if _, err := data.Start(ctx, storage.Start{Run: storage.Run{ID: run, Tenant: "ann", Thread: "1", Entrypoint: "flow", Input: row.Value}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Run(ctx, "ann", run); !errors.Is(err, sealed.ErrTampered) {
		t.Errorf("an item as an input: %v", err)
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	good := sealed.Options{Keys: []sealed.Key{key("a")}, Lookup: key("lookup")}
	for _, c := range []struct {
		name   string
		change func(o *sealed.Options)
		says   string
	}{
		{"none", func(o *sealed.Options) { o.Keys = nil }, "no keys"},
		{"no lookup", func(o *sealed.Options) { o.Lookup = sealed.Key{} }, "Options.Lookup"},
		{"short", func(o *sealed.Options) { o.Keys[0].Secret = o.Keys[0].Secret[:31] }, "31 bytes, want 32"},
		{"no id", func(o *sealed.Options) { o.Keys[0].ID = "" }, "want 1 to 64"},
		{"twice", func(o *sealed.Options) { o.Keys = append(o.Keys, key("a")) }, `"a"`},
		{"same as lookup", func(o *sealed.Options) { o.Keys = append(o.Keys, key("lookup")) }, `"lookup"`},
	} {
		o := good
		o.Keys = append([]sealed.Key(nil), good.Keys...)
		c.change(&o)
		if _, err := sealed.New(memory.New(nil), o); !errors.Is(err, storage.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
	if _, err := sealed.New(nil, good); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("no backend: %v", err)
	}
}

func TestVectorsAreSealed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	data := memory.New(nil)
	b := seal(t, data, "2026")
	in := storage.Item{Namespace: []string{"n"}, Key: "k", Value: []byte(`{}`), Vectors: [][]float32{{1, 2.5}, {-3, 0}}}
	if err := b.PutItems(ctx, []storage.Item{in}); err != nil {
		t.Fatal(err)
	}
	if raw, err := data.GetItem(ctx, "", in.Namespace, in.Key, false); err != nil || raw.Vectors != nil {
		t.Errorf("stored vectors %v, %v", raw.Vectors, err)
	}
	list, err := b.ListItems(ctx, storage.ItemFilter{WithVectors: true})
	if err != nil || len(list) != 1 || len(list[0].Vectors) != 2 || list[0].Vectors[0][1] != 2.5 || string(list[0].Value) != "{}" {
		t.Errorf("items %+v, %v", list, err)
	}
}

// The keys of cached results are digests of what tasks were given: who guesses an input could compare.
func TestCacheKeysAreSealed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	data := memory.New(nil)
	b := seal(t, data, "2026")
	namespace := []string{"fermata", "cache", "lookup"}
	for _, k := range []string{"one", "two", "three"} {
		if err := b.PutItems(ctx, []storage.Item{{Namespace: namespace, Key: k, Value: []byte(k)}}); err != nil {
			t.Fatal(err)
		}
		if item, err := b.GetItem(ctx, "", namespace, k, false); err != nil || item.Key != k || string(item.Value) != k {
			t.Errorf("item %+v, %v", item, err)
		}
	}
	raw, err := data.ListItems(ctx, storage.ItemFilter{})
	if err != nil || len(raw) != 3 {
		t.Fatalf("%d items, %v", len(raw), err)
	}
	for _, item := range raw {
		if len(item.Key) < 32 {
			t.Errorf("the key %q is readable", item.Key)
		}
	}
	found := map[string]bool{}
	for page := (storage.ItemFilter{Prefix: namespace, Limit: 1}); ; {
		items, err := b.ListItems(ctx, page)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) == 0 {
			break
		}
		found[items[0].Key] = true
		page.After = &items[0]
		if err := b.PutItems(ctx, []storage.Item{{Namespace: namespace, Key: items[0].Key}}); err != nil {
			t.Fatal(err)
		}
	}
	left, err := data.ListItems(ctx, storage.ItemFilter{})
	if err != nil || len(found) != 3 || len(left) != 0 {
		t.Errorf("found %v, left %d, %v", found, len(left), err)
	}
}
