package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/sqlite"
	"github.com/fermata-go/fermata/storage"
)

// canaries are what is looked for in the files of the database, each where it was put.
var canaries = []string{
	"input", "configuration", "metadata", "threadmeta", "progress", "tasks-error", "payload", "title", "description", "unique", "answer",
	"result", "runs-error", "reason", "item", "saved",
}

func canary(of string) string { return "canary-" + of + "-7f3a" }

type order struct {
	Item string `json:"item"`
}

// sing puts every canary where it belongs, and reads back what it can.
func sing(t *testing.T, b storage.Backend) {
	t.Helper()
	ctx := t.Context()
	check := fermata.NewTask("check", func(context.Context, string) (string, error) { return canary("progress"), nil })
	fail := fermata.NewTask("fail", func(context.Context, string) (string, error) { return "", errors.New(canary("tasks-error")) })
	flow := fermata.NewEntrypoint("flow", func(ctx context.Context, in string) (string, error) {
		switch in {
		case "bad":
			return "", errors.New(canary("runs-error"))
		case "endless":
			return fermata.Interrupt[string](ctx, "go on?")
		}
		if _, err := check.Call(ctx, in); err != nil {
			return "", err
		}
		if _, err := fail.Call(ctx, in); err == nil {
			return "", errors.New("the task did not fail")
		}
		store, err := fermata.StoreFrom(ctx)
		if err == nil {
			err = store.Put(ctx, []string{"orders"}, "1", order{canary("item")})
		}
		if err != nil {
			return "", err
		}
		answer, err := fermata.Interrupt[string](ctx, order{canary("payload")},
			fermata.Title(canary("title")), fermata.Description(canary("description")), fermata.Unique(canary("unique")))
		if err != nil {
			return "", err
		}
		if answer != canary("answer") {
			return "", fmt.Errorf("answered %q", answer)
		}
		return canary("result"), nil
	})
	engine, err := fermata.New(b, nil, flow)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.Background())
	if err := engine.DescribeThread(ctx, "1", map[string]string{"note": canary("threadmeta")}); err != nil {
		t.Fatal(err)
	}
	thread := flow.On(engine).Thread("1")
	_, err = thread.Invoke(ctx, canary("input"),
		fermata.WithConfig(canary("configuration")), fermata.Metadata(map[string]string{"note": canary("metadata")}))
	paused, ok := errors.AsType[*fermata.PausedError](err)
	if !ok {
		t.Fatal(err)
	}
	if q := paused.Questions[0]; q.Title != canary("title") || !bytes.Contains(q.Payload, []byte(canary("payload"))) {
		t.Errorf("question %+v", q)
	}
	run, err := thread.Resume(ctx, canary("answer"))
	if err != nil {
		t.Fatal(err)
	}
	if result, err := run.Result(ctx); err != nil || result != canary("result") {
		t.Errorf("result %q, %v", result, err)
	}
	if _, err := flow.On(engine).Thread("2").Invoke(ctx, "bad"); err == nil || !strings.Contains(err.Error(), canary("runs-error")) {
		t.Errorf("error %v", err)
	}
	third := flow.On(engine).Thread("3")
	if _, err := third.Invoke(ctx, "endless"); !errors.Is(err, fermata.ErrPaused) {
		t.Fatal(err)
	}
	if _, err := third.Cancel(ctx, canary("reason")); err != nil {
		t.Fatal(err)
	}
	if _, err := flow.On(engine).Thread("4").Update(ctx, canary("saved")); err != nil {
		t.Fatal(err)
	}
	found := 0
	for r, err := range engine.Runs(ctx, &fermata.RunFilter{Metadata: map[string]string{"note": canary("metadata")}}) {
		if err != nil {
			t.Fatal(err)
		}
		found++
		if r.Thread != "1" {
			t.Errorf("found a run of thread %q", r.Thread)
		}
	}
	if found != 1 {
		t.Errorf("found %d runs by their metadata, want 1", found)
	}
}

// heard lists the canaries that some file under dir holds.
func heard(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, c := range canaries {
			if bytes.Contains(data, []byte(canary(c))) {
				found[c] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCanaries(t *testing.T) {
	t.Parallel()
	for _, database := range []struct {
		name string
		open func(t *testing.T) (b storage.Backend, flush func() (dir string))
	}{{"sqlite", sqliteFiles}, {"postgres", postgresFiles}} {
		t.Run(database.name, func(t *testing.T) {
			t.Parallel()
			t.Run("plain", func(t *testing.T) {
				t.Parallel()
				b, flush := database.open(t)
				sing(t, b)
				found := heard(t, flush())
				for _, c := range canaries {
					if !found[c] {
						t.Errorf("the %s of a plain database is not in its files: the search finds nothing", c)
					}
				}
			})
			t.Run("sealed", func(t *testing.T) {
				t.Parallel()
				b, flush := database.open(t)
				sing(t, seal(t, b, "2026"))
				for c := range heard(t, flush()) {
					t.Errorf("the %s is readable in the database's files", c)
				}
			})
		})
	}
}

func sqliteFiles(t *testing.T) (storage.Backend, func() string) {
	dir := t.TempDir()
	b, err := sqlite.Open(filepath.Join(dir, "test.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, func() string { return dir } // with the log beside the file
}

func postgresFiles(t *testing.T) (storage.Backend, func() string) {
	dsn := pgtest.Start(t).DSN()
	b, err := postgres.Open(t.Context(), dsn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, func() (dir string) {
		ctx := t.Context()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
}

// TestVia: what starts in a transaction of the program is sealed too.
func TestVia(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dsn := pgtest.DSN(t)
	inner, err := postgres.Open(ctx, dsn, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := seal(t, inner, "2026")
	defer b.Close()
	flow := fermata.NewEntrypoint("flow", func(_ context.Context, in string) (string, error) { return in + "!", nil })
	engine, err := fermata.New(b, nil, flow)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close(context.Background())
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	run, err := flow.On(engine).Thread("1").Start(ctx, "letter", fermata.Via(b.Via(inner.In(tx))))
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := run.Result(ctx); err != nil || got != "letter!" {
		t.Errorf("result %q, %v", got, err)
	}
	raw, err := inner.Run(ctx, "", run.ID())
	if err != nil || bytes.Contains(raw.Input, []byte("letter")) {
		t.Errorf("stored input %q, %v", raw.Input, err)
	}
}
