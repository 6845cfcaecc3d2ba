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
