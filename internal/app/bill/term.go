package bill

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// term is a subscription over time, as far as it was known at an instant, with its customer.
type term struct {
	account.Subscription // as it was made
	customer             account.Customer
	history              subscription.History
	segments             []subscription.Segment
	sold                 *sold
	imagined             []time.Time // when further changes take effect that nobody made
}

// sold finds what was sold, by catalog version. It keeps the first error: a version that can not be read is not one that lacks a plan.
type sold struct {
	ctx context.Context //nolint:containedctx // it lives as long as one call
	dir Directory
	err error
	// proposed is a catalog that takes the place of every version, for what it has.
	proposed *catalog.Compiled
}

func (s *sold) version(v int64) *catalog.Compiled {
	c, err := s.dir.Version(s.ctx, v)
	if err != nil {
		if s.err == nil {
			s.err = fmt.Errorf("catalog version %d: %w", v, err)
		}
		return nil
	}
	return c
}

// Plan implements subscription.Plans.
func (s *sold) Plan(version int64, key string) (catalog.Plan, bool) {
	if s.proposed != nil {
		if p, ok := s.proposed.Plan(key); ok {
			return p, true
		}
	}
	if c := s.version(version); c != nil {
		return c.Plan(key)
	}
	return catalog.Plan{}, false
}

// AddOn implements subscription.Plans.
func (s *sold) AddOn(version int64, key string) (catalog.AddOn, bool) {
	if s.proposed != nil {
		if a, ok := s.proposed.AddOn(key); ok {
			return a, true
		}
	}
	if c := s.version(version); c != nil {
		return c.AddOn(key)
	}
	return catalog.AddOn{}, false
}

// kind is how a meter aggregates; 0: no such meter.
func (s *sold) kind(version int64, key string) meter.Aggregation {
	if s.proposed != nil {
		if m, ok := s.proposed.Meter(key); ok {
			return m.Aggregation
		}
	}
	c := s.version(version)
	if c == nil {
		return 0
	}
	m, _ := c.Meter(key)
	return m.Aggregation
}

// term reads a subscription as it was known at an instant, with further changes that nobody made yet.
func (s *Service) term(ctx context.Context, subscriptionID string, customer account.Customer, known time.Time, further ...subscription.Change) (term, error) {
	return s.termAt(ctx, subscriptionID, customer, known, nil, further...)
}

// termAt is term at the prices of a catalog that is not applied; nil: at those that it has.
func (s *Service) termAt(ctx context.Context, subscriptionID string, customer account.Customer, known time.Time, proposed *catalog.Compiled, further ...subscription.Change) (term, error) {
	history, ok := s.cfg.Directory.History(subscriptionID)
	if !ok {
		return term{}, absent(fmt.Sprintf("there is no subscription %q", subscriptionID))
	}
	t := term{customer: customer, history: history, sold: &sold{ctx: ctx, dir: s.cfg.Directory, proposed: proposed}}
	t.Subscription = t.history.Subscription
	t.history.Changes = slices.DeleteFunc(slices.Clone(t.history.Changes), func(c subscription.Change) bool { return c.CreatedAt.After(known) })
	for _, c := range further {
		t.history.Changes = append(t.history.Changes, c)
		t.imagined = append(t.imagined, c.At, c.Until)
	}
	var err error
	if t.segments, err = t.history.Segments(customer.Zone, t.sold); t.sold.err != nil {
		err = t.sold.err
	}
	if err != nil {
		return term{}, fmt.Errorf("subscription %s: %w", subscriptionID, err)
	}
	return t, nil
}

// terms are a customer's as they are known now, oldest first.
func (s *Service) terms(ctx context.Context, customer account.Customer, known time.Time) ([]term, error) {
	var list []term
	for _, sub := range s.cfg.Directory.SubscriptionsOf(customer.ID) {
		t, err := s.term(ctx, sub.ID, customer, known)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

// active is the term in force; ok is false without one.
func (s *Service) active(ctx context.Context, customer account.Customer, now time.Time) (t term, ok bool, err error) {
	sub, ok := s.cfg.Directory.ActiveSubscription(customer.ID, now)
	if !ok {
		return term{}, false, nil
	}
	t, err = s.term(ctx, sub.ID, customer, now)
	return t, err == nil, err
}

// segment is the one that contains an instant; after the end it is the last one.
func (t *term) segment(at time.Time) *subscription.Segment {
	for i := range t.segments {
		if t.segments[i].Contains(at) || i == len(t.segments)-1 {
			return &t.segments[i]
		}
	}
	return nil
}

// plan is the one in force at an instant, or last.
func (t *term) plan(at time.Time) (catalog.Plan, int64, error) {
	g := t.segment(at)
	if g == nil {
		return catalog.Plan{}, 0, fmt.Errorf("subscription %s ends where it starts: %w", t.ID, account.ErrInvalid)
	}
	p, ok := t.sold.Plan(g.Version, g.Plan)
	if !ok {
		return catalog.Plan{}, 0, fmt.Errorf("subscription %s: catalog version %d has no plan %q", t.ID, g.Version, g.Plan)
	}
	return p, g.Version, nil
}

// period is the billing period that contains an instant; ok is false outside of the subscription.
func (t *term) period(at time.Time) (p period.Interval, ok bool) {
	list := t.periods(at)
	if len(list) == 0 || !list[len(list)-1].Contains(at) {
		return period.Interval{}, false
	}
	return list[len(list)-1], true
}

// periodsMax bounds the billing periods of one subscription: 40 years of days.
const periodsMax = 15_000

// periods lists the billing periods that began at or before until, oldest first, cut where the anchor changes and at the end.
func (t *term) periods(until time.Time) []period.Interval {
	var list []period.Interval
	for i := 0; i < len(t.segments); {
		span := t.segments[i].Interval
		next := i + 1
		for ; next < len(t.segments) && t.segments[next].Anchor.Equal(t.segments[i].Anchor); next++ {
			span.End = t.segments[next].End
		}
		for from := span.Start; span.Contains(from) && !from.After(until) && len(list) < periodsMax; {
			p, ok := t.segments[i].Anchor.Period(from)
			if !ok {
				break
			}
			if p.Start.Before(span.Start) {
				p.Start = span.Start
			}
			if !span.End.IsZero() && span.End.Before(p.End) {
				p.End = span.End
			}
			list = append(list, p)
			from = p.End
		}
		i = next
	}
	return list
}

// end is where the subscription ends as it is known; zero: open.
func (t *term) end() time.Time {
	if len(t.segments) == 0 {
		return t.Start
	}
	return t.segments[len(t.segments)-1].End
}

// next is the first closing after another one (nil: the first of all): the next that follows from the history, or one for decisions
// that came after their time was closed, and bill at once or are about a subscription that has ended.
func (t *term) next(last *closing) (in period.Interval, due time.Time, ok bool) {
	var after time.Time
	if last != nil {
		after = last.in.End
	}
	if list := subscription.Closings(t.segments, after, t.reach(after), 1); len(list) > 0 {
		in, due, ok = list[0], list[0].End, true
	}
	if last == nil || len(t.history.Changes) <= last.changes {
		return in, due, ok
	}
	ended := !t.end().IsZero() && !t.end().After(after)
	var decided time.Time
	for _, c := range t.decided()[last.changes:] {
		if c.Now && !c.At.After(after) || ended {
			decided = c.CreatedAt
		}
	}
	if decided.IsZero() {
		return in, due, ok
	}
	at := decided
	if due = at; !at.After(after) {
		at, due = after, after
		if last.in.Empty() { // there is one of that instant
			at = after.Add(time.Microsecond)
		}
	}
	if ok && !in.End.After(at) {
		return in, in.End, true
	}
	return period.Interval{Start: at, End: at}, due, true
}

// decided are the changes in the order of their decision.
func (t *term) decided() []subscription.Change {
	list := slices.Clone(t.history.Changes)
	slices.SortStableFunc(list, func(a, b subscription.Change) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// reach is up to where a subscription's next closing after an instant is looked for: the end of the period then.
func (t *term) reach(after time.Time) time.Time {
	if after.Before(t.Start) {
		return t.Start
	}
	if p, ok := t.period(after); ok {
		return p.End
	}
	return after
}
