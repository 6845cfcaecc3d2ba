package catalog

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

const (
	timeoutMin  = time.Millisecond
	timeoutMax  = 10 * time.Minute
	maxUpstream = 2048 // bytes
	maxPattern  = 1024 // bytes
	maxHeader   = 64   // bytes of a header's name
	maxPort     = 65535
)

func (v *validator) plan(path string, p *Plan) {
	v.text(path+".name", p.Name)
	if p.Currency.Code() == "" {
		v.add(path+".currency", "is missing", "an ISO 4217 code, such as USD", "")
	}
	v.count(path+".prices", len(p.Prices), MaxPrices)
	used, charged := map[string]string{}, map[string]string{}
	for i, pr := range p.Prices {
		at := fmt.Sprintf("%s.prices[%d]", path, i)
		v.key(at, pr.Key, used)
		v.price(at, pr)
		if pr.Model != price.Graduated || pr.Meter == "" {
			continue
		}
		if first, ok := charged[pr.Meter]; ok {
			v.add(at+".meter", fmt.Sprintf("is charged by price %q already", first), "one price for each meter of a plan", "")
		} else {
			charged[pr.Meter] = pr.Key
		}
	}
	v.count(path+".limits", len(p.Limits), MaxLimits)
	used, windows := map[string]string{}, map[string]string{}
	for i := range p.Limits {
		at := fmt.Sprintf("%s.limits[%d]", path, i)
		v.key(at, p.Limits[i].Key, used)
		v.limit(at, p, &p.Limits[i], windows)
	}
}

func (v *validator) price(path string, p price.Price) {
	if p.Every != "month" {
		v.add(path+".every", "is not supported"+got(p.Every), "month", "month")
	}
	if p.Charge != price.InArrears && p.Charge != price.InAdvance {
		v.add(path+".charge", "is unknown", "in_advance or in_arrears", "")
	}
	switch p.Model {
	case price.Flat:
		v.amount(path+".amount", p.Amount)
		if p.Meter != "" {
			v.add(path+".meter", "does not go with model flat, which measures nothing"+got(p.Meter), "no meter, or model: graduated", "")
		}
		if len(p.Tiers) > 0 {
			v.add(path+".tiers", "does not go with model flat", "amount, or model: graduated", "")
		}
	case price.Graduated:
		if p.Charge == price.InAdvance {
			v.add(path+".charge", `cannot be in_advance for what is measured (got "in_advance")`, "in_arrears", "in_arrears")
		}
		if !p.Amount.IsZero() {
			v.add(path+".amount", "does not go with model graduated"+got(p.Amount.String()), "tiers, or model: flat", "")
		}
		m, ok := v.meterRef(path+".meter", p.Meter)
		v.tiers(path+".tiers", p.Tiers, m, ok)
	default:
		v.add(path+".model", "is unknown", "flat or graduated", "")
	}
}

func (v *validator) tiers(path string, tiers []price.Tier, m Meter, known bool) {
	if len(tiers) == 0 {
		v.add(path, "is empty", "at least one tier, the last one without up_to", "")
	}
	v.count(path, len(tiers), MaxTiers)
	var below money.Decimal
	for i, t := range tiers {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch last := i == len(tiers)-1; {
		case t.UpTo == nil && !last:
			v.add(at+".up_to", "is missing", "a bound on every tier but the last", "")
		case t.UpTo != nil && last:
			v.add(at+".up_to", "stands on the last tier, so usage above it has no price"+got(t.UpTo.String()), "no up_to on the last tier", "")
		case t.UpTo != nil:
			if known && !v.units(at+".up_to", *t.UpTo, m) {
				break
			}
			if c := t.UpTo.Cmp(below); c < 0 || c == 0 && i > 0 { // a first tier up to 0 makes only zero usage free
				v.add(at+".up_to", "does not rise"+got(t.UpTo.String()), "more than "+below.String(), "")
			}
			below = *t.UpTo
		}
		v.amount(at+".unit_amount", t.UnitAmount)
		v.amount(at+".flat_amount", t.FlatAmount)
	}
}

// limit checks one limit; windows maps what the plan's earlier limits count in windows to their keys.
func (v *validator) limit(path string, p *Plan, l *Limit, windows map[string]string) {
	kinds := 0
	for _, set := range []bool{l.Bucket != nil, l.Quota != nil, l.SpendCap != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		message := "limits nothing"
		if kinds > 1 {
			message = "is several limits in one"
		}
		v.add(path, message, "exactly one of token_bucket, quota, spend_cap", "")
		return
	}
	if l.SpendCap != nil {
		v.spendCap(path, p, l, windows)
		return
	}
	m, known := v.meterRef(path+".meter", l.Meter)
	if known && m.Key != "" && !m.Aggregation.Additive() && m.Aggregation != 0 {
		v.add(path+".meter", fmt.Sprintf("cannot be limited: what aggregation %s measures does not add up request by request%s", m.Word(), got(l.Meter)), wantAdditive, "")
		return
	}
	if l.Bucket != nil {
		if l.Window != 0 {
			v.add(path+".window", "does not go with token_bucket"+got(l.Window.String()), "no window", "")
		}
		if known {
			v.bucket(path+".token_bucket", *l.Bucket, m)
		}
		return
	}
	if known {
		v.units(path+".quota", *l.Quota, m)
	}
	if l.Window < period.Hour || l.Window > period.BillingPeriod {
		v.add(path+".window", "is missing", "hour, day, week, month or billing_period", "")
		return
	}
	// A counter belongs to meter and window, so a second quota on both would only be a mistake about the first.
	counter := l.Meter + " " + l.Window.String()
	if first, taken := windows[counter]; taken {
		v.add(path, fmt.Sprintf("limits the same meter and window as limit %q", first), "one quota for each meter and window", "")
	}
	windows[counter] = l.Key
}

func (v *validator) spendCap(path string, p *Plan, l *Limit, windows map[string]string) {
	if l.Meter != "" {
		v.add(path+".meter", "does not go with spend_cap, which covers all usage prices of the plan"+got(l.Meter), "no meter", "")
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
	if !slices.ContainsFunc(p.Prices, func(pr price.Price) bool { return pr.Model == price.Graduated }) {
		v.add(path+".spend_cap", "caps nothing: the plan has no graduated price", "a graduated price in this plan", "")
	}
	for _, pr := range p.Prices {
		if m, ok := v.meters[pr.Meter]; ok && pr.Model == price.Graduated && m.Aggregation != 0 && !m.Aggregation.Additive() {
			v.add(path+".spend_cap", fmt.Sprintf("cannot hold: price %q is on meter %s, and what aggregation %s measures does not add up request by request",
				pr.Key, m.Key, m.Word()), "usage prices on meters with aggregation count, sum or custom, or another plan without the cap for them", "")
			break
		}
	}
	if first, taken := windows["spend_cap"]; taken {
		v.add(path, fmt.Sprintf("is a second spend cap after limit %q", first), "one spend cap in a plan", "")
	}
	windows["spend_cap"] = l.Key
}

func (v *validator) bucket(path string, b Bucket, m Meter) {
	sound := v.units(path+".burst", b.Burst, m)
	if sound && b.Burst.Cmp(money.FromInt(1)) < 0 {
		v.add(path+".burst", "holds less than one unit"+got(b.Burst.String()), "at least 1", "")
		sound = false
	}
	switch {
	case b.unit() == "":
		v.add(path+".rate", "has an unknown unit of time", RateForm, "")
	case b.Rate.Sign() <= 0:
		v.add(path+".rate", "is not above 0"+got(b.rateText()), "more than 0", "")
	case b.Rate.Cmp(amountMax()) > 0:
		v.add(path+".rate", "is absurdly large"+got(b.rateText()), "at most "+amountMax().String(), "")
	case b.Rate.Scale() > MaxScale:
		v.add(path+".rate", "has too many decimals"+got(b.rateText()), fmt.Sprintf("at most %d decimals", MaxScale), "")
	case sound:
		if _, _, _, err := b.scaled(m.Scale); err != nil {
			v.add(path, fmt.Sprintf("cannot be counted exactly: %v (got %q, burst %q)", err, b.rateText(), b.Burst), "a faster rate, a smaller burst or fewer decimals", "")
		}
	}
}

func (v *validator) gateway() {
	c := v.catalog
	if c.KeyHeader != "" && !headerName(c.KeyHeader) {
		v.add("gateway.key_header", "cannot carry the key"+got(c.KeyHeader),
			"the name of a header of your own, such as X-Api-Key; leave it out for Authorization: Bearer", "")
	}
	v.count("gateway.routes", len(c.Routes), MaxRoutes)
	for i, r := range c.Routes {
		v.route(fmt.Sprintf("gateway.routes[%d]", i), r)
	}
}

func (v *validator) route(path string, r Route) {
	if r.Match == "" {
		v.add(path+".match", "is empty", `a pattern, such as "GET /hello"`, "")
	} else if len(r.Match) > maxPattern {
		v.add(path+".match", "is too long"+got(r.Match), fmt.Sprintf("at most %d bytes", maxPattern), "")
	}
	if reason := upstreamFault(r.Upstream); reason != "" {
		suggestion := ""
		if guess := "http://" + r.Upstream; !strings.Contains(r.Upstream, "://") && upstreamFault(guess) == "" {
			suggestion = strconv.Quote(guess)
		}
		v.add(path+".upstream", reason, `an absolute http or https URL, such as "http://127.0.0.1:9000"`, suggestion)
	}
	if r.Meter == "" {
		if !r.Cost.IsZero() {
			v.add(path+".cost", "has no meter to count on"+got(r.Cost.String()), "a meter on this route, or no cost", "")
		}
	} else if m, ok := v.meterRef(path+".meter", r.Meter); ok && m.Aggregation != 0 {
		v.routeMeter(path, r, m)
	}
	if r.Timeout < timeoutMin || r.Timeout > timeoutMax {
		v.add(path+".timeout", "is out of range"+got(r.Timeout.String()), "1ms to 10m", "")
	}
}

// routeMeter checks that a gateway can count the meter, and what a request costs on it.
func (v *validator) routeMeter(path string, r Route, m Meter) {
	switch {
	case m.Routable():
		v.cost(path+".cost", r.Cost, m)
	case !m.Filter.None():
		v.add(path+".meter", "has a filter, and a gateway counts every request that it lets through"+got(r.Meter), "a meter without a filter; the route chooses the requests", "")
	default:
		v.add(path+".meter", fmt.Sprintf("cannot be counted by a gateway: its aggregation is %s%s", m.Word(), got(r.Meter)), "a meter with aggregation count or sum", "")
	}
}

func (v *validator) cost(path string, cost money.Decimal, m Meter) {
	switch {
	case m.Aggregation == meter.Count && cost.Cmp(money.FromInt(1)) != 0:
		v.add(path, fmt.Sprintf("must be 1, since meter %s counts requests%s", m.Key, got(cost.String())), "1, or a meter with aggregation: sum", "1")
	case cost.IsZero():
		v.add(path, `is not above 0 (got "0")`, "more than 0; leave the meter out for a free route", "")
	default:
		v.units(path, cost, m)
	}
}

// upstreamFault is what is wrong with an upstream, or "". It never repeats a password.
func upstreamFault(s string) string {
	if s == "" {
		return "is empty"
	}
	u, err := url.Parse(s)
	switch {
	case len(s) > maxUpstream:
		return "is too long"
	case err == nil && u.User != nil || err != nil && strings.Contains(s, "@"):
		return "must not hold credentials"
	case err != nil:
		return "is not a URL" + got(s)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "":
		return "is not an absolute http or https URL" + got(s)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "must not have a query or fragment" + got(s)
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > maxPort {
			return "has no such port" + got(s)
		}
	}
	return ""
}

// headerName tells whether s is a field name (RFC 9110, token) that a caller's key can come in.
func headerName(s string) bool {
	const token = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
	if len(s) > maxHeader || strings.Trim(s, token) != "" {
		return false
	}
	switch lower := strings.ToLower(s); lower {
	case "authorization", "host", "connection", "content-length", "content-type", "transfer-encoding", "te", "trailer", "upgrade", "cookie", "keep-alive", "decision-id", "traceparent":
		return false
	default:
		// Removed from what a caller sends, or treated by proxies on the way.
		return !strings.HasPrefix(lower, "tally-") && !strings.HasPrefix(lower, "proxy-")
	}
}
