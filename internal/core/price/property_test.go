package price_test

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// tenths draws a decimal with one place, from 0 to high tenths.
func tenths(t *rapid.T, high int64, label string) money.Decimal {
	return money.FromScaled(rapid.Int64Range(0, high).Draw(t, label), 1)
}

// drawPrice draws a graduated price of at most five bands whose bounds lie on tenths.
func drawPrice(t *rapid.T) price.Price {
	p := price.Price{Key: "p", Meter: "m", Model: price.Graduated}
	var bound int64
	for range rapid.IntRange(0, 4).Draw(t, "bounds") {
		bound += rapid.Int64Range(1, 60).Draw(t, "width")
		p.Tiers = append(p.Tiers, price.Tier{UpTo: new(money.FromScaled(bound, 1))})
	}
	p.Tiers = append(p.Tiers, price.Tier{})
	for i := range p.Tiers {
		p.Tiers[i].UnitAmount = money.FromScaled(rapid.Int64Range(0, 40).Draw(t, "unit"), 3)
		if rapid.Bool().Draw(t, "has flat") {
			p.Tiers[i].FlatAmount = tenths(t, 30, "flat")
		}
	}
	return p
}

func rat(d money.Decimal) *big.Rat {
	r, ok := new(big.Rat).SetString(d.String())
	if !ok {
		panic("not a number: " + d.String())
	}
	return r
}

// naive charges tenth by tenth: each belongs to the first band that reaches it.
func naive(p price.Price, quantity int64) *big.Rat {
	sum := rat(p.Tiers[0].FlatAmount)
	entered := 0
	for n := int64(1); n <= quantity; n++ {
		at := 0
		for p.Tiers[at].UpTo != nil && money.FromScaled(n, 1).Cmp(*p.Tiers[at].UpTo) > 0 {
			at++
		}
		for entered < at {
			entered++
			sum.Add(sum, rat(p.Tiers[entered].FlatAmount))
		}
		sum.Add(sum, new(big.Rat).Mul(rat(p.Tiers[at].UnitAmount), big.NewRat(1, 10)))
	}
	return sum
}

func mustRate(t *rapid.T, p price.Price, quantity money.Decimal) money.Decimal {
	amount, _, err := p.Rate(quantity)
	if err != nil {
		t.Fatal(err)
	}
	return amount
}

func TestRateIsTheNaiveSum(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrice(t)
		n := rapid.Int64Range(0, 300).Draw(t, "quantity")
		amount, tiers, err := p.Rate(money.FromScaled(n, 1))
		if err != nil {
			t.Fatal(err)
		}
		if want := naive(p, n); rat(amount).Cmp(want) != 0 {
			t.Fatalf("charged %s, want %s", amount, want.FloatString(6))
		}
		sum, quantity := new(big.Rat), new(big.Rat)
		for _, c := range tiers {
			if c.Quantity.IsZero() && c.FlatAmount.IsZero() {
				t.Fatalf("tier %d is listed and charges nothing", c.Tier)
			}
			sum.Add(sum, rat(c.Amount))
			quantity.Add(quantity, rat(c.Quantity))
		}
		if sum.Cmp(rat(amount)) != 0 || quantity.Cmp(big.NewRat(n, 10)) != 0 {
			t.Fatalf("tiers hold %s for %s, want %s for %d tenths", quantity, sum, amount, n)
		}
	})
}

func TestRateIsMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrice(t)
		low := rapid.Int64Range(0, 1<<40).Draw(t, "low")
		high := rapid.Int64Range(low, 1<<41).Draw(t, "high")
		if less, more := mustRate(t, p, money.FromScaled(low, 2)), mustRate(t, p, money.FromScaled(high, 2)); less.Cmp(more) > 0 {
			t.Fatalf("%d hundredths cost %s, %d cost only %s", low, less, high, more)
		}
	})
}

func TestCeilingIsTheLast(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrice(t)
		limit := money.FromScaled(rapid.Int64Range(0, 200_000).Draw(t, "limit"), 3)
		scale := rapid.IntRange(0, 4).Draw(t, "scale")
		units, unlimited, err := p.Ceiling(limit, scale)
		if err != nil {
			t.Fatal(err)
		}
		if unlimited {
			if charge := mustRate(t, p, money.FromInt(1<<62)); charge.Cmp(limit) > 0 {
				t.Fatalf("called unlimited, but costs %s", charge)
			}
			return
		}
		if charge := mustRate(t, p, money.FromScaled(units, scale)); charge.Cmp(limit) > 0 && units > 0 {
			t.Fatalf("%d units cost %s, above %s", units, charge, limit)
		}
		if charge := mustRate(t, p, money.FromScaled(units+1, scale)); charge.Cmp(limit) <= 0 {
			t.Fatalf("one unit above %d costs %s, still within %s", units, charge, limit)
		}
	})
}
