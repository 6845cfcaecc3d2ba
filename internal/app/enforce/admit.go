package enforce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/app/enforce/inflight"
	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
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
	total      *lessee.Total
	hold       lessee.Hold
	res        record.Reservation
	user       string
	cost       *money.Decimal
	held       *heldAsk // of an explicit reservation
	daily      int64    // most that is refunded of the route's requests a day, in the meter's scale; below 0: no bound
	gone       bool     // inflight does not count it
	roomless   bool     // no room was set aside for its end
	unmetered  bool     // it holds places among the requests at once, and nothing in the spool
	stays      bool     // Leave gives the places back
	regardless bool
	refused    atomic.Bool
	left       atomic.Bool
	entry      inflight.Entry
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
	// Stays says that the caller calls Leave when the request has ended: until then it counts among those that run at once. Others
	// count until they are settled or released.
	Stays bool
	// Regardless says that the cost was used already: it is counted beyond the limits too, and whatever the plan includes.
	Regardless bool
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
	ask     lessee.Question
	limits  [quota.LimitsMax]receipt.Limit
	encoded [receipt.MaxEncoded]byte
	token   [receipt.SealRoom]byte
	stripe  uint8 // scratches are lent by core
}

// take lends a scratch with an empty receipt.
func (e *Enforcer) take() *scratch {
	x, ok := e.scratches.Get().(*scratch)
	if !ok {
		x = &scratch{stripe: uint8(e.striped.Add(1) % inflight.Stripes)}
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
	method := r.Method
	if !utf8.ValidString(method) {
		method = strings.ToValidUTF8(method, "?")
	}
	x := e.take()
	defer e.scratches.Put(x)
	a := &Admission{
		e: e, entry: e.inflight.Enter(x.stripe), user: r.User, cost: r.Cost, held: r.held, stays: r.Stays, regardless: r.Regardless,
	}
	err := e.try(ctx, a, &r, method, x)
	if errors.Is(err, store.ErrInvalid) || errors.Is(err, store.ErrNotFound) {
		// The customer's plan is another one than when the key was looked up.
		e.lessee.Rebuild(a.Principal.Customer.ID)
		x.receipt = receipt.Receipt{Deciding: -1}
		err = e.try(ctx, a, &r, method, x)
	}
	if err != nil {
		e.unavailable(ctx, a, x, err)
	}
	return a
}

// try decides under what is now known of the caller.
func (e *Enforcer) try(ctx context.Context, a *Admission, r *Request, method string, x *scratch) error {
	cat := e.cfg.Directory.Current()
	p, fault := e.principal(r)
	a.Principal = p
	if fault != "" {
		e.denyKey(a, x, fault)
		return nil
	}
	rec := &x.receipt
	rec.CatalogVersion, rec.CustomerID, rec.Customer, rec.KeyID = cat.Version, p.Customer.ID, p.Customer.Key, p.Key.ID
	rec.Plan, rec.Route, rec.Meter = p.Subscription.Plan, r.Route.Match, r.Route.Meter
	refused, err := e.unfit(ctx, a, cat, r.Route, x)
	if err != nil || refused {
		return err
	}
	return e.reserve(ctx, a, cat, r.Route, method, x)
}

func (e *Enforcer) principal(r *Request) (account.Principal, account.KeyFault) {
	if r.Trusted == "" {
		return e.cfg.Directory.Principal(r.Secret, e.cfg.Now())
	}
	p, ok := e.cfg.Directory.PrincipalOf(r.Trusted, e.cfg.Now())
	if !ok {
		return p, account.FaultUnknown
	}
	return p, ""
}

// unfit refuses what no limit has to do with: no subscription, a plan without the route's entitlement, abnormal use.
func (e *Enforcer) unfit(ctx context.Context, a *Admission, cat *catalog.Compiled, route *catalog.Route, x *scratch) (bool, error) {
	p := &a.Principal
	if p.HasSubscription && (a.regardless || route.Requires == "" && !p.Abnormal) {
		return false, nil
	}
	x.receipt.Time = e.cfg.Now().UnixMicro()
	if !p.HasSubscription {
		detail, fix := "This key's customer has no active subscription.", "Ask the API's owner to start a subscription for this customer."
		if p.Subscription.Paused {
			detail, fix = "The subscription of this key's customer is paused.", "Ask the API's owner to resume it."
		}
		e.refuse(a, x, receipt.DeniedSubscription, "no_subscription", detail, fix)
		return true, nil
	}
	plan, ok := cat.Plan(p.Subscription.Plan)
	if !ok { // it left the catalog: as it was last
		pinned, err := e.cfg.Directory.Version(ctx, p.Subscription.CatalogVersion)
		if err != nil {
			return false, err
		}
		plan, _ = pinned.Plan(p.Subscription.Plan)
	}
	switch {
	case route.Requires != "" && !entitled(plan.Entitled(route.Requires)):
		e.refuse(a, x, receipt.DeniedEntitlement, "entitlement_missing",
			fmt.Sprintf("The plan %q does not include %q, which this route needs.", plan.Key, route.Requires), "Change to a plan that includes it.")
	case p.Abnormal && plan.Baseline.Throttle:
		e.refuse(a, x, receipt.DeniedAbnormal, "abnormal_usage",
			"The use of this API was found far above what is usual for this customer.", "Slow down, or ask the API's owner to look at it.")
		a.RetryAfter = abnormalRetry
	default:
		return false, nil
	}
	return true, nil
}

const abnormalRetry = time.Minute

// entitled says whether an entitlement's value switches something on.
func entitled(value string) bool { return value != "" && value != "false" }

// reserve decides, and spools what it admits.
func (e *Enforcer) reserve(ctx context.Context, a *Admission, cat *catalog.Compiled, route *catalog.Route, method string, x *scratch) error {
	q, rec := &x.ask, &x.receipt
	q.Catalog, q.Principal, q.Route, q.User, q.Given, q.Now, q.Regardless = cat, &a.Principal, route, a.user, a.cost, 0, a.regardless
	hold, names, err := e.lessee.Decide(ctx, q)
	if rec.Time = q.Now; rec.Time == 0 {
		rec.Time = e.cfg.Now().UnixMicro()
	}
	if err != nil {
		return err
	}
	rec.Scale, rec.Cost = q.Set.Scale, q.Cost
	e.describe(x)
	e.showPolicies(a, q)
	if q.Decision.Verdict == quota.Deny {
		e.deny(ctx, a, x)
		return nil
	}
	if err := e.grant(a, hold, names, method, x); err != nil {
		hold.End(0)
		return err
	}
	return nil
}

// grant spools the reservation and completes an allowed decision.
func (e *Enforcer) grant(a *Admission, hold lessee.Hold, names []uint32, method string, x *scratch) error {
	rec, s, route := &x.receipt, x.ask.Set, x.ask.Route
	rec.Outcome, rec.ID = receipt.Allowed, e.nextID()
	encoded := x.encode()
	switch {
	case route.Meter != "":
		a.total, a.hold = s.Total, hold
		a.res = record.Reservation{
			Key: record.Key{Epoch: e.epoch, Seq: rec.ID.Seq}, Time: rec.Time, PeriodStart: s.PeriodStart, CatalogVersion: rec.CatalogVersion,
			Scale: s.Scale, Cost: rec.Cost, CustomerID: rec.CustomerID, KeyID: a.Principal.Key.ID, Meter: route.Meter, Event: s.Event, Route: route.Match, Method: method,
			Receipt: encoded, Leases: names,
		}
		a.bind(route)
		_, err := e.cfg.Spool.Append(record.EndRoom, a.res.Append)
		a.res.Receipt = nil
		if err != nil {
			return fmt.Errorf("spool the reservation: %w", err)
		}
		a.state.Store(stateOpen)
	case len(s.Limits) > 0:
		a.hold, a.unmetered = hold, true
		a.state.Store(stateOpen)
	default:
		hold.End(0)
		e.inflight.Leave(a.entry)
	}
	a.Outcome = receipt.Allowed
	a.DecisionID = e.seal(x, encoded)
	totals := e.stats.of(a)
	totals.admitted.Add(1)
	if x.ask.Decision.Over != 0 {
		totals.over.Add(1)
	}
	e.note(a, rec, "")
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
