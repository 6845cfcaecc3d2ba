package client_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/client"
)

// TestExactUnderLoad: three clients with 64 goroutines each never admit more than the limit, what they admitted is what is charged,
// and after they have given their blocks back exactly the rest can be had.
func TestExactUnderLoad(t *testing.T) {
	t.Parallel()
	const limit = 1000
	name, key, _ := customer(t, "thousand")
	var admitted atomic.Int64
	var all sync.WaitGroup
	clients := make([]*client.Client, 3)
	for i := range clients {
		c := open(t, client.Config{BlockMax: 100})
		clients[i] = c
		for range 64 {
			all.Go(func() {
				for range 8 {
					a, err := c.Admit(t.Context(), client.Request{KeyID: key, Meter: "api_calls", Cost: 1})
					if err != nil {
						if p := problem(t, err); p.Code != "quota_exceeded" {
							t.Error(p)
						}
						continue
					}
					admitted.Add(1)
					a.Settle()
					a.Release() // has no effect
				}
			})
		}
	}
	all.Wait()
	if n := admitted.Load(); n > limit || n < limit/2 {
		t.Fatalf("%d requests were admitted, the limit is %d", n, limit)
	}
	for _, c := range clients {
		shut(t, c)
		if s := c.Stats(); s.Lost != 0 || s.Kept != 0 || s.Unpaid != 0 || s.Blocks != s.Settled || s.Calls > s.Admitted+s.Denied {
			t.Errorf("%+v", s)
		}
	}
	last := open(t, client.Config{})
	if u := used(t, last, name, "api_calls"); u != strconv.FormatInt(admitted.Load(), 10) {
		t.Errorf("%s are charged of %d that were admitted", u, admitted.Load())
	}
	for {
		a, err := last.Admit(t.Context(), client.Request{KeyID: key, Meter: "api_calls", Cost: 1})
		if err != nil {
			break
		}
		admitted.Add(1)
		a.Settle()
	}
	shut(t, last)
	if n := admitted.Load(); n != limit {
		t.Errorf("%d requests were admitted in all, the limit is %d", n, limit)
	}
	checkUsage(t, name, limit)
}

// checkUsage compares what the journal counts, and the books.
func checkUsage(t *testing.T, name string, want int64) {
	t.Helper()
	c := open(t, client.Config{})
	u, err := c.Usage(t.Context(), client.UsageQuery{Customers: []string{name}, Meter: "api_calls"})
	if err != nil || u.Value != strconv.FormatInt(want, 10) {
		t.Errorf("the usage is %s, want %d: %v", u.Value, want, err)
	}
	var books map[string]any
	api(t, "GET", "/v1/books?customer="+name, nil, &books)
	if text := fmt.Sprint(books); !strings.Contains(text, "difference:0") || strings.Contains(text, "difference:-") {
		t.Errorf("the books: %v", text)
	}
}

// TestHundredOverThree: a hundred calls that three clients make in turn are exactly a hundred: nobody keeps what another needs.
func TestHundredOverThree(t *testing.T) {
	t.Parallel()
	name, key, _ := customer(t, "hundred")
	clients := []*client.Client{open(t, client.Config{}), open(t, client.Config{}), open(t, client.Config{})}
	admitted := 0
	for i := range 105 {
		a, err := clients[i%3].Admit(t.Context(), client.Request{KeyID: key, Meter: "api_calls", Cost: 1})
		switch {
		case err == nil:
			admitted++
			a.Settle()
		case i < 100:
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if admitted != 100 {
		t.Errorf("%d of 100", admitted)
	}
	for _, c := range clients {
		shut(t, c)
	}
	checkUsage(t, name, 100)
}

// child takes one block, admits one request from it, and waits to be killed.
func child(who []string) {
	c, err := client.New(client.Config{URL: who[0], Token: who[1], TTL: 3 * time.Second, Idle: time.Hour, Age: time.Hour, Timeout: 20 * time.Second})
	if err == nil {
		var a client.Admission
		if a, err = c.Admit(context.Background(), client.Request{Customer: who[2], Meter: "api_calls", Cost: 1}); err == nil {
			a.Settle()
			fmt.Fprintln(os.Stdout, "admitted")
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilled: the block of a process that died is charged in full when it expires, and not before: it may have been used.
func TestKilled(t *testing.T) {
	t.Parallel()
	name, _, _ := customer(t, "hundred")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVariable+"="+server.API+" "+server.Token+" "+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("admitted\n"))
	if _, err := out.Read(line); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	c := open(t, client.Config{})
	if u := used(t, c, name, "api_calls"); u != "8" {
		t.Errorf("%s are reserved, want the block of 8", u)
	}
	eventually(t, "the block is charged", func() bool {
		u, err := c.Usage(t.Context(), client.UsageQuery{Customers: []string{name}, Meter: "api_calls"})
		return err == nil && u.Value == "8"
	})
	if u := used(t, c, name, "api_calls"); u != "8" {
		t.Errorf("%s are charged, want 8", u)
	}
	checkUsage(t, name, 8)
}
