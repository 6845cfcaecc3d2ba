package spool

import (
	"errors"
	"os"
	"syscall"
)

// preallocate takes the room of a whole segment from the file system now, so that no later write into it can meet a full
// disk. Bytes before from hold data and are kept.
func preallocate(f *os.File, from, size int64) error {
	err := onFile(f, func(fd int) error { return syscall.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return writeZeros(f, from, size)
	}
	return err
}

// datasync makes a segment's records survive a power cut. Its size never changes, so its times need not be written.
func datasync(f *os.File) error {
	return onFile(f, syscall.Fdatasync)
}

func onFile(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Control(func(fd uintptr) {
		for {
			if result = call(int(fd)); !errors.Is(result, syscall.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, result)
}
