// Package catalog is what a seller declares: meters, plans with prices and limits, gateway routes. Values and rules, no YAML.
package catalog

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
)

type Catalog struct {
	Meters    []Meter
	Plans     []Plan
	Routes    []Route
	KeyHeader string // gateway.key_header; empty: Authorization: Bearer
}

type Meter struct {
	Key, Event  string
	Aggregation meter.Aggregation
	Value       string // "data.tokens", sum only
	Unit        string
	Scale       int // decimals kept by counters, 0..9; Count has 0
	Dimensions  []string
}

type Plan struct {
	Key, Name string
	Currency  money.Currency
	Prices    []price.Price
	Limits    []Limit
}

// Limit is as declared; exactly one of Bucket, Quota, SpendCap is set. All are enforced hard here.
type Limit struct {
	Key, Meter string
	Bucket     *Bucket
	Quota      *money.Decimal
	SpendCap   *money.Decimal
	Window     period.Window
}

// Bucket refills Rate units each Per and holds Burst.
type Bucket struct {
	Rate, Burst money.Decimal
	Per         time.Duration // second, minute, hour or day
}

type Route struct {
	Match    string // net/http ServeMux pattern
	Upstream string // absolute http(s) URL
	Meter    string // empty: authenticated and authorized, not metered
	Cost     money.Decimal
	Timeout  time.Duration // until the upstream's response headers; default 30 s
}

// Problem is one fault of a catalog. Path is dotted with indexes: "plans[1].prices[0].tiers[2].up_to".
type Problem struct {
	Path, Message, Expected, Suggestion string
}

// Validate finds every fault, in document order; none means that Compile cannot fail.
func Validate(c *Catalog) []Problem { panic("skeleton") }

func (c *Catalog) Meter(key string) (Meter, bool) { panic("skeleton") }
func (c *Catalog) Plan(key string) (Plan, bool)   { panic("skeleton") }

// CompileLimits turns a plan's limits into quota.Limits in the meters' scales, in declared order, those that apply to meterKey
// (a spend cap applies to each meter that a price of the plan charges).
func (c *Catalog) CompileLimits(plan Plan, meterKey string) ([]quota.Limit, error) { panic("skeleton") }

// Change is one line of a diff: Op is "+", "-" or "~".
type Change struct {
	Op   string `json:"op"`
	Path string `json:"path"` // "plans.free.limits.daily.quota"
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Diff compares by key, in declared order of next, removals last. from may be nil.
func Diff(from, next *Catalog) []Change { panic("skeleton") }

// Suggest is the nearest of candidates to a misspelt word (edit distance ≤ 2 or a third of its length), else "".
func Suggest(word string, candidates []string) string { panic("skeleton") }
