package catalog

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// ErrInvalid is returned for a catalog that Validate finds fault with.
var ErrInvalid = errors.New("invalid catalog")

// debtMax bounds burst × per, the size of a bucket in the unit that quota.State counts debts in.
const debtMax = 1 << 62

// Compiled is one applied, validated catalog version with its limits ready for the hot path. It is immutable.
type Compiled struct {
	Version int64
	*Catalog
	limits map[planMeter][]quota.Limit
}

type planMeter struct{ plan, meter string }

// Compile prepares a valid catalog. It keeps c, which must not be changed any more.
func Compile(version int64, c *Catalog) (*Compiled, error) {
	out := &Compiled{Version: version, Catalog: c, limits: map[planMeter][]quota.Limit{}}
	for _, p := range c.Plans {
		for _, m := range c.Meters {
			ls, err := c.CompileLimits(p, m.Key)
			if err != nil {
				return nil, err
			}
			if len(ls) > 0 {
				out.limits[planMeter{p.Key, m.Key}] = ls
			}
		}
	}
	return out, nil
}

// Limits are the plan's limits that a request on meterKey must pass; the slice is shared and must not be changed.
func (c *Compiled) Limits(plan, meterKey string) []quota.Limit {
	return c.limits[planMeter{plan, meterKey}]
}

// CompileLimits turns a plan's limits into quota.Limits in the meters' scales, in declared order, those that apply to meterKey
// (a spend cap applies to each meter that a price of the plan charges). ErrInvalid.
func (c *Catalog) CompileLimits(plan Plan, meterKey string) ([]quota.Limit, error) {
	m, ok := c.Meter(meterKey)
	if !ok {
		return nil, fmt.Errorf("plan %q: %w: no meter %q", plan.Key, ErrInvalid, meterKey)
	}
	var out []quota.Limit
	for _, l := range plan.Limits {
		if l.SpendCap == nil && l.Meter != meterKey || l.SpendCap != nil && len(plan.PricesOf(meterKey)) == 0 {
			continue
		}
		compiled, err := l.compile(m)
		if err != nil {
			return nil, fmt.Errorf("plan %q, limit %q: %w", plan.Key, l.Key, err)
		}
		out = append(out, compiled)
	}
	return out, nil
}

func (l Limit) compile(m Meter) (quota.Limit, error) {
	out := quota.Limit{Key: l.Key, Meter: m.Key, Window: l.Window}
	var err error
	switch {
	case l.Bucket != nil:
		out.Kind = quota.TokenBucket
		out.Rate, out.Per, out.Burst, err = l.Bucket.scaled(m.Scale)
	case l.Quota != nil:
		out.Kind = quota.Quota
		out.Quota, err = l.Quota.Scaled(m.Scale)
	case l.SpendCap != nil:
		out.Kind = quota.SpendCap
		out.Window = period.BillingPeriod
	default:
		err = errors.New("limits nothing")
	}
	if err != nil {
		return quota.Limit{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return out, nil
}

// scaled is the bucket in whole units of 10^-scale: rate units refill each per microseconds, in lowest terms.
func (b Bucket) scaled(scale int) (rate, per, burst int64, err error) {
	decimals := max(scale, b.Rate.Scale())
	if rate, err = b.Rate.Scaled(decimals); err != nil {
		return 0, 0, 0, fmt.Errorf("rate: %w", err)
	}
	if burst, err = b.Burst.Scaled(scale); err != nil {
		return 0, 0, 0, fmt.Errorf("burst: %w", err)
	}
	per = int64(b.Per / time.Microsecond)
	if rate <= 0 || burst <= 0 || per <= 0 {
		return 0, 0, 0, errors.New("rate, burst and the time between must be above 0")
	}
	rate, per = reduce(rate, per)
	for range decimals - scale { // a rate finer than the meter: fewer units over a longer time
		high, low := bits.Mul64(uint64(per), 10)
		if high != 0 || low > debtMax {
			return 0, 0, 0, errors.New("rate is too slow to count exactly")
		}
		rate, per = reduce(rate, int64(low))
	}
	if high, low := bits.Mul64(uint64(burst), uint64(per)); high != 0 || low > debtMax {
		return 0, 0, 0, errors.New("burst is too large for so slow a rate")
	}
	return rate, per, burst, nil
}

func reduce(a, b int64) (int64, int64) {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x, b / x
}
