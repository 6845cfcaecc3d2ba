package govern_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
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

func TestGrantsExpireWithWhatIsLeft(t *testing.T) {
	t.Parallel()
	w, _, secret := subscribed(t)
	grant := func(amount string, expires time.Duration) account.Grant {
		t.Helper()
		n := govern.NewGrant{Customer: "acme", Meter: "api_calls", Amount: amount, Reason: "prepaid"}
		if expires > 0 {
			n.ExpiresAt = w.now.Add(expires)
		}
		g, err := w.CreateGrant(t.Context(), "op", n)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := grant("100", 2*time.Hour)
	grant("50", time.Hour)
	grant("10", 0)
	granted := func() string {
		units, since := w.Granted(first.CustomerID, "api_calls", w.now)
		if !since.Equal(first.EffectiveAt) {
			t.Errorf("since %v", since)
		}
		return units.String()
	}
	used := func(n string) govern.Used {
		return func(context.Context, string, string, time.Time, time.Time) (money.Decimal, error) {
			return money.MustDecimal(n), nil
		}
	}
	expire := func(n string) {
		t.Helper()
		for {
			more, err := w.ExpireGrants(t.Context(), used(n))
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				return
			}
		}
	}
	if expire("0"); granted() != "160" {
		t.Errorf("%s granted", granted())
	}
	p, _ := w.Principal(secret, w.now)
	w.now = w.now.Add(time.Hour)
	if expire("20"); granted() != "130" { // 20 of the 50 were used
		t.Errorf("%s after the first expiry", granted())
	}
	if q, _ := w.Principal(secret, w.now); q.Revision == p.Revision {
		t.Error("the revision stays when credits expire")
	}
	w.now = w.now.Add(time.Hour)
	if expire("110"); granted() != "120" { // 20 burned the one that expired first, 90 this one
		t.Errorf("%s after the second expiry", granted())
	}
	w.Service = w.open()
	if expire("110"); granted() != "120" {
		t.Errorf("%s after a restart", granted())
	}
}
