package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/store"
)

// CreditNoteBody is a credit note.
type CreditNoteBody struct {
	ID         string               `json:"id"`
	Number     int64                `json:"number" doc:"Without gaps, in a series of their own"`
	InvoiceID  string               `json:"invoice_id"`
	Customer   string               `json:"customer" doc:"The customer's key"`
	CustomerID string               `json:"customer_id"`
	Lines      []creditNoteLineBody `json:"lines"`
	Net        moneyBody            `json:"net" doc:"Without tax"`
	Tax        moneyBody            `json:"tax"`
	Total      moneyBody            `json:"total"`
	Off        moneyBody            `json:"off" doc:"What it took off the invoice's remaining amount; the rest went to the money balance"`
	Reason     string               `json:"reason"`
	Actor      string               `json:"actor"`
	CreatedAt  time.Time            `json:"created_at"`
}

type creditNoteLineBody struct {
	LineID string    `json:"line_id"`
	Net    moneyBody `json:"net"`
	Tax    moneyBody `json:"tax"`
}

type newCreditNoteBody struct {
	Reason string              `json:"reason" doc:"It stands on the credit note and in the audit log"`
	Lines  []newCreditLineBody `json:"lines,omitempty" maxItems:"1000" doc:"Absent: all that is left of the invoice"`
}

type newCreditLineBody struct {
	Line   string    `json:"line" doc:"A number from 1, or an iln_ id" maxLength:"64"`
	Amount moneyBody `json:"amount" doc:"As the line counts: with the tax where the prices contain it"`
}

func (a *api) creditNoteOf(n store.CreditNote) CreditNoteBody {
	out := CreditNoteBody{
		ID: n.ID, Number: n.Number, InvoiceID: n.InvoiceID, Customer: a.customerKey(n.CustomerID), CustomerID: n.CustomerID, Net: moneyOf(n.Net),
		Tax: moneyOf(n.Tax), Total: moneyOf(n.Total), Off: moneyOf(n.Off), Reason: n.Reason, Actor: n.Actor, CreatedAt: instant(n.CreatedAt),
		Lines: make([]creditNoteLineBody, 0, len(n.Lines)),
	}
	for _, l := range n.Lines {
		out.Lines = append(out.Lines, creditNoteLineBody{l.LineID, moneyOf(l.Net), moneyOf(l.Tax)})
	}
	return out
}

func (a *api) creditNotes() {
	const tag = "payments"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/invoices/{id}/credit-notes", id: "credit-invoice", tag: tag, status: http.StatusCreated,
		summary:     "Write a credit note over parts of an invoice, or all that is left of it",
		description: "It takes off what is left to pay; the rest goes to the customer's money balance. All notes together never take back more than was billed.",
	}, func(ctx context.Context, in *struct {
		InvoiceID
		Body newCreditNoteBody
	},
	) (CreditNoteBody, error) {
		parts := make([]collect.TakeBack, len(in.Body.Lines))
		for i, l := range in.Body.Lines {
			amount, err := amountOf(fmt.Sprintf("lines/%d/amount", i), l.Amount)
			if err != nil {
				return CreditNoteBody{}, err
			}
			parts[i] = collect.TakeBack{Line: l.Line, Amount: amount}
		}
		n, _, err := a.cfg.Collect.CreditNote(ctx, operator, in.ID, parts, in.Body.Reason)
		if err != nil {
			return CreditNoteBody{}, notFoundAs(err, "finalized invoice")
		}
		return a.creditNoteOf(n), nil
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/credit-notes", id: "list-credit-notes", tag: tag, summary: "List credit notes, newest first",
	}, func(ctx context.Context, in *ofInvoice) (listBody[CreditNoteBody], error) {
		const kind = "credit-notes"
		q, err := a.records(*in, kind, "crn_")
		if err != nil {
			return listBody[CreditNoteBody]{}, err
		}
		rows, err := a.cfg.Collect.CreditNotes(ctx, q)
		return listOf(in.Paging, kind, rows, func(n store.CreditNote) string { return n.ID }, a.creditNoteOf), cursorFault(q.Cursor, err)
	})
}

// cursorFault is what an id that is in no list stands for.
func cursorFault(cursor string, err error) error {
	if cursor != "" && errors.Is(err, store.ErrNotFound) {
		return newProblem(codeCursorInvalid, "")
	}
	return err
}

// EntryBody is an entry of the ledger. Its postings sum to zero.
type EntryBody struct {
	ID         string        `json:"id"`
	Key        string        `json:"key" doc:"Names what was done, so that it is done once"`
	Kind       string        `json:"kind" enum:"invoice,applied,payment,refund,credit_note,write_off,reversal,grant,breakage"`
	Customer   string        `json:"customer" doc:"The customer's key"`
	CustomerID string        `json:"customer_id"`
	Reference  string        `json:"reference" doc:"The invoice, payment, credit note or grant"`
	At         time.Time     `json:"at"`
	Postings   []postingBody `json:"postings"`
}

type postingBody struct {
	Account string    `json:"account" enum:"receivable,revenue,tax,cash,balance,prepaid,promotion,loss"`
	Amount  moneyBody `json:"amount" doc:"Above 0 a debit, below 0 a credit"`
}

func (a *api) entryOf(e ledger.Entry) EntryBody {
	out := EntryBody{
		ID: e.ID, Key: e.Key, Kind: string(e.Kind), Customer: a.customerKey(e.CustomerID), CustomerID: e.CustomerID, Reference: e.Reference,
		At: instant(e.At), Postings: make([]postingBody, 0, len(e.Postings)),
	}
	for _, p := range e.Postings {
		out.Postings = append(out.Postings, postingBody{string(p.Account), moneyOf(p.Amount)})
	}
	return out
}

type entriesInput struct {
	OfCustomer
	Account   string `query:"account" enum:"receivable,revenue,tax,cash,balance,prepaid,promotion,loss" doc:"Only entries that post to it"`
	Reference string `query:"reference" maxLength:"64" doc:"Only of this invoice, payment, credit note or grant; its id"`
}

type conservationBody struct {
	Currency   string    `json:"currency"`
	Sum        moneyBody `json:"sum" doc:"Of all postings; must be 0"`
	Receivable moneyBody `json:"receivable" doc:"By the ledger"`
	Open       moneyBody `json:"open" doc:"What is left to pay of open invoices; must be receivable"`
	Balance    moneyBody `json:"balance" doc:"By the ledger: the customers' money"`
	Deposited  moneyBody `json:"deposited" doc:"By payments, credit notes and invoices: what came to balances less what left them; must be balance"`
	Difference moneyBody `json:"difference" doc:"The sum over all customers of what does not agree; must be 0"`
	Wrong      []string  `json:"wrong" doc:"Keys of customers whose figures do not agree, at most 100"`
}

type ledgerCheckBody struct {
	Holds      bool               `json:"holds"`
	At         time.Time          `json:"at"`
	Currencies []conservationBody `json:"currencies"`
}

func (a *api) ledger() {
	const tag = "payments"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/ledger/entries", id: "list-ledger-entries", tag: tag, summary: "List the ledger's entries, newest first",
	}, a.listEntries)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/ledger/check", id: "check-ledger", tag: tag,
		summary: "Check that the ledger sums to zero and agrees with invoices, payments and credit notes",
	}, a.checkLedger)
}

func (a *api) listEntries(ctx context.Context, in *entriesInput) (listBody[EntryBody], error) {
	const kind = "ledger"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[EntryBody]{}, err
	}
	from, err := placeOfID(kind, "led_", in.Cursor)
	if err != nil {
		return listBody[EntryBody]{}, err
	}
	rows, err := a.cfg.Collect.Entries(ctx, store.EntryQuery{
		Query: store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id}, Account: ledger.Account(in.Account), Reference: in.Reference,
	})
	return listOf(in.Paging, kind, rows, func(e ledger.Entry) string { return e.ID }, a.entryOf), cursorFault(from, err)
}

func (a *api) checkLedger(ctx context.Context, _ *struct{}) (ledgerCheckBody, error) {
	all, err := a.cfg.Collect.Check(ctx)
	if err != nil {
		return ledgerCheckBody{}, err
	}
	out := ledgerCheckBody{Holds: true, At: instant(a.cfg.Clock.Now()), Currencies: make([]conservationBody, 0, len(all))}
	for _, c := range all {
		body := conservationBody{
			Currency: c.Currency.Code(), Sum: moneyOf(c.Sum), Receivable: moneyOf(c.Receivable), Open: moneyOf(c.Open), Balance: moneyOf(c.Balance),
			Deposited: moneyOf(c.Deposited), Difference: moneyOf(c.Difference), Wrong: make([]string, 0, len(c.Wrong)),
		}
		for _, id := range c.Wrong {
			body.Wrong = append(body.Wrong, a.customerKey(id))
		}
		out.Holds = out.Holds && c.Difference.Minor() == 0
		out.Currencies = append(out.Currencies, body)
	}
	return out, nil
}
