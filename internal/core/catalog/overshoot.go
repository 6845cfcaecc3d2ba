package catalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// Overshoot is by how much what is admitted can pass a limit, grace included.
type Overshoot struct {
	Most *money.Decimal // in what the limit counts; nil: no number bounds it
	Why  string         // one line; empty where Most is 0
}

// String is "0", "60 (why)" or "no bound (why)".
func (o Overshoot) String() string {
	switch {
	case o.Most == nil:
		return "no bound (" + o.Why + ")"
	case o.Why == "":
		return o.Most.String()
	}
	return fmt.Sprintf("%s (%s)", o.Most, o.Why)
}

// Exact says that the limit is never passed.
func (o Overshoot) Exact() bool { return o.Most != nil && o.Most.IsZero() }

// Overshoot states a limit's bound for a number of gateways, at least 1. It is 0 where the limit refuses (hard, or at the end of its
// grace), its failure mode is closed, and what a request may cost is known before it is admitted. Usage that is
// reported from outside is never refused and not part of it.
func (c *Catalog) Overshoot(_ *Plan, l *Limit, gateways int) Overshoot {
	var why []string
	switch {
	case l.Mode == quota.Soft:
		return Overshoot{Why: "soft: what is above is admitted and counted"}
	case l.Mode == quota.Shadow:
		return Overshoot{Why: "shadow: only reported"}
	case l.Failure.Kind == FailOpen:
		why = append(why, "failure open: all is admitted while the authority is away")
	}
	if route, reason := c.unknownCost(l); reason != "" {
		why = append(why, fmt.Sprintf("route %q %s", route, reason))
	}
	if len(why) > 0 {
		return Overshoot{Why: strings.Join(why, "; ")}
	}
	zero := money.Decimal{}
	if l.Failure.Kind != FailLocal {
		return Overshoot{Most: &zero}
	}
	return l.localOvershoot(max(1, gateways))
}

// localOvershoot is what all gateways may admit on their own while the authority is away.
func (l *Limit) localOvershoot(gateways int) Overshoot {
	why := fmt.Sprintf("%s × gateways: %d, in each window while the authority is away", l.Failure, gateways)
	var of money.Decimal
	switch {
	case l.Bucket != nil:
		of = l.Bucket.Burst
		why = fmt.Sprintf("%s × gateways: %d, at once, and the same part of the rate, while the authority is away", l.Failure, gateways)
	case l.Quota != nil:
		of = *l.Quota
	case l.SpendCap != nil:
		of = *l.SpendCap
	case l.Concurrency != 0:
		of = money.FromInt(l.Concurrency)
	default:
		return Overshoot{Why: why + ", of what was granted"}
	}
	const hundredths = 2
	most, err := of.Mul(money.FromInt(l.Failure.Local * int64(gateways)))
	if err == nil {
		most, err = most.Mul(money.FromScaled(1, hundredths))
	}
	if err != nil {
		return Overshoot{Why: why}
	}
	return Overshoot{Most: &most, Why: why}
}

// unknownCost is the first route under the limit that may cost more than it reserves, and how. Requests at once cost 1 always.
func (c *Catalog) unknownCost(l *Limit) (match, reason string) {
	if l.Concurrency != 0 {
		return "", ""
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		if r.From == 0 || r.Meter == "" || !c.limits(l, r.Meter) || len(l.Routes) > 0 && !slices.Contains(l.Routes, r.Match) {
			continue
		}
		switch {
		case r.Max.IsZero():
			return r.Match, "has a cost without max: requests in flight, each by what it costs above its estimate of " + r.Cost.String()
		case !r.Capped:
			return r.Match, "charges overshoot: requests in flight, each by what it costs above its max of " + r.Max.String()
		}
	}
	return "", ""
}

// limits tells whether requests on a meter, or without one, come under the limit.
func (c *Catalog) limits(l *Limit, meterKey string) bool {
	m, _ := c.Meter(meterKey)
	return l.applies(&m)
}
