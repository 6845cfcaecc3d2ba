// Package catalog is what a seller declares: meters, plans with prices and limits, gateway routes. Values and rules, no YAML.
package catalog

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// The bounds of a catalog; Validate reports what passes them. MaxLimits stays below the 64 that quota.Decide takes.
const (
	MaxMeters     = 200
	MaxDimensions = 16 // of one meter
	MaxPlans      = 200
	MaxPrices     = 50 // of one plan
	MaxTiers      = 50 // of one price
	MaxLimits     = 20 // of one plan
	MaxRoutes     = 500
	MaxScale      = 9
)

// Catalog is one declared version. It is shared between goroutines once applied and must then not be changed.
type Catalog struct {
	Meters    []Meter
	Plans     []Plan
	Routes    []Route
	KeyHeader string // gateway.key_header; empty: Authorization: Bearer
}

// Meter says which events count, and how they fold into a quantity.
type Meter struct {
	Key, Event  string // Event is a CloudEvents type
	Aggregation meter.Aggregation
	Value       string // "data.tokens", sum only
	Unit        string
	Scale       int // decimals kept by counters, 0..MaxScale; Count has 0. An event's value is at most 10^15 units of it
	Dimensions  []string
}

// Plan is what a customer subscribes to.
type Plan struct {
	Key, Name string
	Currency  money.Currency
	Prices    []price.Price
	Limits    []Limit
}

// Limit is as declared; exactly one of Bucket, Quota, SpendCap is set. All are enforced hard here.
type Limit struct {
	Key, Meter string // Meter is empty for a spend cap
	Bucket     *Bucket
	Quota      *money.Decimal // in the meter's unit
	SpendCap   *money.Decimal // in the plan's currency, before tax and credits
	Window     period.Window  // zero for a token bucket
}

// Bucket refills Rate units each Per and holds Burst.
type Bucket struct {
	Rate, Burst money.Decimal
	Per         time.Duration // second, minute, hour or day
}

// Route forwards the requests that match it.
type Route struct {
	Match    string // net/http ServeMux pattern
	Upstream string // absolute http(s) URL
	Meter    string // empty: authenticated and authorized, not metered
	Cost     money.Decimal
	Timeout  time.Duration // until the upstream's response headers; default 30 s
}

// Meter finds a meter by key.
func (c *Catalog) Meter(key string) (Meter, bool) {
	for _, m := range c.Meters {
		if m.Key == key {
			return m, true
		}
	}
	return Meter{}, false
}

// Plan finds a plan by key.
func (c *Catalog) Plan(key string) (Plan, bool) {
	for _, p := range c.Plans {
		if p.Key == key {
			return p, true
		}
	}
	return Plan{}, false
}

// PricesOf are the prices that charge a meter, in declared order: its usage costs the sum of their charges.
func (p Plan) PricesOf(meterKey string) []price.Price {
	var out []price.Price
	for _, pr := range p.Prices {
		if meterKey != "" && pr.Meter == meterKey {
			out = append(out, pr)
		}
	}
	return out
}

// PriceOf is the first price of the plan that charges a meter; PricesOf has them all.
func (c *Catalog) PriceOf(plan Plan, meterKey string) (price.Price, bool) {
	if prices := plan.PricesOf(meterKey); len(prices) > 0 {
		return prices[0], true
	}
	return price.Price{}, false
}
