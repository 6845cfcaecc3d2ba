package bill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/store"
)

// term is a subscription with its customer's zone: when its billing periods are. It needs no catalog.
type term struct {
	account.Subscription
	customer account.Customer
}

// period is the billing period that contains t, cut short where the subscription ends; ok is false outside of it.
func (t term) period(at time.Time) (p period.Interval, ok bool) {
	if t.ended(at) {
		return period.Interval{}, false
	}
	if p, ok = t.Anchor(t.customer.Zone).Period(at); !ok {
		return period.Interval{}, false
	}
	if t.ended(p.End) {
		p.End = t.End
	}
	return p, true
}

func (t term) ended(at time.Time) bool { return !t.End.IsZero() && !at.Before(t.End) }

// periodsMax bounds the billing periods of one subscription: 100 years.
const periodsMax = 1200

// periods lists the billing periods that began at or before until, oldest first.
func (t term) periods(until time.Time) []period.Interval {
	list := t.Anchor(t.customer.Zone).Periods(until, periodsMax)
	for i, p := range list {
		if t.ended(p.Start) {
			return list[:i]
		}
		if t.ended(p.End) {
			list[i].End = t.End
		}
	}
	return list
}

// contract is a term with the prices it is pinned to.
type contract struct {
	term
	plan   catalog.Plan
	meters []string                     // that a price charges, in declared order, each once
	kinds  map[string]meter.Aggregation // of the meters
}

func (s *Service) contract(ctx context.Context, t term) (contract, error) {
	version, err := s.cfg.Directory.Version(ctx, t.CatalogVersion)
	if err != nil {
		return contract{}, fmt.Errorf("subscription %s: catalog version %d: %w", t.ID, t.CatalogVersion, err)
	}
	plan, ok := version.Plan(t.Plan)
	if !ok {
		return contract{}, fmt.Errorf("subscription %s: catalog version %d has no plan %q", t.ID, t.CatalogVersion, t.Plan)
	}
	c := contract{term: t, plan: plan, kinds: map[string]meter.Aggregation{}}
	for _, p := range plan.Prices {
		if p.Model != price.Flat && !slices.Contains(c.meters, p.Meter) {
			c.meters = append(c.meters, p.Meter)
			m, _ := version.Meter(p.Meter)
			c.kinds[p.Meter] = m.Aggregation
		}
	}
	return c, nil
}

// contracts are a customer's, oldest first.
func (s *Service) contracts(ctx context.Context, customer account.Customer) ([]contract, error) {
	subscriptions := s.cfg.Directory.SubscriptionsOf(customer.ID)
	list := make([]contract, 0, len(subscriptions))
	for _, sub := range subscriptions {
		c, err := s.contract(ctx, term{sub, customer})
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// active is the contract in force now; ok is false without one.
func (s *Service) active(ctx context.Context, customer account.Customer, now time.Time) (c contract, ok bool, err error) {
	sub, ok := s.cfg.Directory.ActiveSubscription(customer.ID, now)
	if !ok {
		return contract{}, false, nil
	}
	c, err = s.contract(ctx, term{sub, customer})
	return c, err == nil, err
}

// usage is what the contract's prices charge in a period: all of it, or with a close only what was appended up to the
// close's position. So a second attempt at closing rates the same, whatever arrived in between.
func (c contract) usage(v store.View, in period.Interval, closing *store.Close) ([]invoice.Usage, error) {
	if in.Empty() {
		return nil, nil
	}
	list := make([]invoice.Usage, 0, len(c.meters))
	for _, m := range c.meters {
		key := store.SeriesKey{CustomerID: c.CustomerID, Meter: m}
		if apart(c.kinds[m]) {
			quantity, err := measure(v, key, in, c.kinds[m], closing)
			if err != nil {
				return nil, err
			}
			list = append(list, invoice.Usage{Meter: m, Quantity: quantity})
			continue
		}
		used, err := v.Usage(key, in)
		if err != nil {
			return nil, fmt.Errorf("usage of meter %q: %w", m, err)
		}
		quantity := used.Sum
		if closing != nil {
			late, err := v.Late(key, in, closing.Position)
			if err != nil {
				return nil, fmt.Errorf("late usage of meter %q: %w", m, err)
			}
			if quantity, err = quantity.Sub(late); err != nil {
				return nil, fmt.Errorf("usage of meter %q: %w", m, err)
			}
		}
		list = append(list, invoice.Usage{Meter: m, Quantity: quantity})
	}
	return list, nil
}

// draft builds the invoice of a period from its usage: with the in-advance prices of the period that follows, if one does.
func (c contract) draft(in period.Interval, usage []invoice.Usage, position uint64, preview bool) (invoice.Invoice, error) {
	next, _ := c.period(in.End)
	inv, err := invoice.Build(invoice.Input{
		SubscriptionID: c.ID,
		CustomerID:     c.CustomerID,
		Plan:           c.Plan,
		CatalogVersion: c.CatalogVersion,
		Currency:       c.plan.Currency,
		Prices:         c.plan.Prices,
		Closing:        in,
		Next:           next,
		Usage:          usage,
		Position:       position,
		Rounding:       money.HalfUp,
		Preview:        preview,
	})
	if err != nil {
		return invoice.Invoice{}, fmt.Errorf("subscription %s: %w", c.ID, err)
	}
	return inv, nil
}
