package nodes_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The bucket of the plan steady.
const (
	bucketRate  = 20 // a second
	bucketBurst = 50
)

// TestBucketOverFaults: two gateways share a bucket. While the server is killed and begins anew, and while a gateway is stopped for
// longer than its share lives, no more is admitted than burst and rate allow since the start; then both admit again.
func TestBucketOverFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	secret := w.customer("steady", "steady")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var admitted [2]atomic.Int64
	began := time.Now()
	for i, g := range w.gates {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
		t.Cleanup(client.CloseIdleConnections)
		for range 4 {
			wg.Go(func() {
				for {
					if status, _, _, err := g.ask(client, secret); err == nil && status == http.StatusOK {
						admitted[i].Add(1)
					}
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			})
		}
	}
	within := func(when string) {
		t.Helper()
		calls := w.upstream.count("steady") // before the time is read
		took := time.Since(began)
		most := bucketBurst + int(bucketRate*took.Seconds()) + 1
		t.Logf("%s: %d of at most %d after %v; by gateway %d, %d", when, calls, most, took.Round(time.Millisecond), admitted[0].Load(), admitted[1].Load())
		if calls > most {
			t.Errorf("%s: %d were admitted in %v, more than %d", when, calls, took, most)
		}
	}
	pause(t, 5*time.Second)
	within("two gateways")
	w.stop(syscall.SIGKILL)
	pause(t, 300*time.Millisecond)
	w.serve()
	for range 10 {
		pause(t, 300*time.Millisecond)
		within("after the server's restart")
	}
	w.gates[0].signal(syscall.SIGSTOP)
	pause(t, 9*time.Second) // longer than a share lives
	within("with one gateway stopped")
	w.gates[0].signal(syscall.SIGCONT)
	for range 10 {
		pause(t, 100*time.Millisecond)
		within("after it goes on")
	}
	for i := range admitted {
		before := admitted[i].Load()
		eventually(t, "a gateway to admit again", func() bool { return admitted[i].Load() > before })
	}
	close(stop)
	wg.Wait()
	within("in the end")
}
