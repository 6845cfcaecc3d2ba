package spendcap_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/authority/spendcap"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

func priced(key, meterKey, first, then string) price.Price {
	return price.Price{Key: key, Meter: meterKey, Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{
		{UpTo: new(money.MustDecimal("10")), UnitAmount: money.MustDecimal(first)}, {UnitAmount: money.MustDecimal(then)},
	}}
}

// spans are days of a period, each at prices of its own plan.
func spans(of ...[]price.Price) []subscription.Span {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var out []subscription.Span
	for n, prices := range of {
		in := period.Interval{Start: start.AddDate(0, 0, n), End: start.AddDate(0, 0, n+1)}
		s := subscription.Span{Interval: in}
		for _, p := range prices {
			position := price.Middle
			if n == 0 {
				position = price.First
			}
			s.Charges = append(s.Charges, subscription.Charge{Price: p, Plan: string(rune('a' + n)), Service: in, Position: position})
		}
		out = append(out, s)
	}
	return out
}

func scale(n int) func(string) int { return func(string) int { return n } }

// TestCeilingIsTheLargestThatFits: one more unit would cost more than what is left, whatever prices the meter has and had.
func TestCeilingIsTheLargestThatFits(t *testing.T) {
	t.Parallel()
	flat := priced("c", "calls", "1", "0")
	flat.MaximumSpend = new(money.MustDecimal("50"))
	for name, p := range map[string]*spendcap.Period{
		"one price":   spendcap.NewPeriod(spans([]price.Price{priced("a", "calls", "0", "0.25"), priced("x", "other", "9", "9")}), scale(0)),
		"two prices":  spendcap.NewPeriod(spans([]price.Price{priced("a", "calls", "0", "0.25"), priced("b", "calls", "0.1", "0.3")}), scale(0)),
		"fine scale":  spendcap.NewPeriod(spans([]price.Price{priced("a", "calls", "0.5", "0.7"), priced("b", "calls", "0", "0.01")}), scale(3)),
		"free at end": spendcap.NewPeriod(spans([]price.Price{priced("a", "calls", "1", "0")}), scale(0)),
		"an upgrade":  spendcap.NewPeriod(spans([]price.Price{priced("a", "calls", "0", "0.25")}, []price.Price{priced("a", "calls", "0.5", "0.1")}), scale(0)),
		"a maximum":   spendcap.NewPeriod(spans([]price.Price{priced("a", "calls", "0", "0.25")}, []price.Price{flat}), scale(0)),
	} {
		use := spendcap.Use{Low: []int64{7, 0}[2-len(p.Spans):], High: []int64{7, 0}[2-len(p.Spans):]}
		for _, left := range []string{"0", "0.1", "1", "9.99", "10", "123.45"} {
			units, err := p.Ceiling("calls", use, money.MustDecimal(left).Rational())
			if err != nil {
				t.Fatal(err)
			}
			at := func(n int64) money.Rational {
				u := spendcap.Use{Low: use.Low, High: append([]int64{}, use.High...)}
				u.High[len(u.High)-1] = n
				sum, err := p.Charge("calls", u)
				if err != nil {
					t.Fatal(err)
				}
				return sum
			}
			if units == math.MaxInt64 {
				continue
			}
			if at(units).Cmp(money.MustDecimal(left).Rational()) > 0 {
				t.Errorf("%s: %d units cost %s, of %s", name, units, at(units), left)
			}
			if at(units+1).Cmp(money.MustDecimal(left).Rational()) <= 0 {
				t.Errorf("%s: one more than %d units would still fit %s", name, units, left)
			}
		}
	}
}

// TestChargeIsTheMost: where it is not known what was used before a change of prices, the charge is no less than that of anything
// that it may have been, and exact where it is known.
func TestChargeIsTheMost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]string{"0", "0.1", "0.25", "1", "3"})
		var prices [][]price.Price
		for range rapid.IntRange(1, 4).Draw(t, "spans") {
			p := priced("a", "calls", unit.Draw(t, "first"), unit.Draw(t, "then"))
			if rapid.Bool().Draw(t, "included") {
				p.Included = money.FromInt(3)
			}
			prices = append(prices, []price.Price{p})
		}
		p := spendcap.NewPeriod(spans(prices...), scale(0))
		var u, is spendcap.Use
		for range prices {
			low := rapid.Int64Range(0, 20).Draw(t, "low")
			high := low + rapid.Int64Range(0, 20).Draw(t, "more")
			used := rapid.Int64Range(low, high).Draw(t, "used")
			u.Low, u.High = append(u.Low, low), append(u.High, high)
			is.Low, is.High = append(is.Low, used), append(is.High, used)
		}
		most, err := p.Charge("calls", u)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Charge("calls", is)
		if err != nil {
			t.Fatal(err)
		}
		// Independently: each span costs what all up to its end costs at its price, less what came before.
		var want money.Rational
		before := int64(0)
		for n := range prices {
			cost := func(q int64) money.Rational {
				d, _, err := prices[n][0].Rate(money.FromInt(q))
				if err != nil {
					t.Fatal(err)
				}
				return d.Rational()
			}
			part, err := cost(before + is.Low[n]).Sub(cost(before))
			if err == nil {
				want, err = want.Add(part)
			}
			if err != nil {
				t.Fatal(err)
			}
			before += is.Low[n]
		}
		if got.Cmp(want) != 0 {
			t.Fatalf("%v costs %s, want %s", is.Low, got, want)
		}
		if most.Cmp(got) < 0 {
			t.Fatalf("%v costs %s, and at most %s", is.Low, got, most)
		}
	})
}
