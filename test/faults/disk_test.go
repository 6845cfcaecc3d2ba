package faults_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/test/process"
)

// insideVariable marks the process that may mount.
const insideVariable = "TALLY_TEST_INSIDE"

// diskBytes is the size of the file system under the data folder: two spool segments, and a journal of some thousand requests.
const diskBytes = "24m"

// TestDiskFull fills the file system under a running server, for real: it must stop admitting rather than admit unmetered,
// go on by itself when there is room again, and survive kill -9 while there is none. The file system is a tmpfs in a mount
// namespace of a process of its own, so that nothing is left of it whatever happens.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if os.Getenv(insideVariable) == "" {
		again(t)
		return
	}
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		t.Fatalf("keep mounts to ourselves: %v", err)
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+diskBytes); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	fillTwice(t, disk)
}

// again runs this test in a process that has its own mounts; without root, its own users too.
func again(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestDiskFull$", "-test.v", "-test.timeout=5m", fmt.Sprintf("-seed=%d", *seed))
	cmd.Env = append(os.Environ(), insideVariable+"=1", process.BinaryVariable+"="+string(tally))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("this test needs a mount namespace (%v): run it as root, or allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1)", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if _, said, ok := strings.Cut(line, "_test.go:"); ok {
			_, said, _ = strings.Cut(said, ": ") // its line number
			t.Log(strings.TrimSpace(said))
		}
	}
}

// filler takes all room of a file system, and what gets free while it is at it.
type filler struct {
	path string
	stop chan struct{}
	wg   sync.WaitGroup
}

func fill(t *testing.T, disk string) *filler {
	t.Helper()
	f := &filler{path: filepath.Join(disk, "filler"), stop: make(chan struct{})}
	file, err := os.Create(f.path)
	if err != nil {
		t.Fatal(err)
	}
	full := make(chan struct{})
	f.wg.Go(func() {
		defer file.Close()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		chunk := make([]byte, 4096)
		once := sync.OnceFunc(func() { close(full) })
		for {
			if _, err := file.Write(chunk); err == nil {
				continue
			} else if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("fill the disk: %v", err)
				once()
				return
			}
			once()
			select {
			case <-f.stop:
				return
			case <-tick.C:
			}
		}
	})
	select {
	case <-full:
	case <-patient(t).Done():
		t.Fatal("the disk does not get full")
	}
	return f
}

func (f *filler) free(t *testing.T) {
	t.Helper()
	close(f.stop)
	f.wg.Wait()
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
}

// refusals is how many 503s in a row show that nothing is admitted any more.
const refusals = 500

func fillTwice(t *testing.T, disk string) {
	w := newWorld(t, filepath.Join(disk, "data"))
	w.ready()
	// One needs new leases soon, which the records must store; the other needs none, and stops at a full spool.
	limited, open := w.customer("limited", "limited"), w.customer("open", "open")

	a, b := w.burst(limited), w.burst(open)
	few := func(k counts) bool { return k.ok >= 200 }
	a.until(t, "answers", few)
	b.until(t, "answers", few)
	f := fill(t, disk)
	w.stopped(a, limited)
	w.stopped(b, open)
	w.complains()
	f.free(t)
	had := a.so().ok
	a.until(t, "the limited customer to be served again", func(k counts) bool { return k.ok > had || k.denied > 0 })
	had = b.so().ok
	b.until(t, "the other customer to be served again", func(k counts) bool { return k.ok >= had+200 })
	w.after(limited, a.end(), false)
	w.after(open, b.end(), false)
	for _, c := range []*customer{limited, open} {
		usage := w.audit(c, true)
		if calls := w.upstream.count(c.key); calls != usage {
			t.Errorf("%s: the upstream was called %d times, the usage is %d", c.key, calls, usage)
		}
		t.Logf("disk full, then free again: %s used %d, upstream %d", c.key, usage, w.upstream.count(c.key))
	}

	b = w.burst(open)
	b.until(t, "answers", few)
	f = fill(t, disk)
	w.stopped(b, open)
	w.kill()
	w.after(open, b.end(), true)
	w.startsOnFullDisk()
	f.free(t)
	w.ready()
	for _, c := range []*customer{limited, open} {
		usage := w.audit(c, false)
		t.Logf("disk full, kill -9, then free again: %s used %d, upstream %d", c.key, usage, w.upstream.count(c.key))
	}
	w.exhaust(limited)
}

// stopped waits until a customer gets nothing but 503, and wants the upstream to rest while it is so.
func (w *world) stopped(l *load, c *customer) {
	w.t.Helper()
	served, since := -1, 0
	l.until(w.t, c.key+" to be refused for lack of room", func(k counts) bool {
		if k.ok+k.denied != served {
			served, since = k.ok+k.denied, k.unavailable
		}
		return k.unavailable-since >= refusals
	})
	calls, seen := w.upstream.count(c.key), l.so()
	l.until(w.t, "more refusals", func(k counts) bool { return k.unavailable >= seen.unavailable+refusals })
	if now := w.upstream.count(c.key); now != calls {
		w.t.Errorf("%s: the upstream was called %d times more while the disk was full", c.key, now-calls)
	}
}

// after notes the answers of a burst on a full disk.
func (w *world) after(c *customer, answers []answer, killed bool) {
	w.t.Helper()
	codes := map[string]int{}
	for _, a := range answers {
		switch {
		case a.err != nil && killed:
		case a.err != nil:
			w.t.Errorf("%s: no answer: %v", c.key, a.err)
			return
		case a.status == http.StatusServiceUnavailable:
			codes[a.code]++
			if a.code != "spool_full" && a.code != "unavailable" || a.retryAfter == "" || a.retryAfter == "0" {
				w.t.Errorf("%s: a 503 says %q, Retry-After %q", c.key, a.code, a.retryAfter)
			}
		case a.status != http.StatusOK && a.status != http.StatusTooManyRequests:
			w.t.Errorf("%s: unexpected answers: %s", c.key, describe(answers))
			return
		}
	}
	w.t.Logf("disk full under a burst: %s %s", c.key, describe(answers))
	c.saw(w.t, answers)
}

// complains: with a full disk, the API answers, and says what is wrong when it cannot store.
func (w *world) complains() {
	w.t.Helper()
	r, err := tally.Run(patient(w.t), "customers", "create", "nobody", "--dir", w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	if r.Code == 0 || !strings.Contains(string(r.Stderr), "store_full") {
		w.t.Errorf("a customer made on a full disk: exit %d, %s", r.Code, r.Stderr)
	}
	var status struct {
		Lag int `json:"spool_lag_bytes"`
	}
	w.command(&status, "status")
	if status.Lag == 0 {
		w.t.Error("the journal took everything: it is not full")
	}
	resp, err := http.Get(w.endpoint.API + "/healthz")
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.t.Errorf("/healthz says %s", resp.Status)
	}
}

// startsOnFullDisk: a start without room either works or says what it lacks, and ends.
func (w *world) startsOnFullDisk() {
	w.t.Helper()
	p := w.start()
	text, err := p.Stderr.Until(patient(w.t), func(text []byte) bool { return strings.Contains(string(text), "Console  ") })
	if err == nil {
		w.t.Log("the start on a full disk works")
		w.kill()
		return
	}
	code, err := p.Wait(patient(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	if code != 1 || !strings.Contains(string(text), "full") && !strings.Contains(string(text), "no space left") {
		w.t.Errorf("the start on a full disk: exit %d, %s", code, text)
	}
	w.t.Logf("the start on a full disk ends with exit %d: %s", code, text)
}
