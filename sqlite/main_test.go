package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](os.Getenv(pathVariable)); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// open opens a fresh database.
func open(t testing.TB, o *Options) *Backend {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "work.db"), o)
}

func openAt(t testing.TB, path string, o *Options) *Backend {
	t.Helper()
	b, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func join(t testing.TB, b *Backend) storage.ID {
	t.Helper()
	m, err := b.Join(context.Background(), t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return m.ID()
}

// ownedRun starts a run that member owns, on a thread of its own.
func ownedRun(t testing.TB, b *Backend, member storage.ID) storage.Run {
	t.Helper()
	id := storage.NewID(time.Now())
	started, err := b.Start(context.Background(), storage.Start{Run: storage.Run{
		ID: id, Thread: id.String(), Entrypoint: "graph", Input: []byte(`"foo"`), Owner: member,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return started.Run
}

// unitOf completes a unit of the run as r knows it.
func unitOf(r *storage.Run, u storage.Unit) storage.Unit {
	u.Tenant, u.Run, u.Token, u.First = r.Tenant, r.ID, r.Token, r.LastSeq+1
	if u.Records == nil {
		u.Records = [][]byte{fmt.Appendf(nil, "record %d", u.First)}
	}
	return u
}

// appendTo commits one unit of the run as r knows it.
func appendTo(t testing.TB, b *Backend, r *storage.Run, u storage.Unit) storage.Committed {
	t.Helper()
	u = unitOf(r, u)
	list, err := b.Append(context.Background(), []storage.Unit{u})
	if err == nil {
		err = list[0].Err
	}
	if err != nil {
		t.Fatal(err)
	}
	r.LastSeq += int64(len(u.Records))
	return list[0]
}

// question returns a question of the next record of r.
func question(r *storage.Run) storage.Question {
	return storage.Question{
		ID: storage.NewID(time.Now()), Seq: r.LastSeq + 1, Path: "graph/human_feedback",
		Payload: []byte(`"Please provide feedback: foo bar"`), Digest: record[:32], Schema: []byte(`{"type":"string"}`),
	}
}

// pause opens a question and gives the run up.
func pause(t testing.TB, b *Backend, r *storage.Run) storage.Question {
	t.Helper()
	q := question(r)
	if appendTo(t, b, r, storage.Unit{Questions: []storage.Question{q}, Status: storage.Interrupted, SeenInbox: r.Inbox}).Kept {
		t.Fatal("the run was kept")
	}
	return q
}

// texts is the run's log.
func texts(t testing.TB, b *Backend, run storage.ID) (list []string) {
	t.Helper()
	l, err := b.Load(context.Background(), "", run)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range l.Records {
		list = append(list, string(r.Data))
	}
	return list
}
