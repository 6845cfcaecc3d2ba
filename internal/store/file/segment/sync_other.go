//go:build !linux

package segment

import (
	"os"
	"syscall"
)

const errQuota = syscall.ENOSPC

func datasync(f *os.File) error { return f.Sync() }
