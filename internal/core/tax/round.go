package tax

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/money"
)

// round brings all taxes to minor units: each rate once, over all lines or on each of them.
func (t *table) round() error {
	for rate := range t.rates {
		var group []*money.Rational
		for line := range t.cells {
			cell := t.cells[line][rate]
			if cell == nil {
				continue
			}
			if group = append(group, cell); !t.PerLine {
				continue
			}
			if err := t.roundTogether(group); err != nil {
				return err
			}
			group = group[:0]
		}
		if err := t.roundTogether(group); err != nil {
			return err
		}
	}
	return nil
}

// roundTogether rounds the sum of taxes and gives each its part of that, by largest remainder.
func (t *table) roundTogether(taxes []*money.Rational) error {
	if len(taxes) == 0 {
		return nil
	}
	var total adder
	shares := make([]money.Rational, len(taxes))
	for i, tax := range taxes {
		total.add(*tax)
		shares[i] = *tax
	}
	if total.err != nil {
		return fmt.Errorf("add up a tax: %w", total.err)
	}
	rounded, err := total.sum.Round(t.Currency, t.Rounding)
	if err != nil {
		return fmt.Errorf("round a tax: %w", err)
	}
	parts, err := rounded.Apportion(shares)
	if err != nil {
		return fmt.Errorf("divide a tax: %w", err)
	}
	for i, part := range parts {
		*taxes[i] = part.Decimal().Rational()
	}
	return nil
}

// adder adds up until it overflows.
type adder struct {
	sum money.Rational
	err error
}

func (a *adder) add(part money.Rational) {
	if a.err == nil {
		a.sum, a.err = a.sum.Add(part)
	}
}

// result adds up what the cells have.
func (t *table) result() (Result, error) {
	out := Result{Lines: make([]money.Rational, len(t.Lines))}
	bases, amounts := make([]adder, len(t.rates)), make([]adder, len(t.rates))
	var tax, total adder
	for i := range t.Lines {
		var ofLine adder
		for _, rate := range t.Lines[i].Rates {
			ofLine.add(*t.cells[i][t.index[rate.Key]])
		}
		net := adder{sum: t.Lines[i].Amount, err: ofLine.err}
		if t.Inclusive {
			net.add(ofLine.sum.Neg())
		}
		base := net // grows by each tax
		for _, rate := range t.Lines[i].Rates {
			at := t.index[rate.Key]
			if rate.Compound {
				bases[at].add(base.sum)
			} else {
				bases[at].add(net.sum)
			}
			base.add(*t.cells[i][at])
			amounts[at].add(*t.cells[i][at])
		}
		if base.err != nil {
			return Result{}, fmt.Errorf("line %d: %w", i+1, base.err)
		}
		out.Lines[i] = ofLine.sum
		tax.add(ofLine.sum)
		total.add(base.sum)
	}
	for i, rate := range t.rates {
		if bases[i].err != nil || amounts[i].err != nil {
			return Result{}, fmt.Errorf("rate %q: %w", rate.Key, money.ErrOverflow)
		}
		out.Taxes = append(out.Taxes, Tax{Rate: rate, Base: bases[i].sum, Amount: amounts[i].sum})
	}
	if tax.err != nil || total.err != nil {
		return Result{}, fmt.Errorf("add up taxes: %w", money.ErrOverflow)
	}
	out.Tax, out.Total = tax.sum, total.sum
	return out, nil
}
