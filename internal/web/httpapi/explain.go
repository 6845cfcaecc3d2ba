package httpapi

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// ExplanationBody says why a request was admitted or refused. Limit, Consumed, Quota and ResetsAt are the deciding limit's and
// absent when none decided.
type ExplanationBody struct {
	Outcome        string           `json:"outcome" enum:"allowed,denied,unavailable"`
	Code           string           `json:"code" doc:"Problem code; empty when allowed"`
	DecisionID     string           `json:"decision_id"`
	Time           time.Time        `json:"time"`
	Customer       string           `json:"customer" doc:"The customer's key"`
	CustomerID     string           `json:"customer_id"`
	KeyID          string           `json:"key_id"`
	Plan           string           `json:"plan"`
	Route          string           `json:"route"`
	Meter          string           `json:"meter"`
	Cost           money.Decimal    `json:"cost"`
	Limit          string           `json:"limit,omitempty"`
	Consumed       *money.Decimal   `json:"consumed,omitempty"`
	Quota          *money.Decimal   `json:"quota,omitempty"`
	ResetsAt       time.Time        `json:"resets_at,omitzero"`
	CatalogVersion int64            `json:"catalog_version"`
	WouldPassOn    []string         `json:"would_pass_on" doc:"Plans on which the request would have passed"`
	Limits         []ExplainedLimit `json:"limits"`
	Truncated      bool             `json:"truncated" doc:"Lists or texts were cut to fit the decision id"`
}

// ExplainedLimit is one limit's share in a decision.
type ExplainedLimit struct {
	Limit    string        `json:"limit"`
	Kind     string        `json:"kind" enum:"token_bucket,quota,spend_cap,fixed,rolling,concurrency,credits"`
	Meter    string        `json:"meter"`
	Before   money.Decimal `json:"before"`
	After    money.Decimal `json:"after"`
	Quota    money.Decimal `json:"quota"`
	Overage  money.Decimal `json:"overage" doc:"How far after is beyond the limit, which did not refuse: it is soft, shadow or in its grace, or usage was reported from outside"`
	ResetsAt time.Time     `json:"resets_at,omitzero"`
	Violated bool          `json:"violated"`
}

// Explanation is the document form of a receipt. It needs no look-up.
func Explanation(decisionID string, r receipt.Receipt) ExplanationBody {
	out := ExplanationBody{
		Outcome: r.Outcome.String(), Code: r.Code(), DecisionID: decisionID, Time: r.At(),
		Customer: firstOf(r.Customer, r.CustomerID), CustomerID: r.CustomerID, KeyID: r.KeyID, Plan: r.Plan, Route: r.Route,
		Meter: r.Meter, Cost: scaled(r.Cost, r.Scale), CatalogVersion: r.CatalogVersion, WouldPassOn: []string{},
		Limits: make([]ExplainedLimit, 0, len(r.Limits)), Truncated: r.Truncated,
	}
	out.WouldPassOn = append(out.WouldPassOn, r.WouldPassOn...)
	for i, l := range r.Limits {
		e := ExplainedLimit{
			Limit: l.Key, Kind: kindName(quota.Kind(l.Kind)), Meter: l.Meter, Before: scaled(l.Before, l.Scale),
			After: scaled(l.After, l.Scale), Quota: scaled(l.Quota, l.Scale), ResetsAt: microTime(l.ResetAt), Violated: l.Violated,
		}
		if l.After > l.Quota && !l.Violated && quota.Kind(l.Kind) != quota.TokenBucket {
			e.Overage = scaled(l.After-l.Quota, l.Scale)
		}
		out.Limits = append(out.Limits, e)
		if i == r.Deciding {
			out.Limit, out.Consumed, out.Quota, out.ResetsAt = e.Limit, &e.After, &e.Quota, e.ResetsAt
		}
	}
	return out
}

// scaleMax is the finest scale that a decimal can hold. A receipt of ours has none finer.
const scaleMax = 38

func scaled(units int64, scale int) money.Decimal {
	if scale < 0 || scale > scaleMax {
		return money.Decimal{}
	}
	return money.FromScaled(units, scale)
}

func kindName(k quota.Kind) string {
	switch k {
	case quota.TokenBucket:
		return "token_bucket"
	case quota.Quota:
		return "quota"
	case quota.SpendCap:
		return "spend_cap"
	case quota.Fixed:
		return "fixed"
	case quota.Rolling:
		return "rolling"
	case quota.Concurrency:
		return "concurrency"
	case quota.Credits:
		return "credits"
	}
	return "unknown"
}
