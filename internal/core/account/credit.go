package account

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Redemption is a coupon of the catalog that a customer uses. What it takes off invoices stands on them.
type Redemption struct {
	ID             string // rdm_…
	CustomerID     string
	Coupon         string // key in the catalog
	CatalogVersion int64  // what it takes off is pinned to it
	RedeemedAt     time.Time
	EndedAt        time.Time // no invoice from then on; zero: not ended
	Actor, Reason  string
}

// Active says whether the redemption holds at now.
func (r Redemption) Active(now time.Time) bool {
	return !now.Before(r.RedeemedAt) && (r.EndedAt.IsZero() || now.Before(r.EndedAt))
}

// TopUpRule has credits granted by themselves when few are left. A customer has at most one for each meter, and one for money.
type TopUpRule struct {
	CustomerID string
	Meter      string        // empty: money
	Below      money.Decimal // granted once the balance is below it
	Amount     money.Decimal // of each grant
	Paid       money.Decimal // what the customer pays for each, in their currency
	Most       int           // grants in each Every, of the calendar in the customer's zone
	Every      period.Every
	ValidDays  int // a grant expires so many local days later; 0: never
	SetAt      time.Time
	Actor      string
}

// CreditMark is the lowest threshold that a customer was told of, for one meter or for money.
type CreditMark struct {
	CustomerID string
	Meter      string // empty: money
	Percent    int    // of what was granted and is in force; 100: none
	Crossings  int64  // how often a threshold was crossed downwards
}
