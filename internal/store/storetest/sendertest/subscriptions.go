package sendertest

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// Subscriptions checks a driver's promises about subscriptions over time, and about customers' billing details.
func Subscriptions(t *testing.T, open func(t *testing.T) store.Records) {
	t.Run("Changes", func(t *testing.T) { t.Parallel(); changes(t, open(t)) })
	t.Run("EndsFollowChanges", func(t *testing.T) { t.Parallel(); ends(t, open(t)) })
	t.Run("BillingDetails", func(t *testing.T) { t.Parallel(); details(t, open(t)) })
}

func subscribed(n, from int) account.Subscription {
	return account.Subscription{
		ID: id("sub", n), CustomerID: id("cus", 1), Plan: "pro", CatalogVersion: 1, Start: noon(from), BillingDay: 31, CreatedAt: noon(n),
	}
}

func changes(t *testing.T, r store.Records) {
	ctx := t.Context()
	ok(t, r.PutCustomer(ctx, customer(1), audit(1)))
	own := price.Price{
		Key: "calls", Name: "Größe", Meter: "calls", Filter: []meter.Dimension{{Name: "model", Value: "big"}}, Model: price.Graduated,
		Every: period.MustEvery("quarter"), Charge: price.InArrears, MinimumSpend: new(money.MustDecimal("0.000001")),
		Tiers:   []price.Tier{{UpTo: new(money.MustDecimal("10.5")), UnitAmount: money.MustDecimal("0.5")}, {FlatAmount: money.MustDecimal("3")}},
		Prorate: price.ProrateDays, WaiveAtZero: true,
	}
	list := []subscription.Change{
		{ID: id("sch", 1), SubscriptionID: id("sub", 1), At: noon(5), Kind: subscription.ToPlan, Plan: "max", Version: 2, Now: true, Reason: "grew", Actor: "operator", CreatedAt: noon(4)},
		{ID: id("sch", 2), SubscriptionID: id("sub", 1), At: noon(4), Kind: subscription.Quantity, Key: "seats", Quantity: money.MustDecimal("2.5"), CreatedAt: noon(4)},
		{ID: id("sch", 3), SubscriptionID: id("sub", 1), At: noon(6), Kind: subscription.SetPrice, Key: "calls", Price: &own, CreatedAt: noon(5)},
		{ID: id("sch", 4), SubscriptionID: id("sub", 1), At: noon(6), Kind: subscription.Trial, Until: noon(9), CreatedAt: noon(6)},
	}
	h := subscription.History{Subscription: subscribed(1, 3), Changes: list[:2]}
	ok(t, r.Subscribe(ctx, h, time.Time{}, audit(2)))
	wantErr(t, "the same again", r.Subscribe(ctx, h, time.Time{}, audit(3)), store.ErrExists)
	ok(t, r.PutChanges(ctx, h.ID, list[2:], time.Time{}, audit(4)))
	wantErr(t, "a taken id", r.PutChanges(ctx, h.ID, list[3:], time.Time{}, audit(5)), store.ErrConflict)
	next := list[3]
	next.ID = id("sch", 5)
	wantErr(t, "the second one's id is taken", r.PutChanges(ctx, h.ID, []subscription.Change{next, list[0]}, time.Time{}, audit(6)), store.ErrConflict)
	wantErr(t, "of no subscription", r.PutChanges(ctx, id("sub", 9), []subscription.Change{next}, time.Time{}, audit(7)), store.ErrNotFound)
	got, err := r.ListChanges(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "all", got, []subscription.Change{list[3], list[2], list[1], list[0]})
	got, err = r.ListChanges(ctx, store.Query{Limit: 2, Cursor: list[2].ID, CustomerID: id("cus", 1)})
	ok(t, err)
	same(t, "second page", got, []subscription.Change{list[1], list[0]})
	got, err = r.ListChanges(ctx, store.Query{Limit: 2, CustomerID: id("cus", 2)})
	ok(t, err)
	same(t, "of another customer", got, []subscription.Change{})
	s, err := r.Subscription(ctx, h.ID)
	ok(t, err)
	same(t, "as it was created", s, h.Subscription)
	log, err := r.ListAudit(ctx, store.Query{Limit: 10})
	ok(t, err)
	if len(log) != 3 {
		t.Errorf("%d audit entries, want 3: what is refused leaves none", len(log))
	}
}

func ends(t *testing.T, r store.Records) {
	ctx := t.Context()
	ok(t, r.PutCustomer(ctx, customer(1), audit(1)))
	first, second, third := subscribed(1, 3), subscribed(2, 10), subscribed(3, 20)
	ok(t, r.Subscribe(ctx, subscription.History{Subscription: first}, time.Time{}, audit(2)))
	wantErr(t, "into an open one", r.Subscribe(ctx, subscription.History{Subscription: second}, time.Time{}, audit(3)), store.ErrConflict)
	ok(t, r.PutChanges(ctx, first.ID, nil, noon(10), audit(4)))
	ok(t, r.Subscribe(ctx, subscription.History{Subscription: second}, noon(12), audit(5)))
	wantErr(t, "revived into the next", r.PutChanges(ctx, first.ID, nil, time.Time{}, audit(6)), store.ErrConflict)
	ok(t, r.PutSubscription(ctx, third, audit(7)))
	wantErr(t, "longer, into the next", r.PutChanges(ctx, second.ID, nil, noon(21), audit(8)), store.ErrConflict)
	ok(t, r.PutChanges(ctx, second.ID, nil, second.Start, audit(9)))
	ok(t, r.PutChanges(ctx, first.ID, nil, noon(20), audit(10)))
	got, err := r.Subscription(ctx, first.ID)
	ok(t, err)
	same(t, "as it was created", got, first)
}

func details(t *testing.T, r store.Records) {
	ctx := t.Context()
	c := customer(1)
	c.Billing = account.BillingDetails{LegalName: "Acme SAS", Country: "FR", DueDays: 30}
	ok(t, r.PutCustomer(ctx, c, audit(1)))
	got, err := r.Customer(ctx, c.ID)
	ok(t, err)
	same(t, "created", got, c)
	c.Name = "Acme"
	c.Billing = account.BillingDetails{Street: "1, rue d'\"été\"", City: "Paris", PostalCode: "75000", Region: "IDF", Email: "a@b.example", TaxID: "FR1", Exempt: true}
	ok(t, r.SetCustomer(ctx, c.ID, c.Name, c.Billing, audit(2)))
	wantErr(t, "of nobody", r.SetCustomer(ctx, id("cus", 2), "x", c.Billing, audit(3)), store.ErrNotFound)
	list, err := r.ListCustomers(ctx, store.Query{Limit: 2})
	ok(t, err)
	same(t, "set", list, []account.Customer{c})
}

func customer(n int) account.Customer {
	return account.Customer{
		ID: id("cus", n), Key: "acme", Name: "Acme", Zone: period.MustZone("Europe/Paris"), Currency: money.MustCurrency("EUR"), CreatedAt: noon(n),
	}
}
