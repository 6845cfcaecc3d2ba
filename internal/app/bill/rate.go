package bill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// rate reads the usage up to the closing's position, decides which charges are looked at, and rates those.
func (st *statement) rate(ctx context.Context) error {
	if err := st.cut(ctx); err != nil {
		return err
	}
	if err := st.revised(ctx); err != nil {
		return err
	}
	err := st.service.cfg.Journal.View(ctx, func(v store.View) error {
		if v.Position() < st.closing.position {
			return fmt.Errorf("the journal is at %d, before the close's position %d: %w", v.Position(), st.closing.position, store.ErrCorrupt)
		}
		return st.read(v)
	})
	if err != nil {
		return fmt.Errorf("read usage: %w", err)
	}
	if err := st.burnUnits(); err != nil {
		return err
	}
	return st.chargeAll(ctx)
}

// cut has the journal split its buckets where charges begin and end, so that each part can be read.
func (st *statement) cut(ctx context.Context) error {
	seen := map[int64]bool{}
	each := func(list []piece) error {
		for i := range list {
			p := &list[i]
			p.Start, p.End = st.readable(p.Start), st.readable(p.End)
			for _, at := range []time.Time{p.Start, p.End} {
				if seen[at.UnixMicro()] || period.BucketStart(at).Equal(at) {
					continue
				}
				seen[at.UnixMicro()] = true
				if err := st.service.cfg.Journal.Cut(ctx, st.term.CustomerID, at); err != nil {
					return fmt.Errorf("cut at %s: %w", period.Format(at), err)
				}
			}
		}
		return nil
	}
	for _, c := range st.charges {
		if err := each(c.pieces); err != nil {
			return err
		}
	}
	for i := range st.burn.units {
		if err := each(st.burn.units[i].spans); err != nil {
			return err
		}
	}
	return nil
}

// readable is an instant at which the journal's buckets begin. A question about a change that nobody made leaves no cut behind: usage
// is split at the quarter of an hour before it.
func (st *statement) readable(at time.Time) time.Time {
	if slices.ContainsFunc(st.term.imagined, at.Equal) {
		return period.BucketStart(at)
	}
	return at
}

// read takes the journal's side at one cut.
func (st *statement) read(v store.View) error {
	for _, c := range st.charges {
		if st.before == nil || c.Price.Licensed() || c.Due.After(st.since()) || len(c.pieces) == 0 || c.pieces[0].late {
			continue
		}
		whole := period.Interval{Start: c.pieces[0].Start, End: c.pieces[len(c.pieces)-1].End}
		late, err := c.series.moved(v, whole, st.before.position, st.closing.position)
		if err != nil {
			return err
		}
		c.pieces[0].late = late
	}
	if err := st.look(); err != nil {
		return err
	}
	for _, c := range st.charges {
		if !c.looked {
			continue
		}
		for i := range c.pieces {
			var err error
			if c.pieces[i].reading, err = c.series.read(v, c.pieces[i].Interval, st.closing.position); err != nil {
				return err
			}
		}
	}
	return st.readUnits(v)
}

// chargeAll rates what is looked at: licensed prices by themselves, splits of a period one after the other.
func (st *statement) chargeAll(ctx context.Context) error {
	groups := map[groupKey][]*charge{}
	var order []groupKey
	for _, c := range st.charges {
		if !c.looked {
			continue
		}
		if !c.Price.Licensed() {
			if groups[c.group] == nil {
				order = append(order, c.group)
			}
			groups[c.group] = append(groups[c.group], c)
			continue
		}
		var err error
		if c.result, err = c.Price.ChargeLicensed(c.Quantity); err != nil {
			return err
		}
	}
	for _, k := range order {
		if err := st.chargeGroup(ctx, groups[k]); err != nil {
			return err
		}
	}
	return nil
}

// chargeGroup rates the splits of one period in the order of time: each goes on where the ones before have come to. Prices of the
// same plan and time that read the same usage are rated side by side.
func (st *statement) chargeGroup(ctx context.Context, list []*charge) error {
	group := make([]*subscription.Charge, len(list))
	for i, c := range list {
		group[i] = &c.Charge
	}
	for _, c := range list {
		var prior price.Prior
		for _, o := range list { // those of other times, of any plan, in the place of this price
			if !subscription.Precedes(&o.Charge, &c.Charge, group) {
				continue
			}
			u := o.usage()
			var err error
			if prior.Quantity, err = prior.Quantity.Add(u.Quantity); err == nil {
				prior.Amount, err = prior.Amount.Add(o.result.Amount)
			}
			if err != nil {
				return fmt.Errorf("price %q: %w", c.Price.Key, err)
			}
			prior.Events += o.events()
		}
		if err := st.chargeOne(ctx, c, prior); err != nil {
			return err
		}
	}
	return nil
}

// usage is what a charge is on, without units that credits pay for.
func (c *charge) usage() (u price.Usage) {
	for i := range c.pieces {
		p := &c.pieces[i]
		u.Quantity, _ = u.Quantity.Add(p.net())
		u.Events = merge(u.Events, p.events)
	}
	return u
}

// gross is all usage of a charge, and what of it credits pay.
func (c *charge) gross() (quantity, paid money.Decimal, err error) {
	if c.Price.Licensed() {
		return c.Quantity, paid, nil
	}
	for i := range c.pieces {
		if quantity, err = quantity.Add(c.pieces[i].quantity); err == nil {
			paid, err = paid.Add(c.pieces[i].paid)
		}
		if err != nil {
			return quantity, paid, fmt.Errorf("price %q: %w", c.Price.Key, err)
		}
	}
	return quantity, paid, nil
}

func (p *piece) net() money.Decimal {
	net, err := p.quantity.Sub(p.paid)
	if err != nil {
		return p.quantity
	}
	return net
}

func (c *charge) events() (n int64) {
	for i := range c.pieces {
		n += c.pieces[i].count
	}
	return n
}

// merge adds up events of equal dimensions.
func merge(a, b []price.Event) []price.Event {
	out := slices.Clone(a)
	for _, e := range b {
		i, found := slices.BinarySearchFunc(out, e, func(x, y price.Event) int { return compareDimensions(x.Dimensions, y.Dimensions) })
		if !found {
			out = slices.Insert(out, i, e)
			continue
		}
		out[i].Quantity, _ = out[i].Quantity.Add(e.Quantity)
	}
	return out
}

// chargeOne rates one split: all of it for its lines, and where credits in money may pay, each piece by itself.
func (st *statement) chargeOne(ctx context.Context, c *charge, prior price.Prior) (err error) {
	minimum, err := c.Price.MinimumOf(c.Period, c.Full, st.term.customer.Zone)
	if err != nil {
		return fmt.Errorf("price %q: %w", c.Price.Key, err)
	}
	if c.Price.Model == price.Percentage {
		return st.chargeEvents(ctx, c, prior, minimum)
	}
	u := c.usage()
	u.Prior, u.Position, u.Minimum = prior, c.Position, minimum
	if c.Price.Model == price.Dynamic {
		u.Events = nil
	}
	if c.result, err = c.Price.ChargeFor(u); err != nil {
		return err
	}
	if len(c.pieces) == 1 {
		c.pieces[0].amount = c.result.Amount
		return nil
	}
	for i := range c.pieces {
		p := &c.pieces[i]
		part := price.Usage{Quantity: p.net(), Events: p.events, Prior: prior, Position: within(c.Position, i, len(c.pieces)), Minimum: minimum}
		r, err := c.Price.ChargeFor(part)
		if err != nil {
			return err
		}
		p.amount = r.Amount
		if prior.Quantity, err = prior.Quantity.Add(part.Quantity); err == nil {
			prior.Amount, err = prior.Amount.Add(r.Amount)
		}
		if err != nil {
			return fmt.Errorf("price %q: %w", c.Price.Key, err)
		}
	}
	return nil
}

// within is the position of piece i of n of a split.
func within(p price.Position, i, n int) price.Position {
	first := i == 0 && (p == price.Single || p == price.First)
	last := i == n-1 && (p == price.Single || p == price.Last)
	switch {
	case first && last:
		return price.Single
	case first:
		return price.First
	case last:
		return price.Last
	}
	return price.Middle
}

// parts are the looked-at charges as an invoice takes them.
func (st *statement) parts() ([]invoice.Part, error) {
	var out []invoice.Part
	for _, c := range st.charges {
		if !c.looked {
			continue
		}
		quantity, paid, err := c.gross()
		if err != nil {
			return nil, err
		}
		out = append(out, invoice.Part{Charge: c.Charge, Quantity: quantity, Credited: paid, Result: c.result})
	}
	return out, nil
}
