package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

// RedemptionBody is a coupon that a customer uses.
type RedemptionBody struct {
	ID             string    `json:"id"`
	Customer       string    `json:"customer" doc:"The customer's key"`
	CustomerID     string    `json:"customer_id"`
	Coupon         string    `json:"coupon" doc:"Its key in the catalog"`
	CatalogVersion int64     `json:"catalog_version" doc:"What it takes off is pinned to it"`
	Status         string    `json:"status" enum:"active,ended"`
	Reason         string    `json:"reason"`
	Author         string    `json:"author"`
	RedeemedAt     time.Time `json:"redeemed_at"`
	EndedAt        time.Time `json:"ended_at,omitzero"`
}

type redeemBody struct {
	Coupon string `json:"coupon" doc:"Its key in the newest catalog"`
	Reason string `json:"reason"`
}

func (a *api) redemptionOf(r account.Redemption) RedemptionBody {
	status := "active"
	if !r.EndedAt.IsZero() {
		status = "ended"
	}
	return RedemptionBody{
		ID: r.ID, Customer: a.customerKey(r.CustomerID), CustomerID: r.CustomerID, Coupon: r.Coupon, CatalogVersion: r.CatalogVersion, Status: status,
		Reason: r.Reason, Author: r.Actor, RedeemedAt: instant(r.RedeemedAt), EndedAt: instant(r.EndedAt),
	}
}

func (a *api) coupons() {
	const tag = "coupons"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/customers/{ref}/coupons", id: "redeem-coupon", tag: tag, status: http.StatusCreated,
		summary: "Have a customer use a coupon of the catalog from now on",
	}, func(ctx context.Context, in *struct {
		Ref
		Body redeemBody
	},
	) (RedemptionBody, error) {
		r, err := a.cfg.Credits.Redeem(ctx, operator, in.Ref.Ref, in.Body.Coupon, in.Body.Reason)
		return a.redemptionOf(r), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/customers/{ref}/coupons", id: "list-customer-coupons", tag: tag, summary: "List a customer's coupons, newest first",
	}, func(ctx context.Context, in *struct {
		Ref
		Paging
	},
	) (listBody[RedemptionBody], error) {
		c, err := a.customer(in.Ref.Ref)
		if err != nil {
			return listBody[RedemptionBody]{}, err
		}
		return a.listRedemptions(ctx, &OfCustomer{Paging: in.Paging, Customer: c.ID})
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/redemptions", id: "list-redemptions", tag: tag, summary: "List the coupons that customers use, newest first",
	}, a.listRedemptions)
	handle(a, operation{
		method: http.MethodPost, path: "/v1/redemptions/{id}/end", id: "end-redemption", tag: tag,
		summary: "Have no later invoice use a coupon; doing it again changes nothing",
	}, func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body *struct{}
	},
	) (RedemptionBody, error) {
		r, err := a.cfg.Credits.EndRedemption(ctx, operator, in.ID)
		return a.redemptionOf(r), err
	})
}

func (a *api) listRedemptions(ctx context.Context, in *OfCustomer) (listBody[RedemptionBody], error) {
	const kind = "redemptions"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[RedemptionBody]{}, err
	}
	from, err := placeOfID(kind, "rdm_", in.Cursor)
	if err != nil {
		return listBody[RedemptionBody]{}, err
	}
	rows, err := a.cfg.Credits.ListRedemptions(ctx, store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id})
	return listOf(in.Paging, kind, rows, func(r account.Redemption) string { return r.ID }, a.redemptionOf), err
}
