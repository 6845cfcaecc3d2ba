package enforce

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	// A draw takes a leaseShare-th of what is left, so that leases shrink as the limit nears, and at most leaseCosts requests' worth.
	leaseShare = 4
	leaseCosts = 8192
	// attemptsMax bounds how often one request may roll windows and draw leases before it is refused as unavailable.
	attemptsMax = 6
)

// draw leases more for every limit of the set that lacks room for cost, in one durable transaction.
func (e *Enforcer) draw(ctx context.Context, s *limitSet, cost int64) error {
	var draws []store.Draw
	var ctrs []*counter
	var consumed []int64
	for i, ctr := range s.counters {
		if ctr == nil || s.states[i].Granted-s.states[i].Consumed >= cost {
			continue
		}
		if s.caps[i] != nil {
			if err := e.capCeiling(ctx, s, i); err != nil {
				return err
			}
		}
		st := s.states[i]
		left := st.Ceiling - st.Consumed
		want := max(cost-(st.Granted-st.Consumed), min(left/leaseShare, mulSat(cost, leaseCosts)))
		ceiling := max(0, st.Ceiling-addSat(ctr.reported, ctr.unleased))
		if n := slices.Index(ctrs, ctr); n >= 0 { // two limits on one counter: the lower ceiling holds
			draws[n].Want, draws[n].Ceiling = max(draws[n].Want, want), min(draws[n].Ceiling, ceiling)
			continue
		}
		draws = append(draws, store.Draw{CounterKey: ctr.key, WindowEnd: ctr.end, Want: want, Ceiling: ceiling})
		ctrs, consumed = append(ctrs, ctr), append(consumed, st.Consumed)
	}
	if len(draws) == 0 {
		return nil
	}
	for n := range ctrs {
		if ctrs[n].lease == 0 {
			number, err := e.leaseOpened(ctrs[n].key, ctrs[n].end)
			if err != nil {
				return err
			}
			ctrs[n].lease = number
		}
	}
	grants, err := e.cfg.Leases.DrawLeases(ctx, e.cfg.Node, e.epoch, e.cfg.Boot, draws)
	if err != nil {
		return fmt.Errorf("draw leases: %w", err)
	}
	e.stats.draws.Add(int64(len(draws)))
	for n, g := range grants {
		ctr := ctrs[n]
		delta := g.Others - ctr.others
		ctr.others = g.Others
		ctr.charged = addSat(ctr.charged, g.Granted)
		for i := range s.counters {
			if s.counters[i] == ctr {
				s.states[i].Consumed = addSat(consumed[n], delta)
				s.states[i].Granted = addSat(ctr.base(), ctr.charged)
			}
		}
	}
	return nil
}

func mulSat(a, b int64) int64 {
	if a > 0 && b > (1<<62)/a {
		return 1 << 62
	}
	return a * b
}

// closeRolled closes the leases of counters that are no longer held. One call at a time, so that after it a counter can be
// taken up again.
func (e *Enforcer) closeRolled(ctx context.Context) error {
	e.closeMu.Lock()
	defer e.closeMu.Unlock()
	e.rolledMu.Lock()
	ls := e.rolled
	e.rolled = nil
	e.rolledMu.Unlock()
	if len(ls) == 0 {
		return nil
	}
	if err := e.cfg.Leases.CloseLeases(ctx, ls); err != nil {
		e.rolledMu.Lock()
		e.rolled = append(ls, e.rolled...)
		e.rolledMu.Unlock()
		return fmt.Errorf("close leases of past windows: %w", err)
	}
	return nil
}

// closeLeases closes all leases of this epoch; nothing may be admitted any more.
func (e *Enforcer) closeLeases(ctx context.Context) error {
	if err := e.closeRolled(ctx); err != nil {
		return err
	}
	var ls []store.Lease
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, c := range e.customers {
		c.mu.Lock()
		for _, s := range c.sets {
			ls = append(ls, e.leasesOf(s)...)
		}
		c.mu.Unlock()
	}
	if len(ls) == 0 {
		return nil
	}
	if err := e.cfg.Leases.CloseLeases(ctx, ls); err != nil {
		return fmt.Errorf("close leases: %w", err)
	}
	return nil
}

// spendCap is a cap on usage charges in a billing period. It becomes a ceiling on each priced meter's quantity: the largest
// one whose charge, with what the other meters may already cost on their leases, stays within the cap.
type spendCap struct {
	cap      money.Decimal
	currency money.Currency
	prices   []price.Price // metered prices of the plan, as pinned by the subscription
	scales   map[string]int
}

func (e *Enforcer) spendCap(ctx context.Context, plans *catalog.Compiled, p *account.Principal, limit string) (*spendCap, error) {
	plan, ok := plans.Plan(p.Subscription.Plan)
	if !ok {
		return nil, fmt.Errorf("plan %q is not in catalog version %d", p.Subscription.Plan, plans.Version)
	}
	sc := &spendCap{currency: plan.Currency, scales: map[string]int{}}
	for _, l := range plan.Limits {
		if l.Key == limit && l.SpendCap != nil {
			sc.cap = *l.SpendCap
		}
	}
	pinned, err := e.cfg.Directory.Version(ctx, p.Subscription.CatalogVersion)
	if err != nil {
		return nil, err
	}
	prices := plan.Prices
	if pp, ok := pinned.Plan(p.Subscription.Plan); ok {
		prices = pp.Prices
	}
	for _, pr := range prices {
		m, ok := plans.Meter(pr.Meter)
		if !ok { // it left the catalog, and is billed all the same
			m, ok = pinned.Meter(pr.Meter)
		}
		if ok && pr.Meter != "" {
			sc.prices = append(sc.prices, pr)
			sc.scales[pr.Meter] = m.Scale
		}
	}
	return sc, nil
}

// charge is what a quantity of one meter costs.
func (sc *spendCap) charge(meterKey string, units int64) (money.Decimal, error) {
	var sum money.Decimal
	for i := range sc.prices {
		if sc.prices[i].Meter != meterKey {
			continue
		}
		amount, _, err := sc.prices[i].Rate(money.FromScaled(units, sc.scales[meterKey]))
		if err != nil {
			return sum, err
		}
		if sum, err = sum.Add(amount); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// reach is how far a counter's quantity may go without another draw: its leases and reported usage, or what was used without
// a lease where that is more.
func (e *Enforcer) reach(ctx context.Context, c *customer, ctr *counter, scale int) (int64, error) {
	open := c.openOf(ctr.key.Meter).Load()
	if err := e.Flush(ctx); err != nil {
		return 0, err
	}
	if err := e.load(ctx, ctr, scale); err != nil {
		return 0, err
	}
	used, err := e.usageOf(ctx, ctr.key.CustomerID, ctr.key.Meter, ctr.key.Start, ctr.end, scale)
	if err != nil {
		return 0, err
	}
	return max(addSat(ctr.base(), ctr.charged), addSat(used, open)), nil
}

// capCeiling sets limit i's ceiling. The other meters count with all they may reach on their durable leases.
func (e *Enforcer) capCeiling(ctx context.Context, s *limitSet, i int) error {
	sc, st := s.caps[i], s.states[i]
	left := sc.cap
	for meterKey, scale := range sc.scales {
		if meterKey == s.meter {
			continue
		}
		other := &counter{key: s.counters[i].key, end: s.counters[i].end}
		other.key.Meter = meterKey
		reach, err := e.reach(ctx, s.customer, other, scale)
		if err != nil {
			return err
		}
		amount, err := sc.charge(meterKey, reach)
		if err != nil {
			return err
		}
		if left, err = left.Sub(amount); err != nil {
			return err
		}
	}
	st.Ceiling = math.MaxInt64
	if left.Sign() < 0 {
		st.Ceiling = 0
		return nil
	}
	for k := range sc.prices {
		if sc.prices[k].Meter != s.meter {
			continue
		}
		units, unlimited, err := sc.prices[k].Ceiling(left, s.scale)
		if err != nil {
			return err
		}
		if !unlimited {
			st.Ceiling = min(st.Ceiling, units)
		}
	}
	return nil
}
