package credits_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/credit"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
)

// TestRequestsPassAsLongAsCreditsAreLeft: over random grants with priorities, expiry, refills, rollover and voids, a request passes
// exactly when a whole unit is left by ledger.Burn over the single requests; and the balance that is told is that one too.
func TestRequestsPassAsLongAsCreditsAreLeft(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(t)
		w.t = &fatal{TB: t, t: r}
		t := r
		const key = "acme"
		h := history{w: w, t: t, c: w.customer(key, rapid.SampledFrom([]string{"UTC", "Europe/Paris", "Asia/Kolkata"}).Draw(t, "zone")), key: key}
		t.Repeat(map[string]func(*rapid.T){
			"grant": h.grant, "void": h.void, "call": h.call, "pass": h.pass,
		})
		if told, want := w.left(), h.left(); told != want {
			t.Fatalf("%s are told to be left, %s are", told, want)
		}
	})
}

// fatal has the failures of a world be those of a property's run.
type fatal struct {
	testing.TB
	t *rapid.T
}

func (f *fatal) Fatal(args ...any)                 { f.t.Fatal(args...) }
func (f *fatal) Fatalf(format string, args ...any) { f.t.Fatalf(format, args...) }
func (f *fatal) Helper()                           {}

// history is what happened to one customer, and what follows from it.
type history struct {
	w    *world
	t    *rapid.T
	c    account.Customer
	key  string
	uses []ledger.Use // single requests
}

// balance burns the single requests.
func (h *history) balance() credit.Balance {
	now := h.w.clock()
	holder := credit.Holder{Zone: h.c.Zone, Subscriptions: h.w.govern.SubscriptionsOf(h.c.ID), Grants: h.w.govern.Grants(h.c.ID)}
	pool := holder.Units("calls", now)
	b, err := pool.Burn(h.uses, now)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func (h *history) left() string {
	if len(h.w.govern.Grants(h.c.ID)) == 0 {
		return "none"
	}
	b := h.balance()
	return fmt.Sprint(b.Left, " ", b.Overage)
}

func (h *history) grant(t *rapid.T) {
	n := credits.NewGrant{Meter: "calls", Amount: fmt.Sprint(rapid.IntRange(1, 12).Draw(t, "amount")), Priority: rapid.IntRange(-1, 1).Draw(t, "priority")}
	now := h.w.clock()
	if rapid.Bool().Draw(t, "later") {
		n.EffectiveAt = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "minutes")) * time.Minute)
	}
	if rapid.Bool().Draw(t, "expires") {
		n.ExpiresAt = now.Add(time.Duration(rapid.IntRange(101, 9000).Draw(t, "until")) * time.Minute)
	}
	if rapid.Bool().Draw(t, "recurs") {
		n.Every = rapid.SampledFrom([]string{"day", "3 days", "month"}).Draw(t, "every")
	}
	if rapid.Bool().Draw(t, "rolls") {
		n.MaxRollover = "1"
	}
	h.w.grant(h.key, n)
}

func (h *history) void(t *rapid.T) {
	all := h.w.govern.Grants(h.c.ID)
	if len(all) == 0 {
		return
	}
	_, err := h.w.VoidGrant(h.w.t.Context(), "op", rapid.SampledFrom(all).Draw(t, "grant").ID, "test")
	if err != nil {
		t.Fatal(err)
	}
}

func (h *history) call(t *rapid.T) {
	for range rapid.IntRange(1, 8).Draw(t, "requests") {
		b := h.balance()
		want := b.Left.Cmp(money.FromInt(1).Rational()) >= 0
		if got := h.w.call(h.c.ID); got != want {
			t.Fatalf("a request passes: %v, with %s left and %s used without a grant", got, b.Left, b.Overage)
		} else if got {
			h.uses = append(h.uses, ledger.Use{At: h.w.clock(), Quantity: money.FromInt(1).Rational(), Meter: "calls"})
		}
	}
}

func (h *history) pass(t *rapid.T) {
	h.w.pass(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 26 * time.Hour, 11 * 24 * time.Hour}).Draw(t, "while"))
}
