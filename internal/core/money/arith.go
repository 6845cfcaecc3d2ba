package money

import (
	"cmp"
	"math"
	"math/bits"

	"github.com/cockroachdb/apd/v3"
)

// exact is the context of every operation but Round. Precision 0 means that apd never rounds.
func exact() *apd.Context {
	return &apd.Context{MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent, Traps: apd.DefaultTraps}
}

// Add is d + e, exact or ErrOverflow.
func (d Decimal) Add(e Decimal) (Decimal, error) {
	if d.wide == nil && e.wide == nil {
		if sum, ok := addNarrow(d, e); ok {
			return sum, nil
		}
	}
	var w apd.Decimal
	if _, err := exact().Add(&w, d.apd(), e.apd()); err != nil {
		return Decimal{}, ErrOverflow
	}
	return pack(&w)
}

// addNarrow adds in int64; ok is false where that does not fit.
func addNarrow(d, e Decimal) (Decimal, bool) {
	if d.scale < e.scale {
		d, e = e, d
	}
	n, ok := shift(e.units, int(d.scale-e.scale))
	if !ok {
		return Decimal{}, false
	}
	sum, ok := addInt64(d.units, n)
	return narrow(sum, int(d.scale)), ok
}

func addInt64(a, b int64) (int64, bool) {
	sum := a + b
	return sum, (sum > a) == (b > 0)
}

// Sub is d - e, exact or ErrOverflow.
func (d Decimal) Sub(e Decimal) (Decimal, error) { return d.Add(e.Neg()) }

// Mul is d × e, exact or ErrOverflow; more than 38 decimals count as overflow.
func (d Decimal) Mul(e Decimal) (Decimal, error) {
	if d.wide == nil && e.wide == nil {
		high, low := bits.Mul64(magnitude(d.units), magnitude(e.units))
		if high == 0 && low <= math.MaxInt64 {
			n := int64(low)
			if (d.units < 0) != (e.units < 0) {
				n = -n
			}
			p := narrow(n, int(d.scale)+int(e.scale))
			if p.scale > maxDigits {
				return Decimal{}, ErrOverflow
			}
			return p, nil
		}
	}
	var w apd.Decimal
	if _, err := exact().Mul(&w, d.apd(), e.apd()); err != nil {
		return Decimal{}, ErrOverflow
	}
	return pack(&w)
}

// Neg is -d.
func (d Decimal) Neg() Decimal {
	if d.wide == nil && d.units != math.MinInt64 {
		return Decimal{units: -d.units, scale: d.scale}
	}
	var w apd.Decimal
	w.Neg(d.apd())
	return oneForm(&w)
}

// Abs is |d|.
func (d Decimal) Abs() Decimal {
	if d.Sign() < 0 {
		return d.Neg()
	}
	return d
}

// Floor is the greatest whole number that is not above d. For d below -(10^38 - 1) that is -10^38, the one Decimal with
// more than 38 digits before the point.
func (d Decimal) Floor() Decimal {
	if d.Scale() == 0 {
		return d
	}
	var whole apd.Decimal
	d.apd().Modf(&whole, nil) // towards 0
	if d.Sign() < 0 {
		whole.Coeff.Add(&whole.Coeff, apd.NewBigInt(1))
	}
	whole.Reduce(&whole)
	return oneForm(&whole)
}

// Equal reports whether d and e are the same number.
func (d Decimal) Equal(e Decimal) bool { return d.Cmp(e) == 0 }

// Cmp is -1 for d < e, 0 for d = e, 1 for d > e.
func (d Decimal) Cmp(e Decimal) int {
	switch {
	case d.wide != nil || e.wide != nil:
		return d.apd().Cmp(e.apd())
	case d.scale == e.scale || (d.units < 0) != (e.units < 0):
		return cmp.Compare(d.units, e.units)
	case d.scale > e.scale:
		return -cmpNarrow(e, d)
	default:
		return cmpNarrow(d, e)
	}
}

// cmpNarrow compares two numbers of one sign, d with fewer decimals than e.
func cmpNarrow(d, e Decimal) int {
	n, ok := shift(d.units, int(e.scale-d.scale))
	if ok {
		return cmp.Compare(n, e.units)
	}
	return d.Sign() // at e's scale d no longer fits, so it is the one further from 0
}

// RoundTo rounds to at most so many decimals, 0 to 38; a tie goes away from zero. It is for quantities that a division made
// longer than any price can take; money has Round.
func (d Decimal) RoundTo(decimals int) (Decimal, error) {
	decimals = min(max(decimals, 0), maxDigits)
	if d.Scale() <= decimals {
		return d, nil
	}
	if drop := int(d.scale) - decimals; d.wide == nil && drop <= 18 { // ten to that fits twice
		unit, _ := shift(1, drop)
		whole, rest := d.units/unit, d.units%unit
		switch {
		case 2*rest >= unit:
			whole++
		case -2*rest >= unit:
			whole--
		}
		return narrow(whole, decimals), nil
	}
	ctx := exact()
	ctx.Precision = 2*maxDigits + 1 // nothing in range is cut but by the quantum
	ctx.Rounding = apd.RoundHalfUp
	var w apd.Decimal
	if _, err := ctx.Quantize(&w, d.apd(), -int32(decimals)); err != nil {
		return Decimal{}, ErrOverflow
	}
	return pack(&w)
}
