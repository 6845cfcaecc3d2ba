// Package catalog is what a seller declares: event types, meters, plans with prices and limits, gateway routes. Values and
// rules, no YAML.
package catalog

import (
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// The bounds of a catalog; Validate reports what passes them. MaxLimits stays below the 64 that quota.Decide takes.
const (
	MaxMeters       = 200
	MaxDimensions   = 16 // of one meter
	MaxPlans        = 200
	MaxPrices       = 50  // of one plan
	MaxTiers        = 50  // of one price
	MaxCells        = 200 // of one price
	MaxLimits       = 20  // of one plan
	MaxRoutes       = 500
	MaxEntitlements = 50 // of one plan
	MaxScale        = 9

	MaxEventTypes = 200
	MaxSchema     = 32 << 10 // bytes of one JSON Schema, canonical
	MaxExpression = 1024     // characters of a CEL expression
	MaxMatches    = 8        // paths of one filter
	MaxValues     = 50       // values of one path of a filter
)

// How far an event's time may lie from its receipt where the catalog does not say.
const (
	AgeDefault   = 400 * 24 * time.Hour
	AheadDefault = time.Hour
)

// Catalog is one declared version. It is shared between goroutines once applied and must then not be changed.
type Catalog struct {
	Events    []EventType
	Ingest    Ingest
	Meters    []Meter
	Plans     []Plan
	Routes    []Route
	KeyHeader string // gateway.key_header; empty: Authorization: Bearer
	EndUser   EndUser

	AddOns  []AddOn
	Coupons []Coupon
	Taxes   Taxes
	Billing Billing
}

// EventType is what the data of one type of events must look like.
type EventType struct {
	Type     string
	Schema   []byte // JSON Schema 2020-12, canonical JSON
	Breaking bool   // it may refuse what an earlier version took
}

// Ingest says which event times are taken. Zero stands for the default.
type Ingest struct {
	MaxAge, MaxAhead time.Duration // before and after the receipt
}

// Bounds are the declared ones, or the defaults.
func (i Ingest) Bounds() (age, ahead time.Duration) {
	age, ahead = i.MaxAge, i.MaxAhead
	if age == 0 {
		age = AgeDefault
	}
	if ahead == 0 {
		ahead = AheadDefault
	}
	return age, ahead
}

// Meter says which events count, and how they fold into a quantity.
type Meter struct {
	Key, Event  string // Event is a CloudEvents type
	Aggregation meter.Aggregation
	Custom      bool   // aggregation: custom. Aggregation is Sum then, and Value a CEL expression
	Value       string // "data.tokens"; Count has none
	Filter      Filter // which events of the type count
	Unit        string
	Scale       int // decimals kept by counters, 0..MaxScale; Count and Unique have 0. An event's value is at most 10^15 units of it
	Dimensions  []string
	From        map[string]string // by dimension: the path it is read from, where that is not the member of its name
}

// Filter chooses events: by an expression, or by matches that must all hold. The zero Filter takes all.
type Filter struct {
	Expression string // CEL
	Matches    []Match
}

// Match holds where one of the values stands at the path. Values compare as text, so 5 and "5" are the same.
type Match struct {
	Path   string
	Values []string
}

// None says that the filter takes all events.
func (f Filter) None() bool { return f.Expression == "" && len(f.Matches) == 0 }

// String is the filter on one line; equal filters are equal texts, in whatever order they were written.
func (f Filter) String() string {
	if f.Expression != "" {
		return f.Expression
	}
	parts := make([]string, len(f.Matches))
	for i, m := range f.Matches {
		values := slices.Clone(m.Values)
		slices.Sort(values)
		parts[i] = m.Path + ": [" + strings.Join(values, ", ") + "]"
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// Recounts names the fields by which the meter counts in another way than it did: "value", "filter". None: what was counted
// and what will be counted add up.
func (m Meter) Recounts(was Meter) []string {
	before, after := was.reads(), m.reads()
	var out []string
	for _, c := range before.changes(after) {
		out = append(out, strings.TrimPrefix(c.Path, after.path+"."))
	}
	return out
}

// Member is what a dimension is read from, below "data".
func (m Meter) Member(dimension string) string {
	if path := m.From[dimension]; path != "" {
		return strings.TrimPrefix(path, "data.")
	}
	return dimension
}

// Word is the meter's aggregation as the catalog says it.
func (m Meter) Word() string {
	if m.Custom {
		return "custom"
	}
	return m.Aggregation.String()
}

// Routable says that a gateway can count the meter: each request is worth the same before and after it.
func (m Meter) Routable() bool {
	return m.Aggregation.Additive() && !m.Custom && m.Filter.None()
}

// EventType finds an event type.
func (c *Catalog) EventType(name string) (EventType, bool) {
	for _, e := range c.Events {
		if e.Type == name {
			return e, true
		}
	}
	return EventType{}, false
}

// Plan is what a customer subscribes to.
type Plan struct {
	Key, Name string
	Currency  money.Currency
	Prices    []price.Price
	Limits    []Limit
	// Entitlements are features without a counter, by key.
	Entitlements []Entitlement
	// Baseline says what is done about abnormal use.
	Baseline Baseline
	Terms    Terms
}

// Baseline compares a customer's use with what is usual at that hour of the week.
type Baseline struct {
	Factor   int64 // use above Factor times the usual is abnormal; 0: not watched
	Throttle bool  // and is denied with abnormal-usage-detected; else only flagged
}

// Entitled is the value of an entitlement, "" without one.
func (p Plan) Entitled(key string) string {
	for _, e := range p.Entitlements {
		if e.Key == key {
			return e.Value
		}
	}
	return ""
}

// Limit is as declared; exactly one of Bucket, Quota, Concurrency, SpendCap, Credits is set.
type Limit struct {
	Key, Meter string // Meter is empty for a spend cap, for credits in money, and for a concurrency limit over all routes
	Bucket     *Bucket
	Quota      *money.Decimal // in the meter's unit, in each Window, Fixed or Rolling
	SpendCap   *money.Decimal // in the plan's currency, before tax and credits
	// Concurrency is how many requests may run at once; 0: none declared.
	Concurrency int64
	Credits     bool          // what the customer was granted of the meter, or of money, and has not used
	Window      period.Window // calendar window of a Quota or SpendCap; zero otherwise
	Fixed       time.Duration // Quota: windows of this length, one after the other from 1970 on; zero: none
	Rolling     time.Duration // Quota: at any instant, the last so long (a sliding window); zero: none

	Per    []Scope  // for each of these its own counter, in the order of the constants; empty: one for the customer
	Routes []string // match patterns of the routes that it covers; empty: all of the meter

	Mode    quota.Mode // hard, soft, grace, shadow
	Grace   int64      // Grace: percent above the limit
	Failure Failure    // when the authority cannot be reached
	Shape   *Shape     // wait a little before refusing; nil: refuse at once
	Notify  []int      // percent of the limit at which a reminder goes out, rising; nil: NotifyDefault
}

// CounterRoutes are the limit's routes in the order in which they name its counter.
func (l *Limit) CounterRoutes() []string {
	out := slices.Clone(l.Routes)
	slices.Sort(out)
	return out
}

// Scope is whose counter a limit uses, below the customer.
type Scope uint8

// The scopes.
const (
	PerProject Scope = iota + 1 // of the key
	PerKey
	PerUser  // the end user that the request names: Gateway.EndUser
	PerRoute // by match pattern
)

// Failure is what a gateway does for a limit when its lease is spent and the authority cannot be reached.
type Failure struct {
	Kind  FailureKind // zero: FailClosed
	Local int64       // FailLocal: percent of the limit that this gateway alone may admit beyond its lease in a window
}

// FailureKind is closed, open or local.
type FailureKind uint8

// The kinds of failure mode. Only a closed one keeps a hard limit from being passed.
const (
	FailClosed FailureKind = iota // refuse with 503
	FailOpen                      // admit, count what was admitted
	FailLocal                     // admit a part
)

// Shape lets a denied request wait for its turn: at most Queue of a key wait, none longer than MaxWait.
type Shape struct {
	MaxWait time.Duration
	Queue   int
}

// Entitlement is a feature of a plan that is not counted: on or off, or a fixed value.
type Entitlement struct {
	Key   string
	Value string // "true", "false", or a static value such as "gold" or "5"
}

// Bucket refills Rate units each Per and holds Burst.
type Bucket struct {
	Rate, Burst money.Decimal
	Per         time.Duration // second, minute, hour or day
}

// Route forwards the requests that match it.
type Route struct {
	Match    string        // net/http ServeMux pattern
	Upstream string        // absolute http(s) URL
	Meter    string        // empty: authenticated and authorized, not metered
	Cost     money.Decimal // fixed cost; with From, the estimate that is reserved
	From     CostSource    // where the actual cost is read from after the answer; zero: Cost is it
	Path     string        // FromHeader: its name; FromJSON: a path such as usage.total_tokens; FromExpression: CEL
	Max      money.Decimal // the most that one request may cost; zero: not declared
	Capped   bool          // an actual cost above Max is charged as Max; else in full, as overshoot
	Requires string        // an entitlement that the plan must have on; empty: none
	Refund   Refund
	Timeout  time.Duration // until the upstream's response headers; default 30 s
}

// Reserve is what one request reserves: the declared maximum where there is one, else the estimate.
func (r *Route) Reserve() money.Decimal {
	if r.From != 0 && !r.Max.IsZero() {
		return r.Max
	}
	return r.Cost
}

// CostSource is where the actual cost of a request comes from.
type CostSource uint8

// The sources of costs.
const (
	FromRequestBytes CostSource = iota + 1
	FromResponseBytes
	FromBytes // both
	FromHeader
	FromJSON // a member of the answer's JSON; of the last event that has it, in an event stream
	FromExpression
)

// Refund says which outcomes give the cost back.
type Refund struct {
	Statuses   []StatusRange // nil: 500 to 599
	Timeout    bool          // the upstream did not answer in time; default true
	ClientGone bool          // the client left before the upstream's headers; default true
	// Daily bounds the refunded cost per customer and day, in the meter's unit; zero: no bound. What is above it stays charged.
	Daily money.Decimal
}

// StatusRange is from First to Last, both included.
type StatusRange struct{ First, Last int }

// EndUser is where a request names its end user, who is only known to the API's customer. It is taken on the caller's word:
// whoever holds the key could as well name no user.
type EndUser struct {
	Header string // empty: none
	Claim  string // a claim of the JWT in Header ("Bearer " is cut off); its signature is not checked. Empty: the header's value
}

// NotifyDefault are the percentages of a limit at which reminders go out where the catalog does not say.
func NotifyDefault() []int { return []int{80, 100} }

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
