package whatif

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

func bucket(at string, sum int64) store.Window {
	start, err := time.Parse(time.RFC3339, at)
	if err != nil {
		panic(err)
	}
	return store.Window{
		Interval: period.Interval{Start: start, End: start.Add(period.BucketLength)}, Rollup: meter.Rollup{Sum: money.FromInt(sum), Count: sum},
	}
}

func TestWindowsCountWhatIsAbove(t *testing.T) {
	t.Parallel()
	zone := period.MustZone("UTC")
	day := func(at time.Time) (period.Interval, bool) { return period.Day.Containing(at, zone, period.Anchor{}) }
	buckets := []store.Window{
		bucket("2026-10-01T00:00:00Z", 50), bucket("2026-10-01T23:45:00Z", 60), // 110, before the span
		bucket("2026-10-02T00:00:00Z", 100),                                    // just full
		bucket("2026-10-03T10:00:00Z", 90), bucket("2026-10-03T11:00:00Z", 31), // 121
	}
	since := time.Date(2026, 10, 2, 0, 0, 0, 0, time.UTC)
	r, err := windows(Refusal{}, buckets, day, money.FromInt(100), since)
	if err != nil || r.Windows != 1 || r.Over.String() != "21" || period.Format(r.First) != "2026-10-03T00:00:00Z" {
		t.Errorf("%d windows, %s over, first %s, %v", r.Windows, r.Over, r.First, err)
	}
	// Three hours, rolling: 90 + 31 are in one.
	r, err = rolling(Refusal{}, buckets, 3*time.Hour, money.FromInt(99), since)
	if err != nil || r.Windows != 2 || r.Over.String() != "83" {
		t.Errorf("rolling: %d windows, %s over, %v", r.Windows, r.Over, err)
	}
}

func TestWithoutLeavesWhatIsNew(t *testing.T) {
	t.Parallel()
	a, b := Refusal{Limit: "a", Over: money.FromInt(5)}, Refusal{Limit: "b", Over: money.FromInt(9)}
	if left := without([]Refusal{a, b}, []Refusal{{Over: money.FromInt(5)}}); len(left) != 1 || left[0].Limit != "b" {
		t.Errorf("left %v", left)
	}
}
