package statement

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
)

const day = 24 * time.Hour

func dec(s string) money.Decimal { return money.MustDecimal(s) }

// daily is a quota of 100 a day.
func daily(consumed, remaining string, resetIn time.Duration) Limit {
	return limitAt(enforce.LimitStatus{
		Key: "daily", Meter: "api_calls", Kind: quota.Quota, Window: "day", Consumed: dec(consumed), Quota: dec("100"), Remaining: dec(remaining),
	}, "api calls", resetIn)
}

func spend(consumed, remaining string) Limit {
	return limitAt(enforce.LimitStatus{
		Key: "spend", Kind: quota.SpendCap, Window: "billing_period", Consumed: dec(consumed), Quota: dec("500"), Remaining: dec(remaining), Currency: "USD",
	}, "", 11*day+4*time.Hour)
}

func limitAt(l enforce.LimitStatus, unit string, resetIn time.Duration) Limit {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	l.ResetsAt = now.Add(resetIn)
	return limitOf(l, unit, now)
}

func TestSentence(t *testing.T) {
	t.Parallel()
	included := func(used string, change func(*State)) State {
		s := State{
			HasPlan: true, Meter: true, Unit: "calls", Used: dec(used), Allowance: Allowance{Priced: true, Free: dec("10000")},
			PeriodLeft: 11*day + 4*time.Hour + 30*time.Minute, Bill: "$20.00",
		}
		if change != nil {
			change(&s)
		}
		return s
	}
	free := func(limits ...Limit) State {
		return State{HasPlan: true, Meter: true, Unit: "api calls", Used: dec("253"), Limits: limits, PeriodLeft: 9 * day}
	}
	bucket := limitAt(enforce.LimitStatus{Key: "burst", Kind: quota.TokenBucket, Window: "token_bucket", Consumed: dec("200"), Quota: dec("200")}, "api calls", time.Second)
	kind := func(k quota.Kind, mode quota.Mode, window, consumed, remaining, over string) Limit {
		return limitAt(enforce.LimitStatus{
			Key: "l", Meter: "api_calls", Kind: k, Mode: mode, Window: window, Consumed: dec(consumed), Quota: dec("100"), Remaining: dec(remaining), Overage: dec(over),
		}, "api calls", time.Hour)
	}
	scoped := func(l Limit, scope string, template bool) Limit {
		l.Scope, l.Template = scope, template
		return limitAt(l.LimitStatus, l.Unit, l.ResetIn)
	}
	graced := func(l Limit) Limit {
		l.graced(10, 0)
		return l
	}
	tests := []struct {
		name  string
		state State
		tone  string
		want  string
	}{
		{"no plan", State{}, Bad, "No active plan: requests are refused until a subscription begins."},
		{"a plan to come", State{Begins: 90 * time.Minute}, Notice, "No active plan: requests are refused until the subscription begins in 1 h 30 min."},
		{"included", included("6210", nil), Good, "On track: 6 210 of 10 000 included calls, resets in 11 d 4 h; bill so far $20.00."},
		{"nothing used", included("0", nil), Good, "On track: 0 of 10 000 included calls, resets in 11 d 4 h; bill so far $20.00."},
		{"just below near", included("8999", nil), Good, "On track: 8 999 of 10 000 included calls, resets in 11 d 4 h; bill so far $20.00."},
		{
			"near the included", included("9000", func(s *State) { s.Next = "$0.0004" }), Notice,
			"Nearly all included used: 9 000 of 10 000 included calls, each further one $0.0004, resets in 11 d 4 h; bill so far $20.00.",
		},
		{
			"all included used", included("10000", nil), Notice,
			"Nearly all included used: 10 000 of 10 000 included calls, resets in 11 d 4 h; bill so far $20.00.",
		},
		{
			"over included", included("12345", func(s *State) { s.Cost, s.Next, s.Bill = "$0.938", "$0.0004", "$20.94" }), Notice,
			"Beyond the included: 2 345 calls more than the 10 000 included, for $0.938 so far, each further one $0.0004, resets in 11 d 4 h; bill so far $20.94.",
		},
		{
			"all of it included", included("70000", func(s *State) { s.Allowance = Allowance{Priced: true, Everything: true} }), Good,
			"On track: 70 000 calls this billing period; bill so far $20.00.",
		},
		{
			"each one charged", included("70", func(s *State) { s.Allowance = Allowance{Priced: true} }), Good,
			"On track: 70 calls this billing period; bill so far $20.00.",
		},
		{"a quota with room", free(daily("40", "60", 4*time.Hour)), Good, "On track: 40 of 100 api calls used today, resets in 4 h 0 min."},
		{"near the quota", free(daily("90", "10", 4*time.Hour)), Notice, "Close to the limit: 90 of 100 api calls used today, resets in 4 h 0 min."},
		{"at the quota", free(daily("100", "0", 61*time.Second)), Bad, "Stopped: 100 of 100 api calls used today, further ones are refused, resets in 1 min 1 s."},
		{"over the quota by reports", free(daily("104", "0", time.Second)), Bad, "Stopped: 104 of 100 api calls used today, further ones are refused, resets in 1 s."},
		{"a full bucket says nothing", free(bucket), Good, "On track: 253 api calls this billing period."},
		{"no limit", free(), Good, "On track: 253 api calls this billing period."},
		{
			"beyond a soft limit", free(kind(quota.Quota, quota.Soft, "month", "120", "0", "20")), Notice,
			"Beyond the limit: 120 of 100 api calls used this month, further ones are still admitted, resets in 1 h 0 min.",
		},
		{
			"exactly at a soft limit", free(kind(quota.Quota, quota.Soft, "quarter", "100", "0", "0")), Good,
			"On track: 100 of 100 api calls used this quarter, resets in 1 h 0 min.",
		},
		{
			"in the grace", free(graced(kind(quota.Quota, quota.Grace, "year", "109", "0", "9"))), Notice,
			"In the grace: 109 of 100 api calls used this year, requests are refused soon, resets in 1 h 0 min.",
		},
		{
			"at the end of the grace", free(graced(kind(quota.Quota, quota.Grace, "week", "110", "0", "10"))), Bad,
			"Stopped: 110 of 100 api calls used this week, further ones are refused, resets in 1 h 0 min.",
		},
		{"a shadow limit says nothing", free(kind(quota.Quota, quota.Shadow, "day", "500", "0", "400")), Good, "On track: 253 api calls this billing period."},
		{"as many at once as may be", free(kind(quota.Concurrency, quota.Hard, "concurrency", "100", "0", "0")), Good, "On track: 253 api calls this billing period."},
		{"a short window", free(kind(quota.Fixed, quota.Hard, "fixed 10m", "100", "0", "0")), Good, "On track: 253 api calls this billing period."},
		{
			"a long window", free(kind(quota.Fixed, quota.Hard, "fixed 6h", "100", "0", "0")), Bad,
			"Stopped: 100 of 100 api calls used in this window of 6 h, further ones are refused, resets in 1 h 0 min.",
		},
		{
			"a sliding window", free(kind(quota.Rolling, quota.Hard, "rolling 1d", "100", "0", "0")), Bad,
			"Stopped: 100 of 100 api calls used in the last 24 h, further ones are refused until earlier ones are longer ago.",
		},
		{
			"no credits", free(daily("100", "0", time.Hour), kind(quota.Credits, quota.Hard, "credits", "100", "0", "0")), Bad,
			"Stopped: credits used up, requests that need api calls are refused until more are granted.",
		},
		{"few credits", free(kind(quota.Credits, quota.Hard, "credits", "95", "5", "0")), Notice, "Credits nearly used up: 5 of 100 api calls left."},
		{
			"a part stops", free(scoped(daily("100", "0", time.Hour), "user=anna;routes=GET /hello;routes=GET /%3b", false)), Bad,
			"Partly stopped: 100 of 100 api calls used today for user anna, on GET /hello, GET /;, further ones are refused, resets in 1 h 0 min.",
		},
		{
			"what stops all goes before a part", free(scoped(daily("100", "0", 2*time.Hour), "user=anna", false), daily("100", "0", time.Hour)), Bad,
			"Stopped: 100 of 100 api calls used today, further ones are refused, resets in 1 h 0 min.",
		},
		{"one of many says nothing", free(scoped(daily("0", "0", time.Hour), "per user", true)), Good, "On track: 253 api calls this billing period."},
		{"nothing counted", State{HasPlan: true}, Good, "On track: this plan counts nothing."},
		{
			"near the spend cap", included("1134000", func(s *State) { s.Limits = []Limit{spend("452.1", "47.9")} }), Notice,
			"Close to the spend cap: $452.10 of $500.00 this billing period, resets in 11 d 4 h; bill so far $20.00.",
		},
		{
			"at the spend cap", included("1260000", func(s *State) { s.Limits = []Limit{daily("95", "5", time.Hour), spend("500", "0")} }), Bad,
			"Stopped: the spend cap of $500.00 is used up, priced requests are refused, resets in 11 d 4 h; bill so far $20.00.",
		},
		{
			"of two that stop the one that lasts", free(daily("100", "0", time.Hour), daily("100", "0", 2*time.Hour)), Bad,
			"Stopped: 100 of 100 api calls used today, further ones are refused, resets in 2 h 0 min.",
		},
		{
			"of two with room the fuller", free(daily("10", "90", time.Hour), daily("50", "50", 2*time.Hour)), Good,
			"On track: 50 of 100 api calls used today, resets in 2 h 0 min.",
		},
		{
			"a quota that stops beats what is included", included("5", func(s *State) { s.Limits = []Limit{daily("100", "0", time.Hour)} }), Bad,
			"Stopped: 100 of 100 api calls used today, further ones are refused, resets in 1 h 0 min; bill so far $20.00.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Sentence(tt.state)
			plain := strings.NewReplacer("\u202f", " ", "\u00a0", " ").Replace(got.String())
			if diff := cmp.Diff(tt.want, plain); diff != "" || got.Tone != tt.tone {
				t.Errorf("tone %s, want %s\n%s", got.Tone, tt.tone, diff)
			}
		})
	}
}

func TestAllowanceOf(t *testing.T) {
	t.Parallel()
	tier := func(upTo, unit, flat string) price.Tier {
		out := price.Tier{UnitAmount: dec(unit), FlatAmount: dec(flat)}
		if upTo != "" {
			out.UpTo = new(dec(upTo))
		}
		return out
	}
	graduated := func(tiers ...price.Tier) price.Price { return price.Price{Model: price.Graduated, Tiers: tiers} }
	tests := []struct {
		name   string
		prices []price.Price
		used   string
		want   string // free, "all" or "none"
		next   string
	}{
		{"no price", nil, "5", "none", ""},
		{"the demo's, at first", []price.Price{graduated(tier("10000", "0", "0"), tier("", "0.0004", "0"))}, "5", "10000", "0.0004"},
		{"and at its end", []price.Price{graduated(tier("10000", "0", "0"), tier("", "0.0004", "0"))}, "10000", "10000", "0.0004"},
		{"two free bands", []price.Price{graduated(tier("10", "0", "0"), tier("20", "0", "0"), tier("30", "2", "0"), tier("", "1", "0"))}, "25", "20", "2"},
		{"the next band", []price.Price{graduated(tier("10", "0", "0"), tier("30", "2", "0"), tier("", "1", "0"))}, "30", "10", "1"},
		{"a fee for nothing used", []price.Price{graduated(tier("10", "0", "5"), tier("", "1", "0"))}, "0", "0", ""},
		{"a fee for the next band", []price.Price{graduated(tier("10", "0", "0"), tier("", "1", "5"))}, "0", "10", ""},
		{"charged from the first", []price.Price{graduated(tier("", "0.25", "0"))}, "3", "0", "0.25"},
		{"all for nothing", []price.Price{graduated(tier("10", "0", "0"), tier("", "0", "0"))}, "3", "all", ""},
		{
			"what both give",
			[]price.Price{graduated(tier("10", "0", "0"), tier("", "1", "0")), graduated(tier("5", "0", "0"), tier("", "1", "0"))},
			"3", "5", "",
		},
		{"each unit", []price.Price{{Model: price.Unit, UnitAmount: dec("0.5"), Included: dec("3")}}, "1", "3", "0.5"},
		{"included before tiers", []price.Price{{Model: price.Graduated, Included: dec("5"), Tiers: []price.Tier{tier("10", "0", "0"), tier("20", "2", "0"), tier("", "1", "0")}}}, "24", "15", "2"},
		{"and in the next tier", []price.Price{{Model: price.Graduated, Included: dec("5"), Tiers: []price.Tier{tier("10", "0", "0"), tier("20", "2", "0"), tier("", "1", "0")}}}, "25", "15", "1"},
		{"a volume price takes it back", []price.Price{{Model: price.Volume, Tiers: []price.Tier{tier("10", "0", "0"), tier("", "1", "0")}}}, "3", "0", ""},
		{"free volume", []price.Price{{Model: price.Volume, Tiers: []price.Tier{tier("", "0", "0")}}}, "3", "all", ""},
		{"steps", []price.Price{{Model: price.Stairstep, Tiers: []price.Tier{tier("10", "0", "0"), tier("", "0", "5")}}}, "3", "10", ""},
		{"packages", []price.Price{{Model: price.Package, Amount: dec("5"), Size: dec("10"), Free: dec("4")}}, "3", "4", ""},
		{"a share", []price.Price{{Model: price.Percentage, Percent: dec("3"), FreeAmount: new(dec("9"))}}, "3", "0", ""},
		{"shares in tiers", []price.Price{{Model: price.GraduatedPercentage, Tiers: []price.Tier{{UpTo: new(dec("10"))}, {Percent: dec("3")}}}}, "3", "10", ""},
		{"the event says", []price.Price{{Model: price.Dynamic}}, "3", "0", ""},
		{"cells", []price.Price{{Model: price.Matrix, Cells: []price.Cell{{}}}}, "3", "0", ""},
		{"a part of the usage", []price.Price{{Model: price.Unit, UnitAmount: dec("1"), Included: dec("9"), Filter: []meter.Dimension{{Name: "a", Value: "b"}}}}, "3", "0", ""},
		{"up to a maximum", []price.Price{{Model: price.Unit, UnitAmount: dec("1"), MaximumSpend: new(dec("9"))}}, "3", "0", ""},
		{"one of two charges", []price.Price{graduated(tier("", "0", "0")), graduated(tier("", "1", "0"))}, "3", "0", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := AllowanceOf(tt.prices, dec(tt.used))
			got, next := a.Free.String(), ""
			switch {
			case !a.Priced:
				got = "none"
			case a.Everything:
				got = "all"
			}
			if a.Next != nil {
				next = a.Next.String()
			}
			if got != tt.want || next != tt.next {
				t.Errorf("free %s and next %q, want %s and %q", got, next, tt.want, tt.next)
			}
		})
	}
}
