package rules

import (
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// The bounds of a limit.
const (
	fixedMin       = time.Second
	fixedMax       = 31 * day
	rollingMin     = 10 * time.Second
	rollingMax     = 92 * day
	concurrencyMax = 1_000_000
	percentMax     = 1000 // of grace and reminders
	localMax       = 100
	shapeMax       = time.Minute
	queueMax       = 10_000
	maxNotify      = 10
	maxLimitRoutes = 50
)

// word is the kind of a limit as the catalog says it.
func word(l *catalog.Limit) string {
	switch {
	case l.Bucket != nil:
		return "token_bucket"
	case l.Concurrency != 0:
		return "concurrency"
	case l.SpendCap != nil:
		return "spend_cap"
	case l.Credits:
		return "credits"
	default:
		return "quota"
	}
}

// limit checks one limit; counters maps what the plan's earlier limits count on to their keys.
func (v *validator) limit(path string, p *catalog.Plan, l *catalog.Limit, counters map[string]string) {
	kinds := 0
	for _, set := range []bool{l.Bucket != nil, l.Quota != nil, l.SpendCap != nil, l.Concurrency != 0, l.Credits} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		message := "limits nothing"
		if kinds > 1 {
			message = "is several limits in one"
		}
		v.add(path, message, "exactly one of token_bucket, quota, concurrency, credits, spend_cap", "")
		return
	}
	v.scope(path, l)
	v.enforcement(path, l)
	if l.SpendCap != nil {
		v.spendCap(path, p, l, counters)
		return
	}
	if l.Wallet() {
		v.noWindow(path, l)
		v.money(path+".credits", p, l, counters)
		return
	}
	m, known := catalog.Meter{}, false
	if l.Meter != "" || l.Concurrency == 0 {
		if m, known = v.meterRef(path+".meter", l.Meter); known && m.Key != "" && !m.Aggregation.Additive() && m.Aggregation != 0 {
			v.add(path+".meter", fmt.Sprintf("cannot be limited: what aggregation %s measures does not add up request by request%s", m.Word(), got(l.Meter)), wantAdditive, "")
			return
		}
	}
	if l.Quota != nil {
		v.quota(path, l, m, known, counters)
		return
	}
	v.noWindow(path, l)
	switch {
	case l.Bucket != nil:
		if known {
			v.bucket(path+".token_bucket", *l.Bucket, m)
		}
		return
	case l.Concurrency < 0 || l.Concurrency > concurrencyMax:
		v.add(path+".concurrency", fmt.Sprintf("is out of range (got \"%d\")", l.Concurrency), fmt.Sprintf("1 to %d", concurrencyMax), "")
	}
	v.counter(path, l, word(l), counters)
}

// noWindow refuses the fields that only go with a quota.
func (v *validator) noWindow(path string, l *catalog.Limit) {
	for _, f := range []struct {
		name, value string
	}{{"window", windowText(l.Window)}, {"fixed", spanText(l.Fixed)}, {"rolling", spanText(l.Rolling)}} {
		if f.value != "" {
			v.add(path+"."+f.name, "does not go with "+word(l)+got(f.value), "no "+f.name, "")
		}
	}
}

func windowText(w period.Window) string {
	if w == 0 {
		return ""
	}
	return w.String()
}

func spanText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return catalog.FormatSpan(d)
}

// quota checks a limit on what a window may consume.
func (v *validator) quota(path string, l *catalog.Limit, m catalog.Meter, known bool, counters map[string]string) {
	if known {
		v.units(path+".quota", *l.Quota, m)
	}
	windows := 0
	for _, set := range []bool{l.Window != 0, l.Fixed != 0, l.Rolling != 0} {
		if set {
			windows++
		}
	}
	switch {
	case windows > 1:
		v.add(path, "has several windows", "one of window, fixed, rolling", "")
		return
	case windows == 0 || l.Window > period.Year:
		v.add(path+".window", "is missing", "hour, day, week, month, quarter, year or billing_period; or fixed or rolling", "")
		return
	case l.Fixed != 0:
		v.length(path+".fixed", l.Fixed, fixedMin, fixedMax, period.BucketLength)
	case l.Rolling != 0:
		v.length(path+".rolling", l.Rolling, rollingMin, rollingMax, catalog.RollingGrid)
	}
	v.counter(path, l, windowText(l.Window)+" "+spanText(l.Fixed)+" "+spanText(l.Rolling), counters)
}

// length checks the length of a window: whole seconds, and from a length on whole quarters of an hour, as the journal keeps them.
func (v *validator) length(path string, d, least, most, grid time.Duration) {
	switch {
	case d < least || d > most:
		v.add(path, "is out of range"+got(catalog.FormatSpan(d)), catalog.FormatSpan(least)+" to "+catalog.FormatSpan(most), "")
	case d%time.Second != 0:
		v.add(path, "is not in whole seconds"+got(catalog.FormatSpan(d)), "whole seconds", "")
	case d >= grid && d%period.BucketLength != 0:
		v.add(path, "is not in whole quarters of an hour"+got(catalog.FormatSpan(d)), "a multiple of 15m, from "+catalog.FormatSpan(grid)+" on",
			catalog.FormatSpan(max(grid, d.Round(period.BucketLength))))
	}
}

// counter says where a second limit counts the same in the same window: it would only be a mistake about the first.
func (v *validator) counter(path string, l *catalog.Limit, window string, counters map[string]string) {
	counter := fmt.Sprintf("%s %s %v %q", l.Meter, window, l.Per, l.CounterRoutes())
	if first, taken := counters[counter]; taken {
		message, want := "limits the same meter and window as limit %q", "one quota for each meter and window"
		switch {
		case l.Concurrency != 0:
			message, want = "limits the same requests at once as limit %q", "one limit on requests at once for each meter"
		case l.Credits:
			message, want = "takes the same credits as limit %q", "one limit on credits for each meter"
		}
		if len(l.Per) > 0 || len(l.Routes) > 0 {
			want += ", scope and choice of routes"
		}
		v.add(path, fmt.Sprintf(message, first), want, "")
	}
	counters[counter] = l.Key
}

// scope checks whose the limit's counters are.
func (v *validator) scope(path string, l *catalog.Limit) {
	if (l.SpendCap != nil || l.Credits) && len(l.Per)+len(l.Routes) > 0 {
		field := "per"
		if len(l.Per) == 0 {
			field = "routes"
		}
		v.add(path+"."+field, "does not go with "+word(l)+", which is the customer's", "no per and no routes", "")
		return
	}
	for i, s := range l.Per {
		at := fmt.Sprintf("%s.per[%d]", path, i)
		switch {
		case s < catalog.PerProject || s > catalog.PerRoute:
			v.add(at, "is unknown", "project, key, user or route", "")
		case slices.Contains(l.Per[:i], s):
			v.add(at, "is set twice"+got(s.String()), "each scope once", "")
		case s == catalog.PerUser && v.catalog.EndUser.Header == "":
			v.add(at, "needs to know who the end user is"+got(s.String()), "gateway.end_user: {header: X-End-User}", "")
		}
	}
	v.count(path+".routes", len(l.Routes), maxLimitRoutes)
	for i, match := range l.Routes {
		at := fmt.Sprintf("%s.routes[%d]", path, i)
		n := slices.IndexFunc(v.catalog.Routes, func(r catalog.Route) bool { return r.Match == match })
		switch {
		case slices.Contains(l.Routes[:i], match):
			v.add(at, "is set twice"+got(match), "each route once", "")
		case n < 0:
			v.add(at, "is no route of this catalog"+got(match), "the match of a route, as it stands there", v.suggest(match, v.matches()))
		case l.Meter != "" && v.catalog.Routes[n].Meter != l.Meter:
			v.add(at, fmt.Sprintf("does not count on meter %s%s", l.Meter, got(match)), "a route with the limit's meter", "")
		}
	}
}

// matches are the routes' patterns, as many as suggestions are looked for in.
func (v *validator) matches() []string {
	var out []string
	for _, r := range v.catalog.Routes {
		if out = append(out, r.Match); len(out) == catalog.MaxRoutes {
			break
		}
	}
	return out
}

// enforcement checks what happens at the limit, near it, and without the authority.
func (v *validator) enforcement(path string, l *catalog.Limit) {
	switch {
	case l.Mode > quota.Shadow:
		v.add(path+".enforcement", "is unknown", "hard, soft, grace or shadow", "")
		return
	case l.Mode == quota.Grace && (l.Bucket != nil || l.SpendCap != nil || l.Credits):
		v.add(path+".enforcement", "does not go with "+word(l)+got("grace"), "hard, soft or shadow", "")
	case l.Mode == quota.Grace && (l.Grace < 1 || l.Grace > percentMax):
		v.add(path+".grace", v.percentFault(l.Grace), fmt.Sprintf(`1 to %d percent of the limit, such as "10%%"`, percentMax), "")
	case l.Mode != quota.Grace && l.Grace != 0:
		v.add(path+".grace", "does not go with enforcement "+l.Mode.String()+got(fmt.Sprintf("%d%%", l.Grace)), "enforcement: grace beside it", "")
	}
	loose := l.Mode == quota.Soft || l.Mode == quota.Shadow
	switch f := l.Failure; {
	case f.Kind > catalog.FailLocal:
		v.add(path+".failure", "is unknown", wantFailure, "")
	case f.Kind == catalog.FailLocal && (f.Local < 1 || f.Local > localMax):
		v.add(path+".failure", "is out of range"+got(f.String()), fmt.Sprintf("local 1%% to local %d%%", localMax), "")
	case f.Kind != catalog.FailLocal && f.Local != 0:
		v.add(path+".failure", "has a percentage without local", wantFailure, "")
	case loose && f.Kind != catalog.FailClosed:
		v.add(path+".failure", "does not go with enforcement "+l.Mode.String()+", which refuses nothing"+got(f.String()), "no failure", "")
	}
	v.shape(path+".shape", l, loose)
	v.notify(path+".notify", l)
}

const wantFailure = `closed, open or local N%, such as "local 20%"`

func (v *validator) percentFault(percent int64) string {
	if percent == 0 {
		return "is missing"
	}
	return "is out of range" + got(fmt.Sprintf("%d%%", percent))
}

func (v *validator) shape(path string, l *catalog.Limit, loose bool) {
	s := l.Shape
	switch {
	case s == nil:
	case loose:
		v.add(path, "does not go with enforcement "+l.Mode.String()+", which refuses nothing", "no shape", "")
	case l.SpendCap != nil || l.Credits || l.Window != 0:
		v.add(path, "does not help: the limit does not clear in so short a time", "token_bucket, fixed, rolling or concurrency", "")
	case s.MaxWait < time.Millisecond || s.MaxWait > shapeMax:
		v.add(path+".max_wait", "is out of range"+got(s.MaxWait.String()), "1ms to 1m", "")
	case s.Queue < 1 || s.Queue > queueMax:
		v.add(path+".queue", fmt.Sprintf("is out of range (got \"%d\")", s.Queue), fmt.Sprintf("1 to %d requests of one key", queueMax), "")
	}
}

func (v *validator) notify(path string, l *catalog.Limit) {
	if len(l.Notify) == 0 {
		return
	}
	if l.Bucket != nil || l.Concurrency != 0 {
		v.add(path, "does not go with "+word(l)+", which is full again and again", "no notify", "")
		return
	}
	v.count(path, len(l.Notify), maxNotify)
	for i, n := range l.Notify {
		at, text := fmt.Sprintf("%s[%d]", path, i), fmt.Sprint(n)
		switch {
		case n < 1 || n > percentMax:
			v.add(at, "is out of range"+got(text), fmt.Sprintf("1 to %d percent of the limit", percentMax), "")
		case i > 0 && n <= l.Notify[i-1]:
			v.add(at, "does not rise"+got(text), fmt.Sprintf("more than %d", l.Notify[i-1]), "")
		}
	}
}

func (v *validator) spendCap(path string, p *catalog.Plan, l *catalog.Limit, counters map[string]string) {
	if l.Meter != "" {
		v.add(path+".meter", "does not go with spend_cap, which covers all usage prices of the plan"+got(l.Meter), "no meter", "")
	}
	for _, f := range []struct {
		name string
		span time.Duration
	}{{"fixed", l.Fixed}, {"rolling", l.Rolling}} {
		if f.span != 0 {
			v.add(path+"."+f.name, "does not go with spend_cap"+got(catalog.FormatSpan(f.span)), "window: billing_period", "")
		}
	}
	if l.SpendCap.IsZero() {
		v.add(path+".spend_cap", `is not above 0 (got "0")`, "more than 0", "")
	}
	v.amount(path+".spend_cap", *l.SpendCap)
	if l.Window != period.BillingPeriod {
		message := "is missing"
		if l.Window != 0 {
			message = "does not go with spend_cap" + got(l.Window.String())
		}
		v.add(path+".window", message, "billing_period", "billing_period")
	}
	v.money(path+".spend_cap", p, l, counters)
}

// money checks that a limit on what usage costs can hold, and is the only one of its kind.
func (v *validator) money(path string, p *catalog.Plan, l *catalog.Limit, counters map[string]string) {
	kind, one := "spend_cap", "spend cap"
	if l.Wallet() {
		kind, one = "wallet", "limit on credits in money"
	}
	if !measures(p) {
		v.add(path, "limits nothing: the plan has no price on a meter", "a price with a meter in this plan", "")
	}
	for i := range p.Prices {
		if fault, want := v.uncapped(&p.Prices[i], p, l); fault != "" {
			v.add(path, "cannot hold: "+fault, want, "")
			break
		}
	}
	if first, taken := counters[kind]; taken {
		v.add(path, fmt.Sprintf("is a second %s after limit %q", one, first), "one "+one+" in a plan", "")
	}
	counters[kind] = l.Key
}

// uncapped is why a limit on money cannot hold for a price, and what would be right; empty where it can. What the limit knows of a request
// is how much of which meter it takes.
func (v *validator) uncapped(p *price.Price, plan *catalog.Plan, l *catalog.Limit) (fault, want string) {
	const another = ", or another plan without the limit for it"
	m, known := v.meters[p.Meter]
	if !known || p.Licensed() || m.Aggregation == 0 {
		return "", ""
	}
	name := fmt.Sprintf("price %q is on meter %s", p.Key, m.Key)
	switch {
	case !m.Aggregation.Additive():
		return fmt.Sprintf("%s, and what aggregation %s measures does not add up request by request", name, m.Word()),
			"usage prices on meters with aggregation count, sum or custom, or another plan without the limit for them"
	case len(p.Filter) > 0:
		return name + " with a filter, and the limit counts all of the meter", "a price without a filter" + another
	case p.Model.ByEvent() && !p.Monotone():
		return fmt.Sprintf("%s with model %s, and no total of the meter tells what it charges", name, p.Model), "a model with tiers or a unit_amount" + another
	case l.Mode == quota.Hard && !p.Monotone():
		return fmt.Sprintf("%s with model %s, of which more usage may cost less, or a single unit much", name, p.Model),
			"model: graduated, unit or package, or enforcement: soft"
	case l.Mode == quota.Hard && !p.Every.Equal(plan.Interval()):
		return fmt.Sprintf("price %q is charged every %s, and the limit counts a billing period of %s", p.Key, p.Every, plan.Interval()),
			"the billing period as interval of the price" + another
	}
	return "", ""
}

func (v *validator) bucket(path string, b catalog.Bucket, m catalog.Meter) {
	sound := v.units(path+".burst", b.Burst, m)
	if sound && b.Burst.Cmp(money.FromInt(1)) < 0 {
		v.add(path+".burst", "holds less than one unit"+got(b.Burst.String()), "at least 1", "")
		sound = false
	}
	switch {
	case b.Unit() == "":
		v.add(path+".rate", "has an unknown unit of time", catalog.RateForm, "")
	case b.Rate.Sign() <= 0:
		v.add(path+".rate", "is not above 0"+got(b.RateText()), "more than 0", "")
	case b.Rate.Cmp(amountMax()) > 0:
		v.add(path+".rate", "is absurdly large"+got(b.RateText()), "at most "+amountMax().String(), "")
	case b.Rate.Scale() > catalog.MaxScale:
		v.add(path+".rate", "has too many decimals"+got(b.RateText()), fmt.Sprintf("at most %d decimals", catalog.MaxScale), "")
	case sound:
		if _, _, _, err := b.Scaled(m.Scale); err != nil {
			v.add(path, fmt.Sprintf("cannot be counted exactly: %v (got %q, burst %q)", err, b.RateText(), b.Burst), "a faster rate, a smaller burst or fewer decimals", "")
		}
	}
}
