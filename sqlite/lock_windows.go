package sqlite

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile waits for the exclusive lock of f. The system frees it when the
// handle is closed, at the latest at the death of the process.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, lockedByte())
}

// tryShared takes the shared lock of f, if nobody holds the exclusive one.
func tryShared(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, lockedByte())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}

// lockedByte is far behind the content: locks are mandatory, and people may want to read the file.
func lockedByte() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 16} }

// removeLocked closes f and removes the file. An open file can't be removed
// here, so a living member's is safe.
func removeLocked(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}
