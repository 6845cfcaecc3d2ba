package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

// KeyBody is a key as it is shown; it never holds the secret.
type KeyBody struct {
	ID         string    `json:"id"`
	Customer   string    `json:"customer" doc:"The customer's key"`
	CustomerID string    `json:"customer_id"`
	Name       string    `json:"name"`
	Project    string    `json:"project,omitempty" doc:"Groups keys for limits per project"`
	Hint       string    `json:"hint" doc:"The end of the secret"`
	Status     string    `json:"status" enum:"active,revoked,expired"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
}

type newKeyBody struct {
	Customer  string    `json:"customer" doc:"Id or key"`
	Name      string    `json:"name,omitempty"`
	Project   string    `json:"project,omitempty" doc:"Groups keys for limits per project"`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"On the business clock; default: never"`
}

type createdKeyBody struct {
	KeyBody
	Secret string `json:"secret" doc:"Shown once" example:"tally_live_…"`
}

// KeyID names a key in the path.
type KeyID struct {
	ID string `path:"id"`
}

// OfCustomer narrows a list.
type OfCustomer struct {
	Paging
	Customer string `query:"customer" doc:"Only this customer's; id or key"`
}

func (a *api) keyOf(k account.APIKey) KeyBody {
	return KeyBody{
		ID: k.ID, Customer: a.customerKey(k.CustomerID), CustomerID: k.CustomerID, Name: k.Name, Project: k.Project, Hint: k.Hint,
		Status: k.Status(a.cfg.Clock.Now()).String(), CreatedAt: instant(k.CreatedAt), ExpiresAt: instant(k.ExpiresAt), RevokedAt: instant(k.RevokedAt),
	}
}

func (a *api) keys() {
	const tag = "keys"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/keys", id: "create-key", tag: tag, summary: "Create an API key; its secret is shown once",
		status: http.StatusCreated,
	}, func(ctx context.Context, in *struct{ Body newKeyBody }) (createdKeyBody, error) {
		b := in.Body
		k, secret, err := a.cfg.Govern.CreateKey(ctx, operator, govern.NewKey{Customer: b.Customer, Name: b.Name, Project: b.Project, ExpiresAt: b.ExpiresAt})
		return createdKeyBody{a.keyOf(k), secret}, err
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/keys/verify", id: "verify-key", tag: tag, summary: "Say whose a gateway key is, and whether it is active",
	}, a.verifyKey)
	handle(a, operation{method: http.MethodGet, path: "/v1/keys", id: "list-keys", tag: tag, summary: "List API keys, newest first"}, a.listKeys)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/keys/{id}", id: "get-key", tag: tag, summary: "Show an API key",
	}, func(ctx context.Context, in *KeyID) (KeyBody, error) {
		k, err := a.cfg.Govern.Key(ctx, in.ID)
		return a.keyOf(k), err
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/keys/{id}/revoke", id: "revoke-key", tag: tag,
		summary: "Revoke an API key for ever; doing it again changes nothing",
	}, func(ctx context.Context, in *struct {
		KeyID
		Body *struct{}
	},
	) (KeyBody, error) {
		k, err := a.cfg.Govern.RevokeKey(ctx, operator, in.ID)
		return a.keyOf(k), err
	})
}

// VerifiedKeyBody says whose a gateway key is, to middleware that admits requests in an API's own process. Of a key that does not
// open the gateway there is only why.
type VerifiedKeyBody struct {
	Status     string `json:"status" enum:"active,revoked,expired,unknown"`
	Code       string `json:"code" doc:"Problem code to answer the caller with, 401; empty for an active key"`
	ID         string `json:"id,omitempty"`
	Customer   string `json:"customer,omitempty" doc:"The customer's key"`
	CustomerID string `json:"customer_id,omitempty"`
	Project    string `json:"project,omitempty"`
	Plan       string `json:"plan,omitempty" doc:"Absent without an active subscription"`
}

// verifyInput reads the secret from the body; no document and no log ever holds it.
type verifyInput struct {
	Body struct {
		Secret string `json:"secret" maxLength:"256" doc:"What the caller sent as its key"`
	}
}

func (a *api) verifyKey(_ context.Context, in *verifyInput) (VerifiedKeyBody, error) {
	p, keyFault := a.cfg.Govern.Principal(in.Body.Secret, a.cfg.Clock.Now())
	if keyFault != "" {
		status, known := map[govern.KeyFault]string{govern.KeyRevoked: "revoked", govern.KeyExpired: "expired"}[keyFault]
		if !known {
			status = "unknown"
		}
		return VerifiedKeyBody{Status: status, Code: string(keyFault)}, nil
	}
	return VerifiedKeyBody{
		Status: "active", ID: p.Key.ID, Customer: p.Customer.Key, CustomerID: p.Customer.ID, Project: p.Key.Project, Plan: p.Subscription.Plan,
	}, nil
}

func (a *api) listKeys(ctx context.Context, in *OfCustomer) (listBody[KeyBody], error) {
	const kind = "keys"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[KeyBody]{}, err
	}
	from, err := placeOfID(kind, "key_", in.Cursor)
	if err != nil {
		return listBody[KeyBody]{}, err
	}
	rows, err := a.cfg.Govern.ListKeys(ctx, store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id})
	return listOf(in.Paging, kind, rows, func(k account.APIKey) string { return k.ID }, a.keyOf), err
}
