package credits

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/credit"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// charges are what usage in each slice of a pool costs before credits, exactly: what the quantity of the billing period comes to at
// the slice's end, less what it came to at its start.
func (s *Service) charges(ctx context.Context, c account.Customer, pool *credit.Pool, now time.Time) ([]ledger.Use, error) {
	if s.cfg.Charges != nil {
		return s.cfg.Charges(ctx, c.ID, pool.Slices(now))
	}
	var uses []ledger.Use
	r := running{quantity: map[string]money.Decimal{}, amount: map[string]money.Decimal{}}
	subs := s.cfg.Directory.SubscriptionsOf(c.ID)
	for _, in := range pool.Slices(now) {
		sub, p, ok := periodAt(subs, c.Zone, in.Start)
		if !ok {
			continue
		}
		if !p.Start.Equal(r.start) {
			clear(r.quantity)
			clear(r.amount)
			r.start = p.Start
		}
		pinned, err := s.cfg.Directory.Version(ctx, sub.CatalogVersion)
		if err != nil {
			return nil, err
		}
		plan, ok := pinned.Plan(sub.Plan)
		if !ok {
			return nil, fmt.Errorf("catalog version %d has no plan %q: %w", sub.CatalogVersion, sub.Plan, store.ErrCorrupt)
		}
		err = s.cfg.Journal.View(ctx, func(v store.View) error {
			slice, err := r.slice(v, c.ID, plan, in)
			uses = append(uses, slice...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return uses, nil
}

// periodAt is the subscription in force at an instant, with the billing period around it.
func periodAt(subs []account.Subscription, z period.Zone, at time.Time) (account.Subscription, period.Interval, bool) {
	for _, sub := range subs {
		if sub.Active(at) {
			p, ok := sub.Anchor(z).Period(at)
			return sub, p, ok
		}
	}
	return account.Subscription{}, period.Interval{}, false
}

// running is what was used and charged so far in a billing period, by meter.
type running struct {
	start            time.Time
	quantity, amount map[string]money.Decimal
}

// slice charges what was used in a slice, in the order of the plan's prices.
func (r *running) slice(v store.View, customerID string, plan catalog.Plan, in period.Interval) (uses []ledger.Use, err error) {
	done := map[string]bool{}
	for i := range plan.Prices {
		key := plan.Prices[i].Meter
		if key == "" || done[key] {
			continue
		}
		done[key] = true
		rollup, err := v.Usage(store.SeriesKey{CustomerID: customerID, Meter: key}, in)
		if err != nil {
			return nil, err
		}
		quantity, err := r.quantity[key].Add(rollup.Sum)
		if err != nil {
			return nil, err
		}
		var amount money.Decimal
		for _, p := range plan.PricesOf(key) {
			charge, _, err := p.Rate(quantity)
			if err != nil {
				return nil, err
			}
			if amount, err = amount.Add(charge); err != nil {
				return nil, err
			}
		}
		more, err := amount.Sub(r.amount[key])
		if err != nil {
			return nil, err
		}
		r.quantity[key], r.amount[key] = quantity, amount
		if more.Sign() > 0 {
			uses = append(uses, ledger.Use{At: in.Start, Quantity: more.Rational(), Meter: key})
		}
	}
	return uses, nil
}
