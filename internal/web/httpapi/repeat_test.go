package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestRepeatedCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
	const body = `{"customer":"acme"}`
	first := w.want(http.StatusCreated, http.MethodPost, "/v1/keys", body, "Idempotency-Key", "k1")
	again := w.want(http.StatusCreated, http.MethodPost, "/v1/keys", body, "Idempotency-Key", "k1")
	if !bytes.Equal(first.body, again.body) || again.header.Get("Idempotent-Replayed") != "true" || first.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("first %s\nagain %s", first.body, again.body)
	}
	if first.header.Get("Request-Id") == again.header.Get("Request-Id") || again.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", again.header)
	}
	if list := w.get("/v1/keys"); strings.Count(string(list.body), `"key_`) != 1 {
		t.Errorf("a repeated call made another key: %s", list.body)
	}
	for name, a := range map[string]answer{
		"another body":  w.call(http.MethodPost, "/v1/keys", `{"customer":"acme","name":"x"}`, "Idempotency-Key", "k1"),
		"another query": w.call(http.MethodPost, "/v1/keys?x=1", body, "Idempotency-Key", "k1"),
	} {
		if a.status != http.StatusUnprocessableEntity || a.text(t, "code") != "idempotency_mismatch" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"bolt"}`, "Idempotency-Key", "k1") // another route
	refused := w.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/customers", `{"key":"?"}`, "Idempotency-Key", "k2")
	same := w.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/customers", `{"key":"?"}`, "Idempotency-Key", "k2")
	if !bytes.Equal(refused.body, same.body) {
		t.Errorf("a refusal was not repeated: %s", same.body)
	}
	for _, key := range []string{strings.Repeat("k", 129), "with space", "\x01"} {
		a := w.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/keys", body, "Idempotency-Key", key)
		if a.text(t, "errors.0.pointer") != "/Idempotency-Key" {
			t.Errorf("%s", a.body)
		}
	}
}

func TestRepeatedEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	const one = `{"specversion":"1.0","id":"1","source":"shop/1","type":"request","subject":"nobody"}`
	for range 2 {
		a := w.want(http.StatusOK, http.MethodPost, "/v1/events", one, "Content-Type", eventType, "Idempotency-Key", "e1")
		if a.field(t, "unmatched") != 1.0 {
			t.Errorf("%s", a.body)
		}
	}
	if a := w.want(http.StatusOK, http.MethodPost, "/v1/events", one, "Content-Type", eventType); a.field(t, "duplicate") != 1.0 {
		t.Errorf("%s", a.body)
	}
}

// TestRepeatedBinaryEvents: in binary mode the event is in the headers, so another one with the same key is another call. Else its
// sender would take the first one's receipt for an event that was never stored.
func TestRepeatedBinaryEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	send := func(id string) answer {
		return w.call(http.MethodPost, "/v1/events", `{}`, "Content-Type", "application/json", "Idempotency-Key", "b1",
			"ce-specversion", "1.0", "ce-id", id, "ce-source", "shop/1", "ce-type", "request", "ce-subject", "nobody")
	}
	if a := send("1"); a.status != http.StatusOK || a.field(t, "unmatched") != 1.0 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := send("1"); a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the same call: %d %s", a.status, a.body)
	}
	if a := send("2"); a.status != http.StatusUnprocessableEntity || a.text(t, "code") != "idempotency_mismatch" {
		t.Errorf("another event: %d %s", a.status, a.body)
	}
}

// TestRepeatWhileRunning: a second call while the first runs is told so; a failed first call may be tried again.
func TestRepeatWhileRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
	entered, leave := make(chan struct{}), make(chan error)
	w.link = func(string, time.Duration) (string, time.Time, error) {
		entered <- struct{}{}
		return "http://x", w.now(), <-leave
	}
	first := make(chan answer)
	call := func() {
		first <- w.call(http.MethodPost, "/v1/customers/acme/portal-link", `{}`, "Idempotency-Key", "p1")
	}
	go call()
	<-entered
	a := w.want(http.StatusConflict, http.MethodPost, "/v1/customers/acme/portal-link", `{}`, "Idempotency-Key", "p1")
	if a.text(t, "code") != "idempotency_in_progress" || a.field(t, "retryable") != true {
		t.Errorf("%s", a.body)
	}
	leave <- errors.New("no luck")
	if a := <-first; a.status != http.StatusInternalServerError {
		t.Errorf("%d %s", a.status, a.body)
	}
	go call()
	<-entered
	leave <- nil
	if a := <-first; a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.want(http.StatusCreated, http.MethodPost, "/v1/customers/acme/portal-link", `{}`, "Idempotency-Key", "p1"); a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v", a.header)
	}
}

// TestFirstCallSurvivesItsClient: the client leaves, the call ends, and the retry finds its answer.
func TestFirstCallSurvivesItsClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/customers", strings.NewReader(`{"key":"acme"}`))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Idempotency-Key", "c1")
	w.h.ServeHTTP(httptest.NewRecorder(), r)
	a := w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`, "Idempotency-Key", "c1")
	if a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v %s", a.header, a.body)
	}
}

// TestPages walks each list in pages of one and of two and must find all, newest first, each once.
func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	for i := range 5 {
		w.step()
		w.subscribe(fmt.Sprintf("c%d", i), "pro")
		event := fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"shop/1","type":"request","subject":"c0"}`, i)
		w.want(http.StatusOK, http.MethodPost, "/v1/events", event, "Content-Type", eventType)
		w.want(http.StatusCreated, http.MethodPost, "/v1/catalog/versions", testCatalog+strings.Repeat("    # a comment\n", i)+
			fmt.Sprintf("    - {match: \"GET /v%d\", upstream: \"http://127.0.0.1:9000\"}\n", i), "Content-Type", yamlType)
	}
	w.want(http.StatusOK, http.MethodPost, "/v1/clock/advance", `{"to":"period-end"}`)
	for _, path := range []string{
		"/v1/customers", "/v1/keys", "/v1/subscriptions", "/v1/invoices", "/v1/audit", "/v1/catalog/versions", "/v1/events",
		"/v1/keys?customer=c1", "/v1/subscriptions?customer=c1", "/v1/invoices?customer=c1", "/v1/events?customer=c0&meter=api_calls",
	} {
		t.Run(path, func(t *testing.T) {
			all := w.walk(path, 1000)
			if len(all) == 0 {
				t.Fatal("empty")
			}
			for limit := 1; limit <= 2; limit++ {
				if got := w.walk(path, limit); fmt.Sprint(got) != fmt.Sprint(all) {
					t.Errorf("in pages of %d: %v\nat once: %v", limit, got, all)
				}
			}
		})
	}
	trace := w.walkTrace("/v1/invoices/" + w.get("/v1/invoices?customer=c0").text(t, "items.0.id") + "/lines/1/trace")
	if len(trace) != 5 {
		t.Errorf("the trace has %v", trace)
	}
}

// walk reads a list to its end and returns what tells its items apart.
func (w *world) walk(path string, limit int) (ids []any) {
	w.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	for next := ""; ; {
		a := w.want(http.StatusOK, http.MethodGet, fmt.Sprintf("%s%slimit=%d&cursor=%s", path, sep, limit, next), "")
		items, ok := a.field(w.t, "items").([]any)
		if !ok || len(items) > limit {
			w.t.Fatalf("%s", a.body)
		}
		for _, it := range items {
			m, ok := it.(map[string]any)
			if !ok {
				w.t.Fatalf("%s", a.body)
			}
			ids = append(ids, fmt.Sprint(m["id"], m["version"]))
		}
		if next, ok = a.field(w.t, "next").(string); !ok {
			return ids
		}
	}
}

func (w *world) walkTrace(path string) (ids []any) {
	w.t.Helper()
	for next := ""; ; {
		a := w.want(http.StatusOK, http.MethodGet, path+"?limit=1&cursor="+next, "")
		events, ok := a.field(w.t, "events").([]any)
		if !ok {
			w.t.Fatalf("%s", a.body)
		}
		ids = append(ids, events...)
		if next, ok = a.field(w.t, "next").(string); !ok {
			return ids
		}
	}
}
