package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
)

type limitBody struct {
	Limit       string        `json:"limit"`
	Kind        string        `json:"kind" enum:"token_bucket,quota,spend_cap,fixed,rolling,concurrency,credits"`
	Meter       string        `json:"meter" doc:"Empty for a spend cap, and for requests at once of all routes"`
	Window      string        `json:"window" example:"day" doc:"What it counts in: a calendar window, \"fixed 10m\", \"rolling 24h\", or the kind where it has no window"`
	Consumed    money.Decimal `json:"consumed" doc:"In the meter's unit; of a spend cap in its currency; of concurrency the requests that run"`
	Quota       money.Decimal `json:"quota"`
	Remaining   money.Decimal `json:"remaining"`
	ResetsAt    time.Time     `json:"resets_at,omitzero" doc:"When the window ends, or the bucket is full again"`
	WindowStart time.Time     `json:"window_start,omitzero"`
	Enforcement string        `json:"enforcement" enum:"hard,soft,grace,shadow" doc:"What happens beyond the limit"`
	Overage     money.Decimal `json:"overage" doc:"How much was used beyond the limit"`
	Failure     string        `json:"failure" example:"closed" doc:"What a gateway does when its lease is used up and the server is out of reach: closed, open, or local N%"`
	Scope       string        `json:"scope,omitempty" example:"key=key_…" doc:"Whose counter it is below the customer; empty: the customer's own"`
	Template    bool          `json:"template,omitempty" doc:"There are many counters of this limit, scope says of what; consumed and remaining say nothing"`
	Override    string        `json:"override_id,omitempty" doc:"The override that the number comes from"`
	Bound       string        `json:"bound" doc:"By how much admitted requests can pass the limit"`
	Currency    string        `json:"currency,omitempty"`
}

type entitlementBody struct {
	Key   string `json:"key"`
	Value string `json:"value" doc:"true, false, or a text"`
}

type limitsBody struct {
	Customer       string            `json:"customer" doc:"The customer's key"`
	CustomerID     string            `json:"customer_id"`
	Plan           string            `json:"plan" doc:"Empty without an active subscription"`
	CatalogVersion int64             `json:"catalog_version"`
	Items          []limitBody       `json:"items"`
	Entitlements   []entitlementBody `json:"entitlements" doc:"What the plan includes and does not count"`
	Next           *string           `json:"next" doc:"Always null"`
}

func (a *api) limits() {
	const tag = "limits"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/customers/{ref}/limits", id: "get-customer-limits", tag: tag, summary: "Every limit of a customer with its present state",
	}, a.customerLimits)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/limits/me", id: "get-own-limits", tag: tag, summary: "Every limit of the caller of a gateway key",
	}, a.ownLimits)
}

func (a *api) customerLimits(ctx context.Context, in *Ref) (limitsBody, error) {
	c, err := a.customer(in.Ref)
	if err != nil {
		return limitsBody{}, err
	}
	if err := a.cfg.Flush(ctx); err != nil {
		return limitsBody{}, err
	}
	list, err := a.cfg.Enforce.Limits(ctx, c.ID)
	if err != nil {
		return limitsBody{}, err
	}
	sub, _ := a.cfg.Govern.ActiveSubscription(c.ID, a.cfg.Clock.Now()) // without one the plan is empty
	return a.limitsOf(c, sub, list), nil
}

// ownInput reads the header itself, so that no document ever holds the key.
type ownInput struct{ secret string }

// Resolve implements huma.Resolver.
func (in *ownInput) Resolve(ctx huma.Context) []error {
	in.secret = bearerOf(ctx.Header("Authorization"))
	return nil
}

func (a *api) ownLimits(ctx context.Context, in *ownInput) (limitsBody, error) {
	list, p, keyFault, err := a.cfg.Enforce.LimitsOf(ctx, in.secret)
	switch {
	case err != nil:
		return limitsBody{}, err
	case keyFault != "":
		return limitsBody{}, newProblem(code(keyFault), "")
	case !p.HasSubscription:
		return limitsBody{}, newProblem(codeNoSubscription, "")
	}
	return a.limitsOf(p.Customer, p.Subscription, list), nil
}

func (a *api) limitsOf(c account.Customer, sub account.Subscription, list []enforce.LimitStatus) limitsBody {
	out := limitsBody{
		Customer: c.Key, CustomerID: c.ID, Plan: sub.Plan, CatalogVersion: a.cfg.Govern.Current().Version, Items: make([]limitBody, 0, len(list)),
		Entitlements: []entitlementBody{},
	}
	for _, l := range list {
		out.CatalogVersion = l.CatalogVersion
		if l.Entitlement != "" {
			out.Entitlements = append(out.Entitlements, entitlementBody{l.Key, l.Entitlement})
			continue
		}
		kind := l.Kind
		if l.Credits {
			kind = quota.Credits
		}
		out.Items = append(out.Items, limitBody{
			Limit: l.Key, Kind: kindName(kind), Meter: l.Meter, Window: l.Window, Consumed: l.Consumed, Quota: l.Quota, Remaining: l.Remaining,
			ResetsAt: reset(l.ResetsAt), WindowStart: reset(l.WindowStart), Enforcement: l.Enforcement, Overage: l.Overage,
			Failure: l.Failure, Scope: l.Scope, Template: l.Template, Override: l.Override, Bound: l.Bound, Currency: l.Currency,
		})
	}
	return out
}

// reset is an instant of a limit; the epoch, which stands for never there, is none.
func reset(t time.Time) time.Time {
	if t.UnixMicro() == 0 {
		return time.Time{}
	}
	return instant(t)
}
