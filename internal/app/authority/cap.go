package authority

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/app/authority/spendcap"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/credit"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// Wallet is what a customer's credits in money come to for usage of a meter, by one position of the journal.
type Wallet struct {
	Left  money.Rational // of the grants that may pay for the meter
	Usage []credit.Usage // by that position
}

// capped is how an ask's usage costs money: under a spend cap, a wallet, or both.
type capped struct {
	*spendcap.Period

	before *spendcap.Period // of a wallet: the billing period before, whose usage may not be in the journal yet; nil: none
	wallet bool
	stale  bool // the ask is about a span that is over: nothing more is granted for it

	// Of one pass.
	past  map[string]spendcap.Use
	known *Wallet
	ahead bool // leases count more than the journal knows, of what it may still tell to be less
}

// again forgets what was read for an earlier pass.
func (c *capped) again() {
	if c != nil {
		c.past, c.known, c.ahead = map[string]spendcap.Use{}, nil, false
	}
}

// capped finds how an ask is charged. The ask's counter begins where the span begins in which usage is charged as it is now: what
// was drawn before counts on another counter, at the prices of then.
func (s *Service) capped(ctx context.Context, r *rules, a *Ask) (*capped, error) {
	at := time.UnixMicro(r.now).UTC()
	scale := func(meterKey string) int { return r.scale(meterKey) }
	if s.cfg.Usage == nil {
		spans, err := s.planned(ctx, r, a)
		return &capped{Period: spendcap.NewPeriod(spans, scale)}, err
	}
	spans, err := s.cfg.Usage(ctx, r.customer.ID, at)
	if err != nil {
		return nil, fmt.Errorf("prices of customer %s: %w", r.customer.ID, err)
	}
	if len(spans) == 0 {
		return &capped{Period: spendcap.NewPeriod([]subscription.Span{{}}, scale), stale: true}, nil
	}
	c := &capped{Period: spendcap.NewPeriod(spans, scale)}
	c.stale = spans[len(spans)-1].Start.UnixMicro() != a.Counter.Start
	earlier, err := s.cfg.Usage(ctx, r.customer.ID, spans[0].Start.Add(-time.Microsecond))
	if err != nil {
		return nil, fmt.Errorf("prices of customer %s: %w", r.customer.ID, err)
	}
	if len(earlier) > 0 {
		c.before = spendcap.NewPeriod(earlier, scale)
	}
	return c, nil
}

// planned is one span at the prices of the plan, as the subscription is pinned.
func (s *Service) planned(ctx context.Context, r *rules, a *Ask) ([]subscription.Span, error) {
	pinned, err := s.cfg.Directory.Version(ctx, r.sub.CatalogVersion)
	if err != nil {
		return nil, fmt.Errorf("catalog version %d: %w", r.sub.CatalogVersion, err)
	}
	plan := r.plan
	if p, ok := pinned.Plan(r.sub.Plan); ok {
		plan = p
	}
	in := period.Interval{Start: time.UnixMicro(a.Counter.Start).UTC(), End: time.UnixMicro(a.WindowEnd).UTC()}
	span := subscription.Span{Interval: in}
	for _, p := range plan.Prices {
		if !p.Licensed() {
			span.Charges = append(span.Charges, subscription.Charge{Price: p, Plan: plan.Key, Period: in, Service: in, Full: in, Position: price.First})
		}
	}
	return []subscription.Span{span}, nil
}

// limit takes a limit of money in. A hard one refuses prices that it cannot hold for.
func (c *capped) limit(l *rule) error {
	c.wallet = c.wallet || l.declared.Credits
	if l.enforced() {
		return c.Hard()
	}
	return nil
}

// amount is a spend cap's, in the plan's currency.
func amount(l *catalog.Limit) money.Rational { return l.SpendCap.Rational() }

// capShared says whether another node may spend under the same cap on another meter.
func (w *draw) capShared(i int) bool {
	for meterKey := range w.caps[i].Scales {
		if c := w.c.counters[idOf(other(w.Asks[i].Counter, meterKey), w.Asks[i].Kind)]; c != nil {
			if shared, _ := c.shared(w.Node); shared {
				return true
			}
		}
	}
	return false
}

// usedOf is what was used, or may have been, of a meter in the spans of an ask's period. short is how much of the last span's use no
// lease knows of.
func (w *draw) usedOf(ctx context.Context, i int, meterKey string) (u spendcap.Use, short int64, err error) {
	a, by := &w.Asks[i], w.caps[i]
	last := len(by.Spans) - 1
	past, ok := by.past[meterKey]
	if !ok {
		if past, err = w.earlier(ctx, by.Spans[:last], a.Counter, meterKey); err != nil {
			return u, 0, err
		}
		by.past[meterKey] = past
		for n := range past.Low {
			by.ahead = by.ahead || past.Low[n] < past.High[n]
		}
	}
	c, err := w.current(ctx, idOf(other(a.Counter, meterKey), a.Kind), a.WindowEnd, w.rules.scale(meterKey), 0)
	if err != nil {
		return u, 0, err
	}
	t, err := w.s.usage(ctx, c.id.CounterKey, c.end, w.rules.scale(meterKey))
	if err != nil {
		return u, 0, err
	}
	short = max(0, arith.Sub(t.used, c.total()))
	u.Low = append(append(u.Low, past.Low...), t.used)
	u.High = append(append(u.High, past.High...), max(t.used, c.total()))
	return u, short, nil
}

// earlier is what was used in spans that are over: as far as the journal knows it, and up to what was leased for them and is not
// known to be lost.
func (w *draw) earlier(ctx context.Context, spans []subscription.Span, k store.CounterKey, meterKey string) (u spendcap.Use, err error) {
	for n := range spans {
		id := idOf(other(k, meterKey), quota.SpendCap)
		id.Start = spans[n].Start.UnixMicro()
		c := w.c.counters[id]
		if c == nil || c.stale {
			if c, err = w.s.read(ctx, w.c, id, spans[n].End.UnixMicro()); err != nil {
				return u, err
			}
		}
		c.used = w.s.cfg.Mono()
		t, err := w.s.usage(ctx, id.CounterKey, spans[n].End.UnixMicro(), w.rules.scale(meterKey))
		if err != nil {
			return u, err
		}
		most := arith.Sub(t.reported, t.voided)
		for j := range c.leases {
			most = arith.Add(most, arith.Sub(c.leases[j].charged, c.leases[j].writtenOff))
		}
		u.Low, u.High = append(u.Low, t.used), append(u.High, max(t.used, most))
	}
	return u, nil
}

// capCeiling is what a spend cap leaves to the ask's meter. The other meters count with all that they may reach on their leases.
func (w *draw) capCeiling(ctx context.Context, i int, l *rule) (int64, error) {
	a, by := &w.Asks[i], w.caps[i]
	left := amount(&l.declared)
	for meterKey := range by.Scales {
		if meterKey == a.Counter.Meter {
			continue
		}
		u, _, err := w.usedOf(ctx, i, meterKey)
		if err != nil {
			return 0, err
		}
		cost, err := by.Charge(meterKey, u)
		if err == nil {
			left, err = left.Sub(cost)
		}
		if err != nil {
			return 0, err
		}
	}
	return w.fit(ctx, i, left)
}

// fit is how far the ask's counter may go so that its meter costs no more than an amount.
func (w *draw) fit(ctx context.Context, i int, left money.Rational) (int64, error) {
	meterKey := w.Asks[i].Counter.Meter
	u, short, err := w.usedOf(ctx, i, meterKey)
	if err != nil {
		return 0, err
	}
	n, err := w.caps[i].Ceiling(meterKey, u, left)
	if n == unlimited || err != nil {
		return n, err
	}
	return arith.Sub(n, short), nil
}

// walletCeiling is how far credits in money let the ask's meter go: what usage costs that the journal does not have yet, of this
// meter and all others, is never more than what is left of the grants that pay for the meter.
func (w *draw) walletCeiling(ctx context.Context, i int) (int64, error) {
	a, by := &w.Asks[i], w.caps[i]
	if by.known == nil {
		wallet, err := w.s.cfg.Wallet(ctx, w.CustomerID, a.Counter.Meter, time.UnixMicro(w.Now).UTC())
		if err != nil {
			return 0, fmt.Errorf("read credits in money: %w", err)
		}
		by.known = &wallet
	}
	left, err := w.pending(ctx, i, by.known.Left)
	if err != nil {
		return 0, err
	}
	u, short, err := w.usedOf(ctx, i, a.Counter.Meter)
	if err != nil {
		return 0, err
	}
	paid, err := w.known(i, by.Period, a.Counter.Meter, &u)
	if err != nil {
		return 0, err
	}
	cost, err := by.Charge(a.Counter.Meter, spendcap.Use{Low: u.Low, High: u.Low})
	if err == nil {
		left, err = left.Add(cost)
	}
	if err != nil {
		return 0, err
	}
	n, err := by.Ceiling(a.Counter.Meter, u, left)
	if n == unlimited || err != nil {
		return n, err
	}
	return arith.Sub(arith.Add(n, paid), short), nil
}

// pending takes off what usage of other meters, and of the period before, may cost that the journal does not have.
func (w *draw) pending(ctx context.Context, i int, left money.Rational) (money.Rational, error) {
	a, by := &w.Asks[i], w.caps[i]
	off := func(p *spendcap.Period, meterKey string, u spendcap.Use) error {
		if _, err := w.known(i, p, meterKey, &u); err != nil {
			return err
		}
		most, err := p.Charge(meterKey, u)
		if err != nil {
			return err
		}
		least, err := p.Charge(meterKey, spendcap.Use{Low: u.Low, High: u.Low})
		if err == nil {
			most, err = most.Sub(least)
		}
		if err == nil {
			left, err = left.Sub(most.Max(money.Rational{}))
		}
		return err
	}
	for meterKey := range by.Scales {
		if meterKey == a.Counter.Meter {
			continue
		}
		u, _, err := w.usedOf(ctx, i, meterKey)
		if err == nil {
			err = off(by.Period, meterKey, u)
		}
		if err != nil {
			return left, err
		}
	}
	if by.before == nil {
		return left, nil
	}
	for meterKey := range by.before.Scales {
		u, err := w.earlier(ctx, by.before.Spans, a.Counter, meterKey)
		if err == nil {
			err = off(by.before, meterKey, u)
		}
		if err != nil {
			return left, err
		}
	}
	return left, nil
}

// known puts the least of a meter's use to what the wallet knows, without the units that credits in units paid. It returns how many
// they paid in the last span.
func (w *draw) known(i int, p *spendcap.Period, meterKey string, u *spendcap.Use) (paid int64, err error) {
	wallet := w.caps[i].known
	scale := w.rules.scale(meterKey)
	first := 0
	for n := range p.Spans {
		var used, off money.Decimal
		begins := n == 0
		for k := range wallet.Usage {
			x := &wallet.Usage[k]
			if x.Meter != meterKey || !p.Spans[n].Contains(x.At) {
				continue
			}
			begins = true
			if used, err = used.Add(x.Quantity); err == nil {
				off, err = off.Add(x.Paid)
			}
			if err != nil {
				return 0, err
			}
		}
		w.caps[i].ahead = w.caps[i].ahead || u.Low[n] < u.High[n]
		if !begins { // it is charged as the span before, and a part of what is known of that
			u.Low[first], paid = max(0, arith.Sub(u.Low[first], u.Low[n])), 0
			continue
		}
		first, paid = n, arith.Floored(off, scale)
		low := arith.Scaled(used, scale)
		u.Low[n], u.High[n] = arith.Sub(low, paid), arith.Sub(max(low, u.High[n]), paid)
	}
	return paid, nil
}
