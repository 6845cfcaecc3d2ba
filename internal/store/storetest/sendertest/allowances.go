package sendertest

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Allowances checks a driver's promises about overrides, grants, coupons and top-ups.
func Allowances(t *testing.T, open func(t *testing.T) store.Records) {
	for name, test := range map[string]func(*testing.T, store.Records){
		"Overrides": overrides, "Grants": grants, "GrantsInFull": grantsInFull, "Redemptions": redemptions, "RedemptionsAtOnce": redemptionsAtOnce,
		"TopUps": topUps, "CreditMarks": creditMarks,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t)
			for n := range 2 {
				ok(t, r.PutCustomer(t.Context(), account.Customer{
					ID: id("cus", n+1), Key: id("x", n+1), Name: "x", Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD"), CreatedAt: noon(1),
				}, audit(100+n)))
			}
			test(t, r)
		})
	}
}

func overrides(t *testing.T, r store.Records) {
	ctx := t.Context()
	o := account.Override{
		ID: id("ovr", 1), CustomerID: id("cus", 1), KeyID: id("key", 1), Limit: "daily", Value: "500", Burst: "7", Reason: "why", Author: "op",
		CreatedAt: noon(1), ExpiresAt: noon(9),
	}
	lasting := o
	lasting.ID, lasting.KeyID, lasting.Burst, lasting.ExpiresAt = id("ovr", 2), "", "", time.Time{}
	other := lasting
	other.ID, other.CustomerID = id("ovr", 3), id("cus", 2)
	for i, x := range []account.Override{o, lasting, other} {
		ok(t, r.PutOverride(ctx, x, audit(i+1)))
	}
	wantErr(t, "taken id", r.PutOverride(ctx, o, audit(50)), store.ErrExists)
	nobody := o
	nobody.ID, nobody.CustomerID = id("ovr", 4), id("cus", 9)
	wantErr(t, "unknown customer", r.PutOverride(ctx, nobody, audit(50)), store.ErrNotFound)
	got, err := r.ListOverrides(ctx, store.Query{Limit: 10, CustomerID: o.CustomerID})
	ok(t, err)
	same(t, "overrides of a customer", got, []account.Override{lasting, o})
	lasting.EndedAt = noon(2)
	for i, at := range []time.Time{noon(2), noon(3)} { // the first time holds, and is the only one on record
		ended, err := r.EndOverride(ctx, lasting.ID, at, audit(10+i))
		ok(t, err)
		same(t, "ended", ended, lasting)
	}
	_, err = r.EndOverride(ctx, id("ovr", 9), noon(3), audit(20))
	wantErr(t, "end none", err, store.ErrNotFound)
	got, err = r.ListOverrides(ctx, store.Query{Limit: 2})
	ok(t, err)
	same(t, "first page", got, []account.Override{other, lasting})
	got, err = r.ListOverrides(ctx, store.Query{Limit: 2, Cursor: lasting.ID})
	ok(t, err)
	same(t, "second page", got, []account.Override{o})
	log, err := r.ListAudit(ctx, store.Query{Limit: 20})
	ok(t, err)
	same(t, "audit entries", len(log), 2+3+1)
}

func grants(t *testing.T, r store.Records) {
	ctx := t.Context()
	g := account.Grant{
		ID: id("grt", 1), CustomerID: id("cus", 1), Meter: "tokens", Amount: money.MustDecimal("1000.5"), Reason: "prepaid", Author: "op",
		CreatedAt: noon(1), EffectiveAt: noon(2), ExpiresAt: noon(9), Kind: account.Promotional,
	}
	back := g
	back.ID, back.Amount, back.GrantID, back.ExpiresAt = id("grt", 2), money.MustDecimal("-0.25"), g.ID, time.Time{}
	ok(t, r.PutGrant(ctx, g, nil, audit(1)))
	ok(t, r.PutGrant(ctx, back, nil, audit(2)))
	wantErr(t, "taken id", r.PutGrant(ctx, g, nil, audit(3)), store.ErrExists)
	twice := back
	twice.ID = id("grt", 3)
	wantErr(t, "a second correction", r.PutGrant(ctx, twice, nil, audit(3)), store.ErrExists)
	nobody := g
	nobody.ID, nobody.CustomerID = id("grt", 4), id("cus", 9)
	wantErr(t, "unknown customer", r.PutGrant(ctx, nobody, nil, audit(3)), store.ErrNotFound)
	got, err := r.ListGrants(ctx, store.Query{Limit: 10, CustomerID: g.CustomerID})
	ok(t, err)
	same(t, "grants", got, []account.Grant{back, g})
	got, err = r.ListGrants(ctx, store.Query{Limit: 10, CustomerID: id("cus", 2)})
	ok(t, err)
	same(t, "grants of another", got, []account.Grant{})
}
