package catalog_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/catalogtest"
	"github.com/tallystick/tallystick/internal/core/period"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	if got := catalog.Diff(catalogtest.Sample(), catalogtest.Sample()); len(got) > 0 {
		t.Errorf("same: %v", got)
	}
	next := catalogtest.Sample()
	next.Meters[1].Scale = 4
	next.Meters[0].Dimensions = nil
	next.Plans[0].Limits[1].Quota = decp("1000")
	next.Plans[0].Limits[0].Bucket.Per = time.Minute
	next.Plans[1].Name = ""
	next.Plans[1].Prices[1].Tiers[2].UnitAmount = dec("0.06")
	next.Plans[1].Limits = append(next.Plans[1].Limits[:1], catalog.Limit{Key: "monthly", Meter: "gb", Quota: decp("5"), Window: period.Month})
	next.KeyHeader = ""
	next.Routes = next.Routes[1:]
	next.Routes[0].Meter, next.Routes[0].Cost = "calls", dec("1")
	want := []catalog.Change{
		{Op: "-", Path: "meters.calls.dimensions", From: "route", To: ""},
		{Op: "~", Path: "meters.gb.scale", From: "3", To: "4"},
		{Op: "~", Path: "plans.free.limits.burst.token_bucket.rate", From: "200/s", To: "200/min"},
		{Op: "~", Path: "plans.free.limits.daily.quota", From: "100", To: "1000"},
		{Op: "-", Path: "plans.pro.name", From: "Pro", To: ""},
		{Op: "~", Path: "plans.pro.prices.traffic.tiers[2].unit_amount", From: "0.05", To: "0.06"},
		{Op: "+", Path: "plans.pro.limits.monthly", From: "", To: "meter: gb, quota: 5, window: month"},
		{Op: "+", Path: `gateway.routes["/free"].meter`, From: "", To: "calls"},
		{Op: "+", Path: `gateway.routes["/free"].cost`, From: "", To: "1"},
		{Op: "-", Path: "plans.pro.limits.slow", From: "meter: gb, token_bucket.rate: 1.5/min, token_bucket.burst: 2", To: ""},
		{Op: "-", Path: "gateway.key_header", From: "X-Api-Key", To: ""},
		{Op: "-", Path: `gateway.routes["GET /a"]`, From: "upstream: http://127.0.0.1:9000, meter: calls, cost: 1, timeout: 1s", To: ""},
	}
	if diff := cmp.Diff(want, catalog.Diff(catalogtest.Sample(), next)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDiffFromNothing(t *testing.T) {
	t.Parallel()
	got := catalog.Diff(nil, catalogtest.Sample())
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
	if back := catalog.Diff(catalogtest.Sample(), nil); len(back) != len(got) || back[0].Op != "-" {
		t.Errorf("to nothing: %v", back)
	}
}
