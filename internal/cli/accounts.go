package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"
)

type customersCmd struct {
	Create customersCreateCmd `cmd:"" help:"Create a customer."`
	List   customersListCmd   `cmd:"" help:"List customers."`
	Get    customersGetCmd    `cmd:"" help:"Show a customer."`
	Update customersUpdateCmd `cmd:"" help:"Change a customer's name and billing details; what is not said stays."`
}

type customersCreateCmd struct {
	Key      string `arg:"" help:"Your name for the customer; accepted wherever an id is."`
	Name     string `help:"Display name."`
	Zone     string `help:"IANA time zone of its days and months." default:"UTC"`
	Currency string `help:"ISO 4217 code." default:"USD"`
}

func customerFields() func(io.Writer, doc) error {
	return fields("id", "key", "name", "zone", "currency", "created_at", "billing.legal_name", "billing.street", "billing.postal_code", "billing.city",
		"billing.region", "billing.country", "billing.email", "billing.tax_id", "billing.tax_exempt", "billing.due_days")
}

func (c *customersCreateCmd) Run(e *Env) error {
	return send(e, "/v1/customers", put("key", c.Key, "name", c.Name, "zone", c.Zone, "currency", c.Currency), customerFields())
}

type customersListCmd struct{ pages }

func (c *customersListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/customers", nil, table("KEY|NAME|ZONE|CURRENCY|ID", "key", "name", "zone", "currency", "id"))
}

type customersGetCmd struct {
	Customer string `arg:"" help:"Id or key."`
}

func (c *customersGetCmd) Run(e *Env) error {
	return ask(e, "/v1/customers/"+url.PathEscape(c.Customer), nil, customerFields())
}

type customersUpdateCmd struct {
	Customer   string  `arg:"" help:"Id or key."`
	Name       *string `help:"Display name."`
	LegalName  *string `help:"Name on invoices."`
	Street     *string `help:"Street and number."`
	City       *string `help:"City."`
	PostalCode *string `help:"Postal code."`
	Region     *string `help:"State or province."`
	Country    *string `help:"ISO 3166 code of two letters."`
	Email      *string `help:"Where invoices go."`
	TaxID      *string `help:"Tax number." name:"tax-id"`
	TaxExempt  *bool   `help:"Owes no tax." negatable:""`
	DueDays    *int    `help:"Days to pay, instead of the plan's; 0: as the plan says."`
}

func (c *customersUpdateCmd) Run(e *Env) error {
	billing := map[string]any{}
	for name, v := range map[string]*string{
		"legal_name": c.LegalName, "street": c.Street, "city": c.City, "postal_code": c.PostalCode, "region": c.Region, "country": c.Country,
		"email": c.Email, "tax_id": c.TaxID,
	} {
		if v != nil {
			billing[name] = *v
		}
	}
	if c.TaxExempt != nil {
		billing["tax_exempt"] = *c.TaxExempt
	}
	if c.DueDays != nil {
		billing["due_days"] = *c.DueDays
	}
	body := map[string]any{"billing": billing}
	if c.Name != nil {
		body["name"] = *c.Name
	}
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	answer, err := cl.do(e.Ctx, http.MethodPatch, "/v1/customers/"+url.PathEscape(c.Customer), nil, "application/json", b)
	if err != nil {
		return err
	}
	return e.print(answer, customerFields())
}

type keysCmd struct {
	Create keysCreateCmd `cmd:"" help:"Create an API key; its secret is shown once."`
	List   keysListCmd   `cmd:"" help:"List API keys."`
	Get    keysGetCmd    `cmd:"" help:"Show an API key."`
	Revoke keysRevokeCmd `cmd:"" help:"Revoke an API key; it stops working within a second."`
}

type keysCreateCmd struct {
	Customer  string        `arg:"" help:"Id or key of the customer."`
	Name      string        `help:"What the key is for; two live keys may have the same name, so that one can take over."`
	Project   string        `help:"Groups keys for limits per project."`
	ExpiresIn time.Duration `help:"The key works so long, for example 720h; default: without end."`
	ExpiresAt string        `help:"The key works until this RFC 3339 instant." placeholder:"T"`
}

func keyFields() func(io.Writer, doc) error {
	return fields("id", "customer", "name", "project", "hint", "status", "created_at", "expires_at", "revoked_at", "secret")
}

func (c *keysCreateCmd) Run(e *Env) error {
	body := put("customer", c.Customer, "name", c.Name, "project", c.Project, "expires_at", c.ExpiresAt)
	if c.ExpiresIn > 0 {
		now, err := businessNow(e)
		if err != nil {
			return err
		}
		body["expires_at"] = now.Add(c.ExpiresIn).Format(time.RFC3339)
	}
	return send(e, "/v1/keys", body, secretText)
}

// businessNow is the server's clock: expiry follows it.
func businessNow(e *Env) (time.Time, error) {
	c, err := newClient(e)
	if err != nil {
		return time.Time{}, err
	}
	b, err := c.get(e.Ctx, "/v1/clock", nil)
	if err != nil {
		return time.Time{}, err
	}
	var clock struct {
		Now time.Time `json:"now"`
	}
	if err := decode(b, &clock); err != nil {
		return time.Time{}, err
	}
	return clock.Now, nil
}

type keysListCmd struct {
	Customer string `help:"Only this customer's." placeholder:"CUSTOMER"`
	pages
}

func (c *keysListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/keys", only("customer", c.Customer), table("ID|CUSTOMER|NAME|HINT|STATUS|CREATED", "id", "customer", "name", "project", "hint", "status", "created_at"))
}

type keysGetCmd struct {
	ID string `arg:"" help:"Its id."`
}

func (c *keysGetCmd) Run(e *Env) error {
	return ask(e, "/v1/keys/"+url.PathEscape(c.ID), nil, keyFields())
}

type keysRevokeCmd struct {
	ID string `arg:"" help:"Its id."`
}

func (c *keysRevokeCmd) Run(e *Env) error {
	return send(e, "/v1/keys/"+url.PathEscape(c.ID)+"/revoke", put(), keyFields())
}

type invoicesCmd struct {
	List    invoicesListCmd    `cmd:"" help:"List invoices."`
	Show    invoicesShowCmd    `cmd:"" help:"Show an invoice with its lines."`
	Preview invoicesPreviewCmd `cmd:"" help:"The next invoice as if the period closed now."`
}

type invoicesListCmd struct {
	Customer string `help:"Only this customer's." placeholder:"CUSTOMER"`
	pages
}

func (c *invoicesListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/invoices", only("customer", c.Customer), table("NUMBER|CUSTOMER|STATUS|FROM|TO|TOTAL||ID",
		"number", "customer", "status", "period.start", "period.end", "total.amount", "total.currency", "id"))
}

type invoicesShowCmd struct {
	ID string `arg:"" help:"Its id."`
}

func (c *invoicesShowCmd) Run(e *Env) error {
	return ask(e, "/v1/invoices/"+url.PathEscape(c.ID), nil, invoiceText)
}

type invoicesPreviewCmd struct {
	Customer string `arg:"" help:"Id or key."`
}

func (c *invoicesPreviewCmd) Run(e *Env) error {
	return ask(e, "/v1/customers/"+url.PathEscape(c.Customer)+"/preview", nil, invoiceText)
}
