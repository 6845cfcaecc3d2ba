package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/billrun"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

type billingRunBody struct {
	ID         string           `json:"id"`
	State      string           `json:"state" enum:"queued,running,done,failed,canceled" doc:"failed: it went through, but some subscriptions could not be closed"`
	Until      time.Time        `json:"until,omitzero" doc:"Only periods that end at or before it; absent: all that is due"`
	CustomerID string           `json:"customer_id,omitempty" doc:"Absent: all customers"`
	Actor      string           `json:"actor"`
	Due        int64            `json:"due" doc:"Closings that were due at the beginning or became so since"`
	Done       int64            `json:"done" doc:"Closings that are done"`
	Failed     int64            `json:"failed" doc:"Subscriptions that could not be closed"`
	Invoices   int64            `json:"invoices" doc:"Finalized by this run"`
	LastError  string           `json:"last_error,omitempty" doc:"Why it does not go on for now; it is tried again"`
	CreatedAt  time.Time        `json:"created_at"`
	StartedAt  time.Time        `json:"started_at,omitzero"`
	UpdatedAt  time.Time        `json:"updated_at" doc:"Of a run that has ended: when it did"`
	Failures   []runFailureBody `json:"failures,omitempty" doc:"Of a single run: at most 1,000, by customer"`
}

type runFailureBody struct {
	SubscriptionID string   `json:"subscription_id"`
	Customer       string   `json:"customer" doc:"Key"`
	Period         spanBody `json:"period"`
	Reason         string   `json:"reason"`
}

func billingRunOf(r billrun.Run) billingRunBody {
	return billingRunBody{
		ID: r.ID, State: string(r.State), Until: instant(r.Until), CustomerID: r.CustomerID, Actor: r.Actor, Due: r.Due, Done: r.Done, Failed: r.Failed,
		Invoices: r.Invoices, LastError: r.LastError, CreatedAt: instant(r.CreatedAt), StartedAt: instant(r.StartedAt), UpdatedAt: instant(r.UpdatedAt),
	}
}

type newBillingRunBody struct {
	Until    time.Time `json:"until,omitzero" doc:"Only periods that end at or before it; of a dry run, it may lie in the future"`
	Customer string    `json:"customer,omitempty" doc:"Id or key; absent: all" maxLength:"64"`
}

// dryInvoices bounds the invoices that a dry run shows in full.
const dryInvoices = 1000

type dryRunBody struct {
	Count    int              `json:"count" doc:"Invoices that would be finalized"`
	Totals   []moneyTotal     `json:"totals" doc:"By currency"`
	Invoices []dryInvoiceBody `json:"invoices" doc:"The first 1,000"`
	Failed   int              `json:"failed" doc:"Subscriptions that could not be billed"`
	Failures []runFailureBody `json:"failures" doc:"At most 1,000"`
}

type moneyTotal struct {
	Currency string       `json:"currency"`
	Total    money.Amount `json:"-"`
	Amount   string       `json:"amount"`
}

type dryInvoiceBody struct {
	Customer       string        `json:"customer" doc:"Key"`
	SubscriptionID string        `json:"subscription_id"`
	Plan           string        `json:"plan"`
	Period         spanBody      `json:"period"`
	Currency       string        `json:"currency"`
	Total          string        `json:"total"`
	Lines          []dryLineBody `json:"lines"`
}

type dryLineBody struct {
	Kind     string        `json:"kind"`
	Price    string        `json:"price,omitempty"`
	Meter    string        `json:"meter,omitempty"`
	Period   spanBody      `json:"period"`
	Quantity money.Decimal `json:"quantity"`
	Amount   string        `json:"amount"`
}

type billingRunInput struct {
	ID string `path:"id"`
}

func (a *api) billingRuns() {
	const tag = "invoices"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/billing-runs", id: "create-billing-run", tag: tag, status: http.StatusCreated,
		summary:     "Close what is due",
		description: "A job: ask for it again to see how far it is. What is due is billed by itself as well; nothing is billed twice.",
	}, func(ctx context.Context, in *struct{ Body newBillingRunBody }) (billingRunBody, error) {
		r, err := a.cfg.BillingRuns.Begin(ctx, operator, bill.Part{Until: instant(in.Body.Until), CustomerID: in.Body.Customer})
		return billingRunOf(r), notFoundAs(err, "customer")
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/billing-runs/preview", id: "preview-billing-run", tag: tag,
		summary:     "Show what a run would finalize",
		description: "By the code that closes; nothing is stored. An instant to come is a what-if: the usage so far, and what is decided by now.",
	}, func(ctx context.Context, in *struct{ Body newBillingRunBody }) (dryRunBody, error) {
		return a.dryRun(ctx, in.Body)
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/billing-runs", id: "list-billing-runs", tag: tag, summary: "List runs of billing, newest first",
	}, func(ctx context.Context, in *Paging) (listBody[billingRunBody], error) {
		from, err := placeOfID("billing-runs", "run_", in.Cursor)
		if err != nil {
			return listBody[billingRunBody]{}, err
		}
		rows, err := a.cfg.BillingRuns.Runs(ctx, store.Query{Cursor: from, Limit: in.fetch()})
		return listOf(*in, "billing-runs", rows, func(r billrun.Run) string { return r.ID }, billingRunOf), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/billing-runs/{id}", id: "get-billing-run", tag: tag, summary: "Show a run of billing: how far it is, and what failed",
	}, func(ctx context.Context, in *billingRunInput) (billingRunBody, error) {
		r, failures, err := a.cfg.BillingRuns.Run(ctx, in.ID)
		out := billingRunOf(r)
		for _, f := range failures {
			out.Failures = append(out.Failures, runFailureBody{f.SubscriptionID, f.Customer, spanBody{f.Period.Start, f.Period.End}, f.Reason})
		}
		return out, notFoundAs(err, "billing run")
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/billing-runs/{id}/cancel", id: "cancel-billing-run", tag: tag,
		summary: "End a run; what it has closed stays, and the rest is billed by itself when it is due",
	}, func(ctx context.Context, in *billingRunInput) (billingRunBody, error) {
		r, err := a.cfg.BillingRuns.Cancel(ctx, operator, in.ID)
		return billingRunOf(r), notFoundAs(err, "billing run")
	})
}

// dryRun collects what a run would finalize.
func (a *api) dryRun(ctx context.Context, in newBillingRunBody) (dryRunBody, error) {
	part := bill.Part{Until: instant(in.Until), CustomerID: in.Customer}
	if in.Customer != "" {
		c, ok := a.cfg.Govern.Customer(in.Customer)
		if !ok {
			return dryRunBody{}, absent("customer")
		}
		part.CustomerID = c.ID
	}
	if err := a.cfg.Flush(ctx); err != nil {
		return dryRunBody{}, err
	}
	out := dryRunBody{Totals: []moneyTotal{}, Invoices: []dryInvoiceBody{}, Failures: []runFailureBody{}}
	err := a.cfg.Bill.DryRun(ctx, part, func(f bill.Forecast) error {
		if f.Err != nil {
			if out.Failed++; len(out.Failures) < dryInvoices {
				out.Failures = append(out.Failures, runFailureBody{SubscriptionID: f.SubscriptionID, Customer: f.Customer.Key, Reason: f.Err.Error()})
			}
			return nil
		}
		for i := range f.Invoices {
			if err := out.add(f.Customer, &f.Invoices[i]); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range out.Totals {
		out.Totals[i].Amount = out.Totals[i].Total.String()
	}
	return out, err
}

func (d *dryRunBody) add(c account.Customer, inv *invoice.Invoice) (err error) {
	d.Count++
	at := -1
	for i := range d.Totals {
		if d.Totals[i].Currency == inv.Currency.Code() {
			at = i
		}
	}
	if at < 0 {
		at = len(d.Totals)
		d.Totals = append(d.Totals, moneyTotal{Currency: inv.Currency.Code(), Total: money.NewAmount(0, inv.Currency)})
	}
	if d.Totals[at].Total, err = d.Totals[at].Total.Add(inv.Total); err != nil || len(d.Invoices) == dryInvoices {
		return err
	}
	row := dryInvoiceBody{
		Customer: c.Key, SubscriptionID: inv.SubscriptionID, Plan: inv.Plan, Period: spanBody{inv.Period.Start, inv.Period.End},
		Currency: inv.Currency.Code(), Total: inv.Total.String(), Lines: []dryLineBody{},
	}
	for i := range inv.Lines {
		l := &inv.Lines[i]
		row.Lines = append(row.Lines, dryLineBody{string(l.Kind), l.Price, l.Meter, spanBody{l.Period.Start, l.Period.End}, l.Quantity, l.Rounded.String()})
	}
	d.Invoices = append(d.Invoices, row)
	return nil
}
