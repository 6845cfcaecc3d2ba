package govern_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

const dearer = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count}
  - {key: tokens, event: completion, aggregation: sum, value: data.tokens, scale: 2}
  - {key: spare, event: spare, aggregation: count}
plans:
  - key: free
    currency: USD
    limits:
      - {key: daily, meter: api_calls, quota: "100", window: day, enforcement: hard}
  - key: pro
    currency: USD
    prices:
      - {key: platform, model: flat, amount: "25.00", every: month, charge: in_advance}
      - {key: tokens, meter: tokens, model: graduated, every: month, tiers: [{unit_amount: "0.0004"}]}
  - key: euro
    currency: EUR
`

func (w *world) change(id string, n govern.NewChange) govern.Timeline {
	w.t.Helper()
	t, err := w.ChangeSubscription(w.t.Context(), "op", id, n, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// TestChangeIsInForceAtItsInstant: by the clock alone, here, in a mirror, and after a restart.
func TestChangeIsInForceAtItsInstant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	c := w.customer("acme")
	sub := w.subscribe("acme", "free")
	_, secret := w.key(govern.NewKey{Customer: "acme", Name: "ci"})
	w.cuts = nil
	later := start.Add(36*time.Hour + time.Microsecond)
	w.change(sub.ID, govern.NewChange{Kind: subscription.ToPlan, Plan: "pro", At: period.Format(later), Reason: "grew"})
	if want := c.ID + " " + period.Format(later); len(w.cuts) != 1 || w.cuts[0] != want {
		t.Errorf("cuts %q, want %q", w.cuts, want)
	}
	mirror := mirrorOf(t, w)
	for name, d := range map[string]interface {
		Principal(secret string, now time.Time) (account.Principal, govern.KeyFault)
		ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool)
	}{"service": w.Service, "after a restart": w.open(), "mirror": mirror} {
		before, _ := d.Principal(secret, later.Add(-time.Microsecond))
		after, _ := d.Principal(secret, later)
		if before.Subscription.Plan != "free" || after.Subscription.Plan != "pro" || before.Revision == after.Revision {
			t.Errorf("%s: plan %q at revision %d, then %q at %d", name, before.Subscription.Plan, before.Revision, after.Subscription.Plan, after.Revision)
		}
		if s, ok := d.ActiveSubscription(c.ID, later); !ok || s.Plan != "pro" || s.ID != sub.ID {
			t.Errorf("%s: active %+v, %v", name, s, ok)
		}
	}
	if got, err := w.Subscription(t.Context(), sub.ID); err != nil || got.Plan != "free" {
		t.Errorf("now on %q, %v", got.Plan, err)
	}
	w.now = later
	if got, err := w.Subscription(t.Context(), sub.ID); err != nil || got.Plan != "pro" {
		t.Errorf("then on %q, %v", got.Plan, err)
	}
	if list := w.SubscriptionsOf(c.ID); len(list) != 1 || list[0].Plan != "pro" {
		t.Errorf("of the customer: %+v", list)
	}
}

func mirrorOf(t *testing.T, w *world) *govern.Mirror {
	t.Helper()
	m, err := govern.NewMirror(govern.MirrorConfig{
		Pepper: []byte(strings.Repeat("p", 32)), Mode: w.mode,
		Fetch: func(ctx context.Context, v int64) (govern.CatalogVersion, error) { return w.Catalog(ctx, v) },
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Reset()
	f := govern.Facts{Keys: w.KeysNow()}
	for _, c := range w.Customers() {
		p, _ := w.PictureOf(c.ID, w.now)
		f.Pictures = append(f.Pictures, p)
	}
	if err := m.Put(f); err != nil {
		t.Fatal(err)
	}
	m.Done()
	return m
}

func TestPausedAdmitsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	w.customer("acme")
	sub := w.subscribe("acme", "free")
	_, secret := w.key(govern.NewKey{Customer: "acme", Name: "ci"})
	running, _ := w.Principal(secret, w.now)
	w.change(sub.ID, govern.NewChange{Kind: subscription.Pause})
	paused, _ := w.Principal(secret, w.now)
	if !running.HasSubscription || paused.HasSubscription || !paused.Subscription.Paused || running.Revision == paused.Revision {
		t.Errorf("running %+v, paused %+v", running, paused)
	}
	w.now = w.now.Add(time.Hour)
	w.change(sub.ID, govern.NewChange{Kind: subscription.Resume})
	if p, _ := w.Principal(secret, w.now); !p.HasSubscription {
		t.Error("it does not go on")
	}
	_, err := w.ChangeSubscription(t.Context(), "op", sub.ID, govern.NewChange{Kind: subscription.Resume}, false)
	w.wantInvalid(err, "/kind", "")
}

func TestCancelReviveAndTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	w.customer("acme")
	sub := w.subscribe("acme", "free")
	end := time.Date(2026, 4, 10, 0, 0, 0, 0, time.UTC)
	if got := w.change(sub.ID, govern.NewChange{Kind: subscription.Cancel, At: govern.PeriodEnd}); !got.End.Equal(end) {
		t.Errorf("ends %v, want %v", got.End, end)
	}
	if got := w.change(sub.ID, govern.NewChange{Kind: subscription.Revive}); !got.End.IsZero() {
		t.Errorf("revived, it ends %v", got.End)
	}
	w.change(sub.ID, govern.NewChange{Kind: subscription.Cancel, At: "2026-03-20T00:00:00Z"})
	if _, err := w.CreateSubscription(t.Context(), "op", govern.NewSubscription{Customer: "acme", Plan: "pro", Start: end}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ChangeSubscription(t.Context(), "op", sub.ID, govern.NewChange{Kind: subscription.Revive}, false); !errors.Is(err, account.ErrState) {
		t.Errorf("revived into the next one: %v", err)
	}
	if got, err := w.Subscription(t.Context(), sub.ID); err != nil || got.End.IsZero() {
		t.Errorf("after the refusal: %+v, %v", got, err)
	}
	w.now = end
	_, err := w.ChangeSubscription(t.Context(), "op", sub.ID, govern.NewChange{Kind: subscription.Pause}, false)
	w.wantInvalid(err, "/at", "")
}

func TestDryRunStoresNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	w.customer("acme")
	sub := w.subscribe("acme", "free")
	w.cuts = nil
	got, err := w.ChangeSubscription(t.Context(), "op", sub.ID, govern.NewChange{Kind: subscription.ToPlan, Plan: "pro"}, true)
	if err != nil || len(got.Segments) != 1 || got.Plan != "pro" || len(got.History.Changes) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if is, err := w.Timeline(t.Context(), sub.ID); err != nil || is.Plan != "free" || len(is.History.Changes) != 0 || len(w.cuts) != 0 {
		t.Errorf("stored %+v, %v; cuts %q", is, err, w.cuts)
	}
}

func TestCreateWithPhasesAndMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	w.apply(dearer)
	w.customer("acme")
	sub, err := w.CreateSubscription(t.Context(), "op", govern.NewSubscription{
		Customer: "acme", Version: 1, Start: start.AddDate(0, -1, 0), TrialDays: new(7), Quantities: map[string]money.Decimal{},
		Phases: []govern.Phase{{Plan: "pro", For: period.MustEvery("3 months")}, {Plan: "free", For: period.MustEvery("month")}},
	})
	if err != nil || sub.CatalogVersion != 1 || sub.Plan != "pro" || period.Format(sub.End) != "2026-06-17T00:00:00Z" {
		t.Fatalf("%+v, %v", sub, err)
	}
	line, err := w.open().Timeline(t.Context(), sub.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range line.Segments {
		word := g.Plan
		if g.Trial {
			word += " trial"
		}
		got = append(got, word+" until "+period.Format(g.End))
	}
	want := "pro trial until 2026-02-17T00:00:00Z, pro until 2026-05-17T00:00:00Z, free until 2026-06-17T00:00:00Z"
	if strings.Join(got, ", ") != want {
		t.Errorf("segments %q, want %q", got, want)
	}
	w.customer("other")
	for pointer, n := range map[string]govern.NewSubscription{
		"/phases":            {Plan: "pro", Phases: []govern.Phase{{Plan: "pro"}}},
		"/phases/1":          {Phases: []govern.Phase{{Plan: "pro", For: period.MustEvery("month")}, {Plan: "euro"}}},
		"/phases/0/for":      {Phases: []govern.Phase{{Plan: "pro"}, {Plan: "free"}}},
		"/quantities/tokens": {Plan: "pro", Quantities: map[string]money.Decimal{"tokens": money.FromInt(2)}},
		"/add_ons/none":      {Plan: "pro", AddOns: map[string]money.Decimal{"none": money.FromInt(2)}},
		"/trial_days":        {Plan: "pro", TrialDays: new(-1)},
		"/version":           {Plan: "pro", Version: 3},
		"/trial_end":         {Plan: "pro", TrialEnd: start.Add(-time.Hour)},
		"/plan":              {Plan: "prp"},
		"/start":             {Plan: "pro", Start: start.AddDate(-2, 0, 0)},
	} {
		n.Customer = "other"
		_, err := w.CreateSubscription(t.Context(), "op", n)
		w.wantInvalid(err, pointer, "")
	}
}

func TestOwnPrice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	w.customer("acme")
	sub := w.subscribe("acme", "pro")
	set := func(text string) (govern.Timeline, error) {
		return w.ChangeSubscription(t.Context(), "op", sub.ID, govern.NewChange{Kind: subscription.SetPrice, Key: "tokens", Price: json.RawMessage(text)}, false)
	}
	got, err := set(`{"meter": "tokens", "model": "graduated", "every": "month", "tiers": [{"unit_amount": "0.0001"}]}`)
	if err != nil || len(got.Segments) != 1 || len(got.Segments[0].Prices) != 1 || got.Segments[0].Prices[0].Tiers[0].UnitAmount.String() != "0.0001" {
		t.Fatalf("%+v, %v", got.Segments, err)
	}
	_, err = set(`{"meter": "tokens", "model": "graduated", "every": "month", "tiers": [{"unit_amount": "-1"}]}`)
	if refused, ok := errors.AsType[*govern.Invalid](err); !ok || !strings.HasPrefix(refused.Pointer, "/price/tiers") {
		t.Errorf("a negative amount: %v", err)
	}
	_, err = set(`{"model": "flat", "every": "month", "amount": "1"}`)
	w.wantInvalid(err, "/price/meter", "")
	_, err = set(`7`)
	w.wantInvalid(err, "/price", "")
	if got, err = set(``); err != nil || len(got.Segments[0].Prices) != 0 {
		t.Errorf("taken back: %+v, %v", got.Segments, err)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	for _, key := range []string{"acme", "beta", "gone"} {
		w.customer(key)
	}
	acme, gone := w.subscribe("acme", "pro"), w.subscribe("gone", "pro")
	w.subscribe("beta", "free")
	w.change(gone.ID, govern.NewChange{Kind: subscription.Cancel})
	w.apply(dearer)
	var seen []string
	m := govern.Migration{Plan: "pro", At: govern.PeriodEnd, Reason: "new prices", Each: func(_ context.Context, c account.Customer, before, after subscription.History) error {
		seen = append(seen, c.Key)
		if len(after.Changes) != len(before.Changes)+1 {
			t.Errorf("%s: %d changes, then %d", c.Key, len(before.Changes), len(after.Changes))
		}
		return nil
	}}
	dry, err := w.Migrate(t.Context(), "op", m, true)
	if err != nil || len(dry) != 1 || dry[0].Subscription.ID != acme.ID || dry[0].ToVersion != 2 {
		t.Fatalf("dry: %+v, %v", dry, err)
	}
	if h, _ := w.History(acme.ID); len(h.Changes) != 0 {
		t.Errorf("a dry run left %d changes", len(h.Changes))
	}
	if done, err := w.Migrate(t.Context(), "op", m, false); err != nil || len(done) != 1 || len(seen) != 2 {
		t.Fatalf("%+v, %v; seen %q", done, err, seen)
	}
	if again, err := w.Migrate(t.Context(), "op", m, false); err != nil || len(again) != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	if s, _ := w.ActiveSubscription(acme.CustomerID, w.now); s.CatalogVersion != 1 {
		t.Errorf("moved at once: %+v", s)
	}
	if s, _ := w.ActiveSubscription(acme.CustomerID, dry[0].At); s.CatalogVersion != 2 {
		t.Errorf("not moved: %+v", s)
	}
	_, err = w.Migrate(t.Context(), "op", govern.Migration{Plan: "pro", ToVersion: 9}, true)
	w.wantInvalid(err, "/version", "")
}

func TestUpdateCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme")
	update := func(edit func(name *string, d *account.BillingDetails)) error {
		_, err := w.UpdateCustomer(t.Context(), "op", "acme", edit)
		return err
	}
	if err := update(func(name *string, d *account.BillingDetails) { *name, d.Country, d.DueDays = "Acme SAS", "FR", 30 }); err != nil {
		t.Fatal(err)
	}
	if c, _ := w.open().Customer("acme"); c.Name != "Acme SAS" || c.Billing.Country != "FR" || c.Billing.DueDays != 30 {
		t.Errorf("after a restart: %+v", c)
	}
	w.wantInvalid(update(func(_ *string, d *account.BillingDetails) { d.Country = "fra" }), "/billing/country", "")
	w.wantInvalid(update(func(_ *string, d *account.BillingDetails) { d.Email = "nobody" }), "/billing/email", "")
	w.wantInvalid(update(func(_ *string, d *account.BillingDetails) { d.DueDays = -1 }), "/billing/due_days", "")
	w.wantInvalid(update(func(_ *string, d *account.BillingDetails) { d.City = "a\nb" }), "/billing/city", "")
	if c, _ := w.Customer("acme"); c.Billing.Country != "FR" {
		t.Errorf("after refusals: %+v", c)
	}
	if _, err := w.UpdateCustomer(t.Context(), "op", "nobody", func(*string, *account.BillingDetails) {}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}
