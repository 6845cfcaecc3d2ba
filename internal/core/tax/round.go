package tax

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/money"
)

// cell is the place of a tax in a table.
type cell struct{ line, rate int }

// round brings all taxes to minor units.
func (t *table) round() error {
	for _, group := range t.groups() {
		total, err := t.sum(group)
		if err != nil {
			return err
		}
		rounded, err := total.Round(t.Currency, t.Rounding)
		if err != nil {
			return fmt.Errorf("round a tax: %w", err)
		}
		if err := t.divide(rounded, group); err != nil {
			return err
		}
	}
	return nil
}

// groups are the taxes that are rounded together, each group once.
func (t *table) groups() [][]cell {
	byGroup := map[cell]int{}
	var groups [][]cell
	for line := range t.cells {
		for rate, tax := range t.cells[line] {
			if tax == nil {
				continue
			}
			key := cell{}
			if t.PerLine {
				key.line = line
			}
			if !t.Inclusive {
				key.rate = rate
			}
			g, known := byGroup[key]
			if !known {
				g = len(groups)
				byGroup[key], groups = g, append(groups, nil)
			}
			groups[g] = append(groups[g], cell{line, rate})
		}
	}
	return groups
}

// divide gives the taxes of a group their parts of what they are together: first the rates, then the lines of each.
func (t *table) divide(total money.Amount, group []cell) error {
	byRate := make([][]cell, len(t.rates))
	for _, c := range group {
		byRate[c.rate] = append(byRate[c.rate], c)
	}
	var shares []money.Rational
	for _, cells := range byRate {
		share, err := t.sum(cells)
		if err != nil {
			return err
		}
		shares = append(shares, share)
	}
	ofRates, err := total.Apportion(shares)
	if err != nil {
		return fmt.Errorf("divide a tax: %w", err)
	}
	for rate, cells := range byRate {
		shares = shares[:0]
		for _, c := range cells {
			shares = append(shares, *t.cells[c.line][c.rate])
		}
		ofLines, err := ofRates[rate].Apportion(shares)
		if err != nil {
			return fmt.Errorf("divide a tax: %w", err)
		}
		for i, c := range cells {
			t.cells[c.line][c.rate] = new(ofLines[i].Decimal().Rational())
		}
	}
	return nil
}

func (t *table) sum(group []cell) (total money.Rational, err error) {
	for _, c := range group {
		if total, err = total.Add(*t.cells[c.line][c.rate]); err != nil {
			return total, fmt.Errorf("add up a tax: %w", err)
		}
	}
	return total, nil
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
