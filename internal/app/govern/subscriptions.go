package govern

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// A subscription starts at most this far from now, and so far ahead its changes are scheduled.
const (
	startAgeMax   = 400 * 24 * time.Hour
	startAheadMax = 366 * 24 * time.Hour
	changeAhead   = 10 * 366 * 24 * time.Hour
)

// The bounds of one subscription.
const (
	phasesMax    = 50
	changesMax   = 1000
	trialDaysMax = 731
)

// NewSubscription is what an operator says of one.
type NewSubscription struct {
	Customer, Plan string    // Customer is an id or a key
	Start          time.Time // zero: now; the past is allowed
	BillingDay     int       // 0: the local day of Start
	Version        int64     // of the catalog that the prices are from; 0: the newest
	// Phases are plans one after the other, instead of Plan. The last one may be without an end.
	Phases     []Phase
	Quantities map[string]money.Decimal // by key of a licensed price
	AddOns     map[string]money.Decimal // by key
	// TrialDays are local days, instead of the plan's; 0: no trial. TrialEnd is the end itself. nil and zero: as the plan says.
	TrialDays *int
	TrialEnd  time.Time
}

// Phase is a plan for a time, such as "3 months".
type Phase struct {
	Plan string
	For  period.Every // zero: without an end
}

// CreateSubscription pins the prices of a catalog version, cuts the customer's rollups where something changes first. Currency of
// plan and customer must agree. Invalid; account.ErrState when the customer has a plan at that time.
func (s *Service) CreateSubscription(ctx context.Context, actor string, n NewSubscription) (account.Subscription, error) {
	if err := checkActor(actor); err != nil {
		return account.Subscription{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	h, places, err := s.newSubscription(ctx, actor, n)
	if err != nil {
		return account.Subscription{}, err
	}
	segments, err := s.segments(ctx, h)
	if err != nil {
		return account.Subscription{}, misplaced(err, places)
	}
	a, err := s.audit(h.CreatedAt, actor, "subscription.create", h.ID, map[string]any{
		"customer": h.CustomerID, "plan": h.Plan, "start": period.Format(h.Start), "billing_day": h.BillingDay, "catalog_version": h.CatalogVersion,
		"changes": len(h.Changes),
	})
	if err != nil {
		return account.Subscription{}, err
	}
	// A cut without a subscription does no harm; a subscription without its cut could not be rated.
	if err := s.cut(ctx, h.CustomerID, nil, segments); err != nil {
		return account.Subscription{}, fmt.Errorf("create subscription: %w", err)
	}
	if err := s.cfg.Records.Subscribe(ctx, h, endOf(h, segments), a); errors.Is(err, store.ErrConflict) {
		return account.Subscription{}, fmt.Errorf("%w: customer %q has another subscription at that time", account.ErrState, n.Customer)
	} else if err != nil {
		return account.Subscription{}, fmt.Errorf("create subscription: %w", err)
	}
	s.directory.putHistory(h, spellsOf(h.Subscription, segments))
	return s.directory.asOf(h.Subscription, h.CreatedAt), nil
}

// newSubscription checks what was asked for; writing is held. places are the pointers of the first changes, by id.
func (s *Service) newSubscription(ctx context.Context, actor string, n NewSubscription) (h subscription.History, places map[string]string, err error) {
	customer, err := s.customerOf(n.Customer)
	if err != nil {
		return h, nil, err
	}
	if len(n.Phases) > 0 {
		if n.Plan != "" || len(n.Phases) > phasesMax {
			return h, nil, &Invalid{"/phases", fmt.Sprintf("are at most %d, and stand instead of a plan", phasesMax), "leave the plan out"}
		}
		n.Plan = n.Phases[0].Plan
	}
	version, err := s.versionOf(ctx, n.Version)
	if err != nil {
		return h, nil, err
	}
	plan, ok := version.Plan(n.Plan)
	if !ok {
		return h, nil, unknownPlan(version, n.Plan)
	}
	if plan.Currency != customer.Currency {
		return h, nil, &Invalid{
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
		return h, nil, &Invalid{"/start", "must be at most 400 days ago and at most 366 days ahead", "it is " + period.Format(now)}
	}
	if n.BillingDay < 0 || n.BillingDay > 31 {
		return h, nil, &Invalid{"/billing_day", "must be 1 to 31", "leave it out for the day of the start; in shorter months the last day counts"}
	}
	if n.BillingDay == 0 {
		_, _, n.BillingDay = customer.Zone.Date(start)
	}
	for _, other := range s.SubscriptionsOf(customer.ID) {
		if (other.End.IsZero() || other.End.After(start)) && !other.End.Equal(other.Start) {
			return h, nil, fmt.Errorf("%w: customer %q is on plan %q since %s (%s)", account.ErrState, customer.Key, other.Plan, period.Format(other.Start), other.ID)
		}
	}
	h.Subscription = account.Subscription{
		CustomerID: customer.ID, Plan: plan.Key, CatalogVersion: version.Version, Start: start, BillingDay: n.BillingDay, CreatedAt: now,
	}
	if h.ID, err = account.NewID("sub", now, s.cfg.Random); err != nil {
		return h, nil, err
	}
	places, err = s.firstChanges(&h, actor, customer.Zone, plan.Terms.TrialDays, n)
	return h, places, err
}

// firstChanges are what makes the subscription differ from its plan from the start on, and its phases.
func (s *Service) firstChanges(h *subscription.History, actor string, zone period.Zone, trialDays int, n NewSubscription) (map[string]string, error) {
	places := map[string]string{}
	add := func(place string, c subscription.Change) error {
		if c.Actor, c.Reason = actor, "created so"; c.At.IsZero() {
			c.At = h.Start
		}
		if err := s.put(h, c); err != nil {
			return err
		}
		places[h.Changes[len(h.Changes)-1].ID] = place
		return nil
	}
	trial, given, err := trialEnd(h.Start, zone, n)
	if err != nil {
		return nil, err
	}
	if given {
		if err := add("/trial_end", subscription.Change{Kind: subscription.Trial, Until: trial}); err != nil {
			return nil, err
		}
	} else if trial = h.Start; trialDays > 0 {
		trial = daysAfter(h.Start, zone, trialDays)
	}
	for _, key := range slices.Sorted(maps.Keys(n.Quantities)) {
		if err := add("/quantities/"+key, subscription.Change{Kind: subscription.Quantity, Key: key, Quantity: n.Quantities[key]}); err != nil {
			return nil, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(n.AddOns)) {
		c := subscription.Change{Kind: subscription.SetAddOn, Key: key, Version: h.CatalogVersion, Quantity: n.AddOns[key]}
		if err := add("/add_ons/"+key, c); err != nil {
			return nil, err
		}
	}
	return places, phases(h, zone, trial, n.Phases, add)
}

// phases adds the changes from one phase to the next. The first one lasts from the end of the trial on, beside the trial.
func phases(h *subscription.History, zone period.Zone, from time.Time, list []Phase, add func(place string, c subscription.Change) error) error {
	day := h.BillingDay
	if from.After(h.Start) {
		_, _, day = zone.Date(from)
	}
	for i, phase := range list {
		place := fmt.Sprintf("/phases/%d", i)
		if i > 0 {
			if err := add(place, subscription.Change{Kind: subscription.ToPlan, Plan: phase.Plan, Version: h.CatalogVersion, At: from}); err != nil {
				return err
			}
		}
		last := i == len(list)-1
		if phase.For == (period.Every{}) {
			if !last {
				return &Invalid{place + "/for", "is needed in every phase but the last", `write how long it lasts, such as "3 months"`}
			}
			return nil
		}
		p, _ := period.Anchor{Start: from, Day: day, Zone: zone, Every: phase.For}.Period(from)
		if from = p.End; from.After(h.Start.Add(changeAhead)) {
			return &Invalid{place + "/for", "lasts too long", "phases together last at most ten years"}
		}
		if last {
			return add(place, subscription.Change{Kind: subscription.Cancel, At: from})
		}
	}
	return nil
}

func daysAfter(t time.Time, zone period.Zone, days int) time.Time {
	y, m, d := zone.Date(t)
	return zone.StartOfDay(y, m, d+days)
}

// trialEnd is where the trial ends that was asked for in place of the plan's.
func trialEnd(start time.Time, zone period.Zone, n NewSubscription) (end time.Time, given bool, err error) {
	switch {
	case n.TrialDays != nil && !n.TrialEnd.IsZero():
		return end, false, &Invalid{"/trial_days", "and trial_end say the same thing", "leave one of them out"}
	case n.TrialDays != nil && (*n.TrialDays < 0 || *n.TrialDays > trialDaysMax):
		return end, false, &Invalid{"/trial_days", fmt.Sprintf("must be 0 to %d", trialDaysMax), "0 is no trial"}
	case n.TrialDays != nil && *n.TrialDays == 0:
		return start, true, nil
	case n.TrialDays != nil:
		return daysAfter(start, zone, *n.TrialDays), true, nil
	case n.TrialEnd.IsZero():
		return end, false, nil
	case n.TrialEnd.After(start.Add(trialDaysMax * 24 * time.Hour)):
		return end, false, &Invalid{"/trial_end", fmt.Sprintf("must be at most %d days after the start", trialDaysMax), "the start is " + period.Format(start)}
	}
	return period.Truncate(n.TrialEnd), true, nil
}

// versionOf is a catalog version; 0 is the newest.
func (s *Service) versionOf(ctx context.Context, v int64) (*catalog.Compiled, error) {
	current := s.Current()
	if v == 0 || v == current.Version {
		return current, nil
	}
	if v < 0 || v > current.Version {
		return nil, &Invalid{"/version", fmt.Sprintf("there is no catalog version %d", v), fmt.Sprintf("the newest is %d", current.Version)}
	}
	return s.Version(ctx, v)
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

// misplaced is a fault of core/subscription as the caller knows it: places are the pointers of changes, by id.
func misplaced(err error, places map[string]string) error {
	f, ok := errors.AsType[*subscription.Fault](err)
	if !ok {
		return err
	}
	pointer := f.Pointer
	if place, found := places[f.ChangeID]; found {
		pointer = place
	}
	return &Invalid{pointer, strings.TrimSuffix(f.Detail, "."), "`tally subscriptions timeline ID` shows what is so far"}
}

// loadSubscriptions reads all and derives what is in force when. What they need of catalogs must be there before the first request.
func (s *Service) loadSubscriptions(ctx context.Context) error {
	changes := map[string][]subscription.Change{}
	err := all(ctx, s.cfg.Records.ListChanges, func(c subscription.Change) string { return c.ID }, func(c subscription.Change) {
		changes[c.SubscriptionID] = append(changes[c.SubscriptionID], c)
	})
	if err != nil {
		return err
	}
	var list []account.Subscription
	err = all(ctx, s.cfg.Records.ListSubscriptions, func(x account.Subscription) string { return x.ID }, func(x account.Subscription) { list = append(list, x) })
	if err != nil {
		return err
	}
	for _, sub := range list {
		h := subscription.History{Subscription: sub, Changes: changes[sub.ID]}
		slices.SortFunc(h.Changes, func(a, b subscription.Change) int { return a.CreatedAt.Compare(b.CreatedAt) })
		segments, err := s.segments(ctx, h)
		if errors.Is(err, subscription.ErrInvalid) {
			return fmt.Errorf("subscription %s: %w: %w", sub.ID, store.ErrCorrupt, err)
		} else if err != nil {
			return fmt.Errorf("subscription %s: %w", sub.ID, err)
		}
		s.directory.putHistory(h, spellsOf(h.Subscription, segments))
	}
	return nil
}

// segments are those of a history in its customer's zone. subscription.ErrInvalid.
func (s *Service) segments(ctx context.Context, h subscription.History) ([]subscription.Segment, error) {
	customer, ok := s.directory.customer(h.CustomerID)
	if !ok {
		return nil, fmt.Errorf("a subscription belongs to customer %s, who is not there: %w", h.CustomerID, store.ErrCorrupt)
	}
	var failed error
	plans := subscription.Catalogs(func(v int64) *catalog.Catalog {
		if v < 1 || failed != nil {
			return nil
		}
		c, err := s.Version(ctx, v)
		if err != nil {
			failed = err
			return nil
		}
		return c.Catalog
	})
	list, err := h.Segments(customer.Zone, plans)
	if failed != nil {
		return nil, failed
	}
	return list, err
}

// cut splits the customer's rollups where segments begin and end, where earlier ones did not.
func (s *Service) cut(ctx context.Context, customerID string, before, after []subscription.Segment) error {
	known := map[time.Time]bool{{}: true}
	for _, g := range before {
		known[g.Start], known[g.End] = true, true
	}
	for _, g := range after {
		for _, at := range []time.Time{g.Start, g.End} {
			if known[at] {
				continue
			}
			if err := s.cfg.Journal.Cut(ctx, customerID, at); err != nil {
				return fmt.Errorf("split the usage where the subscription changes: %w", err)
			}
			known[at] = true
		}
	}
	return nil
}

// endOf is where a history ends; zero: it does not.
func endOf(h subscription.History, segments []subscription.Segment) time.Time {
	if len(segments) == 0 {
		return h.Start
	}
	return segments[len(segments)-1].End
}

// Subscription finds one by id, as it is now. account.ErrNotFound.
func (s *Service) Subscription(ctx context.Context, id string) (account.Subscription, error) {
	sub, err := s.cfg.Records.Subscription(ctx, id)
	if err != nil {
		return account.Subscription{}, absent("subscription", id, err)
	}
	return s.directory.asOf(sub, s.now()), nil
}

// ListSubscriptions pages through them, newest first, each as it is now. The query's CustomerID may be a customer's key.
func (s *Service) ListSubscriptions(ctx context.Context, q Query) ([]account.Subscription, error) {
	q, err := s.ofCustomer(q)
	if err != nil {
		return nil, err
	}
	list, err := s.cfg.Records.ListSubscriptions(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	now := s.now()
	for i := range list {
		list[i] = s.directory.asOf(list[i], now)
	}
	return list, nil
}

// SubscriptionsOf are a customer's, oldest first, each as it is now; from the directory.
func (s *Service) SubscriptionsOf(customerID string) []account.Subscription {
	histories, now := s.directory.historiesOf(customerID), s.now()
	out := make([]account.Subscription, len(histories))
	for i := range histories {
		out[i] = s.directory.asOf(histories[i].Subscription, now)
	}
	return out
}

// ActiveSubscription is the one in force at now, as it is then, paused or not; from the directory.
func (s *Service) ActiveSubscription(customerID string, now time.Time) (account.Subscription, bool) {
	return s.directory.activeSubscription(customerID, now)
}

// History is a subscription with all its changes; from the directory. Nobody changes the list.
func (s *Service) History(subscriptionID string) (subscription.History, bool) {
	return s.directory.history(subscriptionID)
}

// Segments are what follows from a history, stored or not. subscription.ErrInvalid.
func (s *Service) Segments(ctx context.Context, h subscription.History) ([]subscription.Segment, error) {
	return s.segments(ctx, h)
}

// UsageAt lists how usage is charged in the customer's billing period around an instant; nil without a subscription in force then.
func (s *Service) UsageAt(ctx context.Context, customerID string, at time.Time) ([]subscription.Span, error) {
	customer, ok := s.directory.customer(customerID)
	if !ok {
		return nil, nil
	}
	plans := subscription.Catalogs(func(v int64) *catalog.Catalog {
		c, err := s.Version(ctx, v)
		if err != nil {
			return nil
		}
		return c.Catalog
	})
	for _, h := range s.directory.historiesOf(customer.ID) {
		segments, err := s.segments(ctx, h)
		if err != nil {
			return nil, err
		}
		spans, err := subscription.UsageAt(segments, customer.Zone, plans, at)
		if len(spans) > 0 || err != nil {
			return spans, err
		}
	}
	return nil, nil
}
