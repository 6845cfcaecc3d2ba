package lessee

import (
	"context"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// Cap is a cap on usage charges in a billing period, as it is shown: its worth in units is the authority's business.
type Cap struct {
	Amount   money.Decimal
	Currency money.Currency
	prices   []price.Price // metered prices of the plan, as pinned by the subscription
	scales   map[string]int
}

// spendCap prices a cap for a customer.
func (l *Lessee) spendCap(ctx context.Context, b *basis, amount money.Decimal) (*Cap, error) {
	pinned, err := l.cfg.Directory.Version(ctx, b.sub.CatalogVersion)
	if err != nil {
		return nil, err
	}
	return newCap(b.plans, pinned, b.plan, amount), nil
}

func newCap(plans, pinned *catalog.Compiled, plan catalog.Plan, amount money.Decimal) *Cap {
	k := &Cap{Amount: amount, Currency: plan.Currency, scales: map[string]int{}}
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
			k.prices = append(k.prices, pr)
			k.scales[pr.Meter] = m.Scale
		}
	}
	return k
}

// Charge is what a quantity of one meter costs, in the meter's scale.
func (k *Cap) Charge(meterKey string, units int64) (money.Decimal, error) {
	var sum money.Decimal
	for i := range k.prices {
		if k.prices[i].Meter != meterKey {
			continue
		}
		amount, _, err := k.prices[i].Rate(money.FromScaled(units, k.scales[meterKey]))
		if err != nil {
			return sum, err
		}
		if sum, err = sum.Add(amount); err != nil {
			return sum, err
		}
	}
	return sum, nil
}
