//go:build unix

package sqlite

import (
	"errors"
	"os"
	"syscall"
)

// lockFile waits for the exclusive lock of f. The kernel frees it when the last
// descriptor is closed, at the latest at the death of the process; children
// don't inherit it, because Go opens files close-on-exec.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// tryShared takes the shared lock of f, if nobody holds the exclusive one.
func tryShared(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

// removeLocked removes the file of which f has a lock, and closes it: in this
// order, so that the name is gone before the lock is.
func removeLocked(f *os.File) {
	os.Remove(f.Name())
	f.Close()
}
