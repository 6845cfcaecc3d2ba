package price

import (
	"fmt"
	"math"
	"math/big"

	"github.com/tallystick/tallystick/internal/core/money"
)

// scaleMax bounds the decimals of a counter that Ceiling accepts.
const scaleMax = 38

// Monotone says that a quantity alone decides the charge, and that more of it never costs less: what a hard spend cap needs.
// Volume and stairstep prices can become cheaper at a bound, a matrix looks at dimensions, a percentage at single events (but not
// where it has neither a fixed fee nor free events nor bounds of an event). Progressive invoices leave the others out as well.
func (p *Price) Monotone() bool {
	switch p.Model {
	case Flat, Unit, Graduated, Package, GraduatedPercentage, Dynamic:
		return true
	case Percentage:
		return p.Fixed.IsZero() && p.FreeEvents == 0 && p.Min == nil && p.Max == nil
	case Volume, Stairstep, Matrix:
	}
	return false
}

// Ceiling is the largest quantity in units of 10^-scale whose charge, as Rate has it, does not pass limit; unlimited is true where
// every quantity stays within it (units is then the largest int64). The price must be Monotone, so every smaller quantity costs
// no more. Where zero usage already costs more than limit, units is 0. Where the quantity does not fit, units is the
// largest int64. For several prices under one cap, take what the others charge off limit first. ErrInvalid.
func (p *Price) Ceiling(limit money.Decimal, scale int) (units int64, unlimited bool, err error) {
	if err := p.Check(); err != nil {
		return 0, false, fmt.Errorf("price %q: %w", p.Key, err)
	}
	if !p.Monotone() {
		return 0, false, fmt.Errorf("price %q: a %s price has no ceiling: %w", p.Key, p.Model, ErrInvalid)
	}
	if scale < 0 || scale > scaleMax {
		return 0, false, fmt.Errorf("price %q: scale %d is outside 0..%d: %w", p.Key, scale, scaleMax, ErrInvalid)
	}
	if p.MaximumSpend != nil && p.MaximumSpend.Cmp(limit) <= 0 {
		return math.MaxInt64, true, nil
	}
	if p.Model == Flat {
		if p.Amount.Cmp(limit) > 0 {
			return 0, false, nil
		}
		return math.MaxInt64, true, nil
	}
	top := p.reach(rational(limit))
	switch {
	case top == nil:
		return math.MaxInt64, true, nil
	case top.Sign() < 0:
		return 0, false, nil
	}
	return floorUnits(top.Add(top, rational(p.Included)), scale), false, nil
}

// reach is the largest quantity, above what is included, whose charge does not pass limit: nil where there is none, negative
// where zero already passes it. Rationals keep the one division exact.
func (p *Price) reach(limit *big.Rat) *big.Rat {
	if limit.Sign() < 0 {
		return limit
	}
	if p.Model != Package {
		return p.reachTiers(p.steps(), limit)
	}
	if p.Amount.IsZero() {
		return nil
	}
	packages := new(big.Rat).Quo(limit, rational(p.Amount))
	packages.SetInt(new(big.Int).Quo(packages.Num(), packages.Denom()))
	packages.Mul(packages, rational(p.Size))
	return packages.Add(packages, rational(p.Free))
}

// step is a tier in rationals.
type step struct{ top, unit, flat *big.Rat }

// steps are the tiers of a price that has no packages, or what stands for them.
func (p *Price) steps() []step {
	none, hundred := new(big.Rat), big.NewRat(100, 1)
	switch p.Model {
	case Unit:
		return []step{{nil, rational(p.UnitAmount), none}}
	case Dynamic:
		return []step{{nil, big.NewRat(1, 1), none}}
	case Percentage:
		steps := []step{{nil, new(big.Rat).Quo(rational(p.Percent), hundred), none}}
		if p.FreeAmount != nil && !p.FreeAmount.IsZero() {
			steps = append([]step{{rational(*p.FreeAmount), none, none}}, steps...)
		}
		return steps
	case Flat, Graduated, Volume, Package, Stairstep, GraduatedPercentage, Matrix:
	}
	steps := make([]step, len(p.Tiers))
	for i, tier := range p.Tiers {
		steps[i] = step{nil, rational(tier.UnitAmount), rational(tier.FlatAmount)}
		if p.Model == GraduatedPercentage {
			steps[i].unit.Quo(rational(tier.Percent), hundred)
		}
		if tier.UpTo != nil {
			steps[i].top = rational(*tier.UpTo)
		}
	}
	return steps
}

// reachTiers is reach over tiers. The charge rises within a tier and jumps after a bound, never at it, so the largest quantity
// exists. The first flat amount is due at zero already, or just after it.
func (p *Price) reachTiers(steps []step, limit *big.Rat) *big.Rat {
	charged, below := new(big.Rat), new(big.Rat) // the charge of all tiers before this one, and where they end
	for i, tier := range steps {
		charged.Add(charged, tier.flat)
		left := new(big.Rat).Sub(limit, charged)
		if left.Sign() < 0 {
			if i == 0 && !p.WaiveAtZero {
				return left
			}
			return below
		}
		if tier.unit.Sign() > 0 {
			affordable := new(big.Rat).Quo(left, tier.unit)
			affordable.Add(affordable, below)
			if tier.top == nil || affordable.Cmp(tier.top) < 0 {
				return affordable
			}
		}
		if tier.top == nil {
			return nil
		}
		charged.Add(charged, new(big.Rat).Mul(tier.unit, new(big.Rat).Sub(tier.top, below)))
		below = tier.top
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
