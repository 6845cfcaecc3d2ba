package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

// OverrideBody is an override as it is shown.
type OverrideBody struct {
	ID         string    `json:"id"`
	Customer   string    `json:"customer" doc:"The customer's key"`
	CustomerID string    `json:"customer_id"`
	KeyID      string    `json:"key_id,omitempty" doc:"Of one API key; empty: of the customer"`
	Limit      string    `json:"limit"`
	Value      string    `json:"value" doc:"A quota, cap or number at once; of a bucket a rate such as 400/s"`
	Burst      string    `json:"burst,omitempty"`
	Reason     string    `json:"reason"`
	Author     string    `json:"author"`
	Status     string    `json:"status" enum:"active,expired,ended"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
}

type newOverrideBody struct {
	Customer  string    `json:"customer" doc:"Id or key"`
	KeyID     string    `json:"key_id,omitempty" doc:"Only for this API key"`
	Limit     string    `json:"limit" doc:"Key of the limit in the customer's plan"`
	Value     string    `json:"value,omitempty" doc:"What the limit's own field would take in the catalog"`
	Burst     string    `json:"burst,omitempty" doc:"Of a token bucket; default: as in the plan"`
	Reason    string    `json:"reason"`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"On the business clock; default: never"`
}

// OverrideID names an override in the path.
type OverrideID struct {
	ID string `path:"id"`
}

func (a *api) overrideOf(o account.Override) OverrideBody {
	status := "active"
	switch {
	case !o.EndedAt.IsZero():
		status = "ended"
	case !o.Active(a.cfg.Clock.Now()):
		status = "expired"
	}
	return OverrideBody{
		ID: o.ID, Customer: a.customerKey(o.CustomerID), CustomerID: o.CustomerID, KeyID: o.KeyID, Limit: o.Limit, Value: o.Value, Burst: o.Burst,
		Reason: o.Reason, Author: o.Author, Status: status,
		CreatedAt: instant(o.CreatedAt), ExpiresAt: instant(o.ExpiresAt), EndedAt: instant(o.EndedAt),
	}
}

func (a *api) allowances() {
	const tag = "limits"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/overrides", id: "create-override", tag: tag, status: http.StatusCreated,
		summary: "Replace a limit's number for one customer or key, at once; counters are kept",
	}, func(ctx context.Context, in *struct{ Body newOverrideBody }) (OverrideBody, error) {
		b := in.Body
		o, err := a.cfg.Govern.CreateOverride(ctx, operator, govern.NewOverride{
			Customer: b.Customer, KeyID: b.KeyID, Limit: b.Limit, Value: b.Value, Burst: b.Burst, Reason: b.Reason, ExpiresAt: b.ExpiresAt,
		})
		return a.overrideOf(o), err
	})
	handle(a, operation{method: http.MethodGet, path: "/v1/overrides", id: "list-overrides", tag: tag, summary: "List overrides, newest first"}, a.listOverrides)
	handle(a, operation{
		method: http.MethodPost, path: "/v1/overrides/{id}/end", id: "end-override", tag: tag,
		summary: "Take an override back at once; doing it again changes nothing",
	}, func(ctx context.Context, in *struct {
		OverrideID
		Body *struct{}
	},
	) (OverrideBody, error) {
		o, err := a.cfg.Govern.EndOverride(ctx, operator, in.ID)
		return a.overrideOf(o), err
	})
}

func (a *api) listOverrides(ctx context.Context, in *OfCustomer) (listBody[OverrideBody], error) {
	const kind = "overrides"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[OverrideBody]{}, err
	}
	from, err := placeOfID(kind, "ovr_", in.Cursor)
	if err != nil {
		return listBody[OverrideBody]{}, err
	}
	rows, err := a.cfg.Govern.ListOverrides(ctx, store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id})
	return listOf(in.Paging, kind, rows, func(o account.Override) string { return o.ID }, a.overrideOf), err
}
