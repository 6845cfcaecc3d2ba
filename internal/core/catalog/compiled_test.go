package catalog_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/catalogtest"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
)

func dec(s string) money.Decimal   { return money.MustDecimal(s) }
func decp(s string) *money.Decimal { d := dec(s); return &d }

func TestCompile(t *testing.T) {
	t.Parallel()
	c, err := catalog.Compile(7, catalogtest.Sample())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]quota.Limit{
		"free calls": {
			{Key: "burst", Kind: quota.TokenBucket, Meter: "calls", Rate: 1, Per: 5000, Burst: 200},
			{Key: "daily", Kind: quota.Quota, Meter: "calls", Window: period.Day, Quota: 100},
		},
		"free gb":   nil,
		"pro calls": {{Key: "spend", Kind: quota.SpendCap, Meter: "calls", Window: period.BillingPeriod}}, // an add-on may charge it
		"pro gb": {
			{Key: "spend", Kind: quota.SpendCap, Meter: "gb", Window: period.BillingPeriod},
			{Key: "slow", Kind: quota.TokenBucket, Meter: "gb", Rate: 1, Per: 40_000, Burst: 2000},
		},
		"other gb": nil,
	}
	for key, limits := range want {
		plan, meterKey, _ := strings.Cut(key, " ")
		if diff := cmp.Diff(limits, c.Limits(plan, meterKey)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
	if _, err := c.CompileLimits(c.Plans[0], "none"); err == nil {
		t.Error("compiled for an unknown meter")
	}
	if p, ok := c.PriceOf(c.Plans[1], "gb"); !ok || p.Key != "traffic" {
		t.Errorf("price of gb: %v %v", p, ok)
	}
	if _, ok := c.PriceOf(c.Plans[1], ""); ok {
		t.Error("a flat price charges no meter")
	}
}
