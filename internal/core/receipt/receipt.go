// Package receipt forms decision ids: a short id (node, epoch, sequence) and an encrypted, authenticated token that
// explains the decision with no look-up.
package receipt

import (
	"errors"
	"time"
)

// ErrToken is all that is said about a malformed, forged or foreign id, so that trying ids teaches nothing.
var ErrToken = errors.New("not a decision id of this deployment")

// Outcome is what became of a request.
type Outcome uint8

// The outcomes, with the status and problem code that a gateway answers.
const (
	Allowed            Outcome = iota + 1
	DeniedRate                 // 429 rate_exceeded
	DeniedQuota                // 429 quota_exceeded
	DeniedSpend                // 402 spend_cap_reached
	DeniedKey                  // 401, outcome only; Detail has the code
	DeniedSubscription         // 403 no_subscription
	DeniedRoute                // 404 route_unknown, outcome only
	Unavailable                // 503; Detail may have the code
	DeniedConcurrency          // 429 concurrency_exceeded
	DeniedCredits              // 402 credits_exhausted
	DeniedEntitlement          // 403 entitlement_missing
	DeniedAbnormal             // 429 abnormal_usage
	DeniedUnpaid               // 402 unpaid

	outcomes // how many there are, and one
)

// Outcomes is above every Outcome.
const Outcomes = outcomes

// String is "allowed", "denied" or "unavailable"; "unknown" for no outcome.
func (o Outcome) String() string {
	switch o {
	case Allowed:
		return "allowed"
	case DeniedRate, DeniedQuota, DeniedSpend, DeniedKey, DeniedSubscription, DeniedRoute, DeniedConcurrency, DeniedCredits,
		DeniedEntitlement, DeniedAbnormal, DeniedUnpaid:
		return "denied"
	case Unavailable:
		return "unavailable"
	case outcomes:
		return "unknown"
	default:
		return "unknown"
	}
}

// Code is the stable problem code; "" for Allowed. Receipt.Code is more exact for keys.
func (o Outcome) Code() string {
	switch o {
	case DeniedRate:
		return "rate_exceeded"
	case DeniedQuota:
		return "quota_exceeded"
	case DeniedSpend:
		return "spend_cap_reached"
	case DeniedKey:
		return "key_unknown"
	case DeniedSubscription:
		return "no_subscription"
	case DeniedRoute:
		return "route_unknown"
	case Unavailable:
		return "unavailable"
	case DeniedConcurrency:
		return "concurrency_exceeded"
	case DeniedCredits:
		return "credits_exhausted"
	case DeniedEntitlement:
		return "entitlement_missing"
	case DeniedAbnormal:
		return "abnormal_usage"
	case DeniedUnpaid:
		return "unpaid"
	case Allowed, outcomes:
		return ""
	default:
		return ""
	}
}

// Limit is one limit's share in a decision. Quantities are in the meter's scale; a spend cap's are money in the
// currency's 10^-Scale units.
type Limit struct {
	Key                  string
	Kind                 uint8 // quota.Kind
	Meter                string
	Scale                int // 0 to 255
	Before, After, Quota int64
	WindowStart, ResetAt int64 // microseconds, 0 for none; ResetAt: when it clears or the window ends
	Violated             bool
}

// Receipt is what a token says. Lists and texts are cut to fit MaxToken, never the deciding limit; Truncated says so.
type Receipt struct {
	ID             ShortID
	Outcome        Outcome
	Detail         string // 401: key_missing, key_unknown, key_revoked, key_expired; 503: the code if any; else ""
	Time           int64  // microseconds, business clock
	CatalogVersion int64
	CustomerID     string // cus_…
	Customer       string // its key
	KeyID          string // key_…
	Plan           string
	Route          string // match pattern
	Meter          string
	Scale          int // 0 to 255
	Cost           int64
	Deciding       int // index in Limits, -1 none
	Limits         []Limit
	WouldPassOn    []string // plan keys
	Truncated      bool
}

// At is the decision instant.
func (r *Receipt) At() time.Time { return time.UnixMicro(r.Time).UTC() }

// Code is the stable problem code, as exact as it is known; "" for Allowed.
func (r *Receipt) Code() string {
	if r.Detail != "" {
		return r.Detail
	}
	return r.Outcome.Code()
}
