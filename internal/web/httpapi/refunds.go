package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// RefundBody is what a customer was given back, or refused, on one day of a route, by reason.
type RefundBody struct {
	Customer string        `json:"customer" doc:"The customer's key"`
	Day      time.Time     `json:"day" doc:"The customer's midnight at which it began"`
	Route    string        `json:"route" doc:"A route's match in the catalog; empty for reservations of a meter"`
	Meter    string        `json:"meter"`
	Reason   string        `json:"reason" enum:"failed,timed_out,client_gone,withdrawn"`
	Refused  bool          `json:"refused" doc:"The day's bound on refunds was reached: charged all the same"`
	Count    int64         `json:"count"`
	Cost     money.Decimal `json:"cost" doc:"In the meter's unit"`
}

func (a *api) refunds() {
	handle(a, operation{
		method: http.MethodGet, path: "/v1/refunds", id: "list-refunds", tag: "refunds", summary: "What was given back, added up by customer, day, route and reason, newest first",
	}, a.listRefunds)
}

func (a *api) listRefunds(ctx context.Context, in *OfCustomer) (listBody[RefundBody], error) {
	const kind = "refunds"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[RefundBody]{}, err
	}
	from, err := place(kind, in.Cursor)
	if err != nil {
		return listBody[RefundBody]{}, err
	}
	if _, err := strconv.ParseInt(from, 10, 64); from != "" && err != nil {
		return listBody[RefundBody]{}, newProblem(codeCursorInvalid, "")
	}
	var rows []store.Refund
	if a.cfg.Refunds != nil {
		if rows, err = a.cfg.Refunds(ctx, store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id}); err != nil {
			return listBody[RefundBody]{}, err
		}
	}
	return listOf(in.Paging, kind, rows, func(f store.Refund) string { return strconv.FormatInt(f.ID, 10) }, a.refundOf), nil
}

func (a *api) refundOf(f store.Refund) RefundBody {
	return RefundBody{a.customerKey(f.CustomerID), instant(f.Day), f.Route, f.Meter, f.Reason, f.Refused, f.Count, f.Cost}
}
