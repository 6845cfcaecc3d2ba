package bill_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// step is what happens on a day of a story: usage, in any order, and decisions.
type step struct {
	at     time.Time
	usage  []use
	change *subscription.Change
	grant  *account.Grant
}

// plot draws three months of a customer.
func plot(random *rand.Rand) []step {
	var out []step
	// No threshold: whether one was passed is looked at by the clock, and again after a restart.
	plans := []string{"pro", "max", "bounded", "committed", "regions", "payments", "annual"}
	for day := date(2026, 1, 2); day.Before(date(2026, 4, 1)); day = day.AddDate(0, 0, 1+random.IntN(9)) {
		s := step{at: day}
		for range random.IntN(4) {
			at := day.Add(-time.Duration(random.IntN(40*24)) * time.Hour)
			if at.Before(date(2026, 1, 1)) {
				at = date(2026, 1, 1)
			}
			s.usage = append(s.usage, use{at: at, value: random.Int64N(900)})
		}
		switch random.IntN(6) {
		case 0:
			s.change = &subscription.Change{Kind: subscription.ToPlan, Plan: plans[random.IntN(len(plans))], Version: 1, Now: random.IntN(2) == 0}
		case 1:
			s.grant = &account.Grant{Amount: money.FromInt(1 + random.Int64N(9)), Kind: account.Promotional, ExpiresAt: day.AddDate(0, 0, 1+random.IntN(40))}
		case 2:
			s.change = &subscription.Change{Kind: subscription.ToPlan, Plan: plans[random.IntN(len(plans))], Version: 1, At: day.AddDate(0, 0, -random.IntN(20))}
			if s.change.At.Before(date(2026, 1, 1)) || len(out) > 0 && hasChange(out, s.change.At) {
				s.change = nil
			}
		}
		out = append(out, s)
	}
	return out
}

// hasChange says that something was changed later already: such a story is for another test.
func hasChange(list []step, after time.Time) bool {
	for _, s := range list {
		if s.change != nil && !s.at.Before(after) {
			return true
		}
	}
	return false
}

// play plays it: with usage of a day in an order of its own, and, with crash, a billing that breaks off in the middle of closes.
func play(t *testing.T, list []step, seed uint64, crash bool) *story {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // it draws an order
	s := tell(t, "pro", nil)
	n := 0
	for _, x := range append(list, step{at: date(2026, 5, 1)}) {
		s.now = x.at
		s.close(t, crash)
		at := make([]string, len(x.usage))
		for i := range x.usage {
			n++
			at[i] = fmt.Sprintf("e%04d", n)
		}
		for _, i := range random.Perm(len(x.usage)) {
			s.report(s.sub.CustomerID, at[i], x.usage[i].at, x.usage[i].value)
		}
		if x.change != nil {
			s.change(*x.change)
		}
		if x.grant != nil {
			s.grant(*x.grant)
		}
		s.close(t, crash)
		s.balanced()
	}
	return s
}

func (s *story) close(t *testing.T, crash bool) {
	t.Helper()
	if crash {
		s.restart(func(c *bill.Config) {
			c.Coupons, c.Balances, c.Invoices = s.coupons, s.records, &flaky{Invoices: s.records, fail: true}
		})
		if _, err := s.bill.Tick(t.Context()); err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		s.restart(func(c *bill.Config) { c.Coupons, c.Balances = s.coupons, s.records })
	}
	s.tick()
}

// TestInvoicesDoNotDependOnOrderAndCrashes plays random stories three times: as they are, with the usage of each day in another
// order, and with a crash in every billing. The bytes of all invoices are the same. The ledger says what they say, and the totals
// are those of all that is expected, computed at once.
func TestInvoicesDoNotDependOnOrderAndCrashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			list := plot(rand.New(rand.NewPCG(seed, 0))) //nolint:gosec // it draws a story
			first := play(t, list, 1, false)
			want := encode(t, first.invoices())
			if diff := cmp.Diff(want, encode(t, play(t, list, 2, false).invoices())); diff != "" {
				t.Errorf("another order, other invoices:\n%s", diff)
			}
			if diff := cmp.Diff(want, encode(t, play(t, list, 1, true).invoices())); diff != "" {
				t.Errorf("after crashes:\n%s", diff)
			}
			c, err := first.records.Conservation(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range c {
				if x.Difference.Minor() != 0 {
					t.Errorf("the ledger: %+v", x)
				}
			}
		})
	}
}

// TestADryRunSaysWhatARunDoes compares what a run would finalize with what it then does finalize.
func TestADryRunSaysWhatARunDoes(t *testing.T) {
	t.Parallel()
	s := tell(t, "pro", nil)
	s.use(date(2026, 1, 5), 800, "")
	s.now = date(2026, 3, 2)
	due, err := s.bill.Due(t.Context(), bill.Part{})
	if err != nil || due != 1 {
		t.Errorf("due: %d, %v", due, err)
	}
	if due, err = s.bill.Due(t.Context(), bill.Part{Until: date(2026, 1, 31)}); err != nil || due != 0 {
		t.Errorf("due in January: %d, %v", due, err)
	}
	var want, got []string
	err = s.bill.DryRun(t.Context(), bill.Part{}, func(f bill.Forecast) error {
		for _, inv := range f.Invoices {
			want = append(want, inv.ID+" "+inv.Total.String())
		}
		return f.Err
	})
	if err != nil {
		t.Fatal(err)
	}
	before := len(s.invoices())
	s.tick()
	for _, inv := range s.invoices()[before:] {
		got = append(got, inv.ID+" "+inv.Total.String())
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 2 {
		t.Errorf("dry run (-), run (+):\n%s", diff)
	}
	if due, err = s.bill.Due(t.Context(), bill.Part{}); err != nil || due != 0 {
		t.Errorf("due afterwards: %d, %v", due, err)
	}
}

// TestWhatIfPeriodsBeginAnew previews changes that close the period in its middle, and then makes them: what is invoiced up to the end
// of the period is what the preview said.
func TestWhatIfPeriodsBeginAnew(t *testing.T) {
	t.Parallel()
	for _, plan := range []string{"yearly", "weekly"} {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			s := tell(t, "pro", func(c *catalog.Catalog) {
				fee := price.Price{Key: "licence", Model: price.Flat, Amount: money.MustDecimal("70"), Charge: price.InAdvance, Every: period.MustEvery("week")}
				c.Plans = append(c.Plans, catalog.Plan{Key: "weekly", Name: "Weekly", Currency: c.Plans[0].Currency, Prices: []price.Price{fee}})
				fee.Every = period.MustEvery("year")
				c.Plans = append(c.Plans, catalog.Plan{Key: "yearly", Name: "Yearly", Currency: c.Plans[0].Currency, Prices: []price.Price{fee}})
			})
			s.use(date(2026, 1, 5), 100, "")
			s.now = date(2026, 1, 11)
			change := subscription.Change{Kind: subscription.ToPlan, Plan: plan, Version: 1, At: s.now}
			before, after, err := s.bill.PreviewChange(t.Context(), s.sub.ID, []subscription.Change{change})
			if err != nil {
				t.Fatal(err)
			}
			s.change(change)
			s.at(date(2026, 2, 1))
			made := money.NewAmount(0, before.Currency)
			for _, inv := range s.invoices()[1:] {
				if made, err = made.Add(inv.Total); err != nil {
					t.Fatal(err)
				}
			}
			if before.Total.String() != "32.00" || after.Total != made || len(after.Lines) < 3 {
				t.Errorf("without the change %s; with it %s, and %s were invoiced", before.Total, after.Total, made)
			}
		})
	}
}

// TestWhatIfIUpgrade previews a change that nobody makes.
func TestWhatIfIUpgrade(t *testing.T) {
	t.Parallel()
	s := tell(t, "pro", nil)
	s.use(date(2026, 1, 5), 100, "")
	s.now = date(2026, 1, 11).Add(time.Minute) // on no bucket's border
	changes := []subscription.Change{{Kind: subscription.ToPlan, Plan: "max", Version: 1, At: s.now, Now: true}}
	before, after, err := s.bill.PreviewChange(t.Context(), s.sub.ID, changes)
	if err != nil {
		t.Fatal(err)
	}
	// 21 of 31 days of the difference of 31, and the next month's.
	if before.Total.String() != "32.00" || after.Total.String() != "84.00" {
		t.Errorf("before %s, after %s", before.Total, after.Total)
	}
	if s.tick(); len(s.invoices()) != 1 {
		t.Error("something was billed")
	}
	if _, _, err := s.bill.PreviewChange(t.Context(), "sub_none", changes); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no subscription: %v", err)
	}
}
