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
}

func customerOf(c account.Customer) customerBody {
	return customerBody{c.ID, c.Key, c.Name, c.Zone.String(), c.Currency.Code(), instant(c.CreatedAt)}
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
