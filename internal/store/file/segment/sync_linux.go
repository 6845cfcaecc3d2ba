package segment

import (
	"errors"
	"os"
	"syscall"
)

const errQuota = syscall.EDQUOT

// datasync flushes data and size, without the times that fsync flushes too.
func datasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
