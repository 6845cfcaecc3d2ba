package node_test

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
)

// TestAllowancesArrive: overrides and the flag of abnormal usage are at the gateway within a second, and the end of an override has
// limits looked at again.
func TestAllowancesArrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	w.customer("early")
	_, secret := w.key("early")
	if _, err := w.govern.CreateSubscription(t.Context(), "operator", govern.NewSubscription{Customer: "early", Plan: "free"}); err != nil {
		t.Fatal(err)
	}
	g := w.gateway(w.token("east"))
	c, _ := w.govern.Customer("early")
	eventually(t, "the customer", func() bool { p, fault := g.mirror.Principal(secret, w.now()); return fault == "" && p.HasSubscription })
	var id string
	g.follows("an override is raised", func() {
		o, err := w.govern.CreateOverride(t.Context(), "operator", govern.NewOverride{
			Customer: "early", Limit: "daily", Value: "20", Reason: "test", ExpiresAt: w.now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		id = o.ID
	}, func() bool { return len(g.mirror.Overrides(c.ID)) == 1 })
	now, later := w.now(), w.now().Add(2*time.Hour)
	before, _ := g.mirror.Principal(secret, now)
	after, _ := g.mirror.Principal(secret, later)
	if o := g.mirror.Overrides(c.ID)[0]; !o.Active(now) || o.Active(later) || before.Revision == after.Revision {
		t.Errorf("%+v; revision %d before its end, %d after it", o, before.Revision, after.Revision)
	}
	g.follows("it is ended", func() {
		if _, err := w.govern.EndOverride(t.Context(), "operator", id); err != nil {
			t.Fatal(err)
		}
	}, func() bool { return len(g.mirror.Overrides(c.ID)) == 0 })
	for _, flag := range []bool{true, false} {
		g.follows("usage is found abnormal, or not any more", func() { w.govern.SetAbnormal(c.ID, flag) }, func() bool {
			p, fault := g.mirror.Principal(secret, w.now())
			return fault == "" && p.Abnormal == flag
		})
	}
	was, _ := g.mirror.Principal(secret, w.now())
	g.follows("a grant is made", func() {
		w.govern.PutGrant(account.Grant{ID: "grt_1", CustomerID: c.ID, Meter: "api_calls", Amount: money.FromInt(5), EffectiveAt: now, ExpiresAt: later})
	}, func() bool {
		p, fault := g.mirror.Principal(secret, w.now())
		return fault == "" && p.Revision != was.Revision // what was decided without it is looked at again
	})
}
