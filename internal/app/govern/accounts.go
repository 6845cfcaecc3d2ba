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

// A subscription starts at most this far from now.
const (
	startAgeMax   = 400 * 24 * time.Hour
	startAheadMax = 366 * 24 * time.Hour
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

// NewSubscription is what an operator says of one.
type NewSubscription struct {
	Customer, Plan string    // Customer is an id or a key
	Start          time.Time // zero: now; the past is allowed
	BillingDay     int       // 0: the local day of Start
}

// CreateSubscription pins the newest catalog version's prices, cuts the customer's rollups at Start first. Currency of plan
// and customer must agree. Invalid; account.ErrState when the customer has a plan at that time.
func (s *Service) CreateSubscription(ctx context.Context, actor string, n NewSubscription) (account.Subscription, error) {
	if err := checkActor(actor); err != nil {
		return account.Subscription{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	sub, err := s.newSubscription(n)
	if err != nil {
		return account.Subscription{}, err
	}
	a, err := s.audit(sub.CreatedAt, actor, "subscription.create", sub.ID, map[string]any{
		"customer": sub.CustomerID, "plan": sub.Plan, "start": period.Format(sub.Start), "billing_day": sub.BillingDay, "catalog_version": sub.CatalogVersion,
	})
	if err != nil {
		return account.Subscription{}, err
	}
	// A cut without a subscription does no harm; a subscription without its cut could not be rated.
	if err := s.cfg.Journal.Cut(ctx, sub.CustomerID, sub.Start); err != nil {
		return account.Subscription{}, fmt.Errorf("create subscription: split the usage at its start: %w", err)
	}
	if err := s.cfg.Records.PutSubscription(ctx, sub, a); errors.Is(err, store.ErrConflict) {
		return account.Subscription{}, fmt.Errorf("%w: customer %q has another subscription at that time", account.ErrState, n.Customer)
	} else if err != nil {
		return account.Subscription{}, fmt.Errorf("create subscription: %w", err)
	}
	s.directory.putSubscription(sub)
	return sub, nil
}

// newSubscription checks what was asked for; writing is held.
func (s *Service) newSubscription(n NewSubscription) (sub account.Subscription, err error) {
	customer, err := s.customerOf(n.Customer)
	if err != nil {
		return sub, err
	}
	current := s.Current()
	plan, ok := current.Plan(n.Plan)
	if !ok {
		return sub, unknownPlan(current, n.Plan)
	}
	if plan.Currency != customer.Currency {
		return sub, &Invalid{
			"/plan", fmt.Sprintf("%q is in %s, customer %q pays in %s", plan.Key, plan.Currency.Code(), customer.Key, customer.Currency.Code()),
			"choose a plan in the customer's currency",
		}
	}
	now := s.now()
	start := now
	if !n.Start.IsZero() {
		start = period.Truncate(n.Start)
	}
	if start.Before(now.Add(-startAgeMax)) || start.After(now.Add(startAheadMax)) {
		return sub, &Invalid{"/start", "must be at most 400 days ago and at most 366 days ahead", "it is " + period.Format(now)}
	}
	if n.BillingDay < 0 || n.BillingDay > 31 {
		return sub, &Invalid{"/billing_day", "must be 1 to 31", "leave it out for the day of the start; in shorter months the last day counts"}
	}
	if n.BillingDay == 0 {
		_, _, n.BillingDay = customer.Zone.Date(start)
	}
	for _, other := range s.directory.subscriptionsOf(customer.ID) {
		if other.End.IsZero() || other.End.After(start) {
			return sub, fmt.Errorf("%w: customer %q is on plan %q since %s (%s)", account.ErrState, customer.Key, other.Plan, period.Format(other.Start), other.ID)
		}
	}
	sub = account.Subscription{
		CustomerID: customer.ID, Plan: plan.Key, CatalogVersion: current.Version, Start: start, BillingDay: n.BillingDay, CreatedAt: now,
	}
	sub.ID, err = account.NewID("sub", now, s.cfg.Random)
	return sub, err
}

func unknownPlan(c *catalog.Compiled, key string) *Invalid {
	names := make([]string, 0, len(c.Plans))
	for _, p := range c.Plans {
		names = append(names, p.Key)
	}
	e := &Invalid{"/plan", fmt.Sprintf("there is no plan %q", key), "the catalog has " + strings.Join(names, ", ")}
	if near := catalog.Suggest(key, names); near != "" {
		e.Fix = fmt.Sprintf("did you mean %q?", near)
	}
	if len(names) == 0 {
		e.Fix = "apply a catalog with plans first: `tally apply FILE`"
	}
	return e
}

// Subscription finds one by id. account.ErrNotFound.
func (s *Service) Subscription(ctx context.Context, id string) (account.Subscription, error) {
	sub, err := s.cfg.Records.Subscription(ctx, id)
	if err != nil {
		return account.Subscription{}, absent("subscription", id, err)
	}
	return sub, nil
}

// ListSubscriptions pages through them, newest first. The query's CustomerID may be a customer's key.
func (s *Service) ListSubscriptions(ctx context.Context, q Query) ([]account.Subscription, error) {
	q, err := s.ofCustomer(q)
	if err != nil {
		return nil, err
	}
	list, err := s.cfg.Records.ListSubscriptions(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	return list, nil
}
