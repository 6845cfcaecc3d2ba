package period

import "time"

// Anchor places a subscription's billing periods: they begin at the first instant of a local day, the first one at Start
// itself. Of months that is day Day (1..31, clamped to the month's last day and coming back), counted from the month of
// Start; of days it is every so many days from the local day of Start.
type Anchor struct {
	Start time.Time
	Day   int
	Zone  Zone
	Every Every // zero: a month
	// Calendar counts from the calendar instead: years from January, quarters from January, April, July and October, weeks
	// from Monday. Months begin on the 1st then, whatever Day is.
	Calendar bool
}

// Period is the billing period that contains t; ok is false before Start.
func (a Anchor) Period(t time.Time) (p Interval, ok bool) {
	start := Truncate(a.Start)
	if t.Before(start) {
		return Interval{}, false
	}
	p = a.grid(t)
	if p.Start.Before(start) {
		p.Start = start
	}
	return p, true
}

// Equal reports whether a and b place the same periods.
func (a Anchor) Equal(b Anchor) bool {
	return a.Start.Equal(b.Start) && a.Day == b.Day && a.Zone.Equal(b.Zone) && a.Every.Equal(b.Every) && a.Calendar == b.Calendar
}

// Full is the whole period that p is, or is a part of: what a price is divided by when it is charged for a part. A first period
// that begins on the day on which periods begin is whole, whatever its hour.
func (a Anchor) Full(p Interval) Interval {
	full := a.grid(p.Start)
	start := Truncate(a.Start)
	if full.Contains(start) && sameDay(a.Zone, full.Start, start) {
		full.Start = start
	}
	return full
}

func sameDay(z Zone, a, b time.Time) bool {
	y, m, d := z.Date(a)
	y2, m2, d2 := z.Date(b)
	return y == y2 && m == m2 && d == d2
}

// grid is the period around t, as if there had always been some.
func (a Anchor) grid(t time.Time) Interval {
	every := a.Every.orMonth()
	n := a.index(t, every)
	if a.boundary(n, every).After(t) {
		n--
	}
	return Interval{a.boundary(n, every), a.boundary(n+1, every)}
}

// index is the number of the boundary whose month, or day, has t in its span; the boundary itself may lie after t.
func (a Anchor) index(t time.Time, every Every) int {
	y, m, d := a.Zone.Date(t)
	if every.days > 0 {
		return floorDiv(dayNumber(y, m, d)-a.origin(every), every.days)
	}
	return floorDiv(monthNumber(y, m)-a.origin(every), every.months)
}

// origin is the day or month that boundary 0 falls on, in days since 1970 or months since year 0.
func (a Anchor) origin(every Every) int {
	const monday = 4 // 5 January 1970
	y, m, d := a.Zone.Date(a.Start)
	switch {
	case every.days > 0 && a.Calendar && every.days%7 == 0:
		return monday
	case every.days > 0 && a.Calendar:
		return 0
	case every.days > 0:
		return dayNumber(y, m, d)
	case a.Calendar:
		return 0
	}
	month := monthNumber(y, m)
	if a.inMonth(y, m).After(a.Start) && !sameDay(a.Zone, a.inMonth(y, m), a.Start) {
		month-- // the period around Start began in the month before
	}
	return month
}

// boundary is where period n begins.
func (a Anchor) boundary(n int, every Every) time.Time {
	if every.days > 0 {
		return a.Zone.StartOfDay(1970, time.January, 1+a.origin(every)+n*every.days)
	}
	month := a.origin(every) + n*every.months
	return a.inMonth(floorDiv(month, 12), time.Month(month-12*floorDiv(month, 12)+1))
}

// inMonth is the first instant of the day in a month on which periods begin.
func (a Anchor) inMonth(y int, m time.Month) time.Time {
	day := a.Day
	if a.Calendar {
		day = 1
	}
	last := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC)
	return a.Zone.StartOfDay(last.Year(), last.Month(), min(max(day, 1), last.Day()))
}

func monthNumber(y int, m time.Month) int { return 12*y + int(m) - 1 }

func dayNumber(y int, m time.Month, d int) int {
	const daySeconds = 24 * 60 * 60
	return floorDiv(int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix()), daySeconds)
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
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

// Days counts the local days that an interval touches: what proration by days divides. It is 0 for an empty one.
func (z Zone) Days(i Interval) int {
	if i.Empty() {
		return 0
	}
	y, m, d := z.Date(i.Start)
	y2, m2, d2 := z.Date(i.End)
	days := dayNumber(y2, m2, d2) - dayNumber(y, m, d)
	if i.End.After(z.StartOfDay(y2, m2, d2)) {
		days++
	}
	return days
}
