package price

import "github.com/tallystick/tallystick/internal/core/money"

// rate is what a unit costs in the tier.
func (t *Tier) rate() (money.Decimal, error) {
	if t.Percent.IsZero() {
		return t.UnitAmount, nil
	}
	return hundredth(t.Percent)
}

// entered says that the tier's flat amount is due at this cumulative quantity. The first one is entered at zero.
func (p *Price) entered(tier int, quantity money.Decimal) bool {
	if tier == 0 {
		return !p.WaiveAtZero || quantity.Sign() > 0
	}
	return quantity.Cmp(*p.Tiers[tier-1].UpTo) > 0
}

// graduated charges each tier's share of the span, and the flat amounts of tiers that the span enters.
func (p *Price) graduated(s *sheet, sp span) {
	var below money.Decimal // top of the tiers before this one
	for i := range p.Tiers {
		tier := &p.Tiers[i]
		if i > 0 && sp.to.Cmp(below) <= 0 {
			return
		}
		low, high := sp.from, sp.to
		if low.Cmp(below) < 0 {
			low = below
		}
		if tier.UpTo != nil {
			below = *tier.UpTo
			if below.Cmp(high) < 0 {
				high = below
			}
		}
		if low.Cmp(high) < 0 {
			rate, err := tier.rate()
			if err != nil {
				s.fail(err)
				return
			}
			s.usage(i+1, low, high, rate)
		}
		before := p.entered(i, sp.from) && (i > 0 || !sp.fresh)
		if !before && p.entered(i, sp.to) {
			s.flat(i+1, 1, tier.FlatAmount)
		}
	}
}

// reached charges the tier in which the whole quantity lies. Where an earlier split was charged by another tier, that is taken
// back.
func (p *Price) reached(s *sheet, sp span) {
	was, is := p.tierOf(sp.from), p.tierOf(sp.to)
	charged := !sp.fresh && p.entered(0, sp.from)
	due := p.entered(0, sp.to)
	if charged && was == is {
		s.allOf(is+1, sp.from, sp.to, 0, &p.Tiers[is], p.Model)
		return
	}
	var none money.Decimal
	if due {
		s.allOf(is+1, none, sp.to, 1, &p.Tiers[is], p.Model)
	}
	if charged {
		s.allOf(was+1, sp.from, none, -1, &p.Tiers[was], p.Model)
	}
}

// allOf appends units of a volume price's tier and so many times the tier's flat amount.
func (s *sheet) allOf(number int, from, to money.Decimal, times int64, tier *Tier, m Model) {
	if m == Volume {
		s.usage(number, from, to, tier.UnitAmount)
	}
	s.flat(number, times, tier.FlatAmount)
}

// tierOf is the index of the tier that contains the quantity.
func (p *Price) tierOf(quantity money.Decimal) int {
	for i := range p.Tiers {
		if up := p.Tiers[i].UpTo; up == nil || quantity.Cmp(*up) <= 0 {
			return i
		}
	}
	return len(p.Tiers) - 1
}

// packages charges the packages that the span starts.
func (p *Price) packages(s *sheet, sp span) {
	before, err := p.started(sp.from)
	if err != nil {
		s.fail(err)
		return
	}
	now, err := p.started(sp.to)
	if err != nil {
		s.fail(err)
		return
	}
	s.usage(0, before, now, p.Amount)
}

// started is the number of packages that a quantity starts.
func (p *Price) started(quantity money.Decimal) (money.Decimal, error) {
	rest, err := above(quantity, p.Free)
	if err != nil || rest.IsZero() {
		return rest, err
	}
	packages, err := money.NewRational(rest, p.Size)
	if err != nil {
		return rest, err
	}
	return packages.Ceil()
}
