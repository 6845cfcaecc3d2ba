package envoy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/web/answer"
)

// The codes of a rate limit answer.
const (
	codeOK        = 1
	codeOverLimit = 2
)

// outcome is what was found for one descriptor.
type outcome struct {
	admission
	problem *answer.Problem // nil: within the limits
}

// rateLimit answers one ShouldRateLimit: all descriptors are admitted, or none.
func (d *Doors) rateLimit(ctx context.Context, c *call) (*reply, error) {
	if fault := c.check(d.cfg.Trust); fault != "" {
		return nil, status.Error(codes.InvalidArgument, fault)
	}
	t := d.routes()
	var room [2]outcome
	found := room[:0]
	over, through := false, false
	defer func() {
		if !through { // of a panic; what has ended does not mind
			d.withdraw(ctx, found)
		}
	}()
	for i := range c.descriptors {
		x := &c.descriptors[i]
		o := outcome{}
		if x.decision == "" {
			o = d.decide(ctx, t, x)
		}
		over = over || o.problem != nil
		found = append(found, o)
	}
	err := d.complete(ctx, c, found, over)
	through = true
	if err != nil {
		return nil, err
	}
	return answers(found, over), nil
}

// check says what is malformed.
func (c *call) check(trust bool) (fault string) {
	switch {
	case c.fault != "":
		return c.fault
	case c.domain != Domain:
		return fmt.Sprintf("domain: must be %q, not %q", Domain, c.domain)
	case len(c.descriptors) == 0:
		return "descriptors: there must be one"
	case c.hits > hitsMax:
		return "hits_addend: is more than one request may cost"
	}
	for i := range c.descriptors {
		x := &c.descriptors[i]
		if !x.counted && c.hits != 0 {
			x.counted, x.hits = true, c.hits
		}
		if fault := x.check(trust); fault != "" {
			return fmt.Sprintf("descriptors[%d] %s", i, fault)
		}
	}
	return ""
}

// decide admits one descriptor.
func (d *Doors) decide(ctx context.Context, t *table, x *descriptor) outcome {
	route, method := t.byMatch[x.route], x.method
	if x.route == "" {
		route = t.Lookup(method, x.host, x.path)
	} else if method == "" && route != nil {
		method = methodOf(route)
	}
	if route == nil {
		return outcome{problem: &answer.Problem{
			Code: "route_unknown", Status: http.StatusNotFound, DecisionID: d.cfg.Limiter.NoRoute(),
			Detail: "No route of this gateway matches the request.", Fix: "Check the method and the path.",
		}}
	}
	r := enforce.Request{Secret: x.key, Trusted: x.trusted, Route: route, Method: method, User: x.user}
	o := outcome{admission: admission{route: route}}
	if x.counted && x.settle != after {
		r.Cost = new(money.FromInt(int64(x.hits)))
		o.cost = r.Cost
	}
	if x.settle == after { // nothing is asked for: what was used is charged by the settlement
		r.Cost, r.Regardless = new(money.Decimal), true
		o.cost = r.Cost
	}
	o.Admission = d.cfg.Limiter.Admit(ctx, r)
	if !o.Allowed() {
		o.problem = new(answer.Denial(o.Admission))
	}
	return o
}

// methodOf is the method of a route's pattern, "" for any.
func methodOf(r *catalog.Route) string {
	if method, _, ok := strings.Cut(r.Match, " "); ok {
		return method
	}
	return ""
}

// complete ends what was admitted: charged, held open or, when a descriptor was denied, given back; and what is told of
// earlier admissions.
func (d *Doors) complete(ctx context.Context, c *call, found []outcome, over bool) error {
	for i := range found {
		o := &found[i]
		if o.problem != nil || o.Admission == nil || over {
			continue
		}
		if err := d.secure(ctx, o.Admission); err != nil {
			d.withdraw(ctx, found)
			return err
		}
	}
	if over {
		d.withdraw(ctx, found)
	}
	var all error
	for i := range found {
		o, x := &found[i], &c.descriptors[i]
		switch {
		case x.decision != "":
			if !c.named(x.decision, i) {
				all = errors.Join(all, d.told(x))
			}
		case !over:
			all = errors.Join(all, d.end(o.admission, x.settle, o.actual(x)))
		}
	}
	return d.spooled(ctx, all)
}

// named says whether a descriptor before the one at i tells of the same decision: the first one counts.
func (c *call) named(decision string, i int) bool {
	for j := range c.descriptors[:i] {
		if c.descriptors[j].decision == decision {
			return true
		}
	}
	return false
}

// withdraw gives back whatever was admitted; what has ended already does not mind.
func (d *Doors) withdraw(ctx context.Context, found []outcome) {
	for i := range found {
		if a := found[i].Admission; a != nil && a.Allowed() {
			d.release(ctx, a, enforce.Withdrawn)
		}
	}
}

// actual is the cost of what was used before it was asked for; nil: what was reserved.
func (o *outcome) actual(x *descriptor) *money.Decimal {
	switch {
	case x.settle != after:
		return nil
	case x.counted:
		return new(money.FromInt(int64(x.hits)))
	}
	return &o.route.Cost
}

// told ends an admission that is open, by what the gateway says of it. One that is not open any more was charged as reserved.
func (d *Doors) told(x *descriptor) error {
	a, ok := d.held.take(x.decision)
	if !ok {
		return nil // the caller does not wait for an answer; it is counted
	}
	if reason, refund := refunded(a.route, x); refund {
		return a.Release(reason)
	}
	end := enforce.Actual{Status: x.status}
	switch {
	case x.negative:
		rest, ok := less(a.reserved(), x)
		if !ok {
			return a.Release(enforce.Withdrawn)
		}
		end.Cost = &rest
	case x.counted:
		end.Cost = new(money.FromInt(int64(x.hits)))
	}
	return a.Settle(end)
}

// less is what stays of a reservation when hits are given back; false: nothing does.
func less(reserved money.Decimal, x *descriptor) (money.Decimal, bool) {
	if !x.counted {
		return reserved, false
	}
	rest, err := reserved.Sub(money.FromInt(int64(x.hits)))
	return rest, err == nil && rest.Sign() > 0
}

// refunded says whether a request that ended so is given back, by its route's policy. Status 0: the caller left.
func refunded(r *catalog.Route, x *descriptor) (enforce.Reason, bool) {
	switch {
	case !x.ended:
		return 0, false
	case x.status == 0:
		return enforce.ClientGone, r.Refund.Refunds(catalog.ClientGone, 0)
	}
	return enforce.Failed, r.Refund.Refunds(catalog.Answered, x.status)
}

// secure is the last step before Envoy is told to go on: whoever has stopped waiting will not go on.
func (d *Doors) secure(ctx context.Context, a *enforce.Admission) error {
	if err := a.BeforeForward(ctx); err != nil {
		d.release(ctx, a, enforce.Failed)
		return d.spooled(ctx, err)
	}
	if ctx.Err() != nil {
		d.release(ctx, a, enforce.TimedOut)
		return status.FromContextError(ctx.Err()).Err()
	}
	return nil
}

// end charges an admission, or holds it open until its end is told.
func (d *Doors) end(a admission, when settling, actual *money.Decimal) error {
	if when == later && a.route.Meter != "" {
		a.since = d.cfg.Now()
		if d.held.put(a) {
			return nil
		}
	}
	return a.Settle(enforce.Actual{Cost: actual})
}

func (d *Doors) release(ctx context.Context, a *enforce.Admission, why enforce.Reason) {
	if err := a.Release(why); err != nil {
		d.cfg.Log.ErrorContext(ctx, "a request that was not let through stays charged", slog.Any("error", err))
	}
}

// spooled turns a failure to account into the call's error.
func (d *Doors) spooled(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	d.cfg.Log.ErrorContext(ctx, "a call could not be accounted for", slog.Any("error", err))
	return status.Error(codes.Unavailable, "the gateway cannot account for this request at the moment")
}

// Fields of a rate limit answer.
const (
	replyCode, replyStatus, replyHeaders, replyBody, replyMetadata = 1, 2, 3, 5, 6
	statusCode, statusLimit, statusRemaining, statusReset          = 1, 2, 3, 4
)

// answers writes one status for each descriptor, in order, and the headers of the one that decides: the first that is denied,
// else the first.
func answers(found []outcome, over bool) *reply {
	b := make([]byte, 0, replyRoom)
	overall := uint64(codeOK)
	if over {
		overall = codeOverLimit
	}
	b = number(b, replyCode, overall)
	deciding := &found[0]
	for i := range found {
		b = descriptorStatus(b, &found[i])
		if found[i].problem != nil && deciding.problem == nil {
			deciding = &found[i]
		}
	}
	if a := deciding.Admission; a != nil {
		if policy, limit := answer.Fields(a); policy != "" {
			b = value(b, replyHeaders, "RateLimit-Policy", policy)
			b = value(b, replyHeaders, "RateLimit", limit)
		}
		b = value(b, replyHeaders, "Decision-Id", a.DecisionID)
	}
	if p := deciding.problem; p != nil {
		if deciding.Admission == nil {
			b = value(b, replyHeaders, "Decision-Id", p.DecisionID)
		}
		if p.RetryAfter > 0 {
			b = value(b, replyHeaders, "Retry-After", strconv.FormatInt(p.RetryAfter, 10))
		}
		b = value(b, replyHeaders, "Content-Type", "application/problem+json")
		b = protowire.AppendBytes(protowire.AppendTag(b, replyBody, protowire.BytesType), p.Body())
	}
	if deciding.Admission != nil {
		b = metadata(b, replyMetadata, deciding.Admission)
	}
	return &reply{b}
}

func descriptorStatus(b []byte, o *outcome) []byte {
	b, at := open(b, replyStatus)
	code := uint64(codeOK)
	if o.problem != nil {
		code = codeOverLimit
	}
	b = number(b, statusCode, code)
	if o.Admission != nil {
		if p := tightest(o.Admission); p != nil {
			b = limitOf(b, p)
			b = number(b, statusRemaining, uint64(min(max(p.Remaining, 0), maxUint32)))
			reset := p.Reset
			if o.problem != nil && o.problem.RetryAfter > 0 {
				reset = o.problem.RetryAfter
			}
			b = duration(b, statusReset, reset)
		}
	}
	return shut(b, at)
}

const maxUint32 = 1<<32 - 1

// tightest is the limit that denies, else the one with the least left.
func tightest(a *enforce.Admission) (least *enforce.Policy) {
	for i := range a.Policies {
		p := &a.Policies[i]
		if slices.Contains(a.Violated, p.Name) {
			return p
		}
		if least == nil || p.Remaining < least.Remaining {
			least = p
		}
	}
	return least
}

func duration(b []byte, field protowire.Number, seconds int64) []byte {
	b, at := open(b, field)
	b = number(b, 1, uint64(max(0, seconds)))
	return shut(b, at)
}

// limitOf is the limit as a rate: units per second, minute, hour, day or week, or a multiple of seconds. One that does not fit
// is left out.
func limitOf(b []byte, p *enforce.Policy) []byte {
	if p.Quota < 0 || p.Quota > maxUint32 || p.Window < 1 || p.Window > maxUint32 {
		return b
	}
	const second, minute, hour, day, week = 1, 2, 3, 4, 7
	unit, times := uint64(second), uint64(p.Window)
	switch p.Window {
	case 60:
		unit, times = minute, 1
	case 3600:
		unit, times = hour, 1
	case 86400:
		unit, times = day, 1
	case 7 * 86400:
		unit, times = week, 1
	}
	b, at := open(b, statusLimit)
	b = number(b, 1, uint64(p.Quota))
	b = number(b, 2, unit)
	b = text(b, 3, p.Name)
	if times > 1 {
		var in int
		b, in = open(b, 4)
		b = shut(number(b, 1, times), in)
	}
	return shut(b, at)
}
