package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// RecountState is where a recount stands.
type RecountState string

// The states. Only a running one ever changes.
const (
	RecountRunning   RecountState = "running"
	RecountDone      RecountState = "done"
	RecountCancelled RecountState = "cancelled"
	RecountFailed    RecountState = "failed" // Problem says why
)

// Recount is a job: it applies a meter, as the catalog has it now, to events that are kept.
type Recount struct {
	ID             string // rcn_…
	Meter          string
	In             period.Interval // event times; zero bounds: open
	DryRun         bool            // count what would change, change nothing
	IncludeClosed  bool            // also in billing periods that are closed
	Actor, Reason  string
	CatalogVersion int64 // that it applies
	CreatedAt      time.Time

	// What follows is stored after each batch.
	State      RecountState
	UpdatedAt  time.Time
	Cursor     string // of the journal's scan, where the next batch begins
	Done       uint64 // journal position of the last event read
	Total      uint64 // journal position that it goes up to
	Last       bool   // Total is final: it was taken after the first one was reached
	Seen       uint64 // journal position when this was stored: what was revised later is not counted here
	Read       int64  // events
	Changed    int64
	Closed     int64         // left alone, their billing period is closed
	Admitted   int64         // left alone, enforcement counted them
	Unreadable int64         // left alone, the meter cannot read them; Problem has the first
	Difference money.Decimal // new values less old ones
	Problem    string
}

// Recounts keeps recount jobs.
type Recounts interface {
	PutRecount(ctx context.Context, r Recount, a Audit) error // ErrExists: one of this meter is running
	// SaveRecount stores how far a running one got, and its end. ErrConflict when it does not run any more; ErrNotFound.
	SaveRecount(ctx context.Context, r Recount) error
	CancelRecount(ctx context.Context, id string, at time.Time, a Audit) (Recount, error) // ErrConflict: it does not run any more
	Recount(ctx context.Context, id string) (Recount, error)
	ListRecounts(ctx context.Context, q Query) ([]Recount, error)
	RunningRecounts(ctx context.Context) ([]Recount, error) // oldest first; one a meter at most
}
