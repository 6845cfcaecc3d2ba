// Package tax adds taxes to lines, or finds those that prices contain, and tells which of a seller's rates apply to whom.
package tax

import (
	"errors"
	"fmt"

	"github.com/tallystick/tallystick/internal/core/money"
)

// ErrInvalid is a rate below 0 % or above PercentMax, or two rates of one key on a line.
var ErrInvalid = errors.New("invalid tax")

// PercentMax bounds a rate.
const PercentMax = 1000

// Rate is one tax on a line.
type Rate struct {
	Key      string // tells the rates of a request apart
	Name     string
	Percent  money.Decimal // "19" is 19 %
	Compound bool          // on the base and the taxes before it
	// ReverseCharge: the customer owes it to the state; it is listed with its base, and nothing is to be paid.
	ReverseCharge bool
}

// Line is what is taxed: an amount in major units, negative for a discount or a credit, and the rates that apply, in order.
type Line struct {
	Amount money.Rational
	Rates  []Rate
}

// Request is the lines of one invoice.
type Request struct {
	Currency  money.Currency // zero: nothing is rounded
	Rounding  money.Rounding
	Inclusive bool // the amounts contain the taxes, but those with a reverse charge
	PerLine   bool // taxes are rounded on each line; else once per rate
	Lines     []Line
}

// Tax is what one rate makes of all its lines.
type Tax struct {
	Rate   Rate
	Base   money.Rational // what it is a part of: net amounts, of a compound rate with the taxes before it
	Amount money.Rational
}

// Result is the taxes of a request, in major units. With a currency, taxes are whole minor units.
type Result struct {
	Taxes      []Tax            // in the order in which the lines name them
	Lines      []money.Rational // the taxes of each line, which add up to Tax
	Tax, Total money.Rational
}

// Compute taxes lines. Rates are added up, each on the net amount, but compound ones. Each rate is rounded once over all lines, or
// with PerLine on each line; a line's part of the former follows by largest remainder. Of amounts that contain taxes, what the
// rounded taxes leave is the base, so that base and taxes are the amount again. ErrInvalid, money.ErrOverflow.
func Compute(r Request) (Result, error) {
	t, err := newTable(r)
	if err != nil {
		return Result{}, err
	}
	if r.Currency != (money.Currency{}) {
		if err := t.round(); err != nil {
			return Result{}, err
		}
	}
	return t.result()
}

// table has the tax of each line and rate.
type table struct {
	Request
	rates []Rate
	index map[string]int      // by Rate.Key
	cells [][]*money.Rational // by line, then by rate; nil: the rate does not apply

	// What the rates of the last line are of its amount: most lines share theirs.
	of     []Rate
	shares []money.Rational
}

func newTable(r Request) (*table, error) {
	t := &table{Request: r, index: map[string]int{}, cells: make([][]*money.Rational, len(r.Lines))}
	for i := range r.Lines {
		for _, rate := range r.Lines[i].Rates {
			if _, known := t.index[rate.Key]; !known {
				t.index[rate.Key] = len(t.rates)
				t.rates = append(t.rates, rate)
			}
		}
	}
	for i := range r.Lines {
		if err := t.exact(i); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return t, nil
}

// exact computes a line's taxes without rounding.
func (t *table) exact(line int) error {
	l := &t.Lines[line]
	if err := t.divideAmong(l.Rates); err != nil {
		return err
	}
	t.cells[line] = make([]*money.Rational, len(t.rates))
	for i, rate := range l.Rates {
		amount, err := l.Amount.Mul(t.shares[i])
		if err != nil {
			return err
		}
		cell := &t.cells[line][t.index[rate.Key]]
		if *cell != nil {
			return fmt.Errorf("%w: the rate %q applies twice", ErrInvalid, rate.Key)
		}
		*cell = &amount
	}
	return nil
}

// divideAmong sets the shares of an amount that are these rates' taxes.
func (t *table) divideAmong(rates []Rate) error {
	if len(rates) == len(t.of) && (len(rates) == 0 || &rates[0] == &t.of[0]) {
		return nil
	}
	shares, all, err := factors(rates)
	for i := range shares {
		if err == nil && t.Inclusive {
			shares[i], err = shares[i].Quo(all)
		}
	}
	t.of, t.shares = rates, shares
	return err
}

// factors are the taxes on a net amount of 1, and that with all of them.
func factors(rates []Rate) (parts []money.Rational, all money.Rational, err error) {
	all = money.FromInt(1).Rational()
	for _, rate := range rates {
		if rate.Percent.Sign() < 0 || rate.Percent.Cmp(money.FromInt(PercentMax)) > 0 {
			return nil, all, fmt.Errorf("%w: the rate %q is not between 0 and %d %%", ErrInvalid, rate.Key, PercentMax)
		}
		part := money.Rational{}
		if !rate.ReverseCharge {
			part = rate.Percent.Rational()
		}
		if part, err = part.Quo(money.FromInt(100).Rational()); err != nil {
			return nil, all, err
		}
		if rate.Compound {
			if part, err = part.Mul(all); err != nil {
				return nil, all, err
			}
		}
		if all, err = all.Add(part); err != nil {
			return nil, all, err
		}
		parts = append(parts, part)
	}
	return parts, all, nil
}
