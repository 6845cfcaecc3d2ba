package price

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/money"
)

// ChargeFor charges one split of a period, exactly; nothing is rounded. In this order: Included and Free units come off, the model
// charges the rest, then the discounts, the maximum, the minimum.
//
// Over the splits of a period the model's charge adds up to that of the whole: a split pays what everything up to its end costs,
// less what everything before it costs. So a volume price that reaches a cheaper tier pays a part back. Discounts are of one
// split. The minimum and the maximum count Prior.Amount.
//
// The amount of a line of usage or of a flat amount is its quantity times its unit amount. A charge of nothing may have no lines.
// The errors are ErrInvalid, with an *Invalid, and money.ErrOverflow.
func (p *Price) ChargeFor(u Usage) (Result, error) {
	s, err := p.charge(&u)
	if err == nil {
		err = s.adjust(p, &u)
	}
	if err != nil {
		return Result{}, fmt.Errorf("price %q: %w", p.Key, err)
	}
	return Result{Amount: s.sum, Lines: s.lines}, nil
}

// charge is what the model charges, before discounts.
func (p *Price) charge(u *Usage) (*sheet, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if p.Model.ByEvent() {
		if err := u.add(); err != nil {
			return nil, err
		}
	}
	if err := u.check(p); err != nil {
		return nil, err
	}
	sp, err := p.span(u)
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	switch p.Model {
	case Flat:
		if u.Position == Single || u.Position == First {
			s.add(FlatLine, 0, money.FromInt(1), p.Amount)
		}
	case Unit:
		s.usage(0, sp.from, sp.to, p.UnitAmount)
	case Dynamic:
		s.usage(0, sp.from, sp.to, money.FromInt(1))
	case Graduated, GraduatedPercentage:
		p.graduated(s, sp)
	case Volume, Stairstep:
		p.reached(s, sp)
	case Package:
		p.packages(s, sp)
	case Percentage:
		p.percentage(s, sp, u)
	case Matrix:
		p.matrix(s, sp, u)
	}
	return s, s.err
}

// span is where a split lies in its period, in units that are charged.
type span struct {
	from, to money.Decimal // cumulative, without the free units
	free     money.Decimal // units that come off first, of the whole period
	fresh    bool          // nothing was charged for this period yet: what is due at zero usage is due now
}

func (p *Price) span(u *Usage) (span, error) {
	s := span{fresh: (u.Position == Single || u.Position == First) && u.Prior.Quantity.IsZero()}
	var err error
	if s.free, err = p.Included.Add(u.Free); err != nil {
		return s, err
	}
	if s.from, err = above(u.Prior.Quantity, s.free); err != nil {
		return s, err
	}
	end, err := u.Prior.Quantity.Add(u.Quantity)
	if err != nil {
		return s, err
	}
	s.to, err = above(end, s.free)
	return s, err
}

// above is the part of quantity above free.
func above(quantity, free money.Decimal) (money.Decimal, error) {
	if free.IsZero() {
		return quantity, nil
	}
	if quantity.Cmp(free) <= 0 {
		return money.Decimal{}, nil
	}
	return quantity.Sub(free)
}

// sheet collects lines and their sum. After an error nothing more is added.
type sheet struct {
	lines []Line
	sum   money.Rational
	err   error
}

// add appends quantity × unit.
func (s *sheet) add(kind LineKind, tier int, quantity, unit money.Decimal) {
	if s.err != nil {
		return
	}
	amount, err := quantity.Rational().Mul(unit.Rational())
	if err != nil {
		s.err = err
		return
	}
	s.put(Line{Kind: kind, Tier: tier, Quantity: quantity, UnitAmount: unit, Amount: amount})
}

func (s *sheet) put(line Line) {
	if s.err != nil {
		return
	}
	if s.lines == nil {
		s.lines = make([]Line, 0, 4)
	}
	s.lines = append(s.lines, line)
	s.sum, s.err = s.sum.Add(line.Amount)
}

// usage appends the units from one cumulative quantity to another, unless there are none.
func (s *sheet) usage(tier int, from, to, unit money.Decimal) {
	part, err := to.Sub(from)
	switch {
	case err != nil:
		s.fail(err)
	case !part.IsZero():
		s.add(UsageLine, tier, part, unit)
	}
}

func (s *sheet) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// flat appends so many times a flat amount, unless that is nothing.
func (s *sheet) flat(tier int, times int64, amount money.Decimal) {
	if times != 0 && !amount.IsZero() {
		s.add(FlatLine, tier, money.FromInt(times), amount)
	}
}

// adjust appends discounts, maximum and minimum.
func (s *sheet) adjust(p *Price, u *Usage) error {
	for _, d := range u.Discounts {
		off, err := d.of(s.sum)
		if err != nil {
			return err
		}
		if !off.IsZero() {
			s.put(Line{Kind: DiscountLine, Amount: off.Neg()})
		}
	}
	low, high := u.bounds(p)
	if high != nil {
		total, err := u.Prior.Amount.Add(s.sum)
		if err != nil {
			return err
		}
		excess, err := total.Sub(high.Rational())
		if err != nil {
			return err
		}
		if excess = excess.Min(s.sum); excess.Sign() > 0 {
			s.put(Line{Kind: MaximumLine, Amount: excess.Neg()})
		}
	}
	if low != nil && (u.Position == Single || u.Position == Last) {
		total, err := u.Prior.Amount.Add(s.sum)
		if err != nil {
			return err
		}
		missing, err := low.Rational().Sub(total)
		if err != nil {
			return err
		}
		if missing.Sign() > 0 {
			s.put(Line{Kind: MinimumLine, Amount: missing})
		}
	}
	return s.err
}

// of is what the discount takes off. What is paid back is paid back less its percent, so that splits add up.
func (d Discount) of(left money.Rational) (money.Rational, error) {
	if d.Percent != nil {
		share, err := hundredth(*d.Percent)
		if err != nil {
			return money.Rational{}, err
		}
		return left.Mul(share.Rational())
	}
	return d.Amount.Rational().Min(left).Max(money.Rational{}), nil
}

// hundredth is a percentage as a factor.
func hundredth(percent money.Decimal) (money.Decimal, error) {
	return percent.Mul(money.FromScaled(1, 2))
}
