package lessee

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// Passing keeps the answer to "on which plans would this have passed" for a second: a flood of denials asks it each time.
type Passing struct {
	until    int64
	deciding int
	plans    []string
}

const passingMicros = 1_000_000

// WouldPassOn names the plans of the current catalog whose limits would have let a denied request pass, with the customer's own
// usage so far. Credits are the customer's, whatever the plan; what limits with a scope have counted is not known of a window
// that the present plan has no limit on, and such a limit is left out.
func (l *Lessee) WouldPassOn(ctx context.Context, q *Question) []string {
	s, deciding := q.Set, q.Decision.Deciding
	if p := s.Passing.Load(); p != nil && p.deciding == deciding && q.Now < p.until {
		return p.plans
	}
	cat := l.cfg.Directory.Current()
	var plans []string
	for i := range cat.Plans {
		plan := &cat.Plans[i]
		if plan.Key == s.Plan {
			continue
		}
		ok, err := l.passes(ctx, cat, plan, q)
		if err != nil {
			l.warn(ctx, "a plan could not be compared: "+plan.Key, err)
			continue
		}
		if ok {
			plans = append(plans, plan.Key)
		}
	}
	s.Passing.Store(&Passing{until: q.Now + passingMicros, deciding: deciding, plans: plans})
	return plans
}

func (l *Lessee) passes(ctx context.Context, cat *catalog.Compiled, plan *catalog.Plan, q *Question) (bool, error) {
	s := q.Set
	nth := map[string]int64{}
	w := s.whose
	w.Route = q.Route.Match
	for _, b := range cat.Bounds(plan.Key, s.Meter) {
		lim := &b.Limit
		if !b.Covers(q.Route.Match) || lim.Mode == quota.Soft || lim.Mode == quota.Shadow {
			continue
		}
		mine, ok := scoped(b.Declared.Per, w)
		if !ok {
			continue
		}
		scope := quota.ScopeText(mine, b.Routes)
		k, end, ok := keyOf(lim, s, scope, nth, q.Now)
		if !ok {
			continue
		}
		have := slices.IndexFunc(s.counters, func(c *counter) bool { return c.id == (counterID{k, classOf(lim.Kind)}) })
		st, ok, err := l.stateOn(ctx, q, lim, have, scope, k.Start, end)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		if b.Declared.Wallet() { // the customer's, whatever the plan
			if q.Set.Rules[q.Decision.Deciding].Declared.Wallet() {
				return false, nil
			}
			continue
		}
		if lim.Kind == quota.SpendCap {
			charge, err := newCap(cat, cat, *plan, *b.Declared.SpendCap).Charge(s.Meter, arith.Add(st.Consumed, q.Cost))
			if err != nil || charge.Cmp(*b.Declared.SpendCap) > 0 {
				return false, err
			}
			continue
		}
		var d quota.Decision
		if quota.Decide(&d, []quota.Limit{*lim}, []*quota.State{&st}, q.Cost, q.Now); d.Verdict != quota.Allow {
			return false, nil
		}
	}
	return true, nil
}

// stateOn is the customer's state under another plan's limit: from the counter where it is the same, else from what is known of
// the past. ok is false where nothing is known.
func (l *Lessee) stateOn(ctx context.Context, q *Question, lim *quota.Limit, have int, scope string, start, end int64) (st quota.State, ok bool, err error) {
	s := q.Set
	if have >= 0 {
		st = q.States[have]
		st.Consumed = Used(&s.Limits[have], &st)
	}
	st.Shared, st.AskAgain, st.ClearsAt = false, 0, 0
	switch lim.Kind {
	case quota.TokenBucket:
		if have < 0 {
			return quota.State{Last: q.Now}, true, nil
		}
		from := s.Limits[have].Per
		if st.Per > 0 {
			from = st.Per
		}
		st.Debt, st.Rate, st.Per, st.Burst = arith.Convert(st.Debt, lim.Per, from), 0, 0, 0
		return st, true, nil
	case quota.Credits:
		return st, have >= 0, nil
	case quota.Concurrency:
		st.Granted, st.Ceiling = math.MaxInt64, lim.Quota
		return st, true, nil
	case quota.Rolling:
		start, end = outwards(q.Now-lim.Length-lim.Slot, q.Now+1)
	case quota.Fixed:
		start, end = outwards(start, end)
	case quota.Quota, quota.SpendCap:
	}
	if have < 0 {
		if scope != "" {
			return st, false, nil
		}
		used, err := l.used(ctx, s, start, end)
		if err != nil {
			return st, false, err
		}
		st.Consumed = used
	}
	st.Granted, st.Ceiling = math.MaxInt64, arith.Add(lim.Quota, lim.Extra)
	st.WindowStart, st.WindowEnd = math.MinInt64, math.MaxInt64
	return st, true, nil
}

// outwards widens an interval to whole quarters of an hour, which is how the journal counts.
func outwards(start, end int64) (from, to int64) {
	from, to = period.BucketStart(time.UnixMicro(start)).UnixMicro(), period.BucketStart(time.UnixMicro(end)).UnixMicro()
	if to < end {
		to += period.BucketLength.Microseconds()
	}
	return from, to
}

func (l *Lessee) used(ctx context.Context, s *Set, start, end int64) (int64, error) {
	in := period.Interval{Start: time.UnixMicro(start).UTC(), End: time.UnixMicro(end).UTC()}
	d, err := l.cfg.Past.Used(ctx, s.customer.ID, s.Meter, in)
	return Scaled(d, s.Scale), err
}

// Scaled rounds up to a meter's scale and stops at MaxInt64: counting too much is safe here.
func Scaled(d money.Decimal, scale int) int64 { return arith.Scaled(d, scale) }

// Pow10 is 10^n for n from 0 to 18.
func Pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}
