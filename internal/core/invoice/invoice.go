// Package invoice builds invoices: lines with one rounding each, totals, and the step from draft to finalized.
package invoice

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

type Status string

const (
	Preview   Status = "preview"
	Draft     Status = "draft"
	Finalized Status = "finalized"
)

type LineKind string

const (
	FlatLine  LineKind = "flat"
	UsageLine LineKind = "usage"
)

// Line is one price's charge for one service period. Exact has no rounding, Rounded is its one rounding.
type Line struct {
	ID       string             `json:"id"` // iln_…, derived
	Number   int                `json:"number"`
	Kind     LineKind           `json:"kind"`
	Price    string             `json:"price"`
	Meter    string             `json:"meter,omitempty"`
	Period   period.Interval    `json:"period"` // service period
	Quantity money.Decimal      `json:"quantity"`
	Tiers    []price.TierCharge `json:"tiers,omitempty"`
	Exact    money.Decimal      `json:"exact"`
	Rounded  money.Amount       `json:"rounded"`
}

type Invoice struct {
	ID             string // inv_…, derived from (subscription, period, revision)
	Number         int64  // 1, 2, 3… without gaps per deployment; 0 before finalizing
	CustomerID     string
	SubscriptionID string
	Plan           string
	Status         Status
	Currency       money.Currency
	Period         period.Interval // the closed (or, in a preview, current) billing period; empty [start,start) on the invoice at subscription start
	Lines          []Line
	Total          money.Amount
	CatalogVersion int64
	TZVersion      string
	Position       uint64 // journal position it was rated at
	FinalizedAt    time.Time
}

// Usage is a metered quantity of the closed period.
type Usage struct {
	Meter    string
	Quantity money.Decimal
}

// Input is everything an invoice is a function of.
type Input struct {
	SubscriptionID, CustomerID, Plan string
	CatalogVersion                   int64
	Currency                         money.Currency
	Prices                           []price.Price
	Closing                          period.Interval // usage and in-arrears prices of this period; Empty at subscription start
	Next                             period.Interval // in-advance prices are charged for this one
	Usage                            []Usage
	Position                         uint64
	Rounding                         money.Rounding
	Preview                          bool // keep zero lines
}

// Build is pure: the same input gives the same invoice, ids included. Lines: usage and arrears first, then in-advance, in declared order.
func Build(in Input) (Invoice, error) { panic("skeleton") }

// Finalize numbers a draft. The input is not changed.
func Finalize(inv Invoice, number int64, at time.Time) (Invoice, error) { panic("skeleton") }
