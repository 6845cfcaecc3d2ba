package price_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

func span(t *testing.T, start, end string) period.Interval {
	t.Helper()
	from, err := time.Parse(time.RFC3339, start)
	if err != nil {
		t.Fatal(err)
	}
	to, err := time.Parse(time.RFC3339, end)
	if err != nil {
		t.Fatal(err)
	}
	return period.Interval{Start: from.UTC(), End: to.UTC()}
}

func TestRatio(t *testing.T) {
	t.Parallel()
	const january, february, march = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"
	tests := []struct {
		name       string
		from, to   string // service
		begin, end string // full
		by         price.Proration
		zone, want string
	}{
		{"whole", january, february, january, february, price.ProrateSeconds, "UTC", "1"},
		{"half of the days", "2026-02-15T00:00:00Z", march, february, march, price.ProrateDays, "UTC", "0.5"},
		{"half of the seconds", "2026-02-15T00:00:00Z", march, february, march, price.ProrateSeconds, "UTC", "0.5"},
		{"to the microsecond", january, "2026-01-01T00:00:00.000001Z", january, "2026-01-01T00:00:01Z", price.ProrateSeconds, "UTC", "0.000001"},
		{"never more than all", "2025-01-01T00:00:00Z", march, january, february, price.ProrateSeconds, "UTC", "1"},
		{"outside", february, march, january, february, price.ProrateDays, "UTC", "0"},
		{"centuries", "1800-01-01T00:00:00Z", "2600-01-01T00:00:00Z", "1800-01-01T00:00:00Z", "2600-01-01T00:00:00Z", price.ProrateSeconds, "UTC", "1"},
		{"leap day", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z", price.ProrateDays, "UTC", "1/29"},
		{"a day of 23 hours", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z", price.ProrateDays, "Europe/Berlin", "1/31"},
		{"and its seconds", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z", price.ProrateSeconds, "Europe/Berlin", "23/743"},
		{"the day of a change belongs to what begins", "2026-01-01T00:00:00Z", "2026-01-10T15:00:00Z", january, february, price.ProrateDays, "UTC", "9/31"},
		{"and to it alone", "2026-01-10T15:00:00Z", february, january, february, price.ProrateDays, "UTC", "22/31"},
		{"in full", "2026-01-10T15:00:00Z", february, january, february, price.ProrateNone, "UTC", "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := price.Ratio(span(t, tt.from, tt.to), span(t, tt.begin, tt.end), tt.by, period.MustZone(tt.zone))
			if err != nil || got.String() != tt.want {
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestRatioRefuses(t *testing.T) {
	t.Parallel()
	day := span(t, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
	noon := span(t, "2026-01-01T10:00:00Z", "2026-01-01T12:00:00Z")
	for name, full := range map[string]period.Interval{"empty": {Start: day.Start, End: day.Start}, "without end": {Start: day.Start}, "no day": noon} {
		if _, err := price.Ratio(day, full, price.ProrateDays, period.Zone{}); !errors.Is(err, price.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRatiosAddUp: the parts of a period that is split anywhere are the whole.
func TestRatiosAddUp(t *testing.T) {
	t.Parallel()
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "America/Havana"}
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.Int64Range(1_200_000_000_000_000, 1_800_000_000_000_000)
		start := time.UnixMicro(micros.Draw(t, "start"))
		full := period.Interval{Start: start.UTC(), End: start.AddDate(0, rapid.IntRange(1, 14).Draw(t, "months"), 0).UTC()}
		by := rapid.SampledFrom([]price.Proration{price.ProrateSeconds, price.ProrateDays}).Draw(t, "by")
		zone := period.MustZone(rapid.SampledFrom(zones).Draw(t, "zone"))
		var sum money.Rational
		for at := full.Start; at.Before(full.End); {
			end := at.Add(time.Duration(rapid.Int64Range(1, int64(40*24*time.Hour/time.Microsecond)).Draw(t, "length")) * time.Microsecond)
			part, err := price.Ratio(period.Interval{Start: at, End: end}, full, by, zone)
			if err != nil || part.Sign() < 0 {
				t.Fatal(part, err)
			}
			if sum, err = sum.Add(part); err != nil {
				t.Fatal(err)
			}
			at = end
		}
		if sum.Cmp(money.FromInt(1).Rational()) != 0 {
			t.Fatalf("the parts are %s of the whole", sum)
		}
	})
}
