package cli

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestReportAgain: what may pass is tried again, after ever longer pauses and as the server asks; what cannot is not.
func TestReportAgain(t *testing.T) {
	t.Parallel()
	const taken = `{"accepted":1,"outcomes":[{"status":"accepted","id":"1"}]}`
	full := func(after string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"code":"store_full","detail":"There is no room."}`))
		}
	}
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	good := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(taken)) }
	refused := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"code":"token_unknown","detail":"The token is not known."}`))
	}
	for name, tt := range map[string]struct {
		steps []http.HandlerFunc
		waits []time.Duration
		err   string
	}{
		"at once":   {[]http.HandlerFunc{good}, nil, ""},
		"later":     {[]http.HandlerFunc{full("1"), cut, full(""), good}, []time.Duration{time.Second, 2 * ingestPause, 4 * ingestPause}, ""},
		"not now":   {[]http.HandlerFunc{full("3600"), full("x"), cut, full("1")}, []time.Duration{ingestLongest, 2 * ingestPause, 4 * ingestPause}, "given up after 4 tries: There is no room."},
		"never":     {[]http.HandlerFunc{full("1"), refused}, []time.Duration{time.Second}, "The token is not known. (token_unknown)"},
		"gibberish": {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) }}, nil, "not understood"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var step atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Content-Type") != "application/x-ndjson" || r.Header.Get("Authorization") != "Bearer secret" {
					t.Errorf("%v", r.Header)
				}
				tt.steps[step.Add(1)-1](w, r)
			}))
			t.Cleanup(s.Close)
			var waits []time.Duration
			e := &Env{Wait: func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }}
			c := &client{Endpoint: Endpoint{API: s.URL, Token: "secret"}, http: s.Client()}
			out, err := c.report(t.Context(), e, 4, []byte("{}\n"))
			if tt.err == "" && (err != nil || len(out) != 1 || out[0].Status != "accepted") || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%v, %v", out, err)
			}
			if d := cmp.Diff(tt.waits, waits); d != "" || int(step.Load()) != len(tt.steps) {
				t.Errorf("%d calls: %s", step.Load(), d)
			}
		})
	}
}

// TestNobodyListens: after the last try the error says so; an end of the command ends the waiting.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c := &client{Endpoint: Endpoint{API: s.URL}, http: &http.Client{}}
	n := 0
	e := &Env{Stderr: &bytes.Buffer{}, Wait: func(context.Context, time.Duration) error { n++; return nil }}
	if _, err := c.report(t.Context(), e, 3, nil); err == nil || !strings.Contains(err.Error(), "given up after 3 tries: the server at") || n != 2 {
		t.Errorf("%d waits: %v", n, err)
	}
	e.Wait = func(context.Context, time.Duration) error { return context.Canceled }
	if _, err := c.report(t.Context(), e, 3, nil); err == nil || strings.Contains(err.Error(), "tries") {
		t.Error(err)
	}
}
