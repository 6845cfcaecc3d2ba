package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// InvoiceID names an invoice in the path.
type InvoiceID struct {
	ID string `path:"id"`
}

func (a *api) invoices() {
	const tag = "invoices"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/invoices", id: "list-invoices", tag: tag, summary: "List finalized invoices, newest first",
	}, a.listInvoices)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/invoices/{id}", id: "get-invoice", tag: tag, summary: "Show a finalized invoice",
	}, func(ctx context.Context, in *InvoiceID) (invoiceBody, error) {
		i, err := a.cfg.Bill.Invoice(ctx, in.ID)
		if err != nil {
			return invoiceBody{}, notFoundAs(err, "finalized invoice")
		}
		out := a.invoiceOf(i)
		settled := []invoiceBody{out}
		if err := a.settle(ctx, []invoice.Invoice{i}, settled); err != nil {
			return invoiceBody{}, err
		}
		out = settled[0]
		out.Checkpoint, err = a.coveredBy(ctx, i.ID)
		return out, err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/customers/{ref}/preview", id: "preview-customer-invoice", tag: tag,
		summary: "The next invoice as if the period closed now",
	}, func(ctx context.Context, in *Ref) (invoiceBody, error) { return a.preview(ctx, in.Ref) })
	handle(a, operation{
		method: http.MethodGet, path: "/v1/invoices/preview", id: "preview-invoice", tag: tag,
		summary: "The next invoice as if the period closed now",
	}, func(ctx context.Context, in *struct {
		Customer string `query:"customer" required:"true" doc:"Id or key"`
	},
	) (invoiceBody, error) {
		return a.preview(ctx, in.Customer)
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/invoices/{id}/lines/{line}/trace", id: "trace-invoice-line", tag: tag,
		summary: "Lead an invoice line back to its windows, events and decisions",
	}, a.trace)
}

func (a *api) listInvoices(ctx context.Context, in *OfCustomer) (listBody[invoiceBody], error) {
	const kind = "invoices"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[invoiceBody]{}, err
	}
	from, err := placeOfID(kind, "inv_", in.Cursor)
	if err != nil {
		return listBody[invoiceBody]{}, err
	}
	if err := a.cfg.Flush(ctx); err != nil {
		return listBody[invoiceBody]{}, err
	}
	rows, err := a.cfg.Bill.Invoices(ctx, store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id})
	if from != "" && (errors.Is(err, account.ErrInvalid) || errors.Is(err, account.ErrNotFound)) {
		return listBody[invoiceBody]{}, newProblem(codeCursorInvalid, "")
	}
	if err != nil {
		return listBody[invoiceBody]{}, err
	}
	out := listOf(in.Paging, kind, rows, func(i invoice.Invoice) string { return i.ID }, a.invoiceOf)
	return out, a.settle(ctx, rows[:len(out.Items)], out.Items)
}

func (a *api) preview(ctx context.Context, ref string) (invoiceBody, error) {
	if _, err := a.customer(ref); err != nil {
		return invoiceBody{}, err
	}
	if err := a.cfg.Flush(ctx); err != nil {
		return invoiceBody{}, err
	}
	i, err := a.cfg.Bill.Preview(ctx, ref)
	if errors.Is(err, account.ErrNotFound) {
		return invoiceBody{}, newProblem(codeNotFound, "The customer has no active subscription, so there is nothing to preview.")
	}
	if err != nil {
		return invoiceBody{}, err
	}
	return a.invoiceOf(i), nil
}

type windowBody struct {
	Start time.Time     `json:"start"`
	End   time.Time     `json:"end"`
	Count int64         `json:"count" doc:"Events"`
	Value money.Decimal `json:"value"`
}

type traceBody struct {
	InvoiceID string        `json:"invoice_id"`
	Customer  string        `json:"customer" doc:"The customer's key"`
	Line      lineBody      `json:"line"`
	Windows   []windowBody  `json:"windows" doc:"All of the line's, on each page; their values add up to its quantity and late"`
	Late      money.Decimal `json:"late" doc:"Usage of the period that came after its close; in windows, not in events"`
	Events    []eventBody   `json:"events" doc:"Oldest first"`
	Next      *string       `json:"next" doc:"Cursor of the next page of events; null on the last"`
}

type traceInput struct {
	InvoiceID
	Line string `path:"line" doc:"A number from 1, or an iln_ id"`
	Paging
}

func (a *api) trace(ctx context.Context, in *traceInput) (traceBody, error) {
	const kind = "trace"
	from, err := place(kind, in.Cursor)
	if err != nil {
		return traceBody{}, err
	}
	if err := a.cfg.Flush(ctx); err != nil {
		return traceBody{}, err
	}
	t, err := a.cfg.Bill.Trace(ctx, in.ID, in.Line, from, in.Limit)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return traceBody{}, newProblem(codeNotFound, "There is no such line of a finalized invoice.")
	case errors.Is(err, account.ErrInvalid):
		return traceBody{}, invalid("line", "must be a number from 1 or an iln_ id", "take it from the invoice")
	case errors.Is(err, store.ErrInvalid):
		return traceBody{}, newProblem(codeCursorInvalid, "")
	case err != nil:
		return traceBody{}, err
	}
	return a.traceOf(kind, t), nil
}

func (a *api) traceOf(kind string, t bill.Trace) traceBody {
	out := traceBody{
		InvoiceID: t.Invoice.ID, Customer: a.customerKey(t.Invoice.CustomerID), Line: lineOf(t.Line), Late: t.Late,
		Windows: make([]windowBody, 0, len(t.Windows)), Events: make([]eventBody, 0, len(t.Events)),
	}
	for _, w := range t.Windows {
		out.Windows = append(out.Windows, windowBody{instant(w.Start), instant(w.End), w.Count, w.Sum})
	}
	for _, r := range t.Events {
		out.Events = append(out.Events, a.eventOf(r, t.Invoice.CustomerID, t.Line.Meter))
	}
	if t.Next != "" {
		next := cursor(kind, t.Next)
		out.Next = &next
	}
	return out
}

// notFoundAs names what is not there; other errors stay.
func notFoundAs(err error, what string) error {
	if errors.Is(err, account.ErrNotFound) {
		return absent(what)
	}
	return err
}
