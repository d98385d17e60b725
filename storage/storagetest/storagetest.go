// Package storagetest is the conformance suite of the storage contract. A
// backend passes if [Run] does:
//
//	func TestConformance(t *testing.T) {
//		storagetest.Run(t, storagetest.Harness{
//			New: func(t *testing.T, o storagetest.Options) storage.Backend {
//				return open(t, o) // a fresh, empty database
//			},
//		})
//	}
//
// Every subtest is named by the guarantee that it holds the backend to, has a
// database of its own and runs in parallel with others. Nothing waits for time to pass:
// a backend's clock is moved by [Options].Offset.
package storagetest

import (
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

// Harness makes the backends under test. New is required; a test that needs
// another field is skipped if it is nil.
type Harness struct {
	_ [0]func()

	// New returns a backend on a fresh and empty database. The suite closes it.
	New func(t *testing.T, o Options) storage.Backend
	// Reopen closes a backend and opens the same database again. Nil: nothing is kept.
	Reopen func(t *testing.T, b storage.Backend, o Options) storage.Backend
	// Second opens another handle on the database of an open backend, as another process would.
	// The suite closes it.
	Second func(t *testing.T, b storage.Backend, o Options) storage.Backend
	// HoldRun holds a run as an unfinished transaction of somebody else does:
	// Append and Settle answer ErrLocked for it until release is called.
	HoldRun func(t *testing.T, b storage.Backend, run storage.ID) (release func())
	// Kill ends a member without its doing, as the death of its process does. When it
	// returns everybody takes the member for dead. Nil: the member leaves.
	Kill func(t *testing.T, m storage.Membership)
}

// Options is what a backend under test must honour.
type Options struct {
	_ [0]func()

	// Offset is added to the backend's time, at every call anew. It never shrinks. It moves what the
	// backend dates and what is due; it makes no member older. Never nil.
	Offset func() time.Duration
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.New == nil {
		t.Fatal("storagetest: Harness.New is nil")
	}
	for _, area := range areas {
		t.Run(area.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range area.cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(newWorld(t, h))
				})
			}
		})
	}
}

type testCase struct {
	name string
	run  func(w *world)
}

var areas = []struct {
	name  string
	cases []testCase
}{
	{"Start", startCases},
	{"Fork", forkCases},
	{"Append", appendCases},
	{"Release", releaseCases},
	{"Batch", batchCases},
	{"Acquire", acquireCases},
	{"Poll", pollCases},
	{"Cancel", cancelCases},
	{"Settle", settleCases},
	{"Extend", extendCases},
	{"List", listCases},
	{"Changes", changesCases},
	{"Threads", threadCases},
	{"CopyThread", copyCases},
	{"Items", itemCases},
	{"Members", memberCases},
	{"Second", secondCases},
	{"Reopen", reopenCases},
	{"Tenants", tenantCases},
	{"Values", valueCases},
	{"Watch", watchCases},
	{"Close", closeCases},
	{"Context", contextCases},
	{"Model", modelCases},
}
