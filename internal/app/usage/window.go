package usage

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Window is the length of the windows of an answer.
type Window uint8

// The windows. All but Quarter follow the local clock of a zone; none crosses a bound of the journal's 15-minute grid.
const (
	Quarter Window = iota + 1 // of an hour
	Hour
	Day
	Week // starts on Monday
	Month
	BillingPeriod // of the customer's subscription, in the customer's zone
)

// WindowNames are the words of ParseWindow.
const WindowNames = "15m, hour, day, week, month or billing_period"

// ParseWindow reads 15m, hour, day, week, month or billing_period; "" is none. Anything else is an Invalid.
func ParseWindow(s string) (Window, error) {
	switch s {
	case "":
		return 0, nil
	case "15m":
		return Quarter, nil
	}
	w, err := period.ParseWindow(s)
	if err != nil || w > period.BillingPeriod { // quarters and years of the calendar are for limits
		return 0, &Invalid{"/window", "must be " + WindowNames, "leave it out for one figure of the whole time"}
	}
	return Window(w) + Quarter, nil
}

// Containing is the window around t, in UTC; sub is for BillingPeriod alone, which ends where sub does. ok is false for a time
// outside of sub, and for no window.
func (w Window) Containing(t time.Time, z period.Zone, sub account.Subscription) (i period.Interval, ok bool) {
	switch w {
	case Quarter:
		start := period.BucketStart(t)
		return period.Interval{Start: start, End: start.Add(period.BucketLength)}, true
	case BillingPeriod:
		if !sub.Active(t) {
			return period.Interval{}, false
		}
		i, ok = sub.Anchor(z).Period(t)
		return clip(i, period.Interval{End: sub.End}), ok
	case Hour, Day, Week, Month:
		return period.Window(w-Quarter).Containing(t, z, period.Anchor{})
	}
	return period.Interval{}, false
}

// clip is the part of i that lies inside to.
func clip(i, to period.Interval) period.Interval {
	if i.Start.Before(to.Start) {
		i.Start = to.Start
	}
	if !to.End.IsZero() && (i.End.IsZero() || i.End.After(to.End)) {
		i.End = to.End
	}
	return i
}

// window is the plan's window around t for a customer, not clipped.
func (s *Service) window(p *plan, c account.Customer, t time.Time) (period.Interval, error) {
	var sub account.Subscription
	zone, ok := p.zone, true
	if p.Window == BillingPeriod {
		sub, ok = s.cfg.Directory.ActiveSubscription(c.ID, t)
		zone = c.Zone
	}
	var in period.Interval
	if ok {
		in, ok = p.Window.Containing(t, zone, sub)
	}
	if ok && p.Window == BillingPeriod {
		in.End = s.restart(c.ID, t, in.End)
	}
	if !ok {
		return in, &Invalid{"/window", "must be another one: there is usage outside of all billing periods", "ask for days, or for a time within the subscription"}
	}
	return in, nil
}

// restart is end, or the first instant after t at which billing periods begin anew, if that is before it.
func (s *Service) restart(customerID string, t, end time.Time) time.Time {
	for {
		last, ok := s.cfg.Directory.ActiveSubscription(customerID, end.Add(-time.Microsecond))
		if !ok || !last.AnchorAt.After(t) || !last.AnchorAt.Before(end) {
			return end
		}
		end = last.AnchorAt
	}
}

// tiles are all windows of the plan's time, clipped; the time between subscriptions is in none.
func (s *Service) tiles(p *plan, c account.Customer) ([]period.Interval, error) {
	var out []period.Interval
	for t := p.In.Start; t.Before(p.In.End); {
		if p.Window == BillingPeriod {
			next, ok := s.subscribed(c.ID, t)
			if !ok || !next.Before(p.In.End) {
				break
			}
			t = next
		}
		w, err := s.window(p, c, t)
		if err != nil {
			return nil, err
		}
		if len(out) == MaxWindows {
			return nil, tooManyWindows()
		}
		out = append(out, clip(w, p.In))
		t = w.End
	}
	return out, nil
}

// subscribed is the first instant from t on at which the customer has a subscription.
func (s *Service) subscribed(customerID string, t time.Time) (first time.Time, ok bool) {
	for _, sub := range s.cfg.Directory.SubscriptionsOf(customerID) {
		switch {
		case sub.Active(t):
			return t, true
		case sub.Start.After(t) && (!ok || sub.Start.Before(first)):
			first, ok = sub.Start, true
		}
	}
	return first, ok
}

func tooManyWindows() error {
	return &Invalid{"/window", fmt.Sprintf("would make more than %d windows", MaxWindows), "ask for a shorter time, longer windows, or fewer items by limit"}
}
