package bill_test

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// TestAccrueAddsUp: what accrues in the parts of a period is what its invoices charge, wherever it is split; at dearer prices it
// is more.
func TestAccrueAddsUp(t *testing.T) {
	t.Parallel()
	s := tell(t, "pro", nil)
	for day := 1; day <= 30; day += 3 {
		s.use(date(2026, 1, day).Add(5*time.Hour), 250, "")
	}
	s.at(date(2026, 2, 1))
	customer := s.people.customers[0]
	accrue := func(from, to time.Time, proposed *catalog.Compiled) money.Rational {
		t.Helper()
		c, sum, ok, err := s.bill.Accrue(t.Context(), customer, period.Interval{Start: from, End: to}, proposed)
		if err != nil || !ok || c.Code() != "USD" {
			t.Fatalf("accrued %s %s, %v, %v", sum, c, ok, err)
		}
		return sum
	}
	whole := accrue(date(2026, 1, 1), date(2026, 2, 1), nil)
	if want := "48.5"; whole.String() != want { // 31, and 1000 × 0.01 + 1500 × 0.005
		t.Errorf("January accrued %s, want %s", whole, want)
	}
	for _, cut := range []time.Time{date(2026, 1, 7), date(2026, 1, 13).Add(6 * time.Hour), date(2026, 1, 31)} {
		sum, err := accrue(date(2026, 1, 1), cut, nil).Add(accrue(cut, date(2026, 2, 1), nil))
		if err != nil || sum.Cmp(whole) != 0 {
			t.Errorf("cut at %s the parts are %s, the whole %s, %v", cut, sum, whole, err)
		}
	}
	c := shop()
	for i := range c.Plans {
		if c.Plans[i].Key == "pro" {
			c.Plans[i].Prices[0].Amount = money.MustDecimal("62")
		}
	}
	if dearer := accrue(date(2026, 1, 1), date(2026, 2, 1), &catalog.Compiled{Catalog: c}); dearer.String() != "79.5" {
		t.Errorf("at 62 a month it is %s", dearer)
	}
	if _, _, ok, err := s.bill.Accrue(t.Context(), customer, period.Interval{Start: date(2025, 1, 1), End: date(2025, 2, 1)}, nil); ok || err != nil {
		t.Errorf("before the subscription there is %v, %v", ok, err)
	}
}
