package faults_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/test/process"
)

// demo is what the demo says when it is ready, and what the books say then.
type demo struct {
	Invoices             int
	Difference           json.Number
	reported, difference json.Number
}

func startDemo(t *testing.T, dir string) *process.Process {
	t.Helper()
	p, err := tally.Start("", "demo", "--dir", dir, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		sound(t, p)
	})
	return p
}

// demoReady waits until the demo says ready and reads the books.
func demoReady(t *testing.T, p *process.Process, dir string) demo {
	t.Helper()
	var d demo
	text, err := p.Stdout.Until(patient(t), json.Valid)
	if err != nil {
		t.Fatalf("the demo did not get ready: %v\n%s", err, p.Stderr.Bytes())
	}
	if err := process.Document(text, &d); err != nil {
		t.Fatal(err)
	}
	var books struct{ Reported, Difference json.Number }
	if err := tally.JSON(patient(t), &books, "books", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	d.reported, d.difference = books.Reported, books.Difference
	return d
}

// moment is a point in the demo's start at which it is killed.
type moment struct {
	name string
	now  func(dir string, p *process.Process) bool
}

func exists(name string) func(string, *process.Process) bool {
	return func(dir string, _ *process.Process) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
}

// journalOf is reached when the journal holds so many bytes.
func journalOf(size int64) moment {
	return moment{fmt.Sprintf("the journal has %d KB", size>>10), func(dir string, _ *process.Process) bool {
		var sum int64
		files, err := os.ReadDir(filepath.Join(dir, "journal"))
		if err != nil {
			return false
		}
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				sum += info.Size()
			}
		}
		return sum >= size
	}}
}

func invoicesLogged(n int) moment {
	return moment{fmt.Sprintf("%d invoices are final", n), func(_ string, p *process.Process) bool {
		return strings.Count(string(p.Stderr.Bytes()), "invoice finalized") >= n
	}}
}

// TestDemoKill kills the demo with kill -9 while it makes its history, at one moment after the other on one folder, and for
// more rounds at random ones: the next start goes on, and the end is that of a start in peace.
func TestDemoKill(t *testing.T) {
	t.Parallel()
	calm := filepath.Join(t.TempDir(), "calm")
	p := startDemo(t, calm)
	want := demoReady(t, p, calm)
	ended(t, p)
	if n, err := want.reported.Int64(); err != nil || n < 20_000 || want.Invoices < 2 || want.difference != "0" {
		t.Fatalf("a demo in peace: %+v, %v", want, err)
	}

	dir := filepath.Join(t.TempDir(), "killed")
	for _, m := range []moment{
		{"there are records", exists("records.db")},
		{"there is a journal", exists("journal")},
		{"there is an address", exists("client.json")},
		journalOf(200 << 10), journalOf(1 << 20), journalOf(2 << 20), journalOf(3500 << 10),
		invoicesLogged(1), invoicesLogged(3),
		{"it is ready", func(_ string, p *process.Process) bool { return json.Valid(p.Stdout.Bytes()) }},
	} {
		p := startDemo(t, dir)
		eventually(t, m.name, func() bool {
			select {
			case <-p.Ended():
				t.Fatalf("the demo ended before %s: %s", m.name, p.Stderr.Bytes())
			default:
			}
			return m.now(dir, p) || json.Valid(p.Stdout.Bytes())
		})
		t.Logf("kill -9 of the demo when %s, ready before: %v", m.name, json.Valid(p.Stdout.Bytes()))
		ended(t, p)
	}
	sameDemo(t, dir, want)

	random := rand.New(rand.NewPCG(*seed, 2))
	for n := range *rounds - 1 {
		dir := filepath.Join(t.TempDir(), fmt.Sprint("random-", n))
		var after []time.Duration
		for range 1 + random.IntN(3) {
			after = append(after, time.Duration(random.IntN(600_000))*time.Microsecond)
			p := startDemo(t, dir)
			select {
			case <-time.After(after[len(after)-1]):
			case <-p.Ended():
				t.Fatalf("the demo ended: %s", p.Stderr.Bytes())
			}
			ended(t, p)
		}
		t.Logf("demo %d: kill -9 after %v", n+1, after)
		sameDemo(t, dir, want)
	}
}

// sameDemo starts once more and wants the state of a demo that was never killed.
func sameDemo(t *testing.T, dir string, want demo) {
	t.Helper()
	p := startDemo(t, dir)
	got := demoReady(t, p, dir)
	if got != want {
		t.Errorf("a demo that was killed is %+v, one in peace %+v", got, want)
	}
	ended(t, p)
}

// ended kills the demo with kill -9, and wants its upstream to end by itself.
func ended(t *testing.T, p *process.Process) {
	t.Helper()
	ready := json.Valid(p.Stdout.Bytes())
	children := childrenOf(t, p.PID())
	if ready && len(children) != 1 {
		t.Errorf("the demo has %d child processes, not one", len(children))
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(patient(t)); err != nil {
		t.Fatal(err)
	}
	for _, child := range children {
		eventually(t, "the demo's upstream to end with its parent", func() bool {
			state, _ := stat(child)
			return state == "" || state == "Z" // nobody may be there to bury it
		})
	}
}

// childrenOf lists the living children of a process.
func childrenOf(t *testing.T, parent int) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if state, ppid := stat(pid); ppid == parent && state != "Z" {
			out = append(out, pid)
		}
	}
	return out
}

// stat reads a process's state and parent; "" when it is gone.
func stat(pid int) (state string, parent int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return "", 0
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return "", 0
	}
	return fields[0], parent
}
