package fermata_test

import (
	"context"
	"testing"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/fermata-go/fermata/storage"
)

func memoryOpener(t *testing.T) backendtest.Opener { return backendtest.Memory(t) }

// settle answers a question past all checks, as a process would that knows
// nothing of its type.
func settle(t *testing.T, b storage.Backend, question fermata.ID, answer string) {
	t.Helper()
	settled, err := b.Settle(context.Background(), []storage.Settlement{{
		Question: question, State: storage.Answered, Answer: []byte(answer), By: storage.Principal{Kind: "person"},
	}})
	if err != nil || settled[0].Err != nil {
		t.Fatalf("settle: %v, %v", err, settled)
	}
}
