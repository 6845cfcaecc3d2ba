package catalog

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
)

// ErrRate is a rate that ParseRate does not understand.
var ErrRate = errors.New("not a rate")

// RateForm says what ParseRate takes, for messages.
const RateForm = `a number per s, min, h or day, such as "200/s"`

// ParseRate reads "200/s". The unit is s, min (or m), h or day (or d).
func ParseRate(s string) (rate money.Decimal, per time.Duration, err error) {
	number, unit, ok := strings.Cut(s, "/")
	if !ok {
		return rate, 0, ErrRate
	}
	switch unit {
	case "s":
		per = time.Second
	case "m", "min":
		per = time.Minute
	case "h":
		per = time.Hour
	case "d", "day":
		per = 24 * time.Hour
	default:
		return rate, 0, ErrRate
	}
	if rate, err = money.ParseDecimal(number); err != nil {
		return rate, 0, fmt.Errorf("%w: %w", ErrRate, err)
	}
	return rate, per, nil
}

// rateText is the rate as ParseRate reads it.
func (b Bucket) rateText() string {
	switch b.Per {
	case time.Second:
		return b.Rate.String() + "/s"
	case time.Minute:
		return b.Rate.String() + "/min"
	case time.Hour:
		return b.Rate.String() + "/h"
	case 24 * time.Hour:
		return b.Rate.String() + "/day"
	default:
		return b.Rate.String() + "/" + b.Per.String()
	}
}
