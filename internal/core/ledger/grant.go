package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Grant is usage credit as it burns: units of a meter, or money.
type Grant struct {
	ID          string
	Amount      money.Decimal // at EffectiveAt, and after each refill
	Priority    int           // lower ones burn first, then what expires first, then what was effective first, then by ID
	EffectiveAt time.Time
	ExpiresAt   time.Time // zero: never
	VoidedAt    time.Time // zero: not
	Meters      []string  // only uses of these; empty: all
	// Every refills to Amount at Anchor + k × Every, for any whole k, by the clock of Zone: see period.Recurrence. nil: the grant
	// does not recur.
	Every                    *period.Every
	Anchor                   time.Time
	Zone                     period.Zone
	MinRollover, MaxRollover *money.Decimal // at a reset; nil Max: nothing stays
}

// Validate is ErrInvalid for a grant that makes no sense.
func (g *Grant) Validate() error {
	switch {
	case g.ID == "":
		return fmt.Errorf("%w: a grant has no id", ErrInvalid)
	case g.Amount.Sign() < 0:
		return fmt.Errorf("%w: grant %q: the amount is negative", ErrInvalid, g.ID)
	case g.EffectiveAt.IsZero():
		return fmt.Errorf("%w: grant %q has no beginning", ErrInvalid, g.ID)
	case !g.ExpiresAt.IsZero() && !g.EffectiveAt.Before(g.ExpiresAt):
		return fmt.Errorf("%w: grant %q ends before it begins", ErrInvalid, g.ID)
	case g.Every != nil && g.Anchor.IsZero():
		return fmt.Errorf("%w: grant %q recurs without an anchor", ErrInvalid, g.ID)
	case g.MinRollover != nil && g.MinRollover.Sign() < 0, g.MaxRollover != nil && g.MaxRollover.Sign() < 0:
		return fmt.Errorf("%w: grant %q: a rollover is negative", ErrInvalid, g.ID)
	}
	return nil
}

// Instants lists the instants strictly inside an interval, in order and once each, at which one of the grants starts, ends or is
// refilled. An interval without end has none.
func Instants(grants []Grant, in period.Interval) []time.Time {
	var all []time.Time
	for i := range grants {
		for t := grants[i].next(in.Start); !t.IsZero() && t.Before(in.End); t = grants[i].next(t) {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return slices.CompactFunc(all, time.Time.Equal)
}

// pays says whether the grant may pay for a meter.
func (g *Grant) pays(meter string) bool {
	return len(g.Meters) == 0 || slices.Contains(g.Meters, meter)
}

// end is when the grant stops, by expiry or void; zero: never.
func (g *Grant) end() time.Time {
	if g.ExpiresAt.IsZero() || !g.VoidedAt.IsZero() && g.VoidedAt.Before(g.ExpiresAt) {
		return g.VoidedAt
	}
	return g.ExpiresAt
}

// next is the first instant after t at which the balance changes by itself: the grant starts, is refilled or ends. Zero: never.
func (g *Grant) next(t time.Time) time.Time {
	end := g.end()
	if !end.IsZero() && (!end.After(t) || !g.EffectiveAt.Before(end)) {
		return time.Time{}
	}
	if t.Before(g.EffectiveAt) {
		return g.EffectiveAt
	}
	if g.Every == nil {
		return end
	}
	refill := period.Recurrence{Anchor: g.Anchor, Every: *g.Every, Zone: g.Zone}.Next(t)
	if !end.IsZero() && end.Before(refill) {
		return end
	}
	return refill
}

// rollover is what stays of a balance at a reset.
func (g *Grant) rollover(balance money.Rational) money.Rational {
	if g.MinRollover != nil {
		balance = balance.Max(g.MinRollover.Rational())
	}
	if g.MaxRollover == nil {
		return money.Rational{}
	}
	return balance.Min(g.MaxRollover.Rational())
}
