package catalog_test

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
)

// TestOverrides: a number replaces the limit's own where the limit's field would take it; 0 requests at once, which would read as
// no such limit, are refused.
func TestOverrides(t *testing.T) {
	t.Parallel()
	n := money.MustDecimal("5")
	bucket := catalog.Limit{Bucket: &catalog.Bucket{Rate: n, Per: time.Second, Burst: n}}
	for _, c := range []struct {
		limit        catalog.Limit
		value, burst string
		ok           bool
	}{
		{catalog.Limit{Concurrency: 3}, "1", "", true},
		{catalog.Limit{Concurrency: 3}, "0", "", false},
		{catalog.Limit{Concurrency: 3}, "0.5", "", false},
		{catalog.Limit{Concurrency: 3}, "-1", "", false},
		{catalog.Limit{Concurrency: 3}, "1", "5", false},
		{catalog.Limit{Quota: &n}, "0", "", true},
		{catalog.Limit{SpendCap: &n}, "0", "", true},
		{catalog.Limit{Credits: true}, "5", "", false},
		{bucket, "7/min", "", true},
		{bucket, "", "9", true},
		{bucket, "0/s", "", false},
		{bucket, "", "", false},
	} {
		got, err := c.limit.Overridden(c.value, c.burst)
		if (err == nil) != c.ok {
			t.Errorf("%q, %q of %+v: %v", c.value, c.burst, c.limit, err)
		}
		if c.limit.Concurrency > 0 && got.Concurrency == 0 {
			t.Errorf("%q made a limit without a number", c.value)
		}
	}
}
