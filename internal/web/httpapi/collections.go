package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// standingBody is where a finalized invoice is.
type standingBody struct {
	InvoiceID string    `json:"invoice_id"`
	Status    string    `json:"status" enum:"finalized,past_due,paid,void,uncollectible"`
	Total     moneyBody `json:"total"`
	Applied   moneyBody `json:"balance_applied" doc:"What the money balance paid when it was finalized"`
	Paid      moneyBody `json:"paid" doc:"By payments"`
	Credited  moneyBody `json:"credited" doc:"By credit notes"`
	Remaining moneyBody `json:"remaining" doc:"What is left to pay; of an uncollectible invoice what was given up"`
	DueAt     time.Time `json:"due_at,omitzero"`
	At        time.Time `json:"at" doc:"When it became so"`
	Actor     string    `json:"actor"`
	Reason    string    `json:"reason,omitempty"`
	Reference string    `json:"reference,omitempty" doc:"The payment or credit note that made it so"`
}

func standingOf(v collect.View) standingBody {
	return standingBody{
		InvoiceID: v.InvoiceID, Status: string(v.Shown), Total: moneyOf(v.Total), Applied: moneyOf(v.Applied), Paid: moneyOf(v.Paid),
		Credited: moneyOf(v.Credited), Remaining: moneyOf(v.Remaining), DueAt: instant(v.DueAt), At: instant(v.At), Actor: v.Actor,
		Reason: v.Reason, Reference: v.Reference,
	}
}

// settle fills in what became of finalized invoices; both lists are in the same order.
func (a *api) settle(ctx context.Context, invoices []invoice.Invoice, bodies []invoiceBody) error {
	views, err := a.cfg.Collect.Views(ctx, invoices)
	if err != nil {
		return err
	}
	for i := range bodies {
		standing := standingOf(views[i])
		bodies[i].Status, bodies[i].Standing = standing.Status, &standing
	}
	return nil
}

// PaymentBody is a recorded payment.
type PaymentBody struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind" enum:"payment,refund" doc:"Money that came in, or that went back out of the balance"`
	Customer   string    `json:"customer" doc:"The customer's key"`
	CustomerID string    `json:"customer_id"`
	InvoiceID  string    `json:"invoice_id,omitempty" doc:"Absent: for the money balance"`
	Amount     moneyBody `json:"amount"`
	Applied    moneyBody `json:"applied" doc:"What of it paid the invoice; the rest went to the money balance"`
	Method     string    `json:"method,omitempty"`
	Reference  string    `json:"reference,omitempty"`
	Note       string    `json:"note,omitempty"`
	ReceivedAt time.Time `json:"received_at"`
	CreatedAt  time.Time `json:"created_at"`
	Actor      string    `json:"actor"`
}

func (a *api) paymentOf(p store.Payment) PaymentBody {
	return PaymentBody{
		ID: p.ID, Kind: string(p.Kind), Customer: a.customerKey(p.CustomerID), CustomerID: p.CustomerID, InvoiceID: p.InvoiceID,
		Amount: moneyOf(p.Amount), Applied: moneyOf(p.Applied), Method: p.Method, Reference: p.Reference, Note: p.Note,
		ReceivedAt: instant(p.ReceivedAt), CreatedAt: instant(p.CreatedAt), Actor: p.Actor,
	}
}

// NewPaymentBody is a payment to be recorded.
type NewPaymentBody struct {
	Amount     moneyBody `json:"amount" doc:"Above 0, in the customer's currency"`
	Method     string    `json:"method,omitempty" example:"transfer"`
	Reference  string    `json:"reference,omitempty" doc:"Of the bank or provider. A payment of the customer with the same is not recorded again"`
	Note       string    `json:"note,omitempty"`
	ReceivedAt time.Time `json:"received_at,omitzero" doc:"On the business clock; default: now"`
}

// payment reads the form. The errors point into it.
func (b NewPaymentBody) payment() (collect.NewPayment, error) {
	amount, err := amountOf("amount", b.Amount)
	return collect.NewPayment{Amount: amount, Method: b.Method, Reference: b.Reference, Note: b.Note, ReceivedAt: b.ReceivedAt}, err
}

// amountOf reads posted money; name is where it stands.
func amountOf(name string, b moneyBody) (money.Amount, error) {
	currency, err := money.ParseCurrency(b.Currency)
	if err != nil {
		return money.Amount{}, invalid(name+"/currency", "must be an ISO 4217 code", "such as USD")
	}
	d, err := money.ParseDecimal(b.Amount)
	if err == nil {
		var minor int64
		if minor, err = d.Scaled(currency.Digits()); err == nil {
			return money.NewAmount(minor, currency), nil
		}
	}
	return money.Amount{}, invalid(name+"/amount", fmt.Sprintf("must be a number with at most %d decimals", currency.Digits()), `such as "12.34"`)
}

type paidBody struct {
	Payment PaymentBody  `json:"payment"`
	Invoice standingBody `json:"invoice"`
}

type reasonBody struct {
	Reason string `json:"reason" doc:"It stays with the invoice and in the audit log"`
}

type reasonInput struct {
	InvoiceID
	Body reasonBody
}

// BalanceBody is a customer's money with the seller.
type BalanceBody struct {
	Customer   string    `json:"customer" doc:"The customer's key"`
	CustomerID string    `json:"customer_id"`
	Balance    moneyBody `json:"balance" doc:"It pays the next invoices when they are finalized"`
	Owed       moneyBody `json:"owed" doc:"What is left to pay of open invoices"`
}

type newBalanceBody struct {
	Kind string `json:"kind,omitempty" enum:"deposit,refund" doc:"Default: deposit"`
	NewPaymentBody
}

func (a *api) collections() {
	const tag = "payments"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/invoices/{id}/payments", id: "pay-invoice", tag: tag, status: http.StatusCreated,
		summary:     "Record a payment of an invoice",
		description: "What is left of the invoice is paid; the rest goes to the customer's money balance. A payment of an uncollectible invoice revives it.",
	}, func(ctx context.Context, in *struct {
		InvoiceID
		Body NewPaymentBody
	},
	) (paidBody, error) {
		p, err := in.Body.payment()
		if err != nil {
			return paidBody{}, err
		}
		done, v, err := a.cfg.Collect.Pay(ctx, operator, in.ID, p)
		if err != nil {
			return paidBody{}, notFoundAs(err, "finalized invoice")
		}
		return paidBody{a.paymentOf(done), standingOf(v)}, nil
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/invoices/{id}/void", id: "void-invoice", tag: tag,
		summary: "Take a whole invoice back, of which nothing was paid or credited",
	}, func(ctx context.Context, in *reasonInput) (standingBody, error) {
		v, err := a.cfg.Collect.Void(ctx, operator, in.ID, in.Body.Reason)
		return standingOrFault(v, err)
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/invoices/{id}/uncollectible", id: "give-invoice-up", tag: tag,
		summary: "Give up what is left of an invoice, as a loss",
	}, func(ctx context.Context, in *reasonInput) (standingBody, error) {
		v, err := a.cfg.Collect.Uncollectible(ctx, operator, in.ID, in.Body.Reason)
		return standingOrFault(v, err)
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/invoices/{id}/history", id: "get-invoice-history", tag: tag,
		summary: "All that became of a finalized invoice, oldest first",
	}, a.standingHistory)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/payments", id: "list-payments", tag: tag, summary: "List payments and refunds of balances, newest first",
	}, a.listPayments)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/customers/{ref}/balance", id: "get-balance", tag: tag, summary: "A customer's money balance, and what is owed",
	}, func(ctx context.Context, in *Ref) (BalanceBody, error) {
		c, err := a.customer(in.Ref)
		if err != nil {
			return BalanceBody{}, err
		}
		balance, err := a.cfg.Collect.BalanceOf(ctx, c.ID)
		if err != nil {
			return BalanceBody{}, err
		}
		owed, err := a.cfg.Collect.Owed(ctx, c.ID)
		if err != nil {
			return BalanceBody{}, err
		}
		return BalanceBody{c.Key, c.ID, moneyOf(balance), moneyOf(owed)}, nil
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/customers/{ref}/balance", id: "change-balance", tag: tag, status: http.StatusCreated,
		summary: "Record a deposit to a customer's money balance, or a refund out of it",
	}, a.changeBalance)
	a.creditNotes()
	a.ledger()
}

func standingOrFault(v collect.View, err error) (standingBody, error) {
	if err != nil {
		return standingBody{}, notFoundAs(err, "finalized invoice")
	}
	return standingOf(v), nil
}

func (a *api) changeBalance(ctx context.Context, in *struct {
	Ref
	Body newBalanceBody
},
) (PaymentBody, error) {
	if _, err := a.customer(in.Ref.Ref); err != nil {
		return PaymentBody{}, err
	}
	p, err := in.Body.payment()
	if err != nil {
		return PaymentBody{}, err
	}
	change := a.cfg.Collect.Deposit
	if in.Body.Kind == "refund" {
		change = a.cfg.Collect.Withdraw
	}
	done, err := change(ctx, operator, in.Ref.Ref, p)
	return a.paymentOf(done), err
}

type standingsBody struct {
	Items []standingBody `json:"items"`
}

func (a *api) standingHistory(ctx context.Context, in *InvoiceID) (standingsBody, error) {
	list, err := a.cfg.Collect.History(ctx, in.ID)
	if err != nil {
		return standingsBody{}, notFoundAs(err, "finalized invoice")
	}
	out := standingsBody{Items: make([]standingBody, 0, len(list))}
	for _, s := range list {
		out.Items = append(out.Items, standingOf(collect.View{Standing: s, Shown: s.Status, Remaining: s.Remaining()}))
	}
	return out, nil
}

// ofInvoice asks for a page of what invoices have.
type ofInvoice struct {
	OfCustomer
	Invoice string `query:"invoice" doc:"Only of this invoice; its id" maxLength:"64"`
}

// records is the query for a page of a list by ids of one prefix.
func (a *api) records(in ofInvoice, kind, prefix string) (store.RecordQuery, error) {
	id, err := a.filter(in.Customer)
	if err != nil {
		return store.RecordQuery{}, err
	}
	from, err := placeOfID(kind, prefix, in.Cursor)
	if err != nil {
		return store.RecordQuery{}, err
	}
	if in.Invoice != "" && !strings.HasPrefix(in.Invoice, "inv_") {
		return store.RecordQuery{}, invalid("invoice", "must be an inv_ id", "take it from the list of invoices")
	}
	return store.RecordQuery{Query: store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id}, InvoiceID: in.Invoice}, nil
}

func (a *api) listPayments(ctx context.Context, in *ofInvoice) (listBody[PaymentBody], error) {
	const kind = "payments"
	q, err := a.records(*in, kind, "pay_")
	if err != nil {
		return listBody[PaymentBody]{}, err
	}
	rows, err := a.cfg.Collect.Payments(ctx, q)
	return listOf(in.Paging, kind, rows, func(p store.Payment) string { return p.ID }, a.paymentOf), err
}
