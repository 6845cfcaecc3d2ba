//go:build !linux

package storetest

import "testing"

// OnSmallDisk fails: a small file system is made on Linux only.
func OnSmallDisk(t *testing.T, _ int, _ func(t *testing.T, dir string)) {
	t.Helper()
	t.Fatal("the test of a full disk needs Linux")
}
