package fermatatest_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fermata-go/fermata"
	"github.com/fermata-go/fermata/fermatatest"
)

// A test that goes wrong must say what it should have seen.
func TestFailures(t *testing.T) {
	t.Parallel()
	tr := &trip{}
	book := tr.book("v1")
	stuck := fermata.NewEntrypoint("stuck", func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	})
	type harness = fermatatest.Harness
	for name, c := range map[string]struct {
		test func(h *harness)
		want string
	}{
		"nothing is asked": {
			func(h *harness) { fermatatest.On(h, book, "1").Question() },
			`thread "1" asks nothing: no run was started on it`,
		},
		"several questions": {
			func(h *harness) {
				fermatatest.On(h, book, "1").Start("Rome")
				fermatatest.On(h, book, "2").Start("Oslo")
				h.Question()
			},
			"2 questions are open, want 1:\n\tquestion \"which seat to",
		},
		"no result": {
			func(h *harness) {
				thread := fermatatest.On(h, book, "1")
				thread.Start("Rome")
				thread.Result()
			},
			`thread "1" has no result: it is interrupted, and waits for the answer to` + "\n\t" + `question "which seat to Rome?" of thread "1" at trip`,
		},
		"answer of a wrong type": {
			func(h *harness) {
				thread := fermatatest.On(h, book, "1")
				thread.Start("Rome")
				thread.Answer(7)
			},
			`answer question "which seat to Rome?" of thread "1" at trip: fermata: answer: answer does not fit the question`,
		},
		"script of a wrong type": {
			func(h *harness) {
				h.OnQuestion(fermatatest.Anything, 7)
				fermatatest.On(h, book, "1").Start("Rome")
				h.Wait()
			},
			`the script's answer to question "which seat to Rome?"`,
		},
		"a run that never rests": {
			func(h *harness) {
				fermatatest.On(h, stuck, "1").Start("")
				h.Wait()
			},
			`still not at rest after 50ms: thread "1" is running (entrypoint stuck)`,
		},
		"crashed and not restarted": {
			func(h *harness) {
				h.Crash()
				h.Wait()
			},
			"the process has crashed: call Restart first",
		},
		"time goes back": {
			func(h *harness) { h.Advance(-time.Second) },
			"time doesn't go back",
		},
		"an unknown question": {
			func(h *harness) { h.Answer(fermata.Question{Thread: "1"}, true) },
			"there is no such question",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &fermatatest.Options{}
			if strings.Contains(name, "never rests") {
				o.Patience = 50 * time.Millisecond
			}
			got := failure(t, func(t fermatatest.TB) { c.test(fermatatest.New(t, o, book, stuck)) })
			if !strings.Contains(got, c.want) {
				t.Errorf("message:\n%s\nwant one with:\n%s", got, c.want)
			}
		})
	}
}

func TestBadEntrypoint(t *testing.T) {
	t.Parallel()
	nameless := fermata.NewEntrypoint("", func(context.Context, string) (string, error) { return "", nil })
	got := failure(t, func(t fermatatest.TB) { fermatatest.New(t, nil, nameless) })
	if !strings.Contains(got, "start the process: fermata: define: invalid definition") {
		t.Errorf("message: %s", got)
	}
}

// failure runs a test that is to fail, and returns how it did.
func failure(t *testing.T, test func(fermatatest.TB)) string {
	t.Helper()
	tb := &failing{T: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(tb)
	}()
	<-done
	return tb.message
}

type failing struct {
	*testing.T
	message string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
