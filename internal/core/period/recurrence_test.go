package period

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRecurrence(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, anchor, every, zone, from string
		want                            []string
	}{
		{
			"month ends clamp and come back", "2026-01-31T10:00:00Z", "month", "UTC", "2026-01-31T09:59:59Z",
			[]string{"2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z", "2026-04-30T10:00:00Z"},
		},
		{
			"before the anchor", "2026-01-31T10:00:00Z", "month", "UTC", "2025-11-30T10:00:00Z",
			[]string{"2025-12-31T10:00:00Z", "2026-01-31T10:00:00Z"},
		},
		{
			"leap years", "2024-02-29T00:00:00Z", "year", "UTC", "2024-02-29T00:00:00Z",
			[]string{"2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z", "2027-02-28T00:00:00Z", "2028-02-29T00:00:00Z"},
		},
		{
			"the local hour stays", "2026-03-28T11:00:00Z", "day", "Europe/Berlin", "2026-03-28T11:00:00Z",
			[]string{"2026-03-29T10:00:00Z", "2026-03-30T10:00:00Z"},
		},
		{
			"an hour that is skipped", "2026-03-28T01:30:00Z", "day", "Europe/Berlin", "2026-03-28T01:30:00Z",
			[]string{"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		},
		{
			"weeks", "2026-01-01T00:00:00Z", "week", "UTC", "2026-01-01T00:00:00Z",
			[]string{"2026-01-08T00:00:00Z", "2026-01-15T00:00:00Z"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := Recurrence{Anchor: at(tt.anchor), Every: MustEvery(tt.every), Zone: MustZone(tt.zone)}
			next := at(tt.from)
			for _, want := range tt.want {
				if next = r.Next(next); Format(next) != want {
					t.Fatalf("%s, want %s", Format(next), want)
				}
			}
		})
	}
}

// TestRecurrenceIsOneSeries: wherever one asks from, it is the same series, and it goes on.
func TestRecurrenceIsOneSeries(t *testing.T) {
	t.Parallel()
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe"}
	rapid.Check(t, func(t *rapid.T) {
		second := rapid.Int64Range(0, 4_000_000_000)
		r := Recurrence{
			Anchor: time.Unix(second.Draw(t, "anchor"), 0),
			Every:  MustEvery(rapid.SampledFrom([]string{"day", "2 days", "week", "month", "3 months", "year"}).Draw(t, "every")),
			Zone:   MustZone(rapid.SampledFrom(zones).Draw(t, "zone")),
		}
		from := time.Unix(second.Draw(t, "from"), 0)
		next := r.Next(from)
		if !next.After(from) {
			t.Fatalf("%s is not after %s", next, from)
		}
		between := from.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(from))-1).Draw(t, "between")))
		if again := r.Next(between); !again.Equal(next) {
			t.Fatalf("from %s it is %s, from %s it is %s", from, next, between, again)
		}
		if r.Anchor.After(from) && r.Anchor.Before(next) {
			t.Fatalf("the anchor %s lies between %s and %s", r.Anchor, from, next)
		}
	})
}
