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
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of a customer's allowances. All of them are looked through when limits are put together.
const (
	reasonMax    = 500 // bytes
	overridesMax = 1000
	grantsMax    = 10_000
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

// NewGrant is what an operator says of one.
type NewGrant struct {
	Customer, Meter string // Customer is an id or a key
	Amount          string // units of the meter, above 0
	Reason          string
	EffectiveAt     time.Time // zero: now
	ExpiresAt       time.Time // zero: never
}

// CreateGrant gives a customer usage credits. Invalid.
func (s *Service) CreateGrant(ctx context.Context, actor string, n NewGrant) (account.Grant, error) {
	if err := checkActor(actor); err != nil {
		return account.Grant{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	g, err := s.newGrant(n)
	if err != nil {
		return g, err
	}
	g.Author = actor
	return s.putGrant(ctx, actor, "grant.create", g)
}

// newGrant checks what was asked for; writing is held.
func (s *Service) newGrant(n NewGrant) (g account.Grant, err error) {
	customer, err := s.customerOf(n.Customer)
	if err != nil {
		return g, err
	}
	now := s.now()
	g = account.Grant{CustomerID: customer.ID, Meter: n.Meter, Reason: n.Reason, CreatedAt: now, EffectiveAt: now}
	m, ok := s.Current().Meter(n.Meter)
	if !ok {
		return g, &Invalid{"/meter", fmt.Sprintf("there is no meter %q", n.Meter), "`tally catalog show` lists them"}
	}
	if g.Amount, err = money.ParseDecimal(n.Amount); err != nil || g.Amount.Sign() <= 0 {
		return g, &Invalid{"/amount", fmt.Sprintf("%q is not a number above 0", n.Amount), `a decimal in the meter's unit, such as "1000"`}
	}
	if _, err := g.Amount.Scaled(m.Scale); err != nil {
		return g, &Invalid{"/amount", err.Error(), fmt.Sprintf("at most %d decimals", m.Scale)}
	}
	if !n.EffectiveAt.IsZero() {
		if g.EffectiveAt = period.Truncate(n.EffectiveAt); g.EffectiveAt.Before(now) {
			return g, &Invalid{"/effective_at", "must not lie in the past", "it is " + period.Format(now)}
		}
	}
	if g.ExpiresAt, err = s.later(n.ExpiresAt, g.EffectiveAt); err != nil {
		return g, err
	}
	if len(s.directory.grantsOf(customer.ID)) >= grantsMax {
		return g, &Invalid{"/customer", fmt.Sprintf("has %d grants, the most there may be", grantsMax), "give fewer and larger ones"}
	}
	return g, checkReason(n.Reason)
}

// putGrant stores a grant; writing is held.
func (s *Service) putGrant(ctx context.Context, actor, action string, g account.Grant) (account.Grant, error) {
	var err error
	if g.ID, err = account.NewID("grt", g.CreatedAt, s.cfg.Random); err != nil {
		return g, err
	}
	a, err := s.audit(g.CreatedAt, actor, action, g.CustomerID, map[string]string{
		"grant": g.ID, "meter": g.Meter, "amount": g.Amount.String(), "of": g.GrantID, "reason": g.Reason,
	})
	if err != nil {
		return g, err
	}
	if err := s.cfg.Records.PutGrant(ctx, g, a); err != nil {
		return g, fmt.Errorf("put grant: %w", err)
	}
	s.directory.putGrant(g)
	return g, nil
}

// ListGrants pages through all, newest first.
func (s *Service) ListGrants(ctx context.Context, q Query) ([]account.Grant, error) {
	q, err := s.ofCustomer(q)
	if err != nil {
		return nil, err
	}
	return s.cfg.Records.ListGrants(ctx, q)
}

// Granted is what a customer was given of a meter in all by an instant, less what expired unused, and since when credits are
// counted. since is zero without any grant; from the directory.
func (s *Service) Granted(customerID, meterKey string, at time.Time) (units money.Decimal, since time.Time) {
	for _, g := range s.directory.grantsOf(customerID) {
		if g.Meter != meterKey {
			continue
		}
		if g.GrantID == "" && (since.IsZero() || g.EffectiveAt.Before(since)) {
			since = g.EffectiveAt
		}
		if g.EffectiveAt.After(at) {
			continue
		}
		sum, err := units.Add(g.Amount)
		if err != nil {
			return units, since // beyond what a decimal holds: no more than that is granted
		}
		units = sum
	}
	return units, since
}

// Used tells a customer's usage of a meter in [since, until).
type Used func(ctx context.Context, customerID, meterKey string, since, until time.Time) (money.Decimal, error)

// ExpireGrants takes back what is left of grants whose time is over. Grants burn in the order in which they expire. It does one
// grant a call; more says that there may be others.
func (s *Service) ExpireGrants(ctx context.Context, used Used) (more bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.now()
	g, ok := s.directory.expired(now)
	if !ok {
		return false, nil
	}
	_, since := s.Granted(g.CustomerID, g.Meter, now)
	spent, err := used(ctx, g.CustomerID, g.Meter, since, g.ExpiresAt)
	if err != nil {
		return false, fmt.Errorf("usage before grant %s expired: %w", g.ID, err)
	}
	left, err := unburned(g, s.directory.grantsOf(g.CustomerID), spent)
	if err != nil {
		return false, err
	}
	minus, err := money.Decimal{}.Sub(left)
	if err != nil {
		return false, err
	}
	_, err = s.putGrant(ctx, "system", "grant.expire", account.Grant{
		CustomerID: g.CustomerID, Meter: g.Meter, Amount: minus, GrantID: g.ID, Reason: "expired", Author: "system",
		CreatedAt: now, EffectiveAt: g.ExpiresAt,
	})
	return err == nil, err
}

// unburned is what is left of g after so much usage, when the grants that expire before it burn first.
func unburned(g account.Grant, all []account.Grant, used money.Decimal) (left money.Decimal, err error) {
	earlier := map[string]bool{}
	for _, other := range all {
		if other.Meter == g.Meter && other.GrantID == "" && burnsBefore(other, g) {
			earlier[other.ID] = true
		}
	}
	for _, other := range all {
		if !earlier[other.ID] && !earlier[other.GrantID] {
			continue
		}
		if used, err = used.Sub(other.Amount); err != nil {
			return left, err
		}
	}
	if used.Sign() < 0 {
		used = money.Decimal{}
	}
	if used.Cmp(g.Amount) >= 0 {
		return money.Decimal{}, nil
	}
	return g.Amount.Sub(used)
}

func burnsBefore(a, b account.Grant) bool {
	switch {
	case a.ID == b.ID || a.ExpiresAt.IsZero():
		return false
	case b.ExpiresAt.IsZero() || a.ExpiresAt.Before(b.ExpiresAt):
		return true
	}
	return a.ExpiresAt.Equal(b.ExpiresAt) && a.ID < b.ID
}

func (s *Service) loadAllowances(ctx context.Context) error {
	if err := all(ctx, s.cfg.Records.ListOverrides, func(o account.Override) string { return o.ID }, s.directory.putOverride); err != nil {
		return err
	}
	return all(ctx, s.cfg.Records.ListGrants, func(g account.Grant) string { return g.ID }, s.directory.putGrant)
}

// SetAbnormal notes whether a customer's use is abnormal at the moment.
func (s *Service) SetAbnormal(customerID string, abnormal bool) {
	s.directory.setAbnormal(customerID, abnormal)
}

// SetUnpaid notes whether a customer is suspended until an invoice is paid.
func (s *Service) SetUnpaid(customerID string, unpaid bool) {
	s.directory.setUnpaid(customerID, unpaid)
}
