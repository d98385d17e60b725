package backendtest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/fermata-go/fermata/internal/backendtest"
	"github.com/fermata-go/fermata/storage"
)

func TestHandlesShareDataAndTime(t *testing.T) {
	t.Parallel()
	backendtest.Each(t, func(t *testing.T, open backendtest.Opener) {
		ctx := t.Context()
		offset := func() time.Duration { return 72 * time.Hour }
		first, second := open(t, offset), open(t, offset)
		if err := first.PutThread(ctx, storage.Thread{ID: "1"}); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if err := first.PutThread(ctx, storage.Thread{ID: "2"}); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("write through a closed handle: error %v, want ErrClosed", err)
		}
		thread, err := second.GetThread(ctx, "", "1")
		if err != nil {
			t.Fatalf("what one handle wrote the other can't read: %v", err)
		}
		if ahead := time.Until(thread.Created); ahead < 71*time.Hour {
			t.Errorf("the offset is not in the backend's time: it is %s ahead", ahead)
		}
	})
}
