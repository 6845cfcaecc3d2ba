package bill

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// Accrue is what a customer's subscriptions were charged for a span, or what they would have been at the prices of a catalog that
// is not applied: recurring prices by time, usage by what it added to its period's charge. Credits, coupons and tax are left
// out; a minimum counts where its period ends inside. Prices by single events, and of meters that do not add up, count with what
// lies inside alone. The span lies on the grid of the journal's buckets. A plan that the catalog lacks keeps its prices. ok is
// false where there was no subscription.
func (s *Service) Accrue(ctx context.Context, customer account.Customer, in period.Interval, proposed *catalog.Compiled) (c money.Currency, amount money.Rational, ok bool, err error) {
	for _, sub := range s.cfg.Directory.SubscriptionsOf(customer.ID) {
		t, err := s.termAt(ctx, sub.ID, customer, s.cfg.Now(), proposed)
		if err != nil {
			return c, amount, false, err
		}
		if end := t.end(); !t.Start.Before(in.End) || !end.IsZero() && !in.Start.Before(end) {
			continue
		}
		plan, found := t.sold.Plan(t.CatalogVersion, t.Plan)
		if !found {
			return c, amount, false, fmt.Errorf("subscription %s: there is no plan %q", t.ID, t.Plan)
		}
		sum, err := s.accrued(ctx, &t, in)
		if err == nil {
			sum, err = amount.Add(sum)
		}
		if err != nil {
			return c, amount, false, fmt.Errorf("subscription %s: %w", t.ID, err)
		}
		if ok && plan.Currency != c {
			return c, amount, false, fmt.Errorf("subscriptions in %s and %s", c, plan.Currency)
		}
		c, amount, ok = plan.Currency, sum, true
	}
	return c, amount, ok, nil
}

// accrued sums the charges of one subscription.
func (s *Service) accrued(ctx context.Context, t *term, in period.Interval) (sum money.Rational, err error) {
	list, err := subscription.Charges(t.segments, t.customer.Zone, t.sold, in)
	if t.sold.err != nil {
		err = t.sold.err
	}
	if err != nil {
		return sum, err
	}
	position, err := s.position(ctx)
	if err != nil {
		return sum, err
	}
	st := &statement{service: s, term: t, closing: closing{in: in, position: position, known: s.cfg.Now()}, preview: true}
	for i := range list {
		if c := st.inside(&list[i], in); c != nil {
			st.charges = append(st.charges, c)
		}
	}
	if err := st.cut(ctx); err != nil {
		return sum, err
	}
	err = s.cfg.Journal.View(ctx, func(v store.View) error {
		for _, c := range st.charges {
			for i := range c.pieces {
				if c.pieces[i].reading, err = c.series.read(v, c.pieces[i].Interval, position); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return sum, fmt.Errorf("read usage: %w", err)
	}
	if err := st.chargeAll(ctx); err != nil {
		return sum, err
	}
	for _, c := range st.charges {
		part, err := c.accrued(in, t.customer.Zone)
		if err == nil {
			sum, err = sum.Add(part)
		}
		if err != nil {
			return sum, fmt.Errorf("price %q: %w", c.Price.Key, err)
		}
	}
	return sum, nil
}

// inside is a charge with what is to be read of it: usage before the span, which its tiers have used up, and in it.
func (st *statement) inside(x *subscription.Charge, in period.Interval) *charge {
	c := &charge{Charge: *x, looked: true}
	if c.Price.Licensed() {
		return c
	}
	c.series = series{
		SeriesKey: store.SeriesKey{CustomerID: st.term.CustomerID, Meter: c.Price.Meter}, filter: c.Price.Filter,
		kind: st.term.sold.kind(c.Version, c.Price.Meter), by: groupBy(&c.Price),
	}
	c.group = groupKey{c.Price.Meter, filterText(c.Price.Filter), c.Period.Start.UnixMicro(), c.Period.End.UnixMicro()}
	if c.Service.End.After(in.End) {
		c.Service.End = in.End
		c.Position = c.Position.Open()
	}
	if !c.Service.Start.Before(c.Service.End) {
		return nil
	}
	if !c.sliced() && c.Service.Start.Before(in.Start) {
		c.Service.Start = in.Start
		if !c.Service.Start.Before(c.Service.End) {
			return nil
		}
	}
	c.pieces = pieces(c.Service, []time.Time{in.Start})
	return c
}

// accrued is the part of a charge that lies in a span.
func (c *charge) accrued(in period.Interval, zone period.Zone) (sum money.Rational, err error) {
	if !c.Price.Licensed() {
		if len(c.pieces) == 1 {
			if c.pieces[0].Start.Before(in.Start) {
				return sum, nil
			}
			return c.result.Amount, nil
		}
		for i := range c.pieces {
			if p := &c.pieces[i]; !p.Start.Before(in.Start) && err == nil {
				sum, err = sum.Add(p.amount)
			}
		}
		return sum, err
	}
	if c.Price.Prorate == price.ProrateNone {
		if in.Contains(c.Due) {
			sum = c.result.Amount
		}
		return sum, nil
	}
	part := c.Service
	if part.Start.Before(in.Start) {
		part.Start = in.Start
	}
	if part.End.After(in.End) {
		part.End = in.End
	}
	if !part.Start.Before(part.End) {
		return sum, nil
	}
	ratio, err := price.Ratio(part, c.Full, c.Price.Prorate, zone)
	if err != nil {
		return sum, err
	}
	return c.result.Amount.Mul(ratio)
}
