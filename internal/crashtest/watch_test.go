package crashtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata"
)

// watch tells the parent each part of a thread's latest run, from a position on.
func (o *orders) watch(ctx context.Context, t *fermata.Thread[int, int]) error {
	run, err := t.Attach(ctx, fermata.ID{})
	if err != nil {
		return err
	}
	for part, err := range run.Stream(ctx, &fermata.StreamOptions{After: o.After}, watched...) {
		if err != nil {
			return err
		}
		say("%s", printed(part))
	}
	return nil
}

var watched = []fermata.Mode{fermata.StreamUpdates, fermata.StreamTasks, fermata.StreamValues}

func printed(part fermata.Part) string {
	return fmt.Sprintf("%s %s %s", part.Position, part.Mode, part.Data)
}

// TestWatchedFromOtherProcesses: one process watches a run live while the process that executes it is killed and
// another one takes over. It sees one sequence without a break, and so do processes that come later, from any position.
func TestWatchedFromOtherProcesses(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, o orders) {
		ctx := bounded(t)
		line, _ := o.parent(t)
		thread := line.Thread("1")
		if _, err := thread.Start(ctx, lineLength, fermata.Enqueue()); err != nil {
			t.Fatal(err)
		}
		var seen []string
		last := "" // position
		updates := 0
		live := func(each func()) {
			t.Helper()
			run, err := thread.Attach(ctx, fermata.ID{})
			if err != nil {
				t.Fatal(err)
			}
			for part, err := range run.Stream(ctx, &fermata.StreamOptions{After: last}, watched...) {
				if err != nil {
					t.Fatal(err)
				}
				seen, last = append(seen, printed(part)), part.Position
				if part.Mode == fermata.StreamUpdates && strings.HasPrefix(string(part.Data), `{"step":`) {
					if updates++; string(part.Data) != fmt.Sprintf(`{"step":%d}`, updates) {
						t.Fatalf("update %s comes as number %d", part.Data, updates)
					}
					each()
				}
			}
		}
		later := func(from int) []string {
			reader := o
			reader.Verb, reader.After = "watch", ""
			if from > 0 {
				reader.After, _, _ = strings.Cut(seen[from-1], " ")
			}
			return birth(t, reader).end()
		}
		work := o
		work.Verb, work.Takes, work.HangIn = "serve", true, []int{5, 15}
		owner := birth(t, work)
		work.HangIn = nil
		live(func() {
			if updates == 4 {
				owner.hearUntil("inside 5")
				owner.kill()
				owner = birth(t, work)
			}
		})
		if updates != lineLength/2-1 {
			t.Errorf("%d updates up to the question", updates)
		}
		owner.kill()
		work.HangIn = []int{15}
		owner = birth(t, work)
		if _, err := thread.State(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := thread.Resume(ctx, "yes", fermata.Enqueue()); err != nil {
			t.Fatal(err)
		}
		work.HangIn = nil
		live(func() {
			if updates == 14 {
				owner.hearUntil("inside 15")
				owner.kill()
				owner = birth(t, work)
			}
		})
		if updates != lineLength {
			t.Errorf("%d updates in all", updates)
		}
		for _, from := range []int{0, 1, len(seen) / 3, len(seen) / 2, len(seen) - 1, len(seen)} {
			if got := later(from); !slices.Equal(got, seen[from:]) {
				t.Errorf("a process that watches from part %d (-want +got):\n%s", from, cmp.Diff(seen[from:], got))
			}
		}
	})
}
