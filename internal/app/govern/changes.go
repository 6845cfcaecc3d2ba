package govern

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/declare"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// PeriodEnd is a time in words: the end of the billing period that runs now.
const PeriodEnd = "period_end"

// NewChange is what an operator says of a change. Which fields belong to which kind: subscription.Change.
type NewChange struct {
	Kind subscription.Kind
	// At is an RFC 3339 instant, "now" or PeriodEnd; empty: now. The past is allowed.
	At       string
	Plan     string
	Version  int64 // 0: the newest
	Key      string
	Quantity money.Decimal
	Price    json.RawMessage // as the catalog writes it; empty takes an earlier one back
	Until    time.Time
	Now      bool
	Reason   string
}

// Timeline is a subscription over time: as it is now, its changes, and what follows from them.
type Timeline struct {
	account.Subscription

	History  subscription.History
	Segments []subscription.Segment
}

// Timeline of a subscription, by its id or by a customer who has one in force. account.ErrNotFound.
func (s *Service) Timeline(ctx context.Context, id string) (Timeline, error) {
	h, err := s.historyOf(id)
	if err != nil {
		return Timeline{}, err
	}
	return s.timeline(ctx, h)
}

func (s *Service) historyOf(id string) (subscription.History, error) {
	if c, ok := s.directory.customer(id); ok {
		if sub, ok := s.directory.activeSubscription(c.ID, s.now()); ok {
			id = sub.ID
		}
	}
	h, ok := s.directory.history(id)
	if !ok {
		return h, fmt.Errorf("there is no subscription %q, `tally subscriptions list` shows all: %w", id, account.ErrNotFound)
	}
	return h, nil
}

// timeline draws one that may not be stored.
func (s *Service) timeline(ctx context.Context, h subscription.History) (Timeline, error) {
	segments, err := s.segments(ctx, h)
	if err != nil {
		return Timeline{}, err
	}
	now := s.now()
	as, ok := subscription.AsOf(h.Subscription, segments, now)
	if !ok && len(segments) > 0 {
		nearest := segments[0].Start
		if now.After(nearest) {
			nearest = segments[len(segments)-1].Start
		}
		as, _ = subscription.AsOf(h.Subscription, segments, nearest)
	}
	return Timeline{as, h, segments}, nil
}

// ChangeSubscription adds a change to a history, or with dry only says what would follow. Recorded usage stays as it is; its rollups
// are cut where something changes. account.ErrNotFound, Invalid, account.ErrState.
func (s *Service) ChangeSubscription(ctx context.Context, actor, id string, n NewChange, dry bool) (Timeline, error) {
	if err := checkActor(actor); err != nil {
		return Timeline{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	h, err := s.historyOf(id)
	if err != nil {
		return Timeline{}, err
	}
	c, err := s.newChange(ctx, h, n)
	if err != nil {
		return Timeline{}, err
	}
	c.Actor = actor
	return s.change(ctx, actor, h, c, dry)
}

// change adds c to h; writing is held.
func (s *Service) change(ctx context.Context, actor string, h subscription.History, c subscription.Change, dry bool) (Timeline, error) {
	before, err := s.segments(ctx, h)
	if err != nil {
		return Timeline{}, err
	}
	if err := s.put(&h, c); err != nil {
		return Timeline{}, err
	}
	t, err := s.timeline(ctx, h)
	if err != nil || dry {
		return t, misplaced(err, nil)
	}
	c = h.Changes[len(h.Changes)-1]
	a, err := s.audit(s.now(), actor, "subscription."+string(c.Kind), h.ID, map[string]any{
		"change": c.ID, "at": period.Format(c.At), "plan": c.Plan, "version": c.Version, "key": c.Key, "quantity": c.Quantity.String(), "reason": c.Reason,
	})
	if err != nil {
		return Timeline{}, err
	}
	if err := s.cut(ctx, h.CustomerID, before, t.Segments); err != nil {
		return Timeline{}, fmt.Errorf("change subscription: %w", err)
	}
	err = s.cfg.Records.PutChanges(ctx, h.ID, []subscription.Change{c}, endOf(h, t.Segments), a)
	if errors.Is(err, store.ErrConflict) {
		return Timeline{}, fmt.Errorf("%w: with that change the subscription would last into the customer's next one", account.ErrState)
	} else if err != nil {
		return Timeline{}, fmt.Errorf("change subscription: %w", err)
	}
	s.directory.putHistory(h, spellsOf(h.Subscription, t.Segments))
	return t, nil
}

// put appends a change to a copy of the history's list, decided after all of them; writing is held.
func (s *Service) put(h *subscription.History, c subscription.Change) (err error) {
	if len(h.Changes) >= changesMax {
		return fmt.Errorf("%w: a subscription has at most %d changes: cancel it, and begin another one", account.ErrState, changesMax)
	}
	c.SubscriptionID, c.CreatedAt = h.ID, s.now()
	if n := len(h.Changes); n > 0 && !c.CreatedAt.After(h.Changes[n-1].CreatedAt) {
		c.CreatedAt = h.Changes[n-1].CreatedAt.Add(time.Microsecond)
	}
	if c.ID, err = account.NewID("sch", c.CreatedAt, s.cfg.Random); err != nil {
		return err
	}
	h.Changes = append(slices.Clone(h.Changes), c)
	return nil
}

// newChange checks what the history cannot.
func (s *Service) newChange(ctx context.Context, h subscription.History, n NewChange) (c subscription.Change, err error) {
	c = subscription.Change{
		Kind: n.Kind, Plan: n.Plan, Key: n.Key, Quantity: n.Quantity, Until: period.Truncate(n.Until), Now: n.Now, Reason: n.Reason,
	}
	if n.Until.IsZero() {
		c.Until = time.Time{}
	}
	if n.Reason != "" {
		if err := checkReason(n.Reason); err != nil {
			return c, err
		}
	}
	if c.At, err = s.instant(ctx, h, n.At); err != nil {
		return c, err
	}
	if c.Kind == subscription.Trial && (c.Until.IsZero() || c.Until.After(c.At.Add(trialDaysMax*24*time.Hour))) {
		return c, &Invalid{"/until", fmt.Sprintf("is needed, and is at most %d days ahead", trialDaysMax), "say when the trial ends"}
	}
	version, err := s.versionOf(ctx, n.Version)
	if err != nil {
		return c, err
	}
	switch c.Kind {
	case subscription.ToPlan:
		if _, ok := version.Plan(c.Plan); !ok {
			return c, unknownPlan(version, c.Plan)
		}
		c.Version = version.Version
	case subscription.ToPrices, subscription.SetAddOn:
		c.Version = version.Version
	case subscription.SetPrice:
		if c.Price, err = s.ownPrice(ctx, h, c, n.Price); err != nil {
			return c, err
		}
	case subscription.Quantity, subscription.Pause, subscription.Resume, subscription.Trial, subscription.Cancel, subscription.Revive:
	}
	return c, nil
}

// instant reads when a change takes effect.
func (s *Service) instant(ctx context.Context, h subscription.History, word string) (time.Time, error) {
	now := s.now()
	switch word {
	case "", "now":
		return now, nil
	case PeriodEnd:
		t, err := s.timeline(ctx, h)
		if err != nil {
			return time.Time{}, err
		}
		customer, _ := s.directory.customer(h.CustomerID)
		p, ok := t.Anchor(customer.Zone).Period(now)
		if !ok {
			return time.Time{}, &Invalid{"/at", "cannot be the end of the billing period: none runs now", "give an instant"}
		}
		return p.End, nil
	}
	at, err := time.Parse(time.RFC3339, word)
	if err != nil {
		return time.Time{}, &Invalid{"/at", fmt.Sprintf("%q is no instant", word), "use RFC 3339, such as 2026-07-01T00:00:00Z, or now, or " + PeriodEnd}
	}
	at = period.Truncate(at)
	if at.After(now.Add(changeAhead)) || at.Before(now.Add(-startAgeMax)) {
		return time.Time{}, &Invalid{"/at", "must be at most 400 days ago and at most ten years ahead", "it is " + period.Format(now)}
	}
	return at, nil
}

// ownPrice reads a price of one customer alone by the rules of the catalog. nil: none is given.
func (s *Service) ownPrice(ctx context.Context, h subscription.History, c subscription.Change, raw json.RawMessage) (*price.Price, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	version, err := s.Version(ctx, h.CatalogVersion)
	if err != nil {
		return nil, err
	}
	plan, _ := version.Plan(h.Plan)
	meters := []map[string]any{}
	for _, m := range s.Current().Meters {
		meters = append(meters, meterForm(m))
	}
	var form map[string]any
	if err := json.Unmarshal(raw, &form); err != nil {
		return nil, &Invalid{"/price", "is no price", "write it as the catalog does, as a JSON object"}
	}
	if form["key"] == nil {
		form["key"] = c.Key
	}
	document, err := json.Marshal(map[string]any{
		"tallystick": 1, "meters": meters,
		"plans": []any{map[string]any{"key": "own", "currency": plan.Currency.Code(), "prices": []any{form}}},
	})
	if err != nil {
		return nil, fmt.Errorf("read the price: %w", err)
	}
	decoded, faults := declare.Decode("price", document)
	if len(faults) > 0 {
		f := faults[0]
		path := strings.TrimPrefix(strings.TrimPrefix(f.Path, "plans.own.prices"), "."+c.Key)
		return nil, &Invalid{"/price" + strings.ReplaceAll(path, ".", "/"), f.Message, strings.TrimSpace("expected " + f.Expected)}
	}
	return &decoded.Plans[0].Prices[0], nil
}

// meterForm is a meter as a catalog declares it, as far as prices look at it.
func meterForm(m catalog.Meter) map[string]any {
	form := map[string]any{"key": m.Key, "event": m.Event, "aggregation": m.Word(), "scale": m.Scale}
	for name, text := range map[string]string{"value": m.Value, "unit": m.Unit} {
		if text != "" {
			form[name] = text
		}
	}
	if len(m.Dimensions) > 0 {
		form["dimensions"] = m.Dimensions
	}
	return form
}

// Migration moves subscriptions of a plan to the prices of another catalog version.
type Migration struct {
	Plan      string
	Customer  string // id or key; empty: all
	ToVersion int64  // 0: the newest
	At        string // as NewChange.At
	Reason    string
	// Each is called for every subscription that moves, before it does, with its history as it is and as it will be; nil: nothing.
	// Its error ends the migration.
	Each func(ctx context.Context, customer account.Customer, before, after subscription.History) error
}

// Migrated is one subscription of a migration.
type Migrated struct {
	Customer     account.Customer
	Subscription account.Subscription // as it was at At
	At           time.Time
	ToVersion    int64
	Refused      string // why it stays as it is; empty: it does not
}

// Migrate moves the subscriptions that are on the plan at the instant and have other prices; with dry it only says which. What is done
// already stays done when it fails: calling it again moves the rest.
func (s *Service) Migrate(ctx context.Context, actor string, m Migration, dry bool) ([]Migrated, error) {
	if err := checkActor(actor); err != nil {
		return nil, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	version, err := s.versionOf(ctx, m.ToVersion)
	if err != nil {
		return nil, err
	}
	if _, ok := version.Plan(m.Plan); !ok {
		return nil, unknownPlan(version, m.Plan)
	}
	customers := s.directory.allCustomers()
	if m.Customer != "" {
		c, err := s.customerOf(m.Customer)
		if err != nil {
			return nil, err
		}
		customers = []account.Customer{c}
	}
	var out []Migrated
	for _, customer := range customers {
		for _, h := range s.directory.historiesOf(customer.ID) {
			c, err := s.newChange(ctx, h, NewChange{Kind: subscription.ToPrices, At: m.At, Version: version.Version, Reason: m.Reason})
			if _, refused := errors.AsType[*Invalid](err); refused && m.At == PeriodEnd {
				continue // no period of it runs now
			} else if err != nil {
				return out, err
			}
			as, ok := s.directory.activeSubscription(customer.ID, c.At)
			if !ok || as.ID != h.ID || as.Plan != m.Plan || as.CatalogVersion == version.Version {
				continue
			}
			done := Migrated{Customer: customer, Subscription: as, At: c.At, ToVersion: version.Version}
			if err := s.migrate(ctx, actor, customer, h, c, m, dry); errors.Is(err, account.ErrInvalid) {
				done.Refused = err.Error()
			} else if err != nil {
				return out, err
			}
			out = append(out, done)
		}
	}
	return out, nil
}

func (s *Service) migrate(ctx context.Context, actor string, customer account.Customer, h subscription.History, c subscription.Change, m Migration, dry bool) error {
	c.Actor = actor
	after, err := s.change(ctx, actor, h, c, true)
	if err != nil {
		return err
	}
	if m.Each != nil {
		if err := m.Each(ctx, customer, h, after.History); err != nil {
			return err
		}
	}
	if dry {
		return nil
	}
	_, err = s.change(ctx, actor, h, c, false)
	return err
}
