package authority

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// unlimited is the ceiling of what only counts.
const unlimited = math.MaxInt64

// rules are what limits a customer's use at an instant: the newest catalog version, the subscription of then, the overrides
// of then.
type rules struct {
	cat       *catalog.Compiled
	plans     *catalog.Compiled // where the plan stands: cat, or the pinned version when it left the catalog
	plan      catalog.Plan
	asked     *catalog.Compiled // the version that the gateway decided under, when it is another; else nil
	customer  account.Customer
	sub       account.Subscription
	overrides []account.Override
	now       int64
}

// rule is one limit as it holds for an ask. ceiling is set for what the plan alone decides.
type rule struct {
	quota.Limit
	declared catalog.Limit
	ceiling  int64 // in units, grace included; of a spend cap and a rolling limit set later
}

func (s *Service) rules(ctx context.Context, d *Draw) (*rules, error) {
	at := time.UnixMicro(d.Now).UTC()
	r := &rules{cat: s.cfg.Directory.Current(), now: d.Now}
	r.plans = r.cat
	var ok bool
	if r.customer, ok = s.cfg.Directory.Customer(d.CustomerID); !ok {
		return nil, fmt.Errorf("customer %s: %w", d.CustomerID, store.ErrNotFound)
	}
	if r.sub, ok = s.cfg.Directory.ActiveSubscription(d.CustomerID, at); !ok || r.sub.Paused {
		return nil, fmt.Errorf("customer %s has no subscription at this time: %w", d.CustomerID, store.ErrNotFound)
	}
	if r.plan, ok = r.cat.Plan(r.sub.Plan); !ok { // its last known limits hold
		pinned, err := s.cfg.Directory.Version(ctx, r.sub.CatalogVersion)
		if err != nil {
			return nil, fmt.Errorf("catalog version %d: %w", r.sub.CatalogVersion, err)
		}
		if r.plan, ok = pinned.Plan(r.sub.Plan); !ok {
			return nil, fmt.Errorf("plan %q: %w", r.sub.Plan, store.ErrNotFound)
		}
		r.plans = pinned
	}
	if d.CatalogVersion != r.cat.Version && d.CatalogVersion > 0 {
		if asked, err := s.cfg.Directory.Version(ctx, d.CatalogVersion); err == nil {
			r.asked = asked
		}
	}
	for _, o := range s.cfg.Directory.Overrides(d.CustomerID) {
		if o.Active(at) && !o.CreatedAt.After(at) {
			r.overrides = append(r.overrides, o)
		}
	}
	slices.SortFunc(r.overrides, func(a, b account.Override) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return r, nil
}

// scale is a meter's, also when it left the catalog.
func (r *rules) scale(meterKey string) int {
	for _, c := range []*catalog.Compiled{r.cat, r.plans, r.asked} {
		if c != nil {
			if m, ok := c.Meter(meterKey); ok {
				return m.Scale
			}
		}
	}
	return 0
}

// of are the rules of an ask's limits, in their order. A limit that the plan no longer has under that key holds by the version that
// the gateway decided under, and whatever the plan now has on the same window holds beside it.
func (r *rules) of(a *Ask) ([]rule, error) {
	out := make([]rule, 0, len(a.Limits))
	for _, key := range a.Limits {
		one, ok := r.find(r.plans, r.plan, a, key)
		if !ok && r.asked != nil {
			if plan, found := r.asked.Plan(r.sub.Plan); found {
				one, ok = r.find(r.asked, plan, a, key)
			}
			r.tighten(&one, a)
		}
		if !ok {
			return nil, fmt.Errorf("plan %q has no limit %q: %w", r.sub.Plan, key, store.ErrInvalid)
		}
		out = append(out, one)
	}
	return out, nil
}

// find is the limit of a plan, with the override that holds.
func (r *rules) find(c *catalog.Compiled, plan catalog.Plan, a *Ask, key string) (rule, bool) {
	i := slices.IndexFunc(plan.Limits, func(l catalog.Limit) bool { return l.Key == key })
	if i < 0 {
		return rule{}, false
	}
	declared, limits := r.override(c, plan, plan.Limits[i], a)
	if declared.Concurrency > 0 { // also over all meters
		n := declared.Concurrency
		return rule{quota.Limit{Key: key, Kind: quota.Concurrency, Mode: declared.Mode, Quota: n}, declared, arith.Add(n, declared.Extra(n))}, true
	}
	i = slices.IndexFunc(limits, func(l quota.Limit) bool { return l.Key == key })
	if i < 0 {
		return rule{}, false
	}
	l := limits[i]
	return rule{l, declared, arith.Add(l.Quota, l.Extra)}, true
}

// tighten lowers a limit of an older version to what the plan now has on the same counter.
func (r *rules) tighten(one *rule, a *Ask) {
	for _, l := range r.plans.Limits(r.plan.Key, a.Counter.Meter) {
		if l.Kind == one.Kind && l.Kind == quota.Quota && l.Window == one.Window && l.Mode == quota.Hard && a.Counter.Scope == "" {
			one.ceiling = min(one.ceiling, l.Quota)
		}
	}
}

// override puts the newest override that holds for the ask into a limit. One that the limit cannot take, since it has become one of
// another kind or its meter counts otherwise now, is passed over.
func (r *rules) override(c *catalog.Compiled, plan catalog.Plan, l catalog.Limit, a *Ask) (catalog.Limit, []quota.Limit) {
	limits := c.Limits(plan.Key, a.Counter.Meter)
	for _, o := range r.overrides {
		if o.Limit != l.Key || o.KeyID != "" && (o.KeyID != a.Whose.Key || !slices.Contains(l.Per, catalog.PerKey)) {
			continue
		}
		next, err := l.Overridden(o.Value, o.Burst)
		if err != nil {
			continue
		}
		plan.Limits = []catalog.Limit{next}
		if own, err := c.CompileLimits(plan, a.Counter.Meter); err == nil {
			l, limits = next, own
		}
	}
	return l, limits
}

// enforced says that beyond the ceiling nothing is granted.
func (r *rule) enforced() bool { return r.Mode == quota.Hard || r.Mode == quota.Grace }

// ceilings are those of each limit of an ask, grace included, and the least of those that are enforced.
func (w *draw) ceilings(ctx context.Context, i int, c *counter) (each []int64, hard int64, err error) {
	hard = unlimited
	each = make([]int64, len(w.limits[i]))
	for k := range w.limits[i] {
		l := &w.limits[i][k]
		n := l.ceiling
		switch l.Kind {
		case quota.SpendCap:
			switch {
			case w.caps[i].stale:
				n = c.total()
			case l.declared.Credits:
				n, err = w.walletCeiling(ctx, i)
			default:
				n, err = w.capCeiling(ctx, i, l)
			}
		case quota.Rolling:
			err = w.family(ctx, c.id, l)
			n = l.RollingCeiling(w.uses(i, c), c.id.Start)
		case quota.Credits:
			n, err = w.credits(ctx, i, c)
		case quota.TokenBucket, quota.Quota, quota.Fixed, quota.Concurrency:
		}
		if err != nil {
			return nil, 0, err
		}
		if each[k] = n; l.enforced() {
			hard = min(hard, n)
		}
	}
	return each, hard, nil
}
