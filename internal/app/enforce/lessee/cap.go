package lessee

import (
	"context"

	"github.com/tallystick/tallystick/internal/app/authority/spendcap"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
)

// Cap is a cap on usage charges in a billing period, as it is shown: its worth in units is the authority's business.
type Cap struct {
	spendcap.Cap
	Currency money.Currency
}

// spendCap prices a cap for a customer.
func (l *Lessee) spendCap(ctx context.Context, b *basis, lim *catalog.Limit) (*Cap, error) {
	pinned, err := l.cfg.Directory.Version(ctx, b.sub.CatalogVersion)
	if err != nil {
		return nil, err
	}
	var amount money.Decimal // credits in money have none
	if lim.SpendCap != nil {
		amount = *lim.SpendCap
	}
	return newCap(b.plans, pinned, b.plan, amount), nil
}

func newCap(plans, pinned *catalog.Compiled, plan catalog.Plan, amount money.Decimal) *Cap {
	k := &Cap{Cap: spendcap.Cap{Amount: amount, Scales: map[string]int{}}, Currency: plan.Currency}
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
			k.Prices = append(k.Prices, pr)
			k.Scales[pr.Meter] = m.Scale
		}
	}
	return k
}
