package store

import (
	"context"
	"time"
)

// Keeper is a journal with what keeps it in order. Every driver has it; calls of what a driver need not do change nothing.
type Keeper interface {
	Journal
	// Tick does what became due: moving the index on, publishing statistics.
	Tick(ctx context.Context) error
	// Compact does one step of making old data smaller; more says that there is another.
	Compact(ctx context.Context) (more bool, err error)
	// Retain erases the content of events that were received before an instant, one step of it. Their identities, digests,
	// rollups and leaf hashes stay.
	Retain(ctx context.Context, before, now time.Time) (more bool, err error)
	// Erase begins to erase all content of a subject and returns the position of the record that says so.
	Erase(ctx context.Context, subject, actor, reason string, at time.Time) (uint64, error)
	// Erasing is how many subjects are being erased.
	Erasing() int
}
