package govern

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// liveKeysMax is how many live keys a customer may have.
const liveKeysMax = 1000

// NewCustomer is what an operator says of one. Name defaults to Key, Zone to UTC, Currency to USD.
type NewCustomer struct{ Key, Name, Zone, Currency string }

// CreateCustomer adds one. Invalid, account.ErrExists.
func (s *Service) CreateCustomer(ctx context.Context, actor string, n NewCustomer) (account.Customer, error) {
	c, err := n.customer()
	if err == nil {
		err = checkActor(actor)
	}
	if err != nil {
		return account.Customer{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	taken := fmt.Errorf("customer %q %w", c.Key, account.ErrExists)
	if _, ok := s.directory.customer(c.Key); ok {
		return account.Customer{}, taken
	}
	c.CreatedAt = s.now()
	if c.ID, err = account.NewID("cus", c.CreatedAt, s.cfg.Random); err != nil {
		return account.Customer{}, err
	}
	a, err := s.audit(c.CreatedAt, actor, "customer.create", c.ID, map[string]string{"key": c.Key, "zone": c.Zone.String(), "currency": c.Currency.Code()})
	if err != nil {
		return account.Customer{}, err
	}
	if err := s.cfg.Records.PutCustomer(ctx, c, a); errors.Is(err, store.ErrExists) {
		return account.Customer{}, taken
	} else if err != nil {
		return account.Customer{}, fmt.Errorf("create customer: %w", err)
	}
	s.directory.putCustomer(c)
	return c, nil
}

func (n NewCustomer) customer() (c account.Customer, err error) {
	c.Key, c.Name = n.Key, n.Name
	if err := account.ValidKey(n.Key); err != nil {
		return c, &Invalid{"/key", err.Error(), "choose a short name of your own for the customer, such as acme"}
	}
	if c.Name == "" {
		c.Name = c.Key
	}
	if err := checkName(c.Name); err != nil {
		return c, err
	}
	if n.Zone == "" {
		n.Zone = "UTC"
	}
	if c.Zone, err = period.LoadZone(n.Zone); err != nil {
		return c, &Invalid{"/zone", fmt.Sprintf("%q is not a time zone", n.Zone), "use an IANA name such as UTC or Europe/Paris"}
	}
	if n.Currency == "" {
		n.Currency = "USD"
	}
	if c.Currency, err = money.ParseCurrency(n.Currency); err != nil {
		return c, &Invalid{"/currency", fmt.Sprintf("%q is not a currency", n.Currency), "use an ISO 4217 code such as USD or EUR"}
	}
	return c, nil
}

// ListCustomers pages through all, newest first.
func (s *Service) ListCustomers(ctx context.Context, q Query) ([]account.Customer, error) {
	q, err := s.ofCustomer(q)
	if err != nil {
		return nil, err
	}
	list, err := s.cfg.Records.ListCustomers(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list customers: %w", err)
	}
	return list, nil
}

// NewKey is what an operator says of one.
type NewKey struct {
	Customer, Name string    // Customer is an id or a key
	Project        string    // groups keys for limits per project; empty: none
	ExpiresAt      time.Time // zero: never
	Fixed          string    // demo only: the secret to use instead of a random one
}

// CreateKey returns the secret once; only its digest is kept. Invalid; account.ErrState when the customer has two live keys
// already; account.ErrExists for a fixed secret in use.
func (s *Service) CreateKey(ctx context.Context, actor string, n NewKey) (account.APIKey, string, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	k, err := s.newKey(n)
	if err == nil {
		err = checkActor(actor)
	}
	if err != nil {
		return account.APIKey{}, "", err
	}
	secret := n.Fixed
	if secret == "" {
		if secret, err = account.NewSecret(s.cfg.Mode, s.cfg.Random); err != nil {
			return account.APIKey{}, "", err
		}
		k.Hint = account.SecretHint(secret)
	}
	k.Digest = s.directory.digest(secret)
	if s.directory.knows(k.Digest) {
		return account.APIKey{}, "", fmt.Errorf("a key with this secret %w", account.ErrExists)
	}
	a, err := s.audit(k.CreatedAt, actor, "key.create", k.ID, map[string]string{"customer": k.CustomerID, "name": k.Name, "project": k.Project, "hint": k.Hint})
	if err != nil {
		return account.APIKey{}, "", err
	}
	if err := s.cfg.Records.PutKey(ctx, k, a); errors.Is(err, store.ErrConflict) {
		return account.APIKey{}, "", fmt.Errorf("%w: customer %q has two live keys of this project and name already, or %d in all: revoke one first with `tally keys revoke`, or choose another name", account.ErrState, n.Customer, liveKeysMax)
	} else if err != nil {
		return account.APIKey{}, "", fmt.Errorf("create key: %w", err)
	}
	s.directory.putKey(k)
	return k, secret, nil
}

// newKey checks what was asked for and fills in all but the digest; writing is held.
func (s *Service) newKey(n NewKey) (k account.APIKey, err error) {
	customer, err := s.customerOf(n.Customer)
	if err != nil {
		return k, err
	}
	if err := checkName(n.Name); err != nil {
		return k, err
	}
	if err := account.ValidKey(n.Project); n.Project != "" && err != nil {
		return k, &Invalid{"/project", err.Error(), "choose a short name for the project, such as mobile-app"}
	}
	now := s.now()
	k = account.APIKey{CustomerID: customer.ID, Name: n.Name, Project: n.Project, CreatedAt: now}
	if !n.ExpiresAt.IsZero() {
		if k.ExpiresAt = period.Truncate(n.ExpiresAt); !k.ExpiresAt.After(now) {
			return k, &Invalid{"/expires_at", "must lie in the future", "it is " + period.Format(now)}
		}
	}
	if n.Fixed != "" {
		if err := s.checkFixed(n.Fixed); err != nil {
			return k, err
		}
		k.Hint = fixedHint
	}
	k.ID, err = account.NewID("key", now, s.cfg.Random)
	return k, err
}

// checkFixed keeps fixed secrets, which anybody can guess, to test deployments, few and short.
func (s *Service) checkFixed(secret string) error {
	hidden := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case s.cfg.Mode != account.Test:
		return &Invalid{"/fixed", "is for test mode only", "let the server draw a secret"}
	case len(secret) > fixedLengthMax || strings.ContainsFunc(secret, hidden):
		return &Invalid{"/fixed", fmt.Sprintf("must be 1 to %d visible ASCII characters", fixedLengthMax), "choose a simple name such as demo_free"}
	case s.directory.fixedKeys() >= fixedMax:
		return &Invalid{"/fixed", fmt.Sprintf("there are %d such keys already, the most there may be", fixedMax), "let the server draw a secret"}
	}
	return nil
}

// customerOf finds the customer that a new thing is for, or says who was meant.
func (s *Service) customerOf(ref string) (account.Customer, error) {
	if c, ok := s.directory.customer(ref); ok {
		return c, nil
	}
	fix := "`tally customers list` shows all"
	if near := catalog.Suggest(ref, s.directory.customerKeys()); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	}
	return account.Customer{}, &Invalid{"/customer", fmt.Sprintf("there is no customer %q", ref), fix}
}

// RevokeKey makes a key worthless at once and for ever. Doing it again keeps the first time. account.ErrNotFound.
func (s *Service) RevokeKey(ctx context.Context, actor, id string) (account.APIKey, error) {
	if err := checkActor(actor); err != nil {
		return account.APIKey{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	old, ok := s.directory.key(id)
	if !ok {
		return account.APIKey{}, fmt.Errorf("there is no key %q, `tally keys list` shows all: %w", id, account.ErrNotFound)
	}
	now := s.now()
	a, err := s.audit(now, actor, "key.revoke", id, map[string]string{"customer": old.CustomerID, "name": old.Name})
	if err != nil {
		return account.APIKey{}, err
	}
	k, err := s.cfg.Records.RevokeKey(ctx, id, now, a)
	if err != nil {
		return account.APIKey{}, fmt.Errorf("revoke key %s: %w", id, err)
	}
	s.directory.putKey(k)
	return k, nil
}

// Key finds a key by id, never by secret. account.ErrNotFound.
func (s *Service) Key(ctx context.Context, id string) (account.APIKey, error) {
	k, err := s.cfg.Records.Key(ctx, id)
	if err != nil {
		return account.APIKey{}, absent("key", id, err)
	}
	return k, nil
}

// ListKeys pages through them, newest first. The query's CustomerID may be a customer's key.
func (s *Service) ListKeys(ctx context.Context, q Query) ([]account.APIKey, error) {
	q, err := s.ofCustomer(q)
	if err != nil {
		return nil, err
	}
	list, err := s.cfg.Records.ListKeys(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return list, nil
}

// UpdateCustomer changes name and billing details: edit gets them as they are. Key, zone and currency stay for ever.
// account.ErrNotFound, Invalid.
func (s *Service) UpdateCustomer(ctx context.Context, actor, ref string, edit func(name *string, d *account.BillingDetails)) (account.Customer, error) {
	if err := checkActor(actor); err != nil {
		return account.Customer{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	c, ok := s.directory.customer(ref)
	if !ok {
		return c, fmt.Errorf("there is no customer %q, `tally customers list` shows all: %w", ref, account.ErrNotFound)
	}
	edit(&c.Name, &c.Billing)
	if err := checkName(c.Name); err != nil {
		return c, err
	}
	if err := checkBilling(&c.Billing); err != nil {
		return c, err
	}
	a, err := s.audit(s.now(), actor, "customer.update", c.ID, map[string]any{"name": c.Name, "billing": c.Billing})
	if err != nil {
		return c, err
	}
	if err := s.cfg.Records.SetCustomer(ctx, c.ID, c.Name, c.Billing, a); err != nil {
		return c, fmt.Errorf("update customer: %w", err)
	}
	s.directory.putCustomer(c)
	return c, nil
}

// dueDaysMax bounds how long a customer may take to pay.
const dueDaysMax = 365

func checkBilling(d *account.BillingDetails) error {
	for pointer, text := range map[string]string{
		"legal_name": d.LegalName, "street": d.Street, "city": d.City, "postal_code": d.PostalCode, "region": d.Region, "email": d.Email, "tax_id": d.TaxID,
	} {
		if checkName(text) != nil {
			return &Invalid{"/billing/" + pointer, fmt.Sprintf("must be one line of text of at most %d bytes", nameMax), "shorten it or leave it out"}
		}
	}
	upper := func(r rune) bool { return r < 'A' || r > 'Z' }
	switch {
	case d.Country != "" && (len(d.Country) != 2 || strings.ContainsFunc(d.Country, upper)):
		return &Invalid{"/billing/country", fmt.Sprintf("%q is no country", d.Country), "use an ISO 3166 code of two letters, such as FR"}
	case d.Email != "" && !strings.Contains(d.Email, "@"):
		return &Invalid{"/billing/email", fmt.Sprintf("%q is no address", d.Email), "write it as name@example.com"}
	case d.DueDays < 0 || d.DueDays > dueDaysMax:
		return &Invalid{"/billing/due_days", fmt.Sprintf("must be 0 to %d", dueDaysMax), "0 leaves it to the plan"}
	}
	return nil
}
