// Package spendcap turns what is left of a spend cap into units of a meter.
package spendcap

import (
	"errors"
	"math"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// Cap is a cap on usage charges in a billing period. It becomes a ceiling on each priced meter's quantity: the largest one whose
// charge, with what the other meters may already cost on their leases, stays within the cap.
type Cap struct {
	Amount money.Decimal  // in the plan's currency, grace included
	Prices []price.Price  // metered prices of the plan, as pinned by the subscription
	Scales map[string]int // of each priced meter
}

// New prices a spend cap of a plan. Plans is the catalog that the plan stands in, pinned the one whose prices the subscription pays.
func New(l *catalog.Limit, plan *catalog.Plan, plans, pinned *catalog.Compiled) (*Cap, error) {
	c := &Cap{Amount: *l.SpendCap, Scales: map[string]int{}}
	if g := l.Extra(millionths); g > 0 {
		more, err := c.Amount.Mul(money.FromScaled(g, 6))
		if err != nil {
			return nil, err
		}
		if c.Amount, err = c.Amount.Add(more); err != nil {
			return nil, err
		}
	}
	prices := plan.Prices
	if pp, ok := pinned.Plan(plan.Key); ok {
		prices = pp.Prices
	}
	for _, pr := range prices {
		m, ok := plans.Meter(pr.Meter)
		if !ok { // it left the catalog, and is billed all the same
			m, ok = pinned.Meter(pr.Meter)
		}
		if ok && pr.Meter != "" {
			c.Prices = append(c.Prices, pr)
			c.Scales[pr.Meter] = m.Scale
		}
	}
	return c, nil
}

const millionths = 1_000_000

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

// Ceiling is how much of a meter fits into what is left of the cap.
func (c *Cap) Ceiling(meterKey string, left money.Decimal) (int64, error) {
	if left.Sign() < 0 {
		return 0, nil
	}
	most, several := int64(math.MaxInt64), 0
	for k := range c.Prices {
		if c.Prices[k].Meter != meterKey {
			continue
		}
		several++
		units, free, err := c.Prices[k].Ceiling(left, c.Scales[meterKey])
		if err != nil {
			return 0, err
		}
		if !free {
			most = min(most, units)
		}
	}
	if several < 2 {
		return most, nil
	}
	return c.search(meterKey, left, most)
}

// search is the largest quantity up to most at which the charges of several prices of one meter together fit: they only rise.
func (c *Cap) search(meterKey string, left money.Decimal, most int64) (int64, error) {
	low, high := int64(0), most // low fits, or nothing does
	for low < high {
		mid := low + (high-low)/2 + (high-low)%2
		sum, err := c.Charge(meterKey, mid)
		switch {
		case errors.Is(err, money.ErrOverflow):
			high = mid - 1
		case err != nil:
			return 0, err
		case sum.Cmp(left) <= 0:
			low = mid
		default:
			high = mid - 1
		}
	}
	return low, nil
}
