package subscription

import (
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// Span is a part of a billing period in which usage is charged in one and the same way.
type Span struct {
	period.Interval
	// Charges are those of usage: their Service is the span, or ends with it. Position is First or Middle: what is due at the
	// period's end is not due yet. Trials have none.
	Charges []Charge
}

// UsageAt lists the spans of the billing period around an instant, oldest first; the last one contains it. Its end is that of the
// period, or of the segments that are charged alike. nil outside of the subscription. ErrInvalid, money.ErrOverflow.
func UsageAt(segments []Segment, zone period.Zone, plans Plans, at time.Time) ([]Span, error) {
	i := find(segments, at)
	if i < 0 {
		return nil, nil
	}
	p, ok := segments[i].Anchor.Period(at)
	if !ok {
		return nil, nil
	}
	p = within(p, anchored(segments, i))
	charges, err := Charges(segments, zone, plans, period.Interval{Start: at, End: at})
	if err != nil {
		return nil, err
	}
	var out []Span
	for k := pricedFrom(segments, i); ; k = pricedFrom(segments, k-1) {
		span := period.Interval{Start: segments[k].Start, End: p.End}
		if len(out) > 0 {
			span.End = out[0].Start
		} else if end := pricedUntil(segments, i); !end.IsZero() && end.Before(p.End) {
			span.End = end
		}
		span.Start = later(p.Start, span.Start)
		out = slices.Insert(out, 0, Span{Interval: span, Charges: usageIn(charges, span)})
		if k == 0 || !p.Start.Before(span.Start) {
			return out, nil
		}
	}
}

// pricedFrom is the first of the segments up to i that are charged as it is.
func pricedFrom(segments []Segment, i int) int {
	for i > 0 && segments[i-1].chargedAs(&segments[i]) {
		i--
	}
	return i
}

// pricedUntil is where the segments from i on end that are charged as it is; zero: never.
func pricedUntil(segments []Segment, i int) time.Time {
	for i+1 < len(segments) && segments[i+1].chargedAs(&segments[i]) {
		i++
	}
	return segments[i].End
}

// chargedAs says that usage is charged alike in two neighbours.
func (g *Segment) chargedAs(h *Segment) bool {
	return g.Plan == h.Plan && g.Version == h.Version && g.Paused == h.Paused && g.Trial == h.Trial && g.Anchor.Equal(h.Anchor) &&
		slices.EqualFunc(g.AddOns, h.AddOns, func(a, b AddOn) bool { return a.Key == b.Key && a.Version == b.Version }) &&
		slices.EqualFunc(g.Prices, h.Prices, func(a, b price.Price) bool { return samePrice(&a, &b) })
}

// usageIn are the charges of usage in a span.
func usageIn(list []Charge, in period.Interval) (out []Charge) {
	for _, c := range list {
		if c.Price.Licensed() || !c.Service.Start.Before(in.End) || !in.Start.Before(c.Service.End) {
			continue
		}
		if c.Position = c.Position.Open(); c.Service.Start.Before(in.Start) {
			c.Service.Start, c.Position = in.Start, price.Middle
		}
		if in.End.Before(c.Service.End) {
			c.Service.End = in.End
		}
		out = append(out, c)
	}
	return out
}

// Precedes says that o is what c goes on from, both of one meter, filter and period, and o of an earlier time. Where a plan has
// several prices on the same usage, those of one key follow each other, and what has no earlier one of its key follows the first of
// the other plan. The group has all charges of that meter, filter and period.
func Precedes(o, c *Charge, group []*Charge) bool {
	if !o.Service.Start.Before(c.Service.Start) {
		return false
	}
	if o.Plan == c.Plan && o.AddOn == c.AddOn {
		return o.Price.Key == c.Price.Key
	}
	for _, x := range group { // the first price of o's plan and time
		if x.Service.Start.Equal(o.Service.Start) && x.Plan == o.Plan && x.AddOn == o.AddOn {
			return x == o
		}
	}
	return false
}
