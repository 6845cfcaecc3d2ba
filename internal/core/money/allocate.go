package money

import (
	"errors"
	"fmt"
	"slices"
)

// ErrWeights are weights that nothing can be divided by: none, a negative one, or all of them 0.
var ErrWeights = errors.New("weights must not be negative, and one must be above 0")

// Allocate divides a by weights into as many parts, which add up to a: each gets its share rounded towards 0, and the minor units
// that are left go one each to the largest remainders, of equal ones to the first. ErrWeights, ErrOverflow, ErrCurrency.
func (a Amount) Allocate(weights []Rational) ([]Amount, error) {
	var total Rational
	for _, w := range weights {
		if w.Sign() < 0 {
			return nil, ErrWeights
		}
		var err error
		if total, err = total.Add(w); err != nil {
			return nil, fmt.Errorf("add up weights: %w", err)
		}
	}
	if total.IsZero() {
		return nil, ErrWeights
	}
	shares := make([]Rational, len(weights))
	for i, w := range weights {
		product, err := a.Decimal().Rational().Mul(w)
		if err != nil {
			return nil, fmt.Errorf("weigh: %w", err)
		}
		if shares[i], err = product.Quo(total); err != nil {
			return nil, fmt.Errorf("weigh: %w", err)
		}
	}
	return a.Apportion(shares)
}

// Apportion rounds shares to minor units so that they add up to a, which must be less than one unit for each share away from their
// exact sum (else ErrInexact): all are rounded down, and the units that are left go one each to the largest remainders, of equal
// ones to the first. Of a negative a all are rounded up, so that it is the mirror of a positive one. ErrCurrency; ErrOverflow, of the
// smallest int64 too.
func (a Amount) Apportion(shares []Rational) ([]Amount, error) {
	if a.currency.code == "" {
		return nil, fmt.Errorf("%w: none given", ErrCurrency)
	}
	negative := a.minor < 0
	left := FromInt(a.minor).Abs()
	parts := make([]Amount, len(shares))
	remainders := make([]Rational, len(shares))
	order := make([]int, len(shares))
	unit := FromInt(1)
	for range a.currency.digits {
		unit, _ = unit.Mul(FromInt(10)) // at most 10^4
	}
	for i, share := range shares {
		if negative {
			share = share.Neg()
		}
		units, err := share.Mul(unit.Rational())
		if err != nil {
			return nil, fmt.Errorf("apportion: %w", err)
		}
		down, err := units.Floor()
		if err != nil {
			return nil, fmt.Errorf("apportion: %w", err)
		}
		if remainders[i], err = units.Sub(down.Rational()); err != nil {
			return nil, fmt.Errorf("apportion: %w", err)
		}
		if left, err = left.Sub(down); err != nil {
			return nil, fmt.Errorf("apportion: %w", err)
		}
		minor, err := down.Scaled(0)
		if err != nil {
			return nil, fmt.Errorf("apportion: %w", err)
		}
		parts[i], order[i] = Amount{minor, a.currency}, i
	}
	slices.SortStableFunc(order, func(i, j int) int { return remainders[j].Cmp(remainders[i]) })
	if left.Sign() < 0 || left.Cmp(FromInt(int64(len(shares)))) > 0 {
		return nil, fmt.Errorf("apportion: %w", ErrInexact)
	}
	extra, err := left.Scaled(0)
	if err != nil {
		return nil, fmt.Errorf("apportion: %w", err)
	}
	for _, i := range order[:extra] {
		parts[i].minor++
	}
	for i := range parts {
		if negative {
			parts[i].minor = -parts[i].minor
		}
	}
	return parts, nil
}
