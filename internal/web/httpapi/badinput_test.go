package httpapi_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/web/httpapi"
)

const (
	yamlType  = "application/yaml"
	eventType = "application/cloudevents+json"
	batchType = "application/cloudevents-batch+json"
	linesType = "application/x-ndjson"
	// hidden stands for a value that no answer may repeat.
	hidden = "s3cr3t-value"
)

func TestBadInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("acme", "free")
	tests := []struct {
		name, method, path, contentType, body string
		status                                int
		code, pointer                         string
	}{
		{"malformed", "POST", "/v1/customers", "", `{"key":"` + hidden, 400, "malformed", ""},
		{"no body", "POST", "/v1/customers", "", ``, 400, "malformed", ""},
		{"two documents", "POST", "/v1/customers", "", `{"key":"a"}{"key":"` + hidden + `"}`, 400, "malformed", ""},
		{"another type", "POST", "/v1/customers", "text/plain", `{"key":"` + hidden + `"}`, 415, "media_type_unsupported", ""},
		{"a form", "POST", "/v1/customers", "application/x-www-form-urlencoded", `key=` + hidden, 415, "media_type_unsupported", ""},
		{"a list", "POST", "/v1/customers", "", `["` + hidden + `"]`, 422, "invalid", ""},
		{"a text", "POST", "/v1/customers", "", `"` + hidden + `"`, 422, "invalid", ""},
		{"null", "POST", "/v1/customers", "", `null`, 422, "invalid", ""},
		{"missing field", "POST", "/v1/customers", "", `{"name":"` + hidden + `"}`, 422, "invalid", "/key"},
		{"wrong type", "POST", "/v1/customers", "", `{"key":{"a":"` + hidden + `"}}`, 422, "invalid", "/key"},
		{"unknown field", "POST", "/v1/customers", "", `{"key":"a","colour":"` + hidden + `"}`, 422, "invalid", "/colour"},
		{"bad key", "POST", "/v1/customers", "", `{"key":"not a key"}`, 422, "invalid", "/key"},
		{"bad zone", "POST", "/v1/customers", "", `{"key":"a","zone":"Mars/Base"}`, 422, "invalid", "/zone"},
		{"bad currency", "POST", "/v1/customers", "", `{"key":"a","currency":"usd"}`, 422, "invalid", "/currency"},
		{"taken", "POST", "/v1/customers", "", `{"key":"acme"}`, 409, "already_exists", ""},
		{"too large", "POST", "/v1/customers", "", `{"key":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "body_too_large", ""},
		{"no such customer", "GET", "/v1/customers/" + hidden, "", ``, 404, "not_found", ""},
		{"link for nobody", "POST", "/v1/customers/" + hidden + "/portal-link", "", `{}`, 404, "not_found", ""},
		{"link too long", "POST", "/v1/customers/acme/portal-link", "", `{"ttl_s":99999999999}`, 422, "invalid", "/ttl_s"},
		{"link of a part of a second", "POST", "/v1/customers/acme/portal-link", "", `{"ttl_s":60.5}`, 422, "invalid", "/ttl_s"},
		{"link of a number that is whole but not written so", "POST", "/v1/customers/acme/portal-link", "", `{"ttl_s":777e1}`, 422, "invalid", ""},
		{"key for nobody", "POST", "/v1/keys", "", `{"customer":"nobody"}`, 422, "invalid", "/customer"},
		{"key in the past", "POST", "/v1/keys", "", `{"customer":"acme","expires_at":"2020-01-01T00:00:00Z"}`, 422, "invalid", "/expires_at"},
		{"no time", "POST", "/v1/keys", "", `{"customer":"acme","expires_at":"` + hidden + `"}`, 422, "invalid", "/expires_at"},
		{"no such key", "POST", "/v1/keys/" + hidden + "/revoke", "", `{}`, 404, "not_found", ""},
		{"second plan", "POST", "/v1/subscriptions", "", `{"customer":"acme","plan":"pro"}`, 409, "wrong_state", ""},
		{"no such plan", "POST", "/v1/subscriptions", "", `{"customer":"acme","plan":"por"}`, 422, "invalid", "/plan"},
		{"day out of range", "POST", "/v1/subscriptions", "", `{"customer":"acme","plan":"pro","billing_day":32}`, 422, "invalid", "/billing_day"},
		{"no such subscription", "GET", "/v1/subscriptions/" + hidden, "", ``, 404, "not_found", ""},
		{"no such invoice", "GET", "/v1/invoices/" + hidden, "", ``, 404, "not_found", ""},
		{"trace of nothing", "GET", "/v1/invoices/" + hidden + "/lines/1/trace", "", ``, 404, "not_found", ""},
		{"preview of nobody", "GET", "/v1/customers/" + hidden + "/preview", "", ``, 404, "not_found", ""},
		{"preview of nobody named", "GET", "/v1/invoices/preview", "", ``, 422, "invalid", "/customer"},
		{"list for nobody", "GET", "/v1/invoices?customer=" + hidden, "", ``, 404, "not_found", ""},
		{"limit 0", "GET", "/v1/customers?limit=0", "", ``, 422, "invalid", "/limit"},
		{"limit too high", "GET", "/v1/customers?limit=1001", "", ``, 422, "invalid", "/limit"},
		{"limit of letters", "GET", "/v1/customers?limit=" + hidden, "", ``, 422, "invalid", "/limit"},
		{"unknown parameter", "GET", "/v1/customers?colour=" + hidden, "", ``, 422, "invalid", "/colour"},
		{"bad cursor", "GET", "/v1/customers?cursor=" + hidden, "", ``, 400, "cursor_invalid", ""},
		{"cursor of another list", "GET", "/v1/keys?cursor=" + httpapi.Cursor("customers", "cus_1"), "", ``, 400, "cursor_invalid", ""},
		{"cursor of another kind of id", "GET", "/v1/keys?cursor=" + httpapi.Cursor("keys", "cus_1"), "", ``, 400, "cursor_invalid", ""},
		{"cursor of no invoice", "GET", "/v1/invoices?cursor=" + httpapi.Cursor("invoices", "inv_1"), "", ``, 400, "cursor_invalid", ""},
		{"cursor of no version", "GET", "/v1/catalog/versions?cursor=" + httpapi.Cursor("catalogs", "x"), "", ``, 400, "cursor_invalid", ""},
		{"cursor of no place", "GET", "/v1/events?cursor=" + httpapi.Cursor("events", "~"), "", ``, 400, "cursor_invalid", ""},
		{"no such event", "GET", "/v1/events/" + hidden, "", ``, 404, "not_found", ""},
		{"events of another type", "POST", "/v1/events", "text/plain", hidden, 415, "media_type_unsupported", ""},
		{"events without a type", "POST", "/v1/events", " ", hidden, 415, "media_type_unsupported", ""},
		{"malformed event", "POST", "/v1/events", eventType, `{"id":"` + hidden, 400, "malformed", ""},
		{"malformed batch", "POST", "/v1/events", batchType, `[{"id":"` + hidden + `"},`, 400, "malformed", ""},
		{"batch that is none", "POST", "/v1/events", batchType, `{"id":"` + hidden + `"}`, 422, "invalid", ""},
		{"event that is none", "POST", "/v1/events", eventType, `["` + hidden + `"]`, 422, "invalid", ""},
		{"event that is a text", "POST", "/v1/events", "", `"` + hidden + `"`, 422, "invalid", ""},
		{"event that is null", "POST", "/v1/events", "", `null`, 422, "invalid", ""},
		{"lines too many", "POST", "/v1/events", linesType, strings.Repeat("1\n", 10_001), 422, "invalid", ""},
		{"atomic", "POST", "/v1/events?atomic=" + hidden, batchType, `[]`, 422, "invalid", "/atomic"},
		{"events with a parameter", "POST", "/v1/events?" + hidden + "=1", batchType, `[]`, 422, "invalid", ""},
		{"batch with a tail", "POST", "/v1/events", batchType, `[] "` + hidden + `"`, 400, "malformed", ""},
		{"batch too long", "POST", "/v1/events", batchType, "[" + strings.Repeat("1,", 10_000) + "1]", 422, "invalid", ""},
		{"batch too large", "POST", "/v1/events", batchType, `["` + strings.Repeat("x", 16<<20) + `"]`, 413, "body_too_large", ""},
		{"detail", "POST", "/v1/events?detail=" + hidden, batchType, `[]`, 422, "invalid", "/detail"},
		{"usage of nobody", "GET", "/v1/usage?customer=" + hidden + "&meter=api_calls", "", ``, 404, "not_found", ""},
		{"usage of no meter", "GET", "/v1/usage?customer=acme&meter=" + hidden, "", ``, 404, "not_found", ""},
		{"usage without a meter", "GET", "/v1/usage?customer=acme", "", ``, 422, "invalid", "/meter"},
		{"usage in no window", "GET", "/v1/usage?customer=acme&meter=api_calls&window=" + hidden, "", ``, 422, "invalid", "/window"},
		{"usage from no time", "GET", "/v1/usage?customer=acme&meter=api_calls&from=" + hidden, "", ``, 422, "invalid", "/from"},
		{"usage backwards", "GET", "/v1/usage?customer=acme&meter=api_calls&from=2026-10-02T00:00:00Z&to=2026-10-01T00:00:00Z", "", ``, 422, "invalid", "/to"},
		{"usage off the grid", "GET", "/v1/usage?customer=acme&meter=api_calls&from=2026-10-02T00:01:00Z", "", ``, 422, "invalid", "/from"},
		{"books of nobody", "GET", "/v1/books?customer=" + hidden, "", ``, 404, "not_found", ""},
		{"advance nowhere", "POST", "/v1/clock/advance", "", `{}`, 422, "invalid", ""},
		{"advance twice", "POST", "/v1/clock/advance", "", `{"by":"1h","to":"period-end"}`, 422, "invalid", ""},
		{"advance by words", "POST", "/v1/clock/advance", "", `{"by":"` + hidden + `"}`, 422, "invalid", "/by"},
		{"advance back", "POST", "/v1/clock/advance", "", `{"by":"-1h"}`, 422, "invalid", "/by"},
		{"advance to words", "POST", "/v1/clock/advance", "", `{"to":"` + hidden + `"}`, 422, "invalid", "/to"},
		{"advance to the past", "POST", "/v1/clock/advance", "", `{"to":"2020-01-01T00:00:00Z"}`, 422, "clock_backward", ""},
		{"advance too far", "POST", "/v1/clock/advance", "", `{"to":"2199-01-01T00:00:00Z"}`, 422, "invalid", "/to"},
		{"catalog of another type", "POST", "/v1/catalog/plan", "", `{}`, 415, "media_type_unsupported", ""},
		{"catalog with faults", "POST", "/v1/catalog/plan", yamlType, "tallystick: 1\nmetres: []\n", 422, "catalog_invalid", ""},
		{"catalog too large", "POST", "/v1/catalog/versions", yamlType, strings.Repeat("#", 1<<20+1), 413, "body_too_large", ""},
		{"catalog without the plan in use", "POST", "/v1/catalog/versions", yamlType, "tallystick: 1\n", 409, "wrong_state", ""},
		{"catalog with a parameter", "POST", "/v1/catalog/plan?dry=" + hidden, yamlType, "tallystick: 1\n", 422, "invalid", ""},
		{"no such version", "GET", "/v1/catalog/versions/9", "", ``, 404, "not_found", ""},
		{"version of words", "GET", "/v1/catalog/versions/" + hidden, "", ``, 422, "invalid", "/version"},
		{"no decision", "POST", "/v1/decisions/explain", "", `{"decision_id":"` + hidden + `"}`, 422, "decision_unknown", ""},
		{"no such path", "GET", "/v1/" + hidden, "", ``, 404, "not_found", ""},
		{"no such method", "DELETE", "/v1/customers", "", ``, 405, "method_not_allowed", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			contentType := tt.contentType
			if contentType == "" {
				contentType = "application/json"
			}
			a := w.call(tt.method, tt.path, tt.body, "Content-Type", contentType)
			if a.status != tt.status {
				t.Fatalf("status %d, want %d: %.2000s", a.status, tt.status, a.body)
			}
			if got := a.text(t, "code"); got != tt.code || a.text(t, "type") != "/errors/"+tt.code {
				t.Errorf("code %s, want %s: %s", got, tt.code, a.body)
			}
			if tt.pointer != "" && a.text(t, "errors.0.pointer") != tt.pointer {
				t.Errorf("want pointer %s: %s", tt.pointer, a.body)
			}
			if bytes.Contains(a.body, []byte(hidden)) || bytes.Contains(a.body, []byte("777e1")) {
				t.Errorf("the answer repeats a value: %s", a.body)
			}
			if a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("content type %s", a.header.Get("Content-Type"))
			}
		})
	}
	if w.log.Len() > 0 {
		t.Errorf("refused requests were logged as faults:\n%s", w.log.String())
	}
}

func TestProblemsInFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.golden("problem_catalog", w.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/catalog/plan?file=dir/tally.yaml", "tallystick: 1\nmetres: []\n", "Content-Type", yamlType))
	w.golden("problem_invalid", w.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/customers", `{"zone":3,"a/b~c":1}`))
	w.golden("problem_token", w.want(http.StatusUnauthorized, http.MethodGet, "/v1/customers", "", "Authorization", ""))
	w.golden("problem_method", w.want(http.StatusMethodNotAllowed, http.MethodPost, "/v1/books", "{}"))
	w.apply()
	w.subscribe("acme", "free")
	w.golden("problem_meter", w.want(http.StatusNotFound, http.MethodGet, "/v1/usage?customer=acme&meter=x", ""))
	w.golden("problem_state", w.want(http.StatusConflict, http.MethodPost, "/v1/subscriptions", `{"customer":"acme","plan":"pro"}`))
}

func TestLiveClockStands(t *testing.T) {
	t.Parallel()
	w := openWorld(t, account.Live)
	a := w.want(http.StatusConflict, http.MethodPost, "/v1/clock/advance", `{"by":"24h"}`)
	if a.text(t, "code") != "clock_not_test" {
		t.Errorf("%s", a.body)
	}
	if c := w.get("/v1/clock"); c.field(t, "test") != false || c.field(t, "period_end") != nil {
		t.Errorf("%s", c.body)
	}
	w = newWorld(t)
	a = w.want(http.StatusConflict, http.MethodPost, "/v1/clock/advance", `{"to":"period-end"}`)
	if a.text(t, "code") != "wrong_state" {
		t.Errorf("%s", a.body)
	}
}

// TestFaultsOfOurs: the client learns the request id, the log the rest.
func TestFaultsOfOurs(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]func(string, time.Duration) (string, time.Time, error){
		"error": func(string, time.Duration) (string, time.Time, error) { return "", time.Time{}, errors.New(hidden) },
		"panic": func(string, time.Duration) (string, time.Time, error) { panic(hidden) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.link = link
			w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
			a := w.want(http.StatusInternalServerError, http.MethodPost, "/v1/customers/acme/portal-link", `{}`)
			id := a.text(t, "request_id")
			if a.text(t, "code") != "internal" || bytes.Contains(a.body, []byte(hidden)) || id != a.header.Get("Request-Id") {
				t.Errorf("%s", a.body)
			}
			if log := w.log.String(); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, id) || !strings.Contains(log, hidden) {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// slow is a body that does not come.
type slow struct{}

func (slow) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestSlowBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/customers", slow{})
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	if rec.Code != http.StatusRequestTimeout || !strings.Contains(rec.Body.String(), "body_timeout") {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
}
