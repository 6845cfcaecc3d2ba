package statement

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

func decp(s string) *money.Decimal { return new(dec(s)) }

func TestPriceText(t *testing.T) {
	t.Parallel()
	eu := []meter.Dimension{{Name: "region", Value: "eu"}, {Name: "price_tier", Value: "gold"}}
	tests := map[string]price.Price{
		"$20.00; each month":                  {Model: price.Flat, Amount: dec("20")},
		"$0.0004 each; every 2 weeks":         {Model: price.Unit, UnitAmount: dec("0.0004"), Every: period.MustEvery("2 weeks")},
		"$0.25 each; each month":              {Model: price.Volume, Tiers: []price.Tier{{UnitAmount: dec("0.25")}}},
		"$0.50 per 1 000 started; each month": {Model: price.Package, Amount: dec("0.5"), Size: dec("1000")},
		"$5.00 per 1 000 started, the first 250 free, where region is eu and price tier is gold, at least $1.00, at most $99.99; each month": {
			Model: price.Package, Amount: dec("5"), Size: dec("1000"), Free: dec("250"), Filter: eu, MinimumSpend: decp("1"), MaximumSpend: decp("99.99"),
		},
		"up to 10 000 free, up to 50 000 $0.0004 each + $2.00, above $3.00; each month": {
			Model: price.Graduated, Tiers: []price.Tier{{UpTo: decp("10000")}, {UpTo: decp("50000"), UnitAmount: dec("0.0004"), FlatAmount: dec("2")}, {FlatAmount: dec("3")}},
		},
		"up to 10 $5.00 each, above $4.00 each; all at the rate that is reached, the first 3 included; each month": {
			Model: price.Volume, Tiers: []price.Tier{{UpTo: decp("10"), UnitAmount: dec("5")}, {UnitAmount: dec("4")}}, Included: dec("3"),
		},
		"up to 10 free, above $50.00 in all; each month": {Model: price.Stairstep, Tiers: []price.Tier{{UpTo: decp("10")}, {FlatAmount: dec("50")}}},
		"up to 1 000 3 % + $1.00, above 2.5 %; each month": {
			Model: price.GraduatedPercentage, Tiers: []price.Tier{{UpTo: decp("1000"), Percent: dec("3"), FlatAmount: dec("1")}, {Percent: dec("2.5")}},
		},
		"2.9 % + $0.30 per event; each month":                     {Model: price.Percentage, Percent: dec("2.9"), Fixed: dec("0.3")},
		"2.9 % of the amount, the first $100.00 free; each month": {Model: price.Percentage, Percent: dec("2.9"), FreeAmount: decp("100")},
		"1 % of the amount, at least $0.50 per event, at most $20.00 per event, the first 5 events free, up to $100.00; each month": {
			Model: price.Percentage, Percent: dec("1"), Min: decp("0.5"), Max: decp("20"), FreeEvents: 5, FreeAmount: decp("100"),
		},
		"what each event says that it costs; each month": {Model: price.Dynamic},
		"$0.01 each where region is eu and price tier is gold, else $0.001 each; each month": {
			Model: price.Matrix, UnitAmount: dec("0.001"), Cells: []price.Cell{{When: eu, UnitAmount: dec("0.01")}},
		},
		"a price of a kind that this page does not know; each month": {Model: 99},
	}
	for want, p := range tests {
		got := strings.NewReplacer("\u202f", " ", "\u00a0", " ").Replace(PriceText(&p, money.MustCurrency("USD")))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// TestLongPriceText: a price with many parts stays one line.
func TestLongPriceText(t *testing.T) {
	t.Parallel()
	long := price.Price{Model: price.Graduated}
	for i := range 9 {
		long.Tiers = append(long.Tiers, price.Tier{UpTo: new(money.FromInt(int64(i + 1))), UnitAmount: dec("1")})
		long.Cells = append(long.Cells, price.Cell{When: []meter.Dimension{{Name: "a", Value: "b"}}})
	}
	long.Tiers[8].UpTo = nil
	if got := PriceText(&long, money.MustCurrency("USD")); strings.Count(got, "up to") != partsShown || !strings.Contains(got, "4 more tiers, above $1.00 each") {
		t.Error(got)
	}
	long.Model = price.Matrix
	if got := PriceText(&long, money.MustCurrency("USD")); strings.Count(got, "where") != partsShown || !strings.Contains(got, "5 more of such, else") {
		t.Error(got)
	}
}
