package period

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// nastyZones have skipped and doubled midnights, half hours of DST, skipped days, clocks set back into yesterday.
func nastyZones() []string {
	return []string{
		"UTC", "Europe/Paris", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Pacific/Apia",
		"America/Sao_Paulo", "Africa/Cairo", "Asia/Kathmandu", "America/Goose_Bay", "Europe/Dublin", "America/Nuuk",
		"Africa/Casablanca", "Asia/Gaza", "Antarctica/Troll", "Pacific/Kwajalein",
	}
}

func windows() []Window { return []Window{Hour, Day, Week, Month, BillingPeriod, Quarter, Year} }

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// model is the naive reading of the rules: it walks minute by minute, keeps the latest local date seen, and numbers the
// window of each minute.
type model struct {
	anchor int       // day of the month
	day    time.Time // latest local date so far, written as if in UTC
	now    [Year + 1]int64
}

func (m *model) step(local time.Time) {
	_, offset := local.Zone()
	const past = 3600 * 1_000_000 // keeps the sum above 0, where division is the floor
	m.now[Hour] = (local.Unix()+int64(offset)+past)/3600*1_000_000 + int64(offset)
	y, mon, d := local.Date()
	day := time.Date(y, mon, d, 0, 0, 0, 0, time.UTC)
	if !day.After(m.day) {
		return
	}
	m.day = day
	m.now[Day] = day.Unix()
	year, week := day.ISOWeek()
	m.now[Week] = int64(year*100 + week)
	m.now[Month] = int64(y*12) + int64(mon)
	m.now[Quarter] = int64(y*4) + int64(mon-1)/3
	m.now[Year] = int64(y)
	m.now[BillingPeriod] = m.now[Month]
	if last := time.Date(y, mon+1, 0, 0, 0, 0, 0, time.UTC).Day(); d < min(m.anchor, last) {
		m.now[BillingPeriod]--
	}
}

func TestWindowsAgainstMinutes(t *testing.T) {
	t.Parallel()
	spans := []struct {
		zone, from, to string
	}{
		{"Europe/Paris", "2024-01-20", "2024-04-08"},
		{"Europe/Paris", "2024-10-20", "2024-11-05"},
		{"America/New_York", "2023-10-25", "2023-12-10"},
		{"America/Havana", "2024-03-01", "2024-03-20"},
		{"America/Havana", "2024-10-28", "2024-11-12"},
		{"Australia/Lord_Howe", "2024-04-01", "2024-04-15"},
		{"Australia/Lord_Howe", "2024-09-28", "2024-10-14"},
		{"Pacific/Apia", "2011-12-20", "2012-02-05"},
		{"America/Sao_Paulo", "2018-02-10", "2018-03-04"},
		{"America/Sao_Paulo", "2018-10-25", "2018-11-12"},
		{"Africa/Cairo", "2024-04-20", "2024-05-06"},
		{"Africa/Cairo", "2024-10-25", "2024-11-12"},
		{"Asia/Kathmandu", "2024-01-20", "2024-03-05"},
		{"Asia/Kathmandu", "1985-12-20", "1986-01-10"},
		{"America/Goose_Bay", "2010-03-05", "2010-03-20"},
		{"America/Goose_Bay", "2010-10-30", "2010-11-20"},
		{"America/Goose_Bay", "1987-10-20", "1987-11-03"},
		{"Europe/Dublin", "2024-10-20", "2024-11-05"},
		{"America/Nuuk", "2024-10-20", "2024-11-05"},
		{"Antarctica/Troll", "2024-03-20", "2024-04-05"},
		{"Pacific/Kwajalein", "1993-08-10", "1993-09-05"},
		{"Pacific/Kwajalein", "1969-09-20", "1969-10-10"},
		{"America/New_York", "2023-12-25", "2025-01-05"}, // a leap year with its quarters
		{"Pacific/Apia", "2010-12-25", "2012-01-05"},     // a year without its last day but one
	}
	for _, span := range spans {
		t.Run(span.zone+" "+span.from, func(t *testing.T) {
			t.Parallel()
			z := MustZone(span.zone)
			from, to := at(span.from+"T00:00:00Z"), at(span.to+"T00:00:00Z")
			for _, day := range []int{1, 15, 31} {
				m := model{anchor: day}
				m.step(from.In(z.Location()))
				last := m.now
				a := Anchor{Start: from.AddDate(-1, 0, 0), Day: day, Zone: z}
				began := map[Window]time.Time{} // where the current window began, once that was seen
				for at := from; at.Before(to); at = at.Add(time.Minute) {
					m.step(at.In(z.Location()))
					if m.now == last {
						continue
					}
					for _, w := range windows() {
						if m.now[w] == last[w] {
							continue
						}
						if start, ok := began[w]; ok {
							checkWindow(t, w, z, a, Interval{start, at})
						}
						began[w] = at
					}
					last = m.now
				}
				if len(began) < 2 {
					t.Errorf("only %v seen", began)
				}
			}
		})
	}
}

// checkWindow holds that every part of want lies in want.
func checkWindow(t *testing.T, w Window, z Zone, a Anchor, want Interval) {
	t.Helper()
	for _, at := range []time.Time{
		want.Start, want.Start.Add(want.End.Sub(want.Start) / 2), want.End.Add(-time.Microsecond), want.End.Add(-time.Nanosecond),
	} {
		got, ok := w.Containing(at, z, a)
		if !ok || got != want {
			t.Errorf("%s in %s around %s: %v, %v; want %v", w, z, Format(at), got, ok, want)
		}
	}
}

func TestWindowsTile(t *testing.T) {
	t.Parallel()
	zones := map[string]Zone{}
	names := append(nastyZones(), "America/Juneau", "Asia/Manila", "Africa/Monrovia", "America/Scoresbysund", "Factory")
	for _, name := range names {
		zones[name] = MustZone(name)
	}
	// Half of the instants are near a change of some zone, where things go wrong.
	instants := rapid.Custom(func(t *rapid.T) time.Time {
		sec := rapid.Int64Range(at("1840-01-01T00:00:00Z").Unix(), at("2100-01-01T00:00:00Z").Unix()).Draw(t, "second")
		at := time.Unix(sec, rapid.Int64Range(0, 1e9-1).Draw(t, "nanosecond"))
		if zone := rapid.SampledFrom(append([]string{""}, names...)).Draw(t, "near"); zone != "" {
			if _, end := at.In(zones[zone].Location()).ZoneBounds(); !end.IsZero() {
				return end.Add(time.Duration(rapid.Int64Range(int64(-26*time.Hour), int64(26*time.Hour)).Draw(t, "off")))
			}
		}
		return at
	})
	rapid.Check(t, func(t *rapid.T) {
		z := zones[rapid.SampledFrom(names).Draw(t, "zone")]
		a := Anchor{Start: instants.Draw(t, "start"), Day: rapid.IntRange(1, 31).Draw(t, "day"), Zone: z}
		at := instants.Draw(t, "t")
		for _, w := range windows() {
			i, ok := w.Containing(at, z, a)
			if !ok {
				if w != BillingPeriod || !at.Before(Truncate(a.Start)) {
					t.Fatalf("%s: no window around %v", w, at)
				}
				continue
			}
			if !i.Contains(at) || i.Empty() || i.Start.Location() != time.UTC || i.End.Location() != time.UTC {
				t.Fatalf("%s: %v around %v", w, i, at)
			}
			if again, _ := w.Containing(i.Start, z, a); again != i {
				t.Fatalf("%s: %v from its start is %v", w, i, again)
			}
			if next, _ := w.Containing(i.End, z, a); next.Start != i.End {
				t.Fatalf("%s: %v is followed by %v", w, i, next)
			}
			before, ok := w.Containing(i.Start.Add(-1), z, a)
			if w == BillingPeriod && i.Start.Equal(Truncate(a.Start)) {
				if ok {
					t.Fatalf("%v before the first period", before)
				}
			} else if !ok || before.End != i.Start {
				t.Fatalf("%s: %v is preceded by %v", w, i, before)
			}
		}
	})
}

func TestHours(t *testing.T) {
	t.Parallel()
	tests := []struct {
		zone, from string
		want       []string // starts in local time
	}{
		{"America/New_York", "2024-03-10T06:00:00Z", []string{"01:00 -0500", "03:00 -0400", "04:00 -0400"}},
		{"America/New_York", "2024-11-03T05:00:00Z", []string{"01:00 -0400", "01:00 -0500", "02:00 -0500"}},
		{"Australia/Lord_Howe", "2024-04-06T14:00:00Z", []string{"01:00 +1100", "01:30 +1030", "02:00 +1030"}},
		{"Australia/Lord_Howe", "2024-10-05T14:30:00Z", []string{"01:00 +1030", "02:30 +1100", "03:00 +1100"}},
		{"America/Goose_Bay", "2010-11-07T02:00:00Z", []string{"23:00 -0300", "00:00 -0300", "23:01 -0400", "00:00 -0400"}},
		{"Asia/Kathmandu", "2025-01-01T00:20:00Z", []string{"06:00 +0545", "07:00 +0545"}},
	}
	for _, tt := range tests {
		z := MustZone(tt.zone)
		var got []string
		next := at(tt.from)
		for range tt.want {
			i, _ := Hour.Containing(next, z, Anchor{})
			got = append(got, i.Start.In(z.Location()).Format("15:04 -0700"))
			next = i.End
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.zone, diff)
		}
	}
}

// Goose Bay, 2010-11-07: at 00:01 the clock went back to 23:01. The new day had begun and goes on.
func TestMinutesRunAgainBelongToTheNewDay(t *testing.T) {
	t.Parallel()
	z := MustZone("America/Goose_Bay")
	again := at("2010-11-07T03:30:00Z")
	if clock := again.In(z.Location()).Format(time.DateTime); clock != "2010-11-06 23:30:00" {
		t.Fatalf("the clock shows %s", clock)
	}
	if y, m, d := z.Date(again); y != 2010 || m != 11 || d != 7 {
		t.Errorf("date %d-%d-%d", y, m, d)
	}
	got, _ := Day.Containing(again, z, Anchor{})
	if want := (Interval{at("2010-11-07T03:00:00Z"), at("2010-11-08T04:00:00Z")}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBillingPeriods(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		anchor Anchor
		until  string
		max    int
		want   []string // starts, and the last end
	}{
		{
			"31 clamps and comes back",
			Anchor{Start: at("2024-01-31T00:00:00Z"), Day: 31, Zone: MustZone("UTC")},
			"2024-05-31T00:00:00Z", 100,
			[]string{"2024-01-31T00:00:00Z", "2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z", "2024-04-30T00:00:00Z", "2024-05-31T00:00:00Z", "2024-06-30T00:00:00Z"},
		},
		{
			"starts in the middle of a day",
			Anchor{Start: at("2025-01-10T10:37:12.5Z"), Day: 10, Zone: MustZone("Europe/Paris")},
			"2025-03-01T00:00:00Z", 100,
			[]string{"2025-01-10T10:37:12.5Z", "2025-02-09T23:00:00Z", "2025-03-09T23:00:00Z"},
		},
		{
			"a short first period",
			Anchor{Start: at("2025-02-27T12:00:00Z"), Day: 31, Zone: MustZone("UTC")},
			"2025-03-01T00:00:00Z", 100,
			[]string{"2025-02-27T12:00:00Z", "2025-02-28T00:00:00Z", "2025-03-31T00:00:00Z"},
		},
		{
			"across the year, in summer time",
			Anchor{Start: at("2024-12-15T08:00:00Z"), Day: 1, Zone: MustZone("Australia/Lord_Howe")},
			"2025-01-31T00:00:00Z", 100,
			[]string{"2024-12-15T08:00:00Z", "2024-12-31T13:00:00Z", "2025-01-31T13:00:00Z"},
		},
		{
			"its day was skipped",
			Anchor{Start: at("2011-12-01T00:00:00Z"), Day: 30, Zone: MustZone("Pacific/Apia")},
			"2011-12-30T10:00:00Z", 100,
			[]string{"2011-12-01T00:00:00Z", "2011-12-30T10:00:00Z", "2012-01-29T10:00:00Z"},
		},
		{
			"no more than asked for",
			Anchor{Start: at("2025-01-01T00:00:00Z"), Day: 1, Zone: MustZone("UTC")},
			"2035-01-01T00:00:00Z", 2,
			[]string{"2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z", "2025-03-01T00:00:00Z"},
		},
		{"before the start", Anchor{Start: at("2025-01-01T00:00:00Z"), Day: 1, Zone: MustZone("UTC")}, "2024-12-31T23:59:59Z", 9, nil},
		{"days out of range are clamped", Anchor{Start: at("2025-01-02T00:00:00Z")}, "2025-01-03T00:00:00Z", 9, []string{"2025-01-02T00:00:00Z", "2025-02-01T00:00:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			list := tt.anchor.Periods(at(tt.until), tt.max)
			for i, p := range list {
				got = append(got, Format(p.Start))
				if i == len(list)-1 {
					got = append(got, Format(p.End))
				} else if p.End != list[i+1].Start {
					t.Errorf("%v is followed by %v", p, list[i+1])
				}
				if q, ok := tt.anchor.Period(p.Start); !ok || q != p {
					t.Errorf("%v from its start is %v", p, q)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseWindow(t *testing.T) {
	t.Parallel()
	want := []string{"hour", "day", "week", "month", "billing_period", "quarter", "year"}
	var got []string
	for _, w := range windows() {
		got = append(got, w.String())
		if back, err := ParseWindow(w.String()); err != nil || back != w {
			t.Errorf("%s: %v, %v", w, back, err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	for _, s := range []string{"", "Day", "years", "billing period", "Window(0)", strings.Repeat("x", 1000)} {
		if w, err := ParseWindow(s); !errors.Is(err, ErrWindow) || w != 0 || len(err.Error()) > 200 {
			t.Errorf("%q: %v, %v", s, w, err)
		}
	}
	if _, err := Window(9).MarshalText(); !errors.Is(err, ErrWindow) {
		t.Error(err)
	}
	if _, ok := Window(0).Containing(at("2025-01-01T00:00:00Z"), Zone{}, Anchor{}); ok {
		t.Error("no window contains something")
	}
}

func TestContainingIsCheap(t *testing.T) {
	z := MustZone("America/New_York")
	a := Anchor{Start: at("2024-01-31T00:00:00Z"), Day: 31, Zone: z}
	now := at("2025-06-15T12:00:00Z")
	for _, w := range windows() {
		if n := testing.AllocsPerRun(100, func() { w.Containing(now, z, a) }); n > 0 {
			t.Errorf("%s allocates %v times", w, n)
		}
	}
}

func FuzzParseNames(f *testing.F) {
	for _, s := range []string{"day", "billing_period", "Europe/Paris", "UTC", "", "Local", "../x", "Europe/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if w, err := ParseWindow(s); err == nil && w.String() != s {
			t.Errorf("%q became %s", s, w)
		}
		if z, err := LoadZone(s); err == nil && z.String() != s {
			t.Errorf("%q became %s", s, z)
		}
	})
}
