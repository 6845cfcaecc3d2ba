package console

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/invoice"
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

func (c *console) invoice(r *http.Request) (answer, error) {
	inv, err := c.Bill.Invoice(r.Context(), r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	d, err := c.Document(r.Context(), inv)
	if err != nil {
		return answer{}, err
	}
	return answer{page: invoicePage(c.frame(r, "Invoice "+strconv.FormatInt(inv.Number, 10)), d, c.Clock.Now(), c.nameOf(inv.CustomerID))}, nil
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
