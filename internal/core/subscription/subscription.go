// Package subscription is a subscription over time: its history of dated changes, the segments that follow from it, and what is
// to be charged for them. It knows no usage.
package subscription

import (
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// ErrInvalid is a change that cannot follow the history so far. It comes wrapped in a *Fault.
var ErrInvalid = errors.New("invalid change")

// Fault says what is wrong with which change. It is ErrInvalid.
type Fault struct {
	ChangeID string // empty: the subscription itself
	Pointer  string // JSON pointer into the change: "/at"
	Detail   string
}

// Error is the detail.
func (f *Fault) Error() string { return f.Detail }

// Unwrap is ErrInvalid.
func (f *Fault) Unwrap() error { return ErrInvalid }

// Kind says what a change does.
type Kind string

// The kinds of changes.
const (
	ToPlan   Kind = "plan"     // upgrade or downgrade, with the newest prices of Version
	ToPrices Kind = "version"  // the same plan at the prices of another catalog version
	Quantity Kind = "quantity" // of a licensed price: seats
	SetAddOn Kind = "add_on"   // AddOn with Quantity; 0 ends it
	SetPrice Kind = "price"    // a price of this customer alone, in place of the plan's price of the same key
	Pause    Kind = "pause"
	Resume   Kind = "resume"
	Trial    Kind = "trial" // the trial ends at Until instead
	Cancel   Kind = "cancel"
	Revive   Kind = "revive" // takes a cancellation back that is not in force yet
)

// Change is one entry of a history. It is never altered; a later one that is effective at the same instant wins.
type Change struct {
	ID             string // sch_…
	SubscriptionID string
	At             time.Time // when it takes effect, also in the past
	Kind           Kind
	Plan           string // ToPlan
	Version        int64  // ToPlan, ToPrices, SetAddOn: the catalog version of the prices
	Key            string // Quantity, SetPrice: of the price; SetAddOn: of the add-on
	Quantity       money.Decimal
	Price          *price.Price // SetPrice; nil takes an earlier one back
	Until          time.Time    // Trial
	// Now bills the difference with an invoice of its own at At; else it stands on the next one.
	Now           bool
	Reason, Actor string
	CreatedAt     time.Time
}

// AddOn is an add-on in force.
type AddOn struct {
	Key      string
	Version  int64
	Quantity money.Decimal
}

// Segment is a span in which nothing changes. Segments of a subscription tile [Start, End) without gap.
type Segment struct {
	period.Interval
	Plan    string
	Version int64
	// Anchor places the billing periods; a segment never crosses a change of it.
	Anchor     period.Anchor
	Quantities map[string]money.Decimal // by key of a licensed price; 1 where none is given
	AddOns     []AddOn                  // by key
	Prices     []price.Price            // of this customer alone, by key
	Paused     bool
	Trial      bool
	// Now says that a change at Start bills the difference at once.
	Now bool
}

// History is all that is known of a subscription: it as it was created, and its changes in any order. At one instant they take
// effect in order of CreatedAt, then of ID.
type History struct {
	account.Subscription
	Changes []Change
}
