package engine

import (
	"reflect"
	"testing"
	"time"

	"github.com/fermata-go/fermata/storage"
)

func TestCursorsOfAllTimes(t *testing.T) {
	for _, deadline := range []time.Time{{}, time.Unix(0, 0).UTC(), latest, time.Date(290_000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		last := &storage.Question{ID: storage.NewID(time.Now()), Asked: time.UnixMicro(1_777_777_777_777_777).UTC(), Deadline: deadline, Priority: -1}
		got, err := parseCursor(cursorAt(storage.ByDeadline, last).String(), storage.ByDeadline)
		if err != nil || !reflect.DeepEqual(got, last) {
			t.Errorf("cursor at %v: %v, %v", last, got, err)
		}
	}
}
