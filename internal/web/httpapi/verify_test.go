package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestVerifyKey: a secret leads to its key, customer and plan, and to nothing once it is revoked. A repeated question is answered
// anew, and no other token than the operator's may ask.
func TestVerifyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
	key := w.want(http.StatusCreated, http.MethodPost, "/v1/keys", `{"customer":"acme","project":"web"}`)
	ask := `{"secret":"` + key.text(t, "secret") + `"}`
	verify := func(body string) answer {
		t.Helper()
		return w.want(http.StatusOK, http.MethodPost, "/v1/keys/verify", body)
	}

	a := verify(ask)
	if a.text(t, "status") != "active" || a.text(t, "code") != "" || a.text(t, "id") != key.text(t, "id") || a.text(t, "customer") != "acme" ||
		a.text(t, "project") != "web" || strings.Contains(string(a.body), `"plan"`) {
		t.Errorf("an active key: %s", a.body)
	}
	w.want(http.StatusCreated, http.MethodPost, "/v1/subscriptions", `{"customer":"acme","plan":"free"}`)
	if a := verify(ask); a.text(t, "plan") != "free" {
		t.Errorf("with a subscription: %s", a.body)
	}
	if a := verify(`{"secret":"tally_live_no"}`); a.text(t, "status") != "unknown" || a.text(t, "code") != "key_unknown" {
		t.Errorf("garbage: %s", a.body)
	}
	if a := verify(`{"secret":""}`); a.text(t, "code") != "key_missing" {
		t.Errorf("nothing: %s", a.body)
	}
	w.want(http.StatusOK, http.MethodPost, "/v1/keys/"+key.text(t, "id")+"/revoke", "")
	if a := verify(ask); a.text(t, "status") != "revoked" || a.text(t, "code") != "key_revoked" || strings.Contains(string(a.body), "key_0") {
		t.Errorf("a revoked key: %s", a.body)
	}
	w.want(http.StatusUnauthorized, http.MethodPost, "/v1/keys/verify", ask, "Authorization", "Bearer "+key.text(t, "secret"))
	if strings.Contains(w.log.String(), key.text(t, "secret")) {
		t.Error("the log holds a secret")
	}
}

// TestReservationDenialHeaders: a denied reservation carries the RateLimit fields, as a denied request at the gateway does.
func TestReservationDenialHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
	w.want(http.StatusCreated, http.MethodPost, "/v1/subscriptions", `{"customer":"acme","plan":"free"}`)
	a := w.want(http.StatusTooManyRequests, http.MethodPost, "/v1/reservations", `{"customer":"acme","meter":"api_calls","cost":"1000000"}`)
	if a.header.Get("RateLimit-Policy") == "" || a.header.Get("RateLimit") == "" {
		t.Errorf("no RateLimit fields: %v", a.header)
	}
}

// TestReservationRef: a call that is repeated because its answer was lost finds its reservation; a denial leaves nothing behind.
func TestReservationRef(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
	w.want(http.StatusCreated, http.MethodPost, "/v1/subscriptions", `{"customer":"acme","plan":"free"}`)
	ask := func(status int, cost, ref string) answer {
		t.Helper()
		return w.want(status, http.MethodPost, "/v1/reservations", `{"customer":"acme","meter":"api_calls","cost":"`+cost+`","ref":"`+ref+`"}`)
	}
	first := ask(http.StatusCreated, "2", "a") // of 3
	again := ask(http.StatusCreated, "2", "a")
	if first.text(t, "id") != again.text(t, "id") || first.text(t, "decision_id") != again.text(t, "decision_id") || again.text(t, "state") != "open" {
		t.Errorf("%s\n%s", first.body, again.body)
	}
	if a := ask(http.StatusUnprocessableEntity, "1", "a"); a.text(t, "errors.0.pointer") != "/ref" {
		t.Errorf("%s", a.body)
	}
	ask(http.StatusTooManyRequests, "2", "b")
	w.want(http.StatusOK, http.MethodPost, "/v1/reservations/"+first.text(t, "id")+"/release", `{}`)
	if a := ask(http.StatusCreated, "2", "b"); a.text(t, "state") != "open" {
		t.Errorf("%s", a.body)
	}
	if a := ask(http.StatusCreated, "2", "a"); a.text(t, "state") != "released" {
		t.Errorf("%s", a.body)
	}
}
