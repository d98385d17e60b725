//go:build unix

package sqlite

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used so far: on a busy machine it says more than the clock.
func cpuTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
