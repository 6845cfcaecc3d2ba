//go:build !linux

package spool

import "os"

// preallocate takes the room of a whole segment from the file system now. Bytes before from hold data and are kept.
func preallocate(f *os.File, from, size int64) error { return writeZeros(f, from, size) }

// datasync makes a segment's records survive a power cut.
func datasync(f *os.File) error { return f.Sync() }
