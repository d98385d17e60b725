package memory_test

import (
	"testing"

	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
	"github.com/fermata-go/fermata/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Harness{
		New: func(_ *testing.T, o storagetest.Options) storage.Backend {
			return memory.New(&memory.Options{Offset: o.Offset})
		},
		HoldRun: func(_ *testing.T, b storage.Backend, run storage.ID) func() {
			return b.(*memory.Backend).HoldRun(run)
		},
	})
}
