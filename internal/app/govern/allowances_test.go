package govern_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// subscribed is a world with customer acme on plan free and a key.
func subscribed(t *testing.T) (*world, account.APIKey, string) {
	t.Helper()
	w := newWorld(t)
	w.apply(plans)
	w.customer("acme")
	w.subscribe("acme", "free")
	k, secret := w.key(govern.NewKey{Customer: "acme", Name: "ci", Project: "app"})
	return w, k, secret
}

func TestOverridesTakeEffectAtOnceAndEnd(t *testing.T) {
	t.Parallel()
	w, _, secret := subscribed(t)
	revision := func(s *govern.Service) uint64 {
		p, fault := s.Principal(secret, w.now)
		if fault != "" || p.Key.Project != "app" {
			t.Fatalf("%+v %q", p, fault)
		}
		return p.Revision
	}
	before := revision(w.Service)
	o, err := w.CreateOverride(t.Context(), "op", govern.NewOverride{
		Customer: "acme", Limit: "daily", Value: "500", Reason: "launch day", ExpiresAt: w.now.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	raised := revision(w.Service)
	if raised == before {
		t.Error("the revision stays after an override")
	}
	for _, s := range []*govern.Service{w.Service, w.open()} {
		got := s.Overrides(o.CustomerID)
		if len(got) != 1 || got[0].ID != o.ID || got[0].Value != "500" || got[0].Author != "op" || !got[0].Active(w.now) {
			t.Errorf("overrides %+v", got)
		}
	}
	w.now = o.ExpiresAt
	if revision(w.Service) == raised || w.Overrides(o.CustomerID)[0].Active(w.now) {
		t.Error("nothing changes when an override expires")
	}
	ended, err := w.EndOverride(t.Context(), "op", o.ID)
	if err != nil || !ended.EndedAt.Equal(w.now) || len(w.Overrides(o.CustomerID)) != 0 {
		t.Errorf("ended %+v, %v; left %+v", ended, err, w.Overrides(o.CustomerID))
	}
	w.now = w.now.Add(time.Minute)
	if again, err := w.EndOverride(t.Context(), "op", o.ID); err != nil || !again.EndedAt.Equal(ended.EndedAt) {
		t.Errorf("ended again: %+v, %v", again, err)
	}
	if _, err := w.EndOverride(t.Context(), "op", "ovr_x"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("end none: %v", err)
	}
}

func TestOverridesAreChecked(t *testing.T) {
	t.Parallel()
	w, k, _ := subscribed(t)
	w.customer("idle")
	good := govern.NewOverride{Customer: "acme", Limit: "daily", Value: "500", Reason: "why not"}
	for name, c := range map[string]struct {
		change  func(*govern.NewOverride)
		pointer string
	}{
		"customer":     {func(n *govern.NewOverride) { n.Customer = "acm" }, "/customer"},
		"no plan":      {func(n *govern.NewOverride) { n.Customer = "idle" }, "/customer"},
		"limit":        {func(n *govern.NewOverride) { n.Limit = "dayly" }, "/limit"},
		"value":        {func(n *govern.NewOverride) { n.Value = "-1" }, "/value"},
		"not a number": {func(n *govern.NewOverride) { n.Value = "lots" }, "/value"},
		"decimals":     {func(n *govern.NewOverride) { n.Value = "0.5" }, "/value"},
		"burst":        {func(n *govern.NewOverride) { n.Burst = "9" }, "/value"},
		"key":          {func(n *govern.NewOverride) { n.KeyID = "key_x" }, "/key_id"},
		"not per key":  {func(n *govern.NewOverride) { n.KeyID = k.ID }, "/key_id"},
		"reason":       {func(n *govern.NewOverride) { n.Reason = " " }, "/reason"},
		"long reason":  {func(n *govern.NewOverride) { n.Reason = strings.Repeat("x", 501) }, "/reason"},
		"expiry":       {func(n *govern.NewOverride) { n.ExpiresAt = w.now }, "/expires_at"},
	} {
		n := good
		c.change(&n)
		_, err := w.CreateOverride(t.Context(), "op", n)
		if broken, ok := errors.AsType[*govern.Invalid](err); !ok || broken.Pointer != c.pointer || broken.Fix == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGrantsTurnTheRevision: limits are looked at again whenever what the credits come to may have changed.
func TestGrantsTurnTheRevision(t *testing.T) {
	t.Parallel()
	w, _, secret := subscribed(t)
	acme, _ := w.Customer("acme")
	seen := map[uint64]string{}
	fresh := func(what string) {
		t.Helper()
		p, _ := w.Principal(secret, w.now)
		if before, old := seen[p.Revision]; old {
			t.Errorf("%s: the revision of %s stays", what, before)
		}
		seen[p.Revision] = what
	}
	fresh("nothing")
	g := account.Grant{
		ID: "grt_1", CustomerID: acme.ID, Meter: "api_calls", Amount: money.FromInt(5), EffectiveAt: w.now.Add(time.Second), ExpiresAt: w.now.Add(3 * time.Second),
	}
	w.PutGrant(g)
	fresh("a grant to come")
	w.now = w.now.Add(time.Second)
	fresh("its beginning")
	w.now = w.now.Add(2 * time.Second)
	fresh("its end")
	w.now = period.BucketStart(w.now).Add(period.BucketLength)
	fresh("a quarter of an hour")
	g.VoidedAt = w.now
	w.PutGrant(g)
	fresh("a void")
	if list := w.Grants(acme.ID); len(list) != 1 || !list[0].VoidedAt.Equal(w.now) {
		t.Errorf("grants %+v", list)
	}
	r := account.Redemption{ID: "rdm_1", CustomerID: acme.ID, Coupon: "spring"}
	w.PutRedemption(r)
	if list := w.Redemptions(acme.ID); len(list) != 1 || list[0].Coupon != "spring" {
		t.Errorf("redemptions %+v", list)
	}
}
