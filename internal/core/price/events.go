package price

import (
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// add sets the quantity to what the events add up to, and refuses another one.
func (u *Usage) add() error {
	if len(u.Events) == 0 {
		return nil
	}
	var sum money.Decimal
	for i := range u.Events {
		var err error
		if sum, err = sum.Add(u.Events[i].Quantity); err != nil {
			return err
		}
	}
	if !u.Quantity.IsZero() && !u.Quantity.Equal(sum) {
		return &Invalid{Pointer: "/quantity", OfUsage: true, Detail: fmt.Sprintf("%s is not the sum of the events, %s", u.Quantity, sum)}
	}
	u.Quantity = sum
	return nil
}

// events are those of the usage. A quantity alone is one event.
func (u *Usage) events() []Event {
	if len(u.Events) == 0 && !u.Quantity.IsZero() {
		return []Event{{Quantity: u.Quantity}}
	}
	return u.Events
}

// before counts the events of earlier splits; an amount without a count is one event.
func (r *Prior) before() int64 {
	if r.Events == 0 && !r.Quantity.IsZero() {
		return 1
	}
	return r.Events
}

// fees is what the events of a percentage price come to.
type fees struct {
	amount money.Decimal // what the rate is charged on
	events int64         // that pay the fixed fee
	least  int64         // that pay the minimum of an event instead
	most   int64         // that pay the maximum of an event instead
}

// percentage charges event by event. Where the period's total is zero, it costs nothing.
func (p *Price) percentage(s *sheet, sp span, u *Usage) {
	if sp.to.IsZero() {
		return
	}
	rate, err := hundredth(p.Percent)
	if err != nil {
		s.fail(err)
		return
	}
	var f fees
	if u.Prior.Quantity.IsZero() && sp.free.IsZero() {
		// Events of nothing cost nothing while the total was zero. Now it is not.
		if err := f.count(p, rate, money.Decimal{}, p.payingOfZero(u.Prior.Events)); err != nil {
			s.fail(err)
			return
		}
	}
	total, number := u.Prior.Quantity, u.Prior.before()
	for _, event := range u.events() {
		start := total
		if total, err = start.Add(event.Quantity); err != nil {
			s.fail(err)
			return
		}
		part, paying, err := p.paying(sp.free, start, total, number)
		if err == nil && paying {
			err = f.count(p, rate, part, 1)
		}
		if err != nil {
			s.fail(err)
			return
		}
		number++
	}
	f.put(s, p, rate)
}

// paying is the part of an event that is charged, and whether it is charged at all. The event is the number-th of its period,
// from 0, and takes the period's total from start to end.
func (p *Price) paying(free, start, end money.Decimal, number int64) (part money.Decimal, paying bool, err error) {
	if free.Sign() > 0 && end.Cmp(free) <= 0 {
		return part, false, nil
	}
	if start, err = above(start, free); err != nil {
		return part, false, err
	}
	if end, err = above(end, free); err != nil {
		return part, false, err
	}
	byAmount := p.FreeAmount != nil && p.FreeAmount.Sign() > 0
	if inRange := number < p.FreeEvents || p.FreeEvents == 0 && byAmount; inRange {
		if !byAmount || end.Cmp(*p.FreeAmount) <= 0 {
			return part, false, nil
		}
		if start.Cmp(*p.FreeAmount) < 0 {
			start = *p.FreeAmount
		}
	}
	part, err = end.Sub(start)
	return part, true, err
}

// payingOfZero is how many of the first events pay where none has an amount.
func (p *Price) payingOfZero(events int64) int64 {
	if p.FreeEvents == 0 && p.FreeAmount != nil && p.FreeAmount.Sign() > 0 {
		return 0
	}
	return max(events-p.FreeEvents, 0)
}

// count takes in an event of which this part is charged, or several of which nothing is.
func (f *fees) count(p *Price, rate, part money.Decimal, events int64) (err error) {
	if p.Min != nil || p.Max != nil {
		fee, err := part.Rational().Mul(rate.Rational())
		if err != nil {
			return err
		}
		if fee, err = fee.Add(p.Fixed.Rational()); err != nil {
			return err
		}
		switch {
		case p.Min != nil && fee.Cmp(p.Min.Rational()) < 0:
			f.least += events
			return nil
		case p.Max != nil && fee.Cmp(p.Max.Rational()) > 0:
			f.most += events
			return nil
		}
	}
	f.events += events
	f.amount, err = f.amount.Add(part)
	return err
}

func (f *fees) put(s *sheet, p *Price, rate money.Decimal) {
	s.usage(0, money.Decimal{}, f.amount, rate)
	s.flat(0, f.events, p.Fixed)
	if f.least > 0 {
		s.flat(0, f.least, *p.Min)
	}
	if f.most > 0 {
		s.flat(0, f.most, *p.Max)
	}
}

// matrix charges each cell's units, cell by cell, then what no cell fits.
func (p *Price) matrix(s *sheet, sp span, u *Usage) {
	sums := make([]money.Decimal, len(p.Cells)+1)
	total := u.Prior.Quantity
	for _, event := range u.events() {
		start, err := above(total, sp.free)
		if err == nil {
			total, err = total.Add(event.Quantity)
		}
		var end money.Decimal
		if err == nil {
			end, err = above(total, sp.free)
		}
		if err == nil {
			end, err = end.Sub(start)
		}
		cell := p.cellOf(event.Dimensions)
		if err == nil {
			sums[cell], err = sums[cell].Add(end)
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
	for i, sum := range sums {
		unit := p.UnitAmount
		if i < len(p.Cells) {
			unit = p.Cells[i].UnitAmount
		}
		from := len(s.lines)
		s.usage(0, money.Decimal{}, sum, unit)
		if len(s.lines) > from && i < len(p.Cells) {
			s.lines[from].Cell = i + 1
		}
	}
}

// cellOf is the index of the first cell that fits, or the number of cells.
func (p *Price) cellOf(dimensions []meter.Dimension) int {
	for i := range p.Cells {
		if fits(p.Cells[i].When, dimensions) {
			return i
		}
	}
	return len(p.Cells)
}

// Fits says that the event has all these dimensions.
func (e *Event) Fits(when []meter.Dimension) bool { return fits(when, e.Dimensions) }

func fits(when, dimensions []meter.Dimension) bool {
	if len(when) > len(dimensions) {
		return false
	}
	for _, want := range when {
		if !slices.Contains(dimensions, want) {
			return false
		}
	}
	return true
}
