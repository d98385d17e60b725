package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/pgtest"
	"github.com/fermata-go/fermata/postgres"
	"github.com/fermata-go/fermata/storage"
)

// faulty makes the database fail with an SQLSTATE when a unit with the record
// "fault" is written, the first so many times.
func faulty(t *testing.T, dsn, sqlstate string, times int) {
	t.Helper()
	execute(t, connect(t, dsn), fmt.Sprintf(`
		CREATE SEQUENCE faults;
		CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF position('fault'::bytea IN NEW.records) > 0 THEN
				IF nextval('public.faults') <= %d THEN
					RAISE EXCEPTION 'made to fail' USING ERRCODE = '%s';
				END IF;
			END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER fault BEFORE INSERT ON fermata.log FOR EACH ROW EXECUTE FUNCTION fault()`, times, sqlstate))
}

var fault = storage.Unit{Records: [][]byte{[]byte("fault")}}

// TestTransientFaultsAreRetried: the caller hears nothing of them.
func TestTransientFaultsAreRetried(t *testing.T) {
	t.Parallel()
	for name, sqlstate := range map[string]string{"SerializationFailure": "40001", "Deadlock": "40P01", "LockNotAvailable": "55P03"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.DSN(t)
			b := open(t, dsn, nil)
			r := running(t, b, join(t, b))
			faulty(t, dsn, sqlstate, 3)
			appended(t, b, &r, fault)
			appended(t, b, &r, storage.Unit{})
		})
	}
}

// TestFaultsAreNamed: what the server says becomes an error of the contract, and the run is as it was.
func TestFaultsAreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sqlstate string
		want     error
		says     string
	}{
		"DiskFull":  {"53100", storage.ErrFull, "free space"},
		"ReadOnly":  {"25006", storage.ErrReadOnly, "primary"},
		"Privilege": {"42501", storage.ErrReadOnly, "grant"},
		"Corrupt":   {"XX001", storage.ErrCorrupt, "backup"},
		"Dropped":   {"42P01", storage.ErrForeign, "dropped"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.DSN(t)
			b := open(t, dsn, nil)
			r := running(t, b, join(t, b))
			faulty(t, dsn, c.sqlstate, 1)
			_, err := b.Append(t.Context(), []storage.Unit{unit(&r, fault)})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v that says %q", err, c.want, c.says)
			}
			appended(t, b, &r, fault)
		})
	}
}

// TestOneFaultSpoilsNoOther: units that share a commit with one that fails are committed all the same.
func TestOneFaultSpoilsNoOther(t *testing.T) {
	t.Parallel()
	const callers, bad = 32, 7
	dsn := pgtest.DSN(t)
	b := open(t, dsn, &postgres.Options{Commits: 1})
	m := join(t, b)
	runs := make([]storage.Run, callers)
	for i := range runs {
		runs[i] = running(t, b, m)
	}
	faulty(t, dsn, "XX000", 1<<30)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range 5 {
				u := storage.Unit{}
				if i == bad {
					u = fault
				}
				list, err := b.Append(t.Context(), []storage.Unit{unit(&runs[i], u)})
				if i == bad {
					if err == nil {
						t.Error("the unit that fails was committed")
					}
					continue
				}
				if err != nil || list[0].Err != nil {
					t.Errorf("caller %d: %v, %v", i, list, err)
					return
				}
				runs[i].LastSeq++
			}
		})
	}
	wg.Wait()
}

func TestWhatPostgresCannotKeepIsInvalid(t *testing.T) {
	t.Parallel()
	b := open(t, pgtest.DSN(t), nil)
	m := join(t, b)
	r, q := waiting(t, b, m)
	owned := running(t, b, m)
	long := strings.Repeat("x", 10<<20)
	late := time.Date(1_000_000, 1, 1, 0, 0, 0, 0, time.UTC)
	started := func(change func(*storage.Start)) error {
		s := start(nil)
		change(&s)
		_, err := b.Start(t.Context(), s)
		return err
	}
	for name, err := range map[string]error{
		"a thread of 10 MB":       started(func(s *storage.Start) { s.Run.Thread = long }),
		"a NUL in a thread":       started(func(s *storage.Start) { s.Run.Thread = "a\x00b" }),
		"a thread not in UTF-8":   started(func(s *storage.Start) { s.Run.Thread = "a\xff" }),
		"a NUL in metadata":       started(func(s *storage.Start) { s.Run.Metadata = map[string]string{"a": "\x00"} }),
		"a due time far away":     started(func(s *storage.Start) { s.Run.Due = late }),
		"a name of 10 MB":         b.PutThread(t.Context(), storage.Thread{ID: long}),
		"a key of 10 MB":          b.PutItems(t.Context(), []storage.Item{{Namespace: []string{"a"}, Key: long, Value: []byte{}}}),
		"a deadline far away":     second(b.Extend(t.Context(), "", q.ID, late)),
		"a reason with a NUL":     second(b.Cancel(t.Context(), "", r.ID, "\x00")),
		"a NUL in a filter":       second(b.ListRuns(t.Context(), storage.RunFilter{Thread: "\x00"})),
		"a principal not in UTF8": settled(t, b, storage.Settlement{Question: q.ID, State: storage.Answered, By: storage.Principal{Subject: "\xff"}}).Err,
	} {
		if !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("%s: %.200v, want ErrInvalid", name, err)
		}
	}
	for name, question := range map[string]storage.Question{
		"a question with a unique key of 10 MB": {Unique: long},
		"a question with a NUL in a tag":        {Tags: []string{"\x00"}},
		"a question with a far deadline":        {Deadline: late},
	} {
		list, err := b.Append(t.Context(), []storage.Unit{unit(&owned, storage.Unit{Questions: []storage.Question{question}})})
		if err != nil || !errors.Is(list[0].Err, storage.ErrInvalid) {
			t.Errorf("%s: %.200v, %v; want ErrInvalid", name, list, err)
		}
	}
	appended(t, b, &owned, storage.Unit{Questions: []storage.Question{{Priority: -1 << 62}, {Priority: 1 << 62}}})
}

func second[T any](_ T, err error) error { return err }
