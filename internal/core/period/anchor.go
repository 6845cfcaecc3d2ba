package period

import "time"

// Anchor places a subscription's monthly billing periods: they begin at the first instant of local day Day
// (1..31, clamped to the month's last day and coming back), the first one at Start itself.
type Anchor struct {
	Start time.Time
	Day   int
	Zone  Zone
}

// Period is the billing period that contains t; ok is false before Start.
func (a Anchor) Period(t time.Time) (p Interval, ok bool) {
	start := Truncate(a.Start)
	if t.Before(start) {
		return Interval{}, false
	}
	y, m, _ := a.Zone.Date(t)
	if a.boundary(y, m).After(t) {
		m--
	}
	p = Interval{a.boundary(y, m), a.boundary(y, m+1)}
	if p.Start.Before(start) {
		p.Start = start
	}
	return p, true
}

// boundary is where the period that begins in the given month begins. Months out of range carry over.
func (a Anchor) boundary(y int, m time.Month) time.Time {
	last := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC)
	return a.Zone.StartOfDay(last.Year(), last.Month(), min(max(a.Day, 1), last.Day()))
}

// Periods lists the billing periods from Start that began at or before until (at most limit, oldest first).
func (a Anchor) Periods(until time.Time, limit int) []Interval {
	var list []Interval
	next := a.Start
	for len(list) < limit {
		p, ok := a.Period(next)
		if !ok || p.Start.After(until) {
			break
		}
		list = append(list, p)
		next = p.End
	}
	return list
}
