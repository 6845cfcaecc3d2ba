package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

type subscriptionBody struct {
	ID             string    `json:"id"`
	Customer       string    `json:"customer" doc:"The customer's key"`
	CustomerID     string    `json:"customer_id"`
	Plan           string    `json:"plan"`
	CatalogVersion int64     `json:"catalog_version" doc:"Its prices are pinned to it"`
	Start          time.Time `json:"start"`
	End            time.Time `json:"end,omitzero"`
	BillingDay     int       `json:"billing_day" doc:"Local day of the month on which billing periods begin"`
	Status         string    `json:"status" enum:"active,paused,ended,future"`
	Every          string    `json:"every" doc:"The billing period" example:"month"`
	Calendar       bool      `json:"calendar,omitempty" doc:"Billing periods follow the calendar"`
	AnchorAt       time.Time `json:"anchor_at,omitzero" doc:"Billing periods are counted from it"`
	TrialEnd       time.Time `json:"trial_end,omitzero"`
	CurrentPeriod  *spanBody `json:"current_period,omitempty"`
	CreatedAt      time.Time `json:"created_at"`
}

type newSubscriptionBody struct {
	Customer   string            `json:"customer" doc:"Id or key"`
	Plan       string            `json:"plan,omitempty" doc:"Or phases"`
	Start      time.Time         `json:"start,omitzero" doc:"Default: now; the past is allowed"`
	BillingDay int               `json:"billing_day,omitempty" minimum:"1" maximum:"31" doc:"Default: the local day of the start"`
	Version    int64             `json:"version,omitempty" minimum:"1" doc:"Catalog version of the prices; default: the newest"`
	Phases     []phaseBody       `json:"phases,omitempty" maxItems:"50" doc:"Plans one after the other, instead of plan"`
	Quantities map[string]string `json:"quantities,omitempty" doc:"By key of a price that is not measured, such as seats"`
	AddOns     map[string]string `json:"add_ons,omitempty" doc:"Quantity by key of the add-on"`
	TrialDays  *int              `json:"trial_days,omitempty" minimum:"0" maximum:"731" doc:"Local days, instead of the plan's; 0: no trial"`
	TrialEnd   time.Time         `json:"trial_end,omitzero" doc:"Instead of trial_days"`
}

type phaseBody struct {
	Plan string `json:"plan"`
	For  string `json:"for,omitempty" example:"3 months" doc:"How long; may be left out in the last phase, else the subscription ends with it"`
}

func (b *newSubscriptionBody) value() (n govern.NewSubscription, err error) {
	n = govern.NewSubscription{
		Customer: b.Customer, Plan: b.Plan, Start: b.Start, BillingDay: b.BillingDay, Version: b.Version, TrialDays: b.TrialDays, TrialEnd: b.TrialEnd,
	}
	if n.Quantities, err = decimals("/quantities/", b.Quantities); err != nil {
		return n, err
	}
	if n.AddOns, err = decimals("/add_ons/", b.AddOns); err != nil {
		return n, err
	}
	for i, p := range b.Phases {
		phase := govern.Phase{Plan: p.Plan}
		if p.For != "" {
			if phase.For, err = period.ParseEvery(p.For); err != nil {
				return n, &govern.Invalid{Pointer: fmt.Sprintf("/phases/%d/for", i), Rule: fmt.Sprintf("%q is no interval", p.For), Fix: "write it as 3 months, 2 weeks or year"}
			}
		}
		n.Phases = append(n.Phases, phase)
	}
	return n, nil
}

// decimals reads a map of quantities.
func decimals(pointer string, texts map[string]string) (map[string]money.Decimal, error) {
	out := make(map[string]money.Decimal, len(texts))
	for key, text := range texts {
		d, err := money.ParseDecimal(text)
		if err != nil {
			return nil, &govern.Invalid{Pointer: pointer + key, Rule: fmt.Sprintf("%q is no quantity", text), Fix: "write a plain number, such as 5 or 2.5"}
		}
		out[key] = d
	}
	return out, nil
}

func (a *api) subscriptionOf(s account.Subscription) subscriptionBody {
	out := subscriptionBody{
		ID: s.ID, Customer: a.customerKey(s.CustomerID), CustomerID: s.CustomerID, Plan: s.Plan, CatalogVersion: s.CatalogVersion,
		Start: instant(s.Start), End: instant(s.End), BillingDay: s.BillingDay, CreatedAt: instant(s.CreatedAt),
		Every: s.Every.String(), Calendar: s.Calendar, AnchorAt: instant(s.AnchorAt), TrialEnd: instant(s.TrialEnd),
	}
	now := a.cfg.Clock.Now()
	switch {
	case s.Active(now):
		out.Status = "active"
	case now.Before(s.Start):
		out.Status = "future"
	default:
		out.Status = "ended"
	}
	c, ok := a.cfg.Govern.Customer(s.CustomerID)
	if !ok || out.Status != "active" {
		return out
	}
	if s.Paused {
		out.Status = "paused"
	}
	if p, ok := s.Anchor(c.Zone).Period(now); ok {
		if !s.End.IsZero() && s.End.Before(p.End) {
			p.End = s.End
		}
		current := spanOf(p)
		out.CurrentPeriod = &current
	}
	return out
}

func (a *api) subscriptions() {
	const tag = "subscriptions"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/subscriptions", id: "create-subscription", tag: tag, summary: "Subscribe a customer to a plan",
		status: http.StatusCreated,
	}, func(ctx context.Context, in *struct{ Body newSubscriptionBody }) (subscriptionBody, error) {
		n, err := in.Body.value()
		if err != nil {
			return subscriptionBody{}, err
		}
		s, err := a.cfg.Govern.CreateSubscription(ctx, operator, n)
		return a.subscriptionOf(s), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/subscriptions", id: "list-subscriptions", tag: tag, summary: "List subscriptions, newest first",
	}, a.listSubscriptions)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/subscriptions/{id}", id: "get-subscription", tag: tag, summary: "Show a subscription",
	}, func(ctx context.Context, in *struct {
		ID string `path:"id"`
	},
	) (subscriptionBody, error) {
		s, err := a.cfg.Govern.Subscription(ctx, in.ID)
		return a.subscriptionOf(s), err
	})
}

func (a *api) listSubscriptions(ctx context.Context, in *OfCustomer) (listBody[subscriptionBody], error) {
	const kind = "subscriptions"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[subscriptionBody]{}, err
	}
	from, err := placeOfID(kind, "sub_", in.Cursor)
	if err != nil {
		return listBody[subscriptionBody]{}, err
	}
	rows, err := a.cfg.Govern.ListSubscriptions(ctx, store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id})
	return listOf(in.Paging, kind, rows, func(s account.Subscription) string { return s.ID }, a.subscriptionOf), err
}
