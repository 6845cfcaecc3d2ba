package ledger

import (
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
	// Every refills to Amount at each of its periods from Anchor on, in Zone; nil: the grant does not recur.
	Every                    *period.Every
	Anchor                   time.Time
	Zone                     period.Zone
	MinRollover, MaxRollover *money.Decimal // at a reset; nil Max: nothing stays
}

// Use is usage that grants pay for.
type Use struct {
	At       time.Time
	Quantity money.Rational
	Meter    string
}

// Reset begins a usage period: what is left of grants rolls over, and overage is dropped unless it is preserved.
type Reset struct {
	At              time.Time
	PreserveOverage bool
}

// Burned is what one grant paid of one use.
type Burned struct {
	GrantID string
	Use     int // index
	Amount  money.Rational
}

// Outcome is what became of grants.
type Outcome struct {
	Balances       map[string]money.Rational // by grant id, at until
	Overage, Usage money.Rational            // both since the last reset
	Burned         []Burned
}
