package quota_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/quota"
)

// call is one admitted request. reserved is what it was admitted with, cost what it came to.
type call struct {
	at, reserved, cost int64
	running            bool
}

// kinds recounts limits of every kind but buckets from the list of what was admitted.
type kinds struct {
	limits  []quota.Limit
	ceiling []int64 // of quotas and credits, grace included
	calls   []call
	now     int64
}

const calendar = 13 // length of the windows that stand for calendar ones

// floor is the number of the window around an instant.
func floor(at, length int64) int64 {
	n := at / length
	if at%length < 0 {
		n--
	}
	return n
}

// counts tells whether a call counts for limit i at an instant.
func (k *kinds) counts(i int, c call, now int64) bool {
	switch l := k.limits[i]; l.Kind {
	case quota.Concurrency:
		return c.running
	case quota.Credits:
		return true
	case quota.Fixed:
		return floor(c.at, l.Length) == floor(now, l.Length)
	case quota.Rolling:
		apart := floor(now, l.Slot) - floor(c.at, l.Slot)
		return -l.Length/l.Slot <= apart && apart <= l.Length/l.Slot
	case quota.TokenBucket, quota.Quota, quota.SpendCap:
	}
	return floor(c.at, calendar) == floor(now, calendar)
}

func (k *kinds) used(i int, now int64) (n int64) {
	for _, c := range k.calls {
		switch {
		case !k.counts(i, c, now):
		case k.limits[i].Kind == quota.Concurrency:
			n++
		default:
			n += c.cost
		}
	}
	return n
}

func (k *kinds) whole(i int) int64 {
	switch l := k.limits[i]; l.Kind {
	case quota.Rolling, quota.Fixed, quota.Concurrency:
		return l.Quota + l.Extra
	case quota.TokenBucket, quota.Quota, quota.SpendCap, quota.Credits:
	}
	return k.ceiling[i]
}

func units(l quota.Limit, cost int64) int64 {
	if l.Kind == quota.Concurrency {
		return 1
	}
	return cost
}

// decide is what Decide should find, from the definition alone.
func (k *kinds) decide(cost, now int64) (violated, over uint64) {
	for i, l := range k.limits {
		after := k.used(i, now) + units(l, cost)
		switch l.Mode {
		case quota.Hard, quota.Grace:
			if after > k.whole(i) {
				violated |= 1 << i
			} else if l.Mode == quota.Grace && after > k.whole(i)-l.Extra {
				over |= 1 << i
			}
		case quota.Soft, quota.Shadow:
			if after > k.whole(i) {
				over |= 1 << i
			}
		}
	}
	return violated, over
}

// slots are the uses of limit i as an authority would know them.
func (k *kinds) slots(i int) (out []quota.SlotUse) {
	for _, c := range k.calls {
		start, _, _ := k.limits[i].WindowAt(c.at)
		out = append(out, quota.SlotUse{Start: start, Used: c.cost})
	}
	return out
}

// refresh does an owner's part: it rolls stale windows and computes ceilings.
func (k *kinds) refresh(states []quota.State, now int64) {
	for i := range k.limits {
		l, s := &k.limits[i], &states[i]
		start, end, ok := l.WindowAt(now)
		if !ok {
			start = floor(now, calendar) * calendar
			end = start + calendar
		}
		if s.WindowStart != start || s.WindowEnd != end {
			if l.Kind != quota.Concurrency && l.Kind != quota.Credits {
				s.Consumed = 0
				for _, c := range k.calls {
					if start <= c.at && c.at < end {
						s.Consumed += c.cost
					}
				}
			}
			s.WindowStart, s.WindowEnd = start, end
		}
		s.Ceiling = k.whole(i)
		if l.Kind == quota.Rolling {
			s.Ceiling = l.RollingCeiling(k.slots(i), now)
			s.ClearsAt = 0
		}
		s.Granted = max(s.Ceiling, s.Consumed)
	}
}

func drawKinds(t *rapid.T) *kinds {
	k := &kinds{now: rapid.Int64Range(10_000, 10_100).Draw(t, "start")}
	for range rapid.IntRange(1, 5).Draw(t, "limits") {
		l := quota.Limit{
			Kind:  rapid.SampledFrom([]quota.Kind{quota.Quota, quota.Fixed, quota.Rolling, quota.Concurrency, quota.Credits}).Draw(t, "kind"),
			Mode:  rapid.SampledFrom([]quota.Mode{quota.Hard, quota.Hard, quota.Soft, quota.Grace, quota.Shadow}).Draw(t, "mode"),
			Quota: rapid.Int64Range(0, 12).Draw(t, "quota"),
		}
		if l.Mode == quota.Grace {
			l.Extra = rapid.Int64Range(0, 5).Draw(t, "extra")
		}
		switch l.Kind {
		case quota.Fixed:
			l.Length = rapid.Int64Range(1, 20).Draw(t, "length")
		case quota.Rolling:
			l.Slot = rapid.Int64Range(1, 4).Draw(t, "slot")
			l.Length = l.Slot * rapid.Int64Range(1, 8).Draw(t, "slots")
		case quota.TokenBucket, quota.Quota, quota.SpendCap, quota.Concurrency, quota.Credits:
		}
		k.limits, k.ceiling = append(k.limits, l), append(k.ceiling, l.Quota+l.Extra)
	}
	return k
}

// TestKindsMatchNaive drives limits of every kind and mode through time, clock steps, settlements and grants.
func TestKindsMatchNaive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		k := drawKinds(t)
		states := make([]quota.State, len(k.limits))
		running := func(t *rapid.T) int {
			var at []int
			for i, c := range k.calls {
				if c.running {
					at = append(at, i)
				}
			}
			if len(at) == 0 {
				t.Skip("nothing runs")
			}
			return rapid.SampledFrom(at).Draw(t, "which")
		}
		t.Repeat(map[string]func(*rapid.T){
			"decide":    func(t *rapid.T) { k.check(t, states, rapid.Int64Range(0, 5).Draw(t, "cost")) },
			"again":     func(t *rapid.T) { k.check(t, states, 1) },
			"advance":   func(t *rapid.T) { k.now += rapid.Int64Range(1, 9).Draw(t, "by") },
			"step back": func(t *rapid.T) { k.now -= rapid.Int64Range(1, 12).Draw(t, "by") },
			"grant": func(t *rapid.T) {
				i := rapid.IntRange(0, len(k.limits)-1).Draw(t, "limit")
				k.ceiling[i] += rapid.Int64Range(0, 5).Draw(t, "more")
			},
			"settle": func(t *rapid.T) {
				i := running(t)
				c := &k.calls[i]
				actual := rapid.Int64Range(0, 8).Draw(t, "actual")
				k.refresh(states, k.now)
				if over := quota.Settle(k.limits, point(states), c.reserved, actual, c.at); over != max(0, actual-c.reserved) {
					t.Fatalf("overshoot %d of %+v settled at %d", over, *c, actual)
				}
				quota.End(k.limits, point(states))
				c.cost, c.running = actual, false
			},
			"": func(t *rapid.T) { k.invariants(t, states) },
		})
	})
}

func (k *kinds) check(t *rapid.T, states []quota.State, cost int64) {
	k.refresh(states, k.now)
	before := slices.Clone(states)
	violated, over := k.decide(cost, k.now)
	var d quota.Decision
	quota.Decide(&d, k.limits, point(states), cost, k.now)
	want := quota.Allow
	if violated != 0 {
		want = quota.Deny
	}
	if d.Verdict != want || d.Violated != violated || d.Over != over {
		t.Fatalf("cost %d at %d: %+v, want verdict %d, violated %b, over %b", cost, k.now, d, want, violated, over)
	}
	if d.Verdict == quota.Allow {
		k.calls = append(k.calls, call{at: k.now, reserved: cost, cost: cost, running: true})
		return
	}
	if !slices.Equal(before, states) {
		t.Fatalf("a denial changed %v to %v", before, states)
	}
	k.clears(t, d, cost)
}

// clears checks the instant that a denial names, where no more is used until then.
func (k *kinds) clears(t *rapid.T, d quota.Decision, cost int64) {
	for i := range k.limits {
		l := &k.limits[i]
		if d.Violated&(1<<i) == 0 || l.Kind != quota.Rolling {
			continue
		}
		at := l.RollingClears(k.slots(i), cost, k.now)
		fits := func(now int64) bool { return k.used(i, now)+cost <= k.whole(i) }
		if at == 0 {
			for now := k.now; now < k.now+300; now++ {
				if fits(now) {
					t.Fatalf("%+v never clears for %d, but at %d it fits", l, cost, now)
				}
			}
			continue
		}
		for now := k.now; now < at; now++ {
			if fits(now) {
				t.Fatalf("%+v clears at %d for %d, but at %d already", l, at, cost, now)
			}
		}
		if !fits(at) {
			t.Fatalf("%+v clears at %d for %d, but it does not fit then", l, at, cost)
		}
		// By at most one slot later than a window that moves on by the microsecond would.
		if exact := k.exactly(i, k.now, cost); exact && !k.ahead() {
			t.Fatalf("%+v denies %d at %d: too late by more than a slot", l, cost, k.now)
		}
	}
	if d.ClearsAt != 0 && d.ClearsAt <= k.now {
		t.Fatalf("clears at %d, now is %d", d.ClearsAt, k.now)
	}
}

// ahead tells whether something was admitted later than now: the clock was set back.
func (k *kinds) ahead() bool {
	return slices.ContainsFunc(k.calls, func(c call) bool { return c.at > k.now })
}

// exactly tells whether the cost would fit in a window of Length plus one Slot that ends now.
func (k *kinds) exactly(i int, now, cost int64) bool {
	sum := cost
	for _, c := range k.calls {
		if c.at > now-k.limits[i].Length-k.limits[i].Slot && c.at <= now {
			sum += c.cost
		}
	}
	return sum <= k.whole(i)
}

// invariants: what was admitted passes no hard limit, in no window, wherever it begins. Overshoot of settlements is not admitted.
func (k *kinds) invariants(t *rapid.T, states []quota.State) {
	k.refresh(states, k.now)
	for i, l := range k.limits {
		s := states[i]
		if l.Kind != quota.Rolling && s.Consumed != k.used(i, k.now) {
			t.Fatalf("limit %d %+v counts %d, want %d", i, l, s.Consumed, k.used(i, k.now))
		}
		if l.Mode == quota.Soft || l.Mode == quota.Shadow {
			continue
		}
		for _, c := range k.calls {
			sum := int64(0)
			for _, o := range k.calls {
				in := k.counts(i, o, c.at)
				if l.Kind == quota.Rolling { // any window of Length that begins with a call
					in = c.at <= o.at && o.at < c.at+l.Length
				}
				if in {
					sum += units(l, min(o.cost, o.reserved))
				}
			}
			if sum > k.whole(i) {
				t.Fatalf("limit %d %+v: %d of %d admitted around %d", i, l, sum, k.whole(i), c.at)
			}
		}
	}
}
