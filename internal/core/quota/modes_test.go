package quota_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/quota"
)

func mode(l quota.Limit, m quota.Mode) quota.Limit {
	l.Mode = m
	return l
}

// TestSharedDenials: what does not fit here is final only when the authority said so, or when the whole limit could not take it.
func TestSharedDenials(t *testing.T) {
	t.Parallel()
	const ask, clears = 20 * second, 500 * second
	shared := func(s quota.State, askAgain, clearsAt int64) quota.State {
		s.Shared, s.AskAgain, s.ClearsAt = true, askAgain, clearsAt
		return s
	}
	short := used(9, 100)
	short.Granted = 9
	part := quota.State{Rate: 1, Per: second, Burst: 2, Debt: 2 * second, Last: 10 * second}
	rolling := quota.Limit{Kind: quota.Rolling, Quota: 50, Length: 100 * second, Slot: second}
	graced := mode(rolling, quota.Grace)
	graced.Extra = 5
	tests := []struct {
		name  string
		limit quota.Limit
		state quota.State
		cost  int64
		now   int64
		want  quota.Verdict
		at    int64
	}{
		{"full and alone", daily(100), used(100, 100), 1, 10 * second, quota.Deny, 1000 * second},
		{"full, others may have some", daily(100), shared(used(100, 100), 0, 0), 1, 10 * second, quota.Short, 0},
		{"full, the answer stands", daily(100), shared(used(100, 100), ask, clears), 1, 10 * second, quota.Deny, clears},
		{"full, the answer is old", daily(100), shared(used(100, 100), ask, clears), 1, ask, quota.Short, 0},
		{"full, it has cleared", daily(100), shared(used(100, 100), 900*second, clears), 1, clears, quota.Short, 0},
		{"full, never clears", spend(), shared(used(100, 100), ask, 0), 1, 10 * second, quota.Deny, 0},
		{"more than the whole", daily(100), shared(used(0, 100), 0, 0), 101, 10 * second, quota.Deny, 0},
		{"negative", daily(100), shared(used(0, 100), 0, 0), -1, 10 * second, quota.Deny, 0},
		{"no lease", daily(100), short, 1, 10 * second, quota.Short, 0},
		{"no lease, the answer stands", daily(100), shared(short, ask, clears), 1, 10 * second, quota.Deny, clears},
		{"no lease, the answer is old", daily(100), shared(short, ask, clears), 1, ask, quota.Short, 0},
		{"a part of a bucket", bucket(2, 10), shared(part, 0, 0), 3, 10 * second, quota.Short, 0},
		{"a part of a bucket, the answer stands", bucket(2, 10), shared(part, ask, 12*second), 3, 10 * second, quota.Deny, 12 * second},
		{"more than the whole bucket", bucket(2, 10), shared(part, 0, 0), 11, 10 * second, quota.Deny, 0},
		{"a part of a bucket, alone", bucket(2, 10), part, 1, 10 * second, quota.Deny, 11 * second},
		{"a part of a bucket refills by its rate", bucket(2, 10), part, 1, 11 * second, quota.Allow, 0},
		{"rolling", rolling, used(50, 50), 1, 10 * second, quota.Deny, 1000 * second},
		{"rolling, when it is known", rolling, quota.State{Consumed: 50, Ceiling: 50, WindowEnd: 11 * second, ClearsAt: 70 * second}, 1, 10 * second, quota.Deny, 70 * second},
		{"rolling, a low slot", rolling, used(0, 5), 6, 10 * second, quota.Deny, 1000 * second},
		{"rolling, more than the whole", rolling, used(0, 5), 51, 10 * second, quota.Deny, 0},
		{"rolling, in the grace of the whole", graced, used(0, 5), 51, 10 * second, quota.Deny, 1000 * second},
		{"requests at once", quota.Limit{Kind: quota.Concurrency, Quota: 2}, quota.State{Consumed: 2, Granted: 2, Ceiling: 2}, 1000, 10 * second, quota.Deny, 11 * second},
		{"requests at once, whatever the cost", quota.Limit{Kind: quota.Concurrency, Quota: 2}, quota.State{Consumed: 1, Granted: 2, Ceiling: 2}, 1000, 10 * second, quota.Allow, 0},
		{"requests at once elsewhere", quota.Limit{Kind: quota.Concurrency, Quota: 2}, shared(quota.State{Consumed: 2, Granted: 2, Ceiling: 2}, 0, 0), 1, 10 * second, quota.Short, 0},
		{"none at once", quota.Limit{Kind: quota.Concurrency}, quota.State{}, 1, 10 * second, quota.Deny, 0},
		{"credits have no window", quota.Limit{Kind: quota.Credits}, quota.State{Granted: 5, Ceiling: 5}, 5, 10 * second, quota.Allow, 0},
		{"credits never clear", quota.Limit{Kind: quota.Credits}, quota.State{Consumed: 5, Granted: 5, Ceiling: 5}, 1, 10 * second, quota.Deny, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var d quota.Decision
			quota.Decide(&d, []quota.Limit{tt.limit}, []*quota.State{&tt.state}, tt.cost, tt.now)
			if d.Verdict != tt.want || d.ClearsAt != tt.at {
				t.Errorf("%+v, want verdict %d, clearing at %d", d, tt.want, tt.at)
			}
		})
	}
}

// TestModesCount: what soft and shadow limits let through is counted beyond the ceiling, without a lease; a bucket is not charged.
func TestModesCount(t *testing.T) {
	t.Parallel()
	graced := mode(daily(100), quota.Grace)
	graced.Extra = 10
	limits := []quota.Limit{
		mode(daily(100), quota.Soft), mode(daily(100), quota.Shadow), mode(bucket(1, 5), quota.Soft), mode(bucket(1, 5), quota.Shadow),
		graced, mode(daily(100), quota.Soft), mode(spend(), quota.Soft),
	}
	states := []quota.State{used(99, 100), used(500, 100), {Debt: 4 * second}, {}, used(105, 110), {WindowEnd: most}, {Consumed: most - 1, WindowEnd: most}}
	var d quota.Decision
	quota.Decide(&d, limits, point(states), 3, 0)
	want := quota.Decision{Verdict: quota.Allow, Deciding: -1, Over: 0b1110111}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	after := []int64{states[0].Consumed, states[1].Consumed, states[2].Debt, states[3].Debt, states[4].Consumed, states[5].Consumed, states[6].Consumed}
	if diff := cmp.Diff([]int64{102, 503, 4 * second, 3 * second, 108, 3, most}, after); diff != "" {
		t.Error(diff)
	}
	quota.Decide(&d, limits, point(states), 3, 0) // 111 of 110
	want = quota.Decision{Verdict: quota.Deny, Deciding: 4, Violated: 1 << 4, Over: 0b1101111, ClearsAt: 1000 * second}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	quota.Decide(&d, limits[:1], point(states[:1]), -1, 0)
	if d.Verdict != quota.Deny {
		t.Errorf("a soft limit took a negative cost: %+v", d)
	}
	states[0].WindowEnd = 0
	if quota.Decide(&d, limits[:1], point(states[:1]), 1, 0); d.Verdict != quota.Stale {
		t.Errorf("a soft limit counts in a window that is over: %+v", d)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	limits := []quota.Limit{daily(100), bucket(1, 10), {Kind: quota.Concurrency, Quota: 5}, {Kind: quota.Credits}, spend()}
	fresh := func() []quota.State {
		return []quota.State{used(10, 12), {Debt: 8 * second, Last: 10 * second}, {Consumed: 3}, {Consumed: 7, Ceiling: 8}, {Consumed: 9, WindowStart: 20 * second, WindowEnd: 30 * second}}
	}
	tests := []struct {
		name             string
		reserved, actual int64
		overshoot        int64
		counts           [5]int64
	}{
		{"as reserved", 5, 5, 0, [5]int64{10, 8 * second, 3, 7, 9}},
		{"less", 5, 2, 0, [5]int64{7, 5 * second, 3, 4, 9}},
		{"nothing", 5, 0, 0, [5]int64{5, 3 * second, 3, 2, 9}},
		{"more, beyond the ceilings", 5, 9, 4, [5]int64{14, 12 * second, 3, 11, 9}},
		{"nothing reserved", 0, 4, 4, [5]int64{14, 12 * second, 3, 11, 9}},
		{"huge", 5, most, most - 5, [5]int64{most, most, 3, most, 9}},
		{"nonsense", -5, -7, 0, [5]int64{10, 8 * second, 3, 7, 9}},
		{"less than nothing", 5, math.MinInt64, 0, [5]int64{5, 3 * second, 3, 2, 9}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			states := fresh()
			got := quota.Settle(limits, point(states), tt.reserved, tt.actual, 10*second)
			counts := [5]int64{states[0].Consumed, states[1].Debt, states[2].Consumed, states[3].Consumed, states[4].Consumed}
			if got != tt.overshoot || counts != tt.counts {
				t.Errorf("overshoot %d, counts %v; want %d, %v", got, counts, tt.overshoot, tt.counts)
			}
		})
	}
	states := fresh()
	for range 5 {
		quota.End(limits, point(states))
	}
	if states[2].Consumed != 0 || states[0].Consumed != 10 {
		t.Errorf("ended to %+v", states)
	}
}

func TestWindowAt(t *testing.T) {
	t.Parallel()
	fixed := quota.Limit{Kind: quota.Fixed, Length: 60}
	rolling := quota.Limit{Kind: quota.Rolling, Length: 60, Slot: 10}
	for at, want := range map[int64][2]int64{0: {0, 0}, 59: {0, 50}, 60: {60, 60}, -1: {-60, -10}, -60: {-60, -60}, 61: {60, 60}} {
		f, end, ok := fixed.WindowAt(at)
		r, slotEnd, _ := rolling.WindowAt(at)
		if !ok || f != want[0] || r != want[1] || end != f+60 || slotEnd != r+10 {
			t.Errorf("at %d: %d to %d, slot %d to %d", at, f, end, r, slotEnd)
		}
	}
	for _, l := range []quota.Limit{daily(1), {Kind: quota.Fixed}, {Kind: quota.Rolling, Length: 60}, bucket(1, 1)} {
		if _, _, ok := l.WindowAt(5); ok {
			t.Errorf("%+v has a window", l)
		}
	}
	quarter := 900 * second
	for want, ls := range map[bool][]quota.Limit{
		true:  {daily(1), spend(), {Kind: quota.Credits}, {Kind: quota.Fixed, Length: quarter}, {Kind: quota.Rolling, Length: 4 * quarter, Slot: quarter}},
		false: {bucket(1, 1), {Kind: quota.Concurrency}, {Kind: quota.Fixed, Length: 60 * second}, {Kind: quota.Rolling, Length: quarter, Slot: second}},
	} {
		for _, l := range ls {
			if l.OnGrid() != want {
				t.Errorf("%+v on the grid: %v", l, !want)
			}
		}
	}
}

func TestReminders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit, consumed int64
		reached, next   int
		percent         int
	}{
		{100, 0, 0, 50, 0},
		{100, 49, 0, 50, 49},
		{100, 50, 50, 80, 50},
		{100, 100, 100, 0, 100},
		{100, 1_000_000, 100, 0, 999},
		{3, 1, 0, 50, 33}, // half of 3 is reached by 2
		{3, 2, 50, 80, 66},
		{3, 3, 100, 0, 100},
		{0, 0, 100, 0, 0},
		{most, most - 1, 80, 100, 99},
		{most, most, 100, 0, 100},
		{100, -5, 0, 50, 0},
	} {
		reached, next := quota.Reached(tt.limit, tt.consumed, []int{50, 80, 100})
		if percent := quota.Percent(tt.limit, tt.consumed, 999); reached != tt.reached || next != tt.next || percent != tt.percent {
			t.Errorf("%d of %d: reached %d, next %d, %d %%", tt.consumed, tt.limit, reached, next, percent)
		}
	}
	if got := quota.Threshold(most, 1000); got != most {
		t.Errorf("threshold beyond the range: %d", got)
	}
}

func TestRemainingOfKinds(t *testing.T) {
	t.Parallel()
	rolling := quota.Limit{Kind: quota.Rolling, Quota: 10, Length: 100, Slot: 10}
	graced := quota.Limit{Kind: quota.Quota, Mode: quota.Grace, Quota: 10, Extra: 5}
	slot := quota.State{Ceiling: 10, WindowStart: 50, WindowEnd: 60}
	spent, known := slot, slot
	spent.Consumed, known.Consumed, known.ClearsAt = 4, 10, 90
	for _, tt := range []struct {
		name        string
		limit       quota.Limit
		state       quota.State
		left, reset int64
	}{
		{"rolling, nothing used", rolling, slot, 10, 60},
		{"rolling, used", rolling, spent, 6, 160},
		{"rolling, full", rolling, known, 0, 90},
		{"grace is not shown", graced, quota.State{Ceiling: 15, Consumed: 4, WindowEnd: 60}, 6, 60},
		{"in the grace", graced, quota.State{Ceiling: 15, Consumed: 12, WindowEnd: 60}, 0, 60},
		{"at once", quota.Limit{Kind: quota.Concurrency}, quota.State{Ceiling: 5, Consumed: 2}, 3, 0},
		{"credits", quota.Limit{Kind: quota.Credits}, quota.State{Ceiling: 5, Consumed: 2}, 3, 0},
	} {
		if left, reset := quota.Remaining(&tt.limit, &tt.state, 55); left != tt.left || reset != tt.reset {
			t.Errorf("%s: %d, %d; want %d, %d", tt.name, left, reset, tt.left, tt.reset)
		}
	}
}
