package catalog

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
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
	bounds map[planMeter][]Bound
}

// Bound is a compiled limit with what was declared.
type Bound struct {
	Limit    quota.Limit
	Declared *Limit
	// Routes are the declared ones in the order in which they name a counter (quota.ScopeText); nil for all of the meter.
	Routes []string
}

// Covers tells whether requests on a route, by its match pattern, come under the limit.
func (b *Bound) Covers(match string) bool {
	return len(b.Routes) == 0 || slices.Contains(b.Routes, match)
}

type planMeter struct{ plan, meter string }

// Compile prepares a valid catalog. It keeps c, which must not be changed any more.
func Compile(version int64, c *Catalog) (*Compiled, error) {
	out := &Compiled{Version: version, Catalog: c, limits: map[planMeter][]quota.Limit{}, bounds: map[planMeter][]Bound{}}
	for i := range c.Plans {
		p := &c.Plans[i]
		keys := []string{""} // of routes without a meter
		for _, m := range c.Meters {
			keys = append(keys, m.Key)
		}
		for _, key := range keys {
			bounds, err := c.compileBounds(p, key)
			if err != nil {
				return nil, err
			}
			if len(bounds) > 0 {
				at := planMeter{p.Key, key}
				out.bounds[at], out.limits[at] = bounds, limitsOf(bounds)
			}
		}
	}
	return out, nil
}

// Limits are the plan's limits that a request on meterKey must pass; the slice is shared and must not be changed. Of limits with a
// choice of routes it has all: see Bounds.
func (c *Compiled) Limits(plan, meterKey string) []quota.Limit {
	return c.limits[planMeter{plan, meterKey}]
}

// Bounds are the same limits in the same order, with what was declared. meterKey is empty for routes without a meter.
func (c *Compiled) Bounds(plan, meterKey string) []Bound {
	return c.bounds[planMeter{plan, meterKey}]
}

// CompileLimits turns a plan's limits into quota.Limits in the meters' scales, in declared order, those that apply to meterKey
// (a limit on money applies to each meter that adds up, a limit on requests at once without a meter to all, and to meterKey "").
// ErrInvalid.
func (c *Catalog) CompileLimits(plan Plan, meterKey string) ([]quota.Limit, error) {
	bounds, err := c.compileBounds(&plan, meterKey)
	return limitsOf(bounds), err
}

func limitsOf(bounds []Bound) []quota.Limit {
	var out []quota.Limit
	for i := range bounds {
		out = append(out, bounds[i].Limit)
	}
	return out
}

func (c *Catalog) compileBounds(plan *Plan, meterKey string) ([]Bound, error) {
	m, ok := c.Meter(meterKey)
	if !ok && meterKey != "" {
		return nil, fmt.Errorf("plan %q: %w: no meter %q", plan.Key, ErrInvalid, meterKey)
	}
	var out []Bound
	for i := range plan.Limits {
		l := &plan.Limits[i]
		if !l.applies(&m) {
			continue
		}
		compiled, err := l.compile(m)
		if err != nil {
			return nil, fmt.Errorf("plan %q, limit %q: %w", plan.Key, l.Key, err)
		}
		b := Bound{Limit: compiled, Declared: l}
		if len(l.Routes) > 0 {
			b.Routes = l.CounterRoutes()
		}
		out = append(out, b)
	}
	return out, nil
}

// applies tells whether requests on a meter come under the limit. Money may be charged on any meter: by the plan, by an add-on, or by
// the version that a subscription is pinned to.
func (l *Limit) applies(m *Meter) bool {
	switch {
	case l.Money():
		return m.Key != "" && (m.Aggregation == 0 || m.Aggregation.Additive())
	case l.Concurrency != 0 && l.Meter == "":
		return true
	}
	return l.Meter == m.Key && m.Key != ""
}

// Wallet says that the limit is on credits in money.
func (l *Limit) Wallet() bool { return l.Credits && l.Meter == "" }

// Money says that the limit is on what usage costs.
func (l *Limit) Money() bool { return l.SpendCap != nil || l.Wallet() }

func (l *Limit) compile(m Meter) (quota.Limit, error) {
	out := quota.Limit{Key: l.Key, Meter: m.Key, Mode: l.Mode, Window: l.Window}
	var err error
	switch {
	case l.Bucket != nil:
		out.Kind = quota.TokenBucket
		out.Rate, out.Per, out.Burst, err = l.Bucket.Scaled(m.Scale)
	case l.Quota != nil:
		out.Kind = quota.Quota
		out.Quota, err = l.Quota.Scaled(m.Scale)
		if l.Fixed != 0 {
			out.Kind, out.Length = quota.Fixed, l.Fixed.Microseconds()
		}
		if l.Rolling != 0 {
			out.Kind, out.Length, out.Slot = quota.Rolling, l.Rolling.Microseconds(), RollingSlot(l.Rolling).Microseconds()
		}
	case l.Money():
		out.Kind = quota.SpendCap
		out.Window = period.BillingPeriod
	case l.Concurrency != 0:
		out.Kind, out.Quota, out.Meter = quota.Concurrency, l.Concurrency, l.Meter
	case l.Credits:
		out.Kind = quota.Credits
	default:
		err = errors.New("limits nothing")
	}
	if err != nil {
		return quota.Limit{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if l.Mode == quota.Grace {
		out.Extra = l.Extra(out.Quota)
	}
	return out, nil
}

// Extra is the grace on a limit, rounded down, 0 without one. limit is at most 10^15, the grace at most 1000 percent.
func (l *Limit) Extra(limit int64) int64 {
	if l.Mode != quota.Grace {
		return 0
	}
	high, low := bits.Mul64(uint64(max(0, limit)), uint64(max(0, l.Grace)))
	if high >= percent {
		return math.MaxInt64
	}
	q, _ := bits.Div64(high, low, percent)
	return int64(min(q, math.MaxInt64))
}

const percent = 100

// RollingGrid is the length from which on a rolling window has slots on the journal's grid.
const RollingGrid = time.Hour

// RollingSlot is the step in which a rolling window moves on: 15 minutes from an hour on, as the journal keeps usage; below it a
// sixtieth of the length (a fiftieth where that is no whole number of seconds), and at least a second.
func RollingSlot(length time.Duration) time.Duration {
	const many, fewer = 60, 50
	switch {
	case length >= RollingGrid:
		return period.BucketLength
	case length < many*time.Second:
		return time.Second
	case length%(many*time.Second) == 0:
		return length / many
	}
	return length / fewer
}

// Scaled is the bucket in whole units of 10^-scale: rate units refill each per microseconds, in lowest terms.
func (b Bucket) Scaled(scale int) (rate, per, burst int64, err error) {
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
