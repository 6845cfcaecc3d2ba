package rules

import (
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// Two prices on one meter would stand on two lines with the same quantity, and the books could not tell which is right.
func TestOnePriceForEachMeter(t *testing.T) {
	t.Parallel()
	calls := price.Price{Key: "calls", Meter: "api_calls", Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{{UnitAmount: money.FromInt(1)}}}
	again := calls
	again.Key = "again"
	flat := price.Price{Key: "flat", Model: price.Flat, Charge: price.InAdvance, Amount: money.FromInt(1)}
	flat2 := flat
	flat2.Key = "flat2"
	c := &catalog.Catalog{
		Meters: []catalog.Meter{{Key: "api_calls", Event: "request", Aggregation: meter.Count}},
		Plans:  []catalog.Plan{{Key: "pro", Currency: money.MustCurrency("USD"), Prices: []price.Price{calls, flat, flat2, again}}},
	}
	got := Validate(c)
	if len(got) != 1 || got[0].Path != "plans[0].prices[3].meter" || !strings.Contains(got[0].Message, `"calls"`) {
		t.Errorf("problems %+v", got)
	}
}

// TestFiltersSideBySide: two prices may charge one meter where a dimension that both name has another value in each, and only there.
func TestFiltersSideBySide(t *testing.T) {
	t.Parallel()
	filter := func(pairs ...string) []meter.Dimension {
		var out []meter.Dimension
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, meter.Dimension{Name: pairs[i], Value: pairs[i+1]})
		}
		return out
	}
	for name, tt := range map[string]struct {
		a, b    []meter.Dimension
		overlap bool
	}{
		"none":            {nil, nil, true},
		"one":             {filter("region", "eu"), nil, true},
		"the same":        {filter("region", "eu"), filter("region", "eu"), true},
		"apart":           {filter("region", "eu"), filter("region", "us"), false},
		"narrower":        {filter("region", "eu"), filter("region", "eu", "tier", "gold"), true},
		"other dimension": {filter("region", "eu"), filter("tier", "gold"), true},
		"apart in one":    {filter("region", "eu", "tier", "gold"), filter("region", "eu", "tier", "free"), false},
	} {
		a := price.Price{Meter: "calls", Model: price.Unit, Filter: tt.a}
		b := price.Price{Meter: "calls", Model: price.Unit, Filter: tt.b}
		if catalog.Overlap(&a, &b) != tt.overlap || catalog.Overlap(&b, &a) != tt.overlap {
			t.Errorf("%s: overlap is not %v", name, tt.overlap)
		}
		b.Meter = "tokens"
		if catalog.Overlap(&a, &b) {
			t.Errorf("%s: two meters overlap", name)
		}
	}
}
