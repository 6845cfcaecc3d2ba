package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

type customerBody struct {
	ID        string    `json:"id" example:"cus_01k6z4v6m8q3t5w7x9y1z2a3b4"`
	Key       string    `json:"key" doc:"Your name for the customer; accepted wherever an id is" example:"acme"`
	Name      string    `json:"name"`
	Zone      string    `json:"zone" doc:"IANA time zone of its days and months" example:"Europe/Paris"`
	Currency  string    `json:"currency" example:"USD"`
	CreatedAt time.Time `json:"created_at"`

	Billing *billingBody `json:"billing,omitempty" doc:"What invoices and taxes need to know; absent: nothing is known"`
}

// billingBody is account.BillingDetails; an absent field is empty when read, and stays as it is when written.
type billingBody struct {
	LegalName  *string `json:"legal_name,omitempty"`
	Street     *string `json:"street,omitempty"`
	City       *string `json:"city,omitempty"`
	PostalCode *string `json:"postal_code,omitempty"`
	Region     *string `json:"region,omitempty"`
	Country    *string `json:"country,omitempty" doc:"ISO 3166, two letters" example:"FR"`
	Email      *string `json:"email,omitempty"`
	TaxID      *string `json:"tax_id,omitempty"`
	Exempt     *bool   `json:"tax_exempt,omitempty" doc:"Owes no tax"`
	DueDays    *int    `json:"due_days,omitempty" minimum:"0" maximum:"365" doc:"Days to pay, instead of the plan's; 0: as the plan says"`
}

type updateCustomerBody struct {
	Name    *string      `json:"name,omitempty"`
	Billing *billingBody `json:"billing,omitempty"`
}

func customerOf(c account.Customer) customerBody {
	out := customerBody{c.ID, c.Key, c.Name, c.Zone.String(), c.Currency.Code(), instant(c.CreatedAt), nil}
	if d := c.Billing; d != (account.BillingDetails{}) {
		out.Billing = &billingBody{
			some(d.LegalName), some(d.Street), some(d.City), some(d.PostalCode), some(d.Region), some(d.Country), some(d.Email), some(d.TaxID),
			some(d.Exempt), some(d.DueDays),
		}
	}
	return out
}

// some is nil for a zero value.
func some[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// over sets a field where something is said of it.
func over[T any](field, said *T) {
	if said != nil {
		*field = *said
	}
}

func (b *updateCustomerBody) edit(name *string, d *account.BillingDetails) {
	over(name, b.Name)
	if b := b.Billing; b != nil {
		over(&d.LegalName, b.LegalName)
		over(&d.Street, b.Street)
		over(&d.City, b.City)
		over(&d.PostalCode, b.PostalCode)
		over(&d.Region, b.Region)
		over(&d.Country, b.Country)
		over(&d.Email, b.Email)
		over(&d.TaxID, b.TaxID)
		over(&d.Exempt, b.Exempt)
		over(&d.DueDays, b.DueDays)
	}
}

// Ref names a customer in the path.
type Ref struct {
	Ref string `path:"ref" doc:"The customer's id or key"`
}

type newCustomerBody struct {
	Key      string `json:"key"`
	Name     string `json:"name,omitempty" doc:"Default: the key"`
	Zone     string `json:"zone,omitempty" doc:"Default: UTC"`
	Currency string `json:"currency,omitempty" doc:"ISO 4217; default: USD"`
}

type portalLinkBody struct {
	URL       string    `json:"url" doc:"Whoever has it can open the customer's portal until it expires"`
	ExpiresAt time.Time `json:"expires_at" doc:"In real time"`
}

func (a *api) customers() {
	const tag = "customers"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/customers", id: "create-customer", tag: tag, summary: "Create a customer", status: http.StatusCreated,
	}, func(ctx context.Context, in *struct{ Body newCustomerBody }) (customerBody, error) {
		c, err := a.cfg.Govern.CreateCustomer(ctx, operator, govern.NewCustomer(in.Body))
		return customerOf(c), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/customers", id: "list-customers", tag: tag, summary: "List customers, newest first",
	}, func(ctx context.Context, in *Paging) (listBody[customerBody], error) {
		from, err := placeOfID("customers", "cus_", in.Cursor)
		if err != nil {
			return listBody[customerBody]{}, err
		}
		rows, err := a.cfg.Govern.ListCustomers(ctx, store.Query{Cursor: from, Limit: in.fetch()})
		return listOf(*in, "customers", rows, func(c account.Customer) string { return c.ID }, customerOf), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/customers/{ref}", id: "get-customer", tag: tag, summary: "Show a customer",
	}, func(_ context.Context, in *Ref) (customerBody, error) {
		c, err := a.customer(in.Ref)
		return customerOf(c), err
	})
	handle(a, operation{
		method: http.MethodPatch, path: "/v1/customers/{ref}", id: "update-customer", tag: tag,
		summary: "Change a customer's name and billing details; what is not said stays",
	}, func(ctx context.Context, in *struct {
		Ref
		Body updateCustomerBody
	},
	) (customerBody, error) {
		c, err := a.cfg.Govern.UpdateCustomer(ctx, operator, in.Ref.Ref, in.Body.edit)
		if err != nil {
			return customerBody{}, err
		}
		return customerOf(c), nil
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/customers/{ref}/portal-link", id: "create-portal-link", tag: tag,
		summary: "Make a signed link to a customer's portal", status: http.StatusCreated,
	}, a.portalLink)
}

type portalLinkInput struct {
	Ref
	Body *struct {
		TTL int `json:"ttl_s,omitempty" minimum:"60" maximum:"7776000" default:"86400" doc:"How long the link works, in seconds"`
	}
}

// linkDefault is how long a portal link works when nothing is said.
const linkDefault = 24 * time.Hour

func (a *api) portalLink(ctx context.Context, in *portalLinkInput) (portalLinkBody, error) {
	c, err := a.customer(in.Ref.Ref)
	if err != nil {
		return portalLinkBody{}, err
	}
	ttl := linkDefault
	if in.Body != nil && in.Body.TTL > 0 {
		ttl = time.Duration(in.Body.TTL) * time.Second
	}
	url, expires, err := a.cfg.PortalLink(c.ID, ttl)
	if err != nil {
		return portalLinkBody{}, err
	}
	err = a.audit(ctx, "portal.link", c.ID, struct {
		ExpiresAt time.Time `json:"expires_at"`
	}{instant(expires)})
	return portalLinkBody{url, instant(expires)}, err
}
