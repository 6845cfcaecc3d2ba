package credits_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

func (w *world) wantKinds(when string, want ...string) {
	w.t.Helper()
	if got := w.kinds(); !slices.Equal(got, want) {
		w.t.Errorf("%s: told %v, want %v", when, got, want)
	}
}

// TestLowBalancesAreToldOnce: each crossing of a threshold is told once, also over restarts, and again after there was more.
func TestLowBalancesAreToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer("acme", "UTC")
	w.grant("acme", credits.NewGrant{Meter: "calls", Amount: "10"})
	w.tick()
	w.wantKinds("full")
	w.calls(c.ID, 7)
	w.tick()
	w.wantKinds("three left")
	w.calls(c.ID, 1)
	w.failing = func() error { return errors.New("no room") }
	if _, err := w.Tick(t.Context()); err == nil {
		t.Error("a notice that could not be stored is passed over")
	}
	w.failing = nil
	w.tick()
	w.tick()
	w.wantKinds("a fifth left", notify.BalanceLow)
	w.restart()
	w.tick()
	w.wantKinds("after a restart")
	w.calls(c.ID, 5)
	w.tick()
	w.wantKinds("used up", notify.BalanceEmpty)
	w.grant("acme", credits.NewGrant{Meter: "calls", Amount: "10"})
	w.tick()
	w.calls(c.ID, 10)
	w.tick()
	w.wantKinds("used up again", notify.BalanceEmpty)
}

// TestTopUpsAreMadeOnce: a rule grants when little is left, as often as it may in its period and never twice for one occasion,
// whatever dies in between.
func TestTopUpsAreMadeOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer("acme", "UTC")
	if _, err := w.SetTopUp(t.Context(), "op", "acme", credits.NewTopUp{Meter: "calls", Below: "3", Amount: "5", Paid: "2.50", Most: 2, ValidDays: 30}); err != nil {
		t.Fatal(err)
	}
	w.failing = func() error { return errors.New("killed") } // after the grant, before its notice
	if _, err := w.Tick(t.Context()); err == nil {
		t.Error("a notice that could not be stored is passed over")
	}
	w.failing = nil
	w.restart()
	w.tick()
	w.wantKinds("first top-up", notify.BalanceToppedUp)
	if n := w.calls(c.ID, 3); n != 3 || w.left() != "2 0" {
		t.Errorf("%d passed, left %s", n, w.left())
	}
	w.tick()
	w.wantKinds("second top-up", notify.BalanceToppedUp)
	if n := w.calls(c.ID, 9); n != 7 {
		t.Errorf("%d of 7 passed", n)
	}
	w.tick()
	w.restart()
	w.tick()
	w.wantKinds("as often as it may", notify.BalanceEmpty)
	grants := w.govern.Grants(c.ID)
	if len(grants) != 2 || grants[0].Kind != account.TopUp || grants[0].Paid.String() != "2.5" || !grants[0].ExpiresAt.Equal(time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("grants %+v", grants)
	}
	w.pass(31 * 24 * time.Hour)
	w.tick()
	if got := len(w.govern.Grants(c.ID)); got != 3 {
		t.Errorf("%d grants in the next month", got)
	}
	if err := w.DropTopUp(t.Context(), "op", "acme", "calls"); err != nil {
		t.Fatal(err)
	}
	if err := w.DropTopUp(t.Context(), "op", "acme", "calls"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("dropped twice: %v", err)
	}
}

// TestVoidedCreditsAreLost: what is left of a grant is lost with its void, what it paid stays paid, and a restart changes nothing.
func TestVoidedCreditsAreLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer("acme", "UTC")
	first := w.grant("acme", credits.NewGrant{Meter: "calls", Amount: "10", Priority: 1})
	w.grant("acme", credits.NewGrant{Meter: "calls", Amount: "3", Priority: 2})
	w.calls(c.ID, 4)
	w.pass(time.Second)
	if _, err := w.VoidGrant(t.Context(), "op", first.ID, "refunded"); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at once", "after a restart"} {
		if got := w.left(); got != "3 0" {
			t.Errorf("%s: %s left", when, got)
		}
		w.restart()
	}
	if n := w.calls(c.ID, 9); n != 3 {
		t.Errorf("%d passed of 3 that were left", n)
	}
	again, err := w.VoidGrant(t.Context(), "op", first.ID, "once more")
	if err != nil || again.VoidedAt.IsZero() || again.VoidedAt.Equal(w.clock().Add(time.Second)) {
		t.Errorf("voided again: %+v, %v", again, err)
	}
}

// TestMoneyPaysForCharges: money burns by the exact charges of the plan's prices, tier by tier, and only for its meters.
func TestMoneyPaysForCharges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer("acme", "UTC")
	w.on("open")
	w.grant("acme", credits.NewGrant{Amount: "1.00", Priority: 1, Meters: []string{"tokens"}})
	w.grant("acme", credits.NewGrant{Amount: "0.60", Priority: 2})
	w.calls(c.ID, 13) // 10 are free, 3 cost 0.25
	list, _, err := w.Balances(t.Context(), "acme")
	if err != nil || len(list) != 1 || list[0].Meter != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	if b := list[0]; b.Left.String() != "1" || b.Overage.String() != "0.15" || b.Burned.String() != "0.6" || b.Granted.String() != "1.6" {
		t.Errorf("left %s, overage %s, burned %s, granted %s", b.Left, b.Overage, b.Burned, b.Granted)
	}
	w.pass(40 * 24 * time.Hour) // another period: the overage is owed, not taken from later credits
	list, _, err = w.Balances(t.Context(), "acme")
	if err != nil || list[0].Left.String() != "1" || !list[0].Overage.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestBoughtCreditsAreOwed: the ledger has what was paid for money, and what it is worth is owed until it is used.
func TestBoughtCreditsAreOwed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer("acme", "UTC")
	w.grant("acme", credits.NewGrant{Amount: "25.00", Kind: account.Prepaid, Paid: "20"})
	w.grant("acme", credits.NewGrant{Amount: "7.00"})
	w.grant("acme", credits.NewGrant{Amount: "100", Meter: "tokens", Kind: account.Prepaid, Paid: "9"})
	for of, want := range map[ledger.Account]int64{ledger.Prepaid: -2500, ledger.Promotion: 500} {
		if held, err := w.records.Balance(t.Context(), c.ID, of); err != nil || held.Minor() != want {
			t.Errorf("%s has %s, %v; want %d", of, held, err, want)
		}
	}
}

// TestCouponsAreRedeemedAsOftenAsTheyMay: also by many at once.
func TestCouponsAreRedeemedAsOftenAsTheyMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.coupons = []catalog.Coupon{
		{Key: "rush", Percent: new(dec("10")), Limit: 3, PerCustomer: 1},
		{Key: "past", Percent: new(dec("10")), Until: "2026-03-01T09:00:00Z"},
		{Key: "euro", Amount: new(dec("10")), Currency: money.MustCurrency("EUR")},
	}
	const tries = 8
	for n := range tries {
		w.customer(fmt.Sprint("c", n), "UTC")
	}
	errs := make([]error, tries)
	var wg sync.WaitGroup
	for n := range tries {
		wg.Go(func() { _, errs[n] = w.Redeem(context.Background(), "op", fmt.Sprint("c", n), "rush", "launch") })
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		switch {
		case err == nil:
			done++
		case !errors.Is(err, credits.ErrUsedUp):
			t.Error(err)
		}
	}
	if done != 3 {
		t.Errorf("%d redeemed a coupon of 3", done)
	}
	for _, coupon := range []string{"spring", "past", "euro"} {
		if _, err := w.Redeem(t.Context(), "op", "c0", coupon, "x"); !isInvalid(err, "/coupon") {
			t.Errorf("coupon %s: %v", coupon, err)
		}
	}
	list, err := w.ListRedemptions(t.Context(), store.Query{})
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	ended, err := w.EndRedemption(t.Context(), "op", list[0].ID)
	if err != nil || ended.Active(w.clock()) || !ended.RedeemedAt.Equal(start) {
		t.Errorf("ended %+v, %v", ended, err)
	}
	if own := w.govern.Redemptions(ended.CustomerID); len(own) != 1 || own[0].EndedAt.IsZero() {
		t.Errorf("in the directory: %+v", own)
	}
}

func isInvalid(err error, pointer string) bool {
	broken, ok := errors.AsType[*govern.Invalid](err)
	return ok && broken.Pointer == pointer && broken.Fix != ""
}

func TestGrantsAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.customer("acme", "UTC")
	for name, c := range map[string]struct {
		change  func(*credits.NewGrant)
		pointer string
	}{
		"customer":       {func(n *credits.NewGrant) { n.Customer = "acm" }, "/customer"},
		"meter":          {func(n *credits.NewGrant) { n.Meter = "call" }, "/meter"},
		"amount":         {func(n *credits.NewGrant) { n.Amount = "0" }, "/amount"},
		"decimals":       {func(n *credits.NewGrant) { n.Amount = "0.5" }, "/amount"},
		"kind":           {func(n *credits.NewGrant) { n.Kind = "gift" }, "/kind"},
		"paid gift":      {func(n *credits.NewGrant) { n.Paid = "1" }, "/paid"},
		"meters":         {func(n *credits.NewGrant) { n.Meters = []string{"calls"} }, "/meters"},
		"priority":       {func(n *credits.NewGrant) { n.Priority = 1 << 30 }, "/priority"},
		"past":           {func(n *credits.NewGrant) { n.EffectiveAt = start.Add(-1) }, "/effective_at"},
		"over at once":   {func(n *credits.NewGrant) { n.ExpiresAt = start }, "/expires_at"},
		"interval":       {func(n *credits.NewGrant) { n.Every = "fortnight" }, "/every"},
		"anchor":         {func(n *credits.NewGrant) { n.Every, n.Anchor = "day", start.Add(time.Minute) }, "/anchor"},
		"lonely anchor":  {func(n *credits.NewGrant) { n.Anchor = start }, "/anchor"},
		"rollover":       {func(n *credits.NewGrant) { n.MinRollover, n.MaxRollover = "3", "2" }, "/min_rollover"},
		"large rollover": {func(n *credits.NewGrant) { n.MaxRollover = "11" }, "/max_rollover"},
		"reason":         {func(n *credits.NewGrant) { n.Reason = "" }, "/reason"},
	} {
		n := credits.NewGrant{Customer: "acme", Meter: "calls", Amount: "10", Reason: "test"}
		c.change(&n)
		if _, err := w.CreateGrant(t.Context(), "op", n); !isInvalid(err, c.pointer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
