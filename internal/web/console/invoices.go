package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/statement"
)

// Bounds of the list of invoices.
const (
	invoicesPage = 100
	invoicesRead = 20 * invoicesPage // how many are looked at for one page of those with a status
)

// invoicesView is the list as it was asked for.
type invoicesView struct {
	list             []invoice.Invoice
	status, customer string
	next             string // cursor
}

// statuses are those that an issued invoice can have.
func statuses() []invoice.Status {
	return []invoice.Status{invoice.Finalized, invoice.Paid, invoice.Void, invoice.Uncollectible}
}

// more is the address of the next page.
func (v *invoicesView) more() string {
	q := url.Values{"cursor": {v.next}}
	for name, value := range map[string]string{"status": v.status, "customer": v.customer} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return "/invoices?" + q.Encode()
}

func (c *console) invoices(r *http.Request) (answer, error) {
	q := r.URL.Query()
	v := invoicesView{status: q.Get("status"), customer: q.Get("customer")}
	cursor := q.Get("cursor")
	if _, known := c.Govern.Customer(v.customer); v.customer != "" && !known {
		return answer{status: http.StatusNotFound, page: c.invoicesPage(c.frame(r, "Invoices"), v)}, nil
	}
	for read := 0; read < invoicesRead && len(v.list) < invoicesPage; read += invoicesPage {
		list, err := c.Bill.Invoices(r.Context(), govern.Query{Limit: invoicesPage, Cursor: cursor, CustomerID: v.customer})
		if err != nil {
			return answer{}, err
		}
		if err := c.Settle(r.Context(), list); err != nil {
			return answer{}, err
		}
		v.next = ""
		for _, inv := range list {
			if len(v.list) == invoicesPage {
				v.next = cursor
				break
			}
			cursor = inv.ID
			if v.status == "" || v.status == string(inv.Status) {
				v.list = append(v.list, inv)
			}
		}
		if v.next == "" && len(list) == invoicesPage {
			v.next = cursor
		}
		if len(list) < invoicesPage {
			break
		}
	}
	return answer{page: c.invoicesPage(c.frame(r, "Invoices"), v)}, nil
}

// invoiceView is an operator's page of an invoice.
type invoiceView struct {
	document.Document
	now      time.Time
	customer string // key
	standing collect.View
	notes    []store.CreditNote
	refusedForm
}

// The forms of the page.
const (
	payForm     = "pay"
	voidForm    = "void"
	giveUpForm  = "uncollectible"
	creditForm  = "credit"
	notesShown  = 100
	wholeCredit = "" // all that is left of the invoice
)

func (c *console) invoice(r *http.Request) (answer, error) {
	v, err := c.invoiceView(r)
	if err != nil {
		return answer{}, err
	}
	return answer{page: invoicePage(c.frame(r, "Invoice "+document.Number(v.Series, v.Number)), v)}, nil
}

func (c *console) invoiceView(r *http.Request) (v invoiceView, err error) {
	ctx := r.Context()
	inv, err := c.Bill.Invoice(ctx, r.PathValue("id"))
	if err != nil {
		return v, err
	}
	views, err := c.Collect.Views(ctx, []invoice.Invoice{inv})
	if err != nil {
		return v, err
	}
	if v.Document, err = c.Document(ctx, inv); err != nil {
		return v, err
	}
	v.now, v.customer, v.standing = c.Clock.Now(), c.nameOf(inv.CustomerID), views[0]
	v.notes, err = c.Collect.CreditNotes(ctx, store.RecordQuery{Query: store.Query{Limit: notesShown}, InvoiceID: inv.ID})
	return v, err
}

// payable, voidable, losable and creditable say which forms an invoice has.
func (v *invoiceView) payable() bool {
	return v.standing.Status != invoice.Void && v.standing.Remaining.Minor() > 0
}

func (v *invoiceView) voidable() bool {
	s := &v.standing
	return (s.Status == invoice.Finalized || s.Status == invoice.Uncollectible) && s.Paid.Minor() == 0 && s.Credited.Minor() == 0
}

func (v *invoiceView) losable() bool { return v.standing.Status == invoice.Finalized }

func (v *invoiceView) creditable() bool {
	return (v.standing.Status == invoice.Finalized || v.standing.Status == invoice.Paid) && v.standing.Creditable().Minor() > 0
}

func (c *console) pay(r *http.Request) (answer, error) {
	return c.settle(r, payForm, func(ctx context.Context, inv invoice.Invoice, form url.Values) error {
		p, err := payment(form, inv.Currency)
		if err == nil {
			_, _, err = c.Collect.Pay(ctx, operatorActor, inv.ID, p)
		}
		return err
	})
}

func (c *console) voidInvoice(r *http.Request) (answer, error) {
	return c.settle(r, voidForm, func(ctx context.Context, inv invoice.Invoice, form url.Values) error {
		_, err := c.Collect.Void(ctx, operatorActor, inv.ID, strings.TrimSpace(form.Get("reason")))
		return err
	})
}

func (c *console) giveUp(r *http.Request) (answer, error) {
	return c.settle(r, giveUpForm, func(ctx context.Context, inv invoice.Invoice, form url.Values) error {
		_, err := c.Collect.Uncollectible(ctx, operatorActor, inv.ID, strings.TrimSpace(form.Get("reason")))
		return err
	})
}

func (c *console) creditInvoice(r *http.Request) (answer, error) {
	return c.settle(r, creditForm, func(ctx context.Context, inv invoice.Invoice, form url.Values) error {
		var parts []collect.TakeBack
		if line := form.Get("line"); line != wholeCredit {
			amount, err := amountIn(form.Get("amount"), inv.Currency)
			if err != nil {
				return err
			}
			parts = append(parts, collect.TakeBack{Line: line, Amount: amount})
		}
		_, _, err := c.Collect.CreditNote(ctx, operatorActor, inv.ID, parts, strings.TrimSpace(form.Get("reason")))
		return err
	})
}

// settle does what a form on an invoice's page asks for, and shows the page again.
func (c *console) settle(r *http.Request, which string, do func(ctx context.Context, inv invoice.Invoice, form url.Values) error) (answer, error) {
	form, err := eventForm(r)
	if err != nil {
		return answer{}, err
	}
	inv, err := c.Bill.Invoice(r.Context(), r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	if err = do(r.Context(), inv, form); err == nil {
		return answer{to: root.Invoice(inv.ID) + "#actions-title"}, nil
	}
	text, ok := refusal(err)
	if !ok {
		return answer{}, err
	}
	v, err := c.invoiceView(r)
	if err != nil {
		return answer{}, err
	}
	v.refusedForm = refusedForm{text, which, form}
	return answer{status: http.StatusUnprocessableEntity, page: invoicePage(c.frame(r, "Invoice "+document.Number(v.Series, v.Number)), v)}, nil
}

// creditNoteFile is a credit note to take away.
func (c *console) creditNoteFile(r *http.Request) (answer, error) {
	d, err := c.Collect.NoteDocument(r.Context(), r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	f, err := statement.FileOf(&d, r.PathValue("form"), "pdf", "ubl")
	return answer{file: f}, err
}

// invoiceFile is an invoice to take away.
func (c *console) invoiceFile(r *http.Request) (answer, error) {
	inv, err := c.Bill.Invoice(r.Context(), r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	f, err := c.File(r.Context(), inv, r.PathValue("form"), "pdf", "csv", "ubl")
	return answer{file: f}, err
}
