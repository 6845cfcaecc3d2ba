package gateway

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
)

// shaped is a world whose bucket of one refills after each interval, and lets requests wait.
func shaped(t *testing.T, every string, s catalog.Shape) *world {
	t.Helper()
	url := upstream(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hi") })
	w := newWorld(t)
	w.running.Store(true)
	w.limits = []catalog.Limit{{
		Key: "burst", Meter: apiCalls, Shape: &s,
		Bucket: &catalog.Bucket{Rate: money.MustDecimal(every), Burst: money.FromInt(1), Per: time.Second},
	}}
	w.declare(2, "1000000", catalog.Route{Match: "GET /", Upstream: url})
	return w
}

func TestDeniedRequestsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	w := shaped(t, "20", catalog.Shape{MaxWait: 10 * time.Second, Queue: 100})
	var ok atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range 8 {
		wg.Go(func() {
			if resp, body := w.do("GET", "/", "good", nil); resp.StatusCode == 200 {
				ok.Add(1)
			} else {
				t.Error(body)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); ok.Load() != 8 || took < 7*50*time.Millisecond {
		t.Errorf("%d of 8 at 20/s in %s", ok.Load(), took)
	}
	if st := w.gateway.Stats(); st.Shaped != 7 || st.Waiting != 0 || st.Waited < 50*time.Millisecond {
		t.Errorf("%+v", st)
	}
	w.ended(8, 0, 0)
}

func TestWaitsAreBounded(t *testing.T) {
	t.Parallel()
	w := shaped(t, "0.02", catalog.Shape{MaxWait: time.Second, Queue: 1})
	w.do("GET", "/", "good", nil)
	start := time.Now()
	resp, body := w.do("GET", "/", "good", nil) // 50 s are more than MaxWait
	if resp.StatusCode != 429 || time.Since(start) > 900*time.Millisecond || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d after %s: %s", resp.StatusCode, time.Since(start), body)
	}
	w = shaped(t, "0.2", catalog.Shape{MaxWait: time.Minute, Queue: 1})
	w.do("GET", "/", "good", nil)
	c, _ := w.raw("GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
	for w.gateway.Stats().Waiting == 0 { // until it waits
		if t.Context().Err() != nil {
			t.Fatal("it does not wait")
		}
	}
	if resp, body := w.do("GET", "/", "good", nil); resp.StatusCode != 429 { // the queue of one is full
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	_ = c.Close()                        // the client leaves
	for w.gateway.Stats().Waiting != 0 { // until it is noticed
		if t.Context().Err() != nil {
			t.Fatal("it waits on")
		}
	}
	w.ended(1, 0, 0)
	done := make(chan int, 1)
	go func() {
		resp, _ := w.do("GET", "/", "good", nil)
		done <- resp.StatusCode
	}()
	for w.gateway.Stats().Waiting == 0 && len(done) == 0 { // until it waits
		if t.Context().Err() != nil {
			t.Fatal("it does not wait")
		}
	}
	w.gateway.Close()
	if status := <-done; status != 429 && status != 200 {
		t.Errorf("at the end: %d", status)
	}
}
