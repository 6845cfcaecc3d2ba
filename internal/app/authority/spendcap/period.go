package spendcap

import (
	"errors"
	"fmt"
	"math"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// Period is how usage is charged in a billing period, span by span, by the prices that invoices take. It does not change.
type Period struct {
	Spans  []subscription.Span
	Scales map[string]int // of each meter that has a charge

	parts map[string][]part // by meter, in order of time
}

// part is one charge of a span.
type part struct {
	*subscription.Charge

	span   int
	priors []int // parts of the same meter that it goes on from
}

// Use is usage of a meter in each span, in 10^-scale: Low of it or more, and no more than High. What it costs is exact where the two
// are the same in all spans but the last.
type Use struct{ Low, High []int64 }

// NewPeriod puts charges in order. scale is a meter's.
func NewPeriod(spans []subscription.Span, scale func(meterKey string) int) *Period {
	p := &Period{Spans: spans, Scales: map[string]int{}, parts: map[string][]part{}}
	groups := map[string][]*subscription.Charge{}
	for n := range spans {
		for i := range spans[n].Charges {
			c := &spans[n].Charges[i]
			p.Scales[c.Price.Meter] = scale(c.Price.Meter)
			groups[c.Price.Meter] = append(groups[c.Price.Meter], c)
			p.parts[c.Price.Meter] = append(p.parts[c.Price.Meter], part{Charge: c, span: n})
		}
	}
	for meterKey, list := range p.parts {
		for i := range list {
			for k := range list[:i] {
				if subscription.Precedes(list[k].Charge, list[i].Charge, groups[meterKey]) {
					list[i].priors = append(list[i].priors, k)
				}
			}
		}
	}
	return p
}

// Hard is why a hard limit cannot hold for one of the charges; nil where it can.
func (p *Period) Hard() error {
	for _, list := range p.parts {
		for i := range list {
			if x := &list[i].Price; !x.Monotone() || len(x.Filter) > 0 {
				return fmt.Errorf("price %q of model %s is none that a hard limit on money can hold for: %w", x.Key, x.Model, price.ErrInvalid)
			}
		}
	}
	return nil
}

// Charge is the most that usage of a meter costs, before credits.
func (p *Period) Charge(meterKey string, u Use) (sum money.Rational, err error) {
	list := p.parts[meterKey]
	amounts := make([]money.Rational, len(list))
	for i := range list {
		if amounts[i], err = p.charge(&list[i], p.Scales[meterKey], u, amounts); err != nil {
			return sum, err
		}
		if sum, err = sum.Add(amounts[i]); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// charge is that of a part: from the least that came before it up to the most that it may have come to. A maximum holds where what
// came before is known.
func (p *Period) charge(x *part, scale int, u Use, amounts []money.Rational) (money.Rational, error) {
	var low, high money.Decimal
	var paid money.Rational
	for _, k := range x.priors {
		o, err := &p.parts[x.Price.Meter][k], error(nil)
		if low, err = low.Add(money.FromScaled(u.Low[o.span], scale)); err == nil {
			high, err = high.Add(money.FromScaled(u.High[o.span], scale))
		}
		if err == nil {
			paid, err = paid.Add(amounts[k])
		}
		if err != nil {
			return paid, err
		}
	}
	quantity, err := high.Sub(low)
	if err == nil {
		quantity, err = quantity.Add(money.FromScaled(u.High[x.span], scale))
	}
	if err != nil {
		return paid, err
	}
	pr := x.Price
	if !low.Equal(high) {
		pr.MaximumSpend = nil
	}
	r, err := pr.ChargeFor(price.Usage{Quantity: quantity, Prior: price.Prior{Quantity: low, Amount: paid}, Position: x.Position})
	return r.Amount, err
}

// Ceiling is how much of a meter's usage in the last span fits into an amount of money, beside that in the others: the largest
// quantity that does. What is not charged in that span always fits. The last of u.High is not looked at.
func (p *Period) Ceiling(meterKey string, u Use, left money.Rational) (int64, error) {
	list, last := p.parts[meterKey], len(p.Spans)-1
	if len(list) == 0 || list[len(list)-1].span != last {
		return math.MaxInt64, nil
	}
	if len(list) == 1 && list[0].Price.Monotone() && left.Sign() >= 0 {
		if d, inexact, err := left.Decimal(); err == nil && !inexact {
			units, _, err := list[0].Price.Ceiling(d, p.Scales[meterKey])
			return units, err
		}
	}
	high := make([]int64, len(u.High))
	copy(high, u.High)
	fits := func(n int64) (bool, error) {
		high[last] = n
		sum, err := p.Charge(meterKey, Use{u.Low, high})
		if errors.Is(err, money.ErrOverflow) {
			return false, nil
		}
		return err == nil && sum.Cmp(left) <= 0, err
	}
	if all, err := fits(math.MaxInt64); all || err != nil {
		return math.MaxInt64, err
	}
	low, most := int64(0), int64(math.MaxInt64) // low fits, or nothing does
	for low < most-1 {
		mid := low + (most-low)/2
		ok, err := fits(mid)
		if err != nil {
			return 0, err
		}
		if ok {
			low = mid
		} else {
			most = mid
		}
	}
	return low, nil
}
