package meter

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/core/money"
)

// Unfold takes one event's value away again. An overflow is money.ErrOverflow and changes nothing.
func (r Rollup) Unfold(origin Origin, value money.Decimal) (Rollup, error) {
	sum, err := r.Sum.Sub(value)
	if err != nil {
		return r, fmt.Errorf("unfold event: %w", err)
	}
	reported := r.Reported
	if origin == Reported {
		if reported, err = reported.Sub(value); err != nil {
			return r, fmt.Errorf("unfold event: %w", err)
		}
	}
	return Rollup{Count: r.Count - 1, Sum: sum, Reported: reported}, nil
}

// Reading is what one event says to one meter, or takes back: an amendment takes the old reading and gives a new one.
// Readings of one event stand in the order in which they were written.
type Reading struct {
	Time     int64  // of the event, UTC microseconds since 1970
	Position uint64 // of the event
	Value    money.Decimal
	Distinct string
	Taken    bool // what the event said before does not count any more
}

// later says whether a reading is of a later event: by event time, then by arrival.
func (r *Reading) later(o *Reading) bool {
	return r.Time > o.Time || r.Time == o.Time && r.Position > o.Position
}

// Live leaves out what was taken back. The result may share the room of readings.
func Live(readings []Reading) []Reading {
	taken := map[uint64]int{} // event → where its last reading stands
	for i := range readings {
		if readings[i].Taken {
			taken[readings[i].Position] = i
		}
	}
	if len(taken) == 0 {
		return readings
	}
	live := make([]Reading, 0, len(readings))
	for i := range readings {
		if last, ok := taken[readings[i].Position]; !ok || i > last {
			live = append(live, readings[i])
		}
	}
	return live
}

// Newest is the last of the readings by event time, then by position; false when there is none.
func Newest(live []Reading) (Reading, bool) {
	if len(live) == 0 {
		return Reading{}, false
	}
	last := 0
	for i := range live {
		if live[i].later(&live[last]) {
			last = i
		}
	}
	return live[last], true
}

// Level is what a time-weighted reading needs: the interval in UTC microseconds since 1970, and the level that it begins with.
type Level struct {
	From, To int64
	Before   money.Decimal
}

// Folded is the quantity of an aggregation. Inexact says that it was rounded to 34 significant digits, or to 38 after the point.
type Folded struct {
	Value   money.Decimal
	Events  int64
	Inexact bool
}

// Fold is the quantity that the readings make, in any order. Of no events it is 0; a level stays what it was. Only
// TimeWeighted looks at the level. An overflow is money.ErrOverflow, an unknown aggregation ErrEvent.
func Fold(a Aggregation, readings []Reading, level Level) (Folded, error) {
	live := Live(readings)
	f := Folded{Events: int64(len(live))}
	var err error
	switch a {
	case Count:
		f.Value = money.FromInt(f.Events)
	case Sum:
		for i := range live {
			if f.Value, err = f.Value.Add(live[i].Value); err != nil {
				return Folded{}, fmt.Errorf("fold events: %w", err)
			}
		}
	case Min, Max:
		for i := range live {
			if c := live[i].Value.Cmp(f.Value); i == 0 || a == Min && c < 0 || a == Max && c > 0 {
				f.Value = live[i].Value
			}
		}
	case Latest:
		last, _ := Newest(live)
		f.Value = last.Value
	case Unique:
		texts := make(map[string]struct{}, len(live))
		for i := range live {
			texts[live[i].Distinct] = struct{}{}
		}
		f.Value = money.FromInt(int64(len(texts)))
	case TimeWeighted:
		f.Value, f.Inexact, err = level.average(live)
	default:
		err = fmt.Errorf("%w: unknown aggregation %d", ErrEvent, a)
	}
	if err != nil {
		return Folded{}, err
	}
	return f, nil
}

// average integrates the level over the interval and divides by its length.
func (l Level) average(live []Reading) (money.Decimal, bool, error) {
	if l.To <= l.From {
		return money.Decimal{}, false, fmt.Errorf("%w: a level needs an interval with a length", ErrEvent)
	}
	sorted := slices.Clone(live)
	slices.SortFunc(sorted, func(a, b Reading) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Position, b.Position))
	})
	integral := new(big.Int) // level × microseconds, in units of 10^-decimalsMax
	at, value := l.From, l.Before
	for i := range sorted {
		r := &sorted[i]
		addArea(integral, value, r.Time-at)
		at, value = r.Time, r.Value
	}
	addArea(integral, value, l.To-at)
	return divide(integral, l.To-l.From)
}

// Bounds of money.Decimal, and of a quotient that does not end.
const (
	decimalsMax    = 38
	quotientDigits = 34
)

func addArea(sum *big.Int, value money.Decimal, micros int64) {
	if micros == 0 || value.IsZero() {
		return
	}
	area := unscaled(value)
	sum.Add(sum, area.Mul(area, big.NewInt(micros)))
}

// unscaled is d × 10^decimalsMax.
func unscaled(d money.Decimal) *big.Int {
	text := d.String()
	whole, fraction, _ := strings.Cut(text, ".")
	n, _ := new(big.Int).SetString(whole+fraction+strings.Repeat("0", decimalsMax-len(fraction)), 10) // digits only
	return n
}

func tenTo(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// divide is n × 10^-decimalsMax / by. What does not end is rounded half away from zero.
func divide(n *big.Int, by int64) (money.Decimal, bool, error) {
	negative := n.Sign() < 0
	rest := new(big.Int)
	q, _ := new(big.Int).QuoRem(new(big.Int).Abs(n), big.NewInt(by), rest)
	inexact := rest.Sign() != 0
	if inexact {
		unit := big.NewInt(1) // the place to round to: a digit before the last one that can be told, or that one
		if drop := len(q.String()) - quotientDigits; drop > 0 {
			unit = tenTo(drop)
		}
		step := new(big.Int).Mul(unit, big.NewInt(by))
		half := new(big.Int).Rsh(step, 1)
		q.Quo(half.Add(half, new(big.Int).Abs(n)), step)
		q.Mul(q, unit)
	}
	text := q.String()
	if pad := decimalsMax + 1 - len(text); pad > 0 {
		text = strings.Repeat("0", pad) + text
	}
	text = text[:len(text)-decimalsMax] + "." + text[len(text)-decimalsMax:]
	text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	if negative && text != "0" {
		text = "-" + text
	}
	d, err := money.ParseDecimal(text)
	if err != nil {
		return money.Decimal{}, false, fmt.Errorf("a time-weighted level: %w", err)
	}
	return d, inexact, nil
}
