package storetest

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const smallDisk = "TALLY_TEST_SMALL_DISK"

// OnSmallDisk runs a test on a real file system of so many bytes, to meet a real full disk. The test runs again in a process of
// its own, in a mount namespace that vanishes with it; where that is not allowed the test fails.
func OnSmallDisk(t *testing.T, bytes int, run func(t *testing.T, dir string)) {
	t.Helper()
	if os.Getenv(smallDisk) == t.Name() {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
			t.Fatalf("cannot mount a small tmpfs to test a full disk: %v", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		run(t, dir)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), smallDisk+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("a full disk needs root, or user and mount namespaces (unshare -rm): %v\n%s", err, out)
	}
}
