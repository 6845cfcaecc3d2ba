package quota_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
)

const (
	second = int64(1_000_000)
	most   = int64(math.MaxInt64)
)

// bucket refills rate units a second.
func bucket(rate, burst int64) quota.Limit {
	return quota.Limit{Key: "burst", Kind: quota.TokenBucket, Meter: "calls", Rate: rate, Per: second, Burst: burst}
}

func daily(n int64) quota.Limit {
	return quota.Limit{Key: "daily", Kind: quota.Quota, Meter: "calls", Window: period.Day, Quota: n}
}

func spend() quota.Limit {
	return quota.Limit{Key: "spend", Kind: quota.SpendCap, Meter: "calls", Window: period.BillingPeriod}
}

// used is a window [0, 1000) s with everything granted.
func used(consumed, ceiling int64) quota.State {
	return quota.State{Consumed: consumed, Granted: ceiling, Ceiling: ceiling, WindowEnd: 1000 * second}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	leased := func(consumed, granted, ceiling int64) quota.State {
		s := used(consumed, ceiling)
		s.Granted = granted
		return s
	}
	allow := quota.Decision{Verdict: quota.Allow, Deciding: -1}
	deny := func(deciding int, violated uint64, clearsAt int64) quota.Decision {
		return quota.Decision{Verdict: quota.Deny, Deciding: deciding, Violated: violated, ClearsAt: clearsAt}
	}
	tests := []struct {
		name   string
		limits []quota.Limit
		states []quota.State
		cost   int64
		now    int64
		want   quota.Decision
		after  []quota.State // nil: unchanged
	}{
		{name: "no limit", want: allow, cost: 5},
		{
			name: "all charged", cost: 3, now: 10 * second, want: allow,
			limits: []quota.Limit{bucket(2, 10), daily(100), spend()},
			// 8 units of debt at 9 s drain by 2 in one second, then 3 more.
			states: []quota.State{{Debt: 8 * second, Last: 9 * second}, used(97, 100), used(4, 7)},
			after:  []quota.State{{Debt: 9 * second, Last: 10 * second}, used(100, 100), used(7, 7)},
		},
		{
			name: "full bucket forgets the idle time", cost: 1, now: 100 * second, want: allow,
			limits: []quota.Limit{bucket(2, 10)},
			states: []quota.State{{Debt: 8 * second, Last: 9 * second}},
			after:  []quota.State{{Debt: 1 * second, Last: 100 * second}},
		},
		{
			name: "quota full", cost: 1, now: 10 * second, want: deny(1, 0b10, 1000*second),
			limits: []quota.Limit{bucket(2, 10), daily(100)},
			states: []quota.State{{}, used(100, 100)},
		},
		{
			name: "quota cost above the limit never clears", cost: 101, now: 10 * second, want: deny(0, 0b1, 0),
			limits: []quota.Limit{daily(100)}, states: []quota.State{used(0, 100)},
		},
		{
			name: "quota over a lowered ceiling", cost: 0, now: 0, want: deny(0, 0b1, 1000*second),
			limits: []quota.Limit{daily(100)}, states: []quota.State{used(101, 100)},
		},
		{
			name: "cost 0 at the ceiling", cost: 0, now: 0, want: allow,
			limits: []quota.Limit{daily(100)}, states: []quota.State{used(100, 100)},
		},
		{
			// 9.5 of 10 units owed, 2 wanted: 1.5 units at 2 a second are 0.75 s.
			name: "bucket clears", cost: 2, now: 10 * second, want: deny(0, 0b1, 10*second+750_000),
			limits: []quota.Limit{bucket(2, 10)},
			states: []quota.State{{Debt: 9*second + second/2, Last: 10 * second}},
		},
		{
			// One unit at 3 a second is 333,333.3 µs: rounded up.
			name: "bucket clears rounded up", cost: 1, now: 10 * second, want: deny(0, 0b1, 10*second+333_334),
			limits: []quota.Limit{bucket(3, 1)},
			states: []quota.State{{Debt: second, Last: 10 * second}},
		},
		{
			name: "bucket cost above the burst never clears", cost: 11, now: 0, want: deny(0, 0b1, 0),
			limits: []quota.Limit{bucket(2, 10)}, states: []quota.State{{}},
		},
		{
			name: "an earlier now counts as last", cost: 1, now: 5 * second, want: deny(0, 0b1, 10*second+500_000),
			limits: []quota.Limit{bucket(2, 10)},
			states: []quota.State{{Debt: 10 * second, Last: 10 * second}},
		},
		{
			name: "the one that clears last decides", cost: 1, now: 10 * second, want: deny(1, 0b111, 2000*second),
			limits: []quota.Limit{daily(100), daily(100), bucket(2, 10)},
			states: []quota.State{
				used(100, 100),
				{Consumed: 100, Ceiling: 100, WindowEnd: 2000 * second},
				{Debt: 10 * second, Last: 10 * second},
			},
		},
		{
			name: "never clears last of all, the first on a tie", cost: 1, now: 10 * second, want: deny(1, 0b111, 0),
			limits: []quota.Limit{daily(100), spend(), bucket(1, 0)},
			states: []quota.State{used(100, 100), used(7, 7), {}},
		},
		{
			name: "short", cost: 2, now: 0, want: quota.Decision{Verdict: quota.Short, Deciding: 1},
			limits: []quota.Limit{bucket(2, 10), daily(100), spend()},
			states: []quota.State{{}, leased(9, 10, 100), leased(0, 0, 5)},
		},
		{
			name: "exactly granted", cost: 1, now: 0, want: allow,
			limits: []quota.Limit{daily(100)}, states: []quota.State{leased(9, 10, 100)},
			after: []quota.State{leased(10, 10, 100)},
		},
		{
			name: "a denial beats a missing lease, whatever the order", cost: 2, now: 0, want: deny(1, 0b10, 1000*second),
			limits: []quota.Limit{daily(100), daily(10), daily(100)},
			states: []quota.State{leased(0, 0, 100), used(9, 10), leased(0, 0, 100)},
		},
		{
			name: "stale beats a denial", cost: 1, now: 1000 * second, want: quota.Decision{Verdict: quota.Stale, Deciding: 1},
			limits: []quota.Limit{bucket(1, 0), daily(1)}, states: []quota.State{{}, used(1, 1)},
		},
		{
			name: "stale before the window", cost: 1, now: -1, want: quota.Decision{Verdict: quota.Stale, Deciding: 0},
			limits: []quota.Limit{daily(1)}, states: []quota.State{used(0, 1)},
		},
		{
			name: "negative cost", cost: -1, now: 0, want: deny(0, 0b11, 0),
			limits: []quota.Limit{daily(1), bucket(1, 1)}, states: []quota.State{used(1, 1), {Debt: second}},
		},
		{
			name: "no wrap-around in a quota", cost: most, now: 0, want: deny(0, 0b1, 1000*second),
			limits: []quota.Limit{daily(most)}, states: []quota.State{used(1, most)},
		},
		{
			name: "no wrap-around in a bucket", cost: most, now: 0, want: deny(0, 0b1, 0),
			limits: []quota.Limit{bucket(1, most)}, states: []quota.State{{}},
		},
		{
			name: "no sign bit in a bucket", cost: 1 << 62, now: 0, want: deny(0, 0b1, 0),
			limits: []quota.Limit{{Kind: quota.TokenBucket, Rate: 1, Per: 2, Burst: 1 << 62}}, states: []quota.State{{}},
		},
		{
			name: "no wrap-around in the clearing time", cost: 1, now: most - 1, want: deny(0, 0b1, 0),
			limits: []quota.Limit{bucket(1, 1)}, states: []quota.State{{Debt: second, Last: most - 1}},
		},
		{
			name: "a wait as long as time itself drains all", cost: 1, now: most, want: allow,
			limits: []quota.Limit{bucket(most, 1)}, states: []quota.State{{Debt: second, Last: math.MinInt64}},
			after: []quota.State{{Debt: second, Last: most}},
		},
		{
			name: "a bucket without rate never clears", cost: 1, now: 5, want: deny(0, 0b1, 0),
			limits: []quota.Limit{bucket(0, 1)}, states: []quota.State{{Debt: second}},
		},
		{
			name: "a bucket without period denies", cost: 1, now: 5, want: deny(0, 0b1, 0),
			limits: []quota.Limit{{Kind: quota.TokenBucket, Rate: 1, Burst: 1}}, states: []quota.State{{}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			after := tt.after
			if after == nil {
				after = append(after, tt.states...)
			}
			var d quota.Decision
			quota.Decide(&d, tt.limits, point(tt.states), tt.cost, tt.now)
			if diff := cmp.Diff(tt.want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(after, tt.states); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReturn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		limit          quota.Limit
		state, want    quota.State
		cost, reserved int64
	}{
		{"quota", daily(9), used(5, 9), used(3, 9), 2, 10},
		{"quota not below zero", daily(9), used(1, 9), used(0, 9), 2, 10},
		{"spend cap", spend(), used(5, 9), used(3, 9), 2, 10},
		{"a rolled window keeps its count", daily(9), used(5, 9), used(5, 9), 2, -1},
		{"cost 0", daily(9), used(5, 9), used(5, 9), 0, 10},
		{"bucket at once", bucket(1, 9), quota.State{Debt: 5 * second, Last: 7}, quota.State{Debt: 3 * second, Last: 7}, 2, 7},
		{"bucket not below zero", bucket(1, 9), quota.State{Debt: second, Last: 7}, quota.State{Last: 7}, 2, 7},
		// One of the two units has come back by the refill before someone else was admitted.
		{
			"bucket after a second", bucket(1, 9),
			quota.State{Debt: 5 * second, Last: 3 * second},
			quota.State{Debt: 4 * second, Last: 3 * second},
			2, 2 * second,
		},
		{
			"bucket long after", bucket(1, 9),
			quota.State{Debt: 5 * second, Last: 30 * second},
			quota.State{Debt: 5 * second, Last: 30 * second},
			2, 2 * second,
		},
		{"impossible cost", bucket(1, 9), quota.State{Debt: 5, Last: 7}, quota.State{Debt: 5, Last: 7}, most, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := []quota.State{tt.state}
			quota.Return([]quota.Limit{tt.limit}, point(got), tt.cost, tt.reserved)
			if diff := cmp.Diff(tt.want, got[0]); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRemaining(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		limit           quota.Limit
		state           quota.State
		now             int64
		want, wantReset int64
	}{
		{"quota", daily(9), used(5, 9), 10, 4, 1000 * second},
		{"quota passed", daily(9), used(15, 9), 10, 0, 1000 * second},
		{"negative ceiling", daily(9), used(0, -most-1), 10, 0, 1000 * second},
		{"full bucket", bucket(3, 9), quota.State{}, 10, 9, 10},
		// 1 unit owed, 0.3 drained: 8.3 free; 0.7 units at 3 a second are 233,333.3 µs.
		{"bucket", bucket(3, 9), quota.State{Debt: second, Last: 0}, 100_000, 8, 333_334},
		{"bucket, earlier now", bucket(3, 9), quota.State{Debt: 3 * second, Last: 50}, 0, 6, second + 50},
		{"bucket in debt beyond its size", bucket(3, 9), quota.State{Debt: 12 * second}, 0, 0, 4 * second},
		{"bucket without rate", bucket(0, 9), quota.State{Debt: second}, 0, 8, 0},
		{"bucket without period", quota.Limit{Kind: quota.TokenBucket, Rate: 1, Burst: 9}, quota.State{}, 3, 0, 3},
		{"bucket beyond range", bucket(most, most), quota.State{}, 0, most / second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, reset := quota.Remaining(&tt.limit, &tt.state, tt.now)
			if got != tt.want || reset != tt.wantReset {
				t.Errorf("Remaining = %d, %d, want %d, %d", got, reset, tt.want, tt.wantReset)
			}
		})
	}
}

// point makes the pointers that Decide takes.
func point(states []quota.State) []*quota.State {
	out := make([]*quota.State, len(states))
	for i := range states {
		out[i] = &states[i]
	}
	return out
}

func warm() ([]quota.Limit, []*quota.State) {
	month := daily(most / 2)
	month.Window = period.BillingPeriod
	return []quota.Limit{bucket(1_000_000_000, 1_000_000_000), daily(most / 2), month},
		[]*quota.State{{}, {Granted: most / 2, Ceiling: most / 2, WindowEnd: most}, {Granted: most / 2, Ceiling: most / 2, WindowEnd: most}}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	limits, states := warm()
	denied := point([]quota.State{{Debt: 1_000_000_000 * second}, used(100, 100), used(100, 100)})
	var d quota.Decision
	now := int64(0)
	if n := testing.AllocsPerRun(100, func() {
		now++
		quota.Decide(&d, limits, states, 1, now)
		quota.Return(limits, states, 1, now)
		quota.Decide(&d, limits, denied, 1, now)
		quota.Remaining(&limits[0], states[0], now)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	b.Run("allow", func(b *testing.B) {
		limits, states := warm()
		var d quota.Decision
		b.ReportAllocs()
		now := int64(0)
		for b.Loop() {
			now++
			quota.Decide(&d, limits, states, 1, now)
		}
		if d.Verdict != quota.Allow {
			b.Fatalf("verdict %d", d.Verdict)
		}
	})
	b.Run("deny", func(b *testing.B) {
		limits, states := warm()
		*states[0] = quota.State{Debt: 1_000_000_000 * second}
		*states[1] = used(100, 100)
		var d quota.Decision
		b.ReportAllocs()
		for b.Loop() {
			quota.Decide(&d, limits, states, 1, 0)
		}
		if d.Verdict != quota.Deny {
			b.Fatalf("verdict %d", d.Verdict)
		}
	})
}

// five are the limits of a hierarchy: a bucket, a minute and requests at once of the key, a day and a month of the customer.
func five() ([]quota.Limit, []*quota.State) {
	limits, states := warm()
	limits = append(limits, quota.Limit{Kind: quota.Fixed, Length: most}, quota.Limit{Kind: quota.Concurrency, Quota: most})
	return limits, append(states, &quota.State{Granted: most / 2, Ceiling: most / 2, WindowEnd: most}, &quota.State{Granted: most / 2, Ceiling: most / 2})
}

func BenchmarkDecideFive(b *testing.B) {
	limits, states := five()
	var d quota.Decision
	b.ReportAllocs()
	now := int64(0)
	for b.Loop() {
		now++
		quota.Decide(&d, limits, states, 1, now)
	}
	if d.Verdict != quota.Allow {
		b.Fatalf("verdict %d", d.Verdict)
	}
}

func BenchmarkSettleFive(b *testing.B) {
	limits, states := five()
	b.ReportAllocs()
	for b.Loop() {
		quota.Settle(limits, states, 5, 3, 1)
		quota.End(limits, states)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	limits, states := five()
	limits[1].Mode, limits[2].Mode = quota.Soft, quota.Grace
	var d quota.Decision
	now := int64(0)
	if n := testing.AllocsPerRun(100, func() {
		now++
		quota.Decide(&d, limits, states, 2, now)
		quota.Settle(limits, states, 2, 3, now)
		quota.Return(limits, states, 3, now)
		quota.End(limits, states)
	}); n != 0 || d.Verdict != quota.Allow {
		t.Errorf("%v allocations, verdict %d", n, d.Verdict)
	}
}
