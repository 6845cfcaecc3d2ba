package oracle

import (
	"fmt"
	"math/big"
	"sort"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/price"
)

// usage is what is known now of a meter in a span, of events that have all the dimensions.
func (o *oracle) usage(key string, filter []meter.Dimension, in span) *big.Rat {
	sum := new(big.Rat)
	for _, e := range o.Events {
		if e.Meter != key || e.At.Before(in.from) || !e.At.Before(in.to) || !has(e.Dimensions, filter) {
			continue
		}
		sum.Add(sum, o.value(e))
	}
	return sum
}

func has(dimensions, filter []meter.Dimension) bool {
	for _, want := range filter {
		found := false
		for _, d := range dimensions {
			found = found || d == want
		}
		if !found {
			return false
		}
	}
	return true
}

// value is what an event counts for as is known now.
func (o *oracle) value(e Event) *big.Rat {
	v := new(big.Rat)
	for _, x := range e.Values {
		if !x.Known.After(o.now) {
			v = x.Quantity
		}
	}
	return v
}

// part is one line of a charge.
type part struct {
	what   string
	amount *big.Rat
	used   bool // it is usage, and there was some
}

// expected is what one key is worth in all at an instant, in lines.
type expected struct {
	key     string
	parts   []part
	metered bool
	to      time.Time // end of its period
}

func (e expected) sum() *big.Rat {
	s := new(big.Rat)
	for _, p := range e.parts {
		s.Add(s, p.amount)
	}
	return s
}

// expectations are all charges that are due by an instant, by key, in the order of the pieces.
func (o *oracle) expectations(by time.Time) []expected {
	pieces := o.pieces(o.now.AddDate(1, 2, 0))
	type family struct { // what shares tiers
		meter, filter string
		from, to      time.Time
	}
	prior := map[family][2]*big.Rat{} // quantity and amount so far
	order := make([]int, len(pieces))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return pieces[order[a]].service.from.Before(pieces[order[b]].service.from) })
	byKey := map[string]*expected{}
	var keys []string
	for _, i := range order {
		p := pieces[i]
		if p.due.After(by) {
			continue
		}
		var parts []part
		if p.Meter == "" {
			parts = o.licensed(p)
		} else {
			f := family{p.Meter, fmt.Sprint(p.Filter), p.period.from, p.period.to}
			was, ok := prior[f]
			if !ok {
				was = [2]*big.Rat{new(big.Rat), new(big.Rat)}
			}
			last := true
			for _, q := range pieces {
				if q.Meter == p.Meter && fmt.Sprint(q.Filter) == f.filter && q.period == p.period && q.service.from.After(p.service.from) {
					last = false
				}
			}
			q := o.usage(p.Meter, p.Filter, p.service)
			parts = metered(p, q, was[0], was[1], !ok, last)
			now := [2]*big.Rat{new(big.Rat).Add(was[0], q), new(big.Rat).Set(was[1])}
			for _, x := range parts {
				now[1].Add(now[1], x.amount)
			}
			prior[f] = now
		}
		k := p.key()
		if byKey[k] == nil {
			byKey[k] = &expected{key: k, metered: p.Meter != "", to: p.period.to}
			keys = append(keys, k)
		}
		byKey[k].parts = append(byKey[k].parts, parts...)
	}
	out := make([]expected, len(keys))
	for i, k := range keys {
		out[i] = *byKey[k]
	}
	return append(out, o.commitments(by, out)...)
}

// commitments are the plans' minima and maxima of the billing periods that have ended, on all usage whose period ends in them.
func (o *oracle) commitments(by time.Time, all []expected) []expected {
	var out []expected
	atoms := o.atoms(o.now.AddDate(1, 2, 0))
	for i := 0; i < len(atoms); {
		j := i
		for j < len(atoms) && sameAnchor(atoms[j], atoms[i]) {
			j++
		}
		whole := span{atoms[i].from, atoms[j-1].to}
		bounds := o.boundaries(atoms[i].state, atoms[i].every, atoms[i].calendar, whole.to)
		for k := 1; k < len(bounds); k++ {
			p := intersect(span{bounds[k-1], bounds[k]}, whole)
			if !p.from.Before(p.to) || p.to.After(by) {
				continue
			}
			s, free := o.at(p.to.Add(-time.Microsecond)), true
			for _, a := range atoms[i:j] {
				in := intersect(a.span, p)
				free = free && (a.paused || a.trial || !in.from.Before(in.to))
			}
			plan, _ := o.planOf(s.version, s.plan)
			sum, top, bottom := new(big.Rat), new(big.Rat), new(big.Rat)
			for _, e := range all {
				if e.metered && e.to.After(p.from) && !e.to.After(p.to) {
					sum.Add(sum, e.sum())
				}
			}
			if most := plan.Terms.Maximum; most != nil && !free {
				if gap := new(big.Rat).Sub(rat(most.String()), sum); gap.Sign() < 0 {
					top.Set(gap)
					sum.Add(sum, gap)
				}
			}
			if least := plan.Terms.Minimum; least != nil && !free {
				if gap := new(big.Rat).Sub(rat(least.String()), sum); gap.Sign() > 0 {
					bottom.Set(gap)
				}
			}
			start := p.from.UTC().Format(time.RFC3339Nano)
			out = append(out, expected{key: "maximum|" + start, parts: []part{{what: "maximum", amount: top}}},
				expected{key: "minimum|" + start, parts: []part{{what: "minimum", amount: bottom}}})
		}
		i = j
	}
	return out
}

// licensed charges a quantity of the subscription for a part of a period.
func (o *oracle) licensed(p piece) []part {
	parts := metered(p, p.quantity, new(big.Rat), new(big.Rat), true, true)
	for i := range parts {
		parts[i].amount = new(big.Rat).Mul(parts[i].amount, p.ratio)
	}
	return parts
}

// metered charges a quantity above what earlier splits had.
func metered(p piece, quantity, priorQuantity, priorAmount *big.Rat, first, last bool) []part {
	after := free(p, new(big.Rat).Add(priorQuantity, quantity))
	before := free(p, priorQuantity)
	amount := new(big.Rat).Sub(whole(p.Price, after, true), whole(p.Price, before, true))
	if first {
		amount = whole(p.Price, after, true)
	}
	parts := []part{{p.Key, amount, p.Meter != "" && quantity.Sign() != 0}}
	total := new(big.Rat).Add(priorAmount, amount)
	if p.MaximumSpend != nil {
		if over := new(big.Rat).Sub(total, rat(p.MaximumSpend.String())); over.Sign() > 0 {
			off := new(big.Rat).Neg(over)
			parts = append(parts, part{what: p.Key + " maximum", amount: off})
			total.Add(total, off)
		}
	}
	if p.MinimumSpend != nil && last {
		if under := new(big.Rat).Sub(rat(p.MinimumSpend.String()), total); under.Sign() > 0 {
			parts = append(parts, part{what: p.Key + " minimum", amount: under})
		}
	}
	return parts
}

// free takes the included units off.
func free(p piece, q *big.Rat) *big.Rat {
	left := new(big.Rat).Sub(q, rat(p.Included.String()))
	if left.Sign() < 0 {
		return new(big.Rat)
	}
	return left
}

// whole is what a quantity costs from the start of a period.
func whole(p price.Price, q *big.Rat, atZero bool) *big.Rat {
	switch p.Model {
	case price.Flat:
		return new(big.Rat).Mul(rat(p.Amount.String()), q)
	case price.Unit:
		return new(big.Rat).Mul(rat(p.UnitAmount.String()), q)
	case price.Package:
		q = new(big.Rat).Sub(q, rat(p.Free.String()))
		if q.Sign() <= 0 {
			return new(big.Rat)
		}
		n := new(big.Rat).Quo(q, rat(p.Size.String()))
		packages := new(big.Int).Div(n.Num(), n.Denom())
		if !n.IsInt() {
			packages.Add(packages, big.NewInt(1))
		}
		return new(big.Rat).Mul(rat(p.Amount.String()), new(big.Rat).SetInt(packages))
	case price.Graduated, price.Volume, price.Stairstep:
		return tiers(p, q, atZero)
	case price.Percentage, price.GraduatedPercentage, price.Dynamic, price.Matrix:
	}
	panic("oracle: model " + p.Model.String())
}

// tiers walks through the bands.
func tiers(p price.Price, q *big.Rat, atZero bool) *big.Rat {
	sum, below := new(big.Rat), new(big.Rat)
	for i, t := range p.Tiers {
		reached := q.Cmp(below) > 0 || i == 0 && atZero && (!p.WaiveAtZero || q.Sign() != 0)
		inside := t.UpTo == nil || q.Cmp(rat(t.UpTo.String())) <= 0
		switch {
		case !reached:
			return sum
		case p.Model == price.Graduated:
			top := q
			if !inside {
				top = rat(t.UpTo.String())
			}
			units := new(big.Rat).Sub(top, below)
			sum.Add(sum, units.Mul(units, rat(t.UnitAmount.String())))
			sum.Add(sum, rat(t.FlatAmount.String()))
		case inside && p.Model == price.Volume:
			return new(big.Rat).Add(new(big.Rat).Mul(q, rat(t.UnitAmount.String())), rat(t.FlatAmount.String()))
		case inside:
			return rat(t.FlatAmount.String())
		}
		if inside {
			return sum
		}
		below = rat(t.UpTo.String())
	}
	return sum
}

// round is half away from zero, or to even, in units of 10^-digits.
func round(x *big.Rat, digits int, halfEven bool) int64 {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
	scaled := new(big.Rat).Mul(x, new(big.Rat).SetInt(scale))
	negative := scaled.Sign() < 0
	scaled.Abs(scaled)
	whole := new(big.Int).Div(scaled.Num(), scaled.Denom())
	rest := new(big.Rat).Sub(scaled, new(big.Rat).SetInt(whole))
	half := rest.Cmp(big.NewRat(1, 2))
	if half > 0 || half == 0 && (!halfEven || whole.Bit(0) == 1) {
		whole.Add(whole, big.NewInt(1))
	}
	n := whole.Int64()
	if negative {
		return -n
	}
	return n
}

// invoice is what a closing bills: all that is expected by then, less what was billed.
func (o *oracle) invoice(c closing) (Invoice, error) {
	inv := Invoice{Closing: c.to}
	digits, err := o.digits()
	if err != nil {
		return inv, err
	}
	o.count++
	add := func(what, adjusts string, p part) bool {
		if p.amount.Sign() == 0 && !p.used {
			return false
		}
		minor := round(p.amount, digits, o.HalfEven)
		inv.Lines = append(inv.Lines, Line{What: what, Minor: minor, adjusts: o.first[adjusts]})
		inv.Subtotal += minor
		return true
	}
	still := map[string]bool{}
	for _, e := range o.expectations(c.to) {
		still[e.key] = true
		if was := o.billed[e.key]; was != nil {
			add("adjust "+e.key, e.key, part{amount: new(big.Rat).Sub(e.sum(), was)})
			o.billed[e.key] = e.sum()
			continue
		}
		for _, p := range e.parts {
			if add(p.what, "", p) {
				o.billed[e.key] = e.sum()
				o.first[e.key] = o.count
			}
		}
	}
	var gone []string
	for k := range o.billed {
		if !still[k] && o.billed[k].Sign() != 0 {
			gone = append(gone, k)
		}
	}
	sort.Strings(gone)
	for _, k := range gone {
		add("adjust "+k, k, part{amount: new(big.Rat).Neg(o.billed[k])})
		o.billed[k] = new(big.Rat)
	}
	o.coupons(&inv, digits)
	if o.Tax != nil {
		base := big.NewRat(inv.Subtotal, 1)
		inv.Tax = round(new(big.Rat).Quo(new(big.Rat).Mul(base, o.Tax), big.NewRat(100, 1)), 0, o.HalfEven)
	}
	inv.Total = inv.Subtotal + inv.Tax
	return inv, nil
}

func (o *oracle) digits() (int, error) {
	p, ok := o.planOf(o.History.CatalogVersion, o.History.Plan)
	if !ok {
		return 0, fmt.Errorf("no plan %s", o.History.Plan)
	}
	return p.Currency.Digits(), nil
}

// coupons take off in the order of their redemption, each from what is left. What is given back of an earlier invoice is given
// back less the percentage that was taken off there.
func (o *oracle) coupons(inv *Invoice, digits int) {
	for _, c := range o.Coupons {
		on := o.took[c.ID]
		if on == nil {
			on = map[int]bool{}
			o.took[c.ID] = on
		}
		keeps := c.Percent == nil && c.Periods == 1
		active := !c.Known.After(o.now) && (c.Periods == 0 || keeps || len(on) < c.Periods)
		var left int64
		for _, l := range inv.Lines {
			if l.adjusts > 0 && c.Percent != nil && on[l.adjusts] || (l.adjusts == 0 || c.Percent == nil) && active {
				left += l.Minor
			}
		}
		var off int64
		if c.Percent != nil {
			off = round(new(big.Rat).Quo(new(big.Rat).Mul(big.NewRat(left, 1), c.Percent), big.NewRat(100, 1)), 0, o.HalfEven)
		} else {
			off = round(c.Amount, digits, o.HalfEven)
			if keeps {
				off -= o.used[c.ID]
			}
			off = max(0, min(off, left))
		}
		if off == 0 {
			continue
		}
		on[o.count] = true
		o.used[c.ID] += off
		inv.Lines = append(inv.Lines, Line{What: "coupon " + c.ID, Minor: -off})
		inv.Subtotal -= off
	}
}
