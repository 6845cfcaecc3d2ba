package enforce

import (
	"context"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// TestEntitlementsAndCosts: a route may need an entitlement of the plan; a request may bring its own cost; requests at once are
// limited on unmetered routes too, and their places come back.
func TestEntitlementsAndCosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "10", period.Day), catalog.Limit{Key: "at_once", Concurrency: 1})
	c := *w.Current().Catalog
	c.Plans[0].Entitlements = []catalog.Entitlement{{Key: "export", Value: "true"}, {Key: "beta", Value: "false"}}
	c.Routes = append(c.Routes,
		catalog.Route{Match: "GET /export", Upstream: "http://127.0.0.1:1", Requires: "export"},
		catalog.Route{Match: "GET /beta", Upstream: "http://127.0.0.1:1", Requires: "beta"},
		catalog.Route{Match: "GET /gold", Upstream: "http://127.0.0.1:1", Requires: "gold"},
	)
	compiled, err := catalog.Compile(2, &c)
	if err != nil {
		t.Fatal(err)
	}
	w.apply(compiled)
	admit := func(route int, cost string) *Admission {
		r := Request{Secret: "good", Route: &w.Current().Routes[route], Method: "GET"}
		if cost != "" {
			r.Cost = new(dec(cost))
		}
		return w.e.Admit(context.Background(), r)
	}
	for route := 2; route <= 3; route++ {
		if a := admit(route, ""); a.Outcome != receipt.DeniedEntitlement || a.Code != "entitlement_missing" || a.RetryAfter != 0 {
			t.Errorf("route %d: %v %s", route, a.Outcome, a.Code)
		}
	}
	a := admit(1, "")
	if !a.Allowed() {
		t.Fatalf("unmetered: %s %s", a.Code, a.Detail)
	}
	if d := admit(0, ""); d.Outcome != receipt.DeniedConcurrency || d.RetryAfter != time.Second {
		t.Errorf("beside an unmetered one: %v, retry after %s", d.Outcome, d.RetryAfter)
	}
	for range 2 { // the second end does nothing
		if err := a.Settle(Actual{Status: 200}); err != nil {
			t.Fatal(err)
		}
	}
	for _, cost := range []string{"-1", "0.5"} {
		if d := admit(0, cost); d.Code != CostInvalid || d.RetryAfter != 0 {
			t.Errorf("cost %s: %v %s", cost, d.Outcome, d.Code)
		}
	}
	a = admit(0, "9")
	if !a.Allowed() {
		t.Fatalf("cost 9 of 10: %s", a.Code)
	}
	if err := a.Settle(Actual{Status: 200}); err != nil {
		t.Fatal(err)
	}
	if d := admit(0, "2"); d.Outcome != receipt.DeniedQuota {
		t.Errorf("cost 2 of 1: %v", d.Outcome)
	}
	if n := w.e.inflight.Total(); n != 0 {
		t.Errorf("%d requests are still counted as running", n)
	}
	w.wantBooked("9")
	lines, err := w.e.Limits(context.Background(), custID)
	if err != nil || len(lines) != 4 || lines[0].Consumed.String() != "9" || lines[2].Entitlement != "true" {
		t.Errorf("%+v, %v", lines, err)
	}
}
