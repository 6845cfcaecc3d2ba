package httpapi_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// TestResources walks through a month of a small seller and compares every answer.
func TestResources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	post := func(name string, status int, path, body string) answer {
		t.Helper()
		w.step()
		a := w.want(status, http.MethodPost, path, body)
		w.golden(name, a)
		return a
	}
	get := func(name, path string) answer {
		t.Helper()
		a := w.want(http.StatusOK, http.MethodGet, path, "")
		w.golden(name, a)
		return a
	}

	w.golden("catalog_plan", w.want(http.StatusOK, http.MethodPost, "/v1/catalog/plan?file=tally.yaml", testCatalog, "Content-Type", "application/yaml"))
	w.golden("catalog_apply", w.apply())
	w.golden("catalog_apply_again", w.want(http.StatusOK, http.MethodPost, "/v1/catalog/versions", testCatalog, "Content-Type", "application/yaml"))
	get("catalog_list", "/v1/catalog/versions")
	get("catalog_latest", "/v1/catalog/versions/latest")

	post("customer_create", http.StatusCreated, "/v1/customers", `{"key":"acme","name":"Acme GmbH","zone":"Europe/Berlin","currency":"USD"}`)
	post("customer_create_short", http.StatusCreated, "/v1/customers", `{"key":"bolt"}`)
	get("customer_list", "/v1/customers")
	get("customer_get", "/v1/customers/acme")
	post("portal_link", http.StatusCreated, "/v1/customers/acme/portal-link", `{"ttl_s":3600}`)

	pro := post("key_create", http.StatusCreated, "/v1/keys", `{"customer":"acme","name":"ci","expires_at":"2027-10-15T12:00:00+02:00"}`).text(t, "secret")
	free := post("key_create_short", http.StatusCreated, "/v1/keys", `{"customer":"bolt"}`).text(t, "secret")
	revoked := post("key_create_more", http.StatusCreated, "/v1/keys", `{"customer":"bolt"}`)
	post("key_revoke", http.StatusOK, "/v1/keys/"+revoked.text(t, "id")+"/revoke", `{}`)
	get("key_get", "/v1/keys/"+revoked.text(t, "id"))
	get("key_list", "/v1/keys?customer=bolt")

	post("subscription_create", http.StatusCreated, "/v1/subscriptions", `{"customer":"acme","plan":"pro","start":"2026-10-01T00:00:00Z","billing_day":1}`)
	sub := post("subscription_create_short", http.StatusCreated, "/v1/subscriptions", `{"customer":"bolt","plan":"free"}`)
	get("subscription_get", "/v1/subscriptions/"+sub.text(t, "id"))
	get("subscription_list", "/v1/subscriptions?customer=acme")

	w.reportSome()
	var denied string
	for range 4 {
		w.step()
		if a := w.request(free); !a.Allowed() {
			denied = a.DecisionID
		}
		w.request(pro)
	}
	post("decision_explain_denied", http.StatusOK, "/v1/decisions/explain", `{"decision_id":"`+denied+`"}`)
	decisions := get("decision_list", "/v1/decisions?customer=acme&limit=2")
	post("decision_explain_allowed", http.StatusOK, "/v1/decisions/explain", `{"decision_id":"`+decisions.text(t, "items.0.decision_id")+`"}`)

	get("limits", "/v1/customers/bolt/limits")
	get("limits_spend", "/v1/customers/acme/limits")
	w.golden("limits_me", w.want(http.StatusOK, http.MethodGet, "/v1/limits/me", "", "Authorization", "Bearer "+free))

	events := get("event_list", "/v1/events?customer=acme&meter=api_calls&limit=2")
	get("event_list_all", "/v1/events")
	get("event_get", "/v1/events/"+events.text(t, "items.0.id"))
	get("event_get_reported", "/v1/events/t%2F1?source="+url.QueryEscape("shop/1"))

	get("usage", "/v1/usage?customer=acme&meter=api_calls")
	get("usage_range", "/v1/usage?customer=acme&meter=tokens&from=2026-10-10T00:00:00Z&to=2026-10-16T00:00:00%2B02:00&window=hour")
	get("preview", "/v1/customers/acme/preview")
	get("books_before", "/v1/books?customer=acme")
	get("clock", "/v1/clock")
	post("clock_advance", http.StatusOK, "/v1/clock/advance", `{"to":"period-end"}`)
	post("clock_advance_by", http.StatusOK, "/v1/clock/advance", `{"by":"24h"}`)

	invoices := get("invoice_list", "/v1/invoices?customer=acme")
	id := invoices.text(t, "items.0.id")
	get("invoice_get", "/v1/invoices/"+id)
	get("trace", "/v1/invoices/"+id+"/lines/1/trace?limit=2")
	get("trace_flat", "/v1/invoices/"+id+"/lines/"+invoices.text(t, "items.0.lines.1.id")+"/trace")
	get("event_get_invoiced", "/v1/events/"+events.text(t, "items.0.id"))
	get("books", "/v1/books")
	get("audit", "/v1/audit")
	if s := w.get("/v1/status"); s.field(t, "denied_quota") != 1.0 || s.field(t, "admitted") != 7.0 || s.text(t, "mode") != "test" {
		t.Errorf("status: %s", s.body)
	}
}

// reportSome reports one event of every fate.
func (w *world) reportSome() {
	w.t.Helper()
	w.step()
	one := `{"specversion":"1.0","id":"t/1","source":"shop/1","type":"completion","subject":"acme","time":"2026-10-12T08:30:00Z","data":{"tokens":"12.5","status":201}}`
	w.golden("events_one", w.want(http.StatusOK, http.MethodPost, "/v1/events", one, "Content-Type", "application/cloudevents+json"))
	batch := `[` + one + `,
		{"specversion":"1.0","id":"t/1","source":"shop/1","type":"completion","subject":"acme","data":{"tokens":"13"}},
		{"specversion":"1.0","id":"r/1","source":"shop/1","type":"request","subject":"acme","time":"2026-10-11T22:30:00Z"},
		{"specversion":"0.3","id":"old"},
		{"specversion":"1.0","id":"u/1","source":"shop/1","type":"request","subject":"nobody","time":"2026-10-12T08:30:00Z"},
		42]`
	w.golden("events_batch", w.want(http.StatusOK, http.MethodPost, "/v1/events", batch, "Content-Type", "application/cloudevents-batch+json"))
	w.golden("events_brief", w.want(http.StatusOK, http.MethodPost, "/v1/events?detail=false", batch, "Content-Type", "application/cloudevents-batch+json; charset=utf-8"))
}

// TestReadYourOwnWrite: what the gateway settled just now is in every answer, without anybody shipping it first.
func TestReadYourOwnWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	secret := w.subscribe("acme", "pro")
	for i, tt := range []struct{ path, field string }{
		{"/v1/books", "metered"},
		{"/v1/usage?customer=acme&meter=api_calls", "value"},
		{"/v1/customers/acme/preview", "lines.0.quantity"},
		{"/v1/invoices/preview?customer=acme", "lines.0.quantity"},
	} {
		w.step()
		w.request(secret)
		if a := w.want(http.StatusOK, http.MethodGet, tt.path, ""); a.text(t, tt.field) != strconv.Itoa(i+1) {
			t.Errorf("%s, %s after %d requests: %s", tt.path, tt.field, i+1, a.body)
		}
	}
	a := w.request(secret)
	id, _, _ := strings.Cut(strings.TrimPrefix(a.DecisionID, "dec_"), ".")
	if e := w.want(http.StatusOK, http.MethodGet, "/v1/events/"+id, ""); e.text(t, "decision_id") != a.DecisionID {
		t.Errorf("the event tells %s, the client was told %s", e.text(t, "decision_id"), a.DecisionID)
	}
	w.request(secret)
	if e := w.want(http.StatusOK, http.MethodGet, "/v1/events", ""); e.text(t, "items.0.origin") != "admitted" || len(w.walk("/v1/events", 1000)) != 6 {
		t.Errorf("%s", e.body)
	}
}
