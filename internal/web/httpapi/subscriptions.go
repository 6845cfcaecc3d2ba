package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
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
	Status         string    `json:"status" enum:"active,ended,future"`
	CurrentPeriod  *spanBody `json:"current_period,omitempty"`
	CreatedAt      time.Time `json:"created_at"`
}

type newSubscriptionBody struct {
	Customer   string    `json:"customer" doc:"Id or key"`
	Plan       string    `json:"plan"`
	Start      time.Time `json:"start,omitzero" doc:"Default: now; the past is allowed"`
	BillingDay int       `json:"billing_day,omitempty" minimum:"1" maximum:"31" doc:"Default: the local day of the start"`
}

func (a *api) subscriptionOf(s account.Subscription) subscriptionBody {
	out := subscriptionBody{
		ID: s.ID, Customer: a.customerKey(s.CustomerID), CustomerID: s.CustomerID, Plan: s.Plan, CatalogVersion: s.CatalogVersion,
		Start: instant(s.Start), End: instant(s.End), BillingDay: s.BillingDay, CreatedAt: instant(s.CreatedAt),
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
		s, err := a.cfg.Govern.CreateSubscription(ctx, operator, govern.NewSubscription(in.Body))
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
