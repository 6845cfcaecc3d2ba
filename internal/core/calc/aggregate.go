package calc

import (
	"cmp"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Bounds of an aggregation.
const (
	eventsMax   = 50_000
	distinctMax = 256 // bytes of a value that is counted by Unique
	digitsMax   = 38
)

// aggregated is the answer of aggregate.
type aggregated struct {
	Value   string `json:"value"`
	Inexact bool   `json:"inexact,omitempty"` // Value is 34 significant digits of more
}

// aggregate folds the events inside a period, by the rules of meter.Fold. Of events with delta mode, the values are changes of a
// level; initial is the level that the period begins with. Both concern the aggregations that have a level.
func aggregate(in *object) (any, *Fault) {
	f := fold{period: in.interval("period"), initial: in.maybeDecimal("initial")}
	f.aggregation = in.aggregation()
	f.delta = in.word("mode", "level", "delta") == "delta"
	f.read(in)
	round := in.rounding()
	if fault := in.done(); fault != nil {
		return nil, fault
	}
	value, err := f.value()
	if err == nil {
		value, err = round(value)
	}
	if err != nil {
		return nil, faulty(err)
	}
	p := printer{}
	var answer aggregated
	answer.Value, answer.Inexact = p.exact(value)
	return answer, nil
}

func (o *object) aggregation() meter.Aggregation {
	all := meter.Aggregations()
	word := o.text("aggregation")
	i := slices.IndexFunc(all, func(a meter.Aggregation) bool { return a.String() == word })
	if i < 0 {
		o.fail("aggregation", "expected one of count, sum, min, max, latest, unique, time_weighted")
		return 0
	}
	return all[i]
}

// fold is what aggregate was asked.
type fold struct {
	aggregation meter.Aggregation
	period      period.Interval
	delta       bool
	initial     *money.Decimal // nil: not given
	readings    []meter.Reading
}

// read takes the events; those outside the period are checked and left out. Dimensions are texts, and change nothing.
func (f *fold) read(in *object) {
	in.each("events", eventsMax, func(i int, in *object) {
		at := in.time("time")
		r := meter.Reading{Time: at.UnixMicro(), Position: uint64(i)}
		switch f.aggregation {
		case meter.Count:
			in.has("value") // of any kind: it is not looked at
		case meter.Unique:
			if r.Distinct = in.text("value"); len(r.Distinct) > distinctMax {
				in.fail("value", "longer than %d bytes", distinctMax)
			}
		case meter.Sum, meter.Min, meter.Max, meter.Latest, meter.TimeWeighted:
			r.Value = in.decimal("value")
		}
		in.dimensions("dimensions")
		if f.period.Contains(at) {
			f.readings = append(f.readings, r)
		}
	})
}

func (f *fold) value() (money.Rational, error) {
	switch f.aggregation {
	case meter.Min, meter.Max, meter.Latest:
		if err := f.levels(); err != nil {
			return money.Rational{}, err
		}
	case meter.TimeWeighted:
		if err := f.levels(); err != nil {
			return money.Rational{}, err
		}
		return f.average()
	case meter.Count, meter.Sum, meter.Unique:
	}
	folded, err := meter.Fold(f.aggregation, f.readings, meter.Level{})
	return folded.Value.Rational(), err
}

// levels brings the readings in order of time, then of arrival, turns changes into levels, and puts what the period begins with in
// front, where it is known.
func (f *fold) levels() error {
	slices.SortStableFunc(f.readings, func(a, b meter.Reading) int { return cmp.Compare(a.Time, b.Time) })
	var level money.Decimal
	if f.initial != nil {
		level = *f.initial
	}
	for i := range f.readings {
		r := &f.readings[i]
		r.Position = uint64(i) + 1
		if f.delta {
			var err error
			if r.Value, err = level.Add(r.Value); err != nil {
				return err
			}
			level = r.Value
		}
	}
	if f.initial != nil {
		f.readings = slices.Insert(f.readings, 0, meter.Reading{Time: f.period.Start.UnixMicro(), Value: *f.initial})
	}
	return nil
}

// average is the level times the time for which it held, over the time of the period. It starts at 0 unless initial says more.
func (f *fold) average() (money.Rational, error) {
	var area money.Rational
	micros := func(from, to int64) money.Rational { return money.FromInt(to - from).Rational() }
	for i := range f.readings {
		until := f.period.End.UnixMicro()
		if i+1 < len(f.readings) {
			until = f.readings[i+1].Time
		}
		part, err := f.readings[i].Value.Rational().Mul(micros(f.readings[i].Time, until))
		if err != nil {
			return area, err
		}
		if area, err = area.Add(part); err != nil {
			return area, err
		}
	}
	return area.Quo(micros(f.period.Start.UnixMicro(), f.period.End.UnixMicro()))
}

// rounding reads how the value is rounded: half_up to the nearest, a half away from zero; up away from zero; down towards it.
func (o *object) rounding() func(money.Rational) (money.Rational, error) {
	none := func(r money.Rational) (money.Rational, error) { return r, nil }
	if !o.has("round") {
		return none
	}
	in := o.object("round")
	mode, digits := in.word("mode", "half_up", "up", "down"), 0
	if in.has("digits") {
		digits = in.whole("digits", 0, digitsMax)
	}
	in.done()
	return func(r money.Rational) (money.Rational, error) {
		if mode == "half_up" {
			d, err := r.RoundTo(digits)
			return d.Rational(), err
		}
		return towards(r, digits, mode == "up")
	}
}

// towards rounds to so many decimals: away from zero, or towards it.
func towards(r money.Rational, digits int, away bool) (money.Rational, error) {
	unit := money.FromScaled(1, digits).Rational()
	units, err := r.Abs().Quo(unit)
	if err != nil {
		return r, err
	}
	toWhole := money.Rational.Floor
	if away {
		toWhole = money.Rational.Ceil
	}
	whole, err := toWhole(units)
	if err != nil {
		return r, err
	}
	rounded, err := whole.Rational().Mul(unit)
	if r.Sign() < 0 {
		rounded = rounded.Neg()
	}
	return rounded, err
}
