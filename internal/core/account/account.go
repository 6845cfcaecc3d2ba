// Package account holds customers, API keys and subscriptions, and how their ids and secrets are formed.
package account

import (
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// The sentinels that stores and use cases wrap; transports map them to statuses.
var (
	ErrNotFound  = errors.New("not found")
	ErrExists    = errors.New("already exists")
	ErrInvalid   = errors.New("invalid")
	ErrBadSecret = errors.New("malformed key")
	ErrState     = errors.New("wrong state")
)

// Customer is who is metered and billed.
type Customer struct {
	ID        string // cus_…
	Key       string // the user's name for it, unique, see ValidKey
	Name      string
	Zone      period.Zone // its calendar quotas and billing periods
	Currency  money.Currency
	CreatedAt time.Time
	Billing   BillingDetails
}

// BillingDetails are what invoices and taxes need to know of a customer. All may be empty.
type BillingDetails struct {
	LegalName, Street, City, PostalCode, Region, Email string
	Country                                            string // ISO 3166 alpha-2
	TaxID                                              string
	Exempt                                             bool // owes no tax
	DueDays                                            int  // instead of the plan's; 0: as the plan says
}

// KeyStatus is what a key is worth at an instant.
type KeyStatus uint8

// The statuses of a key. Only an active one opens anything.
const (
	KeyActive KeyStatus = iota + 1
	KeyRevoked
	KeyExpired
)

// String is the status as the API and the console spell it.
func (s KeyStatus) String() string {
	switch s {
	case KeyActive:
		return "active"
	case KeyRevoked:
		return "revoked"
	case KeyExpired:
		return "expired"
	default:
		return "unknown"
	}
}

// APIKey never holds the secret, only its peppered digest.
type APIKey struct {
	ID         string // key_…
	CustomerID string
	Name       string
	Project    string   // groups keys for limits per project; empty: none
	Digest     [32]byte // HMAC-SHA-256 of the secret under secrets/pepper
	Hint       string   // SecretHint of the secret
	CreatedAt  time.Time
	ExpiresAt  time.Time // the first instant at which it is no longer good; zero: never
	RevokedAt  time.Time // zero: not revoked
}

// Status is the key's at now. A revoked key is so for ever, whatever now says: a clock that steps back revives nothing.
func (k APIKey) Status(now time.Time) KeyStatus {
	switch {
	case !k.RevokedAt.IsZero():
		return KeyRevoked
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return KeyExpired
	default:
		return KeyActive
	}
}

// Subscription puts a customer on a plan for [Start, End). What changes over time is in its history (core/subscription); Plan,
// CatalogVersion, Every and the anchor are those of the instant it was asked for.
type Subscription struct {
	ID             string // sub_…
	CustomerID     string
	Plan           string
	CatalogVersion int64 // prices are pinned to it
	Start          time.Time
	End            time.Time // zero: open
	BillingDay     int       // 1..31, the local day on which billing periods begin
	CreatedAt      time.Time

	AnchorAt time.Time    // billing periods are counted from it; zero: from Start. A change to another interval moves it
	Every    period.Every // the plan's billing period; zero: a month
	Calendar bool         // billing periods follow the calendar
	Paused   bool         // at the instant it was asked for: nothing is admitted and nothing charged
	TrialEnd time.Time    // zero: no trial
	PricedAt time.Time    // since when usage is charged as at the instant it was asked for; zero: since Start
}

// Active says whether now lies in [Start, End).
func (s Subscription) Active(now time.Time) bool {
	return !now.Before(s.Start) && (s.End.IsZero() || now.Before(s.End))
}

// Anchor places the billing periods in the customer's zone.
func (s Subscription) Anchor(z period.Zone) period.Anchor {
	from := s.AnchorAt
	if from.IsZero() {
		from = s.Start
	}
	return period.Anchor{Start: from, Day: s.BillingDay, Zone: z, Every: s.Every, Calendar: s.Calendar}
}

// Principal is who a key speaks for.
type Principal struct {
	Key             APIKey
	Customer        Customer
	Subscription    Subscription // the one in force; zero without one
	HasSubscription bool         // one is in force, and not paused
	// Revision changes when anything changes that limits depend on: subscription, overrides, credits.
	Revision uint64
	// Abnormal: the customer's use was found abnormal, and not yet usual again.
	Abnormal bool
	// Unpaid: the customer is suspended until an invoice is paid.
	Unpaid bool
}

// Override replaces the number of one limit of a customer's plan, for the customer or one key, until it expires.
type Override struct {
	ID         string // ovr_…
	CustomerID string
	KeyID      string // empty: the customer's own counter, or each of its counters where the limit is per something
	Limit      string // key of the limit in the plan
	Value      string // decimal: quota, cap, requests at once; for a bucket a rate such as "400/s"
	Burst      string // of a bucket; empty: as in the plan
	Reason     string // required
	Author     string
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	EndedAt    time.Time // taken back; zero: not
}

// Active says whether the override holds at now.
func (o Override) Active(now time.Time) bool {
	return o.EndedAt.IsZero() && (o.ExpiresAt.IsZero() || now.Before(o.ExpiresAt))
}

// Grant gives usage credits, in front of everything priced: units of a meter, or money for usage charges before tax.
type Grant struct {
	ID                     string // grt_…
	CustomerID             string
	Meter                  string        // of units; empty: the grant is of money, in the customer's currency
	Amount                 money.Decimal // above 0; negative: what was taken back of GrantID, for records of older versions
	GrantID                string        // of a negative one: what it corrects
	Reason, Author         string
	CreatedAt, EffectiveAt time.Time
	ExpiresAt              time.Time // zero: never
	VoidedAt               time.Time // what is left is lost from then on; zero: not voided

	Kind     GrantKind
	Priority int      // lower ones burn first
	Meters   []string // of money: only usage of these; empty: all
	// Every refills the grant to Amount at each multiple of it from Anchor on; zero: it does not recur.
	Every    *period.Every
	Anchor   time.Time
	Rollover *Rollover     // what of the rest stays at the start of a usage period; nil: all
	Paid     money.Decimal // what the customer paid for it, of a prepaid one
	// Once names what a grant was made for; of two of a customer with the same one is made. Empty: an operator made it.
	Once string
}

// GrantKind says what a grant is for the seller's books.
type GrantKind string

// The kinds of grants: a promotional one is given away, a prepaid one was bought, a top-up was bought because little was left.
const (
	Promotional GrantKind = "promotional"
	Prepaid     GrantKind = "prepaid"
	TopUp       GrantKind = "top_up"
)

// Rollover bounds what stays of a grant at a reset: min(Max, max(balance, Min)).
type Rollover struct{ Min, Max money.Decimal }
