package price

import (
	"fmt"
	"math"
	"math/big"

	"github.com/tallystick/tallystick/internal/core/money"
)

// scaleMax bounds the decimals of a counter that Ceiling accepts.
const scaleMax = 38

// Ceiling is the largest quantity in units of 10^-scale whose charge does not pass limit; unlimited is true where every
// quantity stays within it (units is then the largest int64). Prices here are monotone, so every smaller quantity costs
// no more. Where zero usage already costs more than limit, units is 0. Where the quantity does not fit, units is the
// largest int64. For several prices under one cap, take what the others charge off limit first. ErrInvalid.
func (p Price) Ceiling(limit money.Decimal, scale int) (units int64, unlimited bool, err error) {
	if err := p.check(); err != nil {
		return 0, false, err
	}
	if scale < 0 || scale > scaleMax {
		return 0, false, fmt.Errorf("price %q: scale %d is outside 0..%d: %w", p.Key, scale, scaleMax, ErrInvalid)
	}
	if p.Model == Flat {
		if p.Amount.Cmp(limit) > 0 {
			return 0, false, nil
		}
		return math.MaxInt64, true, nil
	}
	top := p.reach(rational(limit))
	if top == nil {
		return math.MaxInt64, true, nil
	}
	return floorUnits(top, scale), false, nil
}

// reach is the largest quantity whose charge does not pass limit, nil where there is none. The charge rises within a
// band and jumps after a bound, never at it, so the largest quantity exists. Rationals keep the one division exact.
func (p Price) reach(limit *big.Rat) *big.Rat {
	charged, below := new(big.Rat), new(big.Rat) // the charge of all bands before this one, and where they end
	for _, tier := range p.Tiers {
		charged.Add(charged, rational(tier.FlatAmount))
		left := new(big.Rat).Sub(limit, charged)
		if left.Sign() < 0 {
			return below
		}
		unit := rational(tier.UnitAmount)
		if unit.Sign() > 0 {
			affordable := new(big.Rat).Quo(left, unit)
			affordable.Add(affordable, below)
			if tier.UpTo == nil || affordable.Cmp(rational(*tier.UpTo)) < 0 {
				return affordable
			}
		}
		if tier.UpTo == nil {
			return nil
		}
		top := rational(*tier.UpTo)
		charged.Add(charged, unit.Mul(unit, new(big.Rat).Sub(top, below)))
		below = top
	}
	return nil
}

// floorUnits is a quantity in whole units of 10^-scale, rounded down, at most the largest int64.
func floorUnits(quantity *big.Rat, scale int) int64 {
	units := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
	units.Mul(units, quantity.Num())
	units.Quo(units, quantity.Denom())
	if !units.IsInt64() {
		return math.MaxInt64
	}
	return units.Int64()
}

// rational is d itself: a decimal prints as digits that SetString always reads.
func rational(d money.Decimal) *big.Rat {
	r, ok := new(big.Rat).SetString(d.String())
	if !ok {
		panic("price: money.Decimal printed " + d.String())
	}
	return r
}
