package price

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Ratio is the part of a full period that a service takes up, from 0 to 1: what of service lies outside full is left out. The parts
// of a period that is split, anywhere, add up to the whole.
//
// By seconds it is the time of the one over the time of the other, to the microsecond. By days it is local days of the zone, which
// belong to what is in force at their end: a service from noon to noon has the first of the two days and not the last. ProrateNone
// is 1, for a service of no length too. ErrInvalid for a period without length, or by days without a day's end.
func Ratio(service, full period.Interval, by Proration, zone period.Zone) (money.Rational, error) {
	if by == ProrateNone {
		return money.FromInt(1).Rational(), nil
	}
	if full.End.IsZero() || full.Empty() {
		return money.Rational{}, fmt.Errorf("%w: a period of no length cannot be divided", ErrInvalid)
	}
	part := period.Interval{Start: service.Start, End: service.End}
	if part.Start.Before(full.Start) {
		part.Start = full.Start
	}
	if part.End.IsZero() || part.End.After(full.End) {
		part.End = full.End
	}
	if part.Empty() {
		return money.Rational{}, nil
	}
	if by == ProrateDays {
		return quotient(daysEnded(part, zone), daysEnded(full, zone))
	}
	return quotient(microseconds(part), microseconds(full))
}

// MinimumOf is the minimum spend for a part of a full period: all of it, or where ProrateMin says so its Ratio, to 34 digits. nil: there is
// none.
func (p *Price) MinimumOf(part, full period.Interval, zone period.Zone) (*money.Decimal, error) {
	if p.MinimumSpend == nil || !p.ProrateMin || part.Equal(full) {
		return p.MinimumSpend, nil
	}
	ratio, err := Ratio(part, full, p.Prorate, zone)
	if err != nil {
		return nil, err
	}
	value, err := ratio.Mul(p.MinimumSpend.Rational())
	if err != nil {
		return nil, err
	}
	d, _, err := value.Decimal()
	return &d, err
}

// ChargeLicensed charges a quantity of the subscription for a whole period. A flat price is for one of what it is for: twice the
// add-on costs twice as much.
func (p *Price) ChargeLicensed(quantity money.Decimal) (Result, error) {
	r, err := p.ChargeFor(Usage{Quantity: quantity, Position: Single})
	if err != nil || p.Model != Flat {
		return r, err
	}
	times := quantity.Rational()
	for i := range r.Lines {
		if r.Lines[i].Amount, err = r.Lines[i].Amount.Mul(times); err != nil {
			return r, err
		}
	}
	r.Amount, err = r.Amount.Mul(times)
	return r, err
}

func quotient(part, whole int64) (money.Rational, error) {
	if whole == 0 {
		return money.Rational{}, fmt.Errorf("%w: no local day ends in the period", ErrInvalid)
	}
	return money.NewRational(money.FromInt(part), money.FromInt(whole))
}

// microseconds does without time.Duration, which ends at 292 years.
func microseconds(i period.Interval) int64 { return i.End.UnixMicro() - i.Start.UnixMicro() }

// daysEnded counts the local days that end in an interval, at its end too.
func daysEnded(i period.Interval, zone period.Zone) int64 {
	y, m, d := zone.Date(i.End)
	return int64(zone.Days(period.Interval{Start: i.Start, End: zone.StartOfDay(y, m, d)}))
}
