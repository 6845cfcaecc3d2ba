// Package credit turns a customer's grants and subscriptions into what core/ledger burns. Enforcement, invoices and answers all
// come here, so that they have the same balances.
package credit

import (
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// periodsMax bounds the usage periods of one subscription that are looked at: 40 years of days.
const periodsMax = 15_000

// Pool is what burns together: grants of one meter's units, or of money.
type Pool struct {
	// Start is where burning begins: the start of the usage period in which the first grant takes effect, or that instant itself
	// when no subscription was in force then.
	Start  time.Time
	Grants []ledger.Grant
	Resets []ledger.Reset // one where each usage period begins after Start
}

// Holder is whose credits they are.
type Holder struct {
	Zone          period.Zone
	Subscriptions []account.Subscription // their billing periods are the usage periods
	Grants        []account.Grant
}

// Units is the pool of one meter's units, with the usage periods that began at or before until.
func (h *Holder) Units(meterKey string, until time.Time) Pool {
	return h.pool(until, func(g *account.Grant) bool { return g.Meter == meterKey })
}

// Money is the pool of money.
func (h *Holder) Money(until time.Time) Pool { return h.Units("", until) }

func (h *Holder) pool(until time.Time, wanted func(*account.Grant) bool) (p Pool) {
	for i := range h.Grants {
		// What a grant lost by its expiry an older version wrote down as a correction; it follows from the expiry.
		if g := &h.Grants[i]; g.GrantID == "" && wanted(g) {
			p.Grants = append(p.Grants, burning(g, h.Zone))
			if p.Start.IsZero() || g.EffectiveAt.Before(p.Start) {
				p.Start = g.EffectiveAt
			}
		}
	}
	if len(p.Grants) > 0 {
		p.Resets = h.resets(&p.Start, until)
	}
	return p
}

// burning is a grant as the ledger burns it. Without a rule on rollover a new usage period leaves it as it is.
func burning(g *account.Grant, z period.Zone) ledger.Grant {
	out := ledger.Grant{
		ID: g.ID, Amount: g.Amount, Priority: g.Priority, EffectiveAt: g.EffectiveAt, ExpiresAt: g.ExpiresAt, VoidedAt: g.VoidedAt,
		Meters: g.Meters, Every: g.Every, Anchor: g.Anchor, Zone: z, MaxRollover: new(g.Amount),
	}
	if g.Rollover != nil {
		out.MinRollover, out.MaxRollover = new(g.Rollover.Min), new(g.Rollover.Max)
	}
	return out
}

// resets are the starts of usage periods after start, which moves to the start of the one that it lies in.
func (h *Holder) resets(start *time.Time, until time.Time) []ledger.Reset {
	var at []time.Time
	first := *start
	for i := range h.Subscriptions {
		s := &h.Subscriptions[i]
		anchor := s.Anchor(h.Zone)
		if s.Active(first) {
			if p, ok := anchor.Period(first); ok {
				*start = p.Start
			}
		}
		for _, p := range anchor.Periods(until, periodsMax) {
			if s.End.IsZero() || p.Start.Before(s.End) {
				at = append(at, p.Start)
			}
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	var out []ledger.Reset
	for _, t := range slices.CompactFunc(at, time.Time.Equal) {
		if t.After(*start) {
			out = append(out, ledger.Reset{At: t})
		}
	}
	return out
}

// Slices tile the time from Start on, so that inside of one nothing changes but by use: what was used in a slice burns as if it had
// been used at its start. The last one has now in it and is open; before Start there are none.
func (p *Pool) Slices(now time.Time) []period.Interval {
	if len(p.Grants) == 0 || now.Before(p.Start) {
		return nil
	}
	cuts := ledger.Instants(p.Grants, period.Interval{Start: p.Start, End: just(now)})
	for _, r := range p.Resets {
		if !r.At.After(now) {
			cuts = append(cuts, r.At)
		}
	}
	slices.SortFunc(cuts, time.Time.Compare)
	out := []period.Interval{{Start: p.Start}}
	for _, at := range slices.CompactFunc(cuts, time.Time.Equal) {
		out[len(out)-1].End = at
		out = append(out, period.Interval{Start: at})
	}
	return out
}

// just is the first instant after t: what changes at t has changed.
func just(t time.Time) time.Time { return t.Add(1) }

// Balance is what became of a pool.
type Balance struct {
	Grants  map[string]money.Rational // what is left of each, by id; 0 of one that is not active
	Burned  map[string]money.Rational // of each, in all
	Left    money.Rational            // of all grants
	Overage money.Rational            // of the usage period, which no grant has paid
}

// Burn has uses burn the pool, at the starts of slices or at any other instants up to now. The errors are those of ledger.Burn.
func (p *Pool) Burn(uses []ledger.Use, now time.Time) (Balance, error) {
	b := Balance{Grants: map[string]money.Rational{}, Burned: map[string]money.Rational{}}
	if len(p.Grants) == 0 || now.Before(p.Start) {
		return b, nil
	}
	out, err := ledger.Burn(p.Start, p.Grants, uses, p.Resets, just(now))
	if err != nil {
		return b, err
	}
	b.Grants, b.Overage = out.Balances, out.Overage
	for _, left := range out.Balances {
		if b.Left, err = b.Left.Add(left); err != nil {
			return b, err
		}
	}
	for _, x := range out.Burned {
		if b.Burned[x.GrantID], err = b.Burned[x.GrantID].Add(x.Amount); err != nil {
			return b, err
		}
	}
	return b, nil
}

// Granted is what the grants that are active at now came to at first; a refill makes it that again.
func (p *Pool) Granted(now time.Time) (sum money.Decimal, err error) {
	for i := range p.Grants {
		if g := &p.Grants[i]; active(g, now) {
			if sum, err = sum.Add(g.Amount); err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}

func active(g *ledger.Grant, now time.Time) bool {
	return !now.Before(g.EffectiveAt) && (g.ExpiresAt.IsZero() || now.Before(g.ExpiresAt)) && (g.VoidedAt.IsZero() || now.Before(g.VoidedAt))
}

// NextExpiry is when the first of the active grants expires that has something left; zero: none does.
func (p *Pool) NextExpiry(b *Balance, now time.Time) (at time.Time) {
	for i := range p.Grants {
		g := &p.Grants[i]
		if g.ExpiresAt.IsZero() || !active(g, now) || b.Grants[g.ID].Sign() <= 0 {
			continue
		}
		if at.IsZero() || g.ExpiresAt.Before(at) {
			at = g.ExpiresAt
		}
	}
	return at
}

// Spent is what a customer's usage came to, by one position of the journal.
type Spent struct {
	Uses  []ledger.Use   // what it costs before credits in money, piece by piece
	Open  money.Rational // what of that is of periods that are not over
	Usage []Usage
}

// Usage is a quantity of a meter that is charged, from an instant on up to the next one of the meter. Credits in units pay Paid of it.
type Usage struct {
	Meter          string
	At             time.Time
	Quantity, Paid money.Decimal
}

// Payable is what is left of a pool of money for usage of a meter.
func (p *Pool) Payable(b *Balance, meterKey string, now time.Time) (sum money.Rational, err error) {
	for i := range p.Grants {
		g := &p.Grants[i]
		if active(g, now) && (len(g.Meters) == 0 || slices.Contains(g.Meters, meterKey)) {
			if sum, err = sum.Add(b.Grants[g.ID]); err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}
