//go:build unix

package crashtest

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-go/fermata"
)

// TestStoppedOwner stops a process in the middle of a run, and lets it go on
// later. On PostgreSQL the run is another's by then, and the old owner writes nothing more. On SQLite
// it holds its lock, so it is not dead and nobody takes the run.
func TestStoppedOwner(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, o orders) {
		ctx := bounded(t)
		_, fan := o.parent(t)
		o.Verb, o.Takes, o.Tells, o.HangIn = "serve", true, true, []int{5}
		first := birth(t, o)
		first.expect("ready")
		run, err := fan.Thread("1").Start(ctx, fanWidth, fermata.Enqueue())
		if err != nil {
			t.Fatal(err)
		}
		first.expect("inside 5")
		finished := 0
		for event, err := range run.Events(ctx) {
			if err != nil || event.Kind != fermata.TaskFinished {
				t.Fatalf("event %+v, error %v", event, err)
			}
			if finished++; finished == fanWidth-1 {
				break // all but the one that hangs are recorded
			}
		}
		o.HangIn = nil
		second := birth(t, o)
		second.expect("ready")
		first.stop()
		first.write("go on") // it hears that when it goes on itself

		want := map[string]int{}
		for n := 1; n <= fanWidth; n++ {
			want[fmt.Sprintf("step %d by %d", n, first.cmd.Process.Pid)] = 1
		}
		check := func(when string) {
			t.Helper()
			sum, err := run.Result(ctx)
			if err != nil || sum != sumTo(fanWidth) {
				t.Errorf("%s: result %d, error %v", when, sum, err)
			}
			if diff := cmp.Diff(want, o.counted(t)); diff != "" {
				t.Errorf("%s: effects (-want +got):\n%s", when, diff)
			}
		}
		if o.onPostgres() {
			want[fmt.Sprintf("step 5 by %d", second.cmd.Process.Pid)] = 1 // it has no recorded result
			check("with the old owner stopped")
			first.signal(syscall.SIGCONT)
			first.expect("ended, lost: true")
			check("after the old owner went on")
		} else {
			if _, err := fan.Thread("1").Continue(ctx); !errors.Is(err, fermata.ErrThreadBusy) {
				t.Errorf("Continue of a stopped process's run: error %v, want ErrThreadBusy", err)
			}
			first.signal(syscall.SIGCONT)
			check("after the owner went on")
		}
		recorded := 0
		for event, err := range run.Events(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if event.Kind == fermata.TaskFinished {
				recorded++
			}
		}
		if recorded != fanWidth {
			t.Errorf("%d results are recorded, want %d", recorded, fanWidth)
		}
		for _, c := range []*child{first, second} {
			c.stdin.Close()
			if said := c.end(); len(said) > 0 {
				t.Errorf("a child also said %q", said)
			}
		}
	})
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// stop returns when the child stands still: for a moment after the signal its threads go on.
func (c *child) stop() {
	c.t.Helper()
	c.signal(syscall.SIGSTOP)
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(c.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			c.t.Fatalf("a child that was to stop: wait status %#x, error %v", status, err)
		}
		return
	}
}
