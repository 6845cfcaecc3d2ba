package client_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/client"
)

// hello answers as its query says: status, or a panic before or after the answer.
func hello(t testing.TB) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if k, ok := client.KeyOf(r.Context()); !ok || k.Customer == "" {
			t.Error("the handler does not know its caller")
		}
		switch r.FormValue("do") {
		case "panic":
			panic(http.ErrAbortHandler)
		case "cut":
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "nothing":
		case "file":
			_, _ = io.Copy(w, strings.NewReader("12345"))
		default:
			if status, err := strconv.Atoi(r.FormValue("do")); err == nil {
				w.WriteHeader(status)
			}
			_, _ = io.WriteString(w, "hello")
		}
	})
}

type answer struct {
	status  int
	header  http.Header
	problem client.Problem
}

func get(t testing.TB, url, secret string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		r.Header.Set("Authorization", "bearer "+secret)
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	b, _ := io.ReadAll(resp.Body) // it may be cut
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.Unmarshal(b, &a.problem); err != nil {
			t.Error(err)
		}
	}
	return a
}

// TestMiddleware: who may, what it costs, and how refusals look.
func TestMiddleware(t *testing.T) {
	t.Parallel()
	name, keyID, secret := customer(t, "hundred")
	c := open(t, client.Config{})
	s := httptest.NewServer(c.Middleware(client.Route{Meter: "api_calls", Cost: 10})(hello(t)))
	defer s.Close()

	if a := get(t, s.URL, ""); a.status != 401 || a.problem.Code != "key_missing" || a.header.Get("WWW-Authenticate") == "" || a.problem.Fix == "" {
		t.Errorf("%+v", a)
	}
	calls := c.Stats().Calls
	if a := get(t, s.URL, "tally_live_made_up"); a.status != 401 || a.problem.Code != "key_unknown" || c.Stats().Calls != calls {
		t.Errorf("%+v", a)
	}
	// Charged: answers below 500, and those that were cut off. Given back: 500 and more, and a handler that panics before.
	for do, want := range map[string]int{"": 200, "404": 404, "nothing": 200, "file": 200, "cut": 200, "500": 500, "503": 503, "panic": 0} {
		a := get(t, s.URL+"/?do="+do, secret)
		if a.status != want || want != 0 && !strings.HasPrefix(a.header.Get("Decision-Id"), "dec_") {
			t.Errorf("%q: %d %v", do, a.status, a.header)
		}
	}
	eventually(t, "five times 10 are charged", func() bool { return used(t, c, name, "api_calls") == "50" })
	for range 5 {
		if a := get(t, s.URL, secret); a.status != 200 {
			t.Errorf("%+v", a)
		}
	}
	a := get(t, s.URL, secret)
	after, _ := strconv.Atoi(a.header.Get("Retry-After"))
	if a.status != 429 || a.problem.Code != "quota_exceeded" || len(a.problem.Violated) != 1 || after < 1 || int64(after) != a.problem.RetryAfter ||
		a.header.Get("RateLimit-Policy") == "" || a.header.Get("RateLimit") == "" || a.header.Get("Decision-Id") != a.problem.DecisionID ||
		!strings.HasSuffix(a.problem.Type, "quota-exceeded") {
		t.Errorf("%+v", a)
	}
	if e, err := c.Explain(t.Context(), a.problem.DecisionID); err != nil || e.KeyID != keyID {
		t.Errorf("%+v %v", e, err)
	}
}

// TestRevoked: a revoked key is refused within a second, also while its block has room.
func TestRevoked(t *testing.T) {
	t.Parallel()
	_, keyID, secret := customer(t, "open")
	c := open(t, client.Config{Idle: time.Hour, Age: time.Hour, TTL: time.Hour, BlockMax: 100_000})
	var now atomic.Int64 // the client's, in nanoseconds since the start
	began := time.Now()
	frozen := open(t, client.Config{Idle: time.Hour, Age: time.Hour, TTL: time.Hour, Now: func() time.Time { return began.Add(time.Duration(now.Load())) }})
	if _, err := frozen.Authenticate(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(c.Middleware(client.Route{Meter: "api_calls"})(hello(t)))
	defer s.Close()
	if a := get(t, s.URL, secret); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	api(t, http.MethodPost, "/v1/keys/"+keyID+"/revoke", m{}, nil)
	eventually(t, "the revocation works", func() bool { return get(t, s.URL, secret).problem.Code == "key_revoked" })
	if n := c.Stats().Blocks; n > 20 {
		t.Errorf("%d blocks were taken meanwhile", n)
	}
	// On a clock of its own: good until just before, refused at one second.
	now.Store(int64(800 * time.Millisecond))
	if _, err := frozen.Authenticate(t.Context(), secret); err != nil {
		t.Error(err)
	}
	now.Store(int64(time.Second))
	if _, err := frozen.Authenticate(t.Context(), secret); problem(t, err).Code != "key_revoked" {
		t.Error(err)
	}
}

// TestNoSubscription: a good key of a customer without a plan.
func TestNoSubscription(t *testing.T) {
	t.Parallel()
	_, _, secret := customer(t, "")
	c := open(t, client.Config{})
	s := httptest.NewServer(c.Middleware(client.Route{Match: "GET /hello"})(hello(t)))
	defer s.Close()
	if a := get(t, s.URL, secret); a.status != 403 || a.problem.Code != "no_subscription" || a.problem.DecisionID == "" {
		t.Errorf("%+v", a)
	}
}

// TestWrongMeter: a mistake in the program is the API's trouble, not the caller's, and its owner hears of it.
func TestWrongMeter(t *testing.T) {
	t.Parallel()
	_, _, secret := customer(t, "hundred")
	told := make(chan error, 10)
	c := open(t, client.Config{OnError: func(err error) { told <- err }})
	s := httptest.NewServer(c.Middleware(client.Route{Meter: "no"})(hello(t)))
	defer s.Close()
	if a := get(t, s.URL, secret); a.status != 503 || a.problem.Code != "unavailable" {
		t.Errorf("%+v", a)
	}
	if err := <-told; !strings.Contains(err.Error(), "no meter") {
		t.Error(err)
	}
}

// TestActual: the cost of an answer is known when it is there; a file's bytes count, too.
func TestActual(t *testing.T) {
	t.Parallel()
	name, _, secret := customer(t, "hundred")
	c := open(t, client.Config{})
	s := httptest.NewServer(c.Middleware(client.Route{
		Meter: "tokens", Scale: 1, Cost: 100,
		Actual: func(r *http.Request, a client.Answer) int64 {
			if a.Status != 200 || r.URL.Path != "/" {
				t.Errorf("%+v", a)
			}
			return a.Bytes
		},
		User: func(r *http.Request) string { return r.Header.Get("X-User") },
	})(hello(t)))
	defer s.Close()
	get(t, s.URL+"/?do=file", secret)
	get(t, s.URL, secret)
	get(t, s.URL+"/?do=500", secret)
	shut(t, c)
	if u := used(t, open(t, client.Config{}), name, "tokens"); u != "1.0" && u != "1" {
		t.Errorf("%s are charged, want 1: ten bytes", u)
	}
}
