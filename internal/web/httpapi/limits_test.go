package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

const everyKind = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count}
  - {key: tokens, event: request, aggregation: sum, value: data.tokens, scale: 2}
plans:
  - key: all
    currency: USD
    prices:
      - {key: tokens, meter: tokens, model: graduated, every: month, tiers: [{unit_amount: "0.5"}]}
    entitlements: {sso: true, tier: gold}
    limits:
      - {key: burst, meter: api_calls, token_bucket: {rate: "200/s", burst: 200}}
      - {key: monthly, meter: api_calls, quota: "1", window: month, enforcement: soft}
      - {key: spend, spend_cap: "500.00", window: billing_period}
      - {key: ten, meter: api_calls, quota: "50", fixed: 10m}
      - {key: last, meter: api_calls, quota: "2", rolling: 24h, enforcement: shadow}
      - {key: at_once, concurrency: 5}
      - {key: prepaid, meter: tokens, credits: true}
      - {key: user, meter: api_calls, quota: "9", window: day, per: [user], failure: local 10%}
gateway:
  end_user: {header: X-User}
  routes:
    - {match: "GET /hello", upstream: "http://127.0.0.1:9000", meter: api_calls, cost: "1"}
    - {match: "GET /ask", upstream: "http://127.0.0.1:9000", meter: tokens, cost: {response_json: usage.total, estimate: "10"}}
`

// TestEveryKindOfLimit: each kind stands in the list with its mode, scope, override and what is beyond it.
func TestEveryKindOfLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := w.want(http.StatusOK, http.MethodPost, "/v1/catalog/plan", everyKind, "Content-Type", "application/yaml")
	w.golden("catalog_bounds", plan)
	w.gateways = 3
	plan = w.want(http.StatusOK, http.MethodPost, "/v1/catalog/plan", everyKind, "Content-Type", "application/yaml")
	if !strings.Contains(string(plan.body), `"bound":"2.7 (`) || !strings.Contains(string(plan.body), `"gateways":3`) {
		t.Errorf("bounds for three gateways: %s", plan.body)
	}
	w.want(http.StatusCreated, http.MethodPost, "/v1/catalog/versions", everyKind, "Content-Type", "application/yaml")
	w.subscribe("acme", "all")
	w.post(http.StatusCreated, "/v1/grants", `{"customer":"acme","meter":"tokens","amount":"100","reason":"prepaid"}`)
	w.post(http.StatusCreated, "/v1/overrides", `{"customer":"acme","limit":"ten","value":"60","reason":"launch"}`)
	var last answer
	for range 3 {
		last = w.post(http.StatusCreated, "/v1/reservations", `{"customer":"acme","route":"GET /hello"}`)
	}
	w.golden("limits_kinds", w.get("/v1/customers/acme/limits"))
	w.golden("decision_explain_kinds", w.post(http.StatusOK, "/v1/decisions/explain", `{"decision_id":"`+last.text(t, "decision_id")+`"}`))
}

func TestRefunds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("acme", "pro")
	acme := w.get("/v1/customers/acme").text(t, "id")
	f := store.Refund{
		CustomerID: acme, Day: time.Date(2026, 10, 15, 0, 0, 0, 0, time.UTC), Route: "GET /hello", Meter: "api_calls", Reason: "failed", Count: 2,
		Cost: money.MustDecimal("2.5"),
	}
	refused, other := f, f
	refused.Refused, other.CustomerID = true, "cus_gone"
	for _, x := range []store.Refund{f, refused, other, f} {
		if err := w.refunds.AddRefunds(t.Context(), []store.Refund{x}); err != nil {
			t.Fatal(err)
		}
	}
	w.golden("refunds", w.get("/v1/refunds"))
	first := w.get("/v1/refunds?customer=acme&limit=1")
	second := w.get("/v1/refunds?customer=acme&limit=1&cursor=" + first.text(t, "next"))
	if first.field(t, "items.0.refused") != true || second.text(t, "items.0.cost") != "5" || second.field(t, "next") != nil {
		t.Errorf("pages: %s, %s", first.body, second.body)
	}
	if p := w.want(http.StatusBadRequest, http.MethodGet, "/v1/refunds?cursor=x", ""); p.text(t, "code") != "cursor_invalid" {
		t.Errorf("a bad cursor: %s", p.body)
	}
	w.want(http.StatusNotFound, http.MethodGet, "/v1/refunds?customer=nobody", "")
}
