package quota_test

import (
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/quota"
)

// admission is one charged cost that has not been returned.
type admission struct{ at, effective, cost int64 }

// naive recounts everything from the list of what it admitted, in rationals.
type naive struct {
	limits     []quota.Limit
	length     []int64 // of limit i's windows; 0 for a bucket
	ceiling    []int64
	granted    []int64
	admissions []admission
	now        int64
	charged    int64      // the latest charge
	level      []*big.Rat // free units of a bucket at refilled[i], the instant of its last charge
	refilled   []int64
}

// free is the bucket's level at now, or at its last charge when that is later.
func (m *naive) free(i int, now int64) *big.Rat {
	l := m.limits[i]
	gain := big.NewRat(max(0, now-m.refilled[i])*l.Rate, l.Per)
	return m.full(i, gain.Add(gain, m.level[i]))
}

func (m *naive) full(i int, units *big.Rat) *big.Rat {
	if size := big.NewRat(m.limits[i].Burst, 1); units.Cmp(size) > 0 {
		return size
	}
	return units
}

func (m *naive) consumed(i int, now int64) (n int64) {
	for _, a := range m.admissions {
		if a.at/m.length[i] == now/m.length[i] {
			n += a.cost
		}
	}
	return n
}

// clears is -1 when the cost fits, 0 for never.
func (m *naive) clears(i int, cost, now int64) int64 {
	l := m.limits[i]
	if l.Kind == quota.TokenBucket {
		missing := new(big.Rat).Sub(big.NewRat(cost, 1), m.free(i, now))
		switch {
		case missing.Sign() <= 0:
			return -1
		case cost > l.Burst:
			return 0
		}
		wait := missing.Mul(missing, big.NewRat(l.Per, l.Rate))
		up := new(big.Int).Add(wait.Num(), new(big.Int).Sub(wait.Denom(), big.NewInt(1)))
		return max(now, m.refilled[i]) + up.Quo(up, wait.Denom()).Int64()
	}
	switch {
	case m.consumed(i, now)+cost <= m.ceiling[i]:
		return -1
	case cost > m.ceiling[i] || l.Kind == quota.SpendCap:
		return 0
	default:
		return (now/m.length[i] + 1) * m.length[i]
	}
}

func (m *naive) decide(cost, now int64) quota.Decision {
	d := quota.Decision{Verdict: quota.Allow, Deciding: -1}
	for i := range m.limits {
		at := m.clears(i, cost, now)
		if at < 0 {
			continue
		}
		d.Violated |= 1 << i
		if d.Verdict != quota.Deny || d.ClearsAt != 0 && (at == 0 || at > d.ClearsAt) {
			d.Verdict, d.Deciding, d.ClearsAt = quota.Deny, i, at
		}
	}
	if d.Verdict == quota.Deny {
		return d
	}
	for i, l := range m.limits {
		if l.Kind != quota.TokenBucket && cost > 0 && m.consumed(i, now)+cost > m.granted[i] {
			return quota.Decision{Verdict: quota.Short, Deciding: i}
		}
	}
	for i, l := range m.limits {
		if l.Kind == quota.TokenBucket {
			m.level[i] = new(big.Rat).Sub(m.free(i, now), big.NewRat(cost, 1))
			m.refilled[i] = max(m.refilled[i], now)
		}
	}
	m.charged = max(m.charged, now)
	m.admissions = append(m.admissions, admission{now, m.charged, cost})
	return d
}

func (m *naive) giveBack(k int) {
	a := m.admissions[k]
	m.admissions = slices.Delete(m.admissions, k, k+1)
	for i, l := range m.limits {
		if l.Kind != quota.TokenBucket {
			continue
		}
		back := new(big.Rat).Sub(big.NewRat(a.cost, 1), big.NewRat(max(0, m.refilled[i]-a.at)*l.Rate, l.Per))
		if back.Sign() > 0 {
			m.level[i] = m.full(i, back.Add(back, m.level[i]))
		}
	}
}

func drawModel(t *rapid.T) (*naive, []quota.State) {
	m := &naive{}
	var states []quota.State
	for range rapid.IntRange(1, 4).Draw(t, "limits") {
		l := quota.Limit{Kind: rapid.SampledFrom([]quota.Kind{quota.TokenBucket, quota.Quota, quota.SpendCap}).Draw(t, "kind")}
		ceiling, length := rapid.Int64Range(0, 12).Draw(t, "ceiling"), int64(0)
		if l.Kind == quota.TokenBucket {
			l.Rate, l.Per = rapid.Int64Range(1, 4).Draw(t, "rate"), rapid.Int64Range(1, 7).Draw(t, "per")
			l.Burst, ceiling = ceiling, 0
		} else {
			length = rapid.Int64Range(5, 30).Draw(t, "length")
		}
		m.limits, m.length, m.ceiling = append(m.limits, l), append(m.length, length), append(m.ceiling, ceiling)
		m.granted, m.refilled = append(m.granted, 0), append(m.refilled, 0)
		m.level = append(m.level, big.NewRat(l.Burst, 1))
		states = append(states, quota.State{Ceiling: ceiling})
	}
	return m, states
}

// TestDecideMatchesNaive drives both through time, leases, returns and stale windows.
func TestDecideMatchesNaive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, states := drawModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"decide": func(t *rapid.T) {
				cost := rapid.Int64Range(0, 5).Draw(t, "cost")
				m.check(t, states, cost, m.now)
			},
			"decide with an earlier now": func(t *rapid.T) {
				m.check(t, states, 1, max(0, m.now-rapid.Int64Range(1, 3).Draw(t, "back")))
			},
			"advance": func(t *rapid.T) { m.now += rapid.Int64Range(1, 9).Draw(t, "by") },
			"return": func(t *rapid.T) {
				if len(m.admissions) == 0 {
					t.Skip("nothing reserved")
				}
				k := rapid.IntRange(0, len(m.admissions)-1).Draw(t, "which")
				quota.Return(m.limits, point(states), m.admissions[k].cost, m.admissions[k].at)
				m.giveBack(k)
			},
			"": func(t *rapid.T) { m.invariants(t, states) },
		})
	})
}

// check decides with the code, rolling and granting as an enforcer does, and compares.
func (m *naive) check(t *rapid.T, states []quota.State, cost, now int64) {
	var d quota.Decision
	for {
		before := slices.Clone(states)
		quota.Decide(&d, m.limits, point(states), cost, now)
		if d.Verdict != quota.Allow && !slices.Equal(before, states) {
			t.Fatalf("verdict %d changed states %v to %v", d.Verdict, before, states)
		}
		if d.Verdict != quota.Stale {
			break
		}
		s := &states[d.Deciding]
		start := now / m.length[d.Deciding] * m.length[d.Deciding]
		if s.WindowStart <= now && now < s.WindowEnd {
			t.Fatalf("limit %d is not stale at %d: %+v", d.Deciding, now, *s)
		}
		s.WindowStart, s.WindowEnd = start, start+m.length[d.Deciding]
		s.Consumed, s.Granted = m.consumed(d.Deciding, now), 0
		m.granted[d.Deciding] = 0
	}
	want := m.decide(cost, now)
	if d != want {
		t.Fatalf("cost %d at %d: got %+v, want %+v", cost, now, d, want)
	}
	switch d.Verdict {
	case quota.Short: // grant one unit too little at times: Short must come again
		i := d.Deciding
		m.granted[i] = rapid.Int64Range(states[i].Granted, states[i].Ceiling).Draw(t, "granted")
		states[i].Granted = m.granted[i]
	case quota.Deny:
		m.checkClears(t, states, d, cost, now)
	case quota.Allow, quota.Stale:
	}
}

// checkClears: one microsecond before ClearsAt the deciding limit still denies, at ClearsAt it does not.
func (m *naive) checkClears(t *rapid.T, states []quota.State, d quota.Decision, cost, now int64) {
	if d.ClearsAt == 0 {
		return
	}
	i := d.Deciding
	only := func(at int64) quota.Verdict {
		var e quota.Decision
		quota.Decide(&e, m.limits[i:i+1], point([]quota.State{states[i]}), cost, at)
		return e.Verdict
	}
	if v := only(d.ClearsAt - 1); v != quota.Deny {
		t.Fatalf("verdict %d before it clears at %d", v, d.ClearsAt)
	}
	if v := only(d.ClearsAt); v == quota.Deny {
		t.Fatalf("still denied at %d, when it should clear", d.ClearsAt)
	}
	if d.ClearsAt <= now {
		t.Fatalf("clears at %d, now is %d", d.ClearsAt, now)
	}
}

// invariants: what stays admitted never passes a limit, in no window and in no stretch of time, and Remaining agrees.
func (m *naive) invariants(t *rapid.T, states []quota.State) {
	for i, l := range m.limits {
		remaining, reset := quota.Remaining(&m.limits[i], &states[i], m.now)
		if l.Kind != quota.TokenBucket {
			for _, a := range m.admissions {
				if n := m.consumed(i, a.at); n > m.ceiling[i] {
					t.Fatalf("limit %d admitted %d of %d around %d", i, n, m.ceiling[i], a.at)
				}
			}
			continue
		}
		withinBucket(t, l, m.admissions)
		free := m.free(i, m.now)
		if whole := new(big.Int).Quo(free.Num(), free.Denom()); whole.Int64() != remaining {
			t.Fatalf("limit %d: %d remain, want %s", i, remaining, free)
		}
		if left, _ := quota.Remaining(&m.limits[i], &states[i], reset); left != l.Burst {
			t.Fatalf("limit %d: %d of %d at its reset", i, left, l.Burst)
		}
	}
}

// withinBucket checks the definition of the bucket: no stretch of time admits more than Burst plus what refills in it.
func withinBucket(t interface{ Fatalf(string, ...any) }, l quota.Limit, as []admission) {
	for i := range as {
		sum := int64(0)
		for j := i; j < len(as); j++ {
			sum += as[j].cost
			if sum*l.Per > l.Burst*l.Per+l.Rate*(as[j].effective-as[i].effective) {
				t.Fatalf("bucket of %d, %d in %d µs, admitted %v", l.Burst, l.Rate, l.Per, as[i:j+1])
			}
		}
	}
}

// TestNoInterleavingPassesLimit tries every sequence of small costs, waits and returns.
func TestNoInterleavingPassesLimit(t *testing.T) {
	t.Parallel()
	limits := []quota.Limit{{Kind: quota.TokenBucket, Rate: 1, Per: 2, Burst: 2}, {Kind: quota.Quota}}
	const ceiling, length, depth = 4, 5, 7
	visited := 0
	var walk func(states [2]quota.State, as []admission, now int64, left int)
	walk = func(states [2]quota.State, as []admission, now int64, left int) {
		visited++
		withinBucket(t, limits[0], as)
		for _, a := range as {
			sum := int64(0)
			for _, b := range as {
				if a.at/length == b.at/length {
					sum += b.cost
				}
			}
			if sum > ceiling {
				t.Fatalf("quota admitted %v", as)
			}
		}
		if left == 0 {
			return
		}
		for wait := int64(1); wait <= 3; wait++ {
			walk(states, as, now+wait, left-1)
		}
		for k, a := range as {
			s := states
			quota.Return(limits, point(s[:]), a.cost, a.at)
			walk(s, slices.Delete(slices.Clone(as), k, k+1), now, left-1)
		}
		for cost := int64(1); cost <= 2; cost++ {
			s := states
			if start := now / length * length; s[1].WindowStart != start {
				s[1] = quota.State{Granted: ceiling, Ceiling: ceiling, WindowStart: start, WindowEnd: start + length}
			}
			var d quota.Decision
			quota.Decide(&d, limits, point(s[:]), cost, now)
			if d.Verdict == quota.Allow {
				walk(s, append(slices.Clone(as), admission{now, now, cost}), now, left-1)
			}
		}
	}
	walk([2]quota.State{{}, {Granted: ceiling, Ceiling: ceiling, WindowEnd: length}}, nil, 0, depth)
	if visited < 1000 {
		t.Fatalf("only %d sequences", visited)
	}
}

// others calls what else takes limits and states, with any numbers: nothing panics and nothing turns negative.
func others(t *rapid.T, l quota.Limit, s quota.State, n []int64) {
	settled := s
	quota.Settle([]quota.Limit{l}, []*quota.State{&settled}, n[0], n[1], n[2])
	quota.End([]quota.Limit{l}, []*quota.State{&settled})
	if settled.Consumed < min(0, s.Consumed) || settled.Debt < min(0, s.Debt) {
		t.Fatalf("settled %+v to %+v", s, settled)
	}
	part := l.Whole(s)
	other := part.Split(n[0], n[1], n[2], n[3])
	if other.Debt < 0 || other.Burst < 0 || part.Debt < 0 {
		t.Fatalf("split into %+v and %+v", part, other)
	}
	part.Merge(s, n[0])
	l.WindowAt(n[0])
	uses := []quota.SlotUse{{n[0], n[1]}, {n[2], n[3]}, {n[1], n[1]}}
	l.RollingCeiling(uses, n[3])
	l.RollingClears(uses, n[2], n[3])
	quota.Percent(n[0], n[1], 100)
	quota.Reached(n[0], n[1], []int{50, 100})
}

// TestNoInputWraps: whatever the numbers, nothing panics, a denial changes nothing and no count turns negative.
func TestNoInputWraps(t *testing.T) {
	t.Parallel()
	any64 := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, most, -most - 1, most - 1}))
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string) int64 { return any64.Draw(t, name) }
		l := quota.Limit{
			Kind: quota.Kind(rapid.IntRange(0, 8).Draw(t, "kind")), Mode: quota.Mode(rapid.IntRange(0, 4).Draw(t, "mode")),
			Quota: n("quota"), Rate: n("rate"), Per: n("per"), Burst: n("burst"), Length: n("length"), Slot: n("slot"), Extra: n("extra"),
		}
		s := quota.State{
			Debt: n("debt"), Last: n("last"), Consumed: n("consumed"), Granted: n("granted"), Ceiling: n("ceiling"),
			WindowStart: n("start"), WindowEnd: n("end"),
		}
		if rapid.Bool().Draw(t, "shared") {
			s.Rate, s.Per, s.Burst = n("share of the rate"), n("share's per"), n("share of the burst")
			s.Shared, s.AskAgain, s.ClearsAt = true, n("ask again"), n("clears")
		}
		cost, now := n("cost"), n("now")
		after := []quota.State{s}
		var d quota.Decision
		quota.Decide(&d, []quota.Limit{l}, point(after), cost, now)
		if remaining, _ := quota.Remaining(&l, &s, now); remaining < 0 {
			t.Fatalf("%d remaining", remaining)
		}
		others(t, l, s, []int64{cost, now, n("a"), n("b")})
		if d.Verdict != quota.Allow {
			if after[0] != s {
				t.Fatalf("changed to %+v", after[0])
			}
			return
		}
		if cost < 0 {
			t.Fatal("a negative cost was admitted")
		}
		a := after[0]
		per, burst := l.Per, l.Burst
		if s.Per > 0 {
			per, burst = s.Per, s.Burst
		}
		if l.Mode == quota.Soft || l.Mode == quota.Shadow {
			if a.Consumed < s.Consumed || l.Kind == quota.TokenBucket && d.Over != 0 && a != s {
				t.Fatalf("%+v counts %+v", l, a)
			}
		} else if l.Kind == quota.TokenBucket {
			size := new(big.Int).Mul(big.NewInt(max(0, burst)), big.NewInt(per))
			weight := new(big.Int).Mul(big.NewInt(cost), big.NewInt(per))
			if a.Debt < 0 || big.NewInt(a.Debt).Cmp(size) > 0 || big.NewInt(a.Debt).Cmp(weight) < 0 {
				t.Fatalf("debt %d for weight %s of %s", a.Debt, weight, size)
			}
		} else if a.Consumed < s.Consumed || a.Consumed > a.Ceiling || a.Consumed > max(a.Granted, s.Consumed) {
			t.Fatalf("consumed %+v", a)
		}
		quota.Return([]quota.Limit{l}, point(after), cost, now)
		if got := after[0]; cost > 0 && (l.Kind == quota.TokenBucket && got.Debt < 0 || got.Consumed < min(0, s.Consumed)) {
			t.Fatalf("returned to %+v", got)
		}
	})
}
