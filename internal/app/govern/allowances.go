package govern

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of a customer's allowances. All of them are looked through when limits are put together.
const (
	reasonMax    = 500 // bytes
	overridesMax = 1000
)

// NewOverride is what an operator says of one.
type NewOverride struct {
	Customer, KeyID string // Customer is an id or a key
	Limit           string
	Value, Burst    string // see account.Override
	Reason          string
	ExpiresAt       time.Time // zero: never
}

// CreateOverride replaces a limit's number for one customer, or one of its keys, at once. Counters are kept. Invalid.
func (s *Service) CreateOverride(ctx context.Context, actor string, n NewOverride) (account.Override, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	o, err := s.newOverride(n)
	if err == nil {
		err = checkActor(actor)
	}
	if err != nil {
		return account.Override{}, err
	}
	o.Author = actor
	if o.ID, err = account.NewID("ovr", o.CreatedAt, s.cfg.Random); err != nil {
		return account.Override{}, err
	}
	a, err := s.audit(o.CreatedAt, actor, "override.create", o.CustomerID, map[string]string{
		"override": o.ID, "limit": o.Limit, "value": o.Value, "burst": o.Burst, "key": o.KeyID, "reason": o.Reason,
	})
	if err != nil {
		return account.Override{}, err
	}
	if err := s.cfg.Records.PutOverride(ctx, o, a); err != nil {
		return account.Override{}, fmt.Errorf("create override: %w", err)
	}
	s.directory.putOverride(o)
	return o, nil
}

// newOverride checks what was asked for; writing is held.
func (s *Service) newOverride(n NewOverride) (o account.Override, err error) {
	customer, err := s.customerOf(n.Customer)
	if err != nil {
		return o, err
	}
	now := s.now()
	o = account.Override{
		CustomerID: customer.ID, KeyID: n.KeyID, Limit: n.Limit, Value: n.Value, Burst: n.Burst, Reason: n.Reason, CreatedAt: now,
	}
	if o.ExpiresAt, err = s.later(n.ExpiresAt, now); err != nil {
		return o, err
	}
	if err := checkReason(n.Reason); err != nil {
		return o, err
	}
	if k, ok := s.directory.key(n.KeyID); n.KeyID != "" && (!ok || k.CustomerID != customer.ID) {
		return o, &Invalid{"/key_id", fmt.Sprintf("%q is no key of this customer", n.KeyID), "`tally keys list --customer` shows them"}
	}
	limit, err := s.limitOf(customer, n.Limit, now)
	if err != nil {
		return o, err
	}
	if n.KeyID != "" && !slices.Contains(limit.Per, catalog.PerKey) {
		return o, &Invalid{"/key_id", fmt.Sprintf("limit %q is not counted per key", limit.Key), "leave the key out, or declare the limit per: [key]"}
	}
	if err := s.takes(limit, o); err != nil {
		return o, &Invalid{"/value", err.Error(), "give what the limit's own field would take in the catalog"}
	}
	if len(s.directory.overridesOf(customer.ID)) >= overridesMax {
		return o, &Invalid{"/customer", fmt.Sprintf("has %d overrides that are not over, the most there may be", overridesMax), "take one back first"}
	}
	return o, nil
}

// takes says whether a limit can take an override's number: its form, and the decimals of its meter.
func (s *Service) takes(limit catalog.Limit, o account.Override) error {
	next, err := limit.Overridden(o.Value, o.Burst)
	if err == nil && limit.Meter != "" {
		_, err = s.Current().CompileLimits(catalog.Plan{Key: "plan", Limits: []catalog.Limit{next}}, limit.Meter)
	}
	return err
}

// limitOf finds a limit of the customer's plan.
func (s *Service) limitOf(c account.Customer, key string, now time.Time) (catalog.Limit, error) {
	sub, ok := s.directory.activeSubscription(c.ID, now)
	if !ok {
		return catalog.Limit{}, &Invalid{"/customer", "has no active subscription, so no limit", "subscribe the customer to a plan first"}
	}
	plan, ok := s.Current().Plan(sub.Plan)
	if !ok {
		return catalog.Limit{}, &Invalid{"/limit", fmt.Sprintf("plan %q is not in the newest catalog", sub.Plan), "move the customer to a plan of the newest catalog"}
	}
	names := make([]string, 0, len(plan.Limits))
	for _, l := range plan.Limits {
		if l.Key == key {
			return l, nil
		}
		names = append(names, l.Key)
	}
	return catalog.Limit{}, &Invalid{"/limit", fmt.Sprintf("plan %q has no limit %q", plan.Key, key), "one of " + strings.Join(names, ", ")}
}

func (s *Service) later(t, now time.Time) (time.Time, error) {
	if t.IsZero() {
		return t, nil
	}
	if t = period.Truncate(t); !t.After(now) {
		return t, &Invalid{"/expires_at", "must lie in the future", "it is " + period.Format(now)}
	}
	return t, nil
}

func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" || len(reason) > reasonMax || !printable(reason) {
		return &Invalid{"/reason", fmt.Sprintf("must be a text of 1 to %d bytes without control characters", reasonMax), "say why, for those who read the audit log"}
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}

// EndOverride takes one back at once. Doing it again keeps the first time. account.ErrNotFound.
func (s *Service) EndOverride(ctx context.Context, actor, id string) (account.Override, error) {
	if err := checkActor(actor); err != nil {
		return account.Override{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.now()
	a, err := s.audit(now, actor, "override.end", id, map[string]string{"override": id})
	if err != nil {
		return account.Override{}, err
	}
	o, err := s.cfg.Records.EndOverride(ctx, id, now, a)
	if errors.Is(err, store.ErrNotFound) {
		return o, fmt.Errorf("there is no override %q: %w", id, account.ErrNotFound)
	}
	if err != nil {
		return o, fmt.Errorf("end override %s: %w", id, err)
	}
	s.directory.putOverride(o)
	return o, nil
}

// ListOverrides pages through all, newest first.
func (s *Service) ListOverrides(ctx context.Context, q Query) ([]account.Override, error) {
	q, err := s.ofCustomer(q)
	if err != nil {
		return nil, err
	}
	return s.cfg.Records.ListOverrides(ctx, q)
}

// Grants are a customer's usage credits, oldest first; from the directory. Nobody changes the list.
func (s *Service) Grants(customerID string) []account.Grant { return s.directory.grantsOf(customerID) }

// PutGrant takes a grant that was stored, or voided, into the directory.
func (s *Service) PutGrant(g account.Grant) { s.directory.putGrant(g) }

// Redemptions are a customer's coupons, oldest first, ended ones among them; from the directory. Nobody changes the list.
func (s *Service) Redemptions(customerID string) []account.Redemption {
	return s.directory.redemptionsOf(customerID)
}

// PutRedemption takes a redemption that was stored, or ended, into the directory.
func (s *Service) PutRedemption(r account.Redemption) { s.directory.putRedemption(r) }

func (s *Service) loadAllowances(ctx context.Context) error {
	r := s.cfg.Records
	if err := all(ctx, r.ListOverrides, func(o account.Override) string { return o.ID }, s.directory.putOverride); err != nil {
		return err
	}
	if err := all(ctx, r.ListGrants, func(g account.Grant) string { return g.ID }, s.directory.putGrant); err != nil {
		return err
	}
	return all(ctx, r.ListRedemptions, func(x account.Redemption) string { return x.ID }, s.directory.putRedemption)
}

// SetAbnormal notes whether a customer's use is abnormal at the moment.
func (s *Service) SetAbnormal(customerID string, abnormal bool) {
	s.directory.setAbnormal(customerID, abnormal)
}

// SetUnpaid notes whether a customer is suspended until an invoice is paid.
func (s *Service) SetUnpaid(customerID string, unpaid bool) {
	s.directory.setUnpaid(customerID, unpaid)
}
