package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
)

// Refund adds up what a customer was given back, or refused, on one day of a route, by reason.
type Refund struct {
	ID         int64     // of the line, rising; the driver gives it
	CustomerID string    // cus_…
	Day        time.Time // the customer's midnight at which it began
	Route      string    // match pattern; empty: none
	Meter      string
	Reason     string // "failed", "timed_out", "client_gone", "withdrawn"
	Refused    bool   // the day's bound was reached: charged all the same
	Count      int64
	Cost       money.Decimal // in the meter's unit
}

// Refunds keeps sums of what was given back.
type Refunds interface {
	// AddRefunds adds counts and costs to the lines of the same customer, day, route, meter, reason and Refused, all in one
	// transaction.
	AddRefunds(ctx context.Context, list []Refund) error
	// ListRefunds lists the newest lines first; the query's cursor is an ID as a decimal.
	ListRefunds(ctx context.Context, q Query) ([]Refund, error)
	// PruneRefunds drops the lines of days before.
	PruneRefunds(ctx context.Context, before time.Time) error
}
