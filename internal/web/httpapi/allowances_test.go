package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// post sends a body and wants a status.
func (w *world) post(status int, path, body string) answer {
	w.t.Helper()
	return w.want(status, http.MethodPost, path, body)
}

func TestReservations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("acme", "pro")
	used := func() string {
		t.Helper()
		return w.get("/v1/usage?customer=acme&meter=tokens").text(t, "value")
	}
	r := w.post(http.StatusCreated, "/v1/reservations", `{"customer":"acme","meter":"tokens","cost":"10.5","ttl_s":300}`)
	id := r.text(t, "id")
	if !strings.HasPrefix(id, "res_") || r.text(t, "state") != "open" || r.text(t, "reserved") != "10.5" || r.text(t, "decision_id") == "" || used() != "0" {
		t.Fatalf("%s, %s used", r.body, used())
	}
	if e := w.post(http.StatusOK, "/v1/reservations/"+id+"/extend", `{"ttl_s":600,"cost":"2"}`); e.text(t, "reserved") != "12.5" {
		t.Errorf("extended: %s", e.body)
	}
	for range 2 { // the same again gives the same answer
		if s := w.post(http.StatusOK, "/v1/reservations/"+id+"/settle", `{"cost":"8.25"}`); s.text(t, "state") != "settled" || s.text(t, "charged") != "8.25" {
			t.Errorf("settled: %s", s.body)
		}
	}
	if used() != "8.25" {
		t.Errorf("%s used", used())
	}
	if p := w.post(http.StatusConflict, "/v1/reservations/"+id+"/release", ""); p.text(t, "code") != "reservation_ended" {
		t.Errorf("released after it was settled: %s", p.body)
	}
	if g := w.get("/v1/reservations/" + id); g.text(t, "state") != "settled" {
		t.Errorf("read: %s", g.body)
	}
	if p := w.want(http.StatusNotFound, http.MethodGet, "/v1/reservations/res_x", ""); p.text(t, "code") != "reservation_unknown" {
		t.Errorf("unknown: %s", p.body)
	}
	back := w.post(http.StatusCreated, "/v1/reservations", `{"customer":"acme","meter":"tokens","cost":"5"}`).text(t, "id")
	if s := w.post(http.StatusOK, "/v1/reservations/"+back+"/release", ""); s.text(t, "state") != "released" || used() != "8.25" {
		t.Errorf("released: %s, %s used", s.body, used())
	}
	open := w.post(http.StatusCreated, "/v1/reservations", `{"customer":"acme","meter":"tokens"}`).text(t, "id")
	for pointer, body := range map[string]string{
		"/customer": `{"meter":"tokens"}`, "/meter": `{"customer":"acme","meter":"token"}`,
		"/route": `{"customer":"acme","route":"GET /none"}`, "/key_id": `{"key_id":"key_x","meter":"tokens"}`,
	} {
		if p := w.post(http.StatusUnprocessableEntity, "/v1/reservations", body); p.text(t, "errors.0.pointer") != pointer {
			t.Errorf("%s: %s", pointer, p.body)
		}
	}
	for path, body := range map[string]string{
		"/v1/reservations": `{"customer":"acme","meter":"tokens","cost":"-1"}`, "/v1/reservations/" + id + "/settle": `{"cost":"-1"}`,
		"/v1/reservations/" + open + "/extend": `{"cost":"0.0000001"}`,
	} {
		if p := w.post(http.StatusUnprocessableEntity, path, body); p.text(t, "code") != "cost_invalid" || p.field(t, "retryable") != false {
			t.Errorf("%s: %s", path, p.body)
		}
	}
}

func TestAReservationIsDeniedAsARequestIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("bolt", "free")
	p := w.post(http.StatusTooManyRequests, "/v1/reservations", `{"customer":"bolt","meter":"api_calls","cost":"100"}`)
	if p.text(t, "code") != "quota_exceeded" || p.text(t, "decision_id") == "" || p.field(t, "violated-policies") == nil {
		t.Errorf("%s", p.body)
	}
}

func TestOverridesAndGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("bolt", "free")
	o := w.post(http.StatusCreated, "/v1/overrides", `{"customer":"bolt","limit":"daily","value":"500","reason":"launch"}`)
	id := o.text(t, "id")
	if o.text(t, "status") != "active" || o.text(t, "author") != "operator" || w.get("/v1/overrides?customer=bolt").text(t, "items.0.id") != id {
		t.Errorf("%s", o.body)
	}
	if e := w.post(http.StatusOK, "/v1/overrides/"+id+"/end", ""); e.text(t, "status") != "ended" {
		t.Errorf("%s", e.body)
	}
	if p := w.post(http.StatusUnprocessableEntity, "/v1/overrides", `{"customer":"bolt","limit":"dayly","value":"500","reason":"launch"}`); p.text(t, "errors.0.pointer") != "/limit" {
		t.Errorf("%s", p.body)
	}
	g := w.post(http.StatusCreated, "/v1/grants", `{"customer":"bolt","meter":"tokens","amount":"1000.5","reason":"prepaid"}`)
	if g.text(t, "amount") != "1000.5" || w.get("/v1/grants?customer=bolt").text(t, "items.0.id") != g.text(t, "id") {
		t.Errorf("%s", g.body)
	}
	wallet := w.post(http.StatusCreated, "/v1/grants", `{"customer":"bolt","amount":"20","kind":"prepaid","paid":"18","every":"month","max_rollover":"5","reason":"order"}`)
	if wallet.text(t, "currency") != "USD" || wallet.text(t, "every") != "month" || wallet.text(t, "status") != "active" || wallet.text(t, "max_rollover") != "5" {
		t.Errorf("%s", wallet.body)
	}
	for range 2 {
		if v := w.post(http.StatusOK, "/v1/grants/"+wallet.text(t, "id")+"/void", `{"reason":"refunded"}`); v.text(t, "status") != "voided" || v.text(t, "voided_at") == "" {
			t.Errorf("%s", v.body)
		}
	}
	left := w.get("/v1/customers/bolt/credits")
	if left.text(t, "credits.0.left") != "0" || left.text(t, "credits.0.grants.0.status") != "voided" || left.text(t, "credits.1.left") != "1000.5" || left.text(t, "credits.1.meter") != "tokens" {
		t.Errorf("%s", left.body)
	}
	rule := w.post(http.StatusOK, "/v1/customers/bolt/top-ups", `{"meter":"tokens","below":"10","amount":"100","most":3}`)
	if rule.text(t, "every") != "month" || w.get("/v1/customers/bolt/top-ups").text(t, "items.0.amount") != "100" {
		t.Errorf("%s", rule.body)
	}
	w.want(http.StatusOK, http.MethodDelete, "/v1/customers/bolt/top-ups?meter=tokens", "")
	w.want(http.StatusNotFound, http.MethodDelete, "/v1/customers/bolt/top-ups?meter=tokens", "")
	if p := w.post(http.StatusUnprocessableEntity, "/v1/customers/bolt/coupons", `{"coupon":"none","reason":"x"}`); p.text(t, "errors.0.pointer") != "/coupon" {
		t.Errorf("%s", p.body)
	}
	if c := w.get("/v1/customers/bolt/coupons"); c.field(t, "next") != nil {
		t.Errorf("%s", c.body)
	}
	w.want(http.StatusNotFound, http.MethodPost, "/v1/redemptions/rdm_x/end", "")
	if p := w.post(http.StatusUnprocessableEntity, "/v1/grants", `{"customer":"bolt","meter":"tokens","amount":"-1","reason":"x"}`); p.text(t, "errors.0.pointer") != "/amount" {
		t.Errorf("%s", p.body)
	}
}

func TestWebhooksAndNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.post(http.StatusCreated, "/v1/webhooks", `{"url":"https://a.example/x","kinds":["limit.threshold"]}`)
	if !strings.HasPrefix(h.text(t, "secret"), "whsec_") || w.get("/v1/webhooks").text(t, "items.0.id") != h.text(t, "id") {
		t.Errorf("%s", h.body)
	}
	if d := w.post(http.StatusOK, "/v1/webhooks/"+h.text(t, "id")+"/disable", ""); d.text(t, "status") != "disabled" {
		t.Errorf("%s", d.body)
	}
	if p := w.post(http.StatusUnprocessableEntity, "/v1/webhooks", `{"url":"x"}`); p.text(t, "errors.0.pointer") != "/url" {
		t.Errorf("%s", p.body)
	}
	if n := w.get("/v1/notices"); n.field(t, "next") != nil {
		t.Errorf("%s", n.body)
	}
	w.want(http.StatusNotFound, http.MethodGet, "/v1/notices/ntc_x", "")
}
