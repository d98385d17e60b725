package sealed_test

import (
	"testing"

	"github.com/fermata-go/fermata/sealed"
	"github.com/fermata-go/fermata/storage"
	"github.com/fermata-go/fermata/storage/memory"
	"github.com/fermata-go/fermata/storage/storagetest"
)

func key(id string) sealed.Key {
	secret := make([]byte, 32)
	copy(secret, id)
	return sealed.Key{ID: id, Secret: secret}
}

func seal(t testing.TB, inner storage.Backend, keys ...string) *sealed.Backend {
	t.Helper()
	o := sealed.Options{Lookup: key("lookup")}
	for _, id := range keys {
		o.Keys = append(o.Keys, key(id))
	}
	b, err := sealed.New(inner, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, storagetest.Harness{
		New: func(t *testing.T, o storagetest.Options) storage.Backend {
			return seal(t, memory.New(&memory.Options{Offset: o.Offset}), "2026")
		},
	})
}
