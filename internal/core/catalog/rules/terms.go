package rules

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// The bounds of terms and coupons.
const (
	trialMax   = 730 // days
	dueMax     = 365 // days
	periodsMax = 120 // invoices of one coupon
	redeemMax  = 1_000_000
	untilFirst = 2000 // years
	untilLast  = 2199
	taxMax     = 100 // percent
	couponMax  = 100 // percent
)

// measures says that the plan charges usage.
func measures(p *catalog.Plan) bool {
	return slices.ContainsFunc(p.Prices, func(pr price.Price) bool { return !pr.Licensed() })
}

// terms checks a plan's rules of billing.
func (v *validator) terms(path string, p *catalog.Plan) {
	t := &p.Terms
	v.days(path+".trial", t.TrialDays, trialMax)
	v.days(path+".due", t.DueDays, dueMax)
	for _, f := range []struct {
		name  string
		value *money.Decimal
	}{{"minimum_spend", t.Minimum}, {"maximum_spend", t.Maximum}, {"bill_at", t.Threshold}} {
		switch {
		case f.value == nil:
		case !measures(p):
			v.add(path+"."+f.name, "is about usage, and no price of the plan has a meter"+got(f.value.String()), "a price with a meter in this plan", "")
		default:
			v.above(path+"."+f.name, *f.value)
		}
	}
	v.rising(path, t.Minimum, t.Maximum)
	if t.Threshold != nil && t.Maximum != nil && t.Threshold.Cmp(*t.Maximum) > 0 {
		v.add(path+".bill_at", "is never reached: usage costs maximum_spend at most"+got(t.Threshold.String()), "at most "+t.Maximum.String(), "")
	}
}

func (v *validator) days(path string, n, most int) {
	if n < 0 || n > most {
		v.add(path, "is out of range"+got(catalog.FormatDays(n)), fmt.Sprintf("up to %d days", most), "")
	}
}

// addOns checks each add-on for itself, and beside every plan and every other add-on that it may stand with.
func (v *validator) addOns() {
	c := v.catalog
	v.count("add_ons", len(c.AddOns), catalog.MaxAddOns)
	used := map[string]string{}
	for i := range c.AddOns {
		a := &c.AddOns[i]
		path := fmt.Sprintf("add_ons[%d]", i)
		v.key(path, a.Key, used)
		v.text(path+".name", a.Name)
		if a.Currency.Code() == "" {
			v.add(path+".currency", "is missing", "an ISO 4217 code, such as USD", "")
		}
		if len(a.Prices) == 0 {
			v.add(path+".prices", "is empty", "at least one price", "")
		}
		v.plans(path+".plans", a.Plans, a.Currency, "add-on")
		v.prices(path+".prices", a.Prices, catalog.Shortest(a.Prices))
		if i < catalog.MaxAddOns {
			v.beside(path, a, i)
		}
	}
}

// plans checks references to plans; those of another currency cannot be meant.
func (v *validator) plans(path string, keys []string, currency money.Currency, what string) {
	v.count(path, len(keys), catalog.MaxPlans)
	for i, key := range keys[:min(len(keys), catalog.MaxPlans)] {
		at := fmt.Sprintf("%s[%d]", path, i)
		p, ok := v.plansBy[key]
		switch {
		case slices.Contains(keys[:i], key):
			v.add(at, "is listed twice"+got(key), "each plan once", "")
		case !ok:
			v.add(at, "is no plan of this catalog"+got(key), "a plan", v.suggest(key, v.planKeys()))
		case currency.Code() != "" && p.Currency.Code() != "" && p.Currency != currency:
			v.add(at, fmt.Sprintf("is in %s, and the %s in %s%s", p.Currency, what, currency, got(key)), "a plan in "+currency.Code(), "")
		}
	}
}

func (v *validator) planKeys() []string {
	var out []string
	for i := range v.catalog.Plans {
		out = append(out, v.catalog.Plans[i].Key)
	}
	return out[:min(len(out), catalog.MaxPlans)]
}

// beside checks what an add-on's prices are beside those of the plans that it is sold with, and of the add-ons before it. What
// does not fit beside one of them is not looked at beside the next.
func (v *validator) beside(path string, a *catalog.AddOn, n int) {
	before := len(v.problems)
	plans := v.catalog.Plans[:min(len(v.catalog.Plans), catalog.MaxPlans)]
	for i := range plans {
		p := &plans[i]
		if len(v.problems) > before {
			return
		}
		if a.For(p) {
			v.withPlan(path, a, p)
		}
	}
	for i := range v.catalog.AddOns[:n] {
		other := &v.catalog.AddOns[i]
		if len(v.problems) > before {
			return
		}
		if slices.ContainsFunc(plans, func(p catalog.Plan) bool { return a.For(&p) && other.For(&p) }) {
			v.clash(path, a, other.Prices, "add-on "+other.Key)
		}
	}
}

func (v *validator) withPlan(path string, a *catalog.AddOn, p *catalog.Plan) {
	v.clash(path, a, p.Prices, "plan "+p.Key)
	every := p.Interval()
	for j := range a.Prices {
		at := fmt.Sprintf("%s.prices[%d]", path, j)
		if _, ok := a.Prices[j].Every.Times(every); !ok {
			v.add(at+".every", fmt.Sprintf("is no multiple of %s, the billing period of plan %s%s", every, p.Key, got(a.Prices[j].Every.String())),
				fmt.Sprintf("whole multiples of %s; or, in plans of the add-on, only those that it fits beside", every), "")
		}
		v.cappedBeside(at, &a.Prices[j], p)
	}
}

// clash checks that an add-on's prices can stand on one invoice with others. Of more than MaxPrices, which is said elsewhere, it
// looks at the first.
func (v *validator) clash(path string, a *catalog.AddOn, others []price.Price, whose string) {
	for i := range a.Prices[:min(len(a.Prices), catalog.MaxPrices)] {
		p, at := &a.Prices[i], fmt.Sprintf("%s.prices[%d]", path, i)
		for j := range others[:min(len(others), catalog.MaxPrices)] {
			if o := &others[j]; o.Key == p.Key && p.Key != "" {
				v.add(at+".key", fmt.Sprintf("is the key of a price of %s already%s", whose, got(p.Key)), "a key that no price beside it has", "")
				break
			} else if catalog.Overlap(p, o) {
				v.add(at+".meter", fmt.Sprintf("is charged by price %q of %s already", o.Key, whose), wantApart, "")
				break
			}
		}
	}
}

// cappedBeside checks that a plan's limits on money can hold for an add-on's price too.
func (v *validator) cappedBeside(path string, pr *price.Price, p *catalog.Plan) {
	for i := range p.Limits {
		if !p.Limits[i].Money() {
			continue
		}
		if fault, want := v.uncapped(pr, p, &p.Limits[i]); fault != "" {
			v.add(path+".meter", fmt.Sprintf("does not go with limit %q of plan %s: %s", p.Limits[i].Key, p.Key, fault), want, "")
			return
		}
	}
}

func (v *validator) coupons() {
	c := v.catalog
	v.count("coupons", len(c.Coupons), catalog.MaxCoupons)
	used, places := map[string]string{}, v.pricePlaces()
	for i := range c.Coupons {
		o := &c.Coupons[i]
		path := fmt.Sprintf("coupons[%d]", i)
		v.key(path, o.Key, used)
		v.text(path+".name", o.Name)
		v.worth(path, o)
		if o.Periods < 0 || o.Periods > periodsMax {
			v.add(path+".periods", "is out of range"+got(fmt.Sprint(o.Periods)), fmt.Sprintf("once, forever, or 1 to %d invoices", periodsMax), "")
		}
		v.plans(path+".plans", o.Plans, o.Currency, "coupon")
		v.priceRefs(path+".prices", o, places)
		for _, f := range []struct {
			name string
			n    int
		}{{"limit", o.Limit}, {"per_customer", o.PerCustomer}} {
			if f.n < 0 || f.n > redeemMax {
				v.add(path+"."+f.name, "is out of range"+got(fmt.Sprint(f.n)), fmt.Sprintf("1 to %d redemptions", redeemMax), "")
			}
		}
		if o.Limit > 0 && o.PerCustomer > o.Limit {
			v.add(path+".per_customer", "is above the limit of all"+got(fmt.Sprint(o.PerCustomer)), fmt.Sprintf("at most %d", o.Limit), "")
		}
		if o.Until != "" {
			v.instant(path+".until", o.Until)
		}
	}
}

// worth checks what a coupon takes off.
func (v *validator) worth(path string, o *catalog.Coupon) {
	switch {
	case (o.Percent == nil) == (o.Amount == nil):
		message := "takes nothing off"
		if o.Percent != nil {
			message = "is a percentage and an amount"
		}
		v.add(path, message, "exactly one of percent and amount", "")
		return
	case o.Percent != nil && o.Percent.IsZero():
		v.add(path+".percent", `is not above 0 (got "0")`, `more than 0; "10" is 10 %`, "")
	case o.Percent != nil:
		v.percent(path+".percent", *o.Percent, couponMax)
	case o.Amount.IsZero():
		v.add(path+".amount", `is not above 0 (got "0")`, "more than 0", "")
	default:
		v.amount(path+".amount", *o.Amount)
	}
	switch {
	case o.Percent != nil && o.Currency.Code() != "":
		v.add(path+".currency", "does not go with percent"+got(o.Currency.Code()), "no currency", "")
	case o.Amount != nil && o.Currency.Code() == "":
		v.add(path+".currency", "is missing", "the ISO 4217 code of the amount, such as USD", "")
	case o.Amount != nil && o.Amount.Scale() > o.Currency.Digits():
		v.add(path+".amount", fmt.Sprintf("has more decimals than %s%s", o.Currency, got(o.Amount.String())), decimals(o.Currency.Digits()), "")
	}
}

// pricePlace is where a price stands: in a plan, or in an add-on.
type pricePlace struct {
	plan     string // empty: an add-on's
	currency money.Currency
}

// pricePlaces are the places of all prices, by key.
func (v *validator) pricePlaces() map[string][]pricePlace {
	out := map[string][]pricePlace{}
	add := func(at pricePlace, prices []price.Price) {
		for i := range prices {
			out[prices[i].Key] = append(out[prices[i].Key], at)
		}
	}
	for i := range v.catalog.Plans {
		add(pricePlace{v.catalog.Plans[i].Key, v.catalog.Plans[i].Currency}, v.catalog.Plans[i].Prices)
	}
	for i := range v.catalog.AddOns {
		add(pricePlace{"", v.catalog.AddOns[i].Currency}, v.catalog.AddOns[i].Prices)
	}
	return out
}

// priceRefs checks the prices that a coupon is for: each stands in a plan or add-on that it can be redeemed with.
func (v *validator) priceRefs(path string, o *catalog.Coupon, places map[string][]pricePlace) {
	v.count(path, len(o.Prices), catalog.MaxPrices)
	fits := func(at pricePlace) bool {
		return (o.Currency.Code() == "" || o.Currency == at.currency) && (at.plan == "" || len(o.Plans) == 0 || slices.Contains(o.Plans, at.plan))
	}
	for i, key := range o.Prices[:min(len(o.Prices), catalog.MaxPrices)] {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case slices.Contains(o.Prices[:i], key):
			v.add(at, "is listed twice"+got(key), "each price once", "")
		case !slices.ContainsFunc(places[key], fits):
			v.add(at, "is no price that the coupon can be used with"+got(key), "the key of a price of its plans, or of an add-on", v.suggest(key, nearby(places, fits)))
		}
	}
}

// nearby are the keys that suggestions are looked for in.
func nearby(places map[string][]pricePlace, fits func(pricePlace) bool) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(places)) {
		if slices.ContainsFunc(places[key], fits) && len(out) < catalog.MaxRoutes {
			out = append(out, key)
		}
	}
	return out
}

// instant checks a time in RFC 3339.
func (v *validator) instant(path, s string) {
	t, err := time.Parse(time.RFC3339, s)
	switch {
	case err != nil:
		suggestion := ""
		if _, err := time.Parse(time.DateOnly, s); err == nil {
			suggestion = fmt.Sprintf("%q", s+"T00:00:00Z")
		}
		v.add(path, "is not a time"+got(s), `a time of RFC 3339, such as "2027-01-01T00:00:00Z"`, suggestion)
	case t.UTC().Year() < untilFirst || t.UTC().Year() > untilLast:
		v.add(path, "is an absurd time"+got(s), fmt.Sprintf("a year from %d to %d", untilFirst, untilLast), "")
	}
}
