package bill_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// TestACloseThatFailedIsFinishedBeforeAnother: a close in the middle of a period, begun where usage passed the threshold, fails once.
// It comes before the one that would be next: finished after it, by a restart, it would bill the same usage again.
func TestACloseThatFailedIsFinishedBeforeAnother(t *testing.T) {
	t.Parallel()
	s := tell(t, "threshold", nil)
	records := &flaky{Invoices: s.records, fail: true}
	s.restart(func(c *bill.Config) { c.Coupons, c.Invoices = s.coupons, records })
	if err := bothOf(s.bill.Tick(t.Context())); err != nil {
		t.Fatal(err)
	}
	s.use(date(2026, 1, 2), 1000, "")
	s.now = date(2026, 1, 3)
	if err := bothOf(s.bill.Tick(t.Context())); !errors.Is(err, errCrash) {
		t.Fatalf("Tick = %v", err)
	}
	s.use(date(2026, 1, 3), 1000, "")
	records.fail = false
	s.now = date(2026, 1, 4)
	s.tick()
	s.restart(func(c *bill.Config) { c.Coupons = s.coupons })
	s.tick()
	closes, err := s.records.Closes(t.Context(), s.sub.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range closes {
		if !c.Done {
			t.Errorf("the close at %s was never finished", day(c.Period.End))
		}
	}
	quantity := int64(0)
	for _, inv := range s.invoices() {
		for _, l := range inv.Lines {
			n, err := strconv.ParseInt(l.Quantity.String(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			quantity += n
		}
	}
	if quantity != 2000 {
		t.Errorf("%d calls are billed, 2000 were made:\n%s", quantity, s.told())
	}
}

func bothOf(_ bool, err error) error { return err }

// TestLateUsageOfAnEndedSubscription: nothing closes any more, and yet it is billed, and what was voided is given back.
func TestLateUsageOfAnEndedSubscription(t *testing.T) {
	t.Parallel()
	s := tell(t, "regions", nil)
	s.change(subscription.Change{Kind: subscription.Cancel, At: date(2026, 1, 20)})
	first := s.use(date(2026, 1, 5), 100, "eu")
	s.at(date(2026, 1, 25))
	billed := len(s.invoices())
	s.at(date(2026, 1, 26))
	s.use(date(2026, 1, 6), 50, "eu")
	s.use(date(2026, 1, 21), 1000, "eu") // after the end: nobody's price
	s.at(date(2026, 1, 27).Add(time.Hour))
	list := s.invoices()
	if len(list) != billed+1 || list[billed].Lines[0].Quantity.String() != "50" {
		t.Fatalf("late usage is not billed:\n%s", s.told())
	}
	s.at(date(2026, 1, 28))
	s.void("api " + first)
	s.at(date(2026, 1, 28).Add(5 * time.Hour)) // the day was looked at already
	s.at(date(2026, 1, 29))
	s.at(date(2026, 1, 30))
	list = s.invoices()
	if len(list) != billed+2 || list[billed+1].Lines[0].Quantity.String() != "-100" {
		t.Errorf("voided usage is not given back:\n%s", s.told())
	}
	s.use(date(2026, 1, 7), 7, "eu")
	s.at(date(2028, 1, 1)) // after 400 days it is late for ever
	if n := len(s.invoices()); n != billed+2 {
		t.Errorf("%d invoices, want %d", n, billed+2)
	}
}

// TestAMinimumOfAPeriodThatIsNoneIsGivenBack: a backdated change of plan moves the billing periods.
func TestAMinimumOfAPeriodThatIsNoneIsGivenBack(t *testing.T) {
	t.Parallel()
	s := tell(t, "bounded", func(c *catalog.Catalog) {
		least := money.MustDecimal("30")
		for i := range c.Plans {
			if c.Plans[i].Key == "bounded" {
				c.Plans[i].Terms = catalog.Terms{Minimum: &least}
			}
		}
		every := period.MustEvery("year")
		c.Plans = append(c.Plans, catalog.Plan{Key: "yearly", Currency: c.Plans[0].Currency, Prices: []price.Price{
			{Key: "annual", Model: price.Flat, Amount: money.MustDecimal("100"), Charge: price.InAdvance, Every: every},
		}})
	})
	s.at(date(2026, 4, 2))
	s.change(subscription.Change{Kind: subscription.ToPlan, Plan: "yearly", Version: 1, At: date(2026, 1, 15), Now: true})
	s.at(date(2026, 4, 3))
	var minima int64
	for _, inv := range s.invoices() {
		for _, l := range inv.Lines {
			if l.Kind == invoice.MinimumLine && l.Price == "" {
				minima += l.Rounded.Minor()
			}
		}
	}
	if minima != 2500 { // of the first period, which ends with the plan
		t.Errorf("minima of %d cents are left, want 2500:\n%s", minima, s.told())
	}
}
