package catalog

import (
	"slices"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// The bounds of what is sold beside plans.
const (
	MaxAddOns   = 100
	MaxCoupons  = 500
	MaxTaxRules = 500
	MaxProducts = 50 // of one tax rule
)

// Terms are a plan's rules of billing.
type Terms struct {
	TrialDays int  // local days from the start that are free of all charges; limits hold
	Calendar  bool // billing periods follow the calendar; else the day of the start
	// Minimum is a commitment: usage charges of a billing period below it are topped up at its end. Maximum: what is above is
	// taken off. nil: none.
	Minimum, Maximum *money.Decimal
	// Threshold bills usage in the middle of a period once so much has accrued; nil: at the period's end only.
	Threshold *money.Decimal
	DueDays   int // an invoice is due so many local days after it was finalized; 0: at once
}

// Interval is the plan's billing period: the shortest interval of its prices, a month without any. All others are multiples of
// it; Validate sees to that.
func (p *Plan) Interval() period.Every {
	return Shortest(p.Prices)
}

// Shortest is the shortest interval of prices, a month without any.
func Shortest(prices []price.Price) period.Every {
	if len(prices) == 0 {
		return period.EveryMonth()
	}
	every := prices[0].Every
	for i := range prices {
		if prices[i].Every.Shorter(every) {
			every = prices[i].Every
		}
	}
	return every
}

// Overlap says that a unit of usage may be charged by both prices. A plan has no such prices: then each unit is charged once at
// most, and metered = rated + unpriced can be checked meter by meter.
func Overlap(a, b *price.Price) bool {
	if a.Meter == "" || a.Meter != b.Meter || a.Model == price.Flat || b.Model == price.Flat {
		return false
	}
	for _, x := range a.Filter {
		for _, y := range b.Filter {
			if x.Name == y.Name && x.Value != y.Value {
				return false
			}
		}
	}
	return true
}

// AddOn is sold beside the plans of its currency, or some of them: its prices join the subscription's. With those of the plan and
// of all other add-ons beside it they have keys of their own and charge no unit of usage twice, and their intervals are
// multiples of the plan's.
type AddOn struct {
	Key, Name string
	Currency  money.Currency
	Prices    []price.Price
	Plans     []string // only beside these; empty: all plans of the currency
}

// For says whether the add-on is sold beside a plan.
func (a *AddOn) For(p *Plan) bool {
	return a.Currency == p.Currency && (len(a.Plans) == 0 || slices.Contains(a.Plans, p.Key))
}

// AddOn finds an add-on by key.
func (c *Catalog) AddOn(key string) (AddOn, bool) {
	for _, a := range c.AddOns {
		if a.Key == key {
			return a, true
		}
	}
	return AddOn{}, false
}

// Coupon takes a part off an invoice, before tax. Exactly one of Percent and Amount is set.
type Coupon struct {
	Key, Name string
	Percent   *money.Decimal // "10" is 10 %
	Amount    *money.Decimal // in Currency
	Currency  money.Currency // of Amount
	// Periods is for how many invoices with charges it holds: 1 once, 0 forever. A fixed amount that is due once keeps its rest
	// for the next invoices.
	Periods int
	Plans   []string // only subscriptions of these plans; empty: all
	Prices  []string // only lines of these prices; empty: all
	Limit   int      // redemptions in all; 0: no bound
	// PerCustomer bounds the redemptions of one customer; 0: no bound.
	PerCustomer int
	Until       string // RFC 3339; not redeemed from then on; empty: always
}

// Keeps says that a fixed amount is due once, and what is left of it waits for the next invoices.
func (c *Coupon) Keeps() bool { return c.Amount != nil && c.Periods == 1 }

// Holds says whether it is taken off an invoice of a plan, when it was on so many before.
func (c *Coupon) Holds(plan string, before int) bool {
	return (len(c.Plans) == 0 || slices.Contains(c.Plans, plan)) && (c.Periods == 0 || c.Keeps() || before < c.Periods)
}

// Coupon finds a coupon by key.
func (c *Catalog) Coupon(key string) (Coupon, bool) {
	for _, o := range c.Coupons {
		if o.Key == key {
			return o, true
		}
	}
	return Coupon{}, false
}

// Taxes are the seller's rules. All rules that fit a line and a customer apply, in this order: see tax.Select.
type Taxes struct {
	Inclusive bool // prices contain the tax
	PerLine   bool // each line's tax is rounded; else each rate's, once per invoice
	Rules     []TaxRule
}

// TaxRule is one rate for some customers and products.
type TaxRule struct {
	Key, Name string
	Percent   money.Decimal
	Country   string   // ISO 3166 of the customer, "" all
	Region    string   // of the customer, "" all
	Products  []string // price.Price.Product; empty: all
	Compound  bool     // on the base and the rates before it
	// ReverseCharge: a customer with a tax id owes it; the invoice shows the rule with nothing to pay.
	ReverseCharge bool
}

// Billing is what stands on invoices, and when they are finalized.
type Billing struct {
	HalfEven bool   // rounding: half_even; else half away from zero
	Series   string // prefix of invoice numbers, such as "INV-"
	Grace    string // a period is closed so long after its end, as time.ParseDuration reads it; empty: as the server is started
	Seller   Seller
	Dunning  Dunning
}

// Seller is who sends the invoices.
type Seller struct {
	Name, TaxID, Street, City, PostalCode, Region, Country string // Country: ISO 3166
	Email, IBAN                                            string
	Note                                                   string // at the foot of an invoice
}

// Dunning is what happens to an invoice that is not paid.
type Dunning struct {
	Reminders []int  // days after the due date, rising
	After     int    // days after the due date at which Then happens; 0: never
	Then      string // "suspend" (402 at the gateway) or "uncollectible"; empty: nothing
}

// The words of Dunning.Then.
const (
	ThenSuspend       = "suspend"
	ThenUncollectible = "uncollectible"
)
