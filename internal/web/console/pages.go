package console

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/web/session"
	"github.com/tallystick/tallystick/internal/web/statement"
)

const (
	keysShown   = 50   // of a customer
	decisionMax = 1024 // bytes of a pasted id; a real one has about 400
)

// root is where the operators' pages of a customer's things stand.
const root = statement.Root("")

// decisions lists the latest ones, and takes a pasted id to its page.
func (c *console) decisions(r *http.Request) (answer, error) {
	id := strings.TrimSpace(r.URL.Query().Get("id"))
	id = strings.TrimSpace(strings.TrimPrefix(id, "Decision-Id:"))
	if id != "" && len(id) <= decisionMax {
		if _, err := c.Enforce.Explain(id); err == nil {
			return answer{to: root.Decision(id)}, nil
		}
	}
	page := decisionsPage(c.frame(r, "Decisions"), c.Enforce.Recent("", keysShown), id != "")
	if id != "" {
		return answer{status: http.StatusNotFound, page: page}, nil
	}
	return answer{page: page}, nil
}

func (c *console) decision(r *http.Request) (answer, error) {
	e, err := c.Explain(r.Context(), r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return answer{page: decisionPage(c.frame(r, "Decision"), e)}, nil
}

// customerView is an operator's page of a customer.
type customerView struct {
	statement.Statement
	keys          []account.APIKey
	subscriptions []account.Subscription
	invoices      []invoice.Invoice
	allowances
	billing
}

func (c *console) customer(r *http.Request) (answer, error) {
	v, err := c.customerView(r)
	if err != nil {
		return answer{}, err
	}
	if v.Customer.Key != r.PathValue("ref") { // an id leads to the one address
		return answer{to: root.Customer(v.Customer.Key)}, nil
	}
	return answer{page: customerPage(c.frame(r, v.Customer.Key), v)}, nil
}

func (c *console) customerView(r *http.Request) (v customerView, err error) {
	ctx := r.Context()
	if v.Statement, err = c.Read(ctx, r.PathValue("ref"), false); err != nil {
		return v, err
	}
	id := v.Customer.ID
	if v.keys, err = c.Govern.ListKeys(ctx, govern.Query{CustomerID: id, Limit: keysShown}); err != nil {
		return v, err
	}
	if v.allowances, err = c.allowances(ctx, v.Statement, v.keys); err != nil {
		return v, err
	}
	v.subscriptions = c.Govern.SubscriptionsOf(id)
	if v.billing, err = c.billing(ctx, v.Statement, v.subscriptions); err != nil {
		return v, err
	}
	v.invoices, err = c.Invoices(ctx, id)
	return v, err
}

// customerLive is the part of a customer's page that asks for itself.
func (c *console) customerLive(r *http.Request) (answer, error) {
	s, err := c.Read(r.Context(), r.PathValue("ref"), false)
	if err != nil {
		return answer{}, err
	}
	return answer{page: customerLive(s)}, nil
}

// portalLink makes a link to the customer's portal and shows it: to look through the customer's eyes, or to send.
func (c *console) portalLink(r *http.Request) (answer, error) {
	cust, ok := c.Govern.Customer(r.PathValue("ref"))
	if !ok {
		return answer{}, fmt.Errorf("customer %q: %w", r.PathValue("ref"), account.ErrNotFound)
	}
	link, expires, err := c.cfg.PortalLink(cust.ID, session.LinkTTL)
	if err != nil {
		return answer{}, fmt.Errorf("portal link: %w", err)
	}
	detail := `{"expires_at":` + strconv.Quote(period.Format(expires)) + `}`
	if err := c.Govern.Audit(r.Context(), "operator", "portal.link", cust.ID, detail); err != nil {
		return answer{}, err
	}
	return answer{page: portalLinkPage(c.frame(r, "Portal of "+cust.Key), cust, link, expires)}, nil
}

func (c *console) line(r *http.Request) (answer, error) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		return answer{}, fmt.Errorf("line number: %w", account.ErrNotFound)
	}
	t, err := c.Trace(r.Context(), r.PathValue("id"), n, r.URL.Query().Get("cursor"))
	if err != nil {
		return answer{}, err
	}
	return answer{page: linePage(c.frame(r, "Line "+strconv.Itoa(n)), t)}, nil
}

func (c *console) zoneOf(inv invoice.Invoice) period.Zone {
	cust, _ := c.Govern.Customer(inv.CustomerID)
	return cust.Zone
}

func (c *console) nameOf(customerID string) string {
	if cust, ok := c.Govern.Customer(customerID); ok {
		return cust.Key
	}
	return customerID
}

// keyTone is how a key's status looks.
func keyTone(s account.KeyStatus) string {
	if s == account.KeyActive {
		return statement.Good
	}
	return statement.Notice
}

func never(t time.Time, text string) string {
	if t.IsZero() {
		return "never"
	}
	return text
}
