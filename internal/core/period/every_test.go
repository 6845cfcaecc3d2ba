package period

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEvery(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"month": "month", "1 month": "month", "3 months": "quarter", "12 months": "year", "2 weeks": "2 weeks", "14 days": "2 weeks",
		"10 days": "10 days", "2 years": "2 years", "18 months": "6 quarters", "5 months": "5 months", "day": "day",
	} {
		if e, err := ParseEvery(in); err != nil || e.String() != want {
			t.Errorf("%q is %s, %v; want %s", in, e, err, want)
		}
	}
	for _, in := range []string{"", "months", "0 months", "-1 months", "1 months", "2 month", "02 months", "hour", "month ", "11 years", "9999999999999999999 days", "a year"} {
		if e, err := ParseEvery(in); err == nil {
			t.Errorf("%q was read as %s", in, e)
		}
	}
	if n, ok := MustEvery("year").Times(MustEvery("quarter")); n != 4 || !ok {
		t.Errorf("a year has %d quarters, %v", n, ok)
	}
	if _, ok := MustEvery("year").Times(MustEvery("week")); ok {
		t.Error("a year is made of weeks")
	}
	if (Every{}).String() != "month" || !(Every{}).Equal(EveryMonth()) || MustEvery("month").Shorter(Every{}) || !MustEvery("2 weeks").Shorter(Every{}) {
		t.Error("the zero interval is no month")
	}
}

// TestAnchorOtherIntervals compares a few periods with the calendar.
func TestAnchorOtherIntervals(t *testing.T) {
	t.Parallel()
	paris := MustZone("Europe/Paris")
	start := time.Date(2026, 3, 11, 14, 30, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		anchor     Anchor
		first      string // end of the first period
		second     string
		fullStarts string // of the first one
	}{
		"anniversary year":  {Anchor{Start: start, Day: 11, Zone: paris, Every: MustEvery("year")}, "2027-03-10T23:00:00Z", "2028-03-10T23:00:00Z", "2026-03-11T14:30:00Z"},
		"calendar year":     {Anchor{Start: start, Zone: paris, Every: MustEvery("year"), Calendar: true}, "2026-12-31T23:00:00Z", "2027-12-31T23:00:00Z", "2025-12-31T23:00:00Z"},
		"calendar quarter":  {Anchor{Start: start, Zone: paris, Every: MustEvery("quarter"), Calendar: true}, "2026-03-31T22:00:00Z", "2026-06-30T22:00:00Z", "2025-12-31T23:00:00Z"},
		"calendar month":    {Anchor{Start: start, Zone: paris, Calendar: true}, "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z", "2026-02-28T23:00:00Z"},
		"anniversary weeks": {Anchor{Start: start, Zone: paris, Every: MustEvery("2 weeks")}, "2026-03-24T23:00:00Z", "2026-04-07T22:00:00Z", "2026-03-11T14:30:00Z"},
		"calendar week":     {Anchor{Start: start, Zone: paris, Every: MustEvery("week"), Calendar: true}, "2026-03-15T23:00:00Z", "2026-03-22T23:00:00Z", "2026-03-08T23:00:00Z"},
		"day":               {Anchor{Start: start, Zone: paris, Every: MustEvery("day")}, "2026-03-11T23:00:00Z", "2026-03-12T23:00:00Z", "2026-03-11T14:30:00Z"},
		"another day":       {Anchor{Start: start, Day: 31, Zone: paris}, "2026-03-30T22:00:00Z", "2026-04-29T22:00:00Z", "2026-02-27T23:00:00Z"},
	} {
		p, _ := tt.anchor.Period(start)
		next, _ := tt.anchor.Period(p.End)
		if Format(p.Start) != Format(start) || Format(p.End) != tt.first || Format(next.End) != tt.second {
			t.Errorf("%s: %s to %s, then to %s", name, Format(p.Start), Format(p.End), Format(next.End))
		}
		if full := tt.anchor.Full(p); Format(full.Start) != tt.fullStarts || !full.End.Equal(p.End) {
			t.Errorf("%s: whole from %s to %s", name, Format(full.Start), Format(full.End))
		}
	}
}

// TestAnchorsNest: periods of a multiple begin where one of the shorter ones begins, and all tile time.
func TestAnchorsNest(t *testing.T) {
	t.Parallel()
	zones := []Zone{MustZone("UTC"), MustZone("Europe/Paris"), MustZone("America/New_York"), MustZone("Australia/Lord_Howe"), MustZone("Africa/Cairo")}
	rapid.Check(t, func(r *rapid.T) {
		short := rapid.SampledFrom([]string{"month", "day", "week", "quarter"}).Draw(r, "short")
		factor := rapid.IntRange(1, 4).Draw(r, "factor")
		unit := MustEvery(short)
		a := Anchor{
			Start: time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(r, "start")), Day: rapid.IntRange(1, 31).Draw(r, "day"),
			Zone: rapid.SampledFrom(zones).Draw(r, "zone"), Every: unit, Calendar: rapid.Bool().Draw(r, "calendar"),
		}
		long := a
		long.Every = Every{days: unit.days * factor, months: unit.months * factor}
		if n, ok := long.Every.Times(unit); n != factor || !ok {
			r.Fatalf("%s is %d times %s", long.Every, n, unit)
		}
		at := a.Start.Add(time.Duration(rapid.Int64Range(0, 3e8).Draw(r, "later")) * time.Second)
		p, ok := long.Period(at)
		if !ok || !p.Contains(at) || p.Empty() {
			r.Fatalf("period %v of %v", p, at)
		}
		inner, _ := a.Period(p.Start)
		if !inner.Start.Equal(p.Start) {
			r.Fatalf("%s begins at %v, inside %v", long.Every, p.Start, inner)
		}
		next, _ := long.Period(p.End)
		if !next.Start.Equal(p.End) || !a.Full(inner).Contains(inner.Start) {
			r.Fatalf("%v is followed by %v", p, next)
		}
	})
}

func TestDays(t *testing.T) {
	t.Parallel()
	paris := MustZone("Europe/Paris")
	month := Interval{paris.StartOfDay(2026, 3, 1), paris.StartOfDay(2026, 4, 1)} // has a day of 23 hours
	if n := paris.Days(month); n != 31 {
		t.Errorf("March has %d days", n)
	}
	if n := paris.Days(Interval{month.Start.Add(time.Hour), month.Start.Add(25 * time.Hour)}); n != 2 {
		t.Errorf("25 hours touch %d days", n)
	}
	if n := paris.Days(Interval{month.Start, month.Start}); n != 0 {
		t.Errorf("no time has %d days", n)
	}
}
