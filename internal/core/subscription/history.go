package subscription

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Plans finds what is sold, by catalog version and key.
type Plans interface {
	Plan(version int64, key string) (catalog.Plan, bool)
	AddOn(version int64, key string) (catalog.AddOn, bool)
}

// Catalogs are Plans out of whole catalogs; nil is a version that there is none of.
type Catalogs func(version int64) *catalog.Catalog

// Plan finds a plan.
func (c Catalogs) Plan(version int64, key string) (catalog.Plan, bool) {
	if found := c(version); found != nil {
		return found.Plan(key)
	}
	return catalog.Plan{}, false
}

// AddOn finds an add-on.
func (c Catalogs) AddOn(version int64, key string) (catalog.AddOn, bool) {
	if found := c(version); found != nil {
		return found.AddOn(key)
	}
	return catalog.AddOn{}, false
}

// Segments are the spans that follow from the history. They tile [Start, End), the last one is without end where no end is
// known, and no two neighbours are alike. A subscription that ends where it starts has none.
//
// A change that cannot be is ErrInvalid, as a *Fault, but for one whose ground was taken away by a later decision that takes
// effect earlier, such as a scheduled change after a cancellation: it does nothing.
func (h History) Segments(zone period.Zone, plans Plans) ([]Segment, error) {
	changes := slices.Clone(h.Changes)
	slices.SortStableFunc(changes, func(a, b Change) int {
		return cmp.Or(a.At.Compare(b.At), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	r, err := newReplay(h.Subscription, zone, plans)
	if err != nil {
		return nil, err
	}
	if err := r.setEnd(changes); err != nil {
		return nil, err
	}
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && changes[n].At.Equal(changes[0].At) {
			n++
		}
		if err := r.step(changes[:n]); err != nil {
			return nil, err
		}
		changes = changes[n:]
	}
	r.advance(time.Time{})
	return r.segments, nil
}

// At is the subscription as of t: the plan, prices and anchor in force, and the end as it is known. ok is false outside of
// [Start, End), and for a history that cannot be.
func (h History) At(t time.Time, zone period.Zone, plans Plans) (s account.Subscription, ok bool) {
	segments, err := h.Segments(zone, plans)
	if err != nil {
		return h.Subscription, false
	}
	return AsOf(h.Subscription, segments, t)
}

// AsOf is History.At for segments that are known already.
func AsOf(s account.Subscription, segments []Segment, t time.Time) (as account.Subscription, ok bool) {
	if len(segments) == 0 {
		s.End = s.Start
		return s, false
	}
	s.End = segments[len(segments)-1].End
	for i := range segments {
		if segments[i].Trial {
			s.TrialEnd = segments[i].End
		}
	}
	i := find(segments, t)
	if i < 0 {
		return s, false
	}
	g := &segments[i]
	s.Plan, s.CatalogVersion, s.Paused = g.Plan, g.Version, g.Paused
	s.AnchorAt, s.BillingDay, s.Every, s.Calendar = g.Anchor.Start, g.Anchor.Day, g.Anchor.Every, g.Anchor.Calendar
	if first := pricedFrom(segments, i); first > 0 {
		s.PricedAt = segments[first].Start
	}
	return s, true
}

// find is the index of the segment that contains t, or -1.
func find(segments []Segment, t time.Time) int {
	return slices.IndexFunc(segments, func(g Segment) bool { return g.Contains(t) })
}

// replay goes through a history in the order of time.
type replay struct {
	zone     period.Zone
	plans    Plans
	currency money.Currency
	start    time.Time
	end      time.Time // zero: open
	endedBy  time.Time // CreatedAt of the cancellation that end is from
	trialEnd time.Time // zero: no trial, or it is over

	now      state
	from     time.Time // where now began, and is not in segments yet
	billed   bool      // a change at from bills at once
	decided  time.Time // the latest CreatedAt of the changes so far
	segments []Segment
}

func newReplay(s account.Subscription, zone period.Zone, plans Plans) (*replay, error) {
	plan, ok := plans.Plan(s.CatalogVersion, s.Plan)
	if !ok {
		return nil, &Fault{Pointer: "/plan", Detail: fmt.Sprintf("Version %d has no plan %q.", s.CatalogVersion, s.Plan)}
	}
	r := &replay{zone: zone, plans: plans, currency: plan.Currency, start: period.Truncate(s.Start)}
	s.Every, s.Calendar = plan.Interval(), plan.Terms.Calendar
	r.from = r.start
	r.now = state{plan: plan, version: s.CatalogVersion, anchor: s.Anchor(zone)}
	if plan.Terms.TrialDays > 0 {
		y, m, d := zone.Date(r.start)
		r.trialEnd = zone.StartOfDay(y, m, d+plan.Terms.TrialDays)
		r.now.trial = true
	}
	if !s.End.IsZero() {
		r.end = period.Truncate(s.End)
	}
	return r, nil
}

// setEnd goes through the cancellations in the order in which they were decided: the last one that was not taken back holds.
func (r *replay) setEnd(changes []Change) error {
	var ends []Change
	for _, c := range changes {
		if c.Kind == Cancel || c.Kind == Revive {
			ends = append(ends, c)
		}
	}
	slices.SortStableFunc(ends, func(a, b Change) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, c := range ends {
		switch {
		case c.At.Before(r.start):
			return fault(c, "/at", "The subscription starts at %s only.", period.Format(r.start))
		case !r.end.IsZero() && c.Kind == Cancel && !c.CreatedAt.Before(r.end) && c.At.After(r.end):
			return fault(c, "/at", "The subscription ended at %s.", period.Format(r.end))
		case c.Kind == Cancel:
			r.end, r.endedBy = period.Truncate(c.At), c.CreatedAt
		case r.end.IsZero():
			return fault(c, "/at", "The subscription was not canceled.")
		case !c.At.Before(r.end):
			return fault(c, "/at", "The subscription ended at %s.", period.Format(r.end))
		default:
			r.end, r.endedBy = time.Time{}, time.Time{}
		}
	}
	return nil
}

// step applies the changes of one instant, which are in the order of their decision.
func (r *replay) step(changes []Change) error {
	at := period.Truncate(changes[0].At)
	if at.Before(r.start) {
		return fault(changes[0], "/at", "The subscription starts at %s only.", period.Format(r.start))
	}
	if !r.end.IsZero() && !at.Before(r.end) {
		for _, c := range changes {
			if c.Kind != Cancel && c.Kind != Revive && !c.CreatedAt.Before(r.endedBy) {
				return fault(c, "/at", "The subscription ends at %s.", period.Format(r.end))
			}
		}
		return nil
	}
	r.advance(at)
	before, billed := r.now, false
	r.now = r.now.clone()
	for _, c := range changes {
		if err := r.apply(c); err != nil {
			if !c.CreatedAt.Before(r.decided) {
				return err
			}
			continue // it was valid when it was made
		}
		billed = billed || c.Now
		if c.CreatedAt.After(r.decided) {
			r.decided = c.CreatedAt
		}
	}
	r.settle(at, before)
	r.billed = r.billed || billed
	return nil
}

// settle moves the anchor where the changes at at have made that necessary.
func (r *replay) settle(at time.Time, before state) {
	every, calendar := r.now.plan.Interval(), r.now.plan.Terms.Calendar
	if !every.Equal(before.anchor.Every) || calendar != before.anchor.Calendar {
		r.restart(at, every, calendar)
	}
	if !r.trialEnd.IsZero() && !r.trialEnd.After(at) {
		r.endTrial(at)
	}
}

func (r *replay) restart(at time.Time, every period.Every, calendar bool) {
	_, _, day := r.zone.Date(at)
	r.now.anchor = period.Anchor{Start: at, Day: day, Zone: r.zone, Every: every, Calendar: calendar}
}

func (r *replay) endTrial(at time.Time) {
	r.trialEnd, r.now.trial = time.Time{}, false
	if !r.now.anchor.Calendar && at.After(r.start) {
		r.restart(at, r.now.anchor.Every, false)
	}
}

// advance closes the segment up to at, and the one up to the end of a trial before it. The zero at is the end.
func (r *replay) advance(at time.Time) {
	if at.IsZero() || (!r.end.IsZero() && at.After(r.end)) {
		at = r.end
	}
	if over := r.trialEnd; !over.IsZero() && (at.IsZero() || over.Before(at)) {
		r.emit(over)
		r.endTrial(over)
	}
	r.emit(at)
}

// emit writes the span from from to at down, if it is one; the zero at is without end.
func (r *replay) emit(at time.Time) {
	if !at.IsZero() && !r.from.Before(at) {
		return
	}
	g := r.now.segment(period.Interval{Start: r.from, End: at})
	g.Now = r.billed
	if last := len(r.segments) - 1; last >= 0 && r.segments[last].like(&g) {
		r.segments[last].End = at
	} else {
		r.segments = append(r.segments, g)
	}
	r.from, r.billed = at, false
}
