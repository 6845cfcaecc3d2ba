package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// upstream is the API behind the gateway. It lives in the test's process, so it outlives every kill, and counts for itself.
type upstream struct {
	*httptest.Server
	mu       sync.Mutex     // guards all below
	calls    map[string]int // by customer
	inFlight int
	gate     chan struct{} // while not nil, answers wait for it
	changed  chan struct{} // closed when inFlight changes
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{calls: map[string]int{}, changed: make(chan struct{})}
	u.Server = httptest.NewServer(u)
	t.Cleanup(func() {
		u.release()
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

func (u *upstream) enter(customer string, delta int) (gate chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if delta > 0 {
		u.calls[customer]++
	}
	u.inFlight += delta
	close(u.changed)
	u.changed = make(chan struct{})
	return u.gate
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	customer := r.Header.Get("Tally-Customer")
	gate := u.enter(customer, 1)
	defer u.enter(customer, -1)
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
	}
	_, _ = io.WriteString(w, "{\"hello\":true}\n")
}

// hold makes answers wait until release.
func (u *upstream) hold() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gate = make(chan struct{})
}

func (u *upstream) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gate != nil {
		close(u.gate)
		u.gate = nil
	}
}

func (u *upstream) count(customer string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[customer]
}

func (u *upstream) running() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.inFlight
}

// until waits until n calls are running.
func (u *upstream) until(t *testing.T, n int) {
	t.Helper()
	ctx := patient(t)
	for {
		u.mu.Lock()
		have, changed := u.inFlight, u.changed
		u.mu.Unlock()
		if have == n {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%d calls of the upstream are running, not %d", have, n)
		}
	}
}

const connections = 64

// load is a burst on 64 connections. A connection gives up at the first request without an answer.
type load struct {
	client *http.Client
	url    string
	secret string
	stop   chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex // guards all below
	sent    int
	answers []answer
	counts  counts
	watches []watch
}

// counts sums up answers.
type counts struct{ ok, denied, unavailable, other, failed int }

func (c counts) all() int { return c.ok + c.denied + c.unavailable + c.other + c.failed }

type watch struct {
	holds   func(counts) bool
	reached chan struct{}
}

// burst begins a load for a customer.
func (w *world) burst(c *customer) *load {
	transport := &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true}
	l := &load{
		client: &http.Client{Transport: transport, Timeout: patience}, url: w.endpoint.Gateway + "/hello", secret: c.secret,
		stop: make(chan struct{}),
	}
	for range connections {
		l.wg.Go(l.work)
	}
	return l
}

func (l *load) work() {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		l.mu.Lock()
		l.sent++
		l.mu.Unlock()
		a := l.one()
		l.note(a)
		if a.err != nil {
			return
		}
	}
}

func (l *load) note(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, a)
	switch {
	case a.err != nil:
		l.counts.failed++
	case a.status == http.StatusOK:
		l.counts.ok++
	case a.status == http.StatusTooManyRequests:
		l.counts.denied++
	case a.status == http.StatusServiceUnavailable:
		l.counts.unavailable++
	default:
		l.counts.other++
	}
	for i := 0; i < len(l.watches); i++ {
		if l.watches[i].holds(l.counts) {
			close(l.watches[i].reached)
			l.watches = append(l.watches[:i], l.watches[i+1:]...)
			i--
		}
	}
}

// one sends a request. A 200 whose body was cut off still is one: the client has seen it.
func (l *load) one() answer {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url, nil)
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+l.secret)
	resp, err := l.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	id, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Decision-Id"), "dec_"), ".")
	a := answer{status: resp.StatusCode, event: id, retryAfter: resp.Header.Get("Retry-After")}
	if resp.StatusCode != http.StatusOK {
		var p struct{ Code string }
		if err == nil {
			err = json.Unmarshal(body, &p)
		}
		a.code, a.err = p.Code, err
	}
	return a
}

// until waits until the answers so far fulfil a condition.
func (l *load) until(t *testing.T, what string, holds func(counts) bool) {
	t.Helper()
	reached := make(chan struct{})
	l.mu.Lock()
	if holds(l.counts) {
		close(reached)
	} else {
		l.watches = append(l.watches, watch{holds, reached})
	}
	l.mu.Unlock()
	select {
	case <-reached:
	case <-time.After(patience):
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Fatalf("waited %v in vain: %s (%+v)", patience, what, l.counts)
	}
}

// underway is how many requests wait for an answer.
func (l *load) underway() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent - l.counts.all()
}

// so is what was counted until now.
func (l *load) so() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// end lets the running requests end and returns all answers.
func (l *load) end() []answer {
	close(l.stop)
	l.wg.Wait()
	l.client.CloseIdleConnections()
	return l.answers
}

// describe counts answers by what they say, for a message.
func describe(answers []answer) string {
	by := map[string]int{}
	for _, a := range answers {
		switch {
		case a.err != nil:
			by[a.err.Error()]++
		default:
			by[fmt.Sprint(a.status, " ", a.code)]++
		}
	}
	return fmt.Sprint(by)
}
