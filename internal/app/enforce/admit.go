package enforce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

// MaxPolicies bounds the policies shown per decision.
const MaxPolicies = 8

// Policy is one limit as the RateLimit fields show it (spend caps are left out). Quantities are whole units, rounded down;
// Window and Reset are seconds.
type Policy struct {
	Name             string
	Quota, Remaining int64
	Window, Reset    int64
}

// Admission is one decision. An allowed one must be settled or released exactly once; more calls do nothing.
type Admission struct {
	Outcome    receipt.Outcome
	Code       string // stable problem code; "" when allowed
	DecisionID string // "dec_….…"; never empty
	Policies   []Policy
	Violated   []string      // limit keys that deny
	RetryAfter time.Duration // of 429 and 503; else 0
	Principal  account.Principal
	Detail     string // one sentence for the problem body
	Fix        string
	// Shape is set on a denial whose deciding limit lets requests wait; ClearsIn is after how long it could admit, 0: not known.
	Shape    *catalog.Shape
	ClearsIn time.Duration

	e          *Enforcer
	total      *periodTotal
	open       *atomic.Int64
	hold       hold
	res        record.Reservation
	user       string
	cost       *money.Decimal
	held       *heldAsk // of an explicit reservation
	daily      int64    // most that is refunded of the route's requests a day, in the meter's scale; below 0: no bound
	gone       bool     // inflight does not count it
	roomless   bool     // no room was set aside for its end
	refused    atomic.Bool
	generation uint32
	state      atomic.Uint32
	policies   [MaxPolicies]Policy
}

const (
	stateOpen = iota + 1
	stateSettled
	stateReleased
	stateMarked
)

// Request is what a decision is asked for.
type Request struct {
	Secret string
	// Trusted names a customer or key in place of a secret, by somebody who may: see Directory.PrincipalOf.
	Trusted string
	Route   *catalog.Route // of the current catalog
	Method  string
	User    string // the end user that it names; empty: none
	// Cost replaces what the route reserves, in the meter's unit; nil: the route's.
	Cost *money.Decimal
	// OnExpiry is for Reserve alone.
	OnExpiry OnExpiry
	held     *heldAsk
}

// Actual is how a request ended that is charged.
type Actual struct {
	Status int // of the upstream's answer; 0: not known
	// Cost is what it did cost in the meter's unit; nil: what was reserved. More than that is charged all the same, as overshoot,
	// unless the route caps it.
	Cost *money.Decimal
}

// Reason says why a reservation is given back.
type Reason uint8

// The reasons.
const (
	Failed     Reason = iota + 1 // the upstream could not be reached, or answered with a status that is refunded
	TimedOut                     // the upstream did not answer in time
	ClientGone                   // the client left before the answer began
	Withdrawn                    // whoever reserved gave it back
)

// Allowed says whether the request may go on.
func (a *Admission) Allowed() bool { return a.Outcome == receipt.Allowed }

// scratch is what one decision needs in passing.
type scratch struct {
	receipt receipt.Receipt
	limits  [quota.LimitsMax]receipt.Limit
	encoded [receipt.MaxEncoded]byte
	token   [receipt.SealRoom]byte
}

// take lends a scratch with an empty receipt.
func (e *Enforcer) take() *scratch {
	x, ok := e.scratches.Get().(*scratch)
	if !ok {
		x = &scratch{}
	}
	x.receipt = receipt.Receipt{Deciding: -1}
	return x
}

// encode is the receipt's binary form; it lies in the scratch.
func (x *scratch) encode() []byte { return x.receipt.Encode(x.encoded[:0]) }

// seal makes the decision id of an encoded receipt.
func (e *Enforcer) seal(x *scratch, encoded []byte) string {
	return string(e.sealer.Seal(x.token[:0], x.receipt.ID, encoded))
}

// NoRoute makes the decision id of a request that no route matches (404, unmetered).
func (e *Enforcer) NoRoute() string {
	x := e.take()
	defer e.scratches.Put(x)
	x.receipt.Outcome, x.receipt.Time, x.receipt.ID = receipt.DeniedRoute, e.cfg.Now().UnixMicro(), e.nextID()
	return e.seal(x, x.encode())
}

// Admit authenticates, authorizes and reserves.
func (e *Enforcer) Admit(ctx context.Context, r Request) *Admission {
	route, method := r.Route, r.Method
	if !utf8.ValidString(method) {
		method = strings.ToValidUTF8(method, "?")
	}
	a := &Admission{e: e, generation: e.inflight.enter(), user: r.User, cost: r.Cost, held: r.held}
	cat := e.cfg.Directory.Current()
	p, fault := e.principal(r)
	a.Principal = p
	x := e.take()
	defer e.scratches.Put(x)
	if fault != "" {
		e.denyKey(a, x, fault)
		return a
	}
	rec := &x.receipt
	rec.CatalogVersion, rec.CustomerID, rec.Customer, rec.KeyID = cat.Version, p.Customer.ID, p.Customer.Key, p.Key.ID
	rec.Plan, rec.Route, rec.Meter = p.Subscription.Plan, route.Match, route.Meter
	if !p.HasSubscription {
		rec.Time = e.cfg.Now().UnixMicro()
		e.refuse(a, x, receipt.DeniedSubscription, "no_subscription",
			"This key's customer has no active subscription.", "Ask the API's owner to start a subscription for this customer.")
		return a
	}
	// A lease that was drawn for a client who has left serves the next one: what is durable must be known here.
	if err := e.reserve(context.WithoutCancel(ctx), a, cat, route, method, x); err != nil {
		e.unavailable(ctx, a, x, err)
	}
	return a
}

func (e *Enforcer) principal(r Request) (account.Principal, account.KeyFault) {
	if r.Trusted == "" {
		return e.cfg.Directory.Principal(r.Secret, e.cfg.Now())
	}
	p, ok := e.cfg.Directory.PrincipalOf(r.Trusted, e.cfg.Now())
	if !ok {
		return p, account.FaultUnknown
	}
	return p, ""
}

// reserve decides under the customer's lock and spools what it admits.
func (e *Enforcer) reserve(ctx context.Context, a *Admission, cat *catalog.Compiled, route *catalog.Route, method string, x *scratch) error {
	p, rec := &a.Principal, &x.receipt
	c := e.customer(p.Customer.ID)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := e.cfg.Now().UnixMicro()
	rec.Time = now
	if route.Meter == "" {
		a.res = record.Reservation{}
		return e.grant(a, c, nil, route, method, x)
	}
	if c.refresh.Swap(false) {
		if err := e.refreshReported(ctx, c); err != nil {
			c.refresh.Store(true)
			return err
		}
	}
	s, err := e.set(ctx, c, cat, p, route.Meter, now)
	if err != nil {
		return err
	}
	reserve := route.Reserve()
	if a.cost != nil {
		reserve = *a.cost
	}
	cost, err := reserve.Scaled(s.scale)
	if err != nil {
		return fmt.Errorf("route %s: cost: %w", route.Match, err)
	}
	rec.Scale, rec.Cost = s.scale, cost
	var d quota.Decision
	for range attemptsMax {
		quota.Decide(&d, s.limits, s.states, cost, now)
		switch d.Verdict {
		case quota.Stale:
			err = e.rollStale(ctx, s, p.Customer, now)
		case quota.Short:
			err = e.draw(ctx, s, cost)
		case quota.Deny:
			e.describe(x, s, &d, cost, now)
			e.showPolicies(a, s, now)
			e.deny(ctx, a, c, s, &d, x, now)
			return nil
		case quota.Allow:
			e.describe(x, s, &d, cost, now)
			e.showPolicies(a, s, now)
			if err := e.grant(a, c, s, route, method, x); err != nil {
				quota.Return(s.limits, s.states, cost, now)
				return err
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errors.New("quota could not be leased in time")
}

// grant spools the reservation and completes an allowed decision.
func (e *Enforcer) grant(a *Admission, c *customer, s *limitSet, route *catalog.Route, method string, x *scratch) error {
	rec := &x.receipt
	rec.Outcome, rec.ID = receipt.Allowed, e.nextID()
	encoded := x.encode()
	if s != nil {
		a.total, a.hold = s.total, hold{c: c, set: s, cost: rec.Cost, at: rec.Time}
		a.res = record.Reservation{
			Key: record.Key{Epoch: e.epoch, Seq: rec.ID.Seq}, Time: rec.Time, PeriodStart: s.periodStart, CatalogVersion: rec.CatalogVersion,
			Scale: s.scale, Cost: rec.Cost, CustomerID: c.id, KeyID: a.Principal.Key.ID, Meter: route.Meter, Event: s.event, Route: route.Match, Method: method,
			Receipt: encoded, Leases: s.leases(),
		}
		a.bind(route)
		_, err := e.cfg.Spool.Append(record.EndRoom, a.res.Append)
		a.res.Receipt = nil
		if err != nil {
			return fmt.Errorf("spool the reservation: %w", err)
		}
		a.state.Store(stateOpen)
		a.open, s.lastAt = s.open, rec.Time
		a.open.Add(rec.Cost)
	} else {
		e.inflight.leave(a.generation)
	}
	a.Outcome = receipt.Allowed
	a.DecisionID = e.seal(x, encoded)
	e.stats.admitted.Add(1)
	e.recent.add(a, rec, "")
	return nil
}

// BeforeForward is called once between an allowed decision and the forwarding of the request. In strict mode it returns when
// the reservation would survive a power cut.
func (a *Admission) BeforeForward(ctx context.Context) error {
	if !a.e.cfg.Strict {
		return nil
	}
	return a.e.cfg.Spool.Sync(ctx)
}

func (e *Enforcer) nextID() receipt.ShortID {
	return receipt.ShortID{Node: e.cfg.Node, Epoch: e.epoch, Seq: e.seq.Add(1)}
}

func (e *Enforcer) refuse(a *Admission, x *scratch, o receipt.Outcome, code, detail, fix string) {
	e.inflight.leave(a.generation)
	rec := &x.receipt
	rec.Outcome, rec.ID = o, e.nextID()
	a.Outcome, a.Code, a.Detail, a.Fix = o, code, detail, fix
	a.DecisionID = e.seal(x, x.encode())
	e.stats.byOutcome[o].Add(1)
	limit := ""
	if rec.Deciding >= 0 && rec.Deciding < len(rec.Limits) {
		limit = rec.Limits[rec.Deciding].Key
	}
	e.recent.add(a, rec, limit)
}

// denyKey says no more than the outcome: who asked is not known, or no longer welcome.
func (e *Enforcer) denyKey(a *Admission, x *scratch, fault account.KeyFault) {
	x.receipt.Time, x.receipt.Detail = e.cfg.Now().UnixMicro(), string(fault)
	detail, fix := "This key is not known here.", "Check the key for typing errors, or create a new one."
	switch fault {
	case account.FaultMissing:
		detail, fix = "The request carries no API key.", "Send it as \"Authorization: Bearer KEY\"."
	case account.FaultRevoked:
		detail, fix = "This key has been revoked.", "Use another key, or create a new one."
	case account.FaultExpired:
		detail, fix = "This key has expired.", "Create a new key."
	case account.FaultUnknown:
	}
	e.refuse(a, x, receipt.DeniedKey, string(fault), detail, fix)
}

func (e *Enforcer) deny(ctx context.Context, a *Admission, c *customer, s *limitSet, d *quota.Decision, x *scratch, now int64) {
	l, rec := &s.limits[d.Deciding], &x.receipt
	rec.WouldPassOn = e.wouldPassOn(ctx, c, s, rec.Cost, d.Deciding, now)
	if d.ClearsAt > 0 {
		rec.Limits[d.Deciding].ResetAt = d.ClearsAt
	}
	e.shape(a, s.plan, l.Key, d.ClearsAt, now)
	for v := d.Violated; v != 0; v &= v - 1 {
		a.Violated = append(a.Violated, s.limits[bits.TrailingZeros64(v)].Key)
	}
	switch l.Kind {
	case quota.SpendCap:
		e.refuse(a, x, receipt.DeniedSpend, "spend_cap_reached",
			fmt.Sprintf("The spend cap %q is reached for this billing period.", l.Key), "Raise the spend cap, or wait for the next billing period.")
		return
	case quota.TokenBucket:
		e.refuse(a, x, receipt.DeniedRate, "rate_exceeded",
			fmt.Sprintf("Too many requests at once for the limit %q.", l.Key), "Slow down; wait as Retry-After says.")
	case quota.Quota:
		e.refuse(a, x, receipt.DeniedQuota, "quota_exceeded",
			fmt.Sprintf("The quota %q is used up for this %s.", l.Key, strings.ReplaceAll(l.Window.String(), "_", " ")), "Wait for the reset, or change to a plan with a higher quota.")
	}
	if d.ClearsAt > 0 {
		a.RetryAfter = max(1, time.Duration(seconds(d.ClearsAt-now))) * time.Second
	}
}

func (e *Enforcer) unavailable(ctx context.Context, a *Admission, x *scratch, err error) {
	rec := &x.receipt
	code, detail := "unavailable", "The gateway cannot account for this request at the moment."
	if errors.Is(err, store.ErrFull) {
		code, detail = "spool_full", "The gateway has no room left to account for more requests."
	}
	if second := rec.Time / 1e6; e.loggedAt.Swap(second) != second { // one line a second: a full disk refuses thousands
		e.cfg.Log.ErrorContext(ctx, "requests refused, they could not be accounted for", slog.String("code", code), slog.Any("error", err))
	}
	rec.Limits, rec.Deciding = nil, -1
	a.Policies, a.Violated = nil, nil
	e.refuse(a, x, receipt.Unavailable, code, detail, "Try again; tell the API's owner if it lasts.")
	a.RetryAfter = time.Second
}

// describe writes the limits' before and after into the receipt. After a denial both are the same.
func (e *Enforcer) describe(x *scratch, s *limitSet, d *quota.Decision, cost, now int64) {
	rec, spent := &x.receipt, cost
	rec.Deciding = -1
	if d.Verdict == quota.Deny {
		spent, rec.Deciding = 0, d.Deciding
	}
	rec.Limits = x.limits[:len(s.limits)]
	for i := range s.limits {
		l, st, out := &s.limits[i], s.states[i], &rec.Limits[i]
		*out = receipt.Limit{Key: l.Key, Kind: uint8(l.Kind), Meter: l.Meter, Scale: s.scale, Violated: d.Violated&(1<<i) != 0}
		switch l.Kind {
		case quota.TokenBucket:
			remaining, resetAt := quota.Remaining(l, st, now)
			out.Quota, out.After, out.ResetAt = l.Burst, l.Burst-remaining, resetAt
			out.Before = max(0, out.After-spent)
		case quota.Quota:
			out.Quota, out.After, out.Before = l.Quota, st.Consumed, st.Consumed-spent
			out.WindowStart, out.ResetAt = st.WindowStart, st.WindowEnd
		case quota.SpendCap:
			out.WindowStart, out.ResetAt = st.WindowStart, st.WindowEnd
			s.caps[i].describe(out, s.meter, st.Consumed, spent)
		}
	}
}

// describe puts money into a limit's share, in 10^-capScale of the currency, rounded up.
func (sc *spendCap) describe(out *receipt.Limit, meterKey string, consumed, spent int64) {
	out.Scale = capScale
	out.Quota = scaled(sc.cap, capScale)
	if after, err := sc.charge(meterKey, consumed); err == nil {
		out.After = scaled(after, capScale)
	}
	out.Before = out.After
	if spent > 0 {
		if before, err := sc.charge(meterKey, consumed-spent); err == nil {
			out.Before = scaled(before, capScale)
		}
	}
}

// capScale is how many decimals of the currency a receipt keeps of spend.
const capScale = 6

// showPolicies fills the RateLimit fields; spend caps are left out.
func (e *Enforcer) showPolicies(a *Admission, s *limitSet, now int64) {
	unit := pow10(s.scale)
	n := 0
	for i := range s.limits {
		l, st := &s.limits[i], s.states[i]
		if l.Kind == quota.SpendCap || n == MaxPolicies {
			continue
		}
		p := &a.policies[n]
		remaining, resetAt := quota.Remaining(l, st, now)
		*p = Policy{Name: l.Key, Remaining: remaining / unit, Reset: seconds(resetAt - now)}
		if l.Kind == quota.TokenBucket {
			p.Quota, p.Window = l.Burst/unit, max(1, seconds(mulSat(l.Burst, l.Per)/l.Rate))
		} else {
			p.Quota, p.Window = l.Quota/unit, (st.WindowEnd-st.WindowStart)/1e6
		}
		n++
	}
	a.Policies = a.policies[:n]
}

// seconds rounds microseconds up.
func seconds(micros int64) int64 {
	if micros <= 0 {
		return 0
	}
	return (micros-1)/1e6 + 1
}
