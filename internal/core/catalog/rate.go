package catalog

import (
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
)

// RateForm says what ParseRate takes, for messages.
const RateForm = `a number per s, min, h or day, such as "200/s"`

// ParseRate reads "200/s". The unit is s, min (or m), h or day (or d).
func ParseRate(s string) (rate money.Decimal, per time.Duration, ok bool) {
	number, unit, _ := strings.Cut(s, "/")
	for _, u := range rateUnits() {
		if unit == u.name || unit == u.long {
			rate, err := money.ParseDecimal(number)
			return rate, u.per, err == nil
		}
	}
	return rate, 0, false
}

type rateUnit struct {
	name, long string
	per        time.Duration
}

// rateUnits are the units of time in rates, by the name we print and another one we read.
func rateUnits() []rateUnit {
	return []rateUnit{{"s", "s", time.Second}, {"min", "m", time.Minute}, {"h", "h", time.Hour}, {"day", "d", 24 * time.Hour}}
}

// Unit is how a rate says Per; "" where it cannot.
func (b Bucket) Unit() string {
	for _, u := range rateUnits() {
		if b.Per == u.per {
			return u.name
		}
	}
	return ""
}

// RateText is the rate as ParseRate reads it.
func (b Bucket) RateText() string { return b.Rate.String() + "/" + b.Unit() }
