package subscription

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// state is what a subscription has at an instant. Quantities and prices that the plan has no use for wait for one that has.
type state struct {
	plan       catalog.Plan
	version    int64
	anchor     period.Anchor
	quantities map[string]money.Decimal
	addOns     map[string]held
	prices     map[string]price.Price
	paused     bool
	trial      bool
}

// held is an add-on in force, and what it is.
type held struct {
	AddOn

	what catalog.AddOn
}

func (s state) clone() state {
	s.quantities, s.addOns, s.prices = maps.Clone(s.quantities), maps.Clone(s.addOns), maps.Clone(s.prices)
	return s
}

func set[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}

// find is the price of a key as it is now, of the plan or of an add-on, without the customer's own.
func (s *state) find(key string) (p price.Price, addOn string, ok bool) {
	for i := range s.plan.Prices {
		if s.plan.Prices[i].Key == key {
			return s.plan.Prices[i], "", true
		}
	}
	for _, a := range s.addOns {
		for i := range a.what.Prices {
			if a.what.Prices[i].Key == key {
				return a.what.Prices[i], a.Key, true
			}
		}
	}
	return price.Price{}, "", false
}

// segment is the state over an interval.
func (s *state) segment(over period.Interval) Segment {
	g := Segment{Interval: over, Plan: s.plan.Key, Version: s.version, Anchor: s.anchor, Paused: s.paused, Trial: s.trial}
	for i := range s.plan.Prices {
		p := &s.plan.Prices[i]
		if !p.Licensed() {
			continue
		}
		quantity, given := s.quantities[p.Key]
		if !given {
			quantity = money.FromInt(1)
		}
		set(&g.Quantities, p.Key, quantity)
	}
	for _, key := range slices.Sorted(maps.Keys(s.addOns)) {
		g.AddOns = append(g.AddOns, s.addOns[key].AddOn)
	}
	for _, key := range slices.Sorted(maps.Keys(s.prices)) {
		if _, _, ok := s.find(key); ok {
			g.Prices = append(g.Prices, s.prices[key])
		}
	}
	return g
}

// like reports that nothing but the interval differs.
func (g *Segment) like(h *Segment) bool {
	return g.Plan == h.Plan && g.Version == h.Version && g.Paused == h.Paused && g.Trial == h.Trial && g.Anchor.Equal(h.Anchor) &&
		maps.EqualFunc(g.Quantities, h.Quantities, money.Decimal.Equal) &&
		slices.EqualFunc(g.AddOns, h.AddOns, func(a, b AddOn) bool {
			return a.Key == b.Key && a.Version == b.Version && a.Quantity.Equal(b.Quantity)
		}) &&
		slices.EqualFunc(g.Prices, h.Prices, func(a, b price.Price) bool { return samePrice(&a, &b) })
}

// fault is what is wrong with a change.
func fault(c Change, pointer, format string, args ...any) error {
	return &Fault{ChangeID: c.ID, Pointer: pointer, Detail: fmt.Sprintf(format, args...)}
}

// apply does one change to the state, or leaves it as it was with a *Fault. Cancellations are known from the beginning.
func (r *replay) apply(c Change) error {
	switch c.Kind {
	case ToPlan:
		return r.toPlan(c, c.Plan, "/plan")
	case ToPrices:
		return r.toPlan(c, r.now.plan.Key, "/version")
	case Quantity:
		return r.quantity(c)
	case SetAddOn:
		return r.addOn(c)
	case SetPrice:
		return r.price(c)
	case Pause:
		r.now.paused = true
		return nil
	case Resume:
		if !r.now.paused {
			return fault(c, "/kind", "The subscription is not paused at %s.", period.Format(c.At))
		}
		r.now.paused = false
		return nil
	case Trial:
		return r.trial(c)
	case Cancel, Revive:
		return nil
	}
	return fault(c, "/kind", "No change is called %q.", string(c.Kind))
}

func (r *replay) toPlan(c Change, key, pointer string) error {
	plan, ok := r.plans.Plan(c.Version, key)
	if !ok {
		return fault(c, pointer, "Version %d has no plan %q.", c.Version, key)
	}
	if !plan.Currency.Equal(r.currency) {
		return fault(c, pointer, "Plan %q is priced in %s, and the subscription in %s.", key, plan.Currency, r.currency)
	}
	for _, name := range slices.Sorted(maps.Keys(r.now.addOns)) {
		what := r.now.addOns[name].what
		if err := fits(c, pointer, &plan, &what); err != nil {
			return err
		}
	}
	r.now.plan, r.now.version = plan, c.Version
	return nil
}

// fits says why an add-on cannot stand beside a plan.
func fits(c Change, pointer string, plan *catalog.Plan, a *catalog.AddOn) error {
	if !a.For(plan) {
		return fault(c, pointer, "Add-on %q is not sold beside plan %q.", a.Key, plan.Key)
	}
	every := plan.Interval()
	for i := range a.Prices {
		p := &a.Prices[i]
		if _, whole := p.Every.Times(every); !whole {
			return fault(c, pointer, "Price %q of add-on %q is for each %s, which is no multiple of the billing period of plan %q, a %s.",
				p.Key, a.Key, p.Every, plan.Key, every)
		}
		if slices.ContainsFunc(plan.Prices, func(q price.Price) bool { return q.Key == p.Key }) {
			return fault(c, pointer, "Plan %q and add-on %q both have a price %q.", plan.Key, a.Key, p.Key)
		}
	}
	return nil
}

func (r *replay) quantity(c Change) error {
	p, addOn, ok := r.now.find(c.Key)
	switch {
	case !ok:
		return fault(c, "/key", "Plan %q has no price %q.", r.now.plan.Key, c.Key)
	case !p.Licensed():
		return fault(c, "/key", "Price %q is for usage of %q, which is measured.", c.Key, p.Meter)
	case addOn != "":
		return fault(c, "/key", "Price %q is of add-on %q, whose own quantity holds.", c.Key, addOn)
	case c.Quantity.Sign() < 0:
		return fault(c, "/quantity", "The quantity %s is negative.", c.Quantity)
	}
	set(&r.now.quantities, c.Key, c.Quantity)
	return nil
}

func (r *replay) addOn(c Change) error {
	if c.Quantity.Sign() < 0 {
		return fault(c, "/quantity", "The quantity %s is negative.", c.Quantity)
	}
	if c.Quantity.IsZero() {
		if _, ok := r.now.addOns[c.Key]; !ok {
			return fault(c, "/key", "The subscription has no add-on %q at %s.", c.Key, period.Format(c.At))
		}
		delete(r.now.addOns, c.Key)
		return nil
	}
	what, ok := r.plans.AddOn(c.Version, c.Key)
	if !ok {
		return fault(c, "/key", "Version %d has no add-on %q.", c.Version, c.Key)
	}
	if !what.Currency.Equal(r.currency) {
		return fault(c, "/key", "Add-on %q is priced in %s, and the subscription in %s.", c.Key, what.Currency, r.currency)
	}
	if err := fits(c, "/key", &r.now.plan, &what); err != nil {
		return err
	}
	for name, other := range r.now.addOns {
		for i := range what.Prices {
			if p := what.Prices[i].Key; name != c.Key && slices.ContainsFunc(other.what.Prices, func(q price.Price) bool { return q.Key == p }) {
				return fault(c, "/key", "Add-ons %q and %q both have a price %q.", min(name, c.Key), max(name, c.Key), p)
			}
		}
	}
	set(&r.now.addOns, c.Key, held{AddOn{c.Key, c.Version, c.Quantity}, what})
	return nil
}

func (r *replay) price(c Change) error {
	was, _, ok := r.now.find(c.Key)
	if !ok {
		return fault(c, "/key", "Plan %q has no price %q.", r.now.plan.Key, c.Key)
	}
	if c.Price == nil {
		delete(r.now.prices, c.Key)
		return nil
	}
	switch p := c.Price; {
	case p.Key != c.Key:
		return fault(c, "/price/key", "The price is called %q, and what it replaces %q.", p.Key, c.Key)
	case p.Meter != was.Meter:
		return fault(c, "/price/meter", "Price %q is for %s.", c.Key, cmp.Or(was.Meter, "a quantity of the subscription"))
	case !p.Every.Equal(was.Every):
		return fault(c, "/price/every", "Price %q is for each %s.", c.Key, was.Every)
	}
	set(&r.now.prices, c.Key, *c.Price)
	return nil
}

func (r *replay) trial(c Change) error {
	at, until := period.Truncate(c.At), period.Truncate(c.Until)
	switch {
	case !r.now.trial && !at.Equal(r.start):
		return fault(c, "/at", "No trial runs at %s.", period.Format(at))
	case until.Before(at):
		return fault(c, "/until", "A trial cannot end at %s, before the change.", period.Format(until))
	}
	r.now.trial, r.trialEnd = until.After(at), until
	return nil
}

// samePrice reports that both charge the same in the same words.
func samePrice(a, b *price.Price) bool {
	return a.Key == b.Key && a.Name == b.Name && a.Meter == b.Meter && a.Model == b.Model && a.Every.Equal(b.Every) && a.Charge == b.Charge &&
		a.FreeEvents == b.FreeEvents && a.WaiveAtZero == b.WaiveAtZero && a.Prorate == b.Prorate && a.ProrateMin == b.ProrateMin &&
		a.Product == b.Product && slices.Equal(a.Filter, b.Filter) && sameNumbers(a, b) &&
		slices.EqualFunc(a.Tiers, b.Tiers, func(s, t price.Tier) bool {
			return sameOrNone(s.UpTo, t.UpTo) && s.UnitAmount.Equal(t.UnitAmount) && s.FlatAmount.Equal(t.FlatAmount) && s.Percent.Equal(t.Percent)
		}) &&
		slices.EqualFunc(a.Cells, b.Cells, func(s, t price.Cell) bool {
			return slices.Equal(s.When, t.When) && s.UnitAmount.Equal(t.UnitAmount)
		})
}

func sameNumbers(a, b *price.Price) bool {
	return a.Amount.Equal(b.Amount) && a.UnitAmount.Equal(b.UnitAmount) && a.Size.Equal(b.Size) && a.Free.Equal(b.Free) &&
		a.Percent.Equal(b.Percent) && a.Fixed.Equal(b.Fixed) && a.Included.Equal(b.Included) && sameOrNone(a.FreeAmount, b.FreeAmount) &&
		sameOrNone(a.Min, b.Min) && sameOrNone(a.Max, b.Max) && sameOrNone(a.MinimumSpend, b.MinimumSpend) &&
		sameOrNone(a.MaximumSpend, b.MaximumSpend)
}

func sameOrNone(a, b *money.Decimal) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}
