//go:build !linux

package file

import (
	"os"
	"syscall"
)

const errQuota = syscall.ENOSPC

func datasync(f *os.File) error { return f.Sync() }
