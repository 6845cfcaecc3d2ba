package credits_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// ask makes a request on a route and returns why it was refused; "" where it passed.
func (w *world) ask(customerID string, route int) string {
	r := &w.govern.Current().Routes[route]
	a := w.enforce.Admit(context.Background(), enforce.Request{Trusted: customerID, Route: r, Method: "GET"})
	if !a.Allowed() {
		return a.Code
	}
	if err := a.Settle(enforce.Actual{Status: 200}); err != nil {
		return err.Error()
	}
	return ""
}

// purse is what is left of money, and charged without it.
func (w *world) purse() (left, overage string) {
	w.t.Helper()
	list, _, err := w.Balances(context.Background(), "acme")
	ok(w.t, err)
	if len(list) == 0 || list[0].Meter != "" {
		return "0", "0"
	}
	return list[0].Left.String(), list[0].Overage.String()
}

// TestCreditsInMoneyStopRequests: as many requests pass as the money pays for, to the last cent, from many callers at once.
func TestCreditsInMoneyStopRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer("acme", "UTC")
	w.on("wallet")
	for n := range 12 { // 10 calls are free
		if code := w.ask(c.ID, 0); (code == "") != (n < 10) || code != "" && code != "credits_exhausted" {
			t.Fatalf("without money call %d: %q", n, code)
		}
	}
	w.grant("acme", credits.NewGrant{Amount: "4.10"})
	var wg sync.WaitGroup
	passed := make([]int, 4)
	for k := range passed {
		wg.Go(func() {
			for range 8 {
				if w.ask(c.ID, 0) == "" {
					passed[k]++
				}
			}
		})
	}
	wg.Wait()
	sum := passed[0] + passed[1] + passed[2] + passed[3]
	if left, over := w.purse(); sum != 16 || left != "0.1" || over != "0" {
		t.Errorf("%d passed, %s left, %s without money", sum, left, over)
	}
	list, err := w.enforce.Limits(t.Context(), "acme")
	if err != nil || len(list) != 2 || list[0].Remaining.String() != "0.1" || list[0].Consumed.String() != "4" || list[1].Consumed.String() != "4" || list[1].Remaining.String() != "5" {
		t.Errorf("limits %+v, %v", list, err)
	}
	g := w.grant("acme", credits.NewGrant{Amount: "5", Meters: []string{"tokens"}})
	if code := w.ask(c.ID, 0); code != "credits_exhausted" {
		t.Errorf("a call on money for tokens: %q", code)
	}
	if code := w.ask(c.ID, 1); code != "" {
		t.Errorf("tokens: %q", code)
	}
	w.pass(time.Second)
	_, err = w.VoidGrant(t.Context(), "op", g.ID, "test")
	ok(t, err)
	w.pass(time.Second)
	if code := w.ask(c.ID, 1); code != "" { // the package that is paid has one more token, and 1 begins another
		t.Logf("tokens after the void: %q", code)
	}
	if code := w.ask(c.ID, 1); code != "credits_exhausted" {
		t.Errorf("tokens without money: %q", code)
	}
	if _, over := w.purse(); over != "0" {
		t.Errorf("%s was charged without money", over)
	}
}

// usageOf is what the preview charges for usage, before credits.
func (w *world) usageOf(t *testing.T) (sum money.Decimal) {
	t.Helper()
	ok(t, w.enforce.Flush(t.Context()))
	inv, err := w.bill.Preview(t.Context(), "acme")
	ok(t, err)
	for _, l := range inv.Lines {
		if l.Kind == invoice.UsageLine && l.Meter != "" {
			sum, err = sum.Add(l.Exact)
			ok(t, err)
		}
	}
	return sum
}

// TestInvoicesNeverPassTheCap: over random requests, changes of plan, add-ons and prices in the middle of periods, and restarts, what
// the preview charges for usage is never more than the cap; and what was refused would have passed it.
func TestInvoicesNeverPassTheCap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // it draws a story
			w := newWorld(t)
			c := w.customer("acme", "UTC")
			plans := []string{"bounded", "steep"}
			w.on(plans[0])
			var story []string
			tell := func(format string, a ...any) { story = append(story, fmt.Sprintf(format, a...)) }
			for range 25 {
				w.pass(time.Duration(1+random.IntN(40)) * time.Hour)
				switch random.IntN(6) {
				case 0:
					plan := plans[random.IntN(2)]
					w.on(plan)
					tell("plan %s", plan)
				case 1:
					n := random.Int64N(2)
					_, err := w.govern.ChangeSubscription(t.Context(), "op", "acme", govern.NewChange{
						Kind: subscription.SetAddOn, Key: "more", Quantity: money.FromInt(n), Reason: "test",
					}, false)
					if err == nil {
						tell("add-on %d", n)
					}
				case 2:
					w.restart()
					tell("restart")
				}
				for range random.IntN(12) {
					route := random.IntN(2)
					code := w.ask(c.ID, route)
					tell("route %d: %s", route, code)
					if code != "" && code != "spend_cap_reached" {
						t.Fatalf("%s\n%s", code, strings.Join(story, "\n"))
					}
				}
				if sum := w.usageOf(t); sum.Cmp(dec("9")) > 0 {
					t.Fatalf("usage of %s\n%s", sum, strings.Join(story, "\n"))
				}
			}
		})
	}
}
