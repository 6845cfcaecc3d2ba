package sendertest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// grantsInFull: every field comes back, a void holds from its first instant on, and what was granted for one occasion is granted once.
func grantsInFull(t *testing.T, r store.Records) {
	ctx := t.Context()
	g := account.Grant{
		ID: id("grt", 1), CustomerID: id("cus", 1), Amount: money.MustDecimal("25.5"), Reason: "bought", Author: "op",
		CreatedAt: noon(1), EffectiveAt: noon(2), ExpiresAt: noon(9), Kind: account.Prepaid, Priority: -3, Meters: []string{"calls", "tokens"},
		Every: new(period.MustEvery("2 weeks")), Anchor: noon(1), Paid: money.MustDecimal("20"), Once: "order-7",
		Rollover: &account.Rollover{Min: money.MustDecimal("1"), Max: money.MustDecimal("10.25")},
	}
	plain := account.Grant{
		ID: id("grt", 2), CustomerID: id("cus", 1), Meter: "tokens", Amount: money.FromInt(5), CreatedAt: noon(1), EffectiveAt: noon(1), Kind: account.TopUp,
		Rollover: &account.Rollover{},
	}
	sold := g
	sold.Every = nil
	bought, err := ledger.OfBought(&sold, money.MustCurrency("USD"))
	ok(t, err)
	ok(t, r.PutGrant(ctx, g, bought, audit(1)))
	ok(t, r.PutGrant(ctx, plain, nil, audit(2)))
	again := g
	again.ID = id("grt", 3)
	other := sold
	other.ID = again.ID
	unsold, err := ledger.OfBought(&other, money.MustCurrency("USD"))
	ok(t, err)
	wantErr(t, "the same occasion", r.PutGrant(ctx, again, unsold, audit(3)), store.ErrExists)
	owed, err := r.Balance(ctx, g.CustomerID, ledger.Prepaid)
	ok(t, err)
	same(t, "what is owed of what was bought, without what was not stored", owed.Minor(), int64(-2550))
	again.CustomerID = id("cus", 2)
	ok(t, r.PutGrant(ctx, again, nil, audit(3)))
	got, err := r.ListGrants(ctx, store.Query{Limit: 10, CustomerID: g.CustomerID})
	ok(t, err)
	same(t, "grants", got, []account.Grant{plain, g})
	g.VoidedAt = noon(3)
	for i, at := range []time.Time{noon(3), noon(4)} {
		voided, err := r.VoidGrant(ctx, g.ID, at, "refunded", audit(10+i))
		ok(t, err)
		same(t, "voided", voided, g)
	}
	_, err = r.VoidGrant(ctx, id("grt", 9), noon(3), "x", audit(20))
	wantErr(t, "void none", err, store.ErrNotFound)
	back := account.Grant{
		ID: id("grt", 4), CustomerID: g.CustomerID, Meter: "tokens", Amount: money.FromInt(-1), GrantID: plain.ID, CreatedAt: noon(2), EffectiveAt: noon(2),
	}
	ok(t, r.PutGrant(ctx, back, nil, audit(4)))
	_, err = r.VoidGrant(ctx, back.ID, noon(3), "x", audit(20))
	wantErr(t, "void a correction", err, store.ErrConflict)
	got, err = r.ListGrants(ctx, store.Query{Limit: 1, CustomerID: g.CustomerID, Cursor: plain.ID})
	ok(t, err)
	same(t, "the voided one", got, []account.Grant{g})
	log, err := r.ListAudit(ctx, store.Query{Limit: 20})
	ok(t, err)
	same(t, "audit entries", len(log), 2+4+1)
}

func redemption(n, customer int, coupon string) account.Redemption {
	return account.Redemption{
		ID: id("rdm", n), CustomerID: id("cus", customer), Coupon: coupon, CatalogVersion: 3, RedeemedAt: noon(n), Actor: "op", Reason: "spring",
	}
}

func redemptions(t *testing.T, r store.Records) {
	ctx := t.Context()
	none := store.RedemptionLimits{}
	first, other := redemption(1, 1, "spring"), redemption(2, 2, "spring")
	ok(t, r.Redeem(ctx, first, none, audit(1)))
	wantErr(t, "taken id", r.Redeem(ctx, redemption(1, 2, "spring"), none, audit(9)), store.ErrExists)
	wantErr(t, "in force already", r.Redeem(ctx, redemption(3, 1, "spring"), none, audit(9)), store.ErrConflict)
	wantErr(t, "unknown customer", r.Redeem(ctx, redemption(3, 9, "spring"), none, audit(9)), store.ErrNotFound)
	wantErr(t, "used up", r.Redeem(ctx, other, store.RedemptionLimits{InAll: 1}, audit(9)), store.ErrFull)
	ok(t, r.Redeem(ctx, other, store.RedemptionLimits{InAll: 2, PerCustomer: 1}, audit(2)))
	first.EndedAt = noon(5)
	for i, at := range []time.Time{noon(5), noon(6)} {
		ended, err := r.EndRedemption(ctx, first.ID, at, audit(10+i))
		ok(t, err)
		same(t, "ended", ended, first)
	}
	_, err := r.EndRedemption(ctx, id("rdm", 9), noon(5), audit(20))
	wantErr(t, "end none", err, store.ErrNotFound)
	wantErr(t, "an ended one counts", r.Redeem(ctx, redemption(3, 1, "spring"), store.RedemptionLimits{PerCustomer: 1}, audit(9)), store.ErrFull)
	third := redemption(3, 1, "spring")
	ok(t, r.Redeem(ctx, third, store.RedemptionLimits{PerCustomer: 2}, audit(3)))
	got, err := r.ListRedemptions(ctx, store.Query{Limit: 10, CustomerID: id("cus", 1)})
	ok(t, err)
	same(t, "redemptions", got, []account.Redemption{third, first})
	got, err = r.ListRedemptions(ctx, store.Query{Limit: 10, Cursor: third.ID})
	ok(t, err)
	same(t, "second page", got, []account.Redemption{other, first})
	log, err := r.ListAudit(ctx, store.Query{Limit: 20})
	ok(t, err)
	same(t, "audit entries", len(log), 2+3+1)
}

// redemptionsAtOnce: of many calls at the same time no more succeed than a coupon may be redeemed.
func redemptionsAtOnce(t *testing.T, r store.Records) {
	const tries, most = 12, 5
	for n := range tries {
		ok(t, r.PutCustomer(t.Context(), account.Customer{
			ID: id("cus", 10+n), Key: id("y", 10+n), Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD"), CreatedAt: noon(1),
		}, audit(200+n)))
	}
	errs := make([]error, tries)
	var wg sync.WaitGroup
	for n := range tries {
		wg.Go(func() {
			errs[n] = r.Redeem(t.Context(), redemption(n+1, 10+n, "rush"), store.RedemptionLimits{InAll: most}, audit(300+n))
		})
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		switch {
		case err == nil:
			done++
		case !errors.Is(err, store.ErrFull):
			t.Error(err)
		}
	}
	same(t, "redemptions", done, most)
}

func topUps(t *testing.T, r store.Records) {
	ctx := t.Context()
	rule := account.TopUpRule{
		CustomerID: id("cus", 1), Meter: "tokens", Below: money.MustDecimal("100"), Amount: money.MustDecimal("1000"), Paid: money.MustDecimal("9.5"),
		Most: 3, Every: period.EveryMonth(), ValidDays: 365, SetAt: noon(1), Actor: "op",
	}
	wallet := rule
	wallet.Meter, wallet.ValidDays = "", 0
	nobody := rule
	nobody.CustomerID = id("cus", 9)
	ok(t, r.PutTopUp(ctx, rule, audit(1)))
	ok(t, r.PutTopUp(ctx, wallet, audit(2)))
	wantErr(t, "unknown customer", r.PutTopUp(ctx, nobody, audit(9)), store.ErrNotFound)
	rule.Most, rule.SetAt = 1, noon(2)
	ok(t, r.PutTopUp(ctx, rule, audit(3)))
	got, err := r.TopUps(ctx)
	ok(t, err)
	same(t, "rules", got, []account.TopUpRule{wallet, rule})
	ok(t, r.DropTopUp(ctx, rule.CustomerID, "tokens", audit(4)))
	wantErr(t, "drop none", r.DropTopUp(ctx, rule.CustomerID, "tokens", audit(9)), store.ErrNotFound)
	got, err = r.TopUps(ctx)
	ok(t, err)
	same(t, "rules left", got, []account.TopUpRule{wallet})
}

func creditMarks(t *testing.T, r store.Records) {
	ctx := t.Context()
	var want []account.CreditMark
	for n := range 3 {
		m := account.CreditMark{CustomerID: id("cus", 1), Meter: fmt.Sprintf("m%d", n), Percent: 20, Crossings: int64(n)}
		want = append(want, m)
		ok(t, r.PutCreditMark(ctx, m))
	}
	want[1].Percent, want[1].Crossings = 0, 7
	ok(t, r.PutCreditMark(ctx, want[1]))
	got, err := r.CreditMarks(ctx)
	ok(t, err)
	same(t, "marks", got, want)
}
