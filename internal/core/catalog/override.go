package catalog

import (
	"errors"
	"fmt"

	"github.com/tallystick/tallystick/internal/core/money"
)

// Overridden is the limit with another number, which the limit's field would take in the catalog: a bucket's rate such as "400/s" and burst, a concurrency, a quota or a cap.
func (l Limit) Overridden(value, burst string) (Limit, error) {
	if burst != "" && l.Bucket == nil {
		return l, errors.New("only a token bucket has a burst")
	}
	switch {
	case l.Bucket != nil:
		b := *l.Bucket
		if value != "" {
			rate, per, ok := ParseRate(value)
			if !ok || rate.Sign() <= 0 {
				return l, fmt.Errorf("%q is not %s", value, RateForm)
			}
			b.Rate, b.Per = rate, per
		} else if burst == "" {
			return l, errors.New("neither a rate nor a burst is given")
		}
		if burst != "" {
			n, err := money.ParseDecimal(burst)
			if err != nil || n.Sign() <= 0 {
				return l, fmt.Errorf("burst %q is not a number above 0", burst)
			}
			b.Burst = n
		}
		l.Bucket = &b
		return l, nil
	case l.Credits:
		return l, errors.New("credits are not overridden: grant more, or take some back")
	}
	n, err := money.ParseDecimal(value)
	if err != nil || n.Sign() < 0 {
		return l, fmt.Errorf("%q is not a number of 0 or more", value)
	}
	switch {
	case l.Concurrency > 0:
		whole, err := n.Scaled(0) // 0 is how a limit says that it is none of requests at once
		if err != nil || whole < 1 || whole > 1<<31 {
			return l, fmt.Errorf("%q is not a whole number of 1 or more: to stop a customer, suspend the key, or take the subscription back", value)
		}
		l.Concurrency = whole
	case l.SpendCap != nil:
		l.SpendCap = &n
	default:
		l.Quota = &n
	}
	return l, nil
}
