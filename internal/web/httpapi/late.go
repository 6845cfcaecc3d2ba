package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// closedBody is a billing period that is closed.
type closedBody struct {
	Start         time.Time `json:"start"`
	End           time.Time `json:"end"`
	Position      uint64    `json:"position" doc:"In the journal, that it was rated at"`
	InvoiceID     string    `json:"invoice_id,omitempty" doc:"Absent: no invoice was due"`
	InvoiceNumber int64     `json:"invoice_number,omitempty"`
}

// closedOf names the invoice of a close.
func (a *api) closedOf(ctx context.Context, c store.Close) (closedBody, error) {
	out := closedBody{Start: instant(c.Period.Start), End: instant(c.Period.End), Position: c.Position, InvoiceID: c.InvoiceID}
	if c.InvoiceID == "" {
		return out, nil
	}
	i, err := a.cfg.Bill.Invoice(ctx, c.InvoiceID)
	out.InvoiceNumber = i.Number
	return out, err
}

type arrivalBody struct {
	Customer  string        `json:"customer" doc:"The customer's key"`
	Meter     string        `json:"meter"`
	Period    closedBody    `json:"period" doc:"The closed billing period; its invoice stays as it is"`
	AtClose   money.Decimal `json:"quantity_at_close"`
	Change    money.Decimal `json:"change" doc:"Since then; negative: usage was taken away"`
	Events    int64         `json:"events" doc:"That came or were revised since the close"`
	Complete  bool          `json:"complete" doc:"false: more events than were counted"`
	FirstSeen time.Time     `json:"first_seen,omitzero" doc:"When the first of them came or was revised; absent: all were voided"`
	LastSeen  time.Time     `json:"last_seen,omitzero"`
}

func (a *api) late() {
	const tag = "late arrivals"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/late", id: "list-late", tag: tag, summary: "Closed periods whose usage changed after their close",
		description: "By customer, then by period, oldest first. A page may hold fewer than limit and yet have a next one.",
	}, a.listLate)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/late/events", id: "list-late-events", tag: tag, summary: "The events behind a late arrival, oldest first",
	}, a.lateEvents)
}

func (a *api) listLate(ctx context.Context, in *OfCustomer) (listBody[arrivalBody], error) {
	const kind = "late"
	from, err := place(kind, in.Cursor)
	if err != nil {
		return listBody[arrivalBody]{}, err
	}
	list, next, err := a.cfg.Correct.Late(ctx, correct.LateQuery{CustomerID: in.Customer, Cursor: from, Limit: in.Limit})
	if errors.Is(err, store.ErrInvalid) {
		return listBody[arrivalBody]{}, newProblem(codeCursorInvalid, "")
	}
	if err != nil {
		return listBody[arrivalBody]{}, notFoundAs(err, "customer")
	}
	out := pageOf[arrivalBody](kind, len(list), next)
	for _, x := range list {
		closed, err := a.closedOf(ctx, x.Close)
		if err != nil {
			return out, err
		}
		out.Items = append(out.Items, arrivalBody{
			Customer: x.Customer.Key, Meter: x.Meter, Period: closed, AtClose: x.AtClose, Change: x.Change, Events: x.Events, Complete: x.Complete,
			FirstSeen: instant(x.First), LastSeen: instant(x.Last),
		})
	}
	return out, nil
}

// pageOf is a list that the use case pages by itself.
func pageOf[T any](kind string, size int, next string) listBody[T] {
	out := listBody[T]{Items: make([]T, 0, size)}
	if next != "" {
		hidden := cursor(kind, next)
		out.Next = &hidden
	}
	return out
}

type lateEventsInput struct {
	Paging
	Customer string    `query:"customer" required:"true" doc:"Id or key"`
	Meter    string    `query:"meter" required:"true"`
	Period   time.Time `query:"period" required:"true" doc:"Start of the closed billing period"`
}

func (a *api) lateEvents(ctx context.Context, in *lateEventsInput) (listBody[eventBody], error) {
	const kind = "late-events"
	from, err := place(kind, in.Cursor)
	if err != nil {
		return listBody[eventBody]{}, err
	}
	page, err := a.cfg.Correct.LateEvents(ctx, in.Customer, in.Meter, in.Period, from, in.Limit)
	if errors.Is(err, store.ErrInvalid) {
		return listBody[eventBody]{}, newProblem(codeCursorInvalid, "")
	}
	if err != nil {
		return listBody[eventBody]{}, notFoundAs(err, "customer")
	}
	out := pageOf[eventBody](kind, len(page.Records), page.Next)
	id, err := a.filter(in.Customer)
	for _, r := range page.Records {
		out.Items = append(out.Items, a.eventOf(r, id, in.Meter))
	}
	return out, err
}
