package client_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tallystick/tallystick/client"
)

// BenchmarkAdmit is a request that is admitted from a warm block, and settled.
func BenchmarkAdmit(b *testing.B) {
	_, key, _ := customer(b, "open")
	c := open(b, client.Config{BlockMax: 1_000_000, Age: time.Hour, TTL: time.Hour})
	ask := client.Request{KeyID: key, Meter: "api_calls", Cost: 1}
	warm(b, c, ask)
	b.ReportAllocs()
	for b.Loop() {
		a, err := c.Admit(b.Context(), ask)
		if err != nil {
			b.Fatal(err)
		}
		a.Settle()
	}
}

// warm lets the blocks grow to their greatest.
func warm(b *testing.B, c *client.Client, ask client.Request) {
	for range 200_000 {
		a, err := c.Admit(b.Context(), ask)
		if err != nil {
			b.Fatal(err)
		}
		a.Settle()
	}
}

// BenchmarkMiddleware is the same with net/http's types: key, admission, handler, settlement.
func BenchmarkMiddleware(b *testing.B) {
	_, key, secret := customer(b, "open")
	c := open(b, client.Config{BlockMax: 1_000_000, Age: time.Hour, TTL: time.Hour})
	warm(b, c, client.Request{KeyID: key, Meter: "api_calls", Cost: 1})
	h := c.Middleware(client.Route{Meter: "api_calls"})(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+secret)
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
	if w.status != http.StatusNoContent {
		b.Fatal(w.status)
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }
