package spendcap_test

import (
	"math"
	"testing"

	"github.com/tallystick/tallystick/internal/app/authority/spendcap"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

func priced(key, meterKey, first, then string) price.Price {
	return price.Price{Key: key, Meter: meterKey, Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{
		{UpTo: new(money.MustDecimal("10")), UnitAmount: money.MustDecimal(first)}, {UnitAmount: money.MustDecimal(then)},
	}}
}

// TestCeilingIsTheLargestThatFits: one more unit would cost more than what is left, whatever prices the meter has.
func TestCeilingIsTheLargestThatFits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*spendcap.Cap{
		"one price":   {Prices: []price.Price{priced("a", "calls", "0", "0.25"), priced("x", "other", "9", "9")}},
		"two prices":  {Prices: []price.Price{priced("a", "calls", "0", "0.25"), priced("b", "calls", "0.1", "0.3")}},
		"fine scale":  {Prices: []price.Price{priced("a", "calls", "0.5", "0.7"), priced("b", "calls", "0", "0.01")}, Scales: map[string]int{"calls": 3}},
		"free at end": {Prices: []price.Price{priced("a", "calls", "1", "0"), priced("b", "calls", "0", "0")}},
	} {
		for _, left := range []string{"0", "0.1", "1", "9.99", "10", "123.45"} {
			units, err := c.Ceiling("calls", money.MustDecimal(left))
			if err != nil {
				t.Fatal(err)
			}
			at, err := c.Charge("calls", units)
			if err == nil && at.Cmp(money.MustDecimal(left)) > 0 {
				t.Errorf("%s: %d units cost %s, of %s", name, units, at, left)
			}
			if units == math.MaxInt64 {
				continue
			}
			if next, err := c.Charge("calls", units+1); err != nil || next.Cmp(money.MustDecimal(left)) <= 0 {
				t.Errorf("%s: one more than %d units would still fit %s: %s, %v", name, units, left, next, err)
			}
		}
	}
	if n, err := (&spendcap.Cap{}).Ceiling("calls", money.MustDecimal("-1")); n != 0 || err != nil {
		t.Errorf("below nothing %d units fit, %v", n, err)
	}
}
