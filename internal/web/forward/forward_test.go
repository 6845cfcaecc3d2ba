package forward_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/web/forward"
)

// member is a server whose front is told who leads by the test.
type member struct {
	*httptest.Server
	*forward.Front

	mu      sync.Mutex
	leader  forward.Leader
	changed chan struct{}
	valid   atomic.Bool
}

func (m *member) follow(l forward.Leader) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leader = l
	close(m.changed)
	m.changed = make(chan struct{})
}

func start(t *testing.T, wait time.Duration) *member {
	t.Helper()
	m := &member{changed: make(chan struct{})}
	m.valid.Store(true)
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.ServeHTTP(w, r) }))
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	var err error
	m.Front, err = forward.New(forward.Config{
		Leader: func() (forward.Leader, <-chan struct{}) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.leader, m.changed
		},
		Valid: m.valid.Load, Self: "http://" + m.Listener.Addr().String(), Secret: []byte("of all"), Transport: transport, Wait: wait, Away: wait, Stream: "/stream",
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	t.Cleanup(func() {
		m.CloseClientConnections()
		m.Close()
		transport.CloseIdleConnections()
	})
	return m
}

// echo answers with what it got.
func echo(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("By", name)
		w.Header().Set("Remote", r.RemoteAddr)
		w.Header().Set("Passed", r.Header.Get("Tally-Passed-On"))
		_, _ = w.Write(b)
	})
}

type got struct {
	status int
	by     string
	header http.Header
	body   []byte
}

func send(t *testing.T, m *member, method, path string, body io.Reader, header ...string) got {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, m.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := m.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got{resp.StatusCode, resp.Header.Get("By"), resp.Header, b}
}

func code(t *testing.T, g got) string {
	t.Helper()
	var p struct{ Code string }
	if err := json.Unmarshal(g.body, &p); err != nil {
		t.Fatalf("%d is no problem: %s", g.status, g.body)
	}
	return p.Code
}

func TestAnyServerTakesARequest(t *testing.T) {
	t.Parallel()
	a, b := start(t, 0), start(t, 0)
	a.Lead(echo("a"))
	b.follow(forward.Leader{Fence: 1, Address: a.URL})
	for _, m := range []*member{a, b} {
		if g := send(t, m, http.MethodPost, "/v1/customers", strings.NewReader("hello")); g.by != "a" || string(g.body) != "hello" || g.header.Get("Passed") != "" {
			t.Fatalf("not answered by the leader as it was sent: %+v", g)
		}
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	if g := send(t, b, http.MethodPost, "/v1/events", bytes.NewReader(large)); g.by != "a" || !bytes.Equal(g.body, large) {
		t.Fatalf("a large body does not come through: %d, %d bytes", g.status, len(g.body))
	}
	if g := send(t, b, http.MethodPost, "/v1/events", io.MultiReader(bytes.NewReader(large))); g.by != "a" || !bytes.Equal(g.body, large) {
		t.Fatalf("a large body without a length does not come through: %d, %d bytes", g.status, len(g.body))
	}
}

// TestCallersAreNotForged: who the caller was is believed of other servers only.
func TestCallersAreNotForged(t *testing.T) {
	t.Parallel()
	a, b := start(t, 0), start(t, 0)
	a.Lead(echo("a"))
	b.follow(forward.Leader{Fence: 1, Address: a.URL})
	for _, m := range []*member{a, b} {
		g := send(t, m, http.MethodGet, "/", nil, "Tally-Passed-On", "10.9.9.9:1 verified AAAA")
		if g.by != "a" || !strings.HasPrefix(g.header.Get("Remote"), "127.0.0.1:") || g.header.Get("Passed") != "" {
			t.Fatalf("a forged caller: %+v", g)
		}
	}
}

func TestRequestsWaitForALeader(t *testing.T) {
	t.Parallel()
	a, b := start(t, 0), start(t, 0)
	gone := httptest.NewServer(nil)
	gone.Close()
	b.follow(forward.Leader{Fence: 1, Address: gone.URL}) // which cannot be reached any more
	large := bytes.Repeat([]byte("x"), 3<<20)
	bodies := []string{"short", string(large)}
	answers := make(chan got, len(bodies))
	for _, body := range bodies {
		go func() { answers <- send(t, b, http.MethodPost, "/v1/x", strings.NewReader(body)) }()
	}
	settle(t, func() bool { return b.Stats().Again >= 4 })
	a.Lead(echo("a"))
	b.follow(forward.Leader{Fence: 2, Address: a.URL})
	for range bodies {
		if g := <-answers; g.by != "a" || len(g.body) != len("short") && len(g.body) != len(large) {
			t.Fatalf("%d by %q, %d bytes", g.status, g.by, len(g.body))
		}
	}
}

// TestNobodyLeads: the wait is bounded, also when servers take each other for the leader.
func TestNobodyLeads(t *testing.T) {
	t.Parallel()
	a, b := start(t, 300*time.Millisecond), start(t, 300*time.Millisecond)
	a.follow(forward.Leader{Fence: 1, Address: b.URL})
	b.follow(forward.Leader{Fence: 1, Address: a.URL})
	for _, body := range []string{"short", strings.Repeat("x", 3<<20)} {
		g := send(t, a, http.MethodPost, "/v1/x", strings.NewReader(body))
		if g.status != http.StatusServiceUnavailable || code(t, g) != "no_leader" || g.header.Get("Retry-After") == "" || g.header.Get("Tally-Not-Leader") != "" {
			t.Fatalf("%+v", g)
		}
	}
}

func TestHandOver(t *testing.T) {
	t.Parallel()
	a, b := start(t, 0), start(t, 0)
	entered, goOn := make(chan bool, 1), make(chan bool)
	a.Lead(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- true
		<-goOn
		w.Header().Set("By", "a")
	}))
	first := make(chan got, 1)
	go func() { first <- send(t, a, http.MethodPost, "/v1/x", strings.NewReader("1")) }()
	<-entered
	retired := make(chan error, 1)
	go func() { retired <- a.Retire(t.Context()) }()
	second := make(chan got, 1)
	settle(t, func() bool { // until the front is closed nothing may be sent
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		return errors.Is(a.Retire(ctx), context.DeadlineExceeded)
	})
	go func() { second <- send(t, a, http.MethodPost, "/v1/x", strings.NewReader("2")) }()
	settle(t, func() bool { return a.Stats().Waiting == 1 })
	select {
	case err := <-retired:
		t.Fatal("retired while a request ran", err)
	default:
	}
	close(goOn)
	if err := <-retired; err != nil {
		t.Fatal(err)
	}
	if g := <-first; g.by != "a" {
		t.Fatalf("what ran was not answered by the one that had begun it: %+v", g)
	}
	b.Lead(echo("b"))
	a.follow(forward.Leader{Fence: 2, Address: b.URL})
	if g := <-second; g.by != "b" || string(g.body) != "2" {
		t.Fatalf("what waited was not passed on: %+v", g)
	}
}

// TestElsewhere: what the leader cannot answer yet waits, and is tried again with all of its body: there, or at the next leader.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	a, b := start(t, time.Hour), start(t, time.Hour)
	var calls atomic.Int64
	var there atomic.Bool
	a.Lead(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1); !there.Load() {
			forward.Elsewhere(w)
			return
		}
		echo("a").ServeHTTP(w, r)
	}))
	a.follow(forward.Leader{Fence: 1})
	b.follow(forward.Leader{Fence: 1, Address: a.URL})
	large := strings.Repeat("x", 3<<20)
	answers := make(chan got, 3)
	ask := func() {
		calls.Store(0)
		for _, at := range []*member{a, b, b} {
			body := "short"
			if len(answers) == 0 && at == b {
				body = large
			}
			go func() {
				answers <- send(t, at, http.MethodPost, "/v1/reservations/res_1/settle", strings.NewReader(body))
			}()
		}
		settle(t, func() bool { return calls.Load() >= 7 })
	}
	ask()
	there.Store(true)
	for range 3 {
		if g := <-answers; g.by != "a" || len(g.body) != len("short") && len(g.body) != len(large) {
			t.Fatalf("%d by %q, %d bytes: %s", g.status, g.by, len(g.body), g.body[:min(len(g.body), 200)])
		}
	}
	there.Store(false)
	ask()
	if err := a.Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Lead(echo("b"))
	a.follow(forward.Leader{Fence: 2, Address: b.URL})
	b.follow(forward.Leader{Fence: 2})
	for range 3 {
		if g := <-answers; g.by != "b" {
			t.Fatalf("%d by %q: %s", g.status, g.by, g.body[:min(len(g.body), 200)])
		}
	}
}

// TestElsewhereEnds: the wait is bounded, and what is said in the end is what was the matter in the end.
func TestElsewhereEnds(t *testing.T) {
	t.Parallel()
	a := start(t, 300*time.Millisecond)
	a.Lead(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { forward.Elsewhere(w) }))
	g := send(t, a, http.MethodPost, "/v1/reservations/res_1/settle", strings.NewReader("{}"))
	if g.status != http.StatusServiceUnavailable || code(t, g) != "reservation_away" {
		t.Fatalf("%+v", g)
	}
	began := make(chan bool, 100)
	b := start(t, 300*time.Millisecond)
	b.Lead(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		forward.Elsewhere(w)
		began <- true
	}))
	later := make(chan got, 1)
	go func() { later <- send(t, b, http.MethodGet, "/v1/reservations/res_1", nil) }()
	<-began
	if err := b.Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g := <-later; code(t, g) != "no_leader" {
		t.Fatalf("%+v", g)
	}
}

// TestElsewhereLetsGo: a call whose client has left does not keep its place, also when its body was not read by anybody.
func TestElsewhereLetsGo(t *testing.T) {
	t.Parallel()
	a := start(t, time.Hour)
	began, over := make(chan bool, 1000), make(chan bool)
	a.Lead(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		forward.Elsewhere(w)
		began <- true
	}))
	at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		a.ServeHTTP(w, r)
	}))
	t.Cleanup(at.Close)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; <-began; cancel() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Fatal("answered", resp.StatusCode)
	}
	<-over
}

// TestElsewhereIsBounded: only so many wait, and who is turned away is told why, also by a server that passed the request on.
func TestElsewhereIsBounded(t *testing.T) {
	t.Parallel()
	a, b := start(t, time.Hour), start(t, time.Hour)
	var calls atomic.Int64
	a.Lead(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); forward.Elsewhere(w) }))
	a.follow(forward.Leader{Fence: 1})
	b.follow(forward.Leader{Fence: 1, Address: a.URL})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.URL, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := http.DefaultClient.Do(req); err == nil {
				t.Errorf("answered %d", resp.StatusCode)
				_ = resp.Body.Close()
			}
		})
	}
	settle(t, func() bool { return b.Stats().Waiting >= 250 && calls.Load() > 300 })
	settle(t, func() bool {
		g := send(t, b, http.MethodGet, "/", nil)
		return g.status == http.StatusServiceUnavailable && code(t, g) == "reservation_away" && g.header.Get("Retry-After") != ""
	})
	cancel()
	wg.Wait()
}

// TestStreamsEnd: a server that stops ends the streams that it passes on, and takes no more; other requests go on.
func TestStreamsEnd(t *testing.T) {
	t.Parallel()
	a, b := start(t, time.Hour), start(t, time.Hour)
	begun := make(chan bool, 1)
	a.Lead(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			echo("a").ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		begun <- true
		<-r.Context().Done()
	}))
	b.follow(forward.Leader{Fence: 1, Address: a.URL})
	ended := make(chan bool)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}()
	<-begun
	select {
	case <-ended:
		t.Error("the stream ended by itself")
	default:
	}
	b.Leave()
	<-ended
	if g := send(t, b, http.MethodGet, "/stream", nil); g.status != http.StatusServiceUnavailable || code(t, g) != "no_leader" {
		t.Errorf("another stream: %+v", g)
	}
	if g := send(t, b, http.MethodPost, "/v1/x", strings.NewReader("1")); g.by != "a" {
		t.Errorf("another request: %+v", g)
	}
}

// TestLost: a call that the leader may have done is not sent again; one that does no harm is.
func TestLost(t *testing.T) {
	t.Parallel()
	a, b := start(t, 0), start(t, 0)
	var calls atomic.Int64
	a.Lead(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%2 == 1 {
			panic(http.ErrAbortHandler)
		}
		echo("a").ServeHTTP(w, r)
	}))
	b.follow(forward.Leader{Fence: 1, Address: a.URL})
	if g := send(t, b, http.MethodPost, "/v1/invoices", strings.NewReader("{}")); g.status != http.StatusServiceUnavailable || code(t, g) != "leader_lost" || calls.Load() != 1 {
		t.Fatalf("%+v after %d calls", g, calls.Load())
	}
	calls.Store(0)
	if g := send(t, b, http.MethodPost, "/v1/events", strings.NewReader("{}")); g.by != "a" || calls.Load() != 2 {
		t.Fatalf("%+v after %d calls", g, calls.Load())
	}
}

// TestNothingGetsOutTooLate: what was decided while the lead ran out is not answered.
func TestNothingGetsOutTooLate(t *testing.T) {
	t.Parallel()
	a := start(t, 0)
	a.Lead(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a.valid.Store(false)
		_, _ = io.WriteString(w, "granted")
	}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := a.Client().Do(req); err == nil {
		_ = resp.Body.Close()
		t.Fatalf("answered with %d", resp.StatusCode)
	}
}

// settle waits until a condition holds.
func settle(t *testing.T, holds func() bool) {
	t.Helper()
	tick, late := time.NewTicker(time.Millisecond), time.NewTimer(30*time.Second)
	defer tick.Stop()
	defer late.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatal("waited in vain")
		}
	}
}
