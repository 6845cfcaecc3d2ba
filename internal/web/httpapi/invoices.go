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

type invoiceBody struct {
	ID             string     `json:"id"`
	Number         int64      `json:"number" doc:"Without gaps; 0 before it is finalized"`
	Customer       string     `json:"customer" doc:"The customer's key"`
	CustomerID     string     `json:"customer_id"`
	SubscriptionID string     `json:"subscription_id"`
	Plan           string     `json:"plan"`
	Status         string     `json:"status" enum:"preview,draft,finalized,past_due,paid,void,uncollectible"`
	Currency       string     `json:"currency"`
	Period         spanBody   `json:"period" doc:"The billing period that it closes; empty on the invoice at the start of a subscription"`
	Lines          []lineBody `json:"lines"`
	Total          moneyBody  `json:"total" doc:"Sum of the rounded lines"`
	CatalogVersion int64      `json:"catalog_version"`
	TZVersion      string     `json:"tz_version" doc:"Release of the time zone data"`
	Position       uint64     `json:"position" doc:"Journal position that it was rated at"`
	FinalizedAt    time.Time  `json:"finalized_at,omitzero"`

	Standing *standingBody `json:"standing,omitempty" doc:"What was paid and credited of it; absent before it is finalized"`

	Checkpoint *coveredBody `json:"checkpoint,omitempty" doc:"The signed checkpoint that covers it: its lines can be proved from then on"`
}

type lineBody struct {
	ID       string        `json:"id"`
	Number   int           `json:"number"`
	Kind     string        `json:"kind" enum:"flat,usage"`
	Price    string        `json:"price"`
	Meter    string        `json:"meter,omitempty"`
	Period   spanBody      `json:"period" doc:"The service period"`
	Quantity money.Decimal `json:"quantity"`
	Tiers    []tierBody    `json:"tiers,omitempty"`
	Exact    money.Decimal `json:"exact" doc:"Without any rounding"`
	Rounded  moneyBody     `json:"rounded" doc:"The line's one rounding"`
}

type tierBody struct {
	Tier       int           `json:"tier"`
	Quantity   money.Decimal `json:"quantity"`
	UnitAmount money.Decimal `json:"unit_amount"`
	FlatAmount money.Decimal `json:"flat_amount"`
	Amount     money.Decimal `json:"amount"`
}

func lineOf(l invoice.Line) lineBody {
	out := lineBody{
		ID: l.ID, Number: l.Number, Kind: string(l.Kind), Price: l.Price, Meter: l.Meter, Period: spanOf(l.Period), Quantity: l.Quantity,
		Exact: l.Exact, Rounded: moneyOf(l.Rounded),
	}
	for _, t := range l.Tiers {
		out.Tiers = append(out.Tiers, tierBody(t))
	}
	return out
}

func (a *api) invoiceOf(i invoice.Invoice) invoiceBody {
	out := invoiceBody{
		ID: i.ID, Number: i.Number, Customer: a.customerKey(i.CustomerID), CustomerID: i.CustomerID, SubscriptionID: i.SubscriptionID,
		Plan: i.Plan, Status: string(i.Status), Currency: i.Currency.Code(), Period: spanOf(i.Period), Lines: make([]lineBody, 0, len(i.Lines)),
		Total: moneyOf(i.Total), CatalogVersion: i.CatalogVersion, TZVersion: i.TZVersion, Position: i.Position, FinalizedAt: instant(i.FinalizedAt),
	}
	for _, l := range i.Lines {
		out.Lines = append(out.Lines, lineOf(l))
	}
	return out
}

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
