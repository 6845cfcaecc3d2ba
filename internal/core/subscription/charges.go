package subscription

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// Charges lists what is charged in every period of every price that overlaps in, whole periods at a time; of an empty in, those
// around its instant. Segments are History.Segments. The order is that of the plans' prices as they are declared, plans in the
// order of their beginning, then of add-ons by key; in these, of time.
//
// A licensed price has one charge for each longest span without a change of price or quantity, a metered one for each without a
// change of price. Trials and pauses have none. With price.ProrateNone, the first span of a period in advance, the last one in
// arrears, is charged in full, and the others of that key and period not at all.
//
// ErrInvalid for an in without end, and for segments whose plans there are not; money.ErrOverflow.
func Charges(segments []Segment, zone period.Zone, plans Plans, in period.Interval) ([]Charge, error) {
	if in.End.IsZero() {
		return nil, &Fault{Detail: "Charges are listed for an interval with an end."}
	}
	spans, err := spansOf(segments, plans, in)
	if err != nil {
		return nil, err
	}
	var out []Charge
	for i := range spans {
		if out, err = spans[i].charges(out, zone, in); err != nil {
			return nil, err
		}
	}
	out = once(out)
	for i := range out {
		out[i].Position = position(out, i)
	}
	return out, nil
}

// span is a longest run of segments in which a price is charged in one and the same way.
type span struct {
	Charge // Price, Plan, AddOn, Version, Quantity

	over   period.Interval
	anchor period.Anchor
	whole  period.Interval // of all segments with this anchor
	rank   int             // of the plan
	place  int             // in the list of the plan or add-on
}

// spansOf are the spans of all prices that can have a period that overlaps in.
func spansOf(segments []Segment, plans Plans, in period.Interval) ([]span, error) {
	var spans []span
	open := map[[3]string]int{} // the last span of (plan, add-on, price)
	ranks := map[string]int{}
	for i := range segments {
		g := &segments[i]
		if _, ok := ranks[g.Plan]; !ok {
			ranks[g.Plan] = len(ranks)
		}
		if g.Paused || g.Trial {
			continue
		}
		whole := anchored(segments, i)
		if whole.Start.After(in.End) || (!whole.End.IsZero() && whole.End.Before(in.Start)) {
			continue
		}
		items, err := g.charged(plans)
		if err != nil {
			return nil, err
		}
		for _, next := range items {
			next.over, next.anchor, next.whole, next.rank = g.Interval, g.Anchor, whole, ranks[g.Plan]
			key := next.Key()
			name := [3]string{key.Plan, key.AddOn, key.Price}
			if last, ok := open[name]; ok && spans[last].continues(&next) {
				spans[last].over.End = next.over.End
				continue
			}
			open[name] = len(spans)
			spans = append(spans, next)
		}
	}
	slices.SortStableFunc(spans, func(a, b span) int {
		inPlan := func(s *span) int {
			if s.AddOn == "" {
				return s.rank
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.AddOn, b.AddOn), cmp.Compare(inPlan(&a), inPlan(&b)), cmp.Compare(a.place, b.place),
			cmp.Compare(a.Price.Key, b.Price.Key), a.over.Start.Compare(b.over.Start))
	})
	return spans, nil
}

// anchored is the span of all segments around i with its anchor.
func anchored(segments []Segment, i int) period.Interval {
	first, last := i, i
	for first > 0 && segments[first-1].Anchor.Equal(segments[i].Anchor) {
		first--
	}
	for last+1 < len(segments) && segments[last+1].Anchor.Equal(segments[i].Anchor) {
		last++
	}
	return period.Interval{Start: segments[first].Start, End: segments[last].End}
}

// charged are the prices of a segment with their quantities.
func (g *Segment) charged(plans Plans) ([]span, error) {
	plan, ok := plans.Plan(g.Version, g.Plan)
	if !ok {
		return nil, &Fault{Pointer: "/plan", Detail: fmt.Sprintf("Version %d has no plan %q.", g.Version, g.Plan)}
	}
	var out []span
	add := func(prices []price.Price, addOn AddOn, version int64) {
		for i := range prices {
			s := span{Charge: Charge{Price: g.own(&prices[i]), Plan: g.Plan, AddOn: addOn.Key, Version: version}, place: i}
			if s.Price.Licensed() {
				s.Quantity = addOn.Quantity
				if addOn.Key == "" {
					s.Quantity = g.quantity(s.Price.Key)
				}
			}
			out = append(out, s)
		}
	}
	add(plan.Prices, AddOn{}, g.Version)
	for _, a := range g.AddOns {
		var what catalog.AddOn
		if what, ok = plans.AddOn(a.Version, a.Key); !ok {
			return nil, &Fault{Pointer: "/key", Detail: fmt.Sprintf("Version %d has no add-on %q.", a.Version, a.Key)}
		}
		add(what.Prices, a, a.Version)
	}
	return out, nil
}

// own is the price, or the customer's in its place.
func (g *Segment) own(p *price.Price) price.Price {
	for i := range g.Prices {
		if g.Prices[i].Key == p.Key {
			return g.Prices[i]
		}
	}
	return *p
}

func (g *Segment) quantity(key string) money.Decimal {
	if q, ok := g.Quantities[key]; ok {
		return q
	}
	return money.FromInt(1)
}

// continues says that next is charged as s is, from where s ends.
func (s *span) continues(next *span) bool {
	return s.over.End.Equal(next.over.Start) && s.anchor.Equal(next.anchor) && s.Quantity.Equal(next.Quantity) &&
		samePrice(&s.Price, &next.Price)
}

// charges appends those of the span.
func (s *span) charges(out []Charge, zone period.Zone, in period.Interval) ([]Charge, error) {
	anchor := s.anchor
	anchor.Every = s.Price.Every
	from := s.over.Start
	if in.Start.After(from) {
		from = in.Start
		if p, ok := anchor.Period(from); ok && p.Start.Before(from) {
			from = later(p.Start, s.over.Start)
		}
	}
	for s.over.Contains(from) {
		grid, ok := anchor.Period(from)
		if !ok || after(grid, in) {
			break
		}
		c := s.Charge
		c.Period = within(grid, s.whole)
		c.Service = within(grid, s.over)
		c.Full = anchor.Full(grid)
		var err error
		if c.Ratio, err = part(&c, zone); err != nil {
			return nil, fmt.Errorf("price %q: %w", c.Price.Key, err)
		}
		c.Due = c.Period.End
		if c.Price.Charge == price.InAdvance {
			c.Due = c.Service.Start
		}
		if c.Period.Contains(in.Start) || c.Period.Start.After(in.Start) {
			out = append(out, c)
		}
		from = grid.End
	}
	return out, nil
}

// after says that p begins only when in is over.
func after(p, in period.Interval) bool {
	if in.Empty() {
		return p.Start.After(in.Start)
	}
	return !p.Start.Before(in.End)
}

// within is the part of p that lies in i, whose end may be open.
func within(p, i period.Interval) period.Interval {
	p.Start = later(p.Start, i.Start)
	if !i.End.IsZero() && i.End.Before(p.End) {
		p.End = i.End
	}
	return p
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// part is what is charged of the price for the service.
func part(c *Charge, zone period.Zone) (money.Rational, error) {
	by := c.Price.Prorate
	if !c.Price.Licensed() {
		by = price.ProrateNone
	}
	return price.Ratio(c.Service, c.Full, by, zone)
}

// once leaves one charge of each licensed price without proration in each period, and lets one in advance last to its end.
func once(charges []Charge) []Charge {
	type name struct {
		addOn, price string
		advance      bool
		start        time.Time
	}
	kept := map[name]int{}
	for i := range charges {
		c := &charges[i]
		if !c.Price.Licensed() || c.Price.Prorate != price.ProrateNone {
			continue
		}
		n := name{c.AddOn, c.Price.Key, c.Price.Charge == price.InAdvance, c.Period.Start}
		if other, ok := kept[n]; !ok || charges[other].Service.Start.After(c.Service.Start) == n.advance {
			kept[n] = i
		}
	}
	out := charges[:0]
	for i, c := range charges {
		if c.Price.Licensed() && c.Price.Prorate == price.ProrateNone {
			advance := c.Price.Charge == price.InAdvance
			if kept[name{c.AddOn, c.Price.Key, advance, c.Period.Start}] != i {
				continue
			}
			if advance {
				c.Service.End = c.Period.End
			}
		}
		out = append(out, c)
	}
	return out
}

// position says whether usage of the same period was split before and after a charge.
func position(charges []Charge, i int) price.Position {
	c := &charges[i]
	if c.Price.Licensed() {
		return price.Single
	}
	first, last := true, true
	for j := range charges {
		o := &charges[j]
		if o.Price.Meter != c.Price.Meter || !slices.Equal(o.Price.Filter, c.Price.Filter) || !o.Period.Start.Equal(c.Period.Start) || !o.Period.End.Equal(c.Period.End) {
			continue
		}
		first = first && o.Service.End.After(c.Service.Start)
		last = last && o.Service.Start.Before(c.Service.End)
	}
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
