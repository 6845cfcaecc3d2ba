package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
)

// RunState is where a run of billing stands.
type RunState string

// The states. Only a queued or running one ever changes.
const (
	RunQueued   RunState = "queued"
	RunRunning  RunState = "running"
	RunDone     RunState = "done"
	RunFailed   RunState = "failed" // it went through, but some subscriptions could not be closed
	RunCanceled RunState = "canceled"
)

// BillingRun is one run of billing and how far it is. What it closed stands in the closes, whatever becomes of the run.
type BillingRun struct {
	ID         string    // run_…
	Until      time.Time // only periods that end at or before it; zero: all that is due
	CustomerID string    // empty: all
	Actor      string
	CreatedAt  time.Time

	// What follows is stored after each step. A crash loses at most the count of one step.
	State     RunState
	Due       int64 // closings that were due when it began or became so while it ran
	Done      int64
	Failed    int64 // subscriptions that could not be closed
	Invoices  int64
	LastError string // why it could not go on for now; empty: it goes on
	StartedAt time.Time
	UpdatedAt time.Time // of one that has ended: when it did
}

// Ended says that it never changes any more.
func (r *BillingRun) Ended() bool { return r.State != RunQueued && r.State != RunRunning }

// RunFailure is a subscription that a run could not close.
type RunFailure struct {
	SubscriptionID string
	Customer       string // key
	Period         period.Interval
	Reason         string
}

// BillingRuns keeps runs of billing.
type BillingRuns interface {
	PutBillingRun(ctx context.Context, r BillingRun, a Audit) error
	// SaveBillingRun stores how far one got, and its end, with further failures: the last one of a subscription stands. Failed is
	// counted by the driver. ErrConflict when it has ended; ErrNotFound.
	SaveBillingRun(ctx context.Context, r BillingRun, failures []RunFailure) (BillingRun, error)
	CancelBillingRun(ctx context.Context, id string, at time.Time, a Audit) (BillingRun, error) // ErrConflict: it has ended
	BillingRun(ctx context.Context, id string) (BillingRun, error)
	ListBillingRuns(ctx context.Context, q Query) ([]BillingRun, error)
	OpenBillingRuns(ctx context.Context) ([]BillingRun, error) // oldest first
	// RunFailures lists by customer's key and subscription, at most limit (1..1001).
	RunFailures(ctx context.Context, id string, limit int) ([]RunFailure, error)
}
