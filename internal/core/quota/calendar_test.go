package quota_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// windowName names the calendar window of an instant from the local date alone. Of a billing period, day 31 is its anchor.
func windowName(w period.Window, local time.Time) string {
	y, m, d := local.Date()
	switch w {
	case period.Day:
		return fmt.Sprint(y, m, d)
	case period.Week:
		y, n := local.ISOWeek()
		return fmt.Sprint(y, n)
	case period.Month:
		return fmt.Sprint(y, m)
	case period.Quarter:
		return fmt.Sprint(y, (m-1)/3)
	case period.Year:
		return fmt.Sprint(y)
	case period.BillingPeriod:
		if last := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day(); d < last {
			m-- // begun on the last day of the month before: 28, 29, 30 or 31
		}
		return fmt.Sprint(int(m) + 12*y)
	case period.Hour:
	}
	return ""
}

// TestCalendarQuotas holds quotas against a count by local date: days of 23 and 25 hours, leap days, the end of the year, anchors on
// the 31st.
func TestCalendarQuotas(t *testing.T) {
	t.Parallel()
	zones := []string{"UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Auckland"}
	around := []string{"2024-02-29", "2023-02-28", "2024-03-10", "2024-03-31", "2024-04-07", "2024-10-27", "2024-11-03", "2024-12-31", "2025-01-01", "2025-01-31", "2024-04-30", "2024-07-01"}
	windows := []period.Window{period.Day, period.Week, period.Month, period.Quarter, period.Year, period.BillingPeriod}
	rapid.Check(t, func(t *rapid.T) {
		zone := period.MustZone(rapid.SampledFrom(zones).Draw(t, "zone"))
		anchor := period.Anchor{Start: time.Date(2022, 1, 31, 12, 0, 0, 0, time.UTC), Day: 31, Zone: zone}
		day, err := time.ParseInLocation(time.DateOnly, rapid.SampledFrom(around).Draw(t, "day"), zone.Location())
		if err != nil {
			t.Fatal(err)
		}
		now := day.Add(-36 * time.Hour)
		limits := make([]quota.Limit, len(windows))
		states := make([]quota.State, len(windows))
		counts := map[string]int64{}
		for i, w := range windows {
			limits[i] = quota.Limit{Kind: quota.Quota, Window: w, Quota: rapid.Int64Range(1, 30).Draw(t, "quota")}
		}
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(5*time.Hour)).Draw(t, "wait")))
			cost := rapid.Int64Range(1, 3).Draw(t, "cost")
			fits := true
			for i, w := range windows {
				name := fmt.Sprint(i, " ", windowName(w, now.In(zone.Location())))
				fits = fits && counts[name]+cost <= limits[i].Quota
			}
			var d quota.Decision
			for {
				quota.Decide(&d, limits, point(states), cost, now.UnixMicro())
				if d.Verdict != quota.Stale {
					break
				}
				i := d.Deciding
				in, _ := windows[i].Containing(now, zone, anchor)
				name := fmt.Sprint(i, " ", windowName(windows[i], now.In(zone.Location())))
				states[i] = quota.State{
					Consumed: counts[name], Granted: limits[i].Quota, Ceiling: limits[i].Quota,
					WindowStart: in.Start.UnixMicro(), WindowEnd: in.End.UnixMicro(),
				}
			}
			if (d.Verdict == quota.Allow) != fits {
				t.Fatalf("%s in %s: %+v, and by date it fits: %v", now, zone, d, fits)
			}
			if !fits {
				continue
			}
			for i, w := range windows {
				counts[fmt.Sprint(i, " ", windowName(w, now.In(zone.Location())))] += cost
			}
		}
	})
}
