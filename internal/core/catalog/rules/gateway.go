package rules

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

const (
	timeoutMin  = time.Millisecond
	timeoutMax  = 10 * time.Minute
	maxUpstream = 2048 // bytes
	maxPattern  = 1024 // bytes
	maxHeader   = 64   // bytes of a header's name
	maxPort     = 65535
	maxStatuses = 10
	statusMin   = 400
	statusMax   = 599
)

func (v *validator) gateway() {
	c := v.catalog
	if c.KeyHeader != "" && !headerName(c.KeyHeader) {
		v.add("gateway.key_header", "cannot carry the key"+got(c.KeyHeader),
			"the name of a header of your own, such as X-Api-Key; leave it out for Authorization: Bearer", "")
	}
	v.endUser("gateway.end_user", c)
	v.count("gateway.routes", len(c.Routes), catalog.MaxRoutes)
	for i, r := range c.Routes {
		v.route(fmt.Sprintf("gateway.routes[%d]", i), r)
	}
}

func (v *validator) route(path string, r catalog.Route) {
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
		switch {
		case r.From != 0:
			v.add(path+".cost", "has no meter to count on"+got(r.From.String()), "a meter on this route, or no cost", "")
		case !r.Cost.IsZero():
			v.add(path+".cost", "has no meter to count on"+got(r.Cost.String()), "a meter on this route, or no cost", "")
		}
		if !r.Refund.Daily.IsZero() {
			v.add(path+".refund.daily", "has no meter to count on"+got(r.Refund.Daily.String()), "a meter on this route, or no bound", "")
		}
	} else if m, ok := v.meterRef(path+".meter", r.Meter); ok && m.Aggregation != 0 {
		v.routeMeter(path, r, m)
	}
	v.requires(path+".requires", r.Requires)
	v.refund(path+".refund", r.Refund)
	if r.Timeout < timeoutMin || r.Timeout > timeoutMax {
		v.add(path+".timeout", "is out of range"+got(r.Timeout.String()), "1ms to 10m", "")
	}
}

// routeMeter checks that a gateway can count the meter, and what a request costs on it.
func (v *validator) routeMeter(path string, r catalog.Route, m catalog.Meter) {
	switch {
	case m.Routable():
		v.cost(path+".cost", r, m)
	case !m.Filter.None():
		v.add(path+".meter", "has a filter, and a gateway counts every request that it lets through"+got(r.Meter), "a meter without a filter; the route chooses the requests", "")
	default:
		v.add(path+".meter", fmt.Sprintf("cannot be counted by a gateway: its aggregation is %s%s", m.Word(), got(r.Meter)), "a meter with aggregation count or sum", "")
	}
}

func (v *validator) cost(path string, r catalog.Route, m catalog.Meter) {
	switch {
	case m.Aggregation == meter.Count && r.From != 0:
		v.add(path, fmt.Sprintf("must be 1, since meter %s counts requests%s", m.Key, got(r.From.String())), "1, or a meter with aggregation: sum", "1")
		return
	case m.Aggregation == meter.Count && r.Cost.Cmp(money.FromInt(1)) != 0:
		v.add(path, fmt.Sprintf("must be 1, since meter %s counts requests%s", m.Key, got(r.Cost.String())), "1, or a meter with aggregation: sum", "1")
		return
	}
	if r.From == 0 {
		v.positive(path, r.Cost, m, "more than 0; leave the meter out for a free route")
		if r.Path != "" || !r.Max.IsZero() || r.Capped {
			v.add(path, "has fields of a cost that is read after the answer", "a number; or one of "+strings.Join(catalog.CostWords(), ", "), "")
		}
	} else {
		v.readCost(path, r, m)
	}
	if !r.Refund.Daily.IsZero() {
		v.units(strings.TrimSuffix(path, "cost")+"refund.daily", r.Refund.Daily, m)
	}
}

func (v *validator) positive(path string, d money.Decimal, m catalog.Meter, want string) bool {
	if d.IsZero() {
		v.add(path, `is not above 0 (got "0")`, want, "")
		return false
	}
	return v.units(path, d, m)
}

// readCost checks a cost that is only known after the answer.
func (v *validator) readCost(path string, r catalog.Route, m catalog.Meter) {
	sound := v.positive(path+".estimate", r.Cost, m, "more than 0: what is reserved before the answer is known")
	switch {
	case r.Max.IsZero():
		if r.Capped {
			v.add(path+".overshoot", `needs to know the most (got "cap")`, "max beside it, such as 4000", "")
		}
	case v.units(path+".max", r.Max, m) && sound && r.Max.Cmp(r.Cost) < 0:
		v.add(path+".max", "is below the estimate"+got(r.Max.String()), "at least "+r.Cost.String(), "")
	}
	at := path + "." + r.From.String()
	switch r.From {
	case catalog.FromHeader:
		if !fieldName(r.Path) {
			v.add(at, "is not the name of a header"+got(r.Path), "a name such as X-Cost", "")
		}
	case catalog.FromJSON:
		if !dataPath("data." + r.Path) {
			v.add(at, "is not a path into the answer"+got(r.Path), "dotted names, such as usage.total_tokens", "")
		}
	case catalog.FromExpression:
		v.expression(at, r.Path, "request.bytes + response.bytes")
	case catalog.FromRequestBytes, catalog.FromResponseBytes, catalog.FromBytes:
		if r.Path != "" {
			v.add(at, "takes no path"+got(r.Path), "true", "")
		}
	default:
		v.add(path, "is read from an unknown source", "one of "+strings.Join(catalog.CostWords(), ", "), "")
	}
}

func (v *validator) endUser(path string, c *catalog.Catalog) {
	u := c.EndUser
	switch {
	case u.Header == "" && u.Claim != "":
		v.add(path+".header", "is missing", "the header that the token comes in", "")
		return
	case u.Header == "":
		return
	case strings.EqualFold(u.Header, "authorization") && c.KeyHeader != "" && u.Claim != "":
	case !headerName(u.Header):
		v.add(path+".header", "cannot name the end user"+got(u.Header), "the name of a header of your own, such as X-End-User", "")
	case strings.EqualFold(u.Header, c.KeyHeader):
		v.add(path+".header", "carries the key already"+got(u.Header), "another header, such as X-End-User", "")
	}
	v.text(path+".claim", u.Claim)
}

// requires checks the entitlement that a route needs: some plan must have it.
func (v *validator) requires(path, key string) {
	if key == "" {
		return
	}
	var known []string
	for _, p := range v.catalog.Plans {
		for _, e := range p.Entitlements {
			if e.Key == key {
				return
			}
			if !slices.Contains(known, e.Key) && len(known) < catalog.MaxRoutes {
				known = append(known, e.Key)
			}
		}
	}
	v.add(path, "is no entitlement of any plan"+got(key), "an entitlement that a plan has", v.suggest(key, known))
}

func (v *validator) refund(path string, r catalog.Refund) {
	v.count(path+".statuses", len(r.Statuses), maxStatuses)
	for i, s := range r.Statuses {
		if s.First < statusMin || s.Last > statusMax || s.First > s.Last {
			v.add(fmt.Sprintf("%s.statuses[%d]", path, i), "is not a status"+got(s.String()), "400 to 599, or 4xx or 5xx", "")
		}
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

// fieldName tells whether s is a field name (RFC 9110, token).
func fieldName(s string) bool {
	const token = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
	return s != "" && len(s) <= maxHeader && strings.Trim(s, token) == ""
}

// headerName tells whether s is the name of a header that a caller's key can come in.
func headerName(s string) bool {
	if !fieldName(s) {
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
