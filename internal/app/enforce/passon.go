package enforce

import (
	"context"
	"log/slog"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// passCache keeps the answer to "on which plans would this have passed" for a second: a flood of denials asks it each time.
type passCache struct {
	until    int64
	deciding int
	plans    []string
}

const passCacheMicros = 1_000_000

// wouldPassOn names the plans of the current catalog whose limits would have let the denied request pass, with the
// customer's own usage so far.
func (e *Enforcer) wouldPassOn(ctx context.Context, c *customer, s *limitSet, cost int64, deciding int, now int64) []string {
	if s.passOn.deciding == deciding && now < s.passOn.until {
		return s.passOn.plans
	}
	cat := e.cfg.Directory.Current()
	cust, _ := e.cfg.Directory.Customer(c.id)
	var plans []string
	for _, plan := range cat.Plans {
		if plan.Key == s.plan {
			continue
		}
		ok, err := e.passes(ctx, cat, plan, cust, s, cost, now)
		if err != nil {
			e.cfg.Log.WarnContext(ctx, "a plan could not be compared", slog.String("plan", plan.Key), slog.Any("error", err))
			continue
		}
		if ok {
			plans = append(plans, plan.Key)
		}
	}
	s.passOn = passCache{until: now + passCacheMicros, deciding: deciding, plans: plans}
	return plans
}

func (e *Enforcer) passes(ctx context.Context, cat *catalog.Compiled, plan catalog.Plan, cust account.Customer, s *limitSet, cost, now int64) (bool, error) {
	buckets := 0
	limits := cat.Limits(plan.Key, s.meter)
	for i := range limits {
		l := &limits[i]
		if l.Kind == quota.TokenBucket {
			if !s.bucketFits(l, buckets, cost, now) {
				return false, nil
			}
			buckets++
			continue
		}
		used, err := e.usedIn(ctx, s, cust, l, now)
		if err != nil {
			return false, err
		}
		used = addSat(used, cost)
		if l.Kind == quota.Quota && used > l.Quota {
			return false, nil
		}
		if l.Kind == quota.SpendCap {
			p := account.Principal{Customer: cust, Subscription: account.Subscription{Plan: plan.Key, CatalogVersion: cat.Version}}
			sc, err := e.spendCap(ctx, cat, &p, l.Key)
			if err != nil {
				return false, err
			}
			charge, err := sc.charge(s.meter, used)
			if err != nil || charge.Cmp(sc.cap) > 0 {
				return false, err
			}
		}
	}
	return true, nil
}

// bucketFits tries a cost on another plan's n-th bucket with the debt of the customer's own n-th bucket.
func (s *limitSet) bucketFits(l *quota.Limit, n int, cost, now int64) bool {
	st := quota.State{Last: now}
	if own, ok := s.bucket(n); ok {
		st = own.State
		st.Debt = convert(st.Debt, l.Per, own.per)
	}
	var d quota.Decision
	quota.Decide(&d, []quota.Limit{*l}, []*quota.State{&st}, cost, now)
	return d.Verdict == quota.Allow
}

// usedIn is the customer's usage in another plan's window: from the counters where they are the same, else from the journal.
func (e *Enforcer) usedIn(ctx context.Context, s *limitSet, cust account.Customer, l *quota.Limit, now int64) (int64, error) {
	in, ok := l.Window.Containing(time.UnixMicro(now), cust.Zone, s.anchor)
	if !ok {
		return 0, nil
	}
	for i, ctr := range s.counters {
		if ctr != nil && ctr.key.Window == l.Window && ctr.key.Start == in.Start.UnixMicro() {
			return s.states[i].Consumed, nil
		}
	}
	return e.usageOf(ctx, cust.ID, s.meter, in.Start.UnixMicro(), in.End.UnixMicro(), s.scale)
}
