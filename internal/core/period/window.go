package period

import (
	"fmt"
	"time"
)

// Window is a kind of calendar window.
type Window uint8

// The windows that a limit or a report can have. All follow the local clock of a zone.
const (
	Hour Window = iota + 1
	Day
	Week // starts on Monday
	Month
	BillingPeriod // placed by an Anchor
	Quarter       // of the calendar year: begins in January, April, July, October
	Year
)

// Windows are all kinds, the calendar's from the shortest to the longest and the billing period last.
func Windows() []Window { return []Window{Hour, Day, Week, Month, Quarter, Year, BillingPeriod} }

// ParseWindow reads hour, day, week, month, quarter, year or billing_period; anything else is ErrWindow.
func ParseWindow(s string) (Window, error) {
	for w := Hour; w <= Year; w++ {
		if s == w.String() {
			return w, nil
		}
	}
	if len(s) > 32 {
		s = s[:32] + "…"
	}
	return 0, fmt.Errorf("%w: %q is none of hour, day, week, month, quarter, year, billing_period", ErrWindow, s)
}

// String is the word of ParseWindow.
func (w Window) String() string {
	switch w {
	case Hour:
		return "hour"
	case Day:
		return "day"
	case Week:
		return "week"
	case Month:
		return "month"
	case BillingPeriod:
		return "billing_period"
	case Quarter:
		return "quarter"
	case Year:
		return "year"
	}
	return fmt.Sprintf("Window(%d)", uint8(w))
}

// MarshalText is String; a Window that is none is ErrWindow.
func (w Window) MarshalText() ([]byte, error) {
	if w < Hour || w > Year {
		return nil, fmt.Errorf("%w: %d", ErrWindow, uint8(w))
	}
	return []byte(w.String()), nil
}

// UnmarshalText is ParseWindow. On an error w stays as it was.
func (w *Window) UnmarshalText(b []byte) error {
	v, err := ParseWindow(string(b))
	if err != nil {
		return err
	}
	*w = v
	return nil
}

// Containing is the window around t in zone z, in UTC; for BillingPeriod the anchor decides, and its zone. Windows of
// one kind tile time without gap or overlap, DST changes included. ok is false only for BillingPeriod before the
// anchor's start and for a Window that is none.
func (w Window) Containing(t time.Time, z Zone, a Anchor) (i Interval, ok bool) {
	y, m, d := 0, time.Month(0), 0
	if w != Hour && w != BillingPeriod {
		y, m, d = z.Date(t)
	}
	switch w {
	case Hour:
		return z.hour(t), true
	case Day:
		return Interval{z.StartOfDay(y, m, d), z.StartOfDay(y, m, d+1)}, true
	case Week:
		monday := d - (int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Weekday())+6)%7
		return Interval{z.StartOfDay(y, m, monday), z.StartOfDay(y, m, monday+7)}, true
	case Month:
		return Interval{z.StartOfDay(y, m, 1), z.StartOfDay(y, m+1, 1)}, true
	case Quarter:
		first := m - (m-1)%3
		return Interval{z.StartOfDay(y, first, 1), z.StartOfDay(y, first+3, 1)}, true
	case Year:
		return Interval{z.StartOfDay(y, 1, 1), z.StartOfDay(y+1, 1, 1)}, true
	case BillingPeriod:
		return a.Period(t)
	}
	return Interval{}, false
}

// hour is the hour of the local clock around t. Where the clock is set, one hour ends and the next begins, so that an
// hour that runs twice is two windows.
func (z Zone) hour(t time.Time) Interval {
	offset := z.offset(t)
	start := t.UTC().Add(offset).Truncate(time.Hour).Add(-offset)
	end := start.Add(time.Hour)
	for at := start; ; {
		next, ok := z.steadyUntil(at)
		if !ok || !next.Before(end) {
			return Interval{start, end}
		}
		switch changed := z.offset(next) != z.offset(at); {
		case changed && next.After(t):
			return Interval{start, next}
		case changed:
			start = next
		}
		at = next
	}
}
