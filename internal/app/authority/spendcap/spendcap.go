// Package spendcap turns what is left of a spend cap into units of a meter.
package spendcap

import (
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// Cap is a cap on usage charges in a billing period as a gateway shows it, at the prices of one plan. What it admits is the
// authority's business: see Period.
type Cap struct {
	Amount money.Decimal  // in the plan's currency, grace included
	Prices []price.Price  // metered prices of the plan, as pinned by the subscription
	Scales map[string]int // of each priced meter
}

// Charge is what a quantity of one meter costs.
func (c *Cap) Charge(meterKey string, units int64) (sum money.Decimal, err error) {
	for i := range c.Prices {
		if c.Prices[i].Meter != meterKey {
			continue
		}
		amount, _, err := c.Prices[i].Rate(money.FromScaled(units, c.Scales[meterKey]))
		if err != nil {
			return sum, err
		}
		if sum, err = sum.Add(amount); err != nil {
			return sum, err
		}
	}
	return sum, nil
}
