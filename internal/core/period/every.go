package period

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrEvery is a text that is no billing interval.
var ErrEvery = errors.New("not an interval")

// everyMax bounds the count of an interval: 120 months are ten years.
const everyMax = 120

// Every is a billing interval: so many days or so many months. A week is 7 days, a quarter 3 months, a year 12. The zero Every
// is a month.
type Every struct {
	days, months int // one of them is above 0, or none
}

// EveryMonth is the usual interval.
func EveryMonth() Every { return Every{months: 1} }

// everyUnits are the words of ParseEvery with what they stand for, from the longest to the shortest.
func everyUnits() []struct {
	word string
	unit Every
} {
	return []struct {
		word string
		unit Every
	}{{"year", Every{months: 12}}, {"quarter", Every{months: 3}}, {"month", Every{months: 1}}, {"week", Every{days: 7}}, {"day", Every{days: 1}}}
}

// ParseEvery reads day, week, month, quarter or year, or a multiple: "2 weeks", "6 months". At most 120 months or 3,660 days;
// anything else is ErrEvery.
func ParseEvery(s string) (Every, error) {
	count, word, multiple := strings.Cut(s, " ")
	n := 1
	if multiple {
		var err error
		if n, err = strconv.Atoi(count); err != nil || n < 1 || strconv.Itoa(n) != count {
			return Every{}, everyFault(s)
		}
		if n > 1 {
			trimmed, plural := strings.CutSuffix(word, "s")
			if !plural {
				return Every{}, everyFault(s)
			}
			word = trimmed
		}
	} else {
		word = count
	}
	for _, u := range everyUnits() {
		if word != u.word {
			continue
		}
		const daysMax = 3660
		if n > daysMax || u.unit.months*n > everyMax || u.unit.days*n > daysMax {
			return Every{}, fmt.Errorf("%w: %q is longer than ten years", ErrEvery, s)
		}
		return Every{days: u.unit.days * n, months: u.unit.months * n}, nil
	}
	return Every{}, everyFault(s)
}

func everyFault(s string) error {
	if len(s) > 32 {
		s = s[:32] + "…"
	}
	return fmt.Errorf(`%w: %q is none of day, week, month, quarter, year, nor a multiple such as "2 weeks"`, ErrEvery, s)
}

// MustEvery is ParseEvery for constants and tests; it panics on an error.
func MustEvery(s string) Every {
	e, err := ParseEvery(s)
	if err != nil {
		panic(err)
	}
	return e
}

func (e Every) orMonth() Every {
	if e == (Every{}) {
		return EveryMonth()
	}
	return e
}

// String is the interval as ParseEvery reads it, with the longest unit that fits.
func (e Every) String() string {
	e = e.orMonth()
	for _, u := range everyUnits() {
		n, ok := e.Times(u.unit)
		switch {
		case !ok:
		case n == 1:
			return u.word
		default:
			return strconv.Itoa(n) + " " + u.word + "s"
		}
	}
	return fmt.Sprintf("Every(%d days, %d months)", e.days, e.months)
}

// MarshalText is String.
func (e Every) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText is ParseEvery. On an error e stays as it was.
func (e *Every) UnmarshalText(b []byte) error {
	v, err := ParseEvery(string(b))
	if err != nil {
		return err
	}
	*e = v
	return nil
}

// Times says how many of unit make up e, where that is a whole number: a year is 12 months, and no number of weeks.
func (e Every) Times(unit Every) (n int, ok bool) {
	e, unit = e.orMonth(), unit.orMonth()
	if (e.days == 0) != (unit.days == 0) {
		return 0, false
	}
	whole, part := e.days+e.months, unit.days+unit.months
	return whole / part, whole%part == 0
}

// Equal reports whether e and f are the same interval.
func (e Every) Equal(f Every) bool { return e.orMonth() == f.orMonth() }

// Shorter reports whether e is shorter than f; of months and days, any number of days up to 27 is shorter than a month.
func (e Every) Shorter(f Every) bool {
	const monthDays = 30
	e, f = e.orMonth(), f.orMonth()
	return e.days+e.months*monthDays < f.days+f.months*monthDays
}
