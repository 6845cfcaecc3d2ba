package httpapi_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/seal"
)

func TestProofs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sealing = true
	w.want(http.StatusNotFound, http.MethodGet, "/v1/checkpoints/latest", "")
	w.apply()
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
	w.want(http.StatusCreated, http.MethodPost, "/v1/subscriptions", `{"customer":"acme","plan":"pro","start":"2026-10-01T00:00:00Z","billing_day":1}`)
	w.reportSome()
	key := w.want(http.StatusOK, http.MethodGet, "/v1/checkpoints/key", "").text(t, "key")

	// An event, before the first checkpoint: one is signed for it.
	proof := w.want(http.StatusOK, http.MethodGet, "/v1/events/t%2F1/proof?source="+url.QueryEscape("shop/1"), "").body
	b, _, err := seal.Verify(proof, key)
	if err != nil || b.Event.ID != "t/1" || !strings.Contains(string(b.Event.Data), "12.5") {
		t.Fatalf("%v: %s", err, proof)
	}

	w.want(http.StatusOK, http.MethodPost, "/v1/clock/advance", `{"to":"period-end"}`)
	id := w.want(http.StatusOK, http.MethodGet, "/v1/invoices?customer=acme", "").text(t, "items.0.id")
	if a := w.want(http.StatusOK, http.MethodGet, "/v1/invoices/"+id, ""); bytes.Contains(a.body, []byte("checkpoint")) {
		t.Errorf("a checkpoint before it is signed: %s", a.body)
	}
	if err := w.seal.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	latest := w.want(http.StatusOK, http.MethodGet, "/v1/checkpoints/latest", "")
	covered := w.want(http.StatusOK, http.MethodGet, "/v1/invoices/"+id, "")
	if covered.field(t, "checkpoint.size") != latest.field(t, "size") || covered.text(t, "checkpoint.root") != latest.text(t, "root") {
		t.Errorf("the invoice names %s, the latest is %s", covered.body, latest.body)
	}
	note := w.want(http.StatusOK, http.MethodGet, "/v1/checkpoints/latest", "", "Accept", "text/plain")
	if string(note.body) != latest.text(t, "note") || !strings.HasPrefix(note.header.Get("Content-Type"), "text/plain") {
		t.Errorf("as text: %q", note.body)
	}
	if _, err := seal.Open(note.body, key); err != nil {
		t.Error(err)
	}
	page := w.want(http.StatusOK, http.MethodGet, "/v1/checkpoints?limit=1", "")
	next := w.want(http.StatusOK, http.MethodGet, "/v1/checkpoints?limit=1&cursor="+page.text(t, "next"), "")
	if page.field(t, "items.0.size") != latest.field(t, "size") || next.field(t, "next") != nil || next.text(t, "items.0.key") != key {
		t.Errorf("pages: %s %s", page.body, next.body)
	}

	for _, query := range []string{"", "?events=true", "?events=false"} {
		line := w.want(http.StatusOK, http.MethodGet, "/v1/invoices/"+id+"/lines/1/proof"+query, "").body
		if b, _, err := seal.Verify(line, key); err != nil || b.Line.Invoice != id {
			t.Errorf("%s: %v: %s", query, err, line)
		}
	}

	report := w.want(http.StatusOK, http.MethodPost, "/v1/audit", string(body(t, map[string]string{"against": string(note.body), "key": key})))
	if n, ok := report.field(t, "findings").([]any); !ok || len(n) > 0 {
		t.Errorf("audit: %s", report.body)
	}
	for path, status := range map[string]int{
		"/v1/events/none/proof":                             http.StatusNotFound,
		"/v1/events/none/proof?from=x":                      http.StatusUnprocessableEntity,
		"/v1/invoices/" + id + "/lines/9/proof":             http.StatusNotFound,
		"/v1/invoices/inv_none/lines/1/proof":               http.StatusNotFound,
		"/v1/invoices/" + id + "/lines/1/proof?events=yes":  http.StatusUnprocessableEntity,
		"/v1/invoices/" + id + "/lines/2/proof?events=true": http.StatusUnprocessableEntity,
		"/v1/checkpoints?cursor=x":                          http.StatusBadRequest,
	} {
		w.want(status, http.MethodGet, path, "")
	}
	bad := w.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/audit", `{"against":"not a note"}`)
	if bad.text(t, "errors.0.pointer") != "/against" {
		t.Errorf("%s", bad.body)
	}
}

func body(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
