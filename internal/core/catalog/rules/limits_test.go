package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/catalogtest"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// quotas is a valid catalog with limits of every kind, and costs that are read from answers.
func quotas() *catalog.Catalog {
	c := catalogtest.Sample()
	c.EndUser = catalog.EndUser{Header: "X-End-User"}
	c.Routes = append(c.Routes,
		catalog.Route{
			Match: "/chat", Upstream: "http://h", Meter: "gb", Cost: dec("0.5"), From: catalog.FromJSON, Path: "usage.total", Max: dec("4"), Capped: true,
			Requires: "sso", Refund: catalog.Refund{Statuses: []catalog.StatusRange{{First: 500, Last: 599}}, Daily: dec("10")}, Timeout: time.Second,
		},
		catalog.Route{Match: "/files", Upstream: "http://h", Meter: "gb", Cost: dec("1"), From: catalog.FromBytes, Refund: catalog.RefundDefault(), Timeout: time.Second},
	)
	c.Plans = append(c.Plans, catalog.Plan{
		Key: "max", Currency: c.Plans[0].Currency,
		Entitlements: []catalog.Entitlement{{Key: "sso", Value: "true"}, {Key: "seats", Value: "5"}},
		Baseline:     catalog.Baseline{Factor: 5, Throttle: true},
		Limits: []catalog.Limit{
			{Key: "burst", Meter: "calls", Bucket: c.Plans[0].Limits[0].Bucket, Per: []catalog.Scope{catalog.PerKey}},
			{Key: "minute", Meter: "calls", Quota: decp("100"), Fixed: time.Minute, Failure: catalog.Failure{Kind: catalog.FailLocal, Local: 20}},
			{Key: "day", Meter: "calls", Quota: decp("1000"), Rolling: 24 * time.Hour, Failure: catalog.Failure{Kind: catalog.FailOpen}},
			{Key: "quarter", Meter: "calls", Quota: decp("105"), Window: period.Quarter, Mode: quota.Grace, Grace: 10, Notify: []int{50, 100}},
			{Key: "parallel", Concurrency: 10, Per: []catalog.Scope{catalog.PerKey}, Shape: &catalog.Shape{MaxWait: time.Second, Queue: 5}},
			{Key: "chats", Meter: "gb", Concurrency: 3, Routes: []string{"/files", "/chat"}, Mode: quota.Grace, Grace: 50},
			{Key: "prepaid", Meter: "gb", Credits: true, Mode: quota.Soft},
			{Key: "user", Meter: "gb", Quota: decp("1.5"), Fixed: 15 * time.Minute, Per: []catalog.Scope{catalog.PerUser, catalog.PerRoute}, Mode: quota.Shadow, Notify: []int{}},
			{Key: "chat", Meter: "gb", Quota: decp("9"), Window: period.Day, Routes: []string{"/chat"}},
			{Key: "all", Meter: "gb", Quota: decp("9"), Window: period.Day},
		},
	})
	return c
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	c := quotas()
	if problems := Validate(c); len(problems) > 0 {
		t.Fatal(problems)
	}
	compiled, err := catalog.Compile(1, c)
	if err != nil {
		t.Fatal(err)
	}
	const minute, quarterHour = int64(60e6), int64(900e6)
	parallel := quota.Limit{Key: "parallel", Kind: quota.Concurrency, Quota: 10}
	want := map[string][]quota.Limit{
		"": {parallel},
		"calls": {
			{Key: "burst", Kind: quota.TokenBucket, Meter: "calls", Rate: 1, Per: 5000, Burst: 200},
			{Key: "minute", Kind: quota.Fixed, Meter: "calls", Length: minute, Quota: 100},
			{Key: "day", Kind: quota.Rolling, Meter: "calls", Length: 1440 * minute, Slot: quarterHour, Quota: 1000},
			{Key: "quarter", Kind: quota.Quota, Mode: quota.Grace, Meter: "calls", Window: period.Quarter, Quota: 105, Extra: 10},
			parallel,
		},
		"gb": {
			parallel,
			{Key: "chats", Kind: quota.Concurrency, Mode: quota.Grace, Meter: "gb", Quota: 3, Extra: 1},
			{Key: "prepaid", Kind: quota.Credits, Mode: quota.Soft, Meter: "gb"},
			{Key: "user", Kind: quota.Fixed, Mode: quota.Shadow, Meter: "gb", Length: quarterHour, Quota: 1500},
			{Key: "chat", Kind: quota.Quota, Meter: "gb", Window: period.Day, Quota: 9000},
			{Key: "all", Kind: quota.Quota, Meter: "gb", Window: period.Day, Quota: 9000},
		},
	}
	for key, limits := range want {
		if diff := cmp.Diff(limits, compiled.Limits("max", key)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
		bounds := compiled.Bounds("max", key)
		if len(bounds) != len(limits) {
			t.Fatalf("%s: %d bounds", key, len(bounds))
		}
		for i, b := range bounds {
			if b.Limit != limits[i] || b.Declared.Key != limits[i].Key {
				t.Errorf("%s: %+v is declared as %+v", key, b.Limit, b.Declared)
			}
		}
	}
	chats := compiled.Bounds("max", "gb")[1]
	if strings.Join(chats.Routes, " ") != "/chat /files" || !chats.Covers("/files") || chats.Covers("/a") {
		t.Errorf("routes %v", chats.Routes)
	}
	if all := compiled.Bounds("max", "gb")[5]; all.Routes != nil || !all.Covers("/chat") {
		t.Errorf("routes %v", all.Routes)
	}
}

func TestQuotasDiff(t *testing.T) {
	t.Parallel()
	if got := catalog.Diff(quotas(), quotas()); len(got) > 0 {
		t.Errorf("same: %v", got)
	}
	next := quotas()
	p := &next.Plans[2]
	p.Entitlements[1].Value = "6"
	p.Baseline = catalog.Baseline{}
	p.Limits[0].Per = nil
	p.Limits[1].Failure = catalog.Failure{}
	p.Limits[3].Grace, p.Limits[3].Notify = 20, nil
	p.Limits[4].Shape.Queue, p.Limits[4].Concurrency = 6, 11
	p.Limits[5].Routes = []string{"/chat", "/files"} // order is no change
	p.Limits[7].Mode, p.Limits[7].Fixed = quota.Hard, 30*time.Minute
	next.EndUser.Claim = "sub"
	next.Routes[2].Capped, next.Routes[2].Refund.Daily = false, dec("11")
	next.Routes[3].From, next.Routes[3].Refund = 0, catalog.Refund{Statuses: []catalog.StatusRange{}, Timeout: true}
	want := []catalog.Change{
		{Op: "-", Path: "plans.max.limits.burst.per", From: "key", To: ""},
		{Op: "-", Path: "plans.max.limits.minute.failure", From: "local 20%", To: ""},
		{Op: "~", Path: "plans.max.limits.quarter.grace", From: "10%", To: "20%"},
		{Op: "-", Path: "plans.max.limits.quarter.notify", From: "50 100", To: ""},
		{Op: "~", Path: "plans.max.limits.parallel.concurrency", From: "10", To: "11"},
		{Op: "~", Path: "plans.max.limits.parallel.shape.queue", From: "5", To: "6"},
		{Op: "~", Path: "plans.max.limits.user.fixed", From: "15m", To: "30m"},
		{Op: "-", Path: "plans.max.limits.user.enforcement", From: "shadow", To: ""},
		{Op: "~", Path: "plans.max.entitlements.seats", From: "5", To: "6"},
		{Op: "+", Path: "gateway.end_user.claim", From: "", To: "sub"},
		{Op: "~", Path: `gateway.routes["/chat"].refund.daily`, From: "10", To: "11"},
		{Op: "-", Path: `gateway.routes["/chat"].cost.overshoot`, From: "cap", To: ""},
		{Op: "+", Path: `gateway.routes["/files"].cost`, From: "", To: "1"},
		{Op: "+", Path: `gateway.routes["/files"].refund.statuses`, From: "", To: "none"},
		{Op: "+", Path: `gateway.routes["/files"].refund.client_gone`, From: "", To: "false"},
		{Op: "-", Path: `gateway.routes["/files"].cost.bytes`, From: "true", To: ""},
		{Op: "-", Path: `gateway.routes["/files"].cost.estimate`, From: "1", To: ""},
		{Op: "-", Path: "plans.max.baseline", From: "factor: 5, throttle: true", To: ""},
	}
	if diff := cmp.Diff(want, catalog.Diff(quotas(), next)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestOvershoot: what a limit says of itself follows from its mode, its failure mode and the costs of its routes.
func TestOvershoot(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit  string
		change func(*catalog.Catalog, *catalog.Limit)
		want   string // its beginning
	}{
		{"burst", nil, "0"},
		{"minute", nil, "60 (local 20% × gateways: 3"},
		{"minute", func(_ *catalog.Catalog, l *catalog.Limit) { l.Failure.Local = 100 }, "300 (local 100%"},
		{"day", nil, "no bound (failure open"},
		{"quarter", nil, "0"},
		{"parallel", nil, "0"},
		{"prepaid", nil, "no bound (soft"},
		{"user", nil, "no bound (shadow"},
		{"chat", nil, "0"},
		{"chat", func(c *catalog.Catalog, _ *catalog.Limit) { c.Routes[2].Capped = false }, `no bound (route "/chat" charges overshoot`},
		{"chat", func(c *catalog.Catalog, _ *catalog.Limit) { c.Routes[2].Max = dec("0") }, `no bound (route "/chat" has a cost without max`},
		{"all", nil, `no bound (route "/files" has a cost without max`},
		{"all", func(c *catalog.Catalog, _ *catalog.Limit) { c.Routes[3].From = 0 }, "0"},
		{"all", func(c *catalog.Catalog, l *catalog.Limit) { l.Failure.Kind = catalog.FailOpen }, `no bound (failure open: all is admitted while the authority is away; route "/files"`},
		{"chats", nil, "0"},
		{"chats", func(_ *catalog.Catalog, l *catalog.Limit) {
			l.Failure = catalog.Failure{Kind: catalog.FailLocal, Local: 50}
		}, "4.5 (local 50%"},
	} {
		c := quotas()
		plan := &c.Plans[2]
		for i := range plan.Limits {
			l := &plan.Limits[i]
			if l.Key != tt.limit {
				continue
			}
			if tt.change != nil {
				tt.change(c, l)
			}
			o := c.Overshoot(plan, l, 3)
			if got := o.String(); !strings.HasPrefix(got, tt.want) || o.Exact() != (tt.want == "0") || o.Exact() && got != "0" {
				t.Errorf("%s: %q, want %q", tt.limit, got, tt.want)
			}
		}
	}
	c := quotas()
	if o := c.Overshoot(&c.Plans[1], &c.Plans[1].Limits[0], 1); o.Exact() {
		t.Errorf("a spend cap over a route without max: %s", o)
	}
}

func TestRollingSlot(t *testing.T) {
	t.Parallel()
	for length, want := range map[time.Duration]time.Duration{
		10 * time.Second: time.Second, 59 * time.Second: time.Second, time.Minute: time.Second, 61 * time.Second: 1220 * time.Millisecond,
		10 * time.Minute: 10 * time.Second, 59 * time.Minute: 59 * time.Second, time.Hour: 15 * time.Minute, 30 * day: 15 * time.Minute,
	} {
		if got := catalog.RollingSlot(length); got != want {
			t.Errorf("%v: %v, want %v", length, got, want)
		}
	}
	for length := rollingMin; length < time.Hour; length += time.Second {
		if slot := catalog.RollingSlot(length); length%slot != 0 || slot < time.Second || slot%time.Microsecond != 0 {
			t.Fatalf("%v has slots of %v", length, slot)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"closed": "closed", "open": "open", "local 20%": "local 20%", "local 020%": "local 20%", "local": "", "local 20": "", "local -1%": "", "": "", "local %": "", "local 9999999%": ""} {
		got := ""
		if f, ok := catalog.ParseFailure(text); ok {
			got = f.String()
		}
		if got != want {
			t.Errorf("failure %q: %q", text, got)
		}
	}
	for text, want := range map[string]string{"429": "429", "5xx": "5xx", "500-599": "5xx", "500-503": "500-503", "503-500": "", "5x": "", "099": "", "": "", "400-": "", "+42": "", "6xx": ""} {
		got := ""
		if s, ok := catalog.ParseStatuses(text); ok {
			got = s.String()
		}
		if got != want {
			t.Errorf("status %q: %q", text, got)
		}
	}
}

// FuzzWords: what is read prints as something that reads the same.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"closed", "local 20%", "5xx", "400-499", "10%", "429"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, ok := catalog.ParseFailure(s); ok {
			if again, ok := catalog.ParseFailure(got.String()); !ok || again != got {
				t.Errorf("%q prints as %q", s, got)
			}
		}
		if got, ok := catalog.ParseStatuses(s); ok {
			if again, ok := catalog.ParseStatuses(got.String()); !ok || again != got {
				t.Errorf("%q prints as %q", s, got)
			}
		}
		if n, ok := catalog.ParsePercent(s); ok && n < 0 {
			t.Errorf("%q is %d", s, n)
		}
	})
}
