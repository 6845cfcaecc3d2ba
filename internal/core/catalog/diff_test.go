package catalog

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/period"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	if got := Diff(sample(), sample()); len(got) > 0 {
		t.Errorf("same: %v", got)
	}
	next := sample()
	next.Meters[1].Scale = 4
	next.Meters[0].Dimensions = nil
	next.Plans[0].Limits[1].Quota = decp("1000")
	next.Plans[0].Limits[0].Bucket.Per = time.Minute
	next.Plans[1].Name = ""
	next.Plans[1].Prices[1].Tiers[2].UnitAmount = dec("0.06")
	next.Plans[1].Limits = append(next.Plans[1].Limits[:1], Limit{Key: "monthly", Meter: "gb", Quota: decp("5"), Window: period.Month})
	next.KeyHeader = ""
	next.Routes = next.Routes[1:]
	next.Routes[0].Meter, next.Routes[0].Cost = "calls", dec("1")
	want := []Change{
		{"-", "meters.calls.dimensions", "route", ""},
		{"~", "meters.gb.scale", "3", "4"},
		{"~", "plans.free.limits.burst.token_bucket.rate", "200/s", "200/min"},
		{"~", "plans.free.limits.daily.quota", "100", "1000"},
		{"-", "plans.pro.name", "Pro", ""},
		{"~", "plans.pro.prices.traffic.tiers[2].unit_amount", "0.05", "0.06"},
		{"+", "plans.pro.limits.monthly", "", "meter: gb, quota: 5, window: month"},
		{"+", `gateway.routes["/free"].meter`, "", "calls"},
		{"+", `gateway.routes["/free"].cost`, "", "1"},
		{"-", "plans.pro.limits.slow", "meter: gb, token_bucket.rate: 1.5/min, token_bucket.burst: 2", ""},
		{"-", "gateway.key_header", "X-Api-Key", ""},
		{"-", `gateway.routes["GET /a"]`, "upstream: http://127.0.0.1:9000, meter: calls, cost: 1, timeout: 1s", ""},
	}
	if diff := cmp.Diff(want, Diff(sample(), next)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDiffFromNothing(t *testing.T) {
	t.Parallel()
	got := Diff(nil, sample())
	paths := make([]string, len(got))
	for i, change := range got {
		if change.Op != "+" {
			t.Errorf("op %q", change.Op)
		}
		paths[i] = change.Path
	}
	want := []string{
		"meters.calls", "meters.gb", "plans.free", "plans.free.limits.burst", "plans.free.limits.daily",
		"plans.pro", "plans.pro.prices.base", "plans.pro.prices.traffic", "plans.pro.prices.traffic.tiers[0]",
		"plans.pro.prices.traffic.tiers[1]", "plans.pro.prices.traffic.tiers[2]", "plans.pro.limits.spend", "plans.pro.limits.slow",
		"gateway.key_header", `gateway.routes["GET /a"]`, `gateway.routes["/free"]`,
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if back := Diff(sample(), nil); len(back) != len(got) || back[0].Op != "-" {
		t.Errorf("to nothing: %v", back)
	}
}
