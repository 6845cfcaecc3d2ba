package period

import "time"

// Recurrence is the instants Anchor + k × Every for all whole k, those below 0 too, at Anchor's time of day on the clock of Zone.
// A day that a month does not have is its last day, and comes back (31 Jan, 28 Feb, 31 Mar); a time that the clock skips is the
// first instant after it, one that comes twice the first.
type Recurrence struct {
	Anchor time.Time
	Every  Every
	Zone   Zone
}

// Next is the first of the instants after t.
func (r Recurrence) Next(t time.Time) time.Time {
	every := r.Every.orMonth()
	y, m, d := t.In(r.Zone.Location()).Date()
	y0, m0, d0 := r.Anchor.In(r.Zone.Location()).Date()
	k := floorDiv(dayNumber(y, m, d)-dayNumber(y0, m0, d0), max(every.days, 1))
	if every.months > 0 {
		k = floorDiv(monthNumber(y, m)-monthNumber(y0, m0), every.months)
	}
	for r.at(k-1, every).After(t) {
		k--
	}
	for !r.at(k, every).After(t) {
		k++
	}
	return r.at(k, every)
}

// at is instant k.
func (r Recurrence) at(k int, every Every) time.Time {
	if k == 0 {
		return r.Anchor.UTC() // also in an hour that comes twice
	}
	local := r.Anchor.In(r.Zone.Location())
	y, m, d := local.Date()
	if every.months > 0 {
		last := time.Date(y, m+time.Month(k*every.months)+1, 0, 0, 0, 0, 0, time.UTC)
		y, m, d = last.Year(), last.Month(), min(d, last.Day())
	} else {
		d += k * every.days
	}
	return r.Zone.startOf(time.Date(y, m, d, local.Hour(), local.Minute(), local.Second(), local.Nanosecond(), time.UTC))
}
