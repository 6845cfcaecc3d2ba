package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/web/answer"
)

// ReservationBody is an explicit reservation as it is shown.
type ReservationBody struct {
	ID         string        `json:"id"`
	Customer   string        `json:"customer" doc:"The customer's key"`
	Meter      string        `json:"meter"`
	Route      string        `json:"route,omitempty"`
	State      string        `json:"state" enum:"open,settled,released,expired"`
	Reserved   money.Decimal `json:"reserved" doc:"In the meter's unit"`
	Charged    money.Decimal `json:"charged" doc:"Once it has ended"`
	ExpiresAt  time.Time     `json:"expires_at" doc:"On the business clock"`
	OnExpiry   string        `json:"on_expiry" enum:"charge,release"`
	DecisionID string        `json:"decision_id,omitempty" doc:"Of the decision that admitted it"`
}

type newReservationBody struct {
	Customer string         `json:"customer,omitempty" doc:"Id or key; or key_id"`
	KeyID    string         `json:"key_id,omitempty" doc:"An API key's id, where limits are per key or project"`
	User     string         `json:"user,omitempty" maxLength:"256" doc:"The end user, where limits are per user"`
	Meter    string         `json:"meter,omitempty" doc:"What is measured; or route"`
	Route    string         `json:"route,omitempty" doc:"A route's match in the catalog: its meter, limits and cost are used"`
	Cost     *money.Decimal `json:"cost,omitempty" doc:"What to reserve, in the meter's unit; default: the route's, or 1"`
	TTL      int64          `json:"ttl_s,omitempty" minimum:"1" maximum:"86400" doc:"Seconds until it expires" default:"60"`
	OnExpiry string         `json:"on_expiry,omitempty" enum:"charge,release" doc:"What becomes of it when nobody ends it" default:"charge"`
	Ref      string         `json:"ref,omitempty" maxLength:"128" doc:"A text of your own: the same call with the same ref gives the same reservation. It is kept in memory, for 10 minutes"`
}

// asked is what a repetition must ask for, too.
func (b *newReservationBody) asked() string {
	cost := ""
	if b.Cost != nil {
		cost = b.Cost.String()
	}
	return fmt.Sprintf("%q %q %q %q %q %q %d %q", b.Customer, b.KeyID, b.User, b.Meter, b.Route, cost, b.TTL, b.OnExpiry)
}

type extendBody struct {
	TTL  int64          `json:"ttl_s,omitempty" minimum:"1" maximum:"86400" doc:"Seconds from now on; never shortens" default:"60"`
	Cost *money.Decimal `json:"cost,omitempty" doc:"More to reserve"`
}

type settleBody struct {
	Cost   *money.Decimal `json:"cost,omitempty" doc:"What it did cost; default: what was reserved"`
	Status int            `json:"status,omitempty" minimum:"100" maximum:"599" doc:"HTTP status of the work, for the event's data"`
}

func (a *api) reservationOf(h *enforce.Held) ReservationBody {
	if h == nil {
		return ReservationBody{}
	}
	out := ReservationBody{
		ID: h.ID, Customer: a.customerKey(h.CustomerID), Meter: h.Meter, Route: h.Route, Reserved: h.Reserved, Charged: h.Charged,
		ExpiresAt: instant(h.Expires), OnExpiry: "charge",
	}
	if h.OnExpiry == enforce.ReleaseExpired {
		out.OnExpiry = "release"
	}
	switch h.State {
	case enforce.HeldOpen:
		out.State = "open"
	case enforce.HeldSettled:
		out.State = "settled"
	case enforce.HeldReleased:
		out.State = "released"
	case enforce.HeldExpired:
		out.State = "expired"
	}
	return out
}

func (a *api) reservations() {
	const tag = "reservations"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/reservations", id: "create-reservation", tag: tag, status: http.StatusCreated,
		summary: "Take quota for work that is no proxied request; it ends by settle, release or expiry",
	}, a.reserve)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/reservations/{id}", id: "get-reservation", tag: tag, summary: "Show a reservation that is open or ended within the last hour",
	}, func(ctx context.Context, in *ThingID) (ReservationBody, error) {
		return a.heldCall(ctx, enforce.HeldCall{ID: in.ID, Do: enforce.HeldShow})
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/reservations/{id}/extend", id: "extend-reservation", tag: tag, summary: "Let a reservation live longer, or reserve more with it",
	}, func(ctx context.Context, in *struct {
		ThingID
		Body *extendBody
	},
	) (ReservationBody, error) {
		b := extendBody{}
		if in.Body != nil {
			b = *in.Body
		}
		return a.heldCall(ctx, enforce.HeldCall{ID: in.ID, Do: enforce.HeldExtend, TTL: seconds(b.TTL), Cost: b.Cost})
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/reservations/{id}/settle", id: "settle-reservation", tag: tag,
		summary: "Charge a reservation with what it did cost; the same again gives the same answer",
	}, func(ctx context.Context, in *struct {
		ThingID
		Body *settleBody
	},
	) (ReservationBody, error) {
		c := enforce.HeldCall{ID: in.ID, Do: enforce.HeldSettle}
		if in.Body != nil {
			if in.Body.Cost != nil && in.Body.Cost.Sign() < 0 {
				return ReservationBody{}, newProblem(codeCostInvalid, "The cost must not be below 0.")
			}
			c.Status, c.Cost = in.Body.Status, in.Body.Cost
		}
		return a.heldCall(ctx, c)
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/reservations/{id}/release", id: "release-reservation", tag: tag,
		summary: "Give a reservation back; the same again gives the same answer",
	}, func(ctx context.Context, in *struct {
		ThingID
		Body *struct{}
	},
	) (ReservationBody, error) {
		return a.heldCall(ctx, enforce.HeldCall{ID: in.ID, Do: enforce.HeldRelease})
	})
}

func (a *api) heldCall(ctx context.Context, c enforce.HeldCall) (ReservationBody, error) {
	call := a.cfg.Held
	if call == nil {
		call = a.cfg.Enforce.Call
	}
	h, denied, err := call(ctx, c)
	if err == nil && denied != nil && !denied.Allowed() {
		err = denial(denied)
	}
	return a.reservationOf(h), reservationProblem(err)
}

const ttlUsual = 60

func seconds(n int64) time.Duration {
	if n <= 0 {
		n = ttlUsual
	}
	return time.Duration(n) * time.Second
}

// reserve makes a reservation, or finds the one of a call with the same ref.
func (a *api) reserve(ctx context.Context, in *struct{ Body newReservationBody }) (out ReservationBody, err error) {
	b := &in.Body
	if b.Ref == "" {
		return a.reserveOnce(ctx, b)
	}
	first := a.refs.begin(b.Ref, b.asked(), a.cfg.Real())
	switch {
	case first == nil:
		defer func() { a.refs.end(b.Ref, out.ID, out.DecisionID) }()
		return a.reserveOnce(ctx, b)
	case first.asked != b.asked():
		return ReservationBody{}, invalid("ref", "was used for another reservation", "use a random text for each new one")
	case first.id == "":
		return ReservationBody{}, newProblem(codeReplayRunning, "A call with this ref has begun and not ended.")
	}
	out, err = a.heldCall(ctx, enforce.HeldCall{ID: first.id, Do: enforce.HeldShow})
	out.DecisionID = first.decision
	return out, err
}

func (a *api) reserveOnce(ctx context.Context, b *newReservationBody) (ReservationBody, error) {
	ref := b.KeyID
	switch {
	case b.KeyID == "" && b.Customer == "":
		return ReservationBody{}, invalid("customer", "is missing", "name a customer, or an API key by key_id")
	case b.KeyID == "":
		c, err := a.customer(b.Customer)
		if err != nil {
			return ReservationBody{}, invalid("customer", fmt.Sprintf("there is no customer %q", b.Customer), "`tally customers list` shows all")
		}
		ref = c.ID
	default:
		p, ok := a.cfg.Govern.PrincipalOf(b.KeyID, a.cfg.Clock.Now())
		if !ok || p.Key.ID != b.KeyID {
			return ReservationBody{}, invalid("key_id", fmt.Sprintf("%q is no active API key's id", b.KeyID), "`tally keys list` shows them")
		}
		if b.Customer != "" && b.Customer != p.Customer.Key && b.Customer != p.Customer.ID {
			return ReservationBody{}, invalid("customer", "is not the customer of key_id", "leave one of the two out")
		}
	}
	route, err := a.meteredBy(b.Route, b.Meter)
	if err != nil {
		return ReservationBody{}, err
	}
	m, _ := a.cfg.Govern.Current().Meter(route.Meter)
	if b.Cost != nil {
		if _, err := b.Cost.Scaled(m.Scale); err != nil || b.Cost.Sign() < 0 {
			return ReservationBody{}, newProblem(codeCostInvalid, fmt.Sprintf("%s does not fit meter %s: 0 or more, with at most %d decimals.", b.Cost, m.Key, m.Scale))
		}
	}
	r := enforce.Request{Trusted: ref, Route: route, Method: http.MethodPost, User: b.User, Cost: b.Cost}
	if b.OnExpiry == "release" {
		r.OnExpiry = enforce.ReleaseExpired
	}
	h, decision := a.cfg.Enforce.Reserve(ctx, r, seconds(b.TTL))
	if h == nil {
		return ReservationBody{}, denial(decision)
	}
	if err := decision.BeforeForward(ctx); err != nil {
		return ReservationBody{}, err
	}
	out := a.reservationOf(h)
	out.DecisionID = decision.DecisionID
	return out, nil
}

// meters are routes that stand for a meter alone, so that two reservations of one meter are of the same route.
type meters struct {
	mu      sync.Mutex
	version int64
	routes  map[string]*catalog.Route
}

// meteredBy finds the route that a reservation names, or makes one of its meter.
func (a *api) meteredBy(match, meterKey string) (*catalog.Route, error) {
	cat := a.cfg.Govern.Current()
	if match != "" {
		for i := range cat.Routes {
			r := &cat.Routes[i]
			switch {
			case r.Match != match:
			case r.Meter == "":
				return nil, invalid("route", "has no meter, so there is nothing to reserve", "name a route with a meter")
			case meterKey != "" && meterKey != r.Meter:
				return nil, invalid("meter", fmt.Sprintf("is not that of the route, %q", r.Meter), "leave one of the two out")
			default:
				return r, nil
			}
		}
		return nil, invalid("route", fmt.Sprintf("%q is no route of the catalog", match), "give the route's match as the catalog has it")
	}
	m, ok := cat.Meter(meterKey)
	if !ok || !m.Routable() {
		return nil, invalid("meter", fmt.Sprintf("%q is no meter that can be reserved", meterKey), "a meter of the catalog that counts or sums, without a filter")
	}
	a.metered.mu.Lock()
	defer a.metered.mu.Unlock()
	if a.metered.version != cat.Version || a.metered.routes == nil {
		a.metered.version, a.metered.routes = cat.Version, map[string]*catalog.Route{}
	}
	r := a.metered.routes[m.Key]
	if r == nil {
		r = &catalog.Route{Meter: m.Key, Cost: money.FromInt(1)}
		a.metered.routes[m.Key] = r
	}
	return r, nil
}

// denial is the problem of a refused reservation: the same as at the gateway, with the API's own status for a missing
// customer.
func denial(d *enforce.Admission) error {
	if d.Outcome == receipt.Allowed {
		return newProblem(codeInvalid, "There is nothing to reserve.")
	}
	p := answer.Denial(d)
	out := newProblem(code(p.Code), p.Detail)
	out.Fix, out.Type = p.Fix, p.Type
	out.DecisionID, out.Violated, out.RetryAfter, out.Retryable = d.DecisionID, p.Violated, p.RetryAfter, p.Retryable
	out.policy, out.limit = answer.Fields(d)
	return out
}

// reservationProblem is an error about a reservation as the API tells it.
func reservationProblem(err error) error {
	switch {
	case errors.Is(err, enforce.ErrReservationUnknown):
		return newProblem(codeReservationUnknown, "")
	case errors.Is(err, enforce.ErrReservationEnded):
		return newProblem(codeReservationEnded, "")
	case errors.Is(err, enforce.ErrReservationAway):
		return newProblem(codeReservationAway, "The server that has the reservation did not answer; it may have done what was asked.")
	case errors.Is(err, enforce.ErrReservationParts):
		return newProblem(codeState, "The reservation was extended by more cost 15 times, the most there may be.")
	}
	return err
}
