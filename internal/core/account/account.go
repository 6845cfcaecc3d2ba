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

// Subscription puts a customer on a plan for [Start, End).
type Subscription struct {
	ID             string // sub_…
	CustomerID     string
	Plan           string
	CatalogVersion int64 // prices are pinned to it
	Start          time.Time
	End            time.Time // zero: open
	BillingDay     int       // 1..31, the local day on which billing periods begin
	CreatedAt      time.Time
}

// Active says whether now lies in [Start, End).
func (s Subscription) Active(now time.Time) bool {
	return !now.Before(s.Start) && (s.End.IsZero() || now.Before(s.End))
}

// Anchor places the billing periods in the customer's zone.
func (s Subscription) Anchor(z period.Zone) period.Anchor {
	return period.Anchor{Start: s.Start, Day: s.BillingDay, Zone: z}
}

// Principal is who a key speaks for.
type Principal struct {
	Key             APIKey
	Customer        Customer
	Subscription    Subscription // the active one; zero without HasSubscription
	HasSubscription bool
	// Revision changes when anything changes that limits depend on: subscription, overrides, credits.
	Revision uint64
	// Abnormal: the customer's use was found abnormal, and not yet usual again.
	Abnormal bool
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

// Grant gives usage credits: units of a meter, in front of everything priced.
type Grant struct {
	ID                     string // grt_…
	CustomerID, Meter      string
	Amount                 money.Decimal // units; negative: what expired or was taken back of GrantID
	GrantID                string        // of a negative one: what it corrects
	Reason, Author         string
	CreatedAt, EffectiveAt time.Time
	ExpiresAt              time.Time // zero: never
}
